"""The scenes of a comparison: benchmarks, folders, single files, scene lists, and scenes in memory.

A scene list is a CSV file with a column ``cube``, and if need be ``truth``, ``sensor``, ``group``, ``name``, ``cube_variable``,
``truth_variable`` and ``axes``. Its paths are relative to its own folder. Without ``truth`` the cube's file holds it.
"""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np

from fers.datasets import abu, had100
from fers.datasets.benchmarks import BENCHMARKS
from fers.evaluation.metrics import as_truth
from fers.scenes.readers import open_scene
from fers.scenes.readers.envi import DATA_SUFFIXES
from fers.scenes.scene import LabelledScene, Scene, SceneError, read_scene, read_truth, unchanging
from fers.util.files import visible

_CUBES = (".mat", ".npy", ".npz", ".hdr", ".tif", ".tiff", ".h5", ".nc")
_MASKS = (".mat", ".npy", ".npz", ".hdr", ".tif", ".tiff", ".png")
_WORDS = "gt|mask|truth|map|ground_?truth|labels?"
_MASK = re.compile(rf"(?:{_WORDS})|(?P<before>.+)[_\-. ](?:{_WORDS})|(?:{_WORDS})[_\-. ](?P<after>.+)", re.IGNORECASE)
_MASK_FOLDER = re.compile(rf"(?:{_WORDS}|masks|maps)", re.IGNORECASE)
_LIST_COLUMNS = ("cube", "truth", "sensor", "group", "name", "cube_variable", "truth_variable", "axes")
_TOLD = 5  # problems in one message
HOW_NAMED = (
    "such as X_gt.mat, X_mask.npy, X_truth.png, X_map.tif, a folder gt/ or masks/ with X.png, or map.* for one cube"
)


@dataclass(frozen=True)
class FoundScene:
    """A scene that was found, not read yet.

    Attributes:
        labelled: The scene.
        sensor: Its sensor as its place says it; empty if it does not.
        group: Place whose scenes share pixels or a flight line, likewise.
    """

    labelled: LabelledScene
    sensor: str = ""
    group: str = ""


@dataclass(frozen=True)
class FoundScenes:
    """The scenes of a comparison, and sentences on files that were not used."""

    scenes: list[FoundScene] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compared_scenes(places: Any) -> FoundScenes:
    """Find the scenes of a comparison.

    Args:
        places: One or several of these, as text with commas or as a list: ``ABU`` or ``HAD100``; a folder of abu-*.mat,
            in HAD100's layout, or of cubes with their truths inside or beside them; a file with a cube; a scene list;
            a ``LabelledScene``; a tuple of name, cube ``(H, W, B)`` and truth ``(H, W)``.

    Raises:
        SceneError: There are no scenes, or one lacks its truth; the message names the file.
    """
    found = FoundScenes()
    for place in _place_by_place(places):
        one = _in_memory(place) if not isinstance(place, (str, Path)) else _at_place(Path(place), str(place))
        found.scenes.extend(one.scenes)
        found.notes.extend(one.notes)
    if not found.scenes:
        raise SceneError(
            f"--scenes: no scene was named. Give {', '.join(BENCHMARKS)}, a folder, a file or a scene list."
        )
    scenes = [replace(one, labelled=unchanging(one.labelled)) for one in _named_apart(found.scenes)]
    return replace(found, scenes=scenes)


def _place_by_place(places: Any) -> list[Any]:
    """The places one by one."""
    if isinstance(places, str):
        return [places] if Path(places).exists() else [part.strip() for part in places.split(",") if part.strip()]
    if isinstance(places, (Path, LabelledScene)):
        return [places]
    if isinstance(places, tuple) and len(places) == 3 and not isinstance(places[1], (str, Path, tuple, LabelledScene)):
        return [places]
    return [each for place in places for each in (_place_by_place(place) if isinstance(place, str) else [place])]


def _in_memory(place: Any) -> FoundScenes:
    if isinstance(place, FoundScene):
        return FoundScenes([place])
    if isinstance(place, LabelledScene):
        return FoundScenes([FoundScene(place)])
    try:
        name, cube, truth = place
        cube, truth = np.asarray(cube), as_truth(truth)
    except (TypeError, ValueError) as error:
        raise SceneError(
            f"scenes: {type(place).__name__} is no scene ({error}). Give (name, cube (H, W, B), truth (H, W))."
        ) from error
    if cube.ndim != 3 or cube.dtype.kind not in "biuf":
        raise SceneError(f"scenes: the cube of {name} is {cube.dtype} {cube.shape}. Give real numbers, (H, W, B).")
    if truth.shape != cube.shape[:2]:
        turned = " It looks transposed." if truth.shape == cube.shape[1::-1] else ""
        raise SceneError(
            f"scenes: the truth of {name} is {truth.shape}, its cube {cube.shape}.{turned} Rows come first."
        )
    scene = Scene(str(name), cube, Path(str(name)))
    return FoundScenes([FoundScene(LabelledScene(str(name), scene.path, partial(_given, scene, truth)))])


