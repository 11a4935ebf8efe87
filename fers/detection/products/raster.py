"""The score map as a file that GIS programs open: cloud-optimised GeoTIFF with its style, or ENVI."""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from rasterio import shutil
from rasterio._err import CPLE_BaseError  # GDAL's own errors, which some calls let through
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning

from fers.detection.products import quicklook
from fers.detection.products.place import WGS84, Place
from fers.scenes.readers import LatLon
from fers.util.errors import FersError

BANDS = ("score", "-log10 of the tail probability")
RAMP = ("#0d0887", "#7e03a8", "#cc4778", "#f89540", "#f0f921")  # plasma: even steps, also for the colour-blind
SHOWN_SHARE = 0.02  # of the pixels that the style colours
_CONTROL_POINTS = 12  # along each side of a swath


NamedMaps = dict[str, np.ndarray]


def write_geotiff(
    path: Path,
    score: np.ndarray,
    probability: np.ndarray,
    place: Place,
    about: dict[str, str],
    north_up: bool = False,
) -> None:
    """Write the score and its rarity as one GeoTIFF of two bands; see ``write_maps``.

    Args:
        path: Ends in .tif.
        score: ``(H, W)``, NaN where nothing is scored.
        probability: ``(H, W)`` tail probability.
        place: The georeference.
        about: Tags of the file.
        north_up: Resample to a grid with north up.
    """
    write_maps(path, _score_maps(score, probability), BANDS[1], place, about, north_up)


def write_maps(
    path: Path, maps: NamedMaps, styled: str, place: Place, about: dict[str, str], north_up: bool = False
) -> None:
    """Write maps as one cloud-optimised GeoTIFF, with a style for QGIS next to it.

    Rotated grids keep their affine transform. A scene with a lookup table is pushed through it. A swath with latitude and
    longitude stays on the sensor's grid and gets control points.

    Args:
        path: Ends in .tif; the style is the same name with .qml.
        maps: ``(H, W)`` for each band, by its description; NaN where there is nothing.
        styled: The band that the style colours.
        place: The georeference.
        about: Tags of the file.
        north_up: Resample to a grid with north up, instead of keeping the scene's own.

    Raises:
        FersError: GDAL cannot write there.
    """
    values, where = _gridded(maps, place, north_up)
    profile = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "predictor": 3}
    cog = {"compress": "deflate", "predictor": 3, "overview_resampling": "rms", "bigtiff": "if_safer"}
    plain = path.with_name(f".{path.stem}-plain.tif")
    with _writing(path, plain, plain.with_suffix(".tif.aux.xml")):
        with rasterio.open(
            plain, "w", driver="GTiff", BIGTIFF="IF_SAFER", **_profile(values, where), **profile
        ) as raster:
            _fill(raster, values, maps, about, None if north_up else place)
        shutil.copy(plain, path, driver="COG", **cog)
    path.with_suffix(".qml").write_text(style(maps[styled], list(maps).index(styled) + 1))


def write_envi(
    path: Path,
    score: np.ndarray,
    probability: np.ndarray,
    place: Place,
    about: dict[str, str],
    north_up: bool = False,
) -> None:
    """Write both maps as ENVI: ``path`` ends in .img, and its header is the same name with .hdr. See ``write_geotiff``."""
    maps = _score_maps(score, probability)
    values, where = _gridded(maps, place, north_up)
    leftover = path.with_name(path.name + ".aux.xml")
    with _writing(path, leftover), rasterio.open(path, "w", driver="ENVI", **_profile(values, where)) as raster:
        _fill(raster, values, maps, about, None if north_up else place)
    header = path.with_suffix(".hdr")  # GDAL describes the file by the path at which it was made, which is temporary
    header.write_text(re.sub(r"(?s)(description = \{).*?\}", rf"\g<1>\n{path.name}}}", header.read_text(), count=1))


def style(values: np.ndarray, band: int = 2) -> str:
    """Make a QGIS style (.qml) that colours the highest values of one band; the others are transparent.

    Args:
        values: Values of that band; NaN is left out.
        band: Number of the band, from 1.
    """
    low, start, high = (float(v) for v in np.nanquantile(values, (0, 1 - SHOWN_SHARE, 1)))
    root = ET.Element("qgis", version="3.28", styleCategories="AllStyleCategories")
    pipe = ET.SubElement(root, "pipe")
    renderer = ET.SubElement(
        pipe,
        "rasterrenderer",
        type="singlebandpseudocolor",
        band=str(band),
        opacity="1",
        alphaBand="-1",
        classificationMin=f"{low:g}",
        classificationMax=f"{high:g}",
    )
    shader = ET.SubElement(
        ET.SubElement(renderer, "rastershader"), "colorrampshader", colorRampType="INTERPOLATED", clip="0"
    )
    steps = zip([low, *np.linspace(start, high, len(RAMP))], (RAMP[0], *RAMP), (0, 0, 140, 180, 220, 255), strict=True)
    for value, colour, alpha in steps:
        ET.SubElement(shader, "item", value=f"{value:g}", color=colour, alpha=f"{alpha}", label=f"{value:.3g}")
    ET.SubElement(pipe, "rasterresampler", maxOversampling="2")
    ET.indent(root)
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ET.tostring(root, encoding="unicode") + "\n"


def _score_maps(score: np.ndarray, probability: np.ndarray) -> NamedMaps:
    return dict(zip(BANDS, (score, -np.log10(probability)), strict=True))


def _gridded(maps: NamedMaps, place: Place, north: bool) -> tuple[np.ndarray, dict]:
    """Float32 maps ``(n, h, w)`` on the grid of the file, and its transform and CRS where it has them."""
    values = np.stack([each.astype(np.float32) for each in maps.values()])
    if north:
        values, transform, crs = quicklook.north_up(values, place, np.nan)
        return values, {"transform": transform, "crs": crs}
    own, crs = place.raster
    values = np.stack([place.to_raster(each, np.float32(np.nan)) for each in values])
    return values, {} if own is None else {"transform": own, "crs": crs}


def _profile(values: np.ndarray, where: dict) -> dict:
    count, height, width = values.shape
    return {"height": height, "width": width, "count": count, "dtype": "float32", "nodata": np.nan} | where


def _fill(raster, values: np.ndarray, names: Iterable[str], about: dict[str, str], place: Place | None) -> None:
    for number, (band, name) in enumerate(zip(values, names, strict=True), start=1):
        raster.write(band, number)
        raster.set_band_description(number, name)
    raster.update_tags(**about)
    if place is not None and isinstance(place.geometry, LatLon):
        raster.gcps = _control_points(place), WGS84


def _control_points(place: Place) -> list[GroundControlPoint]:
    rows, columns = (np.unique(np.linspace(0, side - 1, _CONTROL_POINTS).round().astype(int)) for side in place.shape)
    points = [(row, column, place.lonlat(int(row), int(column))) for row in rows for column in columns]
    return [
        GroundControlPoint(r + 0.5, c + 0.5, *where) for r, c, where in points if where and np.isfinite(where).all()
    ]


@contextmanager
def _writing(path: Path, *leftovers: Path) -> Iterator[None]:
    """Name the file in GDAL's errors, and remove what GDAL leaves.

    GDAL's remark that a raster has no georeference is no news for a scene that has none.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            yield
    except (rasterio.errors.RasterioError, CPLE_BaseError) as error:
        raise FersError(
            f"{path}: cannot be written ({error}). Is the disk full? Make room and run the same command again."
        ) from error
    finally:
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
