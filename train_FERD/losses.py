"""Stage 1's loss, ``L = L_sim + 0.1 L_mse + 0.1 L_Z`` (eqs. 1-3): its three terms."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from training.recipe import PAPER, Recipe

WEIGHTS = {"sim": 1.0, "mse": 0.1, "zcl": 0.1}
_EPS = 1e-8


def l_sim(encoder: Sequence[torch.Tensor], decoder: Sequence[torch.Tensor], recipe: Recipe = PAPER) -> torch.Tensor:
    """Dissimilarity of encoder and decoder features.

    Args:
        encoder: f1, f2, f3, each ``(N, C_i, H_i, W_i)``.
        decoder: g1, g2, g3, of the same shapes.
        recipe: paper: 1 - the mean cosine over scales, in [0, 2]; released: the sum over scales of 1 - cosine.

    Returns:
        Scalar. The cosine is between flattened maps, averaged over the batch.
    """
    distance = 1 - torch.stack([_cosine(f, g).mean() for f, g in zip(encoder, decoder, strict=True)])
    return distance.mean() if recipe.sim_over_scales == "mean" else distance.sum()


def l_mse(h_rec: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the reconstruction H_R against H, both ``(N, C, H, W)``."""
    return F.mse_loss(h_rec, h)


def l_zcl(logits: torch.Tensor, recipe: Recipe = PAPER) -> torch.Tensor:
    """The zero constraint, mean of ``-log(1 - sigmoid(O))`` (eq. 2).

    Args:
        logits: O, ``(N, 1, H, W)``, what the ZCL makes of ``|f1^P - g1^P|``.
        recipe: released puts a second sigmoid around O.

    Returns:
        Scalar, > 0.
    """
    return F.softplus(torch.sigmoid(logits) if recipe.zcl_second_sigmoid else logits).mean()


def _cosine(f: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Of each pair of maps, ``(N,)``. As ``F.cosine_similarity`` of the flattened maps, without two maps of unit length."""
    norms = [torch.linalg.vector_norm(x, dim=(1, 2, 3)).clamp_min(_EPS) for x in (f, g)]
    return (f * g).sum((1, 2, 3)) / (norms[0] * norms[1])
