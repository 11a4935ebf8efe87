"""``fers.score``: one scene or array to its score map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fers.scenes import Scene, normalise
from fers.scoring.pipeline import DetectConfig, Pipeline


def score(scene: Scene | np.ndarray, bands: int | None = None, **settings: object) -> np.ndarray:
    """Score one scene.

    Args:
        scene: From ``read_scene``, or an array ``(H, W, B)`` of any real type.
        bands: C, the number of bands to use; all by default. Trained weights want the number they were trained for.
        **settings: As ``DetectConfig`` has them: ``detect``, ``features``, ``fusion``, ``checkpoint_dir``,
            ``backbone``, ``seed``, ``device``, ... Without any it is fusion C of an untrained network, which needs no
            weights and takes any number of bands (docs/beyond.md).

    Returns:
        ``(H, W)`` score map, higher is more anomalous.

    Raises:
        FersError: The scene, a checkpoint or a setting cannot be used; the message says why and what to do.

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
    settings = settings or {"features": "untrained", "backbone": "random", "fusion": "C"}
    pipeline = Pipeline(DetectConfig(bands=bands, **{"sensor": "unknown", **settings}))  # type: ignore[arg-type]
    return pipeline.score(normalise(scene, bands, pipeline.config.start_band))
