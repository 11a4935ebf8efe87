"""The names of the losses' terms, and the two recipes: the paper's, and the released code's where the two differ.

docs/fidelity.md#paper-and-released-code-differ has the table, and the differences that hold in both recipes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Settings that differ between the recipes; all else is the same in both.

    Attributes:
        name: The word for ``--recipe`` and in checkpoints.
        betas: Adam's betas.
        sim_over_scales: L_sim is 1 - the ``mean`` cosine over the three scales, or the ``sum`` of 1 - cosine.
        z_second_sigmoid: L_Z takes softplus of sigmoid(O) instead of O.
        ssim_scale: Factor of 1 - SSIM in L_SSIM.
        adapt_batch_norm: The frozen ResNet-34's batch norms use batch statistics in Stage 2, and their running
            statistics adapt.
    """

    name: str
    betas: tuple[float, float]
    sim_over_scales: str
    z_second_sigmoid: bool
    ssim_scale: float
    adapt_batch_norm: bool


STAGE1_TERMS = ("sim", "mse", "z")  # of the loss, eq. 3
STAGE2_TERMS = ("cc", "cos", "var", "mse", "ssim")  # eqs. 10, 11, 16
PAPER = Recipe("paper", (0.9, 0.95), "mean", z_second_sigmoid=False, ssim_scale=1.0, adapt_batch_norm=False)
RELEASED = Recipe("released", (0.5, 0.999), "sum", z_second_sigmoid=True, ssim_scale=0.5, adapt_batch_norm=True)
RECIPES = {recipe.name: recipe for recipe in (PAPER, RELEASED)}
