"""PRISMA L1, L2B, L2C and L2D (HDF-EOS5).

Two arms, axes (row, band, column), wavelengths falling, 0 for bands that were not acquired. The scene has them in rising
order; where the arms overlap, the short-wave one is kept.

Source: the product's own attributes. The corners of L2D are centres of pixels.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from affine import Affine

from fers.scenes.readers.base import MapGrid, Reader, SceneError
from fers.scenes.readers.hdf5 import Hdf5Reader, dataset, find, numbers, stack
from fers.scenes.readers.projection import crs_wkt

_FULL_SCALE = 65535.0


def open_prisma(path: Path, file: h5py.File, variable: str | None) -> Reader | None:
    """The hyperspectral cube of a PRISMA file; None if it is another product."""
    swaths = find(file, "HDFEOS/SWATHS")
    names = list(swaths) if isinstance(swaths, h5py.Group) else []
    swath = next((name for name in names if name.startswith("PRS_") and name.endswith("_HCO")), None)
    if swath is None:
        return None
    level = swath.split("_")[1]
    parts, centres, widths, scales, offsets, empty = [], [], [], [], [], 0
    for arm in ("Vnir", "Swir"):
        key = f"HDFEOS/SWATHS/{swath}/Data Fields/{arm.upper()}_Cube"
        count = dataset(file, key).shape[1]
        centre, width = (_list(path, file, f"List_{kind}_{arm}", count) for kind in ("Cw", "Fwhm"))
        flags = numbers(file, f"List_Cw_{arm}_Flags")
        acquired = centre > 0
        if flags is not None and len(flags) == count:
            acquired &= flags != 0
        bands = np.flatnonzero(acquired)
        empty += count - len(bands)
        scale, offset = _scale(path, file, level, arm)
        parts.append((key, "ybx", bands.tolist()))
        centres.append(centre[bands])
        widths.append(width[bands])
        scales.append(np.full(len(bands), scale))
        offsets.append(np.full(len(bands), offset))
    joined = np.concatenate(centres)
    keep = np.ones(len(joined), bool)
    if len(centres[1]):
        keep[: len(centres[0])] = centres[0] < centres[1].min()
    order = np.flatnonzero(keep)[np.argsort(joined[keep], kind="stable")]
    arguments = stack(path, file, parts)
    arguments["shape"] = (*arguments["shape"][:2], len(order))
    if level == "L2D":
        arguments["grid"] = _grid(path, file, arguments["shape"])
    else:
        fields = f"HDFEOS/SWATHS/{swath}/Geolocation Fields/"
        ending = "_VNIR" if level == "L1" else ""
        if find(file, f"{fields}Latitude{ending}") is not None:
            arguments["latlon"] = (f"{fields}Latitude{ending}", f"{fields}Longitude{ending}")
    notes = []
    if empty:
        notes.append(f"{empty} bands that were not acquired are left out")
    if not keep.all():
        notes.append(f"{int((~keep).sum())} VNIR bands that overlap with the SWIR arm are left out")
    return Hdf5Reader(
        order=order,
        wavelengths=joined[order],
        fwhm=np.concatenate(widths)[order],
        scale=np.concatenate(scales)[order],
        offset=np.concatenate(offsets)[order],
        declared_nodata=(0.0,),
        missing_if="all" if level == "L1" else "any",
        sensor=f"PRISMA {level}",
        notes=tuple(notes),
        **arguments,
    )


def _list(path: Path, file: h5py.File, name: str, count: int) -> np.ndarray:
    values = numbers(file, name)
    if values is None or len(values) != count:
        raise SceneError(f"{path}: attribute {name} should have {count} values, one a band. Is the file complete?")
    return values


def _scale(path: Path, file: h5py.File, level: str, arm: str) -> tuple[float, float]:
    """Factor and offset from stored to physical values."""
    names = (f"ScaleFactor_{arm}", f"Offset_{arm}") if level == "L1" else (f"L2Scale{arm}Min", f"L2Scale{arm}Max")
    first, second = (float(_list(path, file, name, 1)[0]) for name in names)
    if level != "L1":
        return (second - first) / _FULL_SCALE, first
    if first == 0:
        raise SceneError(f"{path}: attribute {names[0]} is 0. Is the file complete?")
    return 1 / first, -second


def _grid(path: Path, file: h5py.File, shape: tuple[int, int, int]) -> MapGrid | None:
    corners = [numbers(file, f"Product_{c}corner_{a}") for c in ("UL", "LR") for a in ("easting", "northing")]
    code = numbers(file, "Epsg_Code")
    if code is None or any(corner is None for corner in corners) or min(shape[:2]) < 2:
        return None
    left, top, right, bottom = (float(corner[0]) for corner in corners if corner is not None)
    dx, dy = (right - left) / (shape[1] - 1), (top - bottom) / (shape[0] - 1)
    return MapGrid(Affine(dx, 0, left - dx / 2, 0, -dy, top + dy / 2), crs_wkt(f"EPSG:{int(code[0])}"))
