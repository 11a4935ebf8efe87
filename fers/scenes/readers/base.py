"""The interface of every reader of a scene: read rows and bands, and know what they mean.

A reader holds the path and the keys of a file, never an open file. It can be pickled, sent to another process, and used
by several threads at once. Samples are read when they are asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np

from fers.scenes.readers.errors import SceneError, refusing
from fers.scenes.readers.geometry import ControlPoints, Geometry, MapGrid
from fers.scenes.readers.places import from_points, from_table
from fers.scenes.readers.projection import nowhere, on_earth

UNDECLARED_NODATA = -9999.0  # the value that stands for "no data" in files that cannot declare one
_ALWAYS_ALLOWED = 256 << 20  # bytes that any file may declare
_POSSIBLE_NM = (100.0, 30_000.0)  # ultraviolet to thermal infrared; other numbers are no wavelengths
_MOST_COMPRESSED = 100  # times a file's own size that a scene may take; real scenes compress 2 to 10 times
Bands = slice | Sequence[int] | np.ndarray | None  # band numbers, 0-based, in any order; None for all


@dataclass(kw_only=True)
class Facts:
    """Facts that a file tells about its scene; None or empty where it does not say."""

    wavelengths: np.ndarray | None = None  # (B,) band centres in nm
    fwhm: np.ndarray | None = None  # (B,) widths at half the maximum in nm
    good: np.ndarray | None = None  # (B,) bool, False for bands that the provider marks as unusable
    good_source: str = ""  # who says so, such as "bbl of the header"
    sensor: str = ""  # and product level, such as "EMIT L2A"
    variable: str | None = None  # name inside the file
    map_info: tuple[str, ...] | None = None  # the ENVI entry, verbatim
    notes: tuple[str, ...] = ()  # what a reader of the results should know, such as bands that are left out


@dataclass(kw_only=True)
class Reader(Facts):
    """One scene in a file, read piece by piece."""

    path: Path  # the file that a message names (for ENVI, the header)
    data: tuple[Path, ...] = ()  # the files with the samples, if they are others
    shape: tuple[int, int, int]  # (H, W, B)
    stored: np.dtype  # type of the samples in the file
    start: int | None = None  # byte at which the samples lie one after the other, to be mapped into memory
    axes: str = "yxb"  # order of these samples, the last one varying fastest: y rows, x columns, b bands
    declared_nodata: tuple[float, ...] = (UNDECLARED_NODATA,)  # values of stored samples that mark missing data
    missing_if: str = "any"  # marked sample makes a pixel missing, or "all" that are read (a single 0 can be measured)
    scale: np.ndarray | None = None  # (B,) factors from stored to physical values
    offset: np.ndarray | None = None  # (B,) what is added after that
    native_chunks: tuple[int, int, int] = (1, 1, 1)  # rows, columns, bands stored together: read multiples of the rows
    grid: MapGrid | None = None  # the map grid, where the file describes one
    points: ControlPoints | None = None  # where it has them instead
    table: Reader | None = None  # file of the place of each pixel, beside the scene or named by the user
    beside: tuple[Path, ...] = ()  # further files that something here was read from

    def __post_init__(self) -> None:
        if self.stored.kind not in "biuf":
            raise SceneError(
                f"{self.path}: found values of type {self.stored}; a cube holds real numbers. Convert it first."
            )
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise SceneError(
                f"{self.path}: found an array of shape {self.shape}; a cube is H x W x B, each at least 1."
            )
        for name, numbers in (("scale", self.scale), ("offset", self.offset)):
            if numbers is not None and not np.isfinite(numbers).all():
                raise SceneError(f"{self.path}: the {name} of some bands is NaN or infinite. Correct it.")
        if self.wavelengths is not None and (found := _impossible(self.wavelengths, self.bands)):
            self.notes = (*self.notes, f"{found}; they are not used")
            self.wavelengths = self.fwhm = None
        if self.fwhm is not None and not (
            len(self.fwhm) == self.bands and ((self.fwhm > 0) & (self.fwhm < np.inf)).all()
        ):
            self.fwhm = None
        if self.grid is not None and (wrong := nowhere(self.grid, self.shape)):
            self.notes, self.grid = (*self.notes, f"{wrong}; it is not used"), None

    @property
    def bands(self) -> int:
        """Number of bands B."""
        return self.shape[2]

    @property
    def converted(self) -> bool:
        """True if ``read`` gives physical values, with NaN for missing samples, instead of stored ones."""
        return self.scale is not None or self.offset is not None or self.missing_if == "all"

    @property
    def dtype(self) -> np.dtype:
        """Type of what ``read`` returns."""
        return np.result_type(self.stored, np.float32) if self.converted else self.stored

    @property
    def nodata(self) -> tuple[float, ...]:
        """Values that mark missing samples in what ``read`` returns; empty where these are NaN."""
        return () if self.converted else self.declared_nodata

    @property
    def geometry(self) -> Geometry | None:
        """Place of the pixels on the Earth; None where the file does not say. Tables are read at each call.

        Raises:
            SceneError: A table has another size than the scene, or places that are none.
        """
        if (table := self.table) is not None:
            stored = sum(file.stat().st_size for file in table.data or [table.path])
            check_memory(table.path, 2 * table.dtype.itemsize * prod(table.shape[:2]), stored)
            values = table.read(bands=[0, 1]) if table.bands > 1 else np.empty((0, 0, 2))
            return from_table(str(table.path), values, table.grid, self.shape)
        return self._geometry() or (None if self.points is None else from_points(self.points, self.shape))

    def _geometry(self) -> Geometry | None:
        """The place that the file itself says."""
        return self.grid

    @property
    def located(self) -> bool:
        """True where the pixels have a place on the Earth; no table is read for it."""
        if self.grid is not None:
            utm = self.map_info is not None and self.map_info[0].strip().lower().startswith(
                "utm"
            )  # of an unknown datum
            return on_earth(self.grid.crs) or utm
        return self.table is not None or (self.points is not None and on_earth(self.points.crs))

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that something of this scene was read from: a result depends on all of them."""
        table = () if self.table is None else self.table.files
        return tuple(dict.fromkeys((self.path, *self.data, *self.beside, *table)))

    def memory_map(self) -> np.ndarray | None:
        """Map the stored values ``(H, W, B)``, read-only; None where the format cannot be mapped."""
        if self.start is None:
            return None
        sides = tuple(self.shape["yxb".index(axis)] for axis in self.axes)
        [data] = self.data or [self.path]
        with refusing(data, "file of samples"):
            mapped = np.memmap(data, self.stored, "r", self.start, sides)
            return mapped.transpose([self.axes.index(axis) for axis in "yxb"])

    def load(self) -> np.ndarray:
        """Load the whole cube ``(H, W, B)``.

        It is a memory map of the stored values if these differ from physical ones by one common factor at most, else
        what ``read()`` gives. A `SceneError` refuses what declares far more than its file holds or the memory takes.
        """
        factor = self.scale is None or bool((self.scale == self.scale[0]).all())
        if factor and self.offset is None and self.missing_if == "any" and (mapped := self.memory_map()) is not None:
            return mapped
        stored = sum(file.stat().st_size for file in self.data or [self.path])
        check_memory(self.path, self.dtype.itemsize * prod(self.shape), stored)
        return self.read()

    def read(self, rows: slice = slice(None), bands: Bands = None) -> np.ndarray:
        """Read whole rows, a slice of step 1: ``(rows, W, bands)``.

        Physical values, NaN where a sample is missing, if the file declares a scale, an offset or no-data by whole
        pixels; else the values as stored. ``dtype`` and ``nodata`` say which. More than the memory is a `SceneError`.
        """
        start, stop, step = rows.indices(self.shape[0])
        if step != 1:
            raise ValueError(f"rows of step {step}: whole rows are read one after the other")
        everything = np.arange(self.bands)
        index = everything if bands is None else everything[bands if isinstance(bands, slice) else list(bands)]
        shape = (max(0, stop - start), self.shape[1], len(index))
        check_memory(self.path, prod(shape) * self.dtype.itemsize)
        if 0 in shape:
            return np.empty(shape, self.dtype)
        with refusing(self.path, f"scene (rows {start} to {stop - 1})"):
            block = self._read(start, stop, index)
        return self._physical(block, index) if self.converted else block

    def read_valid(self, rows: slice = slice(None), bands: Bands = None) -> tuple[np.ndarray, np.ndarray]:
        """Read a block, and find its pixels with data: ``(rows, W)`` bool, True where all bands have it."""
        block = self.read(rows, bands)
        return block, ~missing_pixels(block, self.nodata)

    def _read(self, start: int, stop: int, index: np.ndarray) -> np.ndarray:
        """Stored values of rows ``start`` to ``stop - 1`` and of the bands in ``index``: ``(rows, W, bands)``."""
        mapped = self.memory_map()
        assert mapped is not None, "a reader without a memory map reads its rows itself"
        window, chosen = windowed(index)
        return np.array(mapped[start:stop, :, window][:, :, chosen])  # in memory: the file's pages are let go

    def _physical(self, block: np.ndarray, index: np.ndarray) -> np.ndarray:
        marked = marked_samples(block, self.declared_nodata)
        if self.missing_if == "all":
            marked = np.broadcast_to(marked.all(axis=2, keepdims=True), block.shape)
        out = block.astype(self.dtype)
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is missing
            if self.scale is not None:
                out *= self.scale[index].astype(self.dtype)
            if self.offset is not None:
                out += self.offset[index].astype(self.dtype)
        out[marked] = np.nan
        return out


