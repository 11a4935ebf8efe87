"""``fers.compare``: detectors x settings x scenes x seeds by one protocol.

Each detector sees the same normalised cube of a scene. What refuses or fails on a scene has its reason in the table, and its
means say over how many scenes they are. The fast detectors come first. A stopped comparison goes on where it was.
"""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from textwrap import shorten
from typing import Any

import numpy as np
from tqdm import tqdm

from fers.comparison.cells import Cell, Outcome, Protocol, detect_config, run_cells
from fers.comparison.contenders import Contender, find_contenders
from fers.comparison.places import FoundScene, compared_scenes
from fers.comparison.result import ComparedScene, CompareResult
from fers.datasets.catalogue import fingerprint, recognise
from fers.detectors.table import find_detector
from fers.evaluation.metrics import MEASURES, as_truth
from fers.scenes.normalise import usable_pixels
from fers.scenes.scene import Scene
from fers.scoring.settings import SETTINGS, parse_setting
from fers.util.cite import data_hash, release
from fers.util.duration import roughly
from fers.util.errors import FersError
from fers.util.lock import locked
from fers.util.machine import HOW_MEMORY, processor
from fers.util.pictures import rgb_bands, stretched

_PRINTED = ("auc", "ap", "pd@1e-3", "pd@1e-2")  # measures that are printed while it goes
_NETWORK_SECONDS = 0.4  # of Spe-FEN on a cube of 100 x 100 px and 200 bands
_WORTH_TELLING = 10.0  # s that are left
_TELL_EVERY = 30.0  # s
_TRUSTED = 10.0  # s of work after which this machine's speed weighs more than the costs of the detectors
_NOTE = 200  # characters of a reason or a list that is printed
BY_COST, BY_CELLS = "by the cost of the detector", "by its cells before"  # where an estimate comes from


