"""Stage 2's loss, ``L = L_cc + 0.1 L_cos + 0.1 L_var + 1.0 (L_mse + 0.01 L_ssim)`` (eqs. 10-16): its five terms.

F_spe and F_spa are ``(N, C, H, W)``; each term is a scalar.
"""

from __future__ import annotations

import torch
from pytorch_msssim import ssim
from torch.nn import functional as F

from training.recipe import PAPER, Recipe

WEIGHTS = {"cc": 1.0, "cos": 0.1, "var": 0.1, "mse": 1.0, "ssim": 0.01}
_EPS, _EPS_COS = 1e-6, 1e-8


def l_cc(f_spe: torch.Tensor, f_spa: torch.Tensor) -> torch.Tensor:
    """Squared cross-covariance of all pairs of standardised channels, summed over the C x C pairs (eqs. 10, 11)."""

    def centred(f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        channels = f.permute(0, 2, 3, 1).flatten(0, 2)  # (N H W) x C
        channels = channels - channels.mean(0)
        return channels, torch.linalg.vector_norm(channels, dim=0) / (len(channels) - 1) ** 0.5 + _EPS

    (z_spe, std_spe), (z_spa, std_spa) = centred(f_spe), centred(f_spa)
    covariance = z_spe.T @ z_spa / len(z_spe)
    return (covariance / (std_spe[:, None] * std_spa)).square().sum()  # eq. 10 scales the samples; this is C x C


def l_cos(f_spe: torch.Tensor, f_spa: torch.Tensor) -> torch.Tensor:
    """1 + the mean over pixels of the cosine, over channels, of F_spe and F_spa (eq. 12)."""
    norms = [torch.linalg.vector_norm(f, dim=1).clamp_min(_EPS_COS) for f in (f_spe, f_spa)]
    return 1 + ((f_spe * f_spa).sum(1) / (norms[0] * norms[1])).mean()  # F.cosine_similarity with less memory


def l_var(f_spa: torch.Tensor) -> torch.Tensor:
    """Mean over channels of ``max(0, 1 - Var)``, plus mean ``|F_spa|`` (eq. 13).

    Var is the unbiased variance over space, averaged over the batch.
    """
    variance = f_spa.flatten(2).var(2).mean(0)
    return F.relu(1 - variance).mean() + f_spa.abs().mean()


def l_mse(h_rec: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the reconstruction against H (eq. 14)."""
    return F.mse_loss(h_rec, h)


def l_ssim(h_rec: torch.Tensor, h: torch.Tensor, recipe: Recipe = PAPER) -> torch.Tensor:
    """1 - SSIM with windows of 5, sigma 1.5, range 1 (eq. 15); half of it in the released recipe (SPEC 7)."""
    return recipe.ssim_scale * (1 - ssim(h_rec, h, data_range=1.0, win_size=5, win_sigma=1.5))
