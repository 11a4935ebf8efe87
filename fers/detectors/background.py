"""Statistics of a background, against which RX and related detectors measure distances.

Moments are taken block by block in float64 and combined in pairs, so a scene is read once and never needs to fit into
memory. Every block is measured from its own mean: one sum over all pixels would lose the digits that a nearly singular
covariance brings to light.

The covariance of a hyperspectral scene is nearly singular: condition numbers of 1e8 to 5e9 on the ABU scenes. So all is
float64, and there is one rank rule (``sound``) for every inverse. Single precision, a ridge or a looser cut changes the third
digit of the AUC.

Source: T. F. Chan, G. H. Golub and R. J. LeVeque, Algorithms for Computing the Sample Variance, The American Statistician
37(3), 1983.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from fers.detectors.base import Sum, with_float64

BLOCK = {"cpu": 1 << 12, "cuda": 1 << 15}  # pixels in a block: bounds the float64 copy of a large scene
_TERMS = 1 << 9  # of a sum at a time: longer plain sums lose a digit that the inverse brings to light
_CHOLESKY_MARGIN = 10  # how far above the rank rule's cut the smallest eigenvalue must be for Cholesky
_MATRIX_ROWS = (
    48  # of a symmetric or triangular matrix at a time, so that half of it need not be computed; measured on CPUs
)


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

    @classmethod
    def of(cls, cube: torch.Tensor, left_out: torch.Tensor | np.ndarray | None = None) -> Moments:
        """Compute the moments of a cube ``(N, C, H, W)`` block by block; see ``Background.from_cube``."""
        pixels = pixels_of(cube)
        size = BLOCK.get(pixels.device.type, BLOCK["cpu"])
        blocks = tqdm(pixels.split(size, dim=2), "background", unit="block", leave=False, disable=None, delay=2)
        if left_out is None:
            parts = map(moments, blocks)
        else:
            parts = map(moments, blocks, _pixels_left_out(left_out, cube.shape, pixels.device).split(size, dim=1))
        return Sum(parts).total()

    def combine(self, other: Moments) -> Moments:
        """Moments of both sets of pixels together."""
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
    """Mean and covariance against which RX measures any number of cubes of the same bands.

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
    def from_cube(cls, cube: torch.Tensor, left_out: torch.Tensor | np.ndarray | None = None) -> Background:
        """Compute mean and unbiased covariance of each image.

        Args:
            cube: ``(N, C, H, W)`` of any real type.
            left_out: Pixels that do not count, True = left out: ``(H, W)``, or ``(N, H, W)``. They may be NaN.

        Returns:
            The statistics, on the cube's device (on the CPU where the device has no float64).

        Raises:
            ValueError: Shapes do not fit, a value used is NaN or infinite, or fewer than two pixels are left.
        """
        return cls.from_moments([Moments.of(cube, left_out)])

    @classmethod
    def from_blocks(cls, blocks: Iterable[torch.Tensor | np.ndarray]) -> Background:
        """Compute mean and unbiased covariance of one scene from blocks, each of which is read once.

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
        """Combine the statistics of all parts, in the order in which they come."""
        samples, mean, scatter = Sum(parts).total()
        if int(samples.min()) < 2:
            raise ValueError(f"{int(samples.min())} pixels are left for the background; RX needs many more than bands.")
        covariance = scatter.tril() / (samples - 1)[:, None, None]
        covariance += covariance.tril(-1).mT
        if not (mean.isfinite().all() and covariance.diagonal(dim1=1, dim2=2).isfinite().all()):
            raise ValueError("the cube holds NaN or infinite values. Leave those pixels out, or replace their values.")
        return cls(mean, covariance, samples)

    def components(self, most: int) -> list[Components]:
        """Compute the leading principal components of each image, at most ``most``.

        Raises:
            ValueError: No band of an image varies.
        """
        return [
            Components.of(mean, covariance, most) for mean, covariance in zip(self.mean, self.covariance, strict=True)
        ]

    def contributions(self, spectrum: np.ndarray) -> np.ndarray:
        """Split the RX score of a spectrum of the first image into one term for each band.

        The difference from the mean is whitened by the inverse square root of the correlation matrix, which turns each band
        as little as possible. The squares belong to bands and sum to the score.

        Args:
            spectrum: ``(B,)``.

        Returns:
            ``(B,)`` float64, >= 0; their sum is the RX score.

        Source: A. Kessy, A. Lewin, K. Strimmer, Optimal whitening and decorrelation, 2018 (ZCA-cor).
        """
        correlation, inverse_std = _correlation(self.covariance[:1])
        values, vectors = torch.linalg.eigh(correlation[0])
        kept = sound(values)
        values, vectors = values[kept], vectors[:, kept]
        standardised = (torch.from_numpy(spectrum) - self.mean[0]) * inverse_std[0]
        return (vectors @ ((vectors.T @ standardised) / values.sqrt())).square().numpy()


@dataclass(frozen=True)
class Components:
    """The leading principal components of a scene, whitened.

    Attributes:
        mean: ``(C,)`` float64.
        whitening: ``(r, C)`` float64: rows are the leading eigenvectors of the covariance, the largest variance first,
            each divided by its standard deviation. Their signs are arbitrary.
    """

    mean: torch.Tensor
    whitening: torch.Tensor

    @classmethod
    def of(cls, mean: torch.Tensor, covariance: torch.Tensor, most: int) -> Components:
        """Compute at most ``most`` components from a mean ``(C,)`` and a covariance ``(C, C)``, both float64.

        There are fewer where the rank is lower.

        Raises:
            ValueError: No band varies.
        """
        values, vectors = torch.linalg.eigh(covariance)
        if not float(values[-1]) > 0:
            raise ValueError("no band of this cube varies; there is nothing to measure a distance in.")
        rank = min(int(sound(values).sum()), most)
        values, vectors = values[-rank:].flip(0), vectors[:, -rank:].flip(1)
        return cls(mean, (vectors / values.sqrt()).T)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Project ``(C, H, W)`` of any real type to ``(r, H, W)`` float64, of zero mean and unit variance over the scene.

        A pixel with a value that is not finite becomes NaN or infinite in every component.
        """
        pixels = with_float64(image).flatten(1)
        mean, whitening = self.mean.to(pixels.device), self.whitening.to(pixels.device)
        size, offset = BLOCK.get(pixels.device.type, BLOCK["cpu"]), (-whitening @ mean)[:, None]
        parts = [torch.addmm(offset, whitening, part.double()) for part in pixels.split(size, dim=1)]
        return torch.cat(parts, dim=1).view(-1, *image.shape[1:])


