"""Readers of scenes from files, one module a family of formats, all with one contract (`base.Reader`).

In reading order: ``base`` (the contract, places on the Earth, no-data, refusals), ``arrays`` (.npy, .npz, .mat), ``envi``,
``geotiff`` (with EnMAP, DESIS, Hyperion), ``hdf5`` and its ``products``; ``wavelengths`` and ``projection`` serve them.
A new product in HDF5 is one row of ``products.PRODUCTS``, a new format one module and one line in ``_opened``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from fers.scenes.readers import arrays, envi, geotiff, hdf5, products
from fers.scenes.readers.base import Geometry, LatLon, LookupTable, MapGrid, Reader, SceneError, refusing

__all__ = ["Geometry", "LatLon", "LookupTable", "MapGrid", "Reader", "SceneError", "open_scene", "read_array"]

_RASTER = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cjP  ")  # TIFF, BigTIFF, JPEG 2000
_HDF5 = b"\x89HDF\r\n\x1a\n"
_KNOWN = "MATLAB (.mat), NumPy (.npy, .npz), ENVI with its .hdr, GeoTIFF, or a product in HDF5 or netCDF4"


def open_scene(path: str | Path, variable: str | None = None) -> Reader:
    """Open a scene of any format that is known here. It is recognised by what it holds, not by its name.

    Args:
        path: The file. For ENVI the header or the data file; for EnMAP and DESIS the raster or the ZIP; for Hyperion one
            band's file or the folder.
        variable: The variable to take from a file that holds several; by default the only cube.

    Returns:
        A reader. No sample is read yet.

    Raises:
        SceneError: The file is missing, damaged, of an unknown format, or holds no (or more than one) cube.

    Example:
        >>> import tempfile, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/a.npy", np.zeros((20, 30, 5), np.int16))
        ...     open_scene(f"{folder}/a.npy").read(slice(10, 12), [0, 4]).shape
        (2, 30, 2)
    """
    path = Path(path)
    with refusing(path, "scene"):
        return geotiff.open_hyperion(path) if path.is_dir() else _opened(path, _head(path), variable)


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(128)
    except FileNotFoundError as error:
        raise SceneError(f"{path}: no such file. Check the path of the scene.") from error


def _opened(path: Path, head: bytes, variable: str | None) -> Reader:
    suffix = path.suffix.lower()
    if head.startswith(b"\x93NUMPY"):
        return arrays.open_npy(path)
    if head.startswith(b"PK"):
        return geotiff.open_zipped_product(path) or arrays.open_variable(path, variable)
    if head.startswith(_RASTER):
        return geotiff.open_geotiff(path)
    if _is_hdf5(path, head):
        with _hdf5(path, head) as (file, matlab):
            found = None if matlab else products.open_product(file, variable)
            return found or hdf5.open_other(file, variable, matlab)
    if head[124:128] in (b"\x00\x01IM", b"\x01\x00MI") or suffix in (".mat", ".npz"):
        return arrays.open_variable(path, variable)
    if suffix == ".npy":
        return arrays.open_npy(path)
    if suffix in (".bsq", ".bil", ".bip") and "-SPECTRAL_IMAGE" in path.name.upper():
        return geotiff.open_geotiff(path)  # EnMAP's ENVI delivery: the gains are in its XML
    if suffix == ".hdr" or envi.header_of(path) is not None:
        return envi.open_envi(path)
    if head.startswith(b"\x0e\x03\x13\x01"):
        raise SceneError(f"{path}: an HDF4 file, which is not read here. For Hyperion, give the L1T product (GeoTIFF).")
    if head.startswith(b"CDF"):
        raise SceneError(f"{path}: a classic netCDF file, which is not read here. Convert it: nccopy -k netCDF-4.")
    raise SceneError(f"{path}: not a cube format that is read here. Give {_KNOWN}.")


def read_array(path: Path, variable: str | None = None, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read an array of a .mat, .npz or .npy file, such as a truth.

    By default it is the only one with two axes, or of those the one of ``shape``; a `SceneError` if the file is damaged or
    the choice is not clear.
    """
    with refusing(path, "file"):
        if path.suffix.lower() == ".npy":
            return arrays.read_npy(path)
        if _is_hdf5(path, head := _head(path)):
            with _hdf5(path, head) as (file, matlab):
                found = hdf5.variables(file, matlab)
                return found[arrays.pick(path, found, variable, 2, shape)].load()
        found = arrays.variables(path)
        return found[arrays.pick(path, found, variable, 2, shape)].load()


def _is_hdf5(path: Path, head: bytes) -> bool:
    return head.startswith((_HDF5, b"MATLAB 7.3")) or (not head.startswith(b"MATLAB") and h5py.is_hdf5(path))


@contextmanager
def _hdf5(path: Path, head: bytes) -> Iterator[tuple[h5py.File, bool]]:
    """The open file, and whether MATLAB wrote it."""
    matlab = head.startswith(b"MATLAB") or path.suffix.lower() == ".mat"
    with refusing(path, "MATLAB file" if matlab else "HDF5 file"), h5py.File(path, "r") as file:
        yield file, matlab
