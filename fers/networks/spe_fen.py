"""Spe-FEN, the spectral branch (eq. 4): it remains of Stage 1 after pruning, and is the teacher of Stage 2."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from fers.networks.backbones import Branch, frozen_layers
from fers.networks.init import init_xavier

PADDING = 4


class SpeFEN(Branch):
    """Spectral Feature Enhancement Network, F_spe = FEN_spe(H) (eq. 4): reflect-pad, CWL, layer1, crop, FPL.

    Args:
        bands: C.
        backbone: Source of the frozen layer1: ``imagenet``, ``random[:SEED]`` or a path; None leaves it without
            values, to be filled from a checkpoint.
        seed: Seed of the initial CWL, FPL and ZCL.

    Attributes:
        cwl: Channel-Wise Layer, 1x1 convolution C -> 64.
        layer1: First residual stage of wide_resnet101_2, 64 -> 256, frozen, always in eval mode.
        fpl: Feature Projection Layer, 256 -> m -> C; m = 256 if C > 128 else 128. It ends in a ReLU.
        zcl: Zero-Centralization Layer, C -> 1. Only the loss L_Z of Stage 1 uses it. It is kept so that a checkpoint
            holds the whole Spectral Feature Alignment Mechanism (SFAM): FPL and ZCL.

    Source: Jin, Zhu and Guo, arXiv 2510.18781, section III-A and Fig. 4; docs/fidelity.md#spe-fen.
    """

    ARCHITECTURE = "wide_resnet101_2"
    FROZEN = ("layer1",)
    PREFIX = "layer1."

    def __init__(self, bands: int, backbone: str | None = "imagenet", seed: int = 0):
        super().__init__()
        self.bands = bands
        middle = 256 if bands > 128 else 128
        self.cwl = nn.Conv2d(bands, 64, 1, bias=False)
        self.layer1 = frozen_layers(self.ARCHITECTURE, self.FROZEN)[0]
        self.fpl = nn.Sequential(nn.Conv2d(256, middle, 1), nn.ReLU(), nn.Conv2d(middle, bands, 1), nn.ReLU())
        self.zcl = nn.Conv2d(bands, 1, 1)
        for name in ("cwl", "fpl", "zcl"):
            init_xavier(getattr(self, name), f"spe_fen.{name}", seed)
        if backbone is not None:
            self.load_backbone(backbone)

    def backbone_layers(self) -> nn.Sequential:
        """Return layer1 under its torchvision name."""
        return nn.Sequential(OrderedDict(layer1=self.layer1)).eval()

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Compute F_spe of a normalised cube.

        Args:
            h: ``(N, C, H, W)`` float32 in [-0.1, 0.1], H and W at least 5.

        Returns:
            ``(N, C, H, W)``, >= 0.
        """
        return self.project(self.encode(h))

    def encode(self, h: torch.Tensor) -> torch.Tensor:
        """Compute f1 of a normalised cube, with its padding: ``(N, 256, H + 8, W + 8)``."""
        return self.layer1(self.cwl(F.pad(h, [PADDING] * 4, mode="reflect")))

    def project(self, f1: torch.Tensor) -> torch.Tensor:
        """Apply the FPL to f1 (or to Stage 1's g1) without its padding: ``(N, C, H, W)``, >= 0."""
        return self.fpl(crop(f1))

    def train(self, mode: bool = True) -> SpeFEN:
        """Do as ``nn.Module.train``, but the frozen layers stay in eval mode."""
        super().train(mode)
        self.layer1.eval()
        return self


def crop(features: torch.Tensor) -> torch.Tensor:
    """Crop the reflected border: ``(N, C, H + 8, W + 8)`` to ``(N, C, H, W)``."""
    return features[:, :, PADDING:-PADDING, PADDING:-PADDING]
