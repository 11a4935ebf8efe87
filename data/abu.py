"""The Airport-Beach-Urban scenes of X. Kang et al., TGRS 2017: ``abu-*.mat``, cube and mask in one file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from data import had100
from data.scene import LabelledScene, Scene, SceneError, choose, read_mask, read_scene

TABLE_SCENES = "airport-1,airport-2,airport-3,airport-4,beach-4,urban-3"  # the paper's Table II
_BEACH_4_CUT = "a 100x100 cut of the paper's 150x150 scene"


def test_scenes(folder: str | Path, sensor: str | None = None, names: str = "paper") -> list[LabelledScene]:
    """The ABU scenes of a folder.

    Args:
        folder: A folder of ``abu-*.mat``, or one in HAD100's layout, which the authors use for ABU too.
        sensor: The sensor's folder in HAD100's layout; None takes the only one there.
        names: ``paper`` for the six of the paper's table, ``all``, or names separated by commas. A folder in HAD100's
            layout is a choice of scenes already, so there ``paper`` takes every one.

    Returns:
        The scenes, in the order of the names given, else of their names.

    Raises:
        SceneError: There is no ABU scene in the folder, or one that was named is missing.
    """
    folder = Path(folder)
    files = sorted(folder.glob("abu-*.mat"))
    if not files:
        if (folder / "test").is_dir():
            return had100.test_scenes(folder, sensor, "all" if names == "paper" else names)
        raise SceneError(
            f"{folder}: no ABU scenes here. Expected abu-airport-1.mat, abu-airport-2.mat, ... or the folders "
            "test/<sensor> and ground_truth/<sensor>. Give the folder with --data_path; to get them: python -m data.download abu"
        )
    found = [LabelledScene(p.stem.removeprefix("abu-"), p, lambda p=p: _load(p)) for p in files]
    return choose(found, TABLE_SCENES if names == "paper" else names, folder)


def _load(path: Path) -> tuple[Scene, np.ndarray]:
    scene = read_scene(path, name=path.stem.removeprefix("abu-"))
    if scene.name == "beach-4" and scene.cube.shape[:2] == (100, 100):
        scene = replace(scene, notes=(_BEACH_4_CUT,))
    return scene, read_mask(path, shape=scene.cube.shape[:2])
