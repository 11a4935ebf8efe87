"""Scenes: cubes and truths from the files that people have, and the way from raw values to what the networks see.

In reading order: ``readers`` (one contract for all formats), ``scene`` (a scene in memory, its truth, its pixels
without data), ``survey`` (a first look at the values), ``bands`` (which are used, and how they become a model's),
``normalise`` (the range [-0.1, 0.1]).

Each reader may be changed by itself; tests/test_readers.py holds it to files written as the product is described.
What ``normalise`` and ``bands`` compute is part of every published number: golden files and tables change with them.
"""

from fers.scenes.normalise import normalise
from fers.scenes.readers import Reader, open_scene
from fers.scenes.scene import LabelledScene, Scene, SceneError, nodata_pixels, read_scene, read_truth

read_mask = read_truth  # the name of earlier versions

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
    "read_truth",
]
