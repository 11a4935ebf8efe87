"""Plain arrays: NumPy's .npy and .npz, MATLAB's .mat of versions 4 to 7."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fers.scenes.readers.base import Reader, check_memory
from fers.scenes.readers.errors import SceneError, refusing
from fers.scenes.readers.wavelengths import SPELLINGS, to_nm

_IN_MESSAGE = 20  # variables in a message
_PEEK = 1 << 12  # bytes of a MATLAB variable that surely hold its name and dimensions
_MI_MATRIX, _MI_COMPRESSED = 14, 15
_MI_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MX_HEADER = (  # what each matrix begins with: the types that it may have, and the sizes in bytes
    ("array flags", (6,), (8,)),
    ("dimensions", (5,), range(8, 257, 4)),
    ("a name", (1, 2, 16), range(1025)),
)
_MX_NUMERIC = range(6, 16)  # double, single, and eight kinds of integers


@dataclass(frozen=True)
class Variable:
    """Array that a file declares: axes, type, bytes that the file holds for it, packed or not, and how to read it."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    stored: int
    read: Callable[[], np.ndarray]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return self.dtype.itemsize * prod(self.shape)

    def load(self) -> np.ndarray:
        """Load the array; a `SceneError` if it is damaged, not of real numbers, or declares far more than it holds."""
        if self.dtype.kind not in "biuf":
            raise SceneError(
                f"{self.path}: found values of type {self.dtype}; real numbers are needed. Convert it first."
            )
        check_memory(self.path, self.nbytes, self.stored)
        with refusing(self.path, "file of arrays"):
            return self.read()


def pick(path: Path, found: dict[str, Variable], variable: str | None, shape: tuple[int, int] | None = None) -> str:
    """Pick the truth or mask that was named, else the only one of two axes longer than 1, or of those the one of ``shape``."""
    if variable is not None:
        return _asked(path, found, variable)
    fits = [k for k, v in found.items() if len(v.shape) == 2 and min(v.shape) > 1]
    if shape is not None and len(fits) > 1:
        fits = [k for k in fits if found[k].shape == tuple(shape)]
    if len(fits) != 1:
        count = "no" if not fits else f"{len(fits)} variables that could each be the"
        raise SceneError(
            f"{path}: {count} mask (H x W); found {_listed(found)}. "
            "Name the one to read: variable= in Python, the column truth_variable in a scene list."
        )
    return fits[0]


