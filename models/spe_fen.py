"""Spe-FEN, the spectral branch: what remains of Stage 1 after pruning, and the teacher of Stage 2 (SPEC 2)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from models.backbones import backbone_state, frozen_layers, load_frozen, seeded

PADDING = 4


class SpeFEN(nn.Module):
    """Spectral feature extraction network: reflect-pad, CWL, ImageNet's layer1, crop, FPL.

    Args:
        bands: C.
        backbone: Where the frozen layer1 comes from: ``imagenet``, ``random[:SEED]`` or a path; None leaves it without
            values, to be filled from a checkpoint.
        seed: For the initial CWL, FPL and ZCL.

    Attributes:
        cwl: Channel-wise layer, 1x1 convolution C -> 64.
        layer1: First residual stage of wide_resnet101_2, 64 -> 256, frozen, always in eval mode.
        fpl: Feature projection layer, 256 -> m -> C; m = 256 if C > 128 else 128. It ends in a ReLU.
        zcl: Zero-constraint layer, C -> 1. Only Stage 1's loss uses it; it travels with the rest so that training can
            be taken up again.

    Source: SPEC 2; Jin, Zhu and Guo, arXiv 2510.18781, section III-A.
    """

    ARCHITECTURE = "wide_resnet101_2"
    FROZEN = ("layer1",)

    def __init__(self, bands: int, backbone: str | None = "imagenet", seed: int = 0):
        super().__init__()
        self.bands = bands
        middle = 256 if bands > 128 else 128
        self.cwl = nn.Conv2d(bands, 64, 1, bias=False)
        self.backbone = frozen_layers(self.ARCHITECTURE, self.FROZEN)
        self.fpl = nn.Sequential(nn.Conv2d(256, middle, 1), nn.ReLU(), nn.Conv2d(middle, bands, 1), nn.ReLU())
        self.zcl = nn.Conv2d(bands, 1, 1)
        self.reset_parameters(seed)
        if backbone is not None:
            load_frozen(self.backbone, backbone_state(self.ARCHITECTURE, self.FROZEN, backbone))

    def reset_parameters(self, seed: int) -> None:
        """Xavier-normal weights and zero biases, the same for a seed on every version of every library."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.startswith("backbone."):
                    continue
                if parameter.ndim == 1:
                    parameter.zero_()
                else:
                    std = (2.0 / (parameter.shape[0] + parameter.shape[1])) ** 0.5
                    draw = seeded(f"spe_fen.{name}", seed).standard_normal(tuple(parameter.shape)) * std
                    parameter.copy_(torch.from_numpy(draw))

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """F_spe of a normalised cube.

        Args:
            h: ``(N, C, H, W)`` float32 in [-0.1, 0.1], H and W at least 5.

        Returns:
            ``(N, C, H, W)``, >= 0.
        """
        return self.project(self.encode(h))

    def encode(self, h: torch.Tensor) -> torch.Tensor:
        """f1 of a normalised cube, its padding still around it: ``(N, 256, H + 8, W + 8)``."""
        return self.backbone(self.cwl(F.pad(h, [PADDING] * 4, mode="reflect")))

    def project(self, f1: torch.Tensor) -> torch.Tensor:
        """The FPL on f1 (or on Stage 1's g1) without its padding: ``(N, C, H, W)``, >= 0."""
        return self.fpl(crop(f1))

    def train(self, mode: bool = True) -> SpeFEN:
        """As ``nn.Module.train``, but the frozen layers stay in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self


def crop(features: torch.Tensor) -> torch.Tensor:
    """``(N, C, H + 8, W + 8)`` without the reflected border: ``(N, C, H, W)``."""
    return features[:, :, PADDING:-PADDING, PADDING:-PADDING]
