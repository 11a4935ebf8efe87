"""HDF5 files, netCDF4 among them: one reader for all, and the way to find what is inside.

The products differ in where the cube lies and in the order of its axes. Each product's module says so and makes an
``Hdf5Reader``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from affine import Affine

from fers.scenes.readers.arrays import Variable, pick
from fers.scenes.readers.base import (
    Geometry,
    LatLon,
    LookupTable,
    Reader,
    SceneError,
    check_declared,
    copied,
    free_memory,
    refusing,
    windowed,
)
from fers.scenes.readers.wavelengths import SPELLINGS, to_nm

_TEXT_SECONDS = 15
_READ_TEXT = """
import h5py, json, numpy, sys
with h5py.File(sys.argv[1], "r") as file:
    item = file[sys.argv[2]]
    found = item.attrs[sys.argv[3]] if len(sys.argv) > 3 else item[()]
    print(json.dumps([v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in numpy.ravel(found)]))
"""


@dataclass(frozen=True)
class Part:
    """Where some of a scene's bands lie.

    Attributes:
        key: Path of the dataset.
        axes: Order of its axes: y rows, x columns, b bands.
        bands: The dataset's own number of each band.
    """

    key: str
    axes: str
    bands: tuple[int, ...]


@dataclass(kw_only=True)
class Hdf5Reader(Reader):
    """A scene in one or more datasets of an HDF5 file.

    Attributes:
        parts: The datasets, in the order of the scene's bands.
        order: ``(B,)`` which of all bands of the parts, one after the other, is the scene's band; as stored by default.
        glt: Paths of the tables of columns and rows (GLT) for the map grid ``grid``; None where there are none.
        latlon: Paths of latitude and longitude.
        start: Byte at which the samples of the only part lie one after the other; None where they are in chunks.
    """

    parts: tuple[Part, ...]
    order: np.ndarray | None = None
    glt: tuple[str, str] | None = None
    latlon: tuple[str, str] | None = None
    start: int | None = None

    def memory_map(self) -> np.ndarray | None:
        if self.start is None or self.order is not None:
            return None
        axes = self.parts[0].axes
        sides = tuple(self.shape["yxb".index(axis)] for axis in axes)
        with refusing(self.path, "HDF5 file"):
            return np.memmap(self.path, self.stored, "r", self.start, sides).transpose([axes.index(a) for a in "yxb"])

    @property
    def geometry(self) -> Geometry | None:
        if self.glt is None and self.latlon is None:
            return self.grid
        with refusing(self.path, "HDF5 file"), h5py.File(self.path, "r") as file:
            if self.glt is not None and self.grid is not None:
                glt_x, glt_y = (dataset(file, key)[()] for key in self.glt)
                return LookupTable.from_glt(self.grid.transform, self.grid.crs, glt_x, glt_y)
            if self.latlon is not None:
                latitude, longitude = (np.asarray(dataset(file, key)[()], np.float64) for key in self.latlon)
                return LatLon(latitude, longitude)
        return self.grid

    def _read(self, start: int, stop: int, index: np.ndarray) -> np.ndarray:
        if (mapped := self.memory_map()) is not None:
            return copied(mapped, start, stop, index)
        source = index if self.order is None else self.order[index]
        out: np.ndarray | None = None
        first = 0
        with h5py.File(self.path, "r") as file:
            for part in self.parts:
                mine = np.flatnonzero((source >= first) & (source < first + len(part.bands)))
                if len(mine):
                    block = _read_part(file, part, start, stop, np.array(part.bands)[source[mine] - first])
                    if len(mine) == len(source):
                        return block
                    if out is None:
                        out = np.empty((*block.shape[:2], len(source)), self.stored)
                    out[:, :, mine] = block
                first += len(part.bands)
        assert out is not None
        return out


def _read_part(file: h5py.File, part: Part, start: int, stop: int, bands: np.ndarray) -> np.ndarray:
    window, chosen = windowed(bands)
    block = dataset(file, part.key)[
        tuple({"y": slice(start, stop), "x": slice(None), "b": window}[a] for a in part.axes)
    ]
    return block.transpose([part.axes.index(axis) for axis in "yxb"])[:, :, chosen]


def stack(path: Path, file: h5py.File, parts: Sequence[tuple[str, str, Sequence[int] | None]]) -> dict:
    """The arguments of an ``Hdf5Reader`` that the datasets themselves say: parts, shape, type, chunks, place.

    Args:
        path: The file, for messages.
        file: The open file.
        parts: Key, axes and bands (all: None) of each dataset.
    """
    made, sides, types, chunks, start = [], set(), set(), (1, 1, 1), None
    for key, axes, bands in parts:
        found = dataset(file, key)
        if found.ndim != 3:
            raise SceneError(f"{path}: {key} has the shape {found.shape}; expected three axes.")
        size = dict(zip(axes, found.shape, strict=True))
        sides.add((size["y"], size["x"]))
        types.add(found.dtype)
        made.append(Part(key, axes, tuple(range(size["b"])) if bands is None else tuple(bands)))
        if found.chunks:
            chunk = dict(zip(axes, found.chunks, strict=True))
            chunks = (chunk["y"], chunk["x"], chunk["b"])
        start = found.id.get_offset() if len(parts) == 1 and bands is None else None
    if len(sides) != 1 or len(types) != 1:
        raise SceneError(f"{path}: its parts differ in size or type: {sides}, {types}.")
    height, width = sides.pop()
    shape = (height, width, sum(len(part.bands) for part in made))
    stored = types.pop()
    return {
        "path": path,
        "parts": tuple(made),
        "shape": shape,
        "stored": stored,
        "native_chunks": chunks,
        "start": start,
    }


def find(file: h5py.Group, key: str) -> h5py.Group | h5py.Dataset | None:
    """A group or dataset of the file itself; None where there is none.

    Raises:
        SceneError: The way to it, or its samples, lead into another file.
    """
    found = file
    for name in key.strip("/").split("/"):
        if not isinstance(found, h5py.Group):
            return None
        link = found.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise SceneError(
                f"{file.file.filename}: {key} is a link to elsewhere. Copy the data into the file (h5repack)."
            )
        found = found[name]
    if isinstance(found, h5py.Dataset):
        if found.is_virtual or found.external:
            raise SceneError(
                f"{file.file.filename}: the samples of {key} lie in another file. Copy them into this one (h5repack)."
            )
        chunk = found.dtype.itemsize * int(np.prod(found.chunks, dtype=np.float64)) if found.chunks else 0
        if chunk > max(1 << 30, free_memory() // 2):
            raise SceneError(
                f"{file.file.filename}: {key} has chunks of {chunk / 1e9:.1f} GB. Store smaller ones (h5repack)."
            )
    return found


def dataset(file: h5py.Group, key: str) -> h5py.Dataset:
    """A dataset that must be there."""
    found = find(file, key)
    if not isinstance(found, h5py.Dataset):
        raise SceneError(f"{file.file.filename}: there is no dataset {key}. Is the file complete?")
    return found


def text(item: h5py.Group | h5py.Dataset, name: str) -> str:
    """An attribute as text; empty where it is missing."""
    return next(iter(_strings(item, name)), "") if name in item.attrs else ""


def texts(file: h5py.Group, key: str) -> list[str]:
    """A dataset of text; empty where it is missing."""
    item = find(file, key)
    return _strings(item) if isinstance(item, h5py.Dataset) else []


def numbers(item: h5py.Group | h5py.Dataset, name: str) -> np.ndarray | None:
    """An attribute as ``(n,)`` float64; None where it is missing. Numbers in a text may stand apart by blanks or commas."""
    if name not in item.attrs:
        return None
    if item.attrs.get_id(name).dtype.kind in "biuf":
        return np.asarray(item.attrs[name], np.float64).reshape(-1)
    return np.array([float(part) for part in re.split(r"[\s,]+", text(item, name).strip("[](){} \n"))])


def _strings(item: h5py.Group | h5py.Dataset, name: str | None = None) -> list[str]:
    """The text of an attribute, or of the dataset itself.

    Text of variable length is read by another process, within a time: HDF5's library never returns from some damaged heaps.
    """
    dtype = item.dtype if name is None else item.attrs.get_id(name).dtype
    if dtype.kind != "O":
        found = item[()] if name is None else item.attrs[name]
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in np.ravel(found)]
    if h5py.check_string_dtype(dtype) is None:
        raise ValueError(f"{item.name} {name or ''} is not text")
    file = os.path.abspath(item.file.filename)
    command = [sys.executable, "-c", _READ_TEXT, file, item.name, *([name] if name else [])]
    packages = Path(h5py.__file__).parent.parent  # Python looks for modules where it starts: not in the user's folder
    try:
        ended = subprocess.run(command, cwd=packages, capture_output=True, timeout=_TEXT_SECONDS)
    except subprocess.TimeoutExpired:
        raise ValueError(f"the text of {item.name} {name or ''} takes more than {_TEXT_SECONDS} s to read") from None
    if ended.returncode:
        last = ended.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ValueError(f"the text of {item.name} {name or ''}: {last or 'damaged'}")
    return json.loads(ended.stdout)


def vector(file: h5py.Group, key: str) -> np.ndarray | None:
    """A one-dimensional dataset as float64; None where it is missing."""
    found = find(file, key)
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "biuf":
        return None
    return np.asarray(found[()], np.float64).reshape(-1)


def nodata_of(item: h5py.Dataset, *names: str, default: tuple[float, ...] = ()) -> tuple[float, ...]:
    """The no-data value that a dataset declares in one of these attributes."""
    for name in names or ("_FillValue", "missing_value"):
        value = numbers(item, name)
        if value is not None:
            return tuple(float(v) for v in value)
    return default


def affine_from_gdal(values: np.ndarray | None) -> Affine | None:
    """GDAL's six numbers (x0, dx, rx, y0, ry, dy) as a transform."""
    return Affine.from_gdal(*values[:6]) if values is not None and len(values) >= 6 else None


