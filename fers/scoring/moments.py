"""Mean and scatter of any number of pixels, from parts, with the same bits however the parts were shared out.

Parts are combined in the pairs of one fixed binary tree over their numbers. So neither the order in which parts arrive nor
who computed them changes a bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from fers.detectors import Background, background
from fers.detectors.rx import whitening


@dataclass(frozen=True, eq=False)
class Moments:
    """Of some pixels; ``fers.detectors.background.Moments`` of one image, as arrays that go into files.

    Attributes:
        count: How many pixels.
        mean: ``(B,)`` float64.
        scatter: ``(B, B)`` float64, the sum of ``(x - mean)(x - mean)^T``.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, cube: torch.Tensor, keep: np.ndarray) -> Moments:
        """Moments of the pixels to keep.

        Args:
            cube: ``(1, C, H, W)``, any real type.
            keep: ``(H, W)`` bool.
        """
        pixels = background.pixels_of(cube)
        size = background.BLOCK.get(pixels.device.type, background.BLOCK["cpu"])
        left_out = torch.from_numpy(~keep).to(pixels.device).flatten()[None]
        parts = zip(pixels.split(size, dim=2), left_out.split(size, dim=1), strict=True)
        return combined(cls._from(background.moments(*part)) for part in parts)

    @classmethod
    def _from(cls, sums: background.Moments) -> Moments:
        return cls(int(sums.samples), sums.mean[0].cpu().numpy(), sums.scatter[0].cpu().numpy())

    @property
    def _sums(self) -> background.Moments:
        mean, scatter = torch.from_numpy(self.mean)[None], torch.from_numpy(self.scatter)[None]
        return background.Moments(torch.tensor([self.count]), mean, scatter)

    def __add__(self, other: Moments) -> Moments:
        """Of both sets of pixels together."""
        return self._from(self._sums.combine(other._sums))

    @property
    def covariance(self) -> np.ndarray:
        """``(B, B)`` unbiased covariance."""
        return self.scatter / max(self.count - 1, 1)

    def background(self) -> Background:
        """As ``fers.detectors.rx`` takes it."""
        return Background.from_moments([self._sums])

    def rank(self) -> int:
        """How many dimensions RX measures in, by its rank rule."""
        return int(whitening(torch.from_numpy(self.covariance)[None])[1])

    def contributions(self, spectrum: np.ndarray) -> np.ndarray:
        """What each band adds to the RX score of a spectrum.

        The difference from the mean is whitened by the inverse square root of the correlation matrix, which turns each band
        as little as possible. The squares belong to bands and sum to the score.

        Args:
            spectrum: ``(B,)``.

        Returns:
            ``(B,)`` float64, >= 0; their sum is the RX score.

        Source: A. Kessy, A. Lewin, K. Strimmer, Optimal whitening and decorrelation, 2018 (ZCA-cor).
        """
        values, vectors, inverse_std = self._correlation()
        standardised = (spectrum - self.mean) * inverse_std
        return (vectors @ ((vectors.T @ standardised) / np.sqrt(values))) ** 2

    def _correlation(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        covariance = self.covariance
        std = np.sqrt(np.clip(covariance.diagonal(), 0, None))
        inverse_std = np.divide(1.0, std, out=np.zeros_like(std), where=std > 0)
        values, vectors = np.linalg.eigh(covariance * np.outer(inverse_std, inverse_std))
        kept = values >= max(values[-1], 0) * len(values) * np.finfo(float).eps
        kept &= values > 0
        return values[kept], vectors[:, kept], inverse_std


class Tree:
    """Adds up numbered parts in one fixed binary tree, in whatever order they come.

    Node i of level l stands for the parts from ``i * 2**l`` up to ``(i + 1) * 2**l``. A node without a sibling moves up as it is.

    Args:
        parts: How many parts there are in all.

    Example:
        >>> texts = Tree(3)
        >>> for number in (2, 0, 1):
        ...     texts.add(0, number, "abc"[number])
        >>> texts.total()
        'abc'
    """

    def __init__(self, parts: int):
        self.parts = parts
        self.waiting: dict[tuple[int, int], Moments] = {}

    def add(self, level: int, number: int, node: Moments) -> None:
        """Add a part (level 0) or a node that another tree of as many parts has added up."""
        while (1 << level) < self.parts:
            sibling = number ^ 1
            if sibling << level < self.parts:
                other = self.waiting.pop((level, sibling), None)
                if other is None:
                    break
                node = other + node if sibling < number else node + other
            level, number = level + 1, number >> 1
        self.waiting[level, number] = node

    def nodes(self) -> Iterator[tuple[int, int, Moments]]:
        """What could not be added up further: level, number, node."""
        for (level, number), node in self.waiting.items():
            yield level, number, node

    def total(self) -> Moments:
        """The sum of all parts.

        Raises:
            ValueError: Some part is missing.
        """
        if len(self.waiting) != 1 or (1 << next(iter(self.waiting))[0]) < self.parts:
            raise ValueError(f"parts are missing: {sorted(self.waiting)} of {self.parts} are there.")
        return next(iter(self.waiting.values()))


def combined(parts: Iterable[Moments]) -> Moments:
    """Moments of all parts together, in a fixed tree over their order."""
    parts = list(parts)
    tree = Tree(len(parts))
    for number, part in enumerate(parts):
        tree.add(0, number, part)
    return tree.total()
