"""EMIT L1B radiance and L2A reflectance (netCDF4), and the mask file that belongs to them.

Source: the files' own groups, as NASA's LP DAAC publishes them. The cube is a swath; the file holds a GLT.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from fers.scenes.readers.base import MapGrid, Reader, SceneError, refusing
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
    texts,
    vector,
)
from fers.scenes.readers.projection import crs_wkt

_CUBES = {"reflectance": "EMIT L2A", "radiance": "EMIT L1B"}


def open_emit(path: Path, file: h5py.File, variable: str | None) -> Reader | None:
    """The radiance or reflectance of an EMIT file; None if it is another product."""
    if find(file, "sensor_band_parameters") is None or find(file, "location") is None:
        return None
    key = next((key for key in _CUBES if isinstance(find(file, key), h5py.Dataset)), None)
    if key is None:
        held = "a mask file" if find(file, "mask") is not None else "an EMIT file without radiance or reflectance"
        raise SceneError(f"{path}: {held}, not a scene. Give the RFL or RAD file of the scene.")
    arguments = stack(path, file, [(key, "yxb", None)])
    bands = arguments["shape"][2]
    good, source = vector(file, "sensor_band_parameters/good_wavelengths"), "good_wavelengths of the file"
    if good is None and (sibling := _sibling(path, "L2A_RFL")) is not None:
        with refusing(sibling, "netCDF file"), h5py.File(sibling, "r") as other:
            good, source = (
                vector(other, "sensor_band_parameters/good_wavelengths"),
                f"good_wavelengths of {sibling.name}",
            )
    transform = affine_from_gdal(numbers(file, "geotransform"))
    if transform is not None:
        arguments["grid"] = MapGrid(transform, crs_wkt(text(file, "spatial_ref")))
    if transform is not None and find(file, "location/glt_x") is not None:
        arguments["glt"] = ("location/glt_x", "location/glt_y")
    elif find(file, "location/lat") is not None:
        arguments["latlon"] = ("location/lat", "location/lon")
    checked(path, "good_wavelengths", good, bands)
    return Hdf5Reader(
        wavelengths=checked(path, "wavelengths", vector(file, "sensor_band_parameters/wavelengths"), bands),
        fwhm=checked(path, "fwhm", vector(file, "sensor_band_parameters/fwhm"), bands),
        good=None if good is None else good > 0,
        good_source="" if good is None else source,
        declared_nodata=nodata_of(dataset(file, key), default=(-9999.0,)),
        sensor=_CUBES[key],
        variable=key,
        **arguments,
    )


def mask_file_of(scene: str | Path) -> Path | None:
    """The EMIT mask file beside an EMIT scene, of any version; None where there is none."""
    return _sibling(Path(scene), "L2A_MASK")


def read_emit_mask(path: str | Path) -> dict[str, np.ndarray]:
    """The flags of an EMIT mask file.

    Args:
        path: ``EMIT_L2A_MASK_*.nc``.

    Returns:
        For each layer whose name holds "flag", such as "Cloud flag", ``(H, W)`` bool, True where it is set. Quantities in
        the same file, such as water vapour, are left out.

    Raises:
        SceneError: It is not a mask file.
    """
    path = Path(path)
    with refusing(path, "EMIT mask file"), h5py.File(path, "r") as file:
        cube = dataset(file, "mask")
        names = texts(file, "sensor_band_parameters/mask_bands")
        if cube.ndim != 3 or cube.shape[2] != len(names):
            raise SceneError(f"{path}: {len(names)} names for a mask of shape {cube.shape}.")
        return {name: cube[:, :, layer] == 1 for layer, name in enumerate(names) if "flag" in name.lower()}


def _sibling(path: Path, product: str) -> Path | None:
    """The file of another product that shares time, orbit and scene number; the newest version of several."""
    scene = "_".join(path.stem.split("_")[-3:])
    found = sorted(path.parent.glob(f"EMIT_{product}_*_{scene}{path.suffix}")) if scene.count("_") == 2 else []
    return found[-1] if found else None
