"""Spa-FEN, the spatial branch (eqs. 5-8): the rebellious student."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from fers.networks.backbones import Branch, frozen_layers
from fers.networks.init import init_uniform


class SpectralCompression(nn.Sequential):
    """Spectral compression of a cube to three channels H_3c in (0, 1) (eq. 5): ``(N, C, H, W)`` to ``(N, 3, H, W)``."""

    def __init__(self, bands: int):
        super().__init__(nn.Conv2d(bands, 256, 1), nn.ReLU(), nn.Conv2d(256, 3, 1), nn.Sigmoid())


class LightSPP(nn.Module):
    """Lightweight Spatial Pyramid Pooling (eq. 6): pooled to 1, 2 and 4 px, resized, fused to C channels.

    W_fuse is the released code's 768-128-ReLU-C-ReLU, not one convolution: see docs/fidelity.md#w_fuse.
    """

    LEVELS = (1, 2, 4)

    def __init__(self, bands: int, channels: int = 256):
        super().__init__()
        self.fuse = nn.Sequential(
            nn.Conv2d(len(self.LEVELS) * channels, 128, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(128, bands, 1, bias=False),
            nn.ReLU(),
        )

    def forward(self, features: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        """Pool features ``(N, 256, h, w)`` and fuse them to ``(N, C, H, W)`` with (H, W) = ``size``."""
        # the first 1x1 convolution commutes with resizing, so it need only see 1 + 4 + 16 pixels of the 768 channels
        parts = self.fuse.get_parameter("0.weight").chunk(len(self.LEVELS), dim=1)
        pooled = [F.conv2d(F.adaptive_avg_pool2d(features, s), w) for s, w in zip(self.LEVELS, parts, strict=True)]
        one, two, four = (F.interpolate(f, size, mode="bilinear", align_corners=False) for f in pooled)
        return self.fuse[1:](one + two + four)


class ChannelAttention(nn.Module):
    """Squeeze and excitation (eq. 7): each channel scaled by a gate in (0, 1) that depends on all channels' means."""

    def __init__(self, channels: int, reduction: int = 8):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels // reduction, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale the channels of ``(N, C, H, W)`` by their gates."""
        return x * self.fc(F.adaptive_avg_pool2d(x, 1))


_CONSTANT = 1e-10  # of the mean square: a smaller variance is float32's rounding


def varying_channels(features: torch.Tensor) -> torch.Tensor:
    """Tell which channels ``(N, C, H, W)`` vary over space, beyond float32's rounding: ``(N, C)`` bool."""
    pixels = features.flatten(2)
    return pixels.var(2) > _CONSTANT * pixels.square().mean(2)


def feature_figures(f_spe: torch.Tensor, f_spa: torch.Tensor) -> dict[str, torch.Tensor]:
    """Measure how large both features are, and how much of F_spa there is.

    Args:
        f_spe: ``(N, C, H, W)``.
        f_spa: Of the same shape.

    Returns:
        Scalars: ``spe_energy`` and ``spa_energy``, the mean squares; ``spe_spatial_energy`` and ``spa_spatial_energy``, the
        variances over space, summed over channels and averaged over samples; ``live_channels``, the channels of F_spa that
        vary over space in any sample. With none of them F_spa is dead: RX removes a constant.
    """
    figures: dict[str, torch.Tensor] = {}
    for name, features in (("spe", f_spe), ("spa", f_spa)):
        figures[f"{name}_energy"] = features.detach().square().mean()
        figures[f"{name}_spatial_energy"] = features.detach().flatten(2).var(2).sum(1).mean()
    figures["live_channels"] = varying_channels(f_spa.detach()).any(0).sum()
    return figures


class SpaFEN(Branch):
    """Spatial Feature Enhancement Network, F_spa = FEN_spa(H) (eq. 8).

    Spectral compression to H_3c (eq. 5), ResNet-34 to layer3 (stride 16), LightSPP (eq. 6), SE block (eq. 7).

    Args:
        bands: C, at least 8.
        backbone: Source of the frozen ResNet-34: ``imagenet``, ``random[:SEED]`` or a path; None leaves it
            without values, to be filled from a checkpoint.
        seed: Seed of the initial compression, LightSPP and SE.
        adapt_batch_norm: In training the backbone's batch norms use batch statistics and their running statistics adapt,
            as in the released recipe. These then count as trained: a checkpoint holds them.

    Source: Jin, Zhu and Guo, arXiv 2510.18781, section III-B and Fig. 5; docs/fidelity.md#spa-fen.
    """

    ARCHITECTURE = "resnet34"
    FROZEN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    PREFIX = "backbone."

    def __init__(self, bands: int, backbone: str | None = "imagenet", seed: int = 0, adapt_batch_norm: bool = False):
        super().__init__()
        self.bands = bands
        self.adapt_batch_norm = adapt_batch_norm
        self.compression = SpectralCompression(bands)
        self.backbone = frozen_layers(self.ARCHITECTURE, self.FROZEN)
        self.spp = LightSPP(bands)
        self.se = ChannelAttention(bands)
        for name in ("compression", "spp", "se"):
            init_uniform(getattr(self, name), f"spa_fen.{name}", seed)
        if backbone is not None:
            self.load_backbone(backbone)

    def backbone_layers(self) -> nn.Sequential:
        """Return ResNet-34 to layer3."""
        return self.backbone

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Compute F_spa of a normalised cube.

        Args:
            h: ``(N, C, H, W)`` float32 in [-0.1, 0.1].

        Returns:
            ``(N, C, H, W)``, >= 0.
        """
        h_3c = self.compression(h)
        return self.se(self.spp(self.backbone(h_3c), h.shape[-2:]))

    def train(self, mode: bool = True) -> SpaFEN:
        """Do as ``nn.Module.train``, but the frozen layers stay in eval mode unless their batch norms adapt."""
        super().train(mode)
        self.backbone.train(mode and self.adapt_batch_norm)
        return self
