"""RD4AD's score: how far a decoder, distilled on background, departs from the encoder's features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch.nn import functional as F

from fers.detectors.trained import check_cube

SIGMA = 4.0  # px
_TRUNCATE = 4.0  # standard deviations of the Gaussian filter

Scales = Sequence[torch.Tensor]
"""Features at several scales, ``(N, C_i, H_i, W_i)`` each."""


class Distillation(Protocol):
    """The trained networks, from cubes ``(N, C, H, W)`` to the encoder's and the decoder's features.

    Attributes:
        padding: Border in pixels that is added to the cube; it is cut off the maps.
        multiple: Sides are multiples of it. Other cubes are reflected at their lower and right end.
    """

    padding: int
    multiple: int

    def __call__(self, cube: torch.Tensor, /) -> tuple[Scales, Scales]:
        """Compute the features."""
        ...


def anomaly_maps(encoder: Scales, decoder: Scales, size: tuple[int, int]) -> torch.Tensor:
    """Compute 1 - cosine over channels at every position, for each scale.

    Args:
        encoder: Features of the encoder.
        decoder: Features of the decoder, of the same shapes.
        size: (H, W) that the maps are resized to, bilinearly, corners on corners.

    Returns:
        ``(N, scales, H, W)`` in [0, 2].
    """
    maps = [1 - F.cosine_similarity(f, g)[:, None] for f, g in zip(encoder, decoder, strict=True)]
    return torch.cat([F.interpolate(m, size, mode="bilinear", align_corners=True) for m in maps], dim=1)


def gaussian(score: torch.Tensor, sigma: float = SIGMA) -> torch.Tensor:
    """Filter maps by a Gaussian, as ``scipy.ndimage.gaussian_filter`` does by default.

    The filter ends at 4 standard deviations. Beyond a border the map is reflected, its last pixel repeated.

    Args:
        score: ``(N, H, W)``.
        sigma: Standard deviation in pixels; 0 leaves the maps as they are.
    """
    if sigma == 0:
        return score
    rows, columns = (_smoothing(n, sigma).to(score) for n in score.shape[1:])
    return rows @ score @ columns.T


class RD4AD:
    """Reverse distillation as a detector.

    The maps of all scales are summed, then filtered. With 4 px the filter is wider than targets of a few pixels.

    Args:
        network: The trained encoder and decoder, such as ``fers.networks.rd4ad.RD4ADNetwork``.
        sigma: Standard deviation of the Gaussian filter, px.

    Raises:
        ValueError: ``sigma`` is negative.

    Source: Deng and Li, "Anomaly Detection via Reverse Distillation From One-Class Embedding", CVPR 2022, 9737-9746.

    Example:
        >>> class Halves:
        ...     padding, multiple = 0, 2
        ...
        ...     def __call__(self, cube):
        ...         return [F.avg_pool2d(cube, 2)], [F.max_pool2d(cube, 2)]
        >>> RD4AD(Halves())(torch.rand(1, 5, 31, 40)).shape
        torch.Size([1, 31, 40])
    """

    def __init__(self, network: Distillation, sigma: float = SIGMA):
        if not sigma >= 0:
            raise ValueError(f"RD4AD: sigma is at least 0 px; got {sigma}.")
        self.network, self.sigma = network, sigma

    def __call__(self, cube: torch.Tensor) -> torch.Tensor:
        """Score cubes by the filtered sum of the scales' maps.

        Args:
            cube: ``(N, C, H, W)`` as the networks were trained on.

        Returns:
            ``(N, H, W)``, >= 0. Higher is more anomalous.

        Raises:
            ValueError: The cube has another number of axes, holds NaN or infinity, or is too small to be reflected.
        """
        check_cube("RD4AD", cube)
        height, width = cube.shape[-2:]
        border, multiple = self.network.padding, self.network.multiple
        bottom, right = (-n % multiple for n in (height, width))
        smallest = max(bottom, right, border) + 1
        if min(height, width) < smallest:
            raise ValueError(
                f"RD4AD: a scene of {height} x {width} px cannot be reflected to sides that are multiples of "
                f"{multiple} px. Give a cut of at least {multiple // 2 + 1} px on each side."
            )
        encoder, decoder = self.network(F.pad(cube.float(), [0, right, 0, bottom], mode="reflect"))
        size = height + bottom + 2 * border, width + right + 2 * border
        maps = anomaly_maps(encoder, decoder, size)[:, :, border : border + height, border : border + width]
        return gaussian(maps.sum(1), self.sigma)


def _smoothing(n: int, sigma: float) -> torch.Tensor:
    """Filter of n samples as an ``(n, n)`` matrix, float64."""
    radius = int(_TRUNCATE * sigma + 0.5)
    kernel = torch.tensor([math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)], dtype=torch.float64)
    # reflected samples fold back: n, n + 1, ... are n - 1, n - 2, ..., and all repeats every 2 n
    source = (torch.arange(n)[:, None] + torch.arange(-radius, radius + 1)) % (2 * n)
    source = torch.where(source < n, source, 2 * n - 1 - source)
    weights = (kernel / kernel.sum()).expand(n, -1)
    return torch.zeros(n, n, dtype=torch.float64).scatter_add_(1, source, weights)
