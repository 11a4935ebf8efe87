"""Cutting a scene into strips, which decide the numbers, and into blocks of strips, which decide the memory.

A strip is a few whole rows. Its height depends on the file, never on the memory or on the workers. Everything is computed
strip by strip, so the results are the same bits for every block height. A block is what a worker reads at once.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from fers.scenes.scene import MIN_SIDE
from fers.util.errors import FersError

STRIP_PIXELS = 1 << 15  # larger strips are no faster
MAX_STRIPS = 64  # in a block: progress stays visible and little is lost when a run stops
_LEAST_ROWS = 16  # that count in the statistics: the network sees three more on either side, and fewer cost as much
_BASE = 600 << 20  # bytes: Python with PyTorch, GDAL and a network loaded
_TILE_BYTES = 64 << 20  # held by a network between its layers, for one tile
_BYTES_IN = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class PlanError(FersError):
    """A scene that cannot be cut as asked."""


def parse_size(text: str) -> int:
    """Parse the number of bytes from a text such as ``2GB``, ``500 MB`` or ``1.5G``.

    Raises:
        PlanError: The text is not a size.

    Example:
        >>> parse_size("1.5 GB")
        1610612736
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([KMGT]?)i?B?\s*", text, re.IGNORECASE)
    if match is None:
        raise PlanError(f"memory '{text}': not a size. Give a number and a unit, such as 2GB or 500MB.")
    return int(float(match[1]) * _BYTES_IN[match[2].upper()])


@dataclass(frozen=True)
class Rows:
    """A strip: rows ``start`` to ``stop - 1``, which belong to the ``segment``-th segment."""

    start: int
    stop: int
    segment: int = 0


@dataclass(frozen=True)
class Block:
    """Strips that one task reads and computes: rows ``start`` to ``stop - 1``."""

    index: int
    strips: tuple[Rows, ...]
    start: int
    stop: int

    @classmethod
    def of(cls, index: int, strips: list[Rows]) -> Block:
        """A block of strips that follow each other."""
        return cls(index, tuple(strips), strips[0].start, strips[-1].stop)

    def outer_rows(self, height: int, halo: int) -> slice:
        """Return the rows to read: those of the block, and as many of the halo as the scene has."""
        return slice(max(self.start - halo, 0), min(self.stop + halo, height))


