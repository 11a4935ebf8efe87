"""Readers of scenes from files, one module a family of formats, all with one contract (`base.Reader`).

In reading order: ``base`` (the contract, no-data), ``errors``, ``geometry``, ``arrays`` (.npy, .npz, .mat), ``envi``,
``geotiff`` (with EnMAP, DESIS, Hyperion), ``hdf5``, its ``products`` and the ``conventions`` of other files. ``rasters`` is the
one door to GDAL; ``wavelengths``, ``axes``, ``projection`` and ``places`` serve all.
A new product in HDF5 is one row of ``products.PRODUCTS``, a new format one module and one line in ``_opened``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np

from fers.scenes.readers import arrays, conventions, envi, geotiff, hdf5, products
from fers.scenes.readers.axes import parse_axes
from fers.scenes.readers.base import Reader, noted
from fers.scenes.readers.errors import SceneError, local_file, refusing
from fers.scenes.readers.geometry import Geometry, LatLon, LookupTable, MapGrid
from fers.scenes.readers.places import is_lookup
from fers.scenes.readers.rasters import driver_of
from fers.scenes.readers.wavelengths import read_wavelengths

__all__ = ["Geometry", "LatLon", "LookupTable", "MapGrid", "Reader", "SceneError", "open_scene", "read_array"]

Array = TypeVar("Array", np.memmap, arrays.Variable)

_HDF5 = b"\x89HDF\r\n\x1a\n"
_KNOWN = "MATLAB (.mat), NumPy (.npy, .npz), ENVI with its .hdr, GeoTIFF, or a product in HDF5 or netCDF4"


def open_scene(
    path: str | Path,
    variable: str | None = None,
    *,
    axes: str | None = None,
    nodata: tuple[float, ...] | None = None,
    wavelengths: str | Path | np.ndarray | None = None,
    glt: str | Path | None = None,
) -> Reader:
    """Open a scene of any format that is known here. It is recognised by what it holds, not by its name.

    Args:
        path: The file. For ENVI the header or the data file; for EnMAP and DESIS the raster or the ZIP; for Hyperion one
            band's file or the folder.
        variable: The variable to take from a file that holds several; by default the largest cube.
        axes: Order of the axes of a plain array, such as ``band,y,x``, where the file does not say it.
        nodata: Values that mark missing samples, instead of what the file declares. A pixel of only zeros is missing for 0.
        wavelengths: Band centres ``(B,)`` in nm, or a file of them (text, .npy, or the header of another scene).
        glt: File of the place of each pixel: a GLT, or longitude and latitude (IGM, LOC). By default one that lies beside an
            ENVI file under its name; ``none`` for none.

    Returns:
        A reader. No sample is read yet.

    Raises:
        SceneError: The file is missing, damaged, of an unknown format, or holds no (or more than one) cube; or it is not on
            a disk.

    Example:
        >>> import tempfile, numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/a.npy", np.zeros((20, 30, 5), np.int16))
        ...     open_scene(f"{folder}/a.npy").read(slice(10, 12), [0, 4]).shape
        (2, 30, 2)
    """
    path = local_file(path)
    with refusing(path, "scene"):
        order = None if axes is None else parse_axes(axes)
        reader = geotiff.open_hyperion(path) if path.is_dir() else _opened(path, _head(path), variable, order)
        if nodata is not None:
            missing_if = "all" if tuple(nodata) == (0.0,) else reader.missing_if  # a single 0 can be measured
            reader = noted(reader, declared_nodata=tuple(nodata), missing_if=missing_if)
        if wavelengths is not None:
            reader = _with_wavelengths(reader, wavelengths)
        return _placed(reader, glt)


def _head(path: Path) -> bytes:
    with open(local_file(path), "rb") as file:
        return file.read(128)


def _with_wavelengths(reader: Reader, given: str | Path | np.ndarray) -> Reader:
    """The reader with wavelengths of the user's, who is told what is wrong with them."""
    if isinstance(given, np.ndarray):
        told = replace(reader, wavelengths=np.asarray(given, float), fwhm=None)
        name = "wavelengths"
    else:
        file = local_file(given, "wavelengths")
        if file.suffix.lower() == ".hdr":
            centres, widths = envi.wavelengths_of(file)
        else:
            centres, widths = read_wavelengths(file, reader.bands)
        told = replace(reader, wavelengths=centres, fwhm=widths, beside=(*reader.beside, file))
        name = f"--wavelengths {given}"
    if told.wavelengths is None:
        raise SceneError(f"{name}: {told.notes[-1].partition(';')[0]}. Give one wavelength in nm or um for each band.")
    return told


