"""Measures of how Gaussian a background is, and of how far anomalies stand from it: the numbers behind the paper's explanation.

The paper says that enhancement makes the background more Gaussian and the anomalies more separable, and shows it as
pictures. Everything here is computed in the background's whitened coordinates, with the rank rule of ``fers.detectors.rx``,
so no number depends on the units of the bands, and bands that are constant or copies of others do not count. Every function
raises ValueError on NaN, on arrays that do not fit together, and on too few pixels for their rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from sklearn.covariance import oas

from fers.detectors.background import Background, whitening

PRODUCT_SIDE = 1 << 11  # pixels on each side of a product: 32 MiB


class Mardia(NamedTuple):
    """Mardia's measures of a sample of n pixels in p independent dimensions."""

    pixels: int  # n
    rank: int  # p
    skewness: float  # sum_ij (z_i^T z_j)^3 / n^2, z whitened by the covariance with divisor n; 0 where symmetric
    kurtosis: float  # sum_i (z_i^T z_i)^2 / n; p (p + 2) for a Gaussian


@dataclass(frozen=True)
class QQ:
    """Squared Mahalanobis distances beside what a Gaussian of the same n and p would give."""

    expected: np.ndarray  # (n,) rising quantiles of (n - 1)^2 / n Beta(p / 2, (n - p - 1) / 2) at (i - 0.5) / n
    observed: np.ndarray  # (n,) rising, with the unbiased covariance

    @property
    def correlation(self) -> float:
        """Correlation of the two, 1 for a Gaussian."""
        return float(np.corrcoef(self.expected, self.observed)[0, 1])


def mardia(pixels: np.ndarray) -> Mardia:
    """Compute Mardia's skewness and kurtosis of pixels ``(n, C)``, by n^2 p / 2 multiplications.

    Source: K. V. Mardia, Measures of multivariate skewness and kurtosis with applications, Biometrika 57(3), 1970.
    """
    z = _whiten(pixels)
    n, p = z.shape
    z *= np.sqrt(n / (n - 1))  # from the unbiased covariance to that with divisor n
    blocks = torch.from_numpy(z).split(PRODUCT_SIDE)
    third = 0.0
    for i, a in enumerate(blocks):
        for j, b in enumerate(blocks[: i + 1]):
            third += (1 if i == j else 2) * float((a @ b.T).pow_(3).sum())
    return Mardia(n, p, third / n**2, float((np.square(z).sum(1) ** 2).mean()))


def qq(pixels: np.ndarray) -> QQ:
    """Sort squared Mahalanobis distances of pixels ``(n, C)`` from their mean, beside their law under a Gaussian.

    Source: R. Gnanadesikan and J. R. Kettenring, Biometrics 28(1), 1972.
    """
    z = _whiten(pixels)
    n, p = z.shape
    expected = (n - 1) ** 2 / n * stats.beta.ppf((np.arange(n) + 0.5) / n, p / 2, (n - p - 1) / 2)
    return QQ(expected, np.sort(np.square(z).sum(1)))


def separability(background: np.ndarray, anomalies: np.ndarray) -> tuple[float, float]:
    """Mahalanobis and Bhattacharyya distance between anomalies ``(m, C)`` and background ``(n, C)``.

    Mahalanobis: of the means, by the background's covariance, not squared. Bhattacharyya:
    ``d^T S^-1 d / 8 + ln(det S / sqrt(det A det B)) / 2``; A and B are the covariances of anomalies and background, S their
    mean, d the difference of means; NaN for a single anomalous pixel. Anomalies are mostly fewer than there are bands, so A
    is singular and the distance infinite. A is therefore shrunk towards a multiple of B, by the oracle approximating
    shrinkage of scikit-learn. As a rule this makes the distance smaller.

    Source: A. Bhattacharyya, Bulletin of the Calcutta Mathematical Society 35, 1943; Y. Chen et al., Shrinkage
    Algorithms for MMSE Covariance Estimation, IEEE TSP 58(10), 2010.
    """
    anomalies = np.asarray(anomalies, dtype=np.float64)
    if anomalies.ndim != 2 or len(anomalies) == 0 or anomalies.shape[1] != np.shape(background)[1]:
        raise ValueError(
            f"the anomalies are {anomalies.shape}, the background {np.shape(background)}. "
            "Give one anomalous spectrum or more, of the same bands."
        )
    if not np.isfinite(anomalies).all():
        raise ValueError("an anomalous spectrum holds NaN or infinite values. Leave it out.")
    mean, whiten = _statistics(background)
    z = (anomalies - mean) @ whiten.T  # here the background has mean zero and unit covariance
    d = z.mean(0)
    mahalanobis = float(np.linalg.norm(d))
    if len(z) == 1:
        return mahalanobis, float("nan")
    covariance, _ = oas(z)
    both = (covariance + np.eye(len(d))) / 2
    log_determinants = np.linalg.slogdet(both)[1] - np.linalg.slogdet(covariance)[1] / 2
    return mahalanobis, float(d @ np.linalg.solve(both, d) / 8 + log_determinants / 2)


def describe(cube: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Describe one scene by every number of this module, by its cube ``(H, W, C)`` and truth ``(H, W)`` bool.

    Skewness and kurtosis are over what a Gaussian has, ``p (p + 1) (p + 2) / n`` and ``p (p + 2)``.
    """
    if truth.shape != cube.shape[:2] or not truth.any() or truth.all():
        raise ValueError(
            f"the truth is {truth.shape} with {int(truth.sum())} anomalous pixels, the cube {cube.shape}. "
            "Both must be of the same scene, with anomalies and background."
        )
    background = cube[~truth]
    moments = mardia(background)
    n, p = moments.pixels, moments.rank
    mahalanobis, bhattacharyya = separability(background, cube[truth])
    return {
        "skewness (1 is Gaussian)": moments.skewness / (p * (p + 1) * (p + 2) / n),
        "kurtosis (1 is Gaussian)": moments.kurtosis / (p * (p + 2)),
        "Q-Q correlation (1 is Gaussian)": qq(background).correlation,
        "Mahalanobis distance": mahalanobis,
        "Bhattacharyya distance": bhattacharyya,
    }


def _statistics(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean ``(C,)`` and the matrix ``(p, C)`` that whitens, p the rank."""
    pixels = np.asarray(pixels)
    if pixels.ndim != 2:
        raise ValueError(f"pixels are n x C; got {pixels.shape}. Take them out of the cube with its truth.")
    background = Background.from_blocks([pixels])
    whiten, rank, _ = whitening(background.covariance)
    p = int(rank)
    if p >= len(pixels) - 1:
        raise ValueError(
            f"{len(pixels)} pixels for {p} independent bands; every pixel is equally far. Use more pixels or fewer bands."
        )
    rows = whiten[0].abs().amax(1) > 0  # the rows of what the rank rule drops are zero
    return background.mean[0].numpy(), whiten[0][rows].numpy()


def _whiten(pixels: np.ndarray) -> np.ndarray:
    """``(n, p)``: mean zero, unbiased covariance the identity."""
    mean, whiten = _statistics(pixels)
    return (np.asarray(pixels, dtype=np.float64) - mean) @ whiten.T
