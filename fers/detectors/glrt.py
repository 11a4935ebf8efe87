"""The two-step generalised likelihood ratio test for anomalies of several pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fers.detectors.base import Extent, StripDetector, Where
from fers.detectors.windows import DualWindow, Image, RingSums, Whiten, checked


@dataclass(frozen=True)
class TwoStepGLRT(StripDetector):
    """2S-GLRT: the largest eigenvalue of ``X^T (Y Y^T)^+ X``.

    X ``(C, inner^2)`` holds the pixels of the inner window, Y those of the ring around it. The test is for an anomaly
    that fills several pixels of X with one spectrum, in amounts nobody knows: X = s a^T + noise, s and a unknown.
    With the background's covariance known, the likelihood ratio is maximal at that eigenvalue (step one); the ring's
    ``Y Y^T`` stands for the covariance (step two). For one pixel (inner = 1) it is a Mahalanobis distance about zero.
    The mean is not removed. As in the authors' own program, each band is first scaled to [0, 1] by its own minimum
    and maximum, and a band that does not vary is left out. The pseudo-inverse has the rank rule of ``fers.detectors.rx``.
    Windows are moved inwards at the borders (see ``fers.detectors.windows``).

    Args:
        inner: Side of the inner window in pixels, odd: the block that is tested as a whole, so small objects are
            smeared to its size. The authors tune it to each scene, from 3 to 15.
        outer: Side of the outer window in pixels, odd; the authors tune it from 9 to 25. The default ring of 416
            pixels holds twice as many as 200 bands (see ``LRX``).

    Raises:
        ValueError: On making it, an even window, or inner >= outer. On calling it, a scene smaller than the outer
            window, NaN, a cube in which no band varies, or a ring of zeros.

    Cost: per pixel, (2 (inner + outer) + inner^2) C^2 + C^3 / 6 multiplications, as for ``LRX``; with fewer ring pixels
    than bands outer^2 C^2 + C^3. Memory stays near 256 MiB, besides two copies of the cube in float64.

    Source: J. Liu, Z. Hou, W. Li, R. Tao, D. Orlando and H. Li, Multipixel Anomaly Detection With Unknown Patterns
    for Hyperspectral Imagery, IEEE TNNLS 33(10), 2022.

    Example:
        >>> cube = torch.randn(1, 3, 15, 15, generator=torch.Generator().manual_seed(0))
        >>> cube[0, :, 4, 7] += 20
        >>> int(TwoStepGLRT(inner=1, outer=9)(cube).argmax()) == 4 * 15 + 7
        True
    """

    inner: int = 5
    outer: int = 21
    statistics = Extent

    def __post_init__(self) -> None:
        DualWindow(self.inner, self.outer)

    @property
    def halo(self) -> int:  # type: ignore[override]
        """Rows that the outer window needs."""
        return DualWindow(self.inner, self.outer).halo

    def collect(self, cube: torch.Tensor, left_out: torch.Tensor | None, where: Where) -> Extent:
        """Compute the range of each band."""
        return Extent.of(checked(cube), left_out)

    def fit(self, statistics: Extent, where: Where) -> Extent:
        """Check that some band varies, and return the range of each."""
        if not bool((statistics.high > statistics.low).any(1).all()):
            raise ValueError("no band of this cube varies; there is nothing to test. Give a scene with content.")
        return statistics

    def score(self, cube: torch.Tensor, state: Extent, left_out: torch.Tensor | None) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0; NaN where no pixel of a ring counts."""
        windows = DualWindow(self.inner, self.outer)

        def largest(
            image: Image, centre: torch.Tensor, sums: RingSums, whiten: Whiten
        ) -> tuple[torch.Tensor, torch.Tensor]:
            inside = windows.inner_pixels(centre, image)
            products = sums.products()
            empty = ~(products.diagonal(dim1=1, dim2=2) > 0).any(1)
            if bool(empty.any()):
                if not image.leaves_out:
                    raise ValueError(
                        f"every band is at its minimum all around {int(empty.sum())} pixels. "
                        "Give a larger outer window, or cut the empty part of the scene away."
                    )
                products[empty] = torch.eye(products.shape[1]).to(products)
            block = image.pixels[inside] * image.weights[inside][:, :, None]  # a pixel of zeros adds nothing
            white, certain = whiten(products, block.mT)
            gram = white.mT @ white if white.shape[2] < white.shape[1] else white @ white.mT
            return torch.linalg.eigvalsh(gram)[:, -1].clamp_min(0).masked_fill(empty, torch.nan), certain

        return windows.scores(state.scale(checked(cube)), largest, left_out)