def _placed(reader: Reader, glt: str | Path | None) -> Reader:
    """The reader with the table of places that the user names, or that lies beside an ENVI file without a place."""
    if glt is not None and str(glt).lower() != "none":
        file = local_file(glt, "table of places (--glt)")
        return noted(reader, f"placed by {file.name}", table=_opened(file, _head(file), None, None), grid=None)
    if glt is not None or not reader.data or reader.grid is not None or reader.points is not None:
        return reader
    if envi.is_side_file(reader.path) or (beside := envi.table_beside(reader.path)) is None:
        return reader
    table = envi.open_envi(beside)
    if not is_lookup(table.bands, table.stored, table.grid) and table.shape[:2] != reader.shape[:2]:
        return noted(reader, f"{beside.name} beside it is of another size and does not place it")
    return noted(reader, f"placed by {beside.name} beside it", table=table)


def _opened(path: Path, head: bytes, variable: str | None, axes: str | None) -> Reader:
    suffix = path.suffix.lower()
    if head.startswith(b"\x93NUMPY"):
        return arrays.open_npy(path, axes)
    if head.startswith(b"PK"):
        return geotiff.open_zipped_product(path) or arrays.open_variable(path, variable, axes)
    if driver_of("", head) in ("GTiff", "JP2OpenJPEG"):
        _refuse_axes(path, axes)
        return geotiff.open_geotiff(path)
    if _is_hdf5(path, head):
        with _hdf5(path, head) as (file, matlab):
            if not matlab and (found := products.open_product(file, variable)) is not None:
                _refuse_axes(path, axes)
                return found
            return conventions.open_other(file, variable, matlab, axes)
    if head[124:128] in (b"\x00\x01IM", b"\x01\x00MI") or suffix in (".mat", ".npz"):
        return arrays.open_variable(path, variable, axes)
    if suffix == ".npy":
        return arrays.open_npy(path, axes)
    _refuse_axes(path, axes)
    if suffix in (".bsq", ".bil", ".bip") and "-SPECTRAL_IMAGE" in path.name.upper():
        return geotiff.open_geotiff(path)  # EnMAP's ENVI delivery: the gains are in its XML
    if suffix == ".hdr" or envi.header_of(path) is not None:
        return envi.open_envi(path)
    if head.startswith(b"\x0e\x03\x13\x01"):
        raise SceneError(f"{path}: an HDF4 file, which is not read here. For Hyperion, give the L1T product (GeoTIFF).")
    if head.startswith(b"CDF"):
        raise SceneError(f"{path}: a classic netCDF file, which is not read here. Convert it: nccopy -k netCDF-4.")
    raise SceneError(f"{path}: not a cube format that is read here. Give {_KNOWN}.")


def _refuse_axes(path: Path, axes: str | None) -> None:
    if axes is not None:
        raise SceneError(f"{path}: the file says its axes. --axes is for plain arrays: .npy, .npz, .mat, HDF5, netCDF.")


def read_array(path: Path, variable: str | None = None, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read an array of a .mat, .npz or .npy file, such as a truth.

    By default it is the only one with two axes, or of those the one of ``shape``; a `SceneError` if the file is damaged or
    the choice is not clear.
    """
    path = local_file(path, "array")
    with refusing(path, "file"):
        if path.suffix.lower() == ".npy":
            return _of_sides(path, arrays.read_npy(path), shape)
        if _is_hdf5(path, head := _head(path)):
            with _hdf5(path, head) as (file, matlab):
                return _of_shape(path, hdf5.variables(file, matlab), variable, shape)
        return _of_shape(path, arrays.variables(path), variable, shape)


def _of_shape(
    path: Path, found: dict[str, arrays.Variable], variable: str | None, shape: tuple[int, int] | None
) -> np.ndarray:
    return _of_sides(path, found[arrays.pick(path, found, variable, shape)], shape).load()


def _of_sides(path: Path, one: Array, shape: tuple[int, int] | None) -> Array:
    """An array that is not read yet, if it has a shape."""
    if shape is not None and one.shape != tuple(shape):
        raise SceneError(
            f"{path}: the mask is {' x '.join(map(str, one.shape))} and its scene is {shape[0]} x {shape[1]}."
        )
    return one


def _is_hdf5(path: Path, head: bytes) -> bool:
    return head.startswith((_HDF5, b"MATLAB 7.3")) or (not head.startswith(b"MATLAB") and h5py.is_hdf5(path))


@contextmanager
def _hdf5(path: Path, head: bytes) -> Iterator[tuple[h5py.File, bool]]:
    """The open file, and whether MATLAB wrote it."""
    matlab = head.startswith(b"MATLAB") or path.suffix.lower() == ".mat"
    with refusing(path, "MATLAB file" if matlab else "HDF5 file"), h5py.File(path, "r") as file:
        yield file, matlab
