"""The two ways to bring spectral and spatial features to a detector: fusion A (eqs. 18-22) and B (eq. 23)."""

from __future__ import annotations

import torch

from detectors.base import Detector, minmax

FUSION_A_BANDS = 50  # the paper's choice for RX: fusion A up to this many bands, B above (SPEC 6)


def fusion_a(detector: Detector, h: torch.Tensor, f_spe: torch.Tensor, f_spa: torch.Tensor) -> torch.Tensor:
    """Fusion A: the product of the two branches' score maps, each scaled to [0, 1] (eqs. 18-22).

    Args:
        detector: RX, or any other of the same form.
        h, f_spe, f_spa: ``(N, C, H, W)``.

    Returns:
        ``(N, H, W)`` in [0, 1].
    """
    return minmax(detector(h + f_spa)) * minmax(detector(h + f_spe))


def fusion_b(detector: Detector, h: torch.Tensor, f_spe: torch.Tensor, f_spa: torch.Tensor) -> torch.Tensor:
    """Fusion B: one detection on the cube with both features added (eq. 23). Arguments and result as ``fusion_a``."""
    return detector(h + f_spa + f_spe)
