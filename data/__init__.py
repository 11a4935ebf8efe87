"""Cubes and masks from files, datasets, and the way from raw values to what the networks see."""

from data.normalise import normalise
from data.scene import LabelledScene, Scene, SceneError, nodata_pixels, read_mask, read_scene

__all__ = ["LabelledScene", "Scene", "SceneError", "nodata_pixels", "normalise", "read_mask", "read_scene"]
