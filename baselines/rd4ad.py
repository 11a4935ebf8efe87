"""RD4AD's networks for hyperspectral cubes, their training, and the detector that loads them trained.

``fers.detectors.rd4ad`` has the score that these networks' features give.

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

from fers.detectors.rd4ad import RD4AD, SIGMA, Scales
from fers.networks.backbones import Branch, frozen_layers
from fers.networks.checkpoint import load_branch
from fers.networks.init import init_reverse_distillation, init_xavier
from fers.networks.spe_fen import PADDING
from fers.training.stage import Stage, Terms
from train_FERD.network import MFFM, Decoder


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

    Source: Deng and Li, CVPR 2022, 9737-9746; Jin, Zhu and Guo, arXiv 2510.18781, section IV-B.
    """

    BRANCH = "rd4ad"
    ARCHITECTURE = "wide_resnet50_2"
    FROZEN: ClassVar[tuple[str, ...]] = ("bn1", "relu", "maxpool", "layer1", "layer2", "layer3")
    PREFIX = "encoder."
    padding = 0
    multiple = 16

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

    def forward(self, h: torch.Tensor) -> tuple[Scales, Scales]:
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


READINGS: dict[str, type[RD4ADNetwork]] = {"B": RD4ADNetwork, "A": RD4ADNetworkA}
"""By the names that ``--reading`` takes."""


def distillation_loss(encoder: Scales, decoder: Scales) -> torch.Tensor:
    """The sum over scales of 1 - cosine of the flattened maps ``(N, C_i, H_i, W_i)``, averaged over the batch."""
    cosines = [F.cosine_similarity(f.flatten(1), g.flatten(1)).mean() for f, g in zip(encoder, decoder, strict=True)]
    return torch.stack([1 - cosine for cosine in cosines]).sum()


class RD4ADStage(Stage):
    """RD4AD in training: the CWL, the embedding and the decoder learn, the encoder's frozen layers do not."""

    def __init__(self, network: RD4ADNetwork):
        super().__init__()
        self.network = network
        self.checkpoint = f"{network.BRANCH}.safetensors"

    @property
    def branch(self) -> RD4ADNetwork:
        """The whole network."""
        return self.network

    def fixed_layers(self) -> list[nn.Module]:
        """The encoder, but for its CWL."""
        return list(self.network.encoder.children())

    def loss(self, h: torch.Tensor) -> tuple[torch.Tensor, Terms]:
        """The loss of a batch of patches ``(N, C, H, W)``, in float32."""
        encoder, decoder = self.network(h)
        with torch.autocast(h.device.type, enabled=False):
            total = distillation_loss(tuple(f.float() for f in encoder), tuple(g.float() for g in decoder))
        return total, {"distillation": total}


class RD4ADDetector(RD4AD):
    """RD4AD with the networks of a trained checkpoint: ``--detect baselines.rd4ad:RD4ADDetector --option checkpoint=FILE``.

    Args:
        checkpoint: An ``rd4ad.safetensors`` or ``rd4ad_a.safetensors``.
        backbone: Source of the frozen layers instead of what the checkpoint says; empty for that.
        sigma: Standard deviation of the Gaussian filter, px.

    Raises:
        CheckpointError: The file is missing, or holds another network.
        BackboneError: The frozen layers cannot be had.
    """

    def __init__(self, checkpoint: str = "rd4ad.safetensors", backbone: str = "", sigma: float = SIGMA):
        branches = {reading.BRANCH: reading for reading in READINGS.values()}
        network, self.info = load_branch(checkpoint, branches, backbone=backbone or None)
        self.network = network
        reading = "A, the CWL instead of the stem" if network.padding else "B, the CWL instead of the first convolution"
        self.caveats = [f"RD4AD by the reading {reading}; the paper's sentence allows both."]
        super().__init__(self._distil, network.padding, network.multiple, sigma)

    def _distil(self, cube: torch.Tensor) -> tuple[Scales, Scales]:
        with torch.no_grad():
            return self.network.to(cube.device)(cube)
