"""FERS as a library: the names that notebooks and other programs use.

    import fers

    scene = fers.read_scene("scene.mat")   # or .npy, .npz, ENVI, GeoTIFF, ...
    score = fers.score(scene)              # (H, W), higher is more anomalous
    found = fers.detect("flightline.hdr")  # of any size: score map, targets with their places, a report

Works from any folder, also from one that has a ``data`` or ``models`` of its own.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import TYPE_CHECKING

_HERE = Path(__file__).resolve().parent


def _import_ours() -> None:
    """Import this project's packages from beside this file, whatever folders of the same names lie where one works.

    Raises:
        ImportError: Another package of one of these names was imported before.
    """
    for name in (
        "data",
        "models",
        "detectors",
        "fast",
        "detection",
        "training",
        "evaluation",
    ):  # each needs those before
        if name not in sys.modules:
            spec = PathFinder.find_spec(name, [str(_HERE)])
            assert spec is not None and spec.loader is not None
            sys.modules[name] = module_from_spec(spec)
            spec.loader.exec_module(sys.modules[name])
        place = getattr(sys.modules[name], "__file__", None)
        if place is None or _HERE not in Path(place).resolve().parents:
            raise ImportError(
                f"import fers: a package named '{name}' was imported before, from {place}. Import fers first, or rename "
                "the other package."
            )


_import_ours()

from data import LabelledScene, Scene, SceneError, normalise, read_mask, read_scene  # noqa: E402
from data.benchmarks import BENCHMARKS  # noqa: E402
from data.errors import FersError  # noqa: E402
from detection.detect import DetectResult, detect  # noqa: E402
from detection.pipeline import DetectConfig, Pipeline  # noqa: E402
from detection.views import VIEWS  # noqa: E402
from detectors import DETECTORS, Background  # noqa: E402
from detectors import rx_array as rx  # noqa: E402
from evaluation.metrics import auc  # noqa: E402
from models import SpaFEN, SpeFEN, load_checkpoint  # noqa: E402

if TYPE_CHECKING:
    import numpy as np


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


__all__ = [
    "BENCHMARKS",
    "DETECTORS",
    "VIEWS",
    "Background",
    "DetectConfig",
    "DetectResult",
    "FersError",
    "LabelledScene",
    "Pipeline",
    "Scene",
    "SceneError",
    "SpaFEN",
    "SpeFEN",
    "auc",
    "detect",
    "load_checkpoint",
    "normalise",
    "read_mask",
    "read_scene",
    "rx",
    "score",
]
