"""Cubes and masks from files, datasets, and the way from raw values to what the networks see."""

from fers.scenes.normalise import normalise
from fers.scenes.readers import Reader, open_scene
from fers.scenes.scene import LabelledScene, Scene, SceneError, nodata_pixels, read_mask, read_scene

__all__ = [
    "LabelledScene",
    "Reader",
    "Scene",
    "SceneError",
    "nodata_pixels",
    "normalise",
    "open_scene",
    "read_mask",
    "read_scene",
]