R = TypeVar("R", bound=Reader)


def noted(reader: R, *notes: str, **changes: object) -> R:
    """Copy a reader with further notes and with other facts."""
    return replace(reader, notes=(*reader.notes, *notes), **changes)  # type: ignore[arg-type]


def _impossible(centres: np.ndarray, bands: int) -> str:
    """Say why numbers cannot be the bands' wavelengths in nm; empty where they can."""
    if len(centres) != bands:
        return f"{len(centres)} wavelengths for {bands} bands"
    finite = np.isfinite(centres)
    if not finite.all():
        return "some wavelengths are NaN or infinite"
    if (centres == 0).all():
        return "all wavelengths are 0"
    low, high = float(centres.min()), float(centres.max())
    if low < _POSSIBLE_NM[0] or high > _POSSIBLE_NM[1]:
        return f"wavelengths of {low:g} to {high:g} nm are impossible (is their unit right?)"
    return ""


def marked_samples(block: np.ndarray, nodata: tuple[float, ...]) -> np.ndarray:
    """Find the samples that are one of the values, rounded as the block stores them: 1e-34 is not 1e-34 in float32."""
    marked = np.zeros(block.shape, bool)
    with np.errstate(over="ignore"):
        for value in nodata:
            marked |= block == (np.array(value).astype(block.dtype) if block.dtype.kind == "f" else value)
    return marked


