"""The five terms of Stage 2's loss, ``L = L_cc + 0.1 L_cos + 0.1 L_var + 1.0 (L_mse + 0.01 L_SSIM)`` (eqs. 10, 11, 16).

F_spe and F_spa are ``(N, C, H, W)``; each term is a scalar. Norms are read as means: docs/fidelity.md#norms-read-as-means.
"""

from __future__ import annotations

import torch
from pytorch_msssim import ssim
from torch.nn import functional as F

from fers.training.recipe import PAPER, Recipe

_EPS, _EPS_COS = 1e-6, 1e-8


def l_cc(f_spe: torch.Tensor, f_spa: torch.Tensor) -> torch.Tensor:
    """Cross-covariance loss L_cc: the squared entries of C (eq. 12), summed over all C x C pairs of channels (eq. 13)."""

    def centred(f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        channels = f.permute(0, 2, 3, 1).flatten(0, 2)  # (N H W) x C
        channels = channels - channels.mean(0)
        return channels, torch.linalg.vector_norm(channels, dim=0) / (len(channels) - 1) ** 0.5 + _EPS

    (x, std_x), (y, std_y) = centred(f_spe), centred(f_spa)
    covariance = x.T @ y / len(x)
    return (covariance / (std_x[:, None] * std_y)).square().sum()  # eq. 12 divides the samples; this matrix is smaller


def l_cos(f_spe: torch.Tensor, f_spa: torch.Tensor) -> torch.Tensor:
    """Cosine similarity loss L_cos (eq. 14): 1 + the mean over pixels of the cosine, over channels, of F_spe and F_spa."""
    norm_spe, norm_spa = (torch.linalg.vector_norm(f, dim=1).clamp_min(_EPS_COS) for f in (f_spe, f_spa))
    return 1 + ((f_spe * f_spa).sum(1) / (norm_spe * norm_spa)).mean()  # F.cosine_similarity with less memory


def l_var(f_spa: torch.Tensor) -> torch.Tensor:
    """Variance-preserving loss L_var (eq. 15): mean over channels of ``max(0, 1 - Var)``, plus mean ``|F_spa|``.

    Var is the unbiased variance over space, averaged over the batch.
    """
    variance = f_spa.flatten(2).var(2).mean(0)
    return F.relu(1 - variance).mean() + f_spa.abs().mean()


def l_mse(h_hat: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the reconstruction against H (eq. 16, first term)."""
    return F.mse_loss(h_hat, h)


def l_ssim(h_hat: torch.Tensor, h: torch.Tensor, recipe: Recipe = PAPER) -> torch.Tensor:
    """L_SSIM = 1 - SSIM with windows of 5, sigma 1.5, range 1 (eq. 16, second term); half of it in the released recipe."""
    return recipe.ssim_scale * (1 - ssim(h_hat, h, data_range=1.0, win_size=5, win_sigma=1.5))
