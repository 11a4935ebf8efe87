"""Collaborative representation: the part of a pixel that its surroundings cannot reproduce."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fers.detectors.base import Extent, StripDetector, Where
from fers.detectors.windows import BLOCK_BYTES, DualWindow, Image, checked


@dataclass(frozen=True)
class CRD(StripDetector):
    """Collaborative-representation detector: ``||y - X a||`` for each pixel y and the ring X between its two windows.

    The weights are ``a = (X^T X + ridge G^2)^-1 X^T y``: least squares with a penalty on the weight of each ring pixel
    x_i that grows with its distance from y, G = diag(||y - x_1||, ..., ||y - x_n||). ``sum_to_one`` appends a row of
    ones to X and a one to y, which draws the sum of the weights to 1. Both are closed forms.
    Each image is first scaled to [0, 1] by its own minimum and maximum: the row of ones is measured against that.
    Windows are moved inwards at the borders (see ``fers.detectors.windows``).

    Args:
        inner: Side of the inner window in pixels, odd; at least the size of the objects looked for.
        outer: Side of the outer window in pixels, odd. Published work tunes both windows to each scene.
        ridge: Weight of the penalty, > 0; 1e-6 as in published comparisons.
        sum_to_one: Whether the row of ones is appended.

    Raises:
        ValueError: On making it, an even window, inner >= outer, or a ridge that is not positive. On calling it, a
            scene smaller than the outer window, or NaN.

    Cost: per pixel, with n = outer^2 - inner^2, n^2 C + n^3 / 3 multiplications; memory stays near 256 MiB, besides two
    copies of the cube in float64.

    Source: W. Li and Q. Du, Collaborative Representation for Hyperspectral Anomaly Detection, IEEE TGRS 53(3), 2015.

    Example:
        >>> cube = torch.rand(1, 3, 15, 15, generator=torch.Generator().manual_seed(0))
        >>> cube[0, 1, 4, 7] = -3
        >>> int(CRD(inner=3, outer=9)(cube).argmax()) == 4 * 15 + 7
        True
    """

    inner: int = 7
    outer: int = 15
    ridge: float = 1e-6
    sum_to_one: bool = True
    statistics = Extent

    def __post_init__(self) -> None:
        DualWindow(self.inner, self.outer)
        if not self.ridge > 0:
            raise ValueError(f"the ridge is {self.ridge:g}; without one the weights are not defined. Give one above 0.")

    @property
    def halo(self) -> int:  # type: ignore[override]
        """Rows that the outer window needs."""
        return DualWindow(self.inner, self.outer).halo

    def collect(self, cube: torch.Tensor, left_out: torch.Tensor | None, where: Where) -> Extent:
        """Compute the range of the values."""
        return Extent.of(checked(cube), left_out).whole()

    def score(self, cube: torch.Tensor, state: Extent, left_out: torch.Tensor | None) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0; NaN where no pixel of a ring counts."""
        windows = DualWindow(self.inner, self.outer)
        scaled = state.scale(checked(cube))
        n, bands, height, width = cube.shape
        block = max(1, BLOCK_BYTES // (24 * windows.ring_size**2 + windows.outer**2 * (8 * bands + 24)))
        scores = scaled.new_empty(n, height * width)
        for image, out in zip(windows.images(scaled, left_out), scores, strict=True):
            for centre in torch.arange(height * width, device=scaled.device).split(block):
                out[centre] = self._residual(image, centre, windows.ring_pixels(centre, image))
        return scores.view(n, height, width)

    def _residual(self, image: Image, centre: torch.Tensor, ring: torch.Tensor) -> torch.Tensor:
        ones = image.weights[ring][:, :, None]
        x, y = image.pixels[ring], image.pixels[centre]
        if image.leaves_out:
            x *= ones  # a column of zeros gets no weight
        gram, target = x @ x.mT, x @ y[:, :, None]
        if self.sum_to_one:
            gram += ones * ones.mT if image.leaves_out else 1
            target += ones
        penalty = self.ridge * (x - y[:, None]).square().sum(2)
        # A ring pixel equal to y has no penalty; where two are, a trace of one keeps their weights defined.
        penalty = penalty.clamp_min(torch.finfo(x.dtype).eps * gram.diagonal(dim1=1, dim2=2).amax(1, keepdim=True))
        gram.diagonal(dim1=1, dim2=2).add_(penalty)
        factor, failed = torch.linalg.cholesky_ex(gram)
        weights = torch.cholesky_solve(target, factor)
        if bool(failed.any()):
            bad = failed > 0
            weights[bad] = torch.linalg.pinv(gram[bad], hermitian=True) @ target[bad]
        residual = torch.linalg.vector_norm(y[:, None] - weights.mT @ x, dim=(1, 2))
        return residual.masked_fill(~ones.any(1)[:, 0], torch.nan)
