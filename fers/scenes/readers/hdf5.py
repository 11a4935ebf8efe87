"""HDF5 files, netCDF4 among them: one reader for all, and the way to find what is inside.

The products differ in where the cube lies and in the order of its axes. ``products`` says so and makes an ``Hdf5Reader``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fers.scenes.readers.arrays import Variable
from fers.scenes.readers.base import Reader, check_memory, free_memory, windowed
from fers.scenes.readers.errors import SceneError, refusing
from fers.scenes.readers.geometry import Geometry
from fers.scenes.readers.places import checked_latlon, checked_lookup

_TEXT_SECONDS = 15
_LONGEST = 1 << 20  # numbers or texts of one vector
_MOST_OBJECTS, _DEEPEST = 10_000, 30
_READ_TEXT = """
import h5py, json, numpy, sys
with h5py.File(sys.argv[1], "r") as file:
    item = file[sys.argv[2]]
    found = item.attrs[sys.argv[3]] if sys.argv[3] else item[()]
    print(json.dumps([v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in numpy.ravel(found)]))
"""
_READ_ABOUT = """
import h5py, json, numpy, sys
def text(attributes, name):
    try:
        found = numpy.ravel(attributes[name])[:64]
    except (OSError, TypeError, ValueError):
        return ""
    return " ".join(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in found)
def axes(item):
    labels, scales = [], []
    for axis in item.dims:
        try:
            labels.append(str(axis.label))
            scales.append(axis[0].name or "" if len(axis) else "")
        except (OSError, RuntimeError, ValueError, KeyError):
            labels, scales = labels[: len(scales)] + [""], scales + [""]
    return labels, scales
found = {}
with h5py.File(sys.argv[1], "r") as file:
    for key in json.load(sys.stdin):
        item = file[key]
        names = [name for name in item.attrs if name not in ("DIMENSION_LIST", "REFERENCE_LIST")]
        labels, scales = axes(item) if isinstance(item, h5py.Dataset) and item.shape else ([], [])
        attributes = {name: text(item.attrs, name) for name in names}
        found[key] = {"attributes": attributes, "labels": labels, "scales": scales}
print(json.dumps(found))
"""


@dataclass(kw_only=True)
class Hdf5Reader(Reader):
    """Scene in one or more datasets of an HDF5 file."""

    parts: tuple[tuple[str, str], ...]  # path of each dataset, and the order of its axes, "1" for one of length 1
    at: np.ndarray  # (B, 2): for each band the number of the part that holds it, and the band's number there
    glt: tuple[str, str] | None = None  # tables of columns and rows (GLT) for the map grid
    latlon: tuple[str, str] | None = None  # latitude and longitude

    @property
    def located(self) -> bool:
        """True where the pixels have a place on the Earth; no table is read for it."""
        return self.latlon is not None or super().located

    def _geometry(self) -> Geometry | None:
        """Placement by lookup table, by latitude and longitude, or on a map grid; None if the file has none."""
        lookup = self.glt is not None and self.grid is not None
        keys = self.glt if lookup else self.latlon
        if keys is None:
            return self.grid
        with refusing(self.path, "HDF5 file"), h5py.File(self.path, "r") as file:
            tables = [dataset(file, key) for key in keys]
            for table in tables:
                if not lookup and table.shape != self.shape[:2]:
                    found = " x ".join(map(str, table.shape))
                    raise SceneError(
                        f"{self.path}: {table.name} is {found}; the scene is {self.shape[0]} x {self.shape[1]}. "
                        "Are both of one scene? Name a table of places with --glt."
                    )
                check_memory(self.path, table.dtype.itemsize * prod(table.shape), table.id.get_storage_size())
            first, second = (np.asarray(table[()], np.float64) for table in tables)
            if lookup and self.grid is not None:
                return checked_lookup(str(self.path), self.grid, first, second, self.shape)
            for table, values in zip(tables, (first, second), strict=True):
                for fill in nodata_of(file, table.name):
                    values[values == fill] = np.nan
            return checked_latlon(str(self.path), first, second, self.shape)

    def _read(self, start: int, stop: int, index: np.ndarray) -> np.ndarray:
        if self.start is not None:
            return super()._read(start, stop, index)
        at = self.at[index]
        out = np.empty((stop - start, self.shape[1], len(index)), self.stored)
        with h5py.File(self.path, "r") as file:
            for number, (key, axes) in enumerate(self.parts):
                mine = np.flatnonzero(at[:, 0] == number)
                if len(mine) == 0:
                    continue
                window, chosen = windowed(at[mine, 1])
                region = {"y": slice(start, stop), "x": slice(None), "b": window, "1": 0}
                block = dataset(file, key)[tuple(region[axis] for axis in axes)]
                axes = axes.replace("1", "")
                block = block.transpose([axes.index(axis) for axis in "yxb"])[:, :, chosen]
                if len(mine) == len(at):
                    return block
                out[:, :, mine] = block
        return out


def stack(file: h5py.File, parts: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Ask datasets, given by path and axes, for what they say themselves: shape, type, chunks, and place in the file.

    Returns these arguments of an ``Hdf5Reader``, with all bands of all parts, one after the other.
    """
    at, found, chunks = [], set(), (1, 1, 1)
    for number, (key, axes) in enumerate(parts):
        item = dataset(file, key)
        if item.ndim != len(axes):
            raise SceneError(f"{file.file.filename}: {key} has the shape {item.shape}; expected three axes.")
        order = [axes.index(axis) for axis in "yxb"]
        height, width, bands = (item.shape[axis] for axis in order)
        found.add((height, width, item.dtype))
        at += [(number, band) for band in range(bands)]
        if item.chunks:
            chunks = tuple(item.chunks[axis] for axis in order)
    if len(found) != 1:
        raise SceneError(f"{file.file.filename}: its parts differ in size or type: {found}.")
    return {
        "path": Path(file.filename),
        "parts": tuple(parts),
        "at": np.array(at, np.int64).reshape(-1, 2),
        "shape": (height, width, len(at)),
        "stored": item.dtype,
        "native_chunks": chunks,
        "start": item.id.get_offset() if len(parts) == 1 else None,
        "axes": parts[0][1].replace("1", ""),
    }


