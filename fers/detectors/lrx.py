"""Local RX: RX against the pixel's own surroundings, between an inner and an outer window."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fers.detectors.base import StripDetector
from fers.detectors.windows import DualWindow, Image, RingSums, Whiten, checked


@dataclass(frozen=True)
class LRX(StripDetector):
    """Dual-window local RX: ``(x - m)^T S^+ (x - m)``, m and S of the ring between the two windows.

    m is the mean and S the unbiased covariance of the ring's pixels. S^+ is the pseudo-inverse by the rank rule of
    ``fers.detectors.rx``, in bands scaled to the ring's unit variance. With fewer ring pixels than bands, what lies outside
    their span does not count.
    Windows are moved inwards at the borders (see ``fers.detectors.windows``).

    Args:
        inner: Side of the inner window in pixels, odd; at least the size of the objects looked for.
        outer: Side of the outer window in pixels, odd. The ring should hold twice as many pixels as there are bands:
            the rule of Reed, Mallett and Brennan (IEEE Trans. AES 10(6), 1974) for a loss of 3 dB. The default ring
            of 400 pixels does so for 200 bands.

    Raises:
        ValueError: On making it, an even window, or inner >= outer. On calling it, a scene smaller than the outer
            window, NaN, or a ring in which no band varies.

    Cost: per pixel, 2 (inner + outer) C^2 + C^3 / 6 multiplications, since only what enters and leaves the ring is summed;
    with fewer ring pixels than bands outer^2 C^2 + C^3. Memory stays near 256 MiB, besides two copies of the cube in float64.

    Source: I. S. Reed and X. Yu, IEEE Trans. ASSP 38(10), 1990; the dual window: H. Kwon, S. Z. Der and N. M.
    Nasrabadi, Optical Engineering 42(11), 2003.

    Example:
        >>> cube = torch.randn(1, 3, 15, 15, generator=torch.Generator().manual_seed(0))
        >>> cube[0, :, 4, 7] += 20
        >>> int(LRX(inner=3, outer=9)(cube).argmax()) == 4 * 15 + 7
        True
    """

    inner: int = 15
    outer: int = 25

    def __post_init__(self) -> None:
        DualWindow(self.inner, self.outer)

    @property
    def halo(self) -> int:  # type: ignore[override]
        """Rows that the outer window needs."""
        return DualWindow(self.inner, self.outer).halo

    def score(self, cube: torch.Tensor, state: object, left_out: torch.Tensor | None) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0; NaN where fewer than two pixels of a ring count."""
        return DualWindow(self.inner, self.outer).scores(checked(cube), _mahalanobis, left_out)


def _mahalanobis(
    image: Image, centre: torch.Tensor, sums: RingSums, whiten: Whiten
) -> tuple[torch.Tensor, torch.Tensor]:
    scatter = sums.scatter()
    flat = ~(scatter.diagonal(dim1=1, dim2=2) > 0).any(1)
    if bool(flat.any()):
        if not image.leaves_out:
            raise ValueError(
                f"no band varies around {int(flat.sum())} pixels, so there is nothing to measure a distance in. "
                "Give a larger outer window, or cut the constant part of the scene away."
            )
        scatter[flat] = torch.eye(scatter.shape[1]).to(scatter)
    white, certain = whiten(scatter, (image.pixels[centre] - sums.mean())[:, :, None])
    return ((sums.count - 1) * white.square().sum((1, 2))).masked_fill(flat, torch.nan), certain
