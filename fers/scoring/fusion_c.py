"""Fusion C, this project's own: no row of the paper has it. It needs Spe-FEN only, trained or not, and any bands.

The paper's second branch looks for what the spectral one misses in space. Here local statistics of the cube do
that. No single rank and window is chosen: the logarithms of the distances are averaged over several.

    C = 1/2 (log D(H + F_spe) + mean_k log d_k(H)) + mean_w mean_j log d_jw(H)

- D is the detector's map.
- d_k is the squared Mahalanobis distance in the k leading principal components of H, k = 10, 20, 40, 80.
- d_jw is the same in the j leading components, j = 1 ... 16, against the pixel's own surroundings: mean and
  covariance between an inner and an outer square window, w = (5, 15) and (15, 35) pixels.

A sum of logarithms is a product of maps that needs no scaling: no map's extreme value changes another's weight.
docs/beyond.md has what each part brings.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fers.detectors.background import Background, Components, Moments
from fers.detectors.base import StripDetector, Where
from fers.detectors.local_pc import RingCovariance, Windows, ring_sums
from fers.detectors.windows import checked

WINDOWS: Windows = ((5, 15), (15, 35))  # outer = 2 inner + 5; the next inner one is the last outer one
LOCAL_RANK = 16
GLOBAL_RANKS = (10, 20, 40, 80)  # or all components instead of a rank that is above their number
RIDGE = 1e-3  # added to the local covariance, in units of the scene's variance along each component

_LEAST = 1e-12  # of a distance, before its logarithm


class LogDistances(StripDetector):
    """All of fusion C except the detector's map: ``1/2 mean_k log d_k(H) + mean_w mean_j log d_jw(H)``.

    Windows are at most as large as the scene's shorter side.

    Raises:
        ValueError: A value is NaN or infinite, no band varies, or the scene has no room for the smallest window.

    Source: this project; no paper. Its local term is ``fers.detectors.local_pc.LRXPC``'s distance, at several ranks and windows.
    """

    statistics = Moments
    halo = WINDOWS[-1][1] // 2

    def collect(self, cube: torch.Tensor, left_out: torch.Tensor | None, where: Where) -> Moments:
        """Compute the moments from which the components come."""
        return Moments.of(cube, left_out)

    def fit(self, statistics: Moments, where: Where) -> tuple[list[Components], int]:
        """Compute the components of each image; return them with the scene's height."""
        return Background.from_moments([statistics]).components(GLOBAL_RANKS[-1]), where.height

    def score(
        self, cube: torch.Tensor, state: tuple[list[Components], int], left_out: torch.Tensor | None
    ) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, of either sign: a mean of logarithms."""
        components, height = state
        windows = windows_for(height, cube.shape[3])
        outs = [None] * len(cube) if left_out is None else list(left_out)
        images = cube if left_out is None else cube.masked_fill(left_out[:, None] & ~cube.isfinite(), 0)
        maps = []
        for image, own, out in zip(images, components, outs, strict=True):
            z = own(image)
            checked(z[None, :1])
            maps.append(self.of_components(z, windows, out))
        return torch.stack(maps)

    def of_components(self, z: torch.Tensor, windows: Windows, left_out: torch.Tensor | None) -> torch.Tensor:
        """Score whitened components ``(r, H, W)`` to ``(H, W)``."""
        return global_log_distance(z) / 2 + local_log_distance(z[:LOCAL_RANK], windows, left_out)


def join(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join the detector's map and that of ``LogDistances``, ``(N, H, W)`` each, to fusion C."""
    scored, others = maps
    return log_of(scored.to(others)) / 2 + others


def windows_for(height: int, width: int) -> Windows:
    """Fit ``WINDOWS`` into a scene: an outer window is at most the scene's shorter side."""
    side = (min(height, width) - 1) // 2 * 2 + 1
    fitting = tuple((inner, min(outer, side)) for inner, outer in WINDOWS if inner < side)
    if not fitting:
        raise ValueError(f"{height} x {width} px; fusion C needs more than {WINDOWS[0][0]} px on each side.")
    return fitting


def global_log_distance(z: torch.Tensor) -> torch.Tensor:
    """Average the logarithm of the squared length of whitened components over ``GLOBAL_RANKS``.

    Args:
        z: ``(r, H, W)``, the largest variance first.

    Returns:
        ``(H, W)``.
    """
    total, logs, start = z.new_zeros(z.shape[1:]), [], 0
    for stop in GLOBAL_RANKS:
        if start < len(z):
            total = total + z[start:stop].square().sum(0)
            logs.append(log_of(total))
        start = stop
    return torch.stack(logs).mean(0)


def local_log_distance(z: torch.Tensor, windows: Windows, left_out: torch.Tensor | None = None) -> torch.Tensor:
    """Average the logarithm of the squared Mahalanobis distance from a pixel's surroundings over ranks and windows.

    Mean and covariance are those of the pixels between the two windows. Where pixels are left out and fewer than p + 2
    remain, the whole scene's mean and covariance stand in.

    Args:
        z: ``(p, H, W)`` float64, whitened components, the largest variance first.
        windows: Windows as in ``ring_sums``.
        left_out: ``(H, W)``, True = not among the surroundings.

    Returns:
        ``(H, W)``.
    """
    maps = []
    for own, rings in ring_sums(z, windows, left_out):
        logs = []
        for sums in rings:
            few, ring = sums[0].round() < len(z) + 2, RingCovariance.of(sums, len(z))
            if bool(few.any()):
                ring.mean.masked_fill_(few, 0)
                for column in ring.columns:
                    column.masked_fill_(few, 0)[0].masked_fill_(few, 1 - RIDGE)
            total = torch.zeros_like(own[0])
            for distance in ring.distances(own, RIDGE):
                total += log_of(distance)
            logs.append(total / len(z))
        maps.append(torch.stack(logs).mean(0))
    return torch.cat(maps)


def log_of(distance: torch.Tensor) -> torch.Tensor:
    """Take the natural logarithm of a distance, which may be zero."""
    return distance.clamp_min(_LEAST).log()
