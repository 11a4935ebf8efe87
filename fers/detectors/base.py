"""The protocol of every detector, and two abilities that only some have: leaving pixels out, and scoring by strips."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import torch


class Detector(Protocol):
    """A cube in, a score map out.

    ``(N, C, H, W)`` of any real type to ``(N, H, W)``; higher is more anomalous. Raises ValueError for a cube that it
    cannot score; the message says why and what to do.

    A detector that can leave pixels out takes ``left_out``, ``(N, H, W)`` bool, True where a pixel does not count:
    it enters no statistic. The detector may score it nevertheless, or give NaN.

    A detector whose scores may be negative, such as a correlation or a logarithm, has an attribute ``signed``, True.
    """

    def __call__(self, cube: torch.Tensor, /) -> torch.Tensor:
        """Score whole images."""
        ...


class Where(NamedTuple):
    """Position of a strip of whole rows in its scene.

    Attributes:
        row: Number of its first row in the scene.
        height: Rows of the whole scene.
    """

    row: int
    height: int


class Statistics(Protocol):
    """Sums over some pixels of N images, as tensors. Those of two sets of pixels can be combined."""

    def combine(self: S, other: S, /) -> S:
        """Add up the sums of both sets of pixels."""
        ...


S = TypeVar("S", bound=Statistics)
WITHOUT_FLOAT64 = frozenset({"mps"})  # types of devices


def with_float64(tensor: torch.Tensor) -> torch.Tensor:
    """Move a tensor to the CPU from a device that has no float64; from any other it stays where it is."""
    return tensor.cpu() if tensor.device.type in WITHOUT_FLOAT64 else tensor


class NoStatistics(NamedTuple):
    """Empty statistics, of a detector that needs to know nothing of the whole scene."""

    def combine(self, other: NoStatistics) -> NoStatistics:
        """Return empty statistics."""
        return self


class StripDetector(ABC):
    """A detector that scores a scene strip by strip: statistics of all strips first, then the scores of each.

    A scene in memory is one strip, so a subclass says once how a scene is scored, and works on
    files larger than memory too.

    Attributes:
        halo: Rows above and below a pixel that its score depends on, beyond the statistics. None if the detector still
            needs the whole image at once.
        statistics: The type that ``collect`` gives: a NamedTuple of tensors with ``combine``.
    """

    halo: int | None = 0
    statistics: ClassVar[type] = NoStatistics

    def collect(self, cube: torch.Tensor, left_out: torch.Tensor | None, where: Where) -> Any:
        """Compute the statistics of a strip ``(N, C, h, W)``, without the pixels left out."""
        return NoStatistics()

    def fit(self, statistics: Any, where: Where) -> Any:
        """Turn the statistics of the whole scene into the state that ``score`` takes; ``where.height`` is its height.

        Raises:
            ValueError: The scene cannot be scored.
        """
        return statistics

    @abstractmethod
    def score(self, cube: torch.Tensor, state: Any, left_out: torch.Tensor | None) -> torch.Tensor:
        """Score a strip with its halo, as far as the scene has these rows: ``(N, h, W)``."""

    def __call__(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """Score whole images, ``(N, C, H, W)`` to ``(N, H, W)``; see ``Detector``."""
        where = Where(0, cube.shape[2])
        return self.score(cube, self.fit(self.collect(cube, left_out, where), where), left_out)


def halo_of(detector: Detector) -> int | None:
    """Return the rows around a strip that a detector needs; None where it takes only the whole image."""
    return detector.halo if isinstance(detector, StripDetector) else None


def takes_left_out(detector: Detector) -> bool:
    """Tell whether a detector can leave pixels out."""
    try:
        return "left_out" in inspect.signature(detector).parameters
    except ValueError:  # some functions of C have no signature
        return False


class Sum(Generic[S]):
    """Sum of statistics, added up in pairs. To the last bit it depends only on the parts and their order."""

    def __init__(self, parts: Iterable[S] = ()):
        self._pending: list[tuple[int, S]] = []  # a sum of 2^k parts for each binary digit of how many came
        for part in parts:
            self.add(part)

    def add(self, part: S) -> None:
        """Add the next part."""
        count = 1
        while self._pending and self._pending[-1][0] == count:
            count, part = 2 * count, self._pending.pop()[1].combine(part)
        self._pending.append((count, part))

    def total(self) -> S:
        """Return the statistics of all parts.

        Raises:
            ValueError: No part came.
        """
        if not self._pending:
            raise ValueError("no block of pixels came. RX needs many more pixels than bands.")
        return reduce(lambda right, left: left.combine(right), [part for _, part in self._pending[::-1]])


class Extent(NamedTuple):
    """Range of some pixels, band by band.

    Attributes:
        low: Least value, ``(N, C)``; infinite where there is no pixel.
        high: Greatest value, ``(N, C)``.
    """

    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def of(cls, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> Extent:
        """Compute the range of the pixels of a cube ``(N, C, H, W)`` that count."""
        if left_out is None:
            return cls(cube.amin((2, 3)), cube.amax((2, 3)))
        out = left_out[:, None].to(cube.device)
        return cls(cube.masked_fill(out, torch.inf).amin((2, 3)), cube.masked_fill(out, -torch.inf).amax((2, 3)))

    def combine(self, other: Extent) -> Extent:
        """Range of both sets of pixels together."""
        return Extent(torch.minimum(self.low, other.low), torch.maximum(self.high, other.high))

    def whole(self) -> Extent:
        """One range for all bands."""
        low, high = self.low.amin(1, keepdim=True), self.high.amax(1, keepdim=True)
        return Extent(low.expand_as(self.low), high.expand_as(self.high))

    def scale(self, cube: torch.Tensor) -> torch.Tensor:
        """Scale this range of a cube ``(N, C, H, W)`` to [0, 1]; a constant band becomes zero."""
        low, high = self.low.to(cube)[:, :, None, None], self.high.to(cube)[:, :, None, None]
        return (cube - low) / torch.where(high > low, high - low, torch.ones_like(high))


def minmax(score: torch.Tensor) -> torch.Tensor:
    """Scale each map to [0, 1] by its own minimum and maximum, NaN left out; a constant map becomes zero (eqs. 20, 21).

    Args:
        score: ``(N, H, W)``.
    """
    missing = score.isnan()
    low = score.masked_fill(missing, torch.inf).amin((1, 2), keepdim=True)
    high = score.masked_fill(missing, -torch.inf).amax((1, 2), keepdim=True)
    return (score - low) / torch.where(high > low, high - low, torch.ones_like(high))


def product(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Multiply maps, each scaled to [0, 1] by its own minimum and maximum (eqs. 20-22); a single map stays as it is.

    Args:
        maps: Each ``(N, H, W)``, NaN where nothing is scored.
    """
    return maps[0] if len(maps) == 1 else math.prod(map(minmax, maps[1:]), start=minmax(maps[0]))
