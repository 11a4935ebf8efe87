"""Cube in, score map out. Nothing here knows a network or a file."""

from detectors.ae import ae, ae_iterations
from detectors.base import Detector, Entry, minmax
from detectors.rx import Background, estimate_background, rx

__all__ = ["Background", "Detector", "Entry", "ae", "ae_iterations", "estimate_background", "minmax", "rx"]
