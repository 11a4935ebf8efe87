"""Stage 1's network: a frozen encoder, the MFFM that fuses its scales, the decoder that distils them back.

Only the Spe-FEN inside it is deployed; MFFM and decoder are pruned after training.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from fers.networks.backbones import backbone_state, frozen_layers, load_frozen
from fers.networks.init import init_reverse_distillation, init_xavier
from fers.networks.resnet import Bottleneck
from fers.networks.spe_fen import SpeFEN, crop

_BASE_WIDTH = 128  # wide bottlenecks: inner width = 2 * planes


class Outputs(NamedTuple):
    """Tensors that the loss is made from.

    Attributes:
        encoder: f1, f2, f3: ``(N, 256, H', W')``, ``(N, 512, H'/2, W'/2)``, ``(N, 1024, H'/4, W'/4)``, H' = H + 8.
        decoder: g1, g2, g3, of the same shapes.
        h_r: H_R, ``(N, C, H, W)``.
        o: O, ``(N, 1, H, W)``.
    """

    encoder: tuple[torch.Tensor, ...]
    decoder: tuple[torch.Tensor, ...]
    h_r: torch.Tensor
    o: torch.Tensor


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


class FERD(nn.Module):
    """The whole of Stage 1: encoder, MFFM, decoder, and the Spectral Feature Alignment Mechanism (SFAM).

    The encoder is frozen, but not cut off: the CWL before it is trained, so gradients flow through the frozen layers.
    The SFAM is the FPL, on the features of both encoder and decoder, and the ZCL, on the difference of the FPL's outputs.

    Args:
        bands: C.
        backbone: Source of layer1, layer2 and layer3 of wide_resnet101_2: ``imagenet``, ``random[:SEED]`` or a path.
        seed: Seed of the initial weights.

    Attributes:
        spe_fen: The part that is kept: CWL, layer1, FPL (and ZCL).
        layer2_3: layer2 and layer3, frozen.
        decoder_cwl: 1x1 convolution 256 -> C without bias, from g1 to H_R.

    Source: Jin, Zhu and Guo, arXiv 2510.18781, section III-A and Fig. 3; LGRS 2024, 10.1109/LGRS.2024.3456178.
    """

    LAYER2_3 = ("layer2", "layer3")

    def __init__(self, bands: int, backbone: str = "imagenet", seed: int = 0):
        super().__init__()
        self.spe_fen = SpeFEN(bands, backbone=None, seed=seed)
        self.layer2_3 = frozen_layers(SpeFEN.ARCHITECTURE, self.LAYER2_3)
        state = backbone_state(SpeFEN.ARCHITECTURE, (*SpeFEN.FROZEN, *self.LAYER2_3), backbone)
        for part, names in ((self.spe_fen.backbone_layers(), SpeFEN.FROZEN), (self.layer2_3, self.LAYER2_3)):
            load_frozen(part, {key: value for key, value in state.items() if key.startswith(names)})
        self.mffm = MFFM()
        self.decoder = Decoder()
        self.decoder_cwl = nn.Conv2d(256, bands, 1, bias=False)
        init_reverse_distillation(self.mffm, "ferd.mffm", seed)
        init_reverse_distillation(self.decoder, "ferd.decoder", seed)
        init_xavier(self.decoder_cwl, "ferd.decoder_cwl", seed)

    def forward(self, h: torch.Tensor) -> Outputs:
        """Compute everything that the loss compares.

        Args:
            h: ``(N, C, H, W)`` float32 in [-0.1, 0.1]; H and W multiples of 8.
        """
        layer2, layer3 = self.layer2_3
        f1 = self.spe_fen.encode(h)
        f2 = layer2(f1)
        f3 = layer3(f2)
        g1, g2, g3 = self.decoder(self.mffm(f1, f2, f3))
        h_r = self.decoder_cwl(crop(g1))  # 1x1: the same as cropping its output
        o = self.spe_fen.zcl((self.spe_fen.project(f1) - self.spe_fen.project(g1)).abs())  # SFAM
        return Outputs((f1, f2, f3), (g1, g2, g3), h_r, o)

    def train(self, mode: bool = True) -> FERD:
        """Do as ``nn.Module.train``, but the frozen layers stay in eval mode."""
        super().train(mode)
        self.layer2_3.eval()
        return self


def _halve(inplanes: int, planes: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inplanes, planes, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(planes), nn.ReLU()