def checked(path: Path, what: str, values: np.ndarray | None, bands: int) -> np.ndarray | None:
    """The values if there is one a band.

    Raises:
        SceneError: There is another number of them.
    """
    if values is not None and len(values) != bands:
        raise SceneError(f"{path}: {len(values)} values of {what} for {bands} bands. Is the file complete?")
    return values


def variables(file: h5py.File, matlab: bool) -> dict[str, Variable]:
    """The numeric arrays of a file that is of no known product; MATLAB writes its axes in reverse."""
    found: dict[str, h5py.Dataset] = {}
    _collect(file, "", found)
    return {
        key: Variable(item.shape[::-1] if matlab else item.shape, item.dtype, item.id.get_storage_size())
        for key, item in found.items()
    }


def load_variable(path: Path, file: h5py.File, key: str, matlab: bool) -> np.ndarray:
    """One array, whole.

    Raises:
        SceneError: It declares far more than it holds.
    """
    item = dataset(file, key)
    check_declared(path, item.nbytes, item.id.get_storage_size())
    return item[()].T if matlab else item[()]


def open_other(path: Path, file: h5py.File, variable: str | None, matlab: bool) -> Reader:
    """A file of no known product: MATLAB 7.3, or a three-dimensional dataset and a vector of wavelengths for one axis."""
    found = variables(file, matlab)
    key = pick(path, found, None if variable is None else variable.strip("/"), ndim=3)
    shape = found[key].shape
    axes, notes = ("bxy", ()) if matlab else ("yxb", (f"the axes of {key} are taken as rows, columns, bands",))
    centres = None
    for name, one in found.items():
        if name.rsplit("/", 1)[-1] in SPELLINGS and max(one.shape) == np.prod(one.shape, dtype=np.int64) > 1:
            item = dataset(file, name)
            unit = "" if matlab else text(item, "units") or text(item, "unit")
            values, _ = to_nm(np.asarray(item[()], np.float64).reshape(-1), unit)
            if not matlab and values is not None and len(values) in shape:
                axes, notes = {0: "byx", 1: "ybx", 2: "yxb"}[max(a for a in range(3) if shape[a] == len(values))], ()
                centres = values
            elif values is not None and len(values) == shape[-1]:
                centres = values
    if len(shape) != 3:
        raise SceneError(f"{path}: found an array of shape {shape}; a cube has three axes, H x W x B.")
    arguments = stack(path, file, [(key, axes, None)])
    nodata = () if matlab else nodata_of(dataset(file, key))
    if nodata:
        arguments["declared_nodata"] = nodata
    return Hdf5Reader(variable=key, wavelengths=centres, notes=notes, **arguments)


def _collect(group: h5py.Group, prefix: str, found: dict[str, h5py.Dataset], depth: int = 0) -> None:
    """Every numeric dataset below a group, except in MATLAB's own ``#refs#``.

    The names are listed first: an error inside h5py's iterators would leave the library locked.
    """
    if depth > 8:
        return
    for name in list(group):
        if name.startswith("#"):
            continue
        item = find(group, name)
        if isinstance(item, h5py.Group):
            _collect(item, f"{prefix}{name}/", found, depth + 1)
        elif isinstance(item, h5py.Dataset) and item.shape and item.dtype.kind in "biufV":
            found[prefix + name] = item
