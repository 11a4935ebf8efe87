"""HDF5 and netCDF4 files of no known product: axes, wavelengths and place by names and by the CF conventions.

Nothing is guessed: where the axes cannot be told, the file is refused with the option that says them. Source: the CF metadata
conventions, and what GDAL, rioxarray and NASA's EMIT tools write (``GeoTransform``, ``spatial_ref``, ``good_wavelengths``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from affine import Affine

from fers.scenes.readers import axes as names
from fers.scenes.readers.arrays import Variable, pick_cube, squeezed
from fers.scenes.readers.base import UNDECLARED_NODATA, Reader
from fers.scenes.readers.errors import SceneError
from fers.scenes.readers.geometry import MapGrid
from fers.scenes.readers.hdf5 import About, Hdf5Reader, described, nodata_of, objects, stack, variables
from fers.scenes.readers.projection import crs_wkt
from fers.scenes.readers.wavelengths import SPELLINGS, listed, to_nm

_FLAGS = ("good_wavelengths", "good_bands", "bbl")
_WIDTHS = ("fwhm", "FWHM")
_MAPPINGS = ("spatial_ref", "crs", "projection", "transverse_mercator")  # where no grid_mapping names one
_MOST_DESCRIBED = 300  # objects whose attributes are read
_UNEVEN = 0.25  # px by which a coordinate may miss an even grid; float32 rounds degrees to about 0.05
_LENGTH_ONLY = "This is a netCDF dimension but not a netCDF variable"  # the library's mark of an axis without values
_NONE = About({})


@dataclass
class _File:
    """One cube of a file and what lies beside it."""

    file: h5py.File
    cube: str
    found: dict[str, Variable]

    @cached_property
    def about(self) -> dict[str, About]:
        folder = self.cube.rpartition("/")[0]
        keys = [key for key, _ in objects(self.file) if key.rpartition("/")[0] in ("", folder) and key != self.cube]
        return described(self.file, ["/", self.cube, *keys[:_MOST_DESCRIBED]])

    @cached_property
    def own(self) -> About:
        return self.about[self.cube]

    def of(self, key: str) -> About:
        return self.about.get(key.strip("/") or "/", _NONE)

    def vector(self, key: str, count: int) -> np.ndarray | None:
        """A dataset of ``count`` numbers; None where it is missing or another: nothing larger is read."""
        one = self.found.get(key.strip("/"))
        if self.of(key).attributes.get("NAME", "").startswith(_LENGTH_ONLY):
            return None
        if one is None or one.dtype.kind not in "biuf" or prod(one.shape) != count or count < 2:
            return None
        return one.load().reshape(-1).astype(np.float64)

    def named(self, choices: tuple[str, ...], count: int) -> tuple[str, np.ndarray] | None:
        """The first vector of one of these names and of ``count`` numbers, those beside the cube first."""
        folder = self.cube.rpartition("/")[0]
        keys = [key for key in self.found if key.rpartition("/")[2] in choices]
        for key in sorted(keys, key=lambda key: key.rpartition("/")[0] != folder):
            if (values := self.vector(key, count)) is not None:
                return key, values
        return None


def open_other(file: h5py.File, variable: str | None, matlab: bool, axes: str | None) -> Reader:
    """Open the cube that is named, or the largest, of a file of no known product.

    Raises:
        SceneError: There is no cube, or its axes cannot be told and ``axes``, such as "yxb", does not say them.
    """
    path, found = Path(file.filename), variables(file, matlab)
    key, notes = pick_cube(path, found, None if variable is None else variable.strip("/"))
    if matlab:
        return _open_matlab(file, key, found, notes, axes)
    one, kept = _File(file, key, found), squeezed(found[key].shape)
    sides = [place for place, side in enumerate(found[key].shape) if side != 1 or len(found[key].shape) == 3]
    coordinates = [one.own.scales[place] if place < len(one.own.scales) else "" for place in sides]
    if axes is None:
        labels = [one.own.labels[place] if place < len(one.own.labels) else "" for place in sides]
        axes, assumed = _told(one, kept, coordinates, labels)
        named = coordinates[axes.index("b")].rpartition("/")[2] or labels[axes.index("b")]
        if named and names.role_of(named, {}) != "b":
            assumed = f"its axis {named} is taken as the bands"
        notes += (assumed,) if assumed else ()
    order = ["1"] * len(found[key].shape)
    for place, axis in zip(sides, axes, strict=True):
        order[place] = axis
    arguments = stack(file, [(key, "".join(order))])
    by_axis = dict(zip(axes, coordinates, strict=True))
    bands = arguments["shape"][2]
    facts = _spectral(one, by_axis["b"], bands)
    for name, to_physical, nothing in (("scale_factor", "scale", 1.0), ("add_offset", "offset", 0.0)):
        number = one.own.number(name)
        if number is None or number == nothing:
            continue
        if to_physical == "scale" and number == 0:
            raise SceneError(f"{path}: {name} of {key} is 0. Correct it.")
        facts[to_physical] = np.full(bands, number)
    grounded = _place(one, by_axis["y"], by_axis["x"], arguments["shape"])
    notes += (*facts.pop("notes", ()), *grounded.pop("notes", ()))
    sensor = next((s for n in ("sensor", "instrument") if (s := one.of("/").attributes.get(n))), "")
    nodata = nodata_of(file, key) or (UNDECLARED_NODATA,)
    return Hdf5Reader(
        variable=key, notes=notes, declared_nodata=nodata, sensor=sensor, **arguments, **facts, **grounded
    )


def _open_matlab(
    file: h5py.File, key: str, found: dict[str, Variable], notes: tuple[str, ...], axes: str | None
) -> Reader:
    """MATLAB 7.3: (H, W, B) as MATLAB sees it, so (B, W, H) in the file."""
    shape = found[key].shape
    kept = iter(axes or "yxb")
    order = "".join(next(kept) if side != 1 or len(shape) == 3 else "1" for side in shape)[::-1]
    arguments = stack(file, [(key, order)])
    named = _File(file, key, found).named(SPELLINGS, arguments["shape"][2])
    centres = None if named is None else to_nm(named[1], "")[0]
    return Hdf5Reader(variable=key, wavelengths=centres, notes=notes, **arguments)


def _told(one: _File, shape: tuple[int, ...], coordinates: list[str], labels: list[str]) -> tuple[str, str]:
    """Order of the axes, and what was assumed: by coordinates and labels, else by vectors and tables of telling sizes."""
    roles = [names.role_of("", one.of(coordinate).attributes) if coordinate else "" for coordinate in coordinates]
    for place, (coordinate, label) in enumerate(zip(coordinates, labels, strict=True)):
        role = names.role_of(coordinate, {}) or names.role_of(label, {})
        if not roles[place] and role not in roles[:place] + roles[place + 1 :]:
            roles[place] = role
    order, assumed = names.order_of(roles)
    if not order:
        sized = [
            role or ("" if other in roles else other) for role, other in zip(roles, _by_size(one, shape), strict=True)
        ]
        order, assumed = names.order_of(sized)
    if order:
        return order, assumed
    sides = " x ".join(map(str, shape))
    said = ", ".join(c.rpartition("/")[2] or label or "?" for c, label in zip(coordinates, labels, strict=True))
    raise SceneError(f"{one.file.filename}: the axes of {one.cube}, {sides} ({said}), cannot be told. {names.HELP}.")


def _by_size(one: _File, shape: tuple[int, ...]) -> list[str]:
    """Roles of the axes by tables of latitude, by vectors of wavelengths and of coordinates, where their sizes fit one axis."""
    roles = [""] * 3
    folder = one.cube.rpartition("/")[0]
    for key, other in one.found.items():
        sides = tuple(side for side in other.shape if side != 1)
        name = key.rpartition("/")[2]
        if len(sides) == 2 and name.lower() in ("lat", "latitude"):
            for spare in range(3):
                if shape[:spare] + shape[spare + 1 :] == sides and len(set(shape)) == 3:
                    roles = ["b" if axis == spare else "" for axis in range(3)]
                    rest = iter("yx")
                    return [role or next(rest) for role in roles]
        role = names.role_of(name, {})
        if name in SPELLINGS or (len(sides) == 1 and role and key.rpartition("/")[0] in ("", folder)):
            fits = [axis for axis, side in enumerate(shape) if sides == (side,)]
            if len(fits) == 1:
                roles[fits[0]] = role
    return roles


def _spectral(one: _File, coordinate: str, bands: int) -> dict[str, Any]:
    """Wavelengths, widths and flags, of the bands' own coordinate or of vectors of telling names."""
    facts: dict[str, Any] = {}
    about = one.of(coordinate)
    is_wavelength = coordinate and (
        coordinate.rpartition("/")[2] in SPELLINGS
        or names.role_of("", {k: about.attributes.get(k, "") for k in ("standard_name", "units")}) == "b"
    )
    centres = one.vector(coordinate, bands) if is_wavelength else None
    if centres is None and (named := one.named(SPELLINGS, bands)) is not None:
        coordinate, centres = named
        about = one.of(coordinate)
    unit = about.attributes.get("units", about.attributes.get("unit", ""))
    if centres is None:
        centres, unit = (
            next((v for n in SPELLINGS if (v := listed(one.own.attributes.get(n, ""), bands)) is not None), None),
            "",
        )
    others = [f"{k} has {prod(v.shape)} values" for k, v in one.found.items() if k.rpartition("/")[2] in SPELLINGS]
    if centres is None and others:
        facts["notes"] = (f"{others[0]} for {bands} bands and is not used",)
    if centres is not None:
        widths = one.named(_WIDTHS, bands)
        facts["wavelengths"], facts["fwhm"] = to_nm(centres, unit, None if widths is None else widths[1])
    if (flags := one.named(_FLAGS, bands)) is not None:
        facts |= {"good": flags[1] > 0, "good_source": f"{flags[0].rpartition('/')[2]} of the file"}
    return facts