def _given(scene: Scene, truth: np.ndarray) -> tuple[Scene, np.ndarray]:
    return scene, truth


def _at_place(place: Path, text: str) -> FoundScenes:
    """The scenes of a benchmark, folder or file."""
    for name, benchmark in BENCHMARKS.items():
        if text.lower() == name.lower() and not place.is_dir():
            scenes = benchmark.scenes(benchmark.default_folder(), None, "all")
            return FoundScenes([FoundScene(scene, benchmark.sensor) for scene in scenes])
    if place.is_file():
        return _from_list(place) if place.suffix.lower() in (".csv", ".txt") else _paired(place.parent, place)
    if not place.is_dir():
        raise SceneError(
            f"--scenes {text}: no such folder or file. Give {', '.join(BENCHMARKS)}, a folder, a file or a scene list."
        )
    for folder in (place, place / "abu"):
        if (folder / "test").is_dir():
            scenes = had100.scenes(folder, None)
            sensor = scenes[0].path.parent.name
            return FoundScenes([FoundScene(scene, "" if sensor == "test" else sensor) for scene in scenes])
    return _paired(place)


# ----- cubes with their truths inside or beside them


def _paired(folder: Path, only: Path | None = None) -> FoundScenes:
    """The scenes of a folder, or one of them."""
    masks, plain = _masks_and_others(folder)
    of_abu = {path for path in plain if re.fullmatch(r"abu-.*\.mat", path.name)}
    scenes: list[FoundScene] = []
    if of_abu and (only is None or only in of_abu):
        names = "all" if only is None else abu.scene_name(only.stem)
        sensor = BENCHMARKS["ABU"].sensor
        scenes = [FoundScene(scene, sensor) for scene in abu.scenes(folder, names=names)]
    cubes: list[tuple[Path, tuple[int, ...]]] = []
    unused: dict[Path, str] = {}
    for path in plain:
        if path in of_abu or path.suffix.lower() == ".png":
            continue
        try:
            reader = open_scene(path)
        except SceneError as error:
            unused[path] = str(error)
            continue
        if reader.bands > 1:
            cubes.append((path, reader.shape))
        else:
            unused[path] = f"{path}: has one band"
    for path in unused.keys() | {path for path in plain if path.suffix.lower() == ".png"}:
        masks[_scene_stem(path).lower()].append(path)  # the truth of a cube of the same name
    problems, used = [], set()
    for path, shape in cubes:
        if only is not None and path != only:
            continue
        stem = _scene_stem(path)
        beside = [*masks[stem.lower()], *(masks[""] if len(cubes) == 1 else [])]
        used |= {*beside}
        inside = _inside(path, shape)
        truths = [*beside, *([path] if inside == "" else [])]
        if len(truths) == 1:
            scene = LabelledScene(stem, path, partial(load_pair, path, truths[0], stem))
            scenes.append(FoundScene(scene))
        elif truths:
            listed = ", ".join(truth.name for truth in truths)
            problems.append(f"{path}: several files could hold its truth ({listed})")
        else:
            problems.append(f"{path}: lacks a truth: none is beside it, and inside it {inside}")
    if only is not None and not scenes and not problems:
        raise SceneError(unused.get(only, f"{only}: no cube. Give a file with a cube, a folder or a scene list."))
    if problems:
        more = f"\n  and {len(problems) - _TOLD} more" if len(problems) > _TOLD else ""
        raise SceneError(
            "\n  ".join(problems[:_TOLD]) + f"{more}\n  Name each truth after its cube X, "
            f"{HOW_NAMED}. Or write a scene list: a CSV file with the columns cube, truth, sensor, group. Or give only "
            "the files that have a truth, with commas."
        )
    if not scenes:
        subfolders = [each.name for each in sorted(folder.iterdir()) if each.is_dir() and not each.name.startswith(".")]
        there = f" There are folders: {', '.join(subfolders[:_TOLD])}; give these, with commas." if subfolders else ""
        why = f" Not a cube: {next(iter(unused.values()))}" if unused else ""
        raise SceneError(
            f"--scenes {folder}: no cubes here ({', '.join(_CUBES)}).{there} Each cube needs its truth, inside it or "
            f"named after it, {HOW_NAMED}.{why}"
        )
    notes = []
    if only is None:
        left = sorted({path for paths in masks.values() for path in paths} - used)
        notes = [f"Not used, as no cube has its name: {path}." for path in left if path.suffix.lower() != ".png"]
    return FoundScenes(scenes, notes)