def compare(
    detectors: Any,
    scenes: Any,
    *,
    settings: str | Sequence[str] = "original",
    maps: Mapping[str, str | Path] | None = None,
    seeds: Sequence[int] = (0,),
    bands: int | None = None,
    repeat: int = 1,
    jobs: int = 1,
    threads: int | None = None,
    skip_slower_than: float | None = None,
    save_dir: str | Path | None = None,
    options: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    against: str | None = None,
    command: str = "fers.compare",
    **method: Any,
) -> CompareResult:
    """Score every scene by every detector; print the table while it goes.

    Args:
        detectors: Names (``all`` and ``fast`` stand for several) or ``module:Name``, as text with commas; classes, instances
            and functions; a list of these; or a dict from the name in the table to one of them, to a dict of score maps
            by scene, or to a Path, the folder of such maps. A plain function gets the normalised array ``(H, W, B)``
            and returns ``(H, W)``. A class, an instance, or a function whose first argument is annotated ``torch.Tensor``
            gets a tensor ``(N, C, H, W)`` and returns ``(N, H, W)``; see ``fers.detectors.base.Detector``.
        scenes: ``ABU``, ``HAD100``, folders, files, scene lists, ``LabelledScene``, or tuples of name, cube ``(H, W, B)`` and
            truth ``(H, W)``; see ``fers.comparison.places.compared_scenes``.
        settings: Settings, such as ``original``, ``untrained``, ``untrained-C``, ``fused-A``; each is a row of its own.
        maps: Folders of score maps that others made, by the name in the table: a file (.npy, .mat, .tif) for each scene.
        seeds: Seeds of detectors and networks with random weights; others run with the first only.
        bands: C, the bands of each scene that are used; None for all.
        repeat: Timings of each cell, of which the least counts.
        jobs: Processes. With more than one, detectors must be importable, and times are marked as taken under load.
        threads: CPU threads of each of several jobs; None shares the cores among them.
        skip_slower_than: Seconds: a cell that is estimated to take more is left out, with the estimate in its note.
        save_dir: Folder that keeps finished cells, and has those of an earlier call; None keeps none. A detector whose
            code is in no file, as in a notebook, is scored each time.
        options: Options of detectors by name; ``DETECTOR.NAME`` where there are several detectors.
        against: ``published`` sets the numbers of others beside ours, where cube and truth are the very same.
        command: Text that provenance keeps as the origin of the result.
        **method: Options of ``DetectConfig`` for all cells: ``nodata``, ``device``, ``checkpoint_dir``, ``backbone``, ``sensor``.

    Raises:
        FersError: A detector or the scenes are not there, options do not fit together, another comparison writes to the
            folder, or nothing could be scored.
    """
    for key, instead in (("features", "settings"), ("fusion", "settings"), ("seed", "seeds")):
        if key in method:
            raise FersError(f"fers.compare: {key} is no option of a comparison. Give {instead}.")
    if against not in (None, "published"):
        raise FersError(f"fers.compare: against {against}; there are published numbers only.")
    listed = list(dict.fromkeys(settings.split(",") if isinstance(settings, str) else settings))
    names = ["-".join(filter(None, parse_setting(text))) for text in listed]
    contenders = find_contenders(detectors, maps, options.items() if isinstance(options, Mapping) else options)
    if not names or not seeds or repeat < 1 or jobs < 1:
        raise FersError("fers.compare: settings and seeds must not be empty; repeat and jobs are at least 1.")
    if jobs > 1:
        _check_importable(contenders)
    folder = None if save_dir is None else Path(save_dir)
    kept = None if folder is None else folder / "cells"
    protocol = Protocol(method, bands, repeat, jobs, threads, skip_slower_than, kept)
    found = compared_scenes(scenes)
    with locked(folder) if folder is not None else contextlib.nullcontext():
        described = _describe(found.scenes, protocol)
        cells = _cells(contenders, names, list(seeds), found.scenes, described, protocol)
        outcomes = _outcomes(cells, described, protocol)
    rows = [_row(cell, outcome) for cell, outcome in zip(cells, outcomes, strict=True)]
    scored = [(cell, outcome) for cell, outcome in zip(cells, outcomes, strict=True) if outcome.score is not None]
    if not scored:
        raise FersError(f"nothing could be scored; the first reason is: {rows[0]['note']}")
    loaded = any(outcome.loaded for outcome in outcomes)
    caveats = [*found.notes, *_twins(described.values()), *_of_detectors(contenders)]
    caveats += [text for outcome in outcomes for text in outcome.caveats]
    return CompareResult(
        rows=rows,
        maps={
            (cell.label, cell.scene.labelled.name, cell.seed): outcome.score
            for cell, outcome in scored
            if outcome.score is not None
        },
        scenes={name: scene for name, (scene, _) in described.items()},
        caveats=list(dict.fromkeys(caveats)),
        provenance=_provenance(described, protocol)
        | {"command": command, "loaded": loaded, "settings": names, "seeds": list(seeds), "against": against},
    )


# ----- before


def _check_importable(contenders: Sequence[Contender]) -> None:
    for one in contenders:
        home = getattr(one.detect, "__module__", type(one.detect).__module__)
        if "__main__" in (home, type(one.detect).__module__):
            raise FersError(
                f"jobs: {one.name} is defined in a notebook or script. Put it into a module, or use one job."
            )


def _describe(scenes: Sequence[FoundScene], protocol: Protocol) -> dict[str, tuple[ComparedScene, float]]:
    """Describe each scene for the result, and give its size in cubes of 100 x 100 px and 200 bands."""
    described = {}
    for one in tqdm(scenes, "reading", unit="scene", leave=False, disable=None, delay=2):
        scene, truth = one.labelled.load()
        truth = as_truth(truth)
        bands, start = min(protocol.bands or scene.bands, scene.bands), protocol.method.get("start_band", 0)
        masked = protocol.method.get("nodata") == "mask"
        left_out = ~usable_pixels(scene, bands, start) if masked else None
        mark = fingerprint(scene.cube, truth)
        known = recognise(mark)
        described[one.labelled.name] = (
            ComparedScene(
                one.labelled.name,
                sensor=one.sensor or (known.sensor if known else scene.sensor),
                group=one.group or (known.group if known else ""),
                fingerprint=mark,
                known=known.name if known else "",
                truth=truth,
                left_out=left_out if left_out is not None and left_out.any() else None,
                picture=_quick_look(scene),
            ),
            truth.size * bands / (100 * 100 * 200),
        )
    return described


