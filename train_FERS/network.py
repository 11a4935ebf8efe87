"""The FRN, which decodes H from F_spe + F_spa in Stage 2 (eq. 9)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from fers.networks.init import init_uniform
from fers.networks.spa_fen import ChannelAttention


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions without bias, each with batch norm, and the input added before the last ReLU."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the block's output, ``(N, C, H, W)`` like its input."""
        return F.relu(x + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class FRN(nn.Module):
    """Feature Restoration Network (eq. 9): three residual blocks with channel attention, then a 1x1 convolution.

    Args:
        bands: C, at least 8.
        seed: Seed of the initial weights.

    Source: Jin, Zhu and Guo, arXiv 2510.18781, section III-B; docs/fidelity.md#frn.
    """

    BLOCKS = 3

    def __init__(self, bands: int, seed: int = 0):
        super().__init__()
        self.body = nn.Sequential(
            *(layer for _ in range(self.BLOCKS) for layer in (ResidualBlock(bands), ChannelAttention(bands)))
        )
        self.final_conv = nn.Conv2d(bands, bands, 1)
        init_uniform(self, "frn", seed)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Decode F_spe + F_spa, ``(N, C, H, W)``, to H_hat of the same shape."""
        return self.final_conv(self.body(features))
