"""Cube in, score map out. Nothing here knows a network or a file."""

from detectors.ae import ae, ae_iterations
from detectors.fusion import fusion_a, fusion_b, minmax
from detectors.rx import Background, estimate_background, rx

__all__ = ["Background", "ae", "ae_iterations", "estimate_background", "fusion_a", "fusion_b", "minmax", "rx"]