def _quick_look(scene: Scene) -> np.ndarray:
    return stretched(scene.cube[:, :, list(rgb_bands(scene.wavelengths, scene.bands))].astype(np.float64))


def _cells(
    contenders: Sequence[Contender],
    settings: Sequence[str],
    seeds: Sequence[int],
    scenes: Sequence[FoundScene],
    described: Mapping[str, tuple[ComparedScene, float]],
    protocol: Protocol,
) -> list[Cell]:
    """Every cell, the fast detectors first."""
    cells: list[Cell] = []
    for contender in contenders:
        own = [contender.setting] if contender.setting or contender.maps is not None else settings
        for setting in own:
            label = f"{contender.name} {setting}" if len(own) > 1 else contender.name
            random = contender.random or setting.startswith("untrained")
            for seed in seeds if random else seeds[:1]:
                for scene in scenes:
                    known, size = described[scene.labelled.name]
                    scene = replace(scene, sensor=scene.sensor or known.sensor)
                    cell = Cell(len(cells), contender, setting, label, scene, known.fingerprint, seed)
                    if contender.maps is None:
                        chosen = SETTINGS[detect_config(cell, protocol, protocol.bands or 1).setting_name]
                        passes = max(1, len(chosen.cubes) - (chosen.join != "product"))
                        seconds = contender.cost * passes + (_NETWORK_SECONDS if chosen.needs else 0)
                        cell = replace(cell, estimate=seconds * size)
                    cells.append(replace(cell, estimated_from=BY_COST))
    return cells


# ----- while it goes


def _outcomes(
    cells: Sequence[Cell], described: Mapping[str, tuple[ComparedScene, float]], protocol: Protocol
) -> list[Outcome]:
    """Make every cell, and print a line for each label that is complete."""
    width = max(10, *(len(cell.label) + 2 for cell in cells))
    shown = [key for key in _PRINTED if key in MEASURES]
    tqdm.write("".join([f"{'detector':<{width}}", *(f"{key:>10}" for key in (*shown, "seconds")), "   scenes"]))
    walls: dict[str, list[float]] = defaultdict(list)  # seconds for a cube of 100 x 100 px and 200 bands, by label
    quickest: dict[str, float] = {}  # the same, of the quickest cell as if nothing else had run
    spent: dict[str, float] = defaultdict(float)  # seconds on this machine, by detector
    expected: dict[str, float] = defaultdict(float)  # the same by the costs of the detectors

    def size(cell: Cell) -> float:
        return described[cell.scene.labelled.name][1]

    def wall(cell: Cell) -> float:
        if walls.get(cell.label):
            return fmean(walls[cell.label]) * size(cell)
        if expected.get(cell.contender.name):  # the same detector, in another setting
            return cell.estimate * spent[cell.contender.name] / expected[cell.contender.name]
        return cell.estimate * (sum(spent.values()) + _TRUSTED) / (sum(expected.values()) + _TRUSTED)

    def estimated(cell: Cell) -> Cell:
        if cell.label not in quickest:
            return cell
        return replace(cell, estimate=quickest[cell.label] * size(cell), estimated_from=BY_CELLS)

    of_label: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        of_label[cell.label].append(cell)
    found: dict[int, Outcome] = {}
    told = time.monotonic()
    with tqdm(total=len(cells), unit="cell", leave=False, dynamic_ncols=True, disable=None) as bar:
        for cell, outcome in run_cells(protocol, map(estimated, cells)):
            found[cell.number] = outcome
            if (seconds := outcome.values["seconds"]) is not None:
                walls[cell.label].append(seconds / size(cell))
                alone = (min(seconds, outcome.values["cpu_seconds"]) if outcome.loaded else seconds) / size(cell)
                quickest[cell.label] = min(alone, quickest.get(cell.label, alone))
                spent[cell.contender.name] += seconds
                expected[cell.contender.name] += cells[cell.number].estimate
            bar.update()
            complete = all(one.number in found for one in of_label[cell.label])
            if complete:
                made = [(one, found[one.number]) for one in of_label[cell.label]]
                tqdm.write(_line(cell.label, width, shown, made))
            if complete or time.monotonic() - told > _TELL_EVERY:
                told = time.monotonic()
                limit = protocol.skip_slower_than or float("inf")
                left = [one for one in cells if one.number not in found and estimated(one).estimate <= limit]
                _tell_time_left(
                    sum(map(wall, left)) * protocol.repeat / protocol.jobs, list(dict.fromkeys(c.label for c in left))
                )
    return [found[cell.number] for cell in cells]


