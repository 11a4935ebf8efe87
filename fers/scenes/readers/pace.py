"""PACE OCI: L1B (top of the atmosphere, three detectors) and L2 (surface reflectance), netCDF4."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from fers.scenes.readers.base import Reader, SceneError
from fers.scenes.readers.hdf5 import Hdf5Reader, checked, dataset, find, nodata_of, numbers, stack, vector

_DETECTORS = ("blue", "red", "SWIR")
_NODATA = (-32767.0,)
_NOMINAL_FWHM = 5.0  # nm, of the blue and red detectors


def open_pace(path: Path, file: h5py.File, variable: str | None) -> Reader | None:
    """The cube of a PACE OCI file; None if it is another product."""
    if find(file, "observation_data/rhot_blue") is not None:
        return _open_l1b(path, file)
    if find(file, "geophysical_data") is not None and find(file, "navigation_data") is not None:
        return _open_l2(path, file, variable)
    return None


def _open_l1b(path: Path, file: h5py.File) -> Reader:
    """Bands by rising wavelength; where blue and red overlap, the red detector is kept."""
    keys = [f"observation_data/rhot_{name}" for name in _DETECTORS]
    centres = [
        checked(
            path,
            f"{name}_wavelength",
            vector(file, f"sensor_band_parameters/{name}_wavelength"),
            dataset(file, key).shape[0],
        )
        for name, key in zip(_DETECTORS, keys, strict=True)
    ]
    arguments = stack(path, file, [(key, "byx", None) for key in keys])
    if any(part is None for part in centres):
        raise SceneError(f"{path}: sensor_band_parameters lacks wavelengths. Is the file complete?")
    blue, red, swir = (part for part in centres if part is not None)
    joined = np.concatenate([blue, red, swir])
    keep = np.concatenate([blue < red.min(), np.ones(len(red) + len(swir), bool)])
    order = np.flatnonzero(keep)[np.argsort(joined[keep], kind="stable")]
    arguments["shape"] = (*arguments["shape"][:2], len(order))
    left_out = len(joined) - len(order)
    bandpass = checked(path, "SWIR_bandpass", vector(file, "sensor_band_parameters/SWIR_bandpass"), len(swir))
    widths = None if bandpass is None else np.concatenate([np.full(len(blue) + len(red), _NOMINAL_FWHM), bandpass])
    return Hdf5Reader(
        order=order,
        wavelengths=joined[order],
        fwhm=None if widths is None else widths[order],
        declared_nodata=nodata_of(dataset(file, keys[0]), default=_NODATA),
        latlon=_places(file, "geolocation_data"),
        sensor="PACE OCI L1B",
        notes=(f"{left_out} blue bands that overlap with the red detector are left out",) if left_out else (),
        **arguments,
    )


def _open_l2(path: Path, file: h5py.File, variable: str | None) -> Reader:
    names = [variable] if variable is not None else ["rhos", "Rrs"]
    name = next((name for name in names if find(file, f"geophysical_data/{name}") is not None), None)
    if name is None:
        raise SceneError(f"{path}: geophysical_data holds no {' or '.join(names)}. Give a surface reflectance product.")
    key = f"geophysical_data/{name}"
    arguments = stack(path, file, [(key, "yxb", None)])
    item, bands = dataset(file, key), arguments["shape"][2]
    factor, offset = numbers(item, "scale_factor"), numbers(item, "add_offset")
    return Hdf5Reader(
        wavelengths=checked(path, "wavelength_3d", vector(file, "sensor_band_parameters/wavelength_3d"), bands),
        declared_nodata=nodata_of(item, default=_NODATA),
        scale=None if factor is None else np.full(bands, factor[0]),
        offset=None if offset is None else np.full(bands, offset[0]),
        latlon=_places(file, "navigation_data"),
        sensor="PACE OCI L2",
        variable=name,
        **arguments,
    )


def _places(file: h5py.File, group: str) -> tuple[str, str] | None:
    found = find(file, f"{group}/latitude") is not None and find(file, f"{group}/longitude") is not None
    return (f"{group}/latitude", f"{group}/longitude") if found else None
