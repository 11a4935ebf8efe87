"""Products in HDF5 and netCDF4: a table of where each keeps its cube, its wavelengths and its place on the Earth.

A new product of one cube is one row of ``PRODUCTS``. PRISMA and PACE L1B join the cubes of several detectors and have a
function each. Source: the products' own attributes, as their providers publish them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from affine import Affine

from fers.scenes.readers.base import UNDECLARED_NODATA, Reader, check_memory
from fers.scenes.readers.errors import SceneError, local_file, refusing
from fers.scenes.readers.geometry import MapGrid
from fers.scenes.readers.hdf5 import Hdf5Reader, dataset, find, nodata_of, numbers, per_band, stack, text, texts
from fers.scenes.readers.projection import crs_wkt, map_grid
from fers.scenes.readers.wavelengths import rising, to_nm, within

Flags = tuple[np.ndarray | None, str]
_GOOD = "good_wavelengths of the file"


@dataclass(frozen=True, kw_only=True)
class Product:
    """Row of the table: where a product of one cube keeps what a reader needs.

    A path is of a dataset, or "path@name" of an attribute. "@name" is an attribute of the cube, "./name" lies beside it.
    """

    needs: tuple[str, ...] = ()  # what every file of the product holds; a * stands for any one name
    cubes: dict[str, str]  # path of each cube that it may have, and the sensor; the first that is there is read
    axes: str  # of the cube: y rows, x columns, b bands
    centres: str  # band centres
    fwhm: str = ""
    good: str | Callable[[h5py.File, str, np.ndarray | None], Flags] = ""  # flags of bands, or what finds them
    nodata: float = UNDECLARED_NODATA  # where the file does not declare one
    place: Callable[[h5py.File, str, tuple[int, int, int]], dict[str, Any]] = lambda *_: {}  # map grid
    glt: tuple[tuple[str, str], ...] = ()  # tables of columns and rows for the map grid; the first that is there
    latlon: tuple[tuple[str, str], ...] = ()  # latitude and longitude
    named: str = ""  # folder of the cubes among which a user may choose by name; empty where there is no choice
    lacks: str = ""  # what to say of a file without a cube; empty where it is then of another product

    def __call__(self, file: h5py.File, variable: str | None) -> Reader | None:
        """Make a reader of the file; None if it is of another product."""
        if any(_present(file, need) is None for need in self.needs):
            return None
        cubes = self.cubes
        if self.named and variable is not None:
            cubes = {self.named + variable: next(iter(cubes.values()))}
        there = ((_present(file, cube) or "", sensor) for cube, sensor in cubes.items())
        key, sensor = next(
            (pair for pair in there if pair[0] and isinstance(find(file, pair[0]), h5py.Dataset)), ("", "")
        )
        if not key and self.lacks:
            raise SceneError(f"{file.filename}: {self.lacks}")
        if not key:
            return None
        arguments = stack(file, [(key, self.axes)])
        bands = arguments["shape"][2]
        centres, widths = (per_band(file, _at(where, key), bands) for where in (self.centres, self.fwhm))
        if centres is not None:
            unit = text(file, *(f"{_at(self.centres, key)}@{name}" for name in ("units", "unit")))
            centres, widths = to_nm(centres, unit, widths)
        if callable(self.good):
            good, source = self.good(file, key, centres)
        else:
            good, source = per_band(file, _at(self.good, key), bands), _GOOD
        divisor, factor, offset = (numbers(file, f"{key}@{n}") for n in ("Scale_Factor", "scale_factor", "add_offset"))
        if divisor is not None and divisor[0]:
            factor = 1 / divisor
        arguments["glt"], arguments["latlon"] = (
            next((pair for pair in places if find(file, pair[0]) is not None), None)
            for places in (self.glt, self.latlon)
        )
        return Hdf5Reader(
            wavelengths=centres,
            fwhm=widths,
            good=None if good is None else good > 0,
            good_source="" if good is None else source,
            declared_nodata=nodata_of(file, key) or (self.nodata,),
            scale=None if factor is None else np.full(bands, factor[0]),
            offset=None if offset is None else np.full(bands, offset[0]),
            sensor=sensor,
            variable=key.rpartition("/")[2],
            **arguments,
            **self.place(file, key, arguments["shape"]),
        )


def _present(file: h5py.File, path: str) -> str | None:
    """The path, with the first name that fits in place of its ``*``; None where it is not in the file."""
    before, star, after = path.partition("*")
    group = find(file, before)
    names = list(group) if star and isinstance(group, h5py.Group) else [""]
    return next((one for name in names if find(file, one := f"{before}{name}{after}") is not None), None)


def _at(where: str, cube: str) -> str:
    """A path of the table in a file whose cube is known."""
    if where.startswith("@"):
        return cube + where
    return cube.rpartition("/")[0] + where[1:] if where.startswith("./") else where


def open_product(file: h5py.File, variable: str | None) -> Reader | None:
    """Open a file of any known product, with the cube that the user names where there is a choice; else None."""
    return next((found for row in PRODUCTS if (found := row(file, variable)) is not None), None)


# ----- where the pixels lie


def _grid_of(file: h5py.File, transform: str, *systems: str) -> dict[str, Any]:
    """The grid of GDAL's six numbers (x0, dx, rx, y0, ry, dy) and of the first reference system that is there."""
    six = numbers(file, transform)
    if six is None or len(six) < 6:
        return {}
    return {"grid": MapGrid(Affine.from_gdal(*six[:6]), crs_wkt(text(file, *systems)))}


