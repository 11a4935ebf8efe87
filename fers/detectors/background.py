"""The statistics of a background: what RX and its kin measure distances against.

Moments are taken block by block in float64 and combined in pairs, so a scene is read once and never needs to fit into
memory. Every block is measured from its own mean: one sum over all pixels would lose the digits that a nearly singular
covariance brings to light.

Source: T. F. Chan, G. H. Golub and R. J. LeVeque, Algorithms for Computing the Sample Variance, The American Statistician
37(3), 1983.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

BLOCK = {"cpu": 1 << 12, "cuda": 1 << 15}  # pixels in a block: bounds the float64 copy of a large scene
_TERMS = 1 << 9  # of a sum at a time: longer plain sums lose a digit that the inverse brings to light
_ROWS = 48  # of a symmetric or triangular matrix at a time, so that half of it need not be computed; measured on CPUs


class Moments(NamedTuple):
    """Sums over some pixels of N images. Those of two sets of pixels can be combined.

    Attributes:
        samples: Number of pixels, ``(N,)``.
        mean: ``(N, B)`` float64.
        scatter: Sum of the outer products of the pixels less their mean, ``(N, B, B)`` float64. Only its lower triangle
            means anything: the upper one is its mirror image.
    """

    samples: torch.Tensor
    mean: torch.Tensor
    scatter: torch.Tensor

    def combine(self, other: Moments) -> Moments:
        """The moments of both sets of pixels together."""
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"blocks of {self.mean.shape[-1]} and of {other.mean.shape[-1]} bands. All need the same bands."
            )
        samples = self.samples + other.samples
        share = (other.samples.double() / samples.clamp_min(1))[:, None]
        step = other.mean - self.mean
        between = (step * share * self.samples[:, None])[:, :, None] * step[:, None]
        return Moments(samples, self.mean + step * share, self.scatter + other.scatter + between)


@dataclass(frozen=True)
class Background:
    """What RX measures against: computed once, it scores any number of cubes of the same bands.

    Attributes:
        mean: ``(N, B)`` float64.
        covariance: ``(N, B, B)`` float64, unbiased.
        samples: ``(N,)``, the pixels that each covariance was estimated from; None for one that came from elsewhere.

    Example:
        >>> rows = torch.randn(1, 5, 64, 64)  # of a flight line, read a few at a time
        >>> background = Background.from_blocks(rows[:, :, top : top + 16] for top in range(0, 64, 16))
        >>> background.mean.shape, background.covariance.shape, int(background.samples)
        (torch.Size([1, 5]), torch.Size([1, 5, 5]), 4096)
    """

    mean: torch.Tensor
    covariance: torch.Tensor
    samples: torch.Tensor | None = None

    @classmethod
    def from_cube(cls, cube: torch.Tensor, mask: torch.Tensor | np.ndarray | None = None) -> Background:
        """Mean and unbiased covariance of each image.

        Args:
            cube: ``(N, C, H, W)`` of any real type.
            mask: Pixels to leave out, True = left out: ``(H, W)``, or ``(N, H, W)``. They may be NaN.

        Returns:
            The statistics, on the cube's device (on the CPU where the device has no float64).

        Raises:
            ValueError: Shapes do not fit, a value used is NaN or infinite, or fewer than two pixels are left.
        """
        pixels = pixels_of(cube)
        size = BLOCK.get(pixels.device.type, BLOCK["cpu"])
        blocks = tqdm(pixels.split(size, dim=2), "background", unit="block", leave=False, disable=None, delay=2)
        if mask is None:
            return cls.from_moments(map(moments, blocks))
        left_out = _left_out(mask, cube.shape, pixels.device)
        return cls.from_moments(map(moments, blocks, left_out.split(size, dim=1)))

    @classmethod
    def from_blocks(cls, blocks: Iterable[torch.Tensor | np.ndarray]) -> Background:
        """Mean and unbiased covariance of one scene that comes in blocks, each read once and then let go.

        How the scene is cut changes the result by rounding only. To share the work, compute ``moments`` of the blocks
        anywhere and give them, in the order of the blocks, to ``from_moments``.

        Args:
            blocks: Each ``(pixels, B)`` or ``(1, C, h, w)``. Leave pixels without data out of the first form.

        Raises:
            ValueError: A block has another shape or other bands, a value is NaN or infinite, or there are fewer than two
                pixels.
        """
        return cls.from_moments(moments(_block(block)) for block in blocks)

    @classmethod
    def from_moments(cls, parts: Iterable[Moments]) -> Background:
        """The statistics of all pixels of these parts, combined in pairs in the order in which they come.

        The result depends, to the last bit, on the parts and their order only.
        """
        pending: list[tuple[int, Moments]] = []  # a sum of 2^k parts for each binary digit of how many came
        for part in parts:
            count = 1
            while pending and pending[-1][0] == count:
                count, part = 2 * count, pending.pop()[1].combine(part)
            pending.append((count, part))
        if not pending:
            raise ValueError("no block of pixels came. RX needs many more pixels than bands.")
        samples, mean, scatter = reduce(lambda right, left: left.combine(right), [part for _, part in pending[::-1]])
        if int(samples.min()) < 2:
            raise ValueError(f"{int(samples.min())} pixels are left for the background; RX needs many more than bands.")
        covariance = scatter.tril() / (samples - 1)[:, None, None]
        covariance += covariance.tril(-1).mT
        if not (mean.isfinite().all() and covariance.diagonal(dim1=1, dim2=2).isfinite().all()):
            raise ValueError("the cube holds NaN or infinite values. Leave those pixels out with a mask, or mend them.")
        return cls(mean, covariance, samples)


def moments(pixels: torch.Tensor, left_out: torch.Tensor | None = None) -> Moments:
    """The moments of one block.

    Args:
        pixels: ``(N, B, pixels)`` of any real type.
        left_out: ``(N, pixels)`` bool, True for pixels that do not count; they may be NaN.
    """
    n, bands, count = pixels.shape
    if left_out is None:
        samples = torch.full((n,), count, device=pixels.device)
        origin = pixels[:, :, :1].double()
    else:
        samples = count - left_out.sum(1)
        first = left_out.logical_not().byte().argmax(1)  # 0 where all are left out
        origin = pixels.gather(2, first[:, None, None].expand(n, bands, 1)).double()
        origin.masked_fill_(samples[:, None, None] == 0, 0.0)

    def without(x: torch.Tensor) -> torch.Tensor:
        return x if left_out is None else x.masked_fill_(left_out[:, None], 0.0)

    # measured from one of its own pixels, a constant band has a variance of exactly zero, not of a rounding error
    x = without(pixels.to(torch.float64, copy=True).sub_(origin))
    offset = x.sum(2, keepdim=True) / samples.clamp_min(1)[:, None, None]
    x = without(x.sub_(offset))
    scatter = x.new_zeros(n, bands, bands)
    whole = count // _TERMS * _TERMS
    for parts in (x[:, :, :whole].unflatten(2, (-1, _TERMS)).movedim(2, 1), x[:, None, :, whole:]):
        for rows in row_blocks(bands, x.device) if parts.numel() else ():
            scatter[:, rows, : rows.stop] += (parts[:, :, rows] @ parts[:, :, : rows.stop].mT).sum(1)
    return Moments(samples, (origin + offset)[:, :, 0], scatter)


def row_blocks(rows: int, device: torch.device) -> list[slice]:
    """The rows of a lower triangular matrix, some at a time on CPUs: right of a block's last row there are zeros."""
    size = _ROWS if device.type == "cpu" else rows
    stops = [*range(size, rows - size // 2, size), rows]
    return [slice(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def pixels_of(cube: torch.Tensor) -> torch.Tensor:
    """``(N, C, H, W)`` as ``(N, C, pixels)``, on a device that has float64."""
    if not isinstance(cube, torch.Tensor) or cube.ndim != 4:
        raise ValueError(f"a cube is a tensor N x C x H x W; got {type(cube).__name__} {tuple(np.shape(cube))}.")
    return (cube.cpu() if cube.device.type == "mps" else cube).flatten(2)


def _left_out(mask: torch.Tensor | np.ndarray, shape: torch.Size, device: torch.device) -> torch.Tensor:
    """A mask as ``(N, pixels)`` bool."""
    mask, (n, _, height, width) = torch.as_tensor(mask, device=device).bool(), shape
    if tuple(mask.shape) not in ((height, width), (n, height, width)):
        raise ValueError(f"the mask is {tuple(mask.shape)}; the image is {height} x {width}.")
    return mask.expand(n, height, width).flatten(1)


def _block(block: torch.Tensor | np.ndarray) -> torch.Tensor:
    """A block of ``from_blocks`` as ``(1, B, pixels)``."""
    block = torch.as_tensor(block)
    if block.ndim == 2:
        return block.T[None]
    if block.ndim != 4 or len(block) != 1:
        raise ValueError(f"a block is pixels x B or 1 x C x h x w; got {tuple(block.shape)}.")
    return pixels_of(block)
