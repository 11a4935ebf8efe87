"""HAD100 as its archive's script lays it out, and any test set of one's own in the same folders (SPEC 8).

HAD100Dataset/test/aviris_ng/*.npy             H x W x B
HAD100Dataset/ground_truth/aviris_ng/*.png     RGB, anomaly where the green channel is 255
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data.scene import LabelledScene, Scene, SceneError, choose, read_mask, read_scene

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
            f"ground_truth/<sensor>/*.png; {found}. Give the dataset's folder with --data_path, the sensor with --sensor."
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


def _load(path: Path, mask: Path) -> tuple[Scene, np.ndarray]:
    scene = read_scene(path, nodata=NODATA)
    return scene, read_mask(mask, shape=scene.cube.shape[:2])
