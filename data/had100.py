"""HAD100 as its archive's script lays it out, and any test set of one's own in the same folders (SPEC 8).

HAD100Dataset/test/aviris_ng/*.npy             H x W x B
HAD100Dataset/ground_truth/aviris_ng/*.png     RGB, anomaly where the green channel is 255

``python -m data.had100 prepare HAD100.zip`` makes these folders (`data.had100_prepare`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from data.archive import Published
from data.scene import LabelledScene, Scene, SceneError, choose, read_mask, read_scene

ARCHIVE = Published(  # SPEC 8
    name="HAD100.zip",
    size=3_754_846_290,
    sha256="6f91035543b7bc7806ebc555cd5411d320f2810f0af8dfcf20fe4f331227c19f",
    url="https://drive.google.com/uc?id=10Z6f-8ELatxdAi31IDg2Mgbl92_4EnCJ",
    page="https://zhaoxuli123.github.io/HAD100",
)
NODATA = (-9999.0, 1e-34)  # both occur in the archive (SPEC 8)


def test_scenes(folder: str | Path, sensor: str | None = "aviris_ng", names: str = "all") -> list[LabelledScene]:
    """The test scenes of a folder in HAD100's layout.

    Args:
        folder: Holds ``test/<sensor>/*.npy`` (H x W x B) and ``ground_truth/<sensor>/*.png`` of the same names.
        sensor: The sensor's folder; None takes the only one there.
        names: Scene names separated by commas, or ``all``.

    Returns:
        The scenes in the order of their names.

    Raises:
        SceneError: A folder is missing or empty, a scene has no mask, or a scene that was named is missing.
    """
    folder = Path(folder)
    tests = folder / "test"
    present = sorted(p.name for p in tests.iterdir() if p.is_dir()) if tests.is_dir() else []
    if sensor is None and len(present) == 1:
        sensor = present[0]
    if sensor not in present:
        found = f"found test/{', test/'.join(present)}" if present else f"there is no folder {tests}"
        raise SceneError(
            f"{folder}: no test scenes{f' of sensor {sensor}' if sensor else ''}; expected test/<sensor>/*.npy and "
            f"ground_truth/<sensor>/*.png; {found}. Give the dataset's folder with --data_path, the sensor with --sensor. "
            "HAD100 itself: python -m data.download had100"
        )
    cubes = sorted((tests / sensor).glob("*.npy"))
    if not cubes:
        raise SceneError(f"{tests / sensor}: no .npy scenes in this folder. Is the dataset unpacked?")
    masks = folder / "ground_truth" / sensor
    missing = [p.stem for p in cubes if not (masks / f"{p.stem}.png").is_file()]
    if missing:
        raise SceneError(
            f"{masks}: no mask for {len(missing)} of {len(cubes)} scenes, the first is {missing[0]}.png. Every scene of "
            "a test set needs its ground truth."
        )
    scenes = [LabelledScene(p.stem, p, lambda p=p: _load(p, masks / f"{p.stem}.png")) for p in cubes]
    return choose(scenes, names, tests / sensor)


def dataset_name(folder: str | Path) -> str:
    """What to call a folder in HAD100's layout: ``synthetic`` where its manifest says that it is made up."""
    try:
        synthetic = json.loads((Path(folder) / "manifest.json").read_text(encoding="utf-8")).get("synthetic", False)
    except (OSError, ValueError, AttributeError):
        synthetic = False
    return "synthetic" if synthetic else "HAD100"


def _load(path: Path, mask: Path) -> tuple[Scene, np.ndarray]:
    scene = read_scene(path, nodata=NODATA)
    return scene, read_mask(mask, shape=scene.cube.shape[:2])


if __name__ == "__main__":
    from data.had100_prepare import main  # it imports this module

    sys.exit(main())