def find(file: h5py.Group, key: str) -> h5py.Group | h5py.Dataset | None:
    """Find a group or dataset of the file; None where there is none, a `SceneError` if it leads into another file."""
    found, name = file, file.file.filename
    for step in (part for part in key.split("/") if part):
        link = found.get(step, getlink=True) if isinstance(found, h5py.Group) else None
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise SceneError(f"{name}: {key} is a link to elsewhere. Copy the data into the file (h5repack).")
        found = found[step]
    if isinstance(found, h5py.Dataset):
        if found.is_virtual or found.external:
            raise SceneError(f"{name}: the samples of {key} lie in another file. Copy them into this one (h5repack).")
        chunk = found.dtype.itemsize * int(np.prod(found.chunks, dtype=np.float64)) if found.chunks else 0
        if chunk > max(1 << 30, free_memory() // 2):
            raise SceneError(f"{name}: {key} has chunks of {chunk / 1e9:.1f} GB. Store smaller ones (h5repack).")
    return found


def dataset(file: h5py.Group, key: str) -> h5py.Dataset:
    """Find a dataset that must be there."""
    found = find(file, key)
    if not isinstance(found, h5py.Dataset):
        raise SceneError(f"{file.file.filename}: there is no dataset {key}. Is the file complete?")
    return found


def numbers(file: h5py.Group, key: str) -> np.ndarray | None:
    """Read the numbers of a dataset ("path") or an attribute ("path@name") as ``(n,)`` float64; None if it is missing.

    In an attribute of text they stand apart by blanks or commas.
    """
    item, name, dtype = _named(file, key)
    if dtype is None or (not name and dtype.kind not in "biuf"):
        return None
    _check_count(file, key, item.attrs.get_id(name).shape if name else item.shape)
    if dtype.kind not in "biuf":
        return np.array([float(part) for part in re.split(r"[\s,]+", text(file, key).strip("[](){} \n"))])
    return np.asarray(item.attrs[name] if name else item[()], np.float64).reshape(-1)


def per_band(file: h5py.Group, key: str, bands: int) -> np.ndarray | None:
    """Read ``numbers`` of which there is one a band; None where they are missing, a `SceneError` if they are others."""
    values = numbers(file, key)
    if values is not None and len(values) != bands:
        found = f"{len(values)} values of {re.split('[/@]', key)[-1]} for {bands} bands"
        raise SceneError(f"{file.file.filename}: {found}. Is the file complete?")
    return values


def text(file: h5py.Group, *keys: str) -> str:
    """Read the first text that is there and not empty, of datasets ("path") or attributes ("path@name"); else empty."""
    return next((found[0] for key in keys if (found := texts(file, key)) and found[0]), "")


def texts(file: h5py.Group, key: str) -> list[str]:
    """Read a dataset ("path") or an attribute ("path@name") of text; empty where it is missing.

    Text of variable length is read by another process, within a time: HDF5's library never returns from some damaged heaps.
    """
    item, name, dtype = _named(file, key)
    if dtype is None:
        return []
    _check_count(file, key, item.attrs.get_id(name).shape if name else item.shape)
    if dtype.kind != "O":
        found = np.ravel(item.attrs[name] if name else item[()])
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in found]
    if h5py.check_string_dtype(dtype) is None:
        raise ValueError(f"{item.name} {name} is not text")
    return _from_child(
        _READ_TEXT, [os.path.abspath(item.file.filename), item.name, name], "", f"the text of {item.name} {name}"
    )


