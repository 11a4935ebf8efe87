"""``fers.score``: the score map of one scene or array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fers.scenes import Scene
from fers.scoring.config import DetectConfig, default_method
from fers.scoring.pipeline import Pipeline, read_h


def score(scene: Scene | np.ndarray, bands: int | None = None, **options: Any) -> np.ndarray:
    """Score one scene.

    Args:
        scene: Scene from ``read_scene``, or an array ``(H, W, B)`` of any real type.
        bands: C, the number of bands to use; all by default. Trained weights need the number that they were trained for.
        **options: Options of ``DetectConfig``: ``detect`` (a name, or a class, instance or function of yours),
            ``features``, ``fusion``, ``checkpoint_dir``, ``nodata``, ``seed``, ``device``, ... Without features and fusion,
            the setting is fusion D of an untrained network, which needs no weights and takes any number of bands
            (docs/beyond.md).

    Returns:
        ``(H, W)`` score map, higher is more anomalous; NaN where ``nodata="mask"`` leaves a pixel out.

    Raises:
        FersError: The scene, a checkpoint or an option cannot be used; the message says why and what to do.

    Example:
        >>> import numpy as np
        >>> cube = np.random.RandomState(0).normal(size=(20, 20, 8))
        >>> cube[3, 4] += 10
        >>> np.unravel_index(score(cube, features="original").argmax(), (20, 20)) == (3, 4)
        True
    """
    if not isinstance(scene, Scene):
        scene = Scene("array", scene, Path("array"))
    bands = bands or scene.bands
    method = default_method(options.pop("features", None), options.pop("fusion", None), options.get("checkpoint_dir"))
    config = DetectConfig(bands, **(method | options))
    return Pipeline(config).score(*read_h(config, scene))
