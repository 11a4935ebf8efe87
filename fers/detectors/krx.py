"""Kernel RX: RX in the feature space of a Gaussian kernel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch

from fers.detectors.base import StripDetector, Where
from fers.detectors.windows import checked

_PIXELS_AT_A_TIME = 1 << 12


class BackgroundSample(NamedTuple):
    """Pixels drawn from a scene: of those seen so far, the first in the order of the draw.

    Attributes:
        turn: ``(N, M)`` their turns in the draw, rising.
        pixels: ``(N, M, C)`` float64.
        wanted: Most pixels that are drawn from the whole scene.
    """

    turn: torch.Tensor
    pixels: torch.Tensor
    wanted: torch.Tensor

    @classmethod
    def of(cls, cube: torch.Tensor, turn: torch.Tensor, left_out: torch.Tensor | None, wanted: int) -> BackgroundSample:
        """Draw the first ``wanted`` pixels of a cube ``(N, C, H, W)`` by their turns, ``(H W,)``."""
        turns, pixels = [], []
        for number, image in enumerate(cube):
            counts = (
                torch.ones_like(turn, dtype=torch.bool)
                if left_out is None
                else ~left_out[number].flatten().to(turn.device)
            )
            there = counts.nonzero()[:, 0]
            first = there[turn[there].argsort()[:wanted]]
            turns.append(turn[first])
            pixels.append(image.flatten(1).T[first.to(cube.device)])
        return cls(torch.stack(turns), torch.stack(pixels), torch.tensor(wanted))

    def combine(self, other: BackgroundSample) -> BackgroundSample:
        """Keep the first ``wanted`` pixels of both."""
        turn, order = torch.cat([self.turn, other.turn], 1).sort(1)
        pixels = torch.cat([self.pixels, other.pixels], 1)
        pixels = pixels.gather(1, order.to(pixels.device)[:, :, None].expand_as(pixels))
        return BackgroundSample(turn[:, : int(self.wanted)], pixels[:, : int(self.wanted)], self.wanted)


class Kernels(NamedTuple):
    """Background of one image as KRX uses it: its pixels, bandwidth, and the projection to whitened kernel space."""

    pixels: torch.Tensor
    bandwidth: float
    column_mean: torch.Tensor
    project: torch.Tensor


@dataclass(frozen=True)
class KRX(StripDetector):
    """Global kernel RX on a sample of the background: ``(M - 1) k^T K^+ K^+ k``.

    The kernel is ``exp(-||x - y||^2 / (2 s^2))``. K ``(M, M)`` is the kernel matrix of M background pixels, and k
    ``(M,)`` the kernels between the pixel and them, both centred in feature space. With the kernel ``x^T y`` this is
    RX itself, with the unbiased covariance of the sample: the pseudo-inverse of the covariance in feature space has
    K's eigenvalues squared, as its eigenvectors are normalised there. The form with a single inverse, ``k^T K^+ k``, is
    often printed and coded. With the kernel ``x^T y`` it is the squared distance from the mean, whatever the
    covariance, so it is not RX.
    The background pixels are drawn from the whole scene without replacement; a scene of at most ``samples`` pixels is
    used whole. Nothing is local, so any scene of two pixels or more will do.
    What lies outside the span of the background's kernels does not count. So a pixel much farther from all of the
    background than s, whose kernels are all near zero, need not score high: a bandwidth too small hides it.

    Args:
        samples: M.
        bandwidth: s, in the cube's units; 0 takes the median distance between two different background pixels.
        rtol: Eigenvalues of K below ``rtol`` of the largest are dropped. It bounds the rank. If all of them stayed,
            every background pixel would have the same score.
        seed: Seed of the draw, the same for each image.

    Raises:
        ValueError: On making it, fewer than two samples, or a bandwidth or rtol out of range. On calling it, NaN,
            background pixels that are all the same, or so few that each would get the same score.


    Cost: M^3 once per image and M (C + M) per pixel; memory stays near 256 MiB (M = 1000), besides the cube in float64.

    Source: H. Kwon and N. M. Nasrabadi, Kernel RX-Algorithm, IEEE TGRS 43(2), 2005. The paper takes the ring of a dual
    window for the background; the global sample is the form that the benchmarks use, for its speed.

    Example:
        >>> cube = torch.randn(1, 3, 15, 15, generator=torch.Generator().manual_seed(0))
        >>> cube[0, :, 4, 7] += 4
        >>> int(KRX(bandwidth=5.0)(cube).argmax()) == 4 * 15 + 7
        True
    """

    samples: int = 1000
    bandwidth: float = 0.0
    rtol: float = 1e-5
    seed: int = 0
    statistics = BackgroundSample

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"{self.samples} background pixels have no covariance. Give 2 or more.")
        if not self.bandwidth >= 0:
            raise ValueError(f"the bandwidth is {self.bandwidth:g}. Give one above 0, or 0 for the median distance.")
        if not 0 < self.rtol < 1:
            raise ValueError(f"rtol is {self.rtol:g}. Give a fraction between 0 and 1.")

    def collect(self, cube: torch.Tensor, left_out: torch.Tensor | None, where: Where) -> BackgroundSample:
        """Draw the pixels of a strip that may be in the sample; how the scene is cut does not change the draw."""
        cube = checked(cube)
        rows, width = cube.shape[2:]
        turn = _turns(self.seed, where.height * width)[where.row * width :][: rows * width]
        return BackgroundSample.of(cube, turn, left_out, self.samples)

    def fit(self, statistics: BackgroundSample, where: Where) -> list[Kernels]:
        """Compute the kernels of each image's background."""
        return [self._kernels(pixels) for pixels in statistics.pixels]

    def score(self, cube: torch.Tensor, state: list[Kernels], left_out: torch.Tensor | None) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0."""
        images = zip(checked(cube), state, strict=True)
        return torch.stack(
            [_kernel_distances(image.flatten(1).T, kernels).view(image.shape[1:]) for image, kernels in images]
        )

    def _kernels(self, background: torch.Tensor) -> Kernels:
        if len(background) < 2:
            raise ValueError(f"{len(background)} pixel(s) are left for the background; KRX needs 2 or more.")
        squared = _squared_distances(background, background)
        bandwidth = self.bandwidth or _median_distance(squared)
        kernel = torch.exp(squared / (-2 * bandwidth**2))
        column_mean = kernel.mean(0)
        centred = kernel - column_mean - column_mean[:, None] + kernel.mean()
        values, vectors = torch.linalg.eigh(centred)
        kept = values > self.rtol * values[-1]
        if int(kept.sum()) >= len(background) - 1:
            raise ValueError(
                f"{len(background)} background pixels span {len(background) - 1} dimensions of kernel space; each of them "
                "would get the same score. Use more pixels (a larger scene, or samples), fewer bands, or a larger rtol."
            )
        return Kernels(
            background, bandwidth, column_mean, vectors[:, kept] / values[kept] * (len(background) - 1) ** 0.5
        )


def _kernel_distances(pixels: torch.Tensor, kernels: Kernels) -> torch.Tensor:
    background, column_mean, project = (tensor.to(pixels.device) for tensor in (kernels.pixels, *kernels[2:]))
    scores = pixels.new_empty(len(pixels))
    for block, out in zip(pixels.split(_PIXELS_AT_A_TIME), scores.split(_PIXELS_AT_A_TIME), strict=True):
        k = torch.exp(_squared_distances(block, background) / (-2 * kernels.bandwidth**2))
        # centring by the pixel's own mean is left out: the eigenvectors sum to zero
        out.copy_(((k - column_mean) @ project).square().sum(1))
    return scores


@lru_cache(maxsize=2)
def _turns(seed: int, pixels: int) -> torch.Tensor:
    """Turn of each pixel of a scene in the draw, ``(pixels,)``."""
    return torch.randperm(pixels, generator=torch.Generator().manual_seed(seed)).argsort()


def _squared_distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Squared distances ``(P, M)`` between the rows of ``(P, C)`` and ``(M, C)``."""
    centre = b.mean(0)  # small numbers lose fewer digits in the difference
    a, b = a - centre, b - centre
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)


def _median_distance(squared: torch.Tensor) -> float:
    pairs = squared[tuple(torch.triu_indices(len(squared), len(squared), 1, device=squared.device))].sqrt()
    median = float(pairs[pairs > 0].median()) if bool((pairs > 0).any()) else 0.0
    if median == 0:
        raise ValueError(
            "all background pixels are the same; there is nothing to measure a distance in. Check the cube."
        )
    return median