def _from_child(script: str, arguments: Sequence[str], given: str, what: str) -> Any:
    """Run a short script in another process, within a time, and read the JSON that it prints."""
    command = [sys.executable, "-c", script, *arguments]
    packages = Path(h5py.__file__).parent.parent  # Python looks for modules where it starts: not in the user's folder
    try:
        ended = subprocess.run(command, cwd=packages, capture_output=True, timeout=_TEXT_SECONDS, input=given.encode())
    except subprocess.TimeoutExpired:
        raise ValueError(f"{what}: more than {_TEXT_SECONDS} s to read") from None
    if ended.returncode:
        last = ended.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ValueError(f"{what}: {last or 'damaged'}")
    return json.loads(ended.stdout)


def _named(file: h5py.Group, key: str) -> tuple[Any, str, np.dtype | None]:
    """Item, attribute's name and type of "path" or "path@name"; the type is None where there is no such array."""
    place, _, name = key.partition("@")
    item = find(file, place)
    if name:
        return item, name, item.attrs.get_id(name).dtype if item is not None and name in item.attrs else None
    return item, name, item.dtype if isinstance(item, h5py.Dataset) else None


def _check_count(file: h5py.Group, key: str, shape: tuple[int, ...] | None) -> None:
    """Refuse a vector that declares more values than any has, before it is read."""
    if prod(shape or ()) > _LONGEST:
        raise SceneError(
            f"{file.file.filename}: {key} declares {prod(shape or ()):,} values. The file is damaged or of another kind."
        )


def nodata_of(file: h5py.File, cube: str) -> tuple[float, ...]:
    """Read the values that mark missing samples of a cube from its attributes; empty where it has none."""
    names = ("_FillValue", "missing_value", "Data_Ignore_Value")
    found = [values for name in names if (values := numbers(file, f"{cube}@{name}")) is not None]
    return tuple(dict.fromkeys(value for values in found for value in values.tolist()))


def variables(file: h5py.File, matlab: bool) -> dict[str, Variable]:
    """List the numeric arrays of a file that is of no known product; MATLAB writes its axes in reverse."""
    found = {}
    for key, item in objects(file):
        if isinstance(item, h5py.Dataset) and item.shape and item.dtype.kind in "biufcV":
            shape, stored = item.shape[::-1] if matlab else item.shape, item.id.get_storage_size()
            found[key] = Variable(Path(file.filename), shape, item.dtype, stored, partial(_read_item, item, matlab))
    return found


def _read_item(item: h5py.Dataset, matlab: bool) -> np.ndarray:
    return item[()].T if matlab else item[()]


def objects(
    group: h5py.Group, prefix: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Go through all groups and datasets of a file, each once however many links lead to it, except MATLAB's ``#refs#``.

    The names are listed first: an error inside h5py's iterators would leave the library locked.
    """
    seen = {h5py.h5o.get_info(group.id).addr} if seen is None else seen
    for name in list(group):
        item = None if name.startswith("#") else find(group, name)
        if item is None or (address := h5py.h5o.get_info(item.id).addr) in seen:
            continue
        seen.add(address)
        if len(seen) > _MOST_OBJECTS or prefix.count("/") > _DEEPEST:
            raise SceneError(
                f"{group.file.filename}: has over {_MOST_OBJECTS} groups and datasets, or over {_DEEPEST} levels. "
                "Copy the cube into a file of its own (h5copy)."
            )
        yield prefix + name, item
        if isinstance(item, h5py.Group):
            yield from objects(item, f"{prefix}{name}/", seen)


@dataclass(frozen=True)
class About:
    """Description of one object in a file: its attributes as text, and the names of the axes of a dataset."""

    attributes: dict[str, str]
    labels: tuple[str, ...] = ()  # one an axis, empty where it has none
    scales: tuple[str, ...] = ()  # path of the coordinate of each axis, empty where it has none

    def number(self, name: str) -> float | None:
        """Return an attribute as a number; None where it is missing or none."""
        try:
            return float(self.attributes.get(name, ""))
        except ValueError:
            return None


def described(file: h5py.File, keys: Sequence[str]) -> dict[str, About]:
    """Read attributes and axes of several objects at once, by another process, as ``texts`` does."""
    if not keys:
        return {}
    found = _from_child(_READ_ABOUT, [os.path.abspath(file.filename)], json.dumps(list(keys)), "the attributes")
    return {key: About(one["attributes"], tuple(one["labels"]), tuple(one["scales"])) for key, one in found.items()}
