"""Plain arrays: NumPy's .npy and .npz, MATLAB's .mat of versions 4 to 7."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.io

from fers.scenes.readers.base import MappedReader, Reader, SceneError, check_declared, refusing
from fers.scenes.readers.wavelengths import SPELLINGS, to_nm

_PEEK = 1 << 12  # bytes of a MATLAB variable that surely hold its name and dimensions
_MI_INT8, _MI_INT32, _MI_UINT32, _MI_MATRIX, _MI_COMPRESSED, _MI_UTF8 = 1, 5, 6, 14, 15, 16
_MI_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_MX_NUMERIC = range(6, 16)  # double, single, and eight kinds of integers


@dataclass(frozen=True)
class Variable:
    """Array that a file declares: its axes, type, and bytes that the file holds for it, compressed or not."""

    shape: tuple[int, ...]
    dtype: np.dtype
    stored: int

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return self.dtype.itemsize * math.prod(self.shape)


def pick(
    path: Path, found: dict[str, Variable], variable: str | None, ndim: int, shape: tuple[int, int] | None = None
) -> str:
    """Pick the variable that was named, else the only one with ``ndim`` axes (for a truth, longer than 1, of ``shape``).

    Raises:
        SceneError: There is none, or more than one.
    """
    kind = {3: "cube (H x W x B)", 2: "mask (H x W)"}[ndim]
    listed = "; found " + (
        ", ".join(f"{k} {' x '.join(map(str, v.shape))}" for k, v in found.items()) or "nothing numeric"
    )
    if variable is not None:
        if variable not in found:
            raise SceneError(f"{path}: no variable named '{variable}'{listed}. Name one of these.")
        return variable
    fits = [k for k, v in found.items() if len(v.shape) == ndim and (ndim == 3 or min(v.shape) > 1)]
    if shape is not None and len(fits) > 1:
        fits = [k for k in fits if found[k].shape == tuple(shape)]
    if len(fits) != 1:
        count = "no" if not fits else f"{len(fits)} variables that could each be the"
        raise SceneError(f"{path}: {count} {kind}{listed}. Name the one to read (variable=...).")
    return fits[0]


# ----- .npy


def _npy_header(file: BinaryIO) -> tuple[tuple[int, ...], str, np.dtype]:
    """Shape, order ("C" or "F") and type of an array; the file is left at its first sample."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    if any(side < 0 for side in shape):
        raise ValueError(f"the shape {shape}")
    return shape, "F" if fortran else "C", dtype


def _npy(path: Path) -> tuple[tuple[int, ...], str, np.dtype, int]:
    with refusing(path, ".npy file"), open(path, "rb") as file:
        shape, order, dtype = _npy_header(file)
        start, size = file.tell(), file.seek(0, 2)
        needed = start + Variable(shape, dtype, 0).nbytes
        if size < needed:
            raise ValueError(f"{size} bytes, and its header says {shape} of {dtype}, {needed} bytes")
        return shape, order, dtype, start


def open_npy(path: Path) -> Reader:
    """Open the cube in a .npy file, ``(H, W, B)``."""
    shape, order, dtype, start = _npy(path)
    axes = "yxb" if order == "C" else "bxy"
    return MappedReader(path=path, data=path, shape=shape, stored=dtype, start=start, axes=axes)  # type: ignore[arg-type]


def read_npy(path: Path) -> np.ndarray:
    """Map the array in a .npy file, read-only."""
    shape, order, dtype, start = _npy(path)
    if not Variable(shape, dtype, 0).nbytes:
        raise SceneError(f"{path}: the array {shape} is empty.")
    with refusing(path, ".npy file"):
        return np.memmap(path, dtype, "r", start, shape, order)  # type: ignore[call-overload]


# ----- variables that are loaded whole: .npz and .mat


@dataclass(kw_only=True)
class VariableReader(Reader):
    """Variable of a .npz or of a .mat file before version 7.3. It is loaded whole, once a process."""

    variable: str
    declared: Variable
    _array: np.ndarray | None = field(default=None, repr=False)

    def memory_map(self) -> np.ndarray:
        if self._array is None:
            self._array = load_variable(self.path, self.variable, self.declared)
        return self._array

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_array": None}


def open_variable(path: Path, variable: str | None) -> Reader:
    """Open the cube in a .npz or .mat file: the variable that is named, else the only one with three axes.

    An array named "wavelengths" with one value a band gives the band centres.
    """
    found = variables(path)
    name = pick(path, found, variable, ndim=3)
    cube, centres = found[name], None
    for other, one in found.items():
        if other in SPELLINGS and one.nbytes == one.dtype.itemsize * cube.shape[-1] and one.dtype.kind in "iuf":
            centres, _ = to_nm(load_variable(path, other, one).reshape(-1).astype(float), "")
    return VariableReader(
        path=path,
        shape=cube.shape,  # type: ignore[arg-type]
        stored=cube.dtype,
        variable=name,
        declared=cube,
        wavelengths=centres,
    )


