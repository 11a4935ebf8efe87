"""The networks that Stage 1 and RD4AD train behind an encoder: the MFFM that fuses its scales, the decoder that distils them back."""

from __future__ import annotations

import torch
from torch import nn

from fers.networks.resnet import Bottleneck

_BASE_WIDTH = 128  # wide bottlenecks: inner width = 2 * planes


class MFFM(nn.Module):
    """Multi-scale Feature Fusion Module: f1, f2, f3 to one embedding phi, ``(N, 2048, H'/8, W'/8)``.

    It is the one-class bottleneck embedding of RD4AD (Deng and Li, CVPR 2022).
    """

    def __init__(self):
        super().__init__()
        self.reduce1 = nn.Sequential(*_halve(256, 512), *_halve(512, 1024))
        self.reduce2 = nn.Sequential(*_halve(512, 1024))
        shortcut = nn.Sequential(nn.Conv2d(3072, 2048, 1, stride=2, bias=False), nn.BatchNorm2d(2048))
        self.stage = nn.Sequential(
            Bottleneck(3072, 512, stride=2, downsample=shortcut, base_width=_BASE_WIDTH),
            *(Bottleneck(2048, 512, base_width=_BASE_WIDTH) for _ in range(2)),
        )

    def forward(self, f1: torch.Tensor, f2: torch.Tensor, f3: torch.Tensor) -> torch.Tensor:
        """Fuse the encoder's features to phi."""
        return self.stage(torch.cat([self.reduce1(f1), self.reduce2(f2), f3], dim=1))


class UpsamplingBottleneck(Bottleneck):
    """A bottleneck that doubles the size: 2x2 transposed convolutions for the 3x3 and for the shortcut."""

    def __init__(self, inplanes: int, planes: int):
        out, width = 4 * planes, planes * _BASE_WIDTH // 64
        shortcut = nn.Sequential(nn.ConvTranspose2d(inplanes, out, 2, stride=2, bias=False), nn.BatchNorm2d(out))
        super().__init__(inplanes, planes, downsample=shortcut, base_width=_BASE_WIDTH)
        self.conv2 = nn.ConvTranspose2d(width, width, 2, stride=2, bias=False)


class Decoder(nn.Module):
    """Decoder from phi back to g3, g2, g1: wide_resnet50_2's stages of 3, 4 and 6 blocks in reverse order."""

    def __init__(self):
        super().__init__()

        def stage(inplanes: int, planes: int, blocks: int) -> nn.Sequential:
            more = (Bottleneck(planes * 4, planes, base_width=_BASE_WIDTH) for _ in range(blocks - 1))
            return nn.Sequential(UpsamplingBottleneck(inplanes, planes), *more)

        self.stage3 = stage(2048, 256, blocks=3)
        self.stage2 = stage(1024, 128, blocks=4)
        self.stage1 = stage(512, 64, blocks=6)

    def forward(self, phi: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Decode phi to (g1, g2, g3)."""
        g3 = self.stage3(phi)
        g2 = self.stage2(g3)
        return self.stage1(g2), g2, g3


def _halve(inplanes: int, planes: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inplanes, planes, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(planes), nn.ReLU()
