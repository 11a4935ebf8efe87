"""Score maps that others made: files named as the scenes, or arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fers.comparison.places import FoundScene
from fers.datasets import abu
from fers.scenes.readers import open_scene, read_array
from fers.util.errors import FersError
from fers.util.files import visible

MAP_SUFFIXES = (".npy", ".mat", ".npz", ".tif", ".tiff")


def ready_map(maps: Path | Mapping[str, Any], scene: FoundScene, shape: tuple[int, int]) -> np.ndarray:
    """Take the score map of a scene.

    Args:
        maps: Folder of files named as the scenes, or the maps by scene.
        scene: The scene; a file may have its name, or that of its cube's file.
        shape: Its ``(H, W)``.

    Returns:
        ``(H, W)`` float64.

    Raises:
        FersError: There is none, there are several, or it is not of this scene's shape. Nothing is turned or cut.
    """
    name = scene.labelled.name
    names = list(dict.fromkeys([name, scene.labelled.path.stem, f"abu-{name}"]))
    if isinstance(maps, Path):
        stems = {each.lower() for each in names}
        files = [path for path in visible(maps, "*") if path.suffix.lower() in MAP_SUFFIXES]
        fits = [path for path in files if path.stem.lower() in stems or abu.scene_name(path.stem).lower() in stems]
        if len(fits) != 1:
            what = (
                "no map of this scene"
                if not fits
                else f"several maps of this scene ({', '.join(p.name for p in fits)})"
            )
            raise FersError(f"{maps}: {what}. Expected one of {name}.npy, .mat, .npz, .tif.")
        where, score = str(fits[0]), _read_map(fits[0], shape)
    else:
        keys = [key for key in names if key in maps]
        if not keys:
            raise FersError(f"no map of this scene; there are maps of {', '.join(map(str, maps)) or 'none'}.")
        where, score = f"the map of {name}", np.asarray(maps[keys[0]])
    if score.dtype.kind not in "biuf":
        raise FersError(f"{where}: holds {score.dtype}; a score map holds real numbers.")
    if score.shape != shape:
        found, wanted = " x ".join(map(str, score.shape)), f"{shape[0]} x {shape[1]}"
        if score.shape == shape[::-1]:
            raise FersError(f"{where}: is transposed: {found}, and the scene is {wanted}. Save it with rows first.")
        raise FersError(f"{where}: is {found}, and the scene is {wanted}. Save it as (H, W), rows first.")
    return score.astype(np.float64)


def _read_map(path: Path, shape: tuple[int, int]) -> np.ndarray:
    if path.suffix.lower() not in (".tif", ".tiff"):
        return np.asarray(read_array(path, shape=None if path.suffix.lower() == ".npy" else shape))
    reader = open_scene(path)
    if reader.bands != 1:
        raise FersError(f"{path}: has {reader.bands} bands; a score map has one.")
    return reader.load()[:, :, 0]