def variables(path: Path) -> dict[str, Variable]:
    """List the numeric arrays that a .npz or .mat file declares; none of them is read.

    Raises:
        SceneError: The file is damaged.
    """
    if _is_zip(path):
        with refusing(path, ".npz file"):
            return _npz_variables(path)
    with refusing(path, "MATLAB file"), open(path, "rb") as file:
        endian = {b"IM": "<", b"MI": ">"}.get(file.read(128)[126:])
        if endian is not None and file.seek(0) == 0 and any(file.read(4)):
            return dict(_mat_variables(file, endian))
        found = scipy.io.whosmat(path)  # version 4 has matrices only, and no types that could mislead
        size = path.stat().st_size
        return {name: Variable(shape, np.dtype("f8"), size) for name, shape, _ in found}


def load_variable(path: Path, name: str, declared: Variable) -> np.ndarray:
    """Load one array of a .npz or .mat file, which ``variables`` has declared.

    Raises:
        SceneError: The file is damaged, or declares far more than it holds.
    """
    if declared.dtype.kind not in "biuf":
        raise SceneError(f"{path}: found values of type {declared.dtype}; real numbers are needed. Convert it first.")
    check_declared(path, declared.nbytes, declared.stored)
    if _is_zip(path):
        with refusing(path, ".npz file"), np.load(path, allow_pickle=False) as archive:
            return archive[name]
    with refusing(path, "MATLAB file"):
        return scipy.io.loadmat(path, variable_names=[name])[name]


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"PK" or path.suffix.lower() == ".npz"


def _npz_variables(path: Path) -> dict[str, Variable]:
    found = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as file:
                shape, _, dtype = _npy_header(file)  # type: ignore[arg-type]
                declared = Variable(shape, dtype, member.compress_size)
                if member.file_size != file.tell() + declared.nbytes:
                    raise ValueError(f"{name} has {member.file_size} bytes, and its header says {shape} of {dtype}")
            found[name] = declared
    return found


def _mat_variables(file: BinaryIO, endian: str) -> Iterator[tuple[str, Variable]]:
    """Name and declaration of each numeric variable of a version 5 to 7 file.

    Every tag is checked, because SciPy reads beyond its memory on those that the format does not know.
    """
    size, place = file.seek(0, 2), 128
    while place + 8 <= size:
        file.seek(place)
        kind, count = struct.unpack(endian + "II", file.read(8))
        if kind not in (_MI_MATRIX, _MI_COMPRESSED) or place + 8 + count > size:
            raise ValueError(f"at byte {place}: element of type {kind} and {count} bytes")
        head = file.read(min(count, _PEEK))
        whole = count
        if kind == _MI_COMPRESSED:
            head = zlib.decompressobj().decompress(head, _PEEK)
            inner, whole = struct.unpack(endian + "II", head[:8])
            if inner != _MI_MATRIX:
                raise ValueError(f"at byte {place}: compressed element of type {inner}")
            head = head[8:]
        named = _mat_matrix(head, whole, endian, count)
        if named is not None:
            yield named
        place += 8 + count


def _mat_matrix(head: bytes, whole: int, endian: str, stored: int) -> tuple[str, Variable] | None:
    """Name and declaration of one matrix from its first bytes; None for text, structures, cells and sparse matrices."""
    place = 0

    def element() -> tuple[int, int, bytes]:
        """Type, size and content of the next element; the content is cut where the first bytes end."""
        nonlocal place
        kind, count = struct.unpack_from(endian + "II", head, place)
        if kind >> 16:  # up to four bytes are packed into the tag
            kind, count, start = kind & 0xFFFF, kind >> 16, place + 4
            if count > 4:
                raise ValueError(f"packed element of {count} bytes")
            place += 8
        else:
            start = place + 8
            place = start + -(-count // 8) * 8
        return kind, count, head[start : start + count]

    kind, count, content = element()
    if kind != _MI_UINT32 or count != 8:
        raise ValueError(f"array flags of type {kind} and {count} bytes")
    flags = struct.unpack(endian + "I", content[:4])[0]
    kind, count, content = element()
    if kind != _MI_INT32 or not 8 <= count <= 256 or count % 4:
        raise ValueError(f"dimensions of type {kind} and {count} bytes")
    shape = struct.unpack(f"{endian}{count // 4}i", content)
    if min(shape) < 0:
        raise ValueError(f"dimensions {shape}")
    kind, count, content = element()
    if kind not in (_MI_INT8, 2, _MI_UTF8) or count > 1024:
        raise ValueError(f"a name of type {kind} and {count} bytes")
    name = content.decode("latin-1")
    if flags & 0xFF not in _MX_NUMERIC or not name:
        return None
    kind, count, _ = element()
    if kind not in _MI_TYPES:
        raise ValueError(f"'{name}' has data of type {kind}")
    dtype = np.dtype(_MI_TYPES[kind])
    declared = Variable(shape, dtype, stored)
    if declared.nbytes != count or count > whole:
        raise ValueError(f"'{name}' is {' x '.join(map(str, shape))} of {dtype} and has {count} bytes")
    if flags & 0x800:
        return name, Variable(shape, np.dtype(complex), stored)
    return name, declared