def _line(label: str, width: int, shown: Sequence[str], made: Sequence[tuple[Cell, Outcome]]) -> str:
    """Means of a label, and over how many scenes they are."""
    texts = []
    for key in (*shown, "seconds"):
        values = [outcome.values[key] for _, outcome in made if outcome.values[key] is not None]
        texts.append(f"{fmean(values):.4f}" if values else "-")
    have = {cell.scene.labelled.name for cell, outcome in made if outcome.values["auc"] is not None}
    every = {cell.scene.labelled.name for cell, _ in made}
    seeds = {cell.seed for cell, _ in made}
    over = f"   {len(have)} of {len(every)}{f', {len(seeds)} seeds' if len(seeds) > 1 else ''}"
    lines = [f"{label:<{width}}{''.join(f'{text:>10}' for text in texts)}{over}"]
    failed = [(cell.scene.labelled.name, outcome.note) for cell, outcome in made if outcome.score is None]
    if failed:
        name, note = failed[0]
        first = f"without a score: {len(failed)}; the first is {name}: {note}"
        lines.append("  " + shorten(first, _NOTE, placeholder=" ..."))
    return "\n".join(lines)


def _tell_time_left(seconds: float, labels: Sequence[str]) -> None:
    if seconds > _WORTH_TELLING:
        tqdm.write(f"  about {roughly(seconds)} left, for {shorten(', '.join(labels), _NOTE, placeholder=' ...')}")


# ----- after


def _row(cell: Cell, outcome: Outcome) -> dict[str, Any]:
    return {
        "detector": cell.contender.name,
        "setting": cell.setting,
        "label": cell.label,
        "scene": cell.scene.labelled.name,
        "seed": cell.seed,
        **outcome.values,
        "note": outcome.note,
    }


def _twins(described: Any) -> list[str]:
    """Say which scenes are the same cube and truth."""
    same: dict[str, list[str]] = defaultdict(list)
    for scene, _ in described:
        same[scene.fingerprint].append(scene.name)
    return [
        f"{', '.join(names)} are the same cube and truth, and count more than once."
        for names in same.values()
        if len(names) > 1
    ]


def _of_detectors(contenders: Sequence[Contender]) -> list[str]:
    notes = [(one.name, find_detector(one.detect).note) for one in contenders if one.maps is None]
    return [f"{name}: {note}" for name, note in notes if note]


def _provenance(described: Mapping[str, tuple[ComparedScene, float]], protocol: Protocol) -> dict[str, Any]:
    import torch

    return {
        "version": release(),
        "data": data_hash(scene.fingerprint for scene, _ in described.values()),
        "scenes": {name: scene.known for name, (scene, _) in described.items()},  # as the catalogue calls them
        "machine": processor(),
        "threads": torch.get_num_threads(),
        "bands": protocol.bands,
        "repeat": protocol.repeat,
        "jobs": protocol.jobs,
        "method": {key: str(value) for key, value in protocol.method.items() if value is not None},
        "measured": HOW_MEMORY,
    }