def _place(one: _File, y: str, x: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """The map grid by coordinates, else by a GeoTransform; else latitude and longitude of each pixel."""
    mapping = one.own.attributes.get("grid_mapping", "").split(":")[0].split(" ")[0]
    folder = one.cube.rpartition("/")[0]
    choices = [f"{folder}/{mapping}".strip("/"), mapping] if mapping else list(_MAPPINGS)
    said = next((one.of(name).attributes for name in choices if name in one.about), {})
    crs = next((wkt for name in ("crs_wkt", "spatial_ref") if (wkt := crs_wkt(said.get(name)))), None)
    if crs is None and said.get("epsg_code"):
        crs = crs_wkt(f"EPSG:{said['epsg_code'].lower().removeprefix('epsg:')}")
    down, across = _even(one, y, shape[0]), _even(one, x, shape[1])
    latitude = names.role_of("", {k: one.of(y).attributes.get(k, "") for k in ("standard_name", "units")})
    degrees = y.rpartition("/")[2].lower() in ("lat", "latitude") or (
        latitude == "y" and "degree" in one.of(y).attributes.get("units", "")
    )
    six = listed(said.get("GeoTransform", ""), 6)
    transform = None if six is None else Affine.from_gdal(*six)
    if down is not None and across is not None:
        (top, dy), (left, dx) = down, across
        even = Affine(dx, 0, left - dx / 2, 0, dy, top - dy / 2)
        transform = transform if transform is not None and _agree(transform, even, shape) else even
        crs = crs or (crs_wkt("EPSG:4326") if degrees else None)
    if transform is not None:
        lacking = () if crs else ("the map grid of the file names no reference system",)
        return {"grid": MapGrid(transform, crs), "notes": lacking}
    tables = [
        next(
            (k for k, v in one.found.items() if k.rpartition("/")[2].lower() in spelled and v.shape == shape[:2]), None
        )
        for spelled in (("lat", "latitude"), ("lon", "longitude"))
    ]
    return {"latlon": tuple(tables)} if None not in tables else {}


def _agree(first: Affine, second: Affine, shape: tuple[int, int, int]) -> bool:
    """Tell whether two grids are one: a GeoTransform is exact, but stays as it was where a part was cut out or turned over."""
    corners = (0, 0), (shape[1], shape[0])
    apart = [np.subtract(first @ corner, second @ corner) / (second.a, second.e) for corner in corners]
    return bool(np.abs(apart).max() <= _UNEVEN)


def _even(one: _File, key: str, side: int) -> tuple[float, float] | None:
    """First value and step of an evenly spaced coordinate, in metres or degrees; None of another."""
    values = one.vector(key, side)
    if values is None or not np.isfinite(values).all() or values[0] == values[-1]:
        return None
    factor = {"km": 1000.0, "rad": 0.0, "radian": 0.0, "radians": 0.0}.get(one.of(key).attributes.get("units", ""), 1.0)
    step = (values[-1] - values[0]) / (side - 1)
    if factor == 0 or np.abs(values - values[0] - step * np.arange(side)).max() > _UNEVEN * abs(step):
        return None
    return float(values[0]) * factor, float(step) * factor