@dataclass(frozen=True)
class Plan:
    """Strips, segments and blocks of one scene.

    Attributes:
        height, width: Size of the scene.
        bands: C, the number of bands that are used.
        strip_rows: Rows of a strip.
        segment_strips: Strips of a segment, the part of a scene that has a background of its own.
        block_strips: Strips of a block.
        workers: How many blocks are computed at a time.
        peak: Bytes that the whole process is expected to take.
        background_rows: Rows of a strip that count in the background's statistics: all, or those in its middle.
        background_every: Only those of every n-th strip of a segment count.
    """

    height: int
    width: int
    bands: int
    strip_rows: int
    segment_strips: int
    block_strips: int
    workers: int
    peak: int
    background_rows: int
    background_every: int = 1

    @property
    def strips(self) -> list[Rows]:
        """All strips, in the order of rows."""
        starts = range(0, self.height, self.strip_rows)
        return [
            Rows(row, min(row + self.strip_rows, self.height), index // self.segment_strips)
            for index, row in enumerate(starts)
        ]

    @property
    def blocks(self) -> list[Block]:
        """All blocks, in the order of rows."""
        strips, step = self.strips, self.block_strips
        return [Block.of(i // step, strips[i : i + step]) for i in range(0, len(strips), step)]

    def background_strips(self, block: Block) -> list[Rows]:
        """Return the rows of a block that count in the background's statistics, strip by strip."""
        found = []
        for strip in block.strips:
            if strip.start // self.strip_rows % self.segment_strips % self.background_every == 0:
                rows = min(self.background_rows, strip.stop - strip.start)
                first = strip.start + (strip.stop - strip.start - rows) // 2
                found.append(Rows(first, first + rows, strip.segment))
        return found

    @property
    def segments(self) -> list[tuple[int, int]]:
        """First and last row of each segment."""
        rows = self.segment_strips * self.strip_rows
        return [(first, min(first + rows, self.height) - 1) for first in range(0, self.height, rows)]

    @property
    def segment_centres(self) -> np.ndarray:
        """Middle row of each segment, with fractions."""
        return np.mean(self.segments, axis=1)


def make_plan(
    shape: tuple[int, int, int],
    read_bytes: int,
    memory: int,
    workers: int = 1,
    chunk_rows: int = 1,
    segment_rows: int | None = None,
    maps: int = 1,
    halo: int = 3,
    copies: int = 5,
    whole: bool = False,
    background_pixels: int | None = None,
) -> Plan:
    """Cut a scene so that the work fits into a given memory.

    Args:
        shape: ``(H, W, C)``, where C is the number of bands that are used.
        read_bytes: Bytes of one pixel as the reader gives it.
        memory: Bytes that the whole process may take.
        workers: How many blocks are computed at a time, in this memory.
        chunk_rows: Rows that the file stores together.
        segment_rows: Approximate rows of a segment; None for one background for the whole scene.
        maps: Score maps that are kept to the end.
        halo: Rows that are needed beyond a strip.
        whole: The whole scene must be one strip.
        background_pixels: Least number of pixels behind a segment's statistics, spread over all its strips; None for all.
        copies: How many float32 copies of a strip are in memory at a time: values, cube, features, their sum, the border.

    Raises:
        PlanError: The scene is too small, or one strip for each worker does not fit.
    """
    height, width, bands = shape
    if min(height, width) < MIN_SIDE:
        raise PlanError(f"the scene is {height} x {width} px; at least {MIN_SIDE} px on each side are needed.")
    strip_rows = height if whole else rows_of_strip(height, width, chunk_rows)
    strips = -(-height // strip_rows)
    segment_strips = strips if segment_rows is None else min(strips, max(1, round(segment_rows / strip_rows)))
    segments = -(-strips // segment_strips)

    strip = (strip_rows + 2 * halo) * width * 4 * copies * bands + _TILE_BYTES + 12 * 8 * bands**2
    fixed = _BASE + 8 * maps * height * width + 2 * maps * segments * 8 * bands**2
    finish = 24 * height * width  # sorted scores, tail probabilities, labels

    def peak(block_strips: int) -> int:
        rows = block_strips * strip_rows + 2 * halo
        return fixed + max(finish, workers * (strip + 2 * rows * width * read_bytes))

    if peak(1) > memory:
        if whole:
            raise PlanError(
                f"{height} x {width} px: this detector takes the whole scene at once, which needs {peak(1) / 1e9:.2f} GB; "
                f"{memory / 1e9:.2f} GB are given. Give more --memory, a smaller cut, or a detector that streams, such as RX."
            )
        raise PlanError(
            f"{workers} worker(s) need {peak(1) / 1e9:.2f} GB for the smallest blocks of this scene ({strip_rows} rows); "
            f"{memory / 1e9:.2f} GB are given. Give more --memory or fewer --workers."
        )
    block_strips = 1
    most = min(MAX_STRIPS, max(1, strips // (2 * workers)))
    while block_strips < most and peak(block_strips + 1) <= memory:
        block_strips += 1
    background_rows, every = strip_rows, 1
    if background_pixels is not None:
        wanted = strip_rows * background_pixels / (min(segment_strips * strip_rows, height) * width)
        background_rows = min(strip_rows, max(_LEAST_ROWS, math.ceil(wanted)))
        every = min(segment_strips, max(1, int(background_rows / wanted)))
    cut = (strip_rows, segment_strips, block_strips, workers, peak(block_strips), background_rows, every)
    return Plan(height, width, bands, *cut)


def rows_of_strip(height: int, width: int, chunk_rows: int) -> int:
    """Choose the rows of a strip: about ``STRIP_PIXELS``, if possible a multiple or a part of the file's chunks."""
    rows = max(STRIP_PIXELS // width, MIN_SIDE)
    if chunk_rows <= rows:
        rows = rows // chunk_rows * chunk_rows
    else:
        parts = [chunk_rows // n for n in range(1, chunk_rows + 1) if chunk_rows % n == 0]
        rows = next((part for part in parts if rows // 2 < part <= rows), rows)
    return min(rows, height)
