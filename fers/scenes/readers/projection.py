"""Map information as text: ENVI's ``map info``, EPSG codes, WKT."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import cos, radians, sin

from affine import Affine

from fers.scenes.readers.base import MapGrid

_DATUMS = {  # UTM north, south; geographic
    "wgs84": (326, 327, 4326),
    "nad83": (269, None, 4269),
    "northamerica1983": (269, None, 4269),
    "nad27": (267, None, 4267),
}


def crs_wkt(text: str | None) -> str | None:
    """Convert a coordinate reference system to WKT, from WKT (ESRI's too) or "EPSG:32633"; None if it is not understood.

    Example:
        >>> "UTM zone 33N" in crs_wkt("EPSG:32633")
        True
    """
    if not text:
        return None
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        crs = CRS.from_user_input(text, morph_from_esri_dialect=True)
    except CRSError:
        return None
    return crs.to_wkt() if crs.is_projected or crs.is_geographic else None


def map_grid(map_info: Sequence[str], crs: str | None = None) -> tuple[MapGrid | None, str]:
    """Compute the grid that an ENVI ``map info`` entry describes, or None; and a note on what is missing.

    Its parts: projection, reference column and row counted from 1 (1, 1 is the outer corner of the first pixel), x and
    y there, pixel width and height, for UTM zone and hemisphere, datum, ``units=``, ``rotation=`` in degrees. ``crs``,
    the ``coordinate system string``, is better than the projection's name.
    """
    parts = [part.strip() for part in map_info]
    named = dict(part.lower().replace(" ", "").split("=", 1) for part in parts if "=" in part)
    plain = [part for part in parts if "=" not in part]
    try:
        column, row, x, y, width, height = (float(part) for part in plain[1:7])
        angle = radians(float(named.get("rotation", 0)))
    except ValueError:
        return None, f"map info {{{', '.join(parts)}}} is not understood; there is no georeference"
    if plain[0].lower() == "arbitrary":
        return None, "map info is Arbitrary; there is no georeference"
    a, b, d, e = cos(angle) * width, sin(angle) * height, sin(angle) * width, -cos(angle) * height
    left, up = column - 1, row - 1
    transform = Affine(a, b, x - a * left - b * up, d, e, y - d * left - e * up)
    wkt = crs_wkt(crs) or crs_wkt(_epsg(plain))
    note = "" if wkt else f"the projection {plain[0]} of map info is not understood; the grid has no reference system"
    return MapGrid(transform, wkt), note


def _epsg(plain: Sequence[str]) -> str | None:
    projection, text = plain[0].lower(), re.sub(r"[^a-z0-9]", "", " ".join(plain[7:]).lower())
    north, south, geographic = next((codes for key, codes in _DATUMS.items() if key in text), (None, None, None))
    if projection.startswith("geographic"):
        return f"EPSG:{geographic}" if geographic else None
    if projection == "utm" and len(plain) > 8 and plain[7].isdigit():
        zone = south if plain[8].lower().startswith("s") else north
        return f"EPSG:{zone}{int(plain[7]):02d}" if zone else None
    return None