def sound(eigenvalues: torch.Tensor) -> torch.Tensor:
    """Tell which eigenvalues of a covariance count: the rank rule.

    Those above ``B * eps`` of the largest do; rounding decides the others.

    Args:
        eigenvalues: ``(..., B)`` float64, rising.

    Returns:
        Bool, of the same shape.
    """
    cut = eigenvalues.shape[-1] * torch.finfo(eigenvalues.dtype).eps
    return eigenvalues > cut * eigenvalues[..., -1:].clamp_min(0)


def whitening(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Compute matrices W such that ``W^T W`` is the pseudo-inverse of the covariance by the rank rule.

    The rule is applied to the correlation matrix. Bands of zero variance are dropped, and the others are standardised,
    which changes no distance. Where the rule
    certainly drops no eigenvalue, a Cholesky factorisation gives the same distances in less time.

    Args:
        covariance: ``(N, B, B)`` float64.

    Returns:
        W ``(N, B, B)``, each one's rank ``(N,)``, and whether all are lower triangular.

    Raises:
        ValueError: No band of a background varies.
    """
    correlation, inverse_std = _correlation(covariance)
    varying = inverse_std > 0
    if not bool(varying.any(1).all()):
        raise ValueError("no band of this background varies; there is nothing to measure a distance in.")
    bands = covariance.shape[1]
    cut = bands * torch.finfo(torch.float64).eps  # of the largest eigenvalue, which is at most B

    # The largest eigenvalue of the inverse is at most its trace: a bound on the smallest eigenvalue that costs nothing.
    factor, failed = torch.linalg.cholesky_ex(correlation + torch.diag_embed((~varying).double()))
    identity = torch.eye(bands, dtype=torch.float64, device=covariance.device).expand_as(factor)
    inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
    certain = (failed == 0) & (inverse.square().sum((1, 2)) * (_CHOLESKY_MARGIN * cut * bands) < 1)
    if bool(certain.all()):
        return inverse * inverse_std[:, None, :], varying.sum(1), True

    eigenvalues, eigenvectors = torch.linalg.eigh(correlation)
    kept = sound(eigenvalues)
    scale = torch.where(kept, eigenvalues.clamp_min(cut * eigenvalues[:, -1:]).rsqrt(), 0.0)
    return scale[:, :, None] * eigenvectors.mT * inverse_std[:, None, :], kept.sum(1), False


def whitened(covariance: torch.Tensor, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Multiply vectors by the matrices W of ``whitening``.

    Args:
        covariance: ``(N, B, B)`` float64.
        vectors: ``(N, B, k)``.

    Returns:
        W times the vectors, ``(N, B, k)``, and whether the rank rule was kept, ``(N,)`` bool: here everywhere.

    Raises:
        ValueError: No band of a background varies.
    """
    return whitening(covariance)[0] @ vectors, torch.ones(len(covariance), dtype=torch.bool, device=covariance.device)


def whitened_where_certain(covariance: torch.Tensor, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Multiply vectors as ``whitened`` does, by one Cholesky solution, and tell where the rank rule drops nothing.

    As in ``whitening``, the trace of the inverse correlation bounds its smallest eigenvalue. Here the trace is estimated
    from eight random vectors; that their mean square is below a hundredth of what is expected has a chance of 1e-7.
    The vectors that are not certain come out as zeros.
    """
    std = covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    if bool((std == 0).any()):
        covariance = covariance + torch.diag_embed((std == 0).to(covariance))
    factor, failed = torch.linalg.cholesky_ex(covariance)
    bands = covariance.shape[1]
    probes = torch.randn(bands, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(covariance)
    both = torch.cat([vectors * (std > 0)[:, :, None], probes * std[:, :, None]], 2)
    white, answers = torch.linalg.solve_triangular(factor, both, upper=False).split([vectors.shape[2], 8], 2)
    trace = answers.square().sum((1, 2)) / 8
    cut = bands * torch.finfo(torch.float64).eps  # of the largest eigenvalue, which is at most B
    certain = (failed == 0) & (trace * (100 * cut * bands) < 1)
    return white.masked_fill(~certain[:, None, None], 0.0), certain


def _correlation(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlation matrices ``(N, B, B)``, and 1 / standard deviation ``(N, B)``; zeros for bands of zero variance."""
    std = covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    inverse_std = torch.where(std > 0, 1 / std, 0.0)
    return covariance * inverse_std[:, :, None] * inverse_std[:, None, :], inverse_std


def moments(pixels: torch.Tensor, left_out: torch.Tensor | None = None) -> Moments:
    """Compute the moments of one block.

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
        for rows in triangle_rows(bands, x.device) if parts.numel() else ():
            scatter[:, rows, : rows.stop] += (parts[:, :, rows] @ parts[:, :, : rows.stop].mT).sum(1)
    return Moments(samples, (origin + offset)[:, :, 0], scatter)


def triangle_rows(rows: int, device: torch.device) -> list[slice]:
    """Cut the rows of a lower triangular matrix into blocks on CPUs: right of a block there are only zeros."""
    size = _MATRIX_ROWS if device.type == "cpu" else rows
    stops = [*range(size, rows - size // 2, size), rows]
    return [slice(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def pixels_of(cube: torch.Tensor) -> torch.Tensor:
    """Flatten ``(N, C, H, W)`` to ``(N, C, pixels)``, on a device that has float64."""
    if not isinstance(cube, torch.Tensor) or cube.ndim != 4:
        raise ValueError(f"a cube is a tensor N x C x H x W; got {type(cube).__name__} {tuple(np.shape(cube))}.")
    return with_float64(cube).flatten(2)


def _pixels_left_out(left_out: torch.Tensor | np.ndarray, shape: torch.Size, device: torch.device) -> torch.Tensor:
    """Check and flatten ``left_out`` to ``(N, pixels)`` bool."""
    out, (n, _, height, width) = torch.as_tensor(left_out, device=device).bool(), shape
    if tuple(out.shape) not in ((height, width), (n, height, width)):
        raise ValueError(f"left_out is {tuple(out.shape)}; the image is {height} x {width}.")
    return out.expand(n, height, width).flatten(1)


def _block(block: torch.Tensor | np.ndarray) -> torch.Tensor:
    """Reshape a block of ``from_blocks`` to ``(1, B, pixels)``."""
    block = torch.as_tensor(block)
    if block.ndim == 2:
        return block.T[None]
    if block.ndim != 4 or len(block) != 1:
        raise ValueError(f"a block is pixels x B or 1 x C x h x w; got {tuple(block.shape)}.")
    return pixels_of(block)
