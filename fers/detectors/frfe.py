"""RX on the magnitudes of every spectrum's fractional Fourier transform, at the order of the largest entropy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb, log, pi

import torch

from fers.detectors.base import Extent
from fers.detectors.rx import rx
from fers.detectors.windows import checked

_ORDERS = tuple(step / 10 for step in range(11))
_BINS = 256


@dataclass(frozen=True)
class FrFE:
    """Fractional Fourier entropy detector: RX on ``|transform of order a of each spectrum|``.

    Order a is tried from 0 to 1 in steps of 0.1; 0 is the spectrum, 1 its discrete Fourier transform. The magnitudes are
    standardised by one mean and standard deviation over the cube. The entropy of an order is the largest over its bands,
    of a histogram of 256 levels between 0 and 1. The first order of the largest entropy wins.

    Each image is first scaled to [0, 1] by its own minimum and maximum. The published code divides by the maximum only,
    which is the same where the least value is 0, as on most raw scenes.

    Args:
        shifted: Whether RX gets the winning order plus 0.1, as the published code does by what looks like a slip and as all
            published figures come from. Without it orders 0 and 1 are not tried: at 1, magnitudes are symmetric, so
            the covariance is singular, and half of the bands say nothing.

    Raises:
        ValueError: The cube has one band, holds NaN, or has too few pixels for RX.

    Cost: 11 x 2 products of the spectra with a B x B matrix; memory is about four times the cube in float64.

    Source: R. Tao, X. Zhao, W. Li, H.-C. Li and Q. Du, IEEE JSTARS 12(12), 2019; the transform: Ç. Candan, M. A. Kutay and
    H. M. Ozaktas, The Discrete Fractional Fourier Transform, IEEE Trans. Signal Processing 48(5), 2000.

    Example:
        >>> cube = torch.randn(1, 6, 20, 20, generator=torch.Generator().manual_seed(0))
        >>> cube[0, :, 4, 7] += 9
        >>> divmod(int(FrFE()(cube).argmax()), 20)
        (4, 7)
    """

    shifted: bool = True

    def __call__(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0; pixels left out enter neither entropy nor RX."""
        cube = checked(cube)
        scaled = Extent.of(cube, left_out).whole().scale(cube)
        maps = []
        for number, image in enumerate(scaled):
            out = None if left_out is None else left_out[number].to(image.device)
            features = self.features(image.flatten(1), None if out is None else ~out.flatten())
            maps.append(rx(features.view(1, *image.shape), left_out=out))
        return torch.cat(maps)

    def features(self, spectra: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """Transform the columns of ``(C, P)`` to what RX gets; only the pixels that count, ``(P,)``, choose the order."""
        return magnitudes(spectra, self.order(spectra if counts is None else spectra[:, counts]))

    def order(self, spectra: torch.Tensor) -> float:
        """Choose the order of the transform for the columns of ``(C, P)``."""
        orders = _ORDERS if self.shifted else _ORDERS[1:-1]
        entropies = [largest_entropy(magnitudes(spectra, order)) for order in orders]
        return orders[entropies.index(max(entropies))] + 0.1 * self.shifted


def magnitudes(spectra: torch.Tensor, order: float) -> torch.Tensor:
    """Compute the magnitudes of the transform of order ``order`` of each column of ``(C, P)``, standardised as one."""
    bands = len(spectra)
    basis, number = (tensor.to(spectra) for tensor in hermite_basis(bands))
    coefficients = basis.T @ spectra.roll(-(bands // 2), 0)
    angle = (order * pi / 2) * number[:, None]
    found = torch.hypot(basis @ (coefficients * angle.cos()), basis @ (coefficients * angle.sin())).roll(bands // 2, 0)
    return (found - found.mean()) / found.std().clamp_min(torch.finfo(found.dtype).tiny)


def largest_entropy(features: torch.Tensor) -> float:
    """Compute the entropy in bits of each row of ``(C, P)``, clipped to [0, 1], over 256 levels; return the largest."""
    levels = (features.clamp(0, 1) * (_BINS - 1) + 0.5).long()
    rows = torch.arange(len(levels), device=levels.device)[:, None] * _BINS
    share = torch.bincount((levels + rows).flatten(), minlength=len(levels) * _BINS).double() / levels.shape[1]
    return float(torch.special.entr(share).view(-1, _BINS).sum(1).max()) / log(2)


@lru_cache(maxsize=4)
def hermite_basis(bands: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Make the discrete Hermite-Gauss vectors, the columns of ``(B, B)``, and their numbers ``(B,)``.

    They are the common eigenvectors of the discrete Fourier transform and of a matrix that stands for the Hermite
    equation, even and odd ones in turn. Index 0 is the centre.

    Raises:
        ValueError: There is one band only.
    """
    if bands < 2:
        raise ValueError("FrFE needs two bands or more: a transform of one value says nothing.")
    row = torch.zeros(bands, dtype=torch.float64)
    for k in range(1, int(min(max(2, bands / 2), bands - 1)) // 2 + 1):  # second derivatives of growing accuracy
        for j in (*range(-k, 0), *range(1, k + 1)):
            row[j] += 2 * (-1) ** (j + 1) * comb(2 * k, k + j) / comb(2 * k, k)
    index = torch.arange(bands)
    matrix = row[(index[:, None] - index) % bands] + torch.diag(torch.fft.fft(row).real)
    half = bands // 2
    split = torch.zeros(bands, bands, dtype=torch.float64)  # rows: an orthonormal basis of even, then odd vectors
    split[index, index] = torch.where(index <= half, 1.0, -1.0).double()
    split[index[1:], bands - index[1:]] += 1.0
    split /= split.norm(dim=1, keepdim=True)
    basis = torch.empty_like(split)
    for first, part in ((0, split[: half + 1]), (1, split[half + 1 :])):
        vectors = torch.linalg.eigh(part @ matrix @ part.T)[1].flip(1)  # by falling eigenvalue
        columns = [min(n, bands - 1) for n in range(first, 2 * len(part) + first, 2)]
        basis[:, columns] = part.T @ vectors
    number = index.double()
    number[-1] += bands % 2 == 0
    return basis, number
