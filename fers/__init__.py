"""Detect anomalies in hyperspectral scenes, compare detectors, and reproduce FERS (arXiv 2510.18781).

    import fers

    scene = fers.read_scene("scene.mat")   # or .npy, .npz, ENVI, GeoTIFF, ...
    score = fers.score(scene)              # (H, W), higher is more anomalous
    found = fers.detect("flightline.hdr")  # of any size: score map, targets with their places, a report

Every name below is imported when it is first used, so ``import fers`` itself loads neither PyTorch nor NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fers.comparison.compare import compare
    from fers.datasets.benchmarks import BENCHMARKS
    from fers.detection.detect import DetectResult, detect
    from fers.detectors import DETECTORS
    from fers.detectors.background import Background
    from fers.detectors.rx import rx_array as rx
    from fers.evaluation.metrics import auc, measures
    from fers.networks import SpaFEN, SpeFEN, load_checkpoint
    from fers.scenes import LabelledScene, Scene, SceneError, normalise, read_mask, read_scene, read_truth
    from fers.scoring.config import DetectConfig
    from fers.scoring.pipeline import Pipeline
    from fers.scoring.scene_score import score
    from fers.scoring.settings import SETTINGS
    from fers.util.errors import FersError

_HOMES = {
    "BENCHMARKS": "fers.datasets.benchmarks",
    "DETECTORS": "fers.detectors",
    "SETTINGS": "fers.scoring.settings",
    "Background": "fers.detectors.background",
    "DetectConfig": "fers.scoring.config",
    "DetectResult": "fers.detection.detect",
    "FersError": "fers.util.errors",
    "LabelledScene": "fers.scenes",
    "Pipeline": "fers.scoring.pipeline",
    "Scene": "fers.scenes",
    "SceneError": "fers.scenes",
    "SpaFEN": "fers.networks",
    "SpeFEN": "fers.networks",
    "auc": "fers.evaluation.metrics",
    "compare": "fers.comparison.compare",
    "detect": "fers.detection.detect",
    "load_checkpoint": "fers.networks",
    "measures": "fers.evaluation.metrics",
    "normalise": "fers.scenes",
    "read_mask": "fers.scenes",
    "read_scene": "fers.scenes",
    "read_truth": "fers.scenes",
    "rx": "fers.detectors.rx:rx_array",
    "score": "fers.scoring.scene_score",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fers' has no attribute '{name}'")
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})


__all__ = [
    "BENCHMARKS",
    "DETECTORS",
    "SETTINGS",
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
    "compare",
    "detect",
    "load_checkpoint",
    "measures",
    "normalise",
    "read_mask",
    "read_scene",
    "read_truth",
    "rx",
    "score",
]
