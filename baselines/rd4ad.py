"""RD4AD's training: the decoder learns to rebuild what a frozen encoder sees in background.

The networks are ``fers.networks.rd4ad``, and the score that their features give is ``fers.detectors.rd4ad``.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from fers.detectors.rd4ad import Scales
from fers.networks.rd4ad import RD4ADNetwork
from fers.training.stage import Stage, Terms


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
