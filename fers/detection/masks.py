"""Pixels that the user leaves out: clouds, water, or those of a file of the user's own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fers.scenes.readers import Geometry, LatLon, LookupTable, MapGrid, SceneError, open_scene, read_array
from fers.scenes.readers.errors import local_file, refusing
from fers.scenes.readers.products import read_emit_mask
from fers.scenes.readers.projection import crs_wkt
from fers.scenes.scene import read_png
from fers.util.errors import FersError

AGGREGATE = "aggregate flag"  # EMIT's own: clouds, cirrus, water and spacecraft
_JSON, _OTHER_SHAPES = (".geojson", ".json"), (".shp", ".gpkg")
_MASK_FORMATS = "a raster of one band (GeoTIFF, ENVI), .png, .npy, .npz, .mat, GeoJSON, a shapefile or a GeoPackage"
_LARGEST_JSON = 256 << 20  # bytes
_FINEST = 8000  # cells along each side of the grid on which shapes meet a swath


def read_left_out(path: str | Path, shape: tuple[int, int], geometry: Geometry | None = None) -> np.ndarray:
    """Read the pixels to leave out.

    Args:
        path: An EMIT mask file (its aggregate flag), a raster of one band, .npy, .npz or .mat: pixels are left out unless
            their value is zero, NaN or the declared no-data. A colour .png marks them by green 255, as HAD100 does. Or
            shapes: GeoJSON, or a shapefile or GeoPackage where pyogrio is installed.
        shape: ``(H, W)`` of the scene.
        geometry: Place of the scene, which shapes need.

    Returns:
        ``(H, W)`` bool, True where a pixel is left out.

    Raises:
        FersError: The file cannot be read, has another shape, or marks no pixel by its colours or shapes.
    """
    path = local_file(path, "file after --left_out")
    suffix = path.suffix.lower()
    if suffix in (*_JSON, *_OTHER_SHAPES):
        return pixels_of_shapes(path, shape, geometry)
    if suffix == ".nc":
        flags = {name.lower(): flag for name, flag in read_emit_mask(path).items()}
        out = flags[AGGREGATE] if AGGREGATE in flags else np.any(list(flags.values()), axis=0)
    elif suffix in (".npy", ".npz", ".mat"):
        out = np.nan_to_num(read_array(path, shape=shape)) != 0
    elif suffix == ".png":
        out = _of_picture(path, read_png(path, shape))
    else:
        out = _of_raster(path, shape)
    _check_sides(path, out.shape, shape)
    return out


def _check_sides(path: Path, found: tuple[int, ...], shape: tuple[int, int]) -> None:
    if found != shape:
        raise FersError(
            f"{path}: is {' x '.join(map(str, found))} px and its scene is {shape[0]} x {shape[1]}. "
            "Both must be on the same grid, rows first."
        )


def _of_picture(path: Path, picture: np.ndarray) -> np.ndarray:
    if picture.ndim == 2:
        return picture != 0
    out = picture[:, :, 1] == 255
    if picture.any() and not out.any():
        raise SceneError(
            f"{path}: no pixel of this colour picture has green 255, which marks pixels to leave out. Paint them green or "
            "white, or save a grey picture in which they are not zero."
        )
    return out


def _of_raster(path: Path, shape: tuple[int, int]) -> np.ndarray:
    try:
        reader = open_scene(path)
    except SceneError as error:
        raise SceneError(f"{error} As pixels to leave out, give {_MASK_FORMATS}.") from error
    if reader.bands != 1:
        raise SceneError(f"{path}: has {reader.bands} bands. As pixels to leave out, give {_MASK_FORMATS}.")
    _check_sides(path, reader.shape[:2], shape)  # before anything is read
    block, valid = reader.read_valid()
    return (block[:, :, 0] != 0) & valid


# ----- shapes


def pixels_of_shapes(path: str | Path, shape: tuple[int, int], geometry: Geometry | None) -> np.ndarray:
    """Find the pixels that points, lines or polygons of a file touch.

    Args:
        path: GeoJSON, or a shapefile or GeoPackage where pyogrio is installed.
        shape: ``(H, W)`` of the scene.
        geometry: Place of the scene.

    Returns:
        ``(H, W)`` bool.

    Raises:
        FersError: The file cannot be read, the scene has no place on the Earth, or no shape lies in it.
    """
    path = local_file(path, "file of shapes")
    target = crs_wkt("EPSG:4326") if isinstance(geometry, LatLon) else getattr(geometry, "crs", None)
    if geometry is None or target is None:
        raise FersError(
            f"{path}: shapes need a place, and the scene has none, or no reference system. Give a raster of its size."
        )
    shapes, source = _shapes_of(path)
    with refusing(path, "file of shapes"):
        moved = [_moved(one, source, target) for one in shapes]
        if isinstance(geometry, MapGrid):
            touched = _touched(moved, geometry.transform, shape)
        elif isinstance(geometry, LookupTable):
            filled = geometry.rows >= 0
            cells = _touched(moved, geometry.transform, geometry.rows.shape) & filled
            touched = np.zeros(shape, bool)
            touched[geometry.rows[cells], geometry.columns[cells]] = True
        else:
            touched = _touched_in_swath(moved, geometry)
    if not touched.any():
        raise FersError(f"{path}: none of its {len(shapes)} shapes lies in the scene. Is its reference system right?")
    return touched


def _shapes_of(path: Path) -> tuple[list[dict[str, Any]], str]:
    """Geometries as GeoJSON has them, and their reference system as WKT."""
    if path.suffix.lower() in _OTHER_SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            return _shapes_of(_as_geojson(path, Path(folder) / "shapes.geojson"))
    with refusing(path, "GeoJSON file"):
        if path.stat().st_size > _LARGEST_JSON:
            raise ValueError(f"{path.stat().st_size} bytes")
        content = json.loads(path.read_text("utf-8-sig"))
        name = str(((content.get("crs") or {}).get("properties") or {}).get("name", "CRS84"))
        source = crs_wkt("EPSG:4326" if "CRS84" in name else name)
        if source is None:
            raise ValueError(f"reference system '{name}'")
        return list(_geometries(content)), source


def _geometries(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    kind = part.get("type")
    if kind == "FeatureCollection":
        for feature in part["features"]:
            yield from _geometries(feature)
    elif kind == "Feature":
        yield from _geometries(part.get("geometry") or {})
    elif kind == "GeometryCollection":
        for inner in part["geometries"]:
            yield from _geometries(inner)
    elif kind is not None:
        yield {"type": kind, "coordinates": part["coordinates"]}


def _as_geojson(path: Path, out: Path) -> Path:
    """A shapefile or GeoPackage as GeoJSON, in its own reference system."""
    magic, offset, kind = {".shp": (b"\0\0\x27\x0a", 0, "shapefile"), ".gpkg": (b"GP", 68, "GeoPackage")}[
        path.suffix.lower()
    ]
    with open(path, "rb") as file:
        if not file.read(80)[offset:].startswith(magic):  # other drivers follow names into other files
            raise SceneError(f"{path}: not a {kind}. Save it again.")
    try:
        import pyogrio  # after rasterio and only here: each has a GDAL of its own
    except ImportError as error:
        raise FersError(
            f"{path}: reading a {kind} needs the package pyogrio: pip install pyogrio. Or convert it: ogr2ogr "
            f"{path.stem}.geojson {path.name}"
        ) from error
    with refusing(path, kind):
        meta, _, geometry, _ = pyogrio.raw.read(path.absolute(), columns=[], read_geometry=True, force_2d=True)
        if meta["crs"] is None:
            raise ValueError("it names no reference system")
        pyogrio.raw.write(out, geometry, [], [], driver="GeoJSON", geometry_type="Unknown", crs=meta["crs"])
    return out


def _moved(shape: dict[str, Any], source: str, target: str) -> dict[str, Any]:
    from rasterio.crs import CRS
    from rasterio.warp import transform_geom

    return shape if source == target else transform_geom(CRS.from_wkt(source), CRS.from_wkt(target), shape)


def _touched(shapes: list[dict[str, Any]], transform: Any, sides: tuple[int, ...]) -> np.ndarray:
    from rasterio.features import rasterize

    if not shapes:
        return np.zeros(sides, bool)
    return rasterize(shapes, sides, transform=transform, all_touched=True, dtype="uint8").astype(bool)


def _touched_in_swath(shapes: list[dict[str, Any]], swath: LatLon) -> np.ndarray:
    """Pixels of a swath: those whose centres lie in a cell, half a pixel wide, that a shape touches."""
    from affine import Affine

    longitude, latitude = swath.longitude, swath.latitude
    if np.nanmax(longitude) - np.nanmin(longitude) > 180:  # over the date line
        raise ValueError("the scene lies over the date line, where shapes are not read; give a raster of its size")
    here = np.isfinite(longitude) & np.isfinite(latitude)
    west, north = float(np.nanmin(longitude)), float(np.nanmax(latitude))
    down, across = (
        max(float(np.nanmedian(np.abs(np.gradient(table)).max(axis=0))) / 2, float(np.ptp(table[here])) / _FINEST, 1e-9)
        for table in (latitude, longitude)
    )
    rows = np.where(here, (north - latitude) / down, 0).astype(int)
    columns = np.where(here, (longitude - west) / across, 0).astype(int)
    cells = _touched(shapes, Affine(across, 0, west, 0, -down, north), (int(rows.max()) + 1, int(columns.max()) + 1))
    return cells[rows, columns] & here