def missing_pixels(block: np.ndarray, nodata: tuple[float, ...]) -> np.ndarray:
    """Find the pixels ``(rows, W)`` of a block in which any band is NaN, infinite or one of ``nodata``."""
    missing: np.ndarray = np.logical_or.reduce(marked_samples(block, nodata), axis=2)
    if block.dtype.kind == "f":
        missing |= ~np.isfinite(block).all(axis=2)
    return missing


def check_memory(path: Path, size: int, stored: int | None = None) -> None:
    """Refuse an array of ``size`` bytes before it is allocated, if it is over 256 MiB and larger than the free memory.

    Refuse it, too, at over 100 times the ``stored`` bytes that the file has for it.
    """
    if size <= _ALWAYS_ALLOWED:
        return
    if stored is not None and size > _MOST_COMPRESSED * stored:
        raise SceneError(
            f"{path}: declares an array of {size / 1e9:.1f} GB and holds {stored / 1e6:.3g} MB for it. "
            "The file is cut short, damaged or made to fill the memory. Save it again."
        )
    if size > (free := free_memory()):
        raise SceneError(
            f"{path}: {size / 1e9:.1f} GB would be read at once, and {free / 1e9:.1f} GB of memory are free. "
            "Read fewer rows or bands at a time, or give a smaller cut of the scene."
        )


def free_memory() -> int:
    """Ask for the bytes of memory that can be used without swapping."""
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 1 << 62  # Windows: NumPy's own MemoryError is turned into the refusal


def windowed(index: np.ndarray) -> tuple[slice, np.ndarray | slice]:
    """Find the contiguous range that covers some bands, and what to take of it afterwards."""
    low, high = int(index.min()), int(index.max()) + 1
    neighbours = len(index) == high - low and (np.diff(index) == 1).all()
    return slice(low, high), slice(None) if neighbours else index - low
