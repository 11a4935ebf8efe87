"""Stage 1: its network with the total loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from fers.networks import SpeFEN
from fers.training.recipe import PAPER, STAGE1_TERMS, Recipe
from fers.training.stage import Stage, Terms
from train_FERD import losses
from train_FERD.network import FERD

MULTIPLE = 8  # px: a padded patch is halved three times


class Stage1(Stage):
    """Stage 1's network and loss, ``L = L_sim + 0.1 L_mse + 0.1 L_Z`` (eq. 3).

    Args:
        network: The FERD.
        recipe: See ``fers.training.recipe``.
        losses: The terms in force; the others are only logged.
    """

    checkpoint = "spe_fen.safetensors"

    def __init__(self, network: FERD, recipe: Recipe = PAPER, losses: Sequence[str] = STAGE1_TERMS):
        super().__init__(losses)
        self.network = network
        self.recipe = recipe

    @property
    def branch(self) -> SpeFEN:
        """Spe-FEN."""
        return self.network.spe_fen

    def fixed_layers(self) -> list[nn.Module]:
        """Return the encoder without its CWL."""
        return [self.network.spe_fen.backbone_layers(), self.network.layer2_3]

    def loss(self, h: torch.Tensor) -> tuple[torch.Tensor, Terms]:
        """Compute the total loss (eq. 3) and its terms (eqs. 1, 2), in float32 at any precision.

        Args:
            h: A batch of patches, ``(N, C, H, W)``.
        """
        encoder, decoder, h_r, o = self.network(h)
        with torch.autocast(h.device.type, enabled=False):
            terms = {
                "sim": losses.l_sim([f.float() for f in encoder], [g.float() for g in decoder], self.recipe),
                "mse": losses.l_mse(h_r.float(), h),
                "z": losses.l_z(o.float(), self.recipe),
            }
            l_sim, l_mse, l_z = self.in_force(terms)
            total = l_sim + 0.1 * l_mse + 0.1 * l_z  # eq. 3
        return total, terms
