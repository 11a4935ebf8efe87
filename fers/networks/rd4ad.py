"""RD4AD's networks for hyperspectral cubes, by both readings of the paper. Their score is ``fers.detectors.rd4ad``.

The paper says of them: "we replaced the first layer of its encoder and the last layer of its decoder with a CWL, while
keeping the rest of the architecture unchanged". That can be read in two ways, and both are here:

- ``B``, to the letter: the CWL is there instead of the stem's convolution only. Batch norm, ReLU and max pooling stay.
- ``A``, as in FERD: the CWL is there instead of the whole stem, behind 4 px of reflection padding.

The decoder's CWL would make a reconstruction that neither the loss nor the score uses, so it is left out.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from fers.networks.backbones import Branch, frozen_layers
from fers.networks.init import init_reverse_distillation, init_xavier
from fers.networks.reverse_distillation import MFFM, Decoder
from fers.networks.spe_fen import PADDING


def _reading(letter: str, replaced: str) -> tuple[str, ...]:
    return (f"RD4AD by the reading {letter}, the CWL instead of {replaced}; the paper's sentence allows both.",)


class RD4ADNetwork(Branch):
    """A frozen encoder behind a trained CWL, a one-class embedding, and a decoder that distils the encoder back.

    Args:
        bands: C.
        backbone: Where the frozen layers of wide_resnet50_2 come from: ``imagenet``, ``random[:SEED]`` or a path; None
            leaves them without values.
        seed: For the initial weights.

    Attributes:
        BRANCH: The name in checkpoints.
        padding: Reflected border in pixels, around the cube and in the features.
        multiple: H and W must be multiples of it.
        caveats: The reading, for every table made with it.

    Source: Deng and Li, CVPR 2022, 9737-9746; Jin, Zhu and Guo, arXiv 2510.18781, section IV-B.
    """

    BRANCH = "rd4ad"
    ARCHITECTURE = "wide_resnet50_2"
    FROZEN: ClassVar[tuple[str, ...]] = ("bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    PREFIX = "encoder."
    padding = 0
    multiple = 16
    caveats = _reading("B", "the first convolution")

    def __init__(self, bands: int, backbone: str | None = "imagenet", seed: int = 0):
        super().__init__()
        self.bands = bands
        self.cwl = nn.Conv2d(bands, 64, 1, bias=False)
        self.encoder = frozen_layers(self.ARCHITECTURE, self.FROZEN)
        self.mffm = MFFM()
        self.decoder = Decoder()
        init_xavier(self.cwl, "rd4ad.cwl", seed)
        init_reverse_distillation(self.mffm, "rd4ad.mffm", seed)
        init_reverse_distillation(self.decoder, "rd4ad.decoder", seed)
        if backbone is not None:
            self.load_backbone(backbone)

    def backbone_layers(self) -> nn.Sequential:
        """The frozen layers under their torchvision names."""
        return self.encoder

    def is_trained(self, key: str) -> bool:
        """Tell whether a tensor is trained: all but the encoder and the counters of batch norms, which affect no result."""
        return super().is_trained(key) and not key.endswith("num_batches_tracked")

    def forward(self, h: torch.Tensor) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """The features that are compared.

        Args:
            h: ``(N, C, H, W)`` float32 in [-0.1, 0.1], H and W multiples of ``multiple``.

        Returns:
            (f1, f2, f3) of the encoder and (g1, g2, g3) of the decoder, of the same shapes: 256, 512 and 1024 channels, of
            H/2, H/4 and H/8 px (A: H + 8, and half and a quarter of it).
        """
        x = self.cwl(F.pad(h, [self.padding] * 4, mode="reflect"))
        features = []
        for name, layer in self.encoder.named_children():
            x = layer(x)
            if name.startswith("layer"):
                features.append(x)
        f1, f2, f3 = features
        return (f1, f2, f3), self.decoder(self.mffm(f1, f2, f3))

    def train(self, mode: bool = True) -> RD4ADNetwork:
        """Do as ``nn.Module.train``, but the frozen layers stay in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self


class RD4ADNetworkA(RD4ADNetwork):
    """The reading ``A``: CWL instead of the whole stem, so the features are twice as large on each side."""

    BRANCH = "rd4ad_a"
    FROZEN = ("layer1", "layer2", "layer3")
    padding = PADDING
    multiple = 8
    caveats = _reading("A", "the stem")


READINGS: dict[str, type[RD4ADNetwork]] = {"B": RD4ADNetwork, "A": RD4ADNetworkA}
"""By the names that ``--reading`` takes."""
