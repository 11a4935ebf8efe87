"""Target search: how alike is a pixel to a spectrum? Matched filter, signed ACE and spectral angle.

x is a pixel, t the spectrum, m and C mean and covariance of the background, with a ridge: (1 - a) C + a (trace C / B) I.

    MF  = (t - m)^T C^-1 (x - m) / (t - m)^T C^-1 (t - m)              0 for background on average, 1 at t
    ACE = the squared cosine of t - m and x - m in whitened space, with the sign of the cosine    [-1, 1]
    SAM = arccos(x^T t / (|x| |t|))                                    radians, blind to brightness

The sign is this project's choice: a pixel on the opposite side of m is not alike. MF and ACE do not change under an invertible
linear map of the bands, as long as the ridge is zero.

Source: Manolakis and Shaw, IEEE Signal Processing Magazine 19(1), 2002 (MF); Kraut, Scharf and Butler, IEEE TSP 53(2), 2005
(ACE); Kruse et al., Remote Sensing of Environment 44, 1993 (SAM).
"""

from __future__ import annotations

import numpy as np
from scipy import linalg, stats

from fers.detection.options import LIKE_BY
from fers.util.errors import FersError

SEARCH_RIDGE = 1e-4
TRIMMED = 0.02  # share of the highest anomaly scores that the background of a search leaves out
LIKENESSES = dict(zip(LIKE_BY, ("signed ACE", "matched filter", "spectral angle in radians"), strict=True))


class Likeness:
    """A spectrum, whitened by a background, to which pixels are compared.

    Args:
        target: ``(B,)``.
        mean: ``(B,)`` of the background.
        covariance: ``(B, B)`` of the background, divisor n - 1.
        ridge: a.

    Raises:
        FersError: The covariance is singular, or the spectrum is the mean of the background.
    """

    def __init__(self, target: np.ndarray, mean: np.ndarray, covariance: np.ndarray, ridge: float = SEARCH_RIDGE):
        bands = len(mean)
        mended = (1 - ridge) * covariance + ridge * np.trace(covariance) / bands * np.eye(bands)
        try:
            self.factor = linalg.cholesky(mended, lower=True)
        except linalg.LinAlgError as error:
            raise FersError(
                f"the covariance of {bands} bands is singular, so there is nothing to compare with. Use fewer bands."
            ) from error
        self.mean = mean
        self.target = linalg.solve_triangular(self.factor, target - mean, lower=True)
        self.energy = float(self.target @ self.target)
        if not self.energy > 0:
            raise FersError("the spectrum is the mean of the background: every pixel is as alike. Give another.")

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute signed ACE and matched filter of pixels ``(P, B)``, each ``(P,)`` float64."""
        white = linalg.solve_triangular(self.factor, (pixels - self.mean).T, lower=True, check_finite=False)
        along = self.target @ white
        total = self.energy * np.square(white).sum(axis=0)
        return along * np.abs(along) / np.where(total > 0, total, 1), along / self.energy


def spectral_angle(pixels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Compute the angle ``(P,)`` in radians between pixels ``(P, B)`` and a spectrum; a dark pixel has pi / 2."""
    lengths = linalg.norm(pixels, axis=1) * linalg.norm(target)
    cosine = pixels @ target / np.where(lengths > 0, lengths, 1)
    return np.arccos(np.clip(cosine, -1, 1))


def null_threshold(rate: float, bands: int) -> float:
    """Return the signed ACE that Gaussian background of known covariance exceeds at a rate: a nominal law.

    Example:
        >>> round(null_threshold(1e-3, 60), 4), round(null_threshold(1e-4, 200), 4)
        (0.1506, 0.0673)
    """
    return float(stats.beta.isf(2 * rate, 0.5, (bands - 1) / 2))