def _aviris_grid(file: h5py.File, cube: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    at = "projection" if find(file, "projection") is not None else "transverse_mercator"
    return _grid_of(file, f"{at}@GeoTransform", f"{at}@spatial_ref", f"{at}@crs_wkt")


def _tanager_grid(file: h5py.File, cube: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """The grid of an ortho product. The corners in ``StructMetadata.0`` are outer edges of pixels."""
    if "/GRIDS/" not in cube:
        return {}
    structure = text(file, "HDFEOS INFORMATION/StructMetadata.0")
    corner = r"(?:UpperLeftPointMtrs|LowerRightMtrs)\s*=\s*\(\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*\)"
    corners = [float(number) for pair in re.findall(corner, structure)[:2] for number in pair]
    if len(corners) < 4:
        return {}
    left, top, right, bottom = corners
    transform = Affine((right - left) / shape[1], 0, left, 0, (bottom - top) / shape[0], top)
    code = numbers(file, "HDFEOS/GRIDS/HYP@epsg_code")
    return {"grid": MapGrid(transform, None if code is None else crs_wkt(f"EPSG:{int(code[0])}"))}


def _neon_grid(file: h5py.File, cube: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    info, code = (text(file, _at(f"./Metadata/Coordinate_System/{name}", cube)) for name in ("Map_Info", "EPSG Code"))
    if not info:
        return {}
    grid, note = map_grid(info.split(","), f"EPSG:{code.strip()}" if code else None)
    return {"grid": grid, "notes": (note,) if note else ()}


def _prisma_place(file: h5py.File, swath: str, level: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """The grid of L2D, whose corners are centres of pixels; latitude and longitude of the other levels."""
    if level != "L2D":
        ending = "_VNIR" if level == "L1" else ""
        latlon = tuple(f"{swath}/Geolocation Fields/{name}{ending}" for name in ("Latitude", "Longitude"))
        return {"latlon": latlon} if find(file, latlon[0]) is not None else {}
    corners = [numbers(file, f"/@Product_{c}corner_{a}") for c in ("UL", "LR") for a in ("easting", "northing")]
    code = numbers(file, "/@Epsg_Code")
    if code is None or any(corner is None for corner in corners) or min(shape[:2]) < 2:
        return {}
    left, top, right, bottom = (float(corner[0]) for corner in corners if corner is not None)
    dx, dy = (right - left) / (shape[1] - 1), (top - bottom) / (shape[0] - 1)
    return {"grid": MapGrid(Affine(dx, 0, left - dx / 2, 0, -dy, top + dy / 2), crs_wkt(f"EPSG:{int(code[0])}"))}


# ----- which bands are good


def _emit_flags(file: h5py.File, cube: str, centres: np.ndarray | None) -> Flags:
    """The file's own, or, for radiance, those of the reflectance beside it."""
    key = "sensor_band_parameters/good_wavelengths"
    bands = dataset(file, cube).shape[2]
    good = per_band(file, key, bands)
    if good is None and (other := _sibling(Path(file.filename), "L2A_RFL")) is not None:
        with refusing(other, "netCDF file"), h5py.File(other, "r") as reflectance:
            return per_band(reflectance, key, bands), f"good_wavelengths of {other.name}"
    return good, _GOOD


def _neon_flags(file: h5py.File, cube: str, centres: np.ndarray | None) -> Flags:
    """Outside the two windows that the file names, at the cube or at its group."""
    names = [f"@Band_Window_{number}_Nanometers" for number in (1, 2)]
    found = [numbers(file, place + name) for name in names for place in (cube.rpartition("/")[0], cube)]
    windows = [window for window in found if window is not None and len(window) == 2]
    if centres is None or not windows:
        return None, ""
    return ~within(centres, windows), "Band_Window_1 and _2 of the file"


# ----- products whose cube is in several detectors


def _joined(
    file: h5py.File, parts: list[tuple[str, str]], facts: list[np.ndarray], left_out: str
) -> tuple[dict[str, Any], np.ndarray]:
    """The reader's arguments for several parts as one cube by rising wavelength, and the facts in that order.

    Where the first part reaches into the second, the second is kept; ``left_out`` names the bands of the first. The
    facts of each part are ``(n, B)``. The first of them is the wavelength, 0 for bands that were not acquired.
    """
    owner = np.repeat(np.arange(len(facts)), [part.shape[1] for part in facts])
    joined = np.concatenate(facts, axis=1)
    acquired = np.flatnonzero(joined[0] > 0)
    order = acquired[rising(joined[0, acquired], owner[acquired] == 0, owner[acquired] == 1)]
    counts = (("bands that were not acquired", len(owner) - len(acquired)), (left_out, len(acquired) - len(order)))
    arguments = stack(file, parts)
    return arguments | {
        "shape": (*arguments["shape"][:2], len(order)),
        "at": arguments["at"][order],
        "wavelengths": joined[0, order],
        "notes": tuple(f"{count} {what} are left out" for what, count in counts if count),
    }, joined[:, order]


def _prisma(file: h5py.File, variable: str | None) -> Reader | None:
    """PRISMA L1, L2B, L2C, L2D: two arms, wavelengths falling, 0 for bands that were not acquired."""
    swaths = find(file, "HDFEOS/SWATHS")
    names = list(swaths) if isinstance(swaths, h5py.Group) else []
    swath = next((name for name in names if name.startswith("PRS_") and name.endswith("_HCO")), None)
    if swath is None:
        return None
    level, swath = swath.split("_")[1], f"HDFEOS/SWATHS/{swath}"

    def listed(name: str, count: int = 1) -> np.ndarray:
        values = numbers(file, f"/@{name}")
        if values is None or len(values) != count:
            raise SceneError(f"{file.filename}: attribute {name} should have {count} values. Is the file complete?")
        return values

    parts, facts = [], []
    for arm in ("Vnir", "Swir"):
        key = f"{swath}/Data Fields/{arm.upper()}_Cube"
        count = dataset(file, key).shape[1]
        centres, widths = listed(f"List_Cw_{arm}", count), listed(f"List_Fwhm_{arm}", count)
        flags = numbers(file, f"/@List_Cw_{arm}_Flags")
        if flags is not None and len(flags) == count:
            centres = np.where(flags != 0, centres, 0)
        if level == "L1":
            divisor = float(listed(f"ScaleFactor_{arm}")[0])
            if divisor == 0:
                raise SceneError(f"{file.filename}: attribute ScaleFactor_{arm} is 0. Is the file complete?")
            scale, offset = 1 / divisor, -float(listed(f"Offset_{arm}")[0])
        else:
            offset = float(listed(f"L2Scale{arm}Min")[0])
            scale = (float(listed(f"L2Scale{arm}Max")[0]) - offset) / 65535.0
        parts.append((key, "ybx"))
        facts.append(np.stack([centres, widths, np.full(count, scale), np.full(count, offset)]))
    overlap = "VNIR bands that overlap with the SWIR arm"
    arguments, (_, fwhm, scales, offsets) = _joined(file, parts, facts, overlap)
    return Hdf5Reader(
        fwhm=fwhm,
        scale=scales,
        offset=offsets,
        declared_nodata=(0.0,),
        missing_if="all" if level == "L1" else "any",
        sensor=f"PRISMA {level}",
        **arguments,
        **_prisma_place(file, swath, level, arguments["shape"]),
    )


def _pace_l1b(file: h5py.File, variable: str | None) -> Reader | None:
    """PACE OCI at the top of the atmosphere: three detectors."""
    if find(file, "observation_data/rhot_blue") is None:
        return None
    parts, facts = [], []
    for name in ("blue", "red", "SWIR"):
        key = f"observation_data/rhot_{name}"
        count = dataset(file, key).shape[0]
        centres = per_band(file, f"sensor_band_parameters/{name}_wavelength", count)
        if centres is None:
            raise SceneError(f"{file.filename}: sensor_band_parameters lacks wavelengths. Is the file complete?")
        widths: np.ndarray | None = np.full(count, 5.0)  # nominal, of the blue and red detectors
        if name == "SWIR":
            widths = per_band(file, "sensor_band_parameters/SWIR_bandpass", count)
        parts.append((key, "byx"))
        facts.append(np.stack([centres, np.full(count, np.nan) if widths is None else widths]))
    arguments, (_, fwhm) = _joined(file, parts, facts, "blue bands that overlap with the red detector")
    places = ("geolocation_data/latitude", "geolocation_data/longitude")
    return Hdf5Reader(
        fwhm=None if np.isnan(fwhm).any() else fwhm,
        declared_nodata=nodata_of(file, parts[0][0]) or (-32767.0,),
        latlon=places if find(file, places[0]) is not None else None,
        sensor="PACE OCI L1B",
        **arguments,
    )


# ----- the files that belong to an EMIT scene


def mask_file_of(scene: str | Path) -> Path | None:
    """Find the EMIT mask file beside an EMIT scene, of any version; None where there is none."""
    return _sibling(Path(scene), "L2A_MASK")


def read_emit_mask(path: str | Path) -> dict[str, np.ndarray]:
    """Read the flags of an EMIT mask file, ``EMIT_L2A_MASK_*.nc``: ``(H, W)`` bool by name, such as "Cloud flag".

    Quantities in the same file, such as water vapour, are left out. A `SceneError` refuses another file.
    """
    path = local_file(path, "mask")
    with refusing(path, "EMIT mask file"), h5py.File(path, "r") as file:
        cube, names = dataset(file, "mask"), texts(file, "sensor_band_parameters/mask_bands")
        if cube.ndim != 3 or cube.shape[2] != len(names):
            raise SceneError(f"{path}: {len(names)} names for a mask of shape {cube.shape}.")
        check_memory(path, cube.dtype.itemsize * prod(cube.shape), cube.id.get_storage_size())
        return {name: cube[:, :, layer] == 1 for layer, name in enumerate(names) if "flag" in name.lower()}


def _sibling(path: Path, product: str) -> Path | None:
    """Find the file of another EMIT product of the same time, orbit and scene number; the newest version of several."""
    scene = "_".join(path.stem.split("_")[-3:])
    named = path.parent.glob(f"EMIT_{product}_*_{scene}{path.suffix}") if scene.count("_") == 2 else ()
    return max((other for other in named if other.is_file()), default=None)


PRODUCTS: tuple[Callable[[h5py.File, str | None], Reader | None], ...] = (
    _prisma,
    Product(  # Planet's Tanager-1, ortho and basic
        needs=("HDFEOS/*/HYP",),
        cubes={
            f"HDFEOS/{kind}/HYP/Data Fields/{name}": f"Tanager {grid} {name}"
            for kind, grid in (("GRIDS", "ortho"), ("SWATHS", "basic"))
            for name in ("surface_reflectance", "toa_radiance")
        },
        axes="byx",
        centres="@wavelengths",
        fwhm="@fwhm",
        good="@good_wavelengths",
        place=_tanager_grid,
        latlon=(("HDFEOS/SWATHS/HYP/Geolocation Fields/Latitude", "HDFEOS/SWATHS/HYP/Geolocation Fields/Longitude"),),
        lacks="a Tanager file without surface_reflectance or toa_radiance. Is it complete?",
    ),
    Product(  # the cube is a swath, and the file has a GLT
        needs=("sensor_band_parameters", "location"),
        cubes={"reflectance": "EMIT L2A", "radiance": "EMIT L1B"},
        axes="yxb",
        centres="sensor_band_parameters/wavelengths",
        fwhm="sensor_band_parameters/fwhm",
        good=_emit_flags,
        place=lambda file, *_: _grid_of(file, "/@geotransform", "/@spatial_ref"),
        glt=(("location/glt_x", "location/glt_y"),),
        latlon=(("location/lat", "location/lon"),),
        lacks="an EMIT file without reflectance or radiance, such as a mask file, not a scene. Give the RFL or RAD file.",
    ),
    _pace_l1b,
    Product(
        needs=("geophysical_data", "navigation_data"),
        cubes={"geophysical_data/rhos": "PACE OCI L2", "geophysical_data/Rrs": "PACE OCI L2"},
        axes="yxb",
        centres="sensor_band_parameters/wavelength_3d",
        nodata=-32767.0,
        latlon=(("navigation_data/latitude", "navigation_data/longitude"),),
        named="geophysical_data/",
        lacks="geophysical_data holds no such cube. Give a surface reflectance product, with rhos or Rrs.",
    ),
    Product(
        needs=("*/Reflectance/Reflectance_Data",),
        cubes={"*/Reflectance/Reflectance_Data": "NEON AOP"},
        axes="yxb",
        centres="./Metadata/Spectral_Data/Wavelength",
        fwhm="./Metadata/Spectral_Data/FWHM",
        good=_neon_flags,
        place=_neon_grid,
    ),
    Product(  # AVIRIS-3 and -5 in netCDF4; their flight lines in ENVI files are read by envi.py
        cubes={f"{name}/{name}": f"AVIRIS-3/-5 {name}" for name in ("reflectance", "radiance")},
        axes="byx",
        centres="./wavelength",
        fwhm="./fwhm",
        place=_aviris_grid,
        glt=(
            ("location/sample", "location/line"),
            ("geolocation_lookup_table/sample", "geolocation_lookup_table/line"),
        ),
    ),
)
