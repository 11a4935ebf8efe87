"""Stage 1's network: a frozen encoder, the MFFM that fuses its scales, the decoder that distils them back.

Only the Spe-FEN inside it is deployed; MFFM and decoder are pruned after training.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from fers.networks.backbones import backbone_state, frozen_layers, load_frozen
from fers.networks.init import init_reverse_distillation, init_xavier
from fers.networks.reverse_distillation import MFFM, Decoder
from fers.networks.spe_fen import SpeFEN, crop


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
