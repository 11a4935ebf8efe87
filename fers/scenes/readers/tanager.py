"""Planet's Tanager-1: ortho and basic, radiance and surface reflectance (HDF-EOS5), axes (band, row, column).

Source: the product's own attributes. The corners in ``StructMetadata.0`` are outer edges of pixels.
"""

from __future__ import annotations

import re
from pathlib import Path

import h5py
from affine import Affine

from fers.scenes.readers.base import MapGrid, Reader, SceneError
from fers.scenes.readers.hdf5 import Hdf5Reader, checked, dataset, find, nodata_of, numbers, stack, texts
from fers.scenes.readers.projection import crs_wkt
from fers.scenes.readers.wavelengths import to_nm

_CUBES = ("surface_reflectance", "toa_radiance")


def open_tanager(path: Path, file: h5py.File, variable: str | None) -> Reader | None:
    """The cube of a Tanager file; None if it is another product."""
    kind = next((kind for kind in ("GRIDS", "SWATHS") if find(file, f"HDFEOS/{kind}/HYP") is not None), None)
    if kind is None:
        return None
    fields = f"HDFEOS/{kind}/HYP/Data Fields/"
    name = next((name for name in _CUBES if find(file, fields + name) is not None), None)
    if name is None:
        raise SceneError(f"{path}: a Tanager file without {' or '.join(_CUBES)}. Is it complete?")
    arguments = stack(path, file, [(fields + name, "byx", None)])
    item, bands = dataset(file, fields + name), arguments["shape"][2]
    centres, widths = (checked(path, what, numbers(item, what), bands) for what in ("wavelengths", "fwhm"))
    if centres is not None:
        centres, widths = to_nm(centres, "", widths)
    good = checked(path, "good_wavelengths", numbers(item, "good_wavelengths"), bands)
    if kind == "GRIDS":
        arguments["grid"] = _grid(file, arguments["shape"])
    else:
        places = f"HDFEOS/{kind}/HYP/Geolocation Fields/"
        if find(file, places + "Latitude") is not None:
            arguments["latlon"] = (places + "Latitude", places + "Longitude")
    return Hdf5Reader(
        wavelengths=centres,
        fwhm=widths,
        good=None if good is None else good > 0,
        good_source="" if good is None else "good_wavelengths of the file",
        declared_nodata=nodata_of(item, default=(-9999.0,)),
        sensor=f"Tanager {'ortho' if kind == 'GRIDS' else 'basic'} {name}",
        variable=name,
        **arguments,
    )


def _grid(file: h5py.File, shape: tuple[int, int, int]) -> MapGrid | None:
    group = find(file, "HDFEOS/GRIDS/HYP")
    structure = texts(file, "HDFEOS INFORMATION/StructMetadata.0")
    if group is None or not structure:
        return None
    corners = []
    for corner in ("UpperLeftPointMtrs", "LowerRightMtrs"):
        found = re.search(rf"{corner}\s*=\s*\(\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*\)", structure[0])
        if found is None:
            return None
        corners += [float(found[1]), float(found[2])]
    left, top, right, bottom = corners
    transform = Affine((right - left) / shape[1], 0, left, 0, (bottom - top) / shape[0], top)
    code = numbers(group, "epsg_code")
    return MapGrid(transform, None if code is None else crs_wkt(f"EPSG:{int(code[0])}"))
