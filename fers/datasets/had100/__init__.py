"""HAD100: the facts of the dataset, and test sets in its layout, one's own too.

HAD100Dataset/test/aviris_ng/*.npy             H x W x B
HAD100Dataset/ground_truth/aviris_ng/*.png     RGB, anomaly where the green channel is 255

``fers data had100 prepare HAD100.zip`` makes these folders, and checks one, whoever made it (``prepare``).

Names, crops, bands and sums here are those of the published archive; they change only if it does.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fers.datasets.archive import Published
from fers.scenes.scene import LabelledScene, Scene, SceneError, read_scene, read_truth, select_scenes
from fers.util.files import visible


class Sensor(NamedTuple):
    """Bands of a sensor in the archive, and the ranges of them that are kept, 0-based and half-open."""

    raw: int
    kept: tuple[tuple[int, int], ...]


class Group(NamedTuple):
    """One folder of the dataset: the archive's folder that it is made from, scenes there, and crops made from them."""

    source: str
    scenes: int
    files: int


class TestScene(NamedTuple):
    """Ground truth of a test scene as published: source scene, first row and column of the crop, anomalous pixels."""

    scene: str
    row: int
    column: int
    anomalous_pixels: int


ARCHIVE = Published(
    name="HAD100.zip",
    size=3_754_846_290,
    sha256="6f91035543b7bc7806ebc555cd5411d320f2810f0af8dfcf20fe4f331227c19f",
    url="https://drive.google.com/uc?id=10Z6f-8ELatxdAi31IDg2Mgbl92_4EnCJ",
    page="https://zhaoxuli123.github.io/HAD100",
)
NODATA = (-9999.0, 1e-34)  # both occur in the archive
SIDE = 64  # px, of every crop
SENSORS = {
    "aviris_ng": Sensor(425, ((15, 109), (118, 145), (158, 187), (227, 274), (328, 407))),
    "aviris": Sensor(224, ((7, 57), (65, 79), (85, 104), (122, 149), (172, 224))),
}
RAW_200 = ((0, 200),)  # AVIRIS-Classic for the 200-band ABU model, whose bands are more than the 162 that are kept
GROUPS = {
    "train/aviris_ng": Group("aviris_ng_normal", 260, 1040),
    "train/aviris": Group("aviris_normal", 262, 1048),
    "test/aviris_ng": Group("aviris_ng_target", 94, 100),
}
TRUTH_SOURCE = "aviris_ng_gt"
TRUTHS = "ground_truth/aviris_ng"


@cache
def published_test_scenes() -> dict[str, TestScene]:
    """Read the 100 test scenes of HAD100 by name, from ``test_scenes.csv``.

    Example:
        >>> published_test_scenes()["ang20170821t183707_102"]
        TestScene(scene='ang20170821t183707_102', row=0, column=15, anomalous_pixels=132)
    """
    with Path(__file__).with_name("test_scenes.csv").open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    return {name: TestScene(scene, *map(int, numbers)) for name, scene, *numbers in rows}


# (row, column) of the 64 x 64 px crops of a published test scene; one that is not listed is 64 x 64 already
TEST_CROPS: dict[str, tuple[tuple[int, int], ...]] = {}
for _, _crop in sorted(published_test_scenes().items()):
    TEST_CROPS[_crop.scene] = (*TEST_CROPS.get(_crop.scene, ()), (_crop.row, _crop.column))


def scenes(
    folder: str | Path, sensor: str | None = "aviris_ng", names: str = "all", rename: Callable[[str], str] = str
) -> list[LabelledScene]:
    """Find the test scenes of a folder in HAD100's layout, in the order of their names.

    Args:
        folder: Holds ``test/<sensor>/*.npy`` (H x W x B) and ``ground_truth/<sensor>/*.png`` of the same names.
        sensor: The sensor's folder; None takes the only one there, or ``test`` itself where the scenes lie in it.
        names: Scene names separated by commas, or ``all``.
        rename: Gives a scene's name, from the name of its file.

    Raises:
        SceneError: A folder is missing or empty, a scene has no truth, or a scene that was named is missing.
    """
    folder = Path(folder)
    tests = folder / "test"
    present = sorted(p.name for p in tests.iterdir() if p.is_dir()) if tests.is_dir() else []
    if sensor is None:
        filled = [name for name in ("", *present) if visible(tests / name, "*.npy")]
        sensor = filled[0] if len(filled) == 1 else None
    if sensor is None or not (tests / sensor).is_dir() or Path(sensor).name != sensor:
        found = f"found test/{', test/'.join(present)}" if present else f"there is no folder {tests}"
        raise SceneError(
            f"{folder}: no test scenes{f' of sensor {sensor}' if sensor else ''}; expected test/<sensor>/*.npy and "
            f"ground_truth/<sensor>/*.png; {found}. Give the dataset's folder with --data_path (fers compare: "
            "--scenes), another sensor with test.py --sensor. HAD100 itself: fers data download had100"
        )
    cubes = visible(tests / sensor, "*.npy")
    if not cubes:
        raise SceneError(f"{tests / sensor}: no .npy scenes in this folder. Is the dataset unpacked?")
    truths = folder / "ground_truth" / sensor
    missing = [p.stem for p in cubes if not (truths / f"{p.stem}.png").is_file()]
    if missing:
        raise SceneError(
            f"{truths}: no mask for {len(missing)} of {len(cubes)} scenes, the first is {missing[0]}.png. Every scene of "
            "a test set needs its ground truth."
        )
    labelled = [
        LabelledScene(name, path, partial(_load_crop, path, truths / f"{path.stem}.png", name))
        for path, name in ((path, rename(path.stem)) for path in cubes)
    ]
    return select_scenes(labelled, names, tests / sensor)


def _load_crop(path: Path, truth: Path, name: str) -> tuple[Scene, np.ndarray]:
    scene = read_scene(path, name=name, nodata=NODATA)
    return scene, read_truth(truth, shape=scene.cube.shape[:2])


def is_synthetic(folder: str | Path) -> bool:
    """Tell whether a folder's manifest says that its scenes are made up."""
    return bool(_manifest(folder).get("synthetic", False))


def is_of_another_archive(folder: str | Path) -> bool:
    """Tell whether a folder's manifest says that it was made from another archive than the published one."""
    return _manifest(folder).get("published_archive") is False


def _manifest(folder: str | Path) -> dict:
    try:
        found = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def known_scenes(labelled: Iterable[LabelledScene]) -> dict[str, str]:
    """Tell which scenes are test scenes of HAD100: the names of those whose truth is the published one.

    A truth is known by its scene's name, its size and its number of anomalous pixels. Values are not looked at, as several
    choices of bands are in use.
    """
    known = {}
    for one in labelled:
        wanted = published_test_scenes().get(one.name)
        if wanted is not None:
            _, truth = one.load()
            if truth.shape == (SIDE, SIDE) and int(truth.sum()) == wanted.anomalous_pixels:
                known[one.name] = one.name
    return known
