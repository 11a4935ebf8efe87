"""The Airport-Beach-Urban scenes of X. Kang et al., TGRS 2017, as their author and as the paper's authors lay them out.

abu-airport-1.mat ...                                          cube and truth in one file
[abu/]test/<sensor>/airport-1.npy, beach.npy ...               as HAD100's; beach is beach-4, urban is urban-3
[abu/]ground_truth/<sensor>/airport-1.png, beach.png ...
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from fers.datasets import had100
from fers.datasets.catalogue import fingerprint, recognise
from fers.scenes.scene import LabelledScene, Scene, SceneError, read_scene, read_truth, select_scenes
from fers.util.files import visible

TABLE_SCENES = "airport-1,airport-2,airport-3,airport-4,beach-4,urban-3"  # the paper's Table II
_SHORT_NAMES = {"beach": "beach-4", "urban": "urban-3"}  # of Table II and of the authors' files


def scenes(folder: str | Path, sensor: str | None = None, names: str = "paper") -> list[LabelledScene]:
    """Find the ABU scenes of a folder, in the order of the names given, else of their names.

    They have the names of ``TABLE_SCENES`` wherever they come from.

    Args:
        folder: A folder of ``abu-*.mat``, or one in HAD100's layout, or with such a folder ``abu`` in it.
        sensor: The sensor's folder in HAD100's layout; None takes the only one there.
        names: ``paper`` for the six of the paper's table (in HAD100's layout, which is a choice already, for every one),
            ``all``, or names separated by commas, such as ``airport-2`` or ``abu-airport-2``.

    Raises:
        SceneError: There is no ABU scene in the folder, or one that was named is missing.
    """
    folder = Path(folder)
    files = visible(folder, "abu-*.mat")
    if files:
        found = [LabelledScene(scene_name(path.stem), path, partial(_load, path)) for path in files]
        names = TABLE_SCENES if names == "paper" else names
    else:
        layouts = [path for path in (folder, folder / "abu") if (path / "test").is_dir()]
        if not layouts:
            raise SceneError(
                f"{folder}: no ABU scenes here. Expected abu-airport-1.mat, abu-airport-2.mat, ... or the folders "
                "test/<sensor> and ground_truth/<sensor>, in it or in a folder abu. Give the folder with --data_path "
                "(fers compare: --scenes; reproduce.py: --abu); to get them: fers data get abu"
            )
        folder = layouts[0]
        found = had100.scenes(folder, sensor, rename=scene_name)
        names = "all" if names == "paper" else names
    present = {scene.name for scene in found}
    wanted = [name.strip() for name in names.split(",")]
    names = ",".join(name if name in present else scene_name(name) for name in wanted)
    return select_scenes(found, names, folder)


def scene_name(stem: str) -> str:
    """Name a scene as the paper's table does, from the name of its file.

    Example:
        >>> scene_name("abu-airport-2"), scene_name("beach")
        ('airport-2', 'beach-4')
    """
    stem = stem.removeprefix("abu-")
    return _SHORT_NAMES.get(stem, stem)


def known_scenes(labelled: Iterable[LabelledScene]) -> dict[str, str]:
    """Tell which scenes are the catalogue's, by the values of cube and truth: its names for them."""
    found = {one.name: recognise(fingerprint(scene.cube, truth)) for one in labelled for scene, truth in [one.load()]}
    return {name: known.name for name, known in found.items() if known is not None}


def _load(path: Path) -> tuple[Scene, np.ndarray]:
    scene = read_scene(path, name=scene_name(path.stem))
    if scene.name == "beach-4" and scene.cube.shape[:2] == (100, 100):
        scene = replace(scene, notes=("a 100x100 cut of the paper's 150x150 scene",))
    return scene, read_truth(path, shape=scene.cube.shape[:2])