def pick_cube(path: Path, found: dict[str, Variable], variable: str | None) -> tuple[str, tuple[str, ...]]:
    """Pick the cube that was named, else the one of the most values; and say what was not taken.

    Sides of 1 do not count where there are more than three axes. A picture, of bytes in 3 or 4 bands, is no scene unless it
    is named.

    Raises:
        SceneError: There is none, the largest is no cube, or there are several as large.
    """
    if variable is not None:
        name = _asked(path, found, variable)
        cubes = [name]
    else:
        cubes = [k for k, v in found.items() if v.dtype.kind in "biufc" and len(squeezed(v.shape)) >= 3]
        cubes = [k for k in cubes if not _picture(found[k])]
        cubes.sort(key=lambda k: -prod(found[k].shape))
        name = cubes[0] if cubes else ""
    if not name:
        raise SceneError(f"{path}: no cube (H x W x B); found {_listed(found)}. Name the one to read: --variable NAME.")
    shape = found[name].shape
    if len(squeezed(shape)) != 3:
        sides = " x ".join(map(str, shape))
        raise SceneError(
            f"{path}: '{name}' is {sides}; a scene has three axes longer than 1. Found {_listed(found)}. Name another: "
            "--variable NAME, or save a part of it."
        )
    if (ties := sum(prod(found[k].shape) == prod(shape) for k in cubes)) > 1:
        raise SceneError(
            f"{path}: {ties} variables that could each be the cube (H x W x B); found {_listed(found)}. Name one: "
            "--variable NAME."
        )
    others = [f"{k} {' x '.join(map(str, found[k].shape))}" for k in cubes[1:]]
    return name, (
        f"{name} is read, the largest cube; --variable names another of {', '.join(others)}",
    ) if others else ()


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Leave out sides of 1 of a shape of more than three."""
    return tuple(side for side in shape if side != 1) if len(shape) > 3 else shape


def _picture(one: Variable) -> bool:
    return one.dtype == np.uint8 and bool({3, 4} & {*squeezed(one.shape)})


def _asked(path: Path, found: dict[str, Variable], variable: str) -> str:
    if variable not in found:
        raise SceneError(f"{path}: no variable named '{variable}'; found {_listed(found)}. Name one of these.")
    return variable


def _listed(found: dict[str, Variable]) -> str:
    shown = [f"{k} {' x '.join(map(str, v.shape))}" for k, v in list(found.items())[:_IN_MESSAGE]]
    return ", ".join(shown + ["..."] * (len(found) > _IN_MESSAGE)) or "nothing numeric"


def open_npy(path: Path, axes: str | None = None) -> Reader:
    """Open the cube in a .npy file, ``(H, W, B)`` unless ``axes`` says otherwise."""
    array = read_npy(path)
    shape, axes = squeezed(array.shape), axes or "yxb"
    if len(shape) == 3:
        shape = tuple(shape[axes.index(axis)] for axis in "yxb")
    facts: dict[str, Any] = {"path": path, "shape": shape, "stored": array.dtype, "start": array.offset}
    return Reader(axes=axes if array.flags.c_contiguous else axes[::-1], **facts)


def read_npy(path: Path) -> np.memmap:
    """Map the array in a .npy file, read-only."""
    with refusing(path, ".npy file"), np.errstate(over="ignore"):  # shapes larger than any memory
        array = np.lib.format.open_memmap(path, mode="r")
    if array.size == 0:
        raise SceneError(f"{path}: the array {array.shape} is empty.")
    return array


# ----- variables that are loaded whole: .npz and .mat


@dataclass(kw_only=True)
class VariableReader(Reader):
    """Variable of a .npz or of a .mat file before version 7.3. It is loaded whole, once a process."""

    variable: str
    _array: np.ndarray | None = field(default=None, repr=False)

    def memory_map(self) -> np.ndarray:
        """Return the loaded array."""
        if self._array is None:
            array = variables(self.path)[self.variable].load()
            self._array = array.reshape(squeezed(array.shape)).transpose([self.axes.index(axis) for axis in "yxb"])
        return self._array

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_array": None}


def open_variable(path: Path, variable: str | None, axes: str | None = None) -> Reader:
    """Open the cube in a .npz or .mat file, ``(H, W, B)`` unless ``axes`` says otherwise: the variable named, or the largest.

    An array named "wavelengths" with one value a band gives the band centres.
    """
    found = variables(path)
    name, notes = pick_cube(path, found, variable)
    axes, sides = axes or "yxb", squeezed(found[name].shape)
    shape = tuple(sides[axes.index(axis)] for axis in "yxb")
    centres = None
    for other, one in found.items():
        if other in SPELLINGS and prod(one.shape) == shape[2] and one.dtype.kind in "iuf":
            centres, _ = to_nm(one.load().reshape(-1).astype(float), "")
    facts: dict[str, Any] = {"shape": shape, "stored": found[name].dtype, "wavelengths": centres, "notes": notes}
    return VariableReader(path=path, variable=name, axes=axes, **facts)


def variables(path: Path) -> dict[str, Variable]:
    """List the numeric arrays that a .npz or .mat file declares; none of them is read."""
    with open(path, "rb") as file:
        head = file.read(128)
        if head.startswith(b"PK") or path.suffix.lower() == ".npz":
            with refusing(path, ".npz file"), zipfile.ZipFile(path) as archive:
                members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
                return {member.filename[:-4]: _npz_variable(path, archive, member) for member in members}
        endian = {b"IM": "<", b"MI": ">"}.get(head[126:])
        with refusing(path, "MATLAB file"):
            if endian is not None and any(head[:4]):
                return dict(_mat_variables(path, file, endian))
            from scipy.io import whosmat  # late: --help does not wait for it

            found, size = whosmat(path), path.stat().st_size
            # version 4 has matrices only, and no types that could mislead
            return {
                name: Variable(path, shape, np.dtype("f8"), size, _mat_reader(path, name)) for name, shape, _ in found
            }


def _mat_reader(path: Path, name: str) -> Callable[[], np.ndarray]:
    def load() -> np.ndarray:
        from scipy.io import loadmat

        return loadmat(path, variable_names=[name])[name]

    return load


def _read_npz(path: Path, name: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        return archive[name]


def _npz_variable(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Variable:
    name = member.filename[:-4]
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        declared = Variable(path, shape, dtype, member.compress_size, partial(_read_npz, path, name))
        if dtype.hasobject or member.file_size != file.tell() + declared.nbytes:
            raise ValueError(f"{name} has {member.file_size} bytes, and its header says {shape} of {dtype}")
    return declared


def _mat_variables(path: Path, file: BinaryIO, endian: str) -> Iterator[tuple[str, Variable]]:
    """Name and declaration of each numeric variable of a version 5 to 7 file.

    Every tag is checked, because SciPy reads beyond its memory on those that the format does not know.
    """
    size, place = file.seek(0, 2), 128
    while place + 8 <= size:
        file.seek(place)
        kind, stored = struct.unpack(endian + "II", file.read(8))
        if kind not in (_MI_MATRIX, _MI_COMPRESSED) or place + 8 + stored > size:
            raise ValueError(f"at byte {place}: element of type {kind} and {stored} bytes")
        head, whole = file.read(min(stored, _PEEK)), stored
        if kind == _MI_COMPRESSED:
            head = zlib.decompressobj().decompress(head, _PEEK)
            inner, whole = struct.unpack(endian + "II", head[:8])
            if inner != _MI_MATRIX:
                raise ValueError(f"at byte {place}: compressed element of type {inner}")
            head = head[8:]
        if matrix := _mat_matrix(head, whole, endian):
            name, shape, dtype = matrix
            yield name, Variable(path, shape, dtype, stored, _mat_reader(path, name))
        place += 8 + stored


def _mat_matrix(head: bytes, whole: int, endian: str) -> tuple[str, tuple[int, ...], np.dtype] | None:
    """Name, shape and type of one matrix from its first bytes; None for text, structures, cells and sparse matrices."""
    elements = _mat_elements(head, endian)
    parts = []
    for what, kinds, sizes in _MX_HEADER:
        kind, count, content = next(elements)
        if kind not in kinds or count not in sizes:
            raise ValueError(f"{what} of type {kind} and {count} bytes")
        parts.append(content)
    flags, sides, name = struct.unpack(endian + "I", parts[0][:4])[0], parts[1], parts[2].decode("latin-1")
    shape = struct.unpack(f"{endian}{len(sides) // 4}i", sides)
    if min(shape) < 0:
        raise ValueError(f"dimensions {shape}")
    if flags & 0xFF not in _MX_NUMERIC or not name:
        return None
    kind, count, _ = next(elements)
    if kind not in _MI_TYPES:
        raise ValueError(f"'{name}' has data of type {kind}")
    dtype = np.dtype(_MI_TYPES[kind])
    if dtype.itemsize * prod(shape) != count or count > whole:
        raise ValueError(f"'{name}' is {' x '.join(map(str, shape))} of {dtype} and has {count} bytes")
    return name, shape, np.dtype(complex) if flags & 0x800 else dtype


def _mat_elements(head: bytes, endian: str) -> Iterator[tuple[int, int, bytes]]:
    """Type, size and content of one element after the other; the content is cut where the first bytes end."""
    place = 0
    while True:
        kind, count = struct.unpack_from(endian + "II", head, place)
        start, step = place + 8, 8 + -(-count // 8) * 8
        if kind >> 16:  # up to four bytes are packed into the tag
            kind, count, start, step = kind & 0xFFFF, kind >> 16, place + 4, 8
            if count > 4:
                raise ValueError(f"packed element of {count} bytes")
        yield kind, count, head[start : start + count]
        place += step