def _masks_and_others(folder: Path) -> tuple[dict[str, list[Path]], list[Path]]:
    """Files that are named as masks, by the name of their cube in small letters ("" for any), and all others."""
    masks: dict[str, list[Path]] = defaultdict(list)
    others: list[Path] = []
    for path in visible(folder, "*"):
        if path.is_dir() and _MASK_FOLDER.fullmatch(path.name):
            for mask in visible(path, "*"):
                if mask.suffix.lower() in _MASKS:
                    named = _MASK.fullmatch(_scene_stem(mask))
                    masks[(_cube_of(named) if named else _scene_stem(mask)).lower()].append(mask)
        elif path.is_file() and path.suffix.lower() in (*_CUBES, ".png"):
            named = _MASK.fullmatch(_scene_stem(path)) if path.suffix.lower() in _MASKS else None
            if named:
                masks[_cube_of(named).lower()].append(path)
            else:
                others.append(path)
    return masks, others


def _cube_of(named: re.Match[str]) -> str:
    return named["before"] or named["after"] or ""


def _scene_stem(path: Path) -> str:
    """Name of a scene from that of its file; an ENVI header may be named after the whole data file."""
    stem = Path(path.stem)
    return stem.stem if path.suffix.lower() == ".hdr" and stem.suffix.lower() in DATA_SUFFIXES else path.stem


def _inside(path: Path, shape: tuple[int, ...]) -> str:
    """Why a file with a cube holds no truth of it; empty if it holds one."""
    if path.suffix.lower() not in (".mat", ".npz"):
        return "there cannot be one"
    try:
        read_truth(path, shape=(shape[0], shape[1]))
    except SceneError as error:
        return shorten(str(error).removeprefix(f"{path}: ").split(". ")[0], 200, placeholder=" ...")
    return ""


def load_pair(
    path: Path,
    truth: Path,
    name: str,
    variable: str | None = None,
    truth_variable: str | None = None,
    axes: str | None = None,
) -> tuple[Scene, np.ndarray]:
    """Read a cube and its truth."""
    scene = read_scene(path, variable, name, axes=axes)
    return scene, read_truth(truth, truth_variable, scene.cube.shape[:2])


# ----- scene lists


def _from_list(path: Path) -> FoundScenes:
    """The scenes of a scene list."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.DictReader(file, skipinitialspace=True)
        columns = [(column or "").strip() for column in lines.fieldnames or ()]
        if "cube" not in columns or set(columns) - set(_LIST_COLUMNS):
            raise SceneError(
                f"{path}: a scene list has the columns {', '.join(_LIST_COLUMNS)}, at least cube; found "
                f"{', '.join(columns) or 'nothing'}."
            )
        rows = [
            {key.strip(): (value or "").strip() for key, value in row.items() if isinstance(value, str) and key}
            for row in lines
        ]
    scenes = []
    for number, row in enumerate(rows, 1):
        if not row.get("cube"):
            raise SceneError(f"{path}: scene {number} names no cube. Give its file, relative to this list.")
        cube = path.parent / row["cube"]
        truth = path.parent / row["truth"] if row.get("truth") else cube
        for file_of in (cube, truth):
            if not file_of.exists():
                raise SceneError(f"{path}: scene {number}: there is no {file_of}. Paths are relative to this list.")
        name = row.get("name") or _scene_stem(cube)
        variables = (row.get(key) or None for key in ("cube_variable", "truth_variable", "axes"))
        scene = LabelledScene(name, cube, partial(load_pair, cube, truth, name, *variables))
        scenes.append(FoundScene(scene, row.get("sensor", ""), row.get("group", "")))
    if not scenes:
        raise SceneError(f"{path}: the scene list names no scene.")
    return FoundScenes(scenes)


def _named_apart(scenes: Sequence[FoundScene]) -> list[FoundScene]:
    """Add the folder to names that occur twice."""
    count = Counter(scene.labelled.name for scene in scenes)
    names = []
    for scene in scenes:
        folder, name = scene.labelled.path.parent.name, scene.labelled.name
        names.append(name if count[name] == 1 or not folder else f"{folder}-{name}")
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        raise SceneError(f"--scenes: several scenes are named {twice[0]}. Give each a name of its own in a scene list.")
    return [replace(one, labelled=replace(one.labelled, name=name)) for one, name in zip(scenes, names, strict=True)]
