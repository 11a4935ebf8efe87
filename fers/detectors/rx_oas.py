"""RX with a shrunk covariance, for scenes of few pixels and many bands."""

from __future__ import annotations

from dataclasses import replace

import torch

from fers.detectors.background import Background, Moments
from fers.detectors.base import Where
from fers.detectors.rx import RX, Whitened


class OASRX(RX):
    """RX by the oracle-approximating shrinkage of the covariance towards a multiple of the identity.

    ``(1 - r) S + r trace(S) / B I``, S being the covariance over the number of pixels; r is a closed form of both traces,
    with no option. It has an inverse however few the pixels are. With many pixels r nears 0 and this is RX, but that
    directions of little variance, in the cube's own units, count less. So the scale of a band matters.

    Raises:
        ValueError: On calling it, NaN, or a cube in which no band varies.

    Cost: that of RX.

    Source: Y. Chen, A. Wiesel, Y. C. Eldar and A. O. Hero, Shrinkage Algorithms for MMSE Covariance Estimation, IEEE Trans.
    Signal Processing 58(10), 2010.

    Example:
        >>> cube = torch.randn(1, 50, 6, 6, generator=torch.Generator().manual_seed(0))  # more bands than pixels
        >>> cube[0, :, 4, 3] += 3
        >>> divmod(int(OASRX()(cube).argmax()), 6)
        (4, 3)
    """

    def __init__(self) -> None:
        super().__init__()

    def fit(self, statistics: Moments, where: Where) -> Whitened:
        """Compute mean and whitening of each image."""
        return Whitened.of(shrunk(Background.from_moments([statistics])))


def shrunk(background: Background) -> Background:
    """Shrink the covariance of a background of known samples."""
    assert background.samples is not None
    samples = background.samples.double().to(background.mean.device)[:, None, None]
    covariance = background.covariance * (samples - 1) / samples
    bands = covariance.shape[1]
    level = covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    power = covariance.square().mean((1, 2), keepdim=True)
    away = (samples + 1) * (power - level.square() / bands)
    share = torch.where(away > 0, (power + level.square()) / away, 1.0).clamp_max(1)
    identity = torch.eye(bands).to(covariance)
    return replace(background, covariance=(1 - share) * covariance + share * level * identity, samples=None)
