"""NEON's airborne reflectance (HDF5): integers of scale 10000, a map info string, two windows of bad bands."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from fers.scenes.readers.base import Reader
from fers.scenes.readers.hdf5 import Hdf5Reader, checked, dataset, find, nodata_of, numbers, stack, texts, vector
from fers.scenes.readers.projection import map_grid


def open_neon(path: Path, file: h5py.File, variable: str | None) -> Reader | None:
    """The reflectance of a NEON tile or flight line; None if it is another product."""
    site = next((name for name in list(file) if find(file, f"{name}/Reflectance/Reflectance_Data") is not None), None)
    if site is None:
        return None
    group, key = find(file, f"{site}/Reflectance"), f"{site}/Reflectance/Reflectance_Data"
    assert group is not None
    arguments = stack(path, file, [(key, "yxb", None)])
    item, bands = dataset(file, key), arguments["shape"][2]
    spectral = f"{site}/Reflectance/Metadata/Spectral_Data/"
    centres = checked(path, "Wavelength", vector(file, spectral + "Wavelength"), bands)
    windows = [
        window
        for number in (1, 2)
        for holder in (group, item)
        if (window := numbers(holder, f"Band_Window_{number}_Nanometers")) is not None and len(window) == 2
    ]
    good = None
    if centres is not None and windows:
        good = ~np.any([(centres >= low) & (centres <= high) for low, high in windows], axis=0)
    factor = numbers(item, "Scale_Factor")
    notes: tuple[str, ...] = ()
    system = f"{site}/Reflectance/Metadata/Coordinate_System/"
    info, code = texts(file, system + "Map_Info"), texts(file, system + "EPSG Code")
    if info:
        parts = tuple(part.strip() for part in info[0].split(","))
        epsg = f"EPSG:{code[0].strip()}" if code else None
        arguments["grid"], note = map_grid(parts, epsg)
        notes += (note,) if note else ()
    return Hdf5Reader(
        wavelengths=centres,
        fwhm=checked(path, "FWHM", vector(file, spectral + "FWHM"), bands),
        good=good,
        good_source="" if good is None else "Band_Window_1 and _2 of the file",
        declared_nodata=nodata_of(item, "Data_Ignore_Value", default=(-9999.0,)),
        scale=None if factor is None or not factor[0] else np.full(bands, 1 / factor[0]),
        sensor="NEON AOP",
        variable=key,
        notes=notes,
        **arguments,
    )
