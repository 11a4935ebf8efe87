"""AVIRIS-3 and AVIRIS-5 in netCDF4: a group named as its variable, axes (band, row, column).

AVIRIS flight lines in ENVI files are read by ``envi``.
"""

from __future__ import annotations

from pathlib import Path

import h5py

from fers.scenes.readers.base import MapGrid, Reader
from fers.scenes.readers.hdf5 import (
    Hdf5Reader,
    affine_from_gdal,
    checked,
    dataset,
    find,
    nodata_of,
    numbers,
    stack,
    text,
    vector,
)
from fers.scenes.readers.projection import crs_wkt
from fers.scenes.readers.wavelengths import to_nm


def open_aviris(path: Path, file: h5py.File, variable: str | None) -> Reader | None:
    """The reflectance or radiance of an AVIRIS-3 or -5 file; None if it is another product."""
    name = next((n for n in ("reflectance", "radiance") if isinstance(find(file, f"{n}/{n}"), h5py.Dataset)), None)
    if name is None:
        return None
    arguments = stack(path, file, [(f"{name}/{name}", "byx", None)])
    bands = arguments["shape"][2]
    centres, widths = (checked(path, v, vector(file, f"{name}/{v}"), bands) for v in ("wavelength", "fwhm"))
    if centres is not None:
        item = dataset(file, f"{name}/wavelength")
        centres, widths = to_nm(centres, text(item, "units") or text(item, "unit"), widths)
    for projection in ("transverse_mercator", "projection"):
        item = find(file, projection)
        if item is not None:
            transform = affine_from_gdal(numbers(item, "GeoTransform"))
            wkt = crs_wkt(text(item, "spatial_ref") or text(item, "crs_wkt"))
            arguments["grid"] = None if transform is None else MapGrid(transform, wkt)
    for group in ("geolocation_lookup_table", "location"):
        if find(file, f"{group}/sample") is not None and find(file, f"{group}/line") is not None:
            arguments["glt"] = (f"{group}/sample", f"{group}/line")
    return Hdf5Reader(
        wavelengths=centres,
        fwhm=widths,
        declared_nodata=nodata_of(dataset(file, f"{name}/{name}"), default=(-9999.0,)),
        sensor=f"AVIRIS-3/-5 {name}",
        variable=name,
        **arguments,
    )
