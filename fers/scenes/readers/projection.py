"""Map information as text: ENVI's ``map info``, EPSG codes, WKT."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import cos, radians, sin

import numpy as np
from affine import Affine

from fers.scenes.readers.geometry import MapGrid

_DATUMS = {  # EPSG of UTM zones, north and south, before the zone's two digits; of longitude and latitude
    "wgs84": (326, 327, 4326),
    "wgs72": (322, 323, 4322),
    "nad83": (269, None, 4269),
    "northamerica1983": (269, None, 4269),
    "nad27": (267, None, 4267),
    "northamerica1927": (267, None, 4267),
    "etrs89": (258, None, 4258),
    "etrs1989": (258, None, 4258),
    "ed50": (230, None, 4230),
    "european1950": (230, None, 4230),
    "europeandatum1950": (230, None, 4230),
    "gda94": (None, 283, 4283),
    "gda1994": (None, 283, 4283),
    "geocentricdatumofaustralia1994": (None, 283, 4283),
    "gda2020": (None, 78, 7844),
}
_SYSTEM = re.compile(r"EPSG:\d+$|urn:ogc:def:crs:EPSG:|[A-Z_]+\s*\[", re.IGNORECASE)
_UTM_ZONE = re.compile(r"utm(?:\s*zone)?\s*(\d{1,2})\s*([ns])", re.IGNORECASE)


def crs_wkt(text: str | None) -> str | None:
    """Convert a coordinate reference system to WKT, from WKT (ESRI's too) or "EPSG:32633"; None if it is not understood.

    Example:
        >>> "UTM zone 33N" in crs_wkt("EPSG:32633")
        True
    """
    if not text or not _SYSTEM.match(text.strip()):  # GDAL takes other texts as names of files and servers
        return None
    from rasterio import Env
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        with Env():  # GDAL's own words on a damaged text are logged instead of printed
            crs = CRS.from_user_input(text.strip(), morph_from_esri_dialect=True)
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
    unknown = f"the projection {', '.join([plain[0], *plain[7:]])} of map info is not understood"
    note = f"{unknown}; the grid has no reference system. A coordinate system string in the header would name it"
    return MapGrid(transform, wkt), "" if wkt else note


def _epsg(plain: Sequence[str]) -> str | None:
    projection, text = plain[0].lower(), re.sub(r"[^a-z0-9]", "", " ".join(plain[7:]).lower())
    north, south, geographic = next((codes for key, codes in _DATUMS.items() if key in text), (None, None, None))
    if projection.startswith("geographic"):
        return f"EPSG:{geographic}" if geographic else None
    if projection == "utm" and len(plain) > 8 and plain[7].isdigit():
        projection = f"utm {plain[7]}{plain[8]}"
    if not (match := _UTM_ZONE.match(projection)):
        return None
    number, below = int(match[1]), match[2].lower() == "s"
    zone = south if below else north
    return f"EPSG:{zone}{number:02d}" if zone else None


def to_lonlat(crs: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert map coordinates to longitude and latitude in WGS84, of the same shape; NaN and infinity stay."""
    from rasterio.crs import CRS
    from rasterio.warp import transform

    found = transform(CRS.from_wkt(crs), CRS.from_epsg(4326), np.ravel(x).tolist(), np.ravel(y).tolist())
    longitude, latitude = (np.array(values).reshape(np.shape(x)) for values in found)
    return longitude, latitude


def nowhere(grid: MapGrid, shape: Sequence[int]) -> str:
    """Say why a grid cannot be the place of a scene of ``shape``; empty where it can.

    Example:
        >>> nowhere(MapGrid(Affine(30, 0, 5e5, 0, -30, 4e6), crs_wkt("EPSG:32633")), (20, 30))
        ''
        >>> nowhere(MapGrid(Affine(30, 0, 5e5, 0, -30, 4e60), crs_wkt("EPSG:32633")), (20, 30))
        'the map grid lies nowhere on the Earth'
    """
    numbers = np.array([*grid.transform[:6], *grid.xy(shape[0], shape[1])], float)
    if not np.isfinite(numbers).all():
        return "the map grid holds NaN or infinity"
    if not abs(grid.transform.determinant) > 0:
        return "the pixels of the map grid have no size"
    if not on_earth(grid.crs):
        return ""
    assert grid.crs is not None
    x, y = grid.xy(shape[0] / 2, shape[1] / 2)
    longitude, latitude = lonlat_or_nan(grid.crs, np.array([x]), np.array([y]))
    there = abs(latitude[0]) <= 90 and abs(longitude[0]) <= 360
    # far outside a projection goes round the Earth again and again, so it must also lead back
    return (
        "" if there and _leads_back(grid.crs, longitude, latitude, (x, y)) else "the map grid lies nowhere on the Earth"
    )


def _leads_back(crs: str, longitude: np.ndarray, latitude: np.ndarray, wanted: tuple[float, float]) -> bool:
    from rasterio.crs import CRS
    from rasterio.warp import transform

    system = CRS.from_wkt(crs)
    if system.is_geographic:
        return True
    found = np.array(transform(CRS.from_epsg(4326), system, longitude.tolist(), latitude.tolist()))[:, 0]
    return bool(np.allclose(found, wanted, rtol=1e-3, atol=1e3))


def lonlat_or_nan(crs: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Convert map coordinates as ``to_lonlat``; NaN where there is no such place on the Earth."""
    from rasterio._err import CPLE_BaseError  # GDAL's own errors, which some calls let through
    from rasterio.errors import RasterioError

    try:
        return to_lonlat(crs, x, y)
    except (CPLE_BaseError, RasterioError):
        return np.full(np.shape(x), np.nan), np.full(np.shape(x), np.nan)


def on_earth(crs: str | None) -> bool:
    """Tell whether a reference system, as WKT, is of the Earth: whether it leads to longitude and latitude in WGS84.

    Example:
        >>> on_earth(crs_wkt("EPSG:32633")), on_earth(None)
        (True, False)
    """
    return crs is not None and not np.isnan(lonlat_or_nan(crs, np.zeros(1), np.zeros(1))[0][0])
