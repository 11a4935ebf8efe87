"""The three terms (eqs. 1, 2) of Stage 1's loss, ``L = L_sim + 0.1 L_mse + 0.1 L_Z`` (eq. 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from fers.training.recipe import PAPER, Recipe

_EPS = 1e-8


def l_sim(encoder: Sequence[torch.Tensor], decoder: Sequence[torch.Tensor], recipe: Recipe = PAPER) -> torch.Tensor:
    """Dissimilarity of encoder and decoder features, L_sim (eq. 1).

    Args:
        encoder: f1, f2, f3, each ``(N, C_i, H_i, W_i)``.
        decoder: g1, g2, g3, of the same shapes.
        recipe: paper: 1 - the mean cosine over scales, in [0, 2]; released: the sum over scales of 1 - cosine.

    Returns:
        Scalar. The cosine is between flattened maps, averaged over the batch.
    """
    distance = 1 - torch.stack([_cosine(f, g).mean() for f, g in zip(encoder, decoder, strict=True)])
    return distance.mean() if recipe.sim_over_scales == "mean" else distance.sum()


def l_mse(h_r: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """Reconstruction error of H_R against H, both ``(N, C, H, W)``, L_mse (eq. 1).

    Its squared norm is read as a mean over all values: docs/fidelity.md#norms-read-as-means.
    """
    return F.mse_loss(h_r, h)


def l_z(o: torch.Tensor, recipe: Recipe = PAPER) -> torch.Tensor:
    """Zero centering loss L_Z, mean of ``-log(1 - sigmoid(O))`` (eq. 2).

    Args:
        o: O, ``(N, 1, H, W)``: output of the Zero-Centralization Layer (ZCL) for ``|f1^P - g1^P|``.
        recipe: released puts a second sigmoid around O.

    Returns:
        Scalar, > 0.
    """
    return F.softplus(torch.sigmoid(o) if recipe.z_second_sigmoid else o).mean()


def _cosine(f: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """Cosine similarity of each pair of flattened maps, ``(N,)``; as ``F.cosine_similarity``, with less memory."""
    norm_f, norm_g = (torch.linalg.vector_norm(x, dim=(1, 2, 3)).clamp_min(_EPS) for x in (f, g))
    return (f * g).sum((1, 2, 3)) / (norm_f * norm_g)
