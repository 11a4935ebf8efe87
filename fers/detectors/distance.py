"""Distance to the scene's mean spectrum: the control of detectors that reconstruct pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from fers.detectors.base import Extent, StripDetector, Where
from fers.detectors.windows import checked


class Mean(NamedTuple):
    """Sum and range of some pixels.

    Attributes:
        number: ``(N, 1)``, how many they are.
        total: ``(N, C)``, their sum.
        low: ``(N, C)``.
        high: ``(N, C)``.
    """

    number: torch.Tensor
    total: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def combine(self, other: Mean) -> Mean:
        """Add up both sets of pixels."""
        extent = Extent(self.low, self.high).combine(Extent(other.low, other.high))
        return Mean(self.number + other.number, self.total + other.total, *extent)


@dataclass(frozen=True)
class Distance(StripDetector):
    """The squared distance ``|x - mean|^2`` of each pixel to the scene's mean spectrum, after scaling to [0, 1].

    A network that learns only the mean spectrum ranks pixels in this way, so a detector that reconstructs pixels has to
    beat it on the same scaling.

    Args:
        scaling: The whole ``cube`` by one minimum and maximum, as RGAE, GT-HAD and PDBSNet do, or each ``band`` by its own,
            as GAED does.

    Raises:
        ValueError: ``scaling`` is neither; on calling it, a cube with NaN or other than four axes.

    Example:
        >>> cube = torch.tensor([0.0, 1.0, 5.0]).view(1, 1, 1, 3)
        >>> Distance()(cube)
        tensor([[[0.1600, 0.0400, 0.3600]]], dtype=torch.float64)
    """

    scaling: Literal["cube", "band"] = "cube"
    statistics = Mean

    def __post_init__(self) -> None:
        if self.scaling not in ("cube", "band"):
            raise ValueError(f"Distance: scaling is 'cube' or 'band'; got {self.scaling!r}.")

    def collect(self, cube: torch.Tensor, left_out: torch.Tensor | None, where: Where) -> Mean:
        """Compute mean and range of the pixels that count."""
        cube = checked(cube)
        counts = cube.new_ones(cube.shape[0], *cube.shape[2:]) if left_out is None else (~left_out).to(cube)
        total = torch.einsum("nchw,nhw->nc", cube, counts)
        return Mean(counts.sum((1, 2))[:, None], total, *Extent.of(cube, left_out))

    def score(self, cube: torch.Tensor, state: Any, left_out: torch.Tensor | None) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0."""
        extent = Extent(state.low, state.high)
        extent = extent if self.scaling == "band" else extent.whole()
        mean = (state.total / state.number)[:, :, None, None]
        return (extent.scale(checked(cube)) - extent.scale(mean)).square().sum(1)
