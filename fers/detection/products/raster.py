"""The score map as a file that GIS programs open: cloud-optimised GeoTIFF with its style, or ENVI."""

from __future__ import annotations

import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from rasterio import shutil
from rasterio._err import CPLE_BaseError  # GDAL's own errors, which some calls let through
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning

from fers.detection.products.place import WGS84, Place
from fers.scenes.readers import LatLon
from fers.util.errors import FersError

BANDS = ("score", "-log10 of the tail probability")
RAMP = ("#0d0887", "#7e03a8", "#cc4778", "#f89540", "#f0f921")  # plasma: even steps, also for the colour-blind
SHOWN_SHARE = 0.02  # of the pixels that the style colours
_CONTROL_POINTS = 12  # along each side of a swath


def write_geotiff(path: Path, score: np.ndarray, probability: np.ndarray, place: Place, about: dict[str, str]) -> None:
    """Write both maps as one cloud-optimised GeoTIFF, with a style for QGIS next to it.

    Rotated grids keep their affine transform. A scene with a lookup table is pushed through it. A swath with latitude and
    longitude stays on the sensor's grid and gets control points.

    Args:
        path: Ends in .tif; the style is the same name with .qml.
        score: ``(H, W)``, NaN where nothing is scored.
        probability: ``(H, W)`` tail probability.
        place: The georeference.
        about: Tags of the file.

    Raises:
        FersError: GDAL cannot write there.
    """
    maps = _maps(score, probability, place)
    profile = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "predictor": 3}
    cog = {"compress": "deflate", "predictor": 3, "overview_resampling": "rms", "bigtiff": "if_safer"}
    plain = path.with_name(f".{path.stem}-plain.tif")
    with _writing(path, plain, plain.with_suffix(".tif.aux.xml")):
        with rasterio.open(
            plain, "w", driver="GTiff", BIGTIFF="IF_SAFER", **_profile(maps, place), **profile
        ) as raster:
            _fill(raster, maps, place, about)
        shutil.copy(plain, path, driver="COG", **cog)
    path.with_suffix(".qml").write_text(style(-np.log10(probability)))


def write_envi(path: Path, score: np.ndarray, probability: np.ndarray, place: Place, about: dict[str, str]) -> None:
    """Write both maps as ENVI: ``path`` ends in .img, and its header is the same name with .hdr. See ``write_geotiff``."""
    maps = _maps(score, probability, place)
    leftover = path.with_name(path.name + ".aux.xml")
    with _writing(path, leftover), rasterio.open(path, "w", driver="ENVI", **_profile(maps, place)) as raster:
        _fill(raster, maps, place, about)


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


def _maps(score: np.ndarray, probability: np.ndarray, place: Place) -> list[np.ndarray]:
    maps = (score.astype(np.float32), -np.log10(probability).astype(np.float32))
    return [place.to_raster(values, np.float32(np.nan)) for values in maps]


def _profile(maps: list[np.ndarray], place: Place) -> dict:
    transform, crs = place.raster
    profile = {"height": maps[0].shape[0], "width": maps[0].shape[1], "count": 2, "dtype": "float32", "nodata": np.nan}
    return profile | ({} if transform is None else {"transform": transform, "crs": crs})


def _fill(raster, maps: list[np.ndarray], place: Place, about: dict[str, str]) -> None:
    for number, (values, name) in enumerate(zip(maps, BANDS, strict=True), start=1):
        raster.write(values, number)
        raster.set_band_description(number, name)
    raster.update_tags(**about)
    if isinstance(place.geometry, LatLon):
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
