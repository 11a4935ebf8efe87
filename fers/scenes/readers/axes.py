"""Names of axes: which of them are rows (y), columns (x) and bands (b)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fers.scenes.readers.errors import SceneError

_NAMES = {
    "y": "y yc row rows line lines lat latitude northing north downtrack along_track alongtrack scan scans "
    "number_of_lines number_of_scans nrows height",
    "x": "x xc column columns col cols sample samples lon long longitude easting east crosstrack cross_track pixel pixels "
    "number_of_samples pixels_per_line number_of_pixels ncols width",
    "b": "b band bands wavelength wavelengths wl wvl lambda spectral channel channels wavenumber nbands number_of_bands",
}
_STANDARD = {  # CF's standard_name
    "y": ("projection_y_coordinate", "latitude", "grid_latitude"),
    "x": ("projection_x_coordinate", "longitude", "grid_longitude"),
    "b": ("radiation_wavelength", "sensor_band_central_radiation_wavelength", "radiation_frequency"),
}
_UNIT_OF = {
    "y": r"degrees?_?n(orth)?",
    "x": r"degrees?_?e(ast)?",
    "b": r"nm|um|µm|μm|nanomet(er|re)s?|micromet(er|re)s?|microns?",
}
_BY_NAME = {name: axis for axis, names in _NAMES.items() for name in names.split()}
HELP = "Say which is which in the file's order, such as --axes y,x,band (in Python: axes='y,x,band')"


def parse_axes(text: str) -> str:
    """Read the order of the axes of a cube: "y,x,band" becomes "yxb".

    Raises:
        SceneError: It does not name rows, columns and bands once each.

    Example:
        >>> parse_axes("band,y,x"), parse_axes("rows,columns,bands")
        ('byx', 'yxb')
    """
    names = [part.strip().lower() for part in re.split(r"[,\s]+", text.strip())]
    found = "".join(_BY_NAME.get(name, "?") for name in names)
    if sorted(found) != ["b", "x", "y"]:
        raise SceneError(f"--axes {text}: name rows, columns and bands once each, in the file's order: y,x,band.")
    return found


def role_of(name: str, attributes: Mapping[str, str]) -> str:
    """Tell what an axis is by its coordinate's attributes, else by its name: "y", "x", "b", or nothing."""
    said = {key: attributes.get(key, "").strip().lower() for key in ("axis", "standard_name", "units")}
    if said["axis"] in ("x", "y"):
        return said["axis"]
    for axis, standard in _STANDARD.items():
        if said["standard_name"] in standard:
            return axis
    for axis, units in _UNIT_OF.items():
        if re.fullmatch(units, said["units"]):
            return axis
    return _BY_NAME.get(name.rsplit("/", 1)[-1].strip().lower(), "")


def order_of(roles: Sequence[str]) -> tuple[str, str]:
    """Order three axes of which some are known, "" for the others; and what was assumed.

    An unknown axis is the one that is missing. With the bands only, rows come before columns. An empty order says that the
    axes cannot be told.

    Example:
        >>> order_of(["", "y", "x"])[0], order_of(["b", "", ""])[0], order_of(["", "", ""])[0]
        ('byx', 'byx', '')
    """
    known = [role for role in roles if role]
    if len(set(known)) != len(known) or not known:
        return "", ""
    missing = [axis for axis in "yxb" if axis not in known]
    if len(missing) <= 1:
        return "".join(role or missing[0] for role in roles), ""
    if known == ["b"]:
        rest = iter("yx")
        return "".join(role or next(rest) for role in roles), "rows are taken to come before columns"
    return "", ""
