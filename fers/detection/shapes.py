"""Shapes of a file, GeoJSON, a shapefile or a GeoPackage, and the pixels of a scene that they mark."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from fers.scenes.readers import Geometry, LatLon, LookupTable, SceneError
from fers.scenes.readers.errors import check_length, local_file, refusing
from fers.scenes.readers.projection import crs_wkt
from fers.util.errors import FersError

PIXEL = "pixel"  # value of the foreign member fers_coordinates: positions are column, row, from the corner of the scene
OTHER_SHAPES = {  # by their endings: what a file begins with, and what it is called
    ".shp": (b"\0\0\x27\x0a", "shapefile"),
    ".gpkg": (b"SQLite format 3\0", "GeoPackage"),
}
_LARGEST_SHAPES = 256 << 20  # bytes
_FINEST = 8000  # cells along each side of the grid on which shapes meet a swath


@dataclass(frozen=True, eq=False)
class Shape:
    """A point, a line or a polygon.

    Attributes:
        kind: ``Point``, ``LineString`` or ``Polygon``.
        parts: Positions ``(n, 2)`` of the point, of the line, or of the outline and of each hole.
    """

    kind: str
    parts: tuple[np.ndarray, ...]

    @property
    def geojson(self) -> dict[str, Any]:
        """The geometry as rasterio takes it."""
        parts = [part.tolist() for part in self.parts]
        return {"type": self.kind, "coordinates": {"Point": parts[0][0], "LineString": parts[0]}.get(self.kind, parts)}

    @property
    def middle(self) -> Shape:
        """The mean of its outline, as a point."""
        return Shape("Point", (self.parts[0].mean(axis=0, keepdims=True),))

    def moved(self, source: str, target: str) -> Shape | None:
        """Return it in another reference system; None where one of its positions has none there."""
        from rasterio.warp import transform

        parts = self.parts
        if source != target:
            parts = tuple(np.column_stack(transform(source, target, *part.T.tolist())) for part in parts)
        return Shape(self.kind, parts) if all(np.isfinite(part).all() for part in parts) else None


@dataclass(frozen=True, eq=False)
class Shapes:
    """Shapes of a file.

    Attributes:
        path: The file.
        crs: Their reference system as WKT; None where positions are columns and rows of the scene.
        items: The shapes.
        without: Properties of the features that have no geometry.
    """

    path: Path
    crs: str | None
    items: tuple[Shape, ...]
    without: tuple[dict[str, Any], ...] = ()

    def pixels(
        self, items: Sequence[Shape], geometry: Geometry | None, sides: tuple[int, int], touched: bool
    ) -> np.ndarray:
        """Find the pixels of a scene that some of the shapes mark.

        Args:
            items: These shapes.
            geometry: Place of the scene.
            sides: ``(H, W)`` of the scene.
            touched: Mark every pixel that a shape touches; else those whose centres lie in it, or the one of its middle.

        Returns:
            ``(H, W)`` bool.

        Raises:
            FersError: The shapes are places on the Earth, and the scene has none, or no reference system.
        """
        if self.crs is None:
            geometry, moved = None, list(items)
        else:
            target = crs_wkt("EPSG:4326") if isinstance(geometry, LatLon) else getattr(geometry, "crs", None)
            if geometry is None or target is None:
                raise FersError(
                    f"{self.path}: its shapes lie on the Earth, and the scene has no georeference, or no reference system. "
                    "Give rows and columns, or a raster of its size."
                )
            moved = [one for shape in items if (one := shape.moved(self.crs, target)) is not None]
        marked = _marked(moved, geometry, sides, touched)
        if not touched and not marked.any():
            marked = _marked([one.middle for one in moved], geometry, sides, touched)
        return marked


def _marked(items: list[Shape], geometry: Geometry | None, sides: tuple[int, int], touched: bool) -> np.ndarray:
    if isinstance(geometry, LatLon):
        return _in_swath(items, geometry, touched)
    if not isinstance(geometry, LookupTable):
        return _rasterised(items, Affine.identity() if geometry is None else geometry.transform, sides, touched)
    cells = _rasterised(items, geometry.transform, geometry.rows.shape, touched) & (geometry.rows >= 0)
    marked = np.zeros(sides, bool)
    marked[geometry.rows[cells], geometry.columns[cells]] = True
    return marked


def _rasterised(items: list[Shape], transform: Affine, sides: tuple[int, ...], touched: bool) -> np.ndarray:
    from rasterio.features import rasterize

    if not items:
        return np.zeros(sides, bool)
    shapes = [one.geojson for one in items]
    return rasterize(shapes, sides, transform=transform, all_touched=touched, dtype="uint8").astype(bool)


def _in_swath(items: list[Shape], swath: LatLon, touched: bool) -> np.ndarray:
    """Pixels of a swath whose centres lie in a cell, half a pixel wide, that is marked; the nearest pixel of a point."""
    first = swath.longitude[np.isfinite(swath.longitude)][0]

    def east(longitude: np.ndarray) -> np.ndarray:
        return (longitude - first + 180) % 360 - 180  # so that the date line is nowhere near

    centres = np.stack([east(swath.longitude), swath.latitude], axis=-1)
    here = np.isfinite(centres).all(axis=-1)
    moved = [
        Shape(one.kind, tuple(np.column_stack([east(part[:, 0]), part[:, 1]]) for part in one.parts)) for one in items
    ]
    low, high = centres[here].min(axis=0), centres[here].max(axis=0)
    sides = [
        max(float(np.nanmedian(np.abs(np.gradient(centres[..., axis])).max(axis=0))) / 2, span / _FINEST, 1e-9)
        for axis, span in enumerate(high - low)
    ]
    across, down = sides
    columns = np.where(here, (centres[..., 0] - low[0]) / across, 0).astype(int)
    rows = np.where(here, (high[1] - centres[..., 1]) / down, 0).astype(int)
    areas = [one for one in moved if one.kind != "Point"]
    grid = (int(rows.max()) + 1, int(columns.max()) + 1)
    cells = _rasterised(areas, Affine(across, 0, low[0], 0, -down, high[1]), grid, touched)
    marked = cells[rows, columns] & here
    for one in moved:
        if one.kind == "Point" and (nearest := _nearest(one.parts[0][0], centres)) is not None:
            marked[nearest] = True
    return marked


def _nearest(point: np.ndarray, centres: np.ndarray) -> tuple[int, int] | None:
    """Row and column of the nearest of the pixels' centres ``(H, W, 2)``; None where its neighbours are nearer to it."""
    scale = np.array([np.cos(np.radians(point[1])), 1.0])
    distance = np.linalg.norm((centres - point) * scale, axis=-1)
    distance = np.where(np.isfinite(distance), distance, np.inf)
    row, column = (int(place) for place in np.unravel_index(int(distance.argmin()), distance.shape))
    around = (centres[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] - centres[row, column]) * scale
    reach = np.nanmax(np.linalg.norm(around, axis=-1))
    return (row, column) if distance[row, column] < reach else None


# ----- files


def read_shapes(path: str | Path) -> Shapes:
    """Read points, lines and polygons, single ones, without heights.

    Args:
        path: GeoJSON, in WGS84, in the system that its member ``crs`` names, or in columns and rows where its member
            ``fers_coordinates`` is ``pixel``. Or a shapefile or GeoPackage where pyogrio is installed.

    Raises:
        FersError: The file cannot be read, or pyogrio is missing.
    """
    path = local_file(path, "file of shapes")
    if path.suffix.lower() in OTHER_SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            return _of_geojson(path, _as_geojson(path, Path(folder) / "shapes.geojson"))
    return _of_geojson(path, path)


def _of_geojson(path: Path, geojson: Path) -> Shapes:
    with refusing(path, "GeoJSON file" if path == geojson else "file of shapes"):
        check_length(geojson, _LARGEST_SHAPES)
        content = json.loads(geojson.read_text("utf-8-sig"))
        name = str(((content.get("crs") or {}).get("properties") or {}).get("name", "CRS84"))
        crs = crs_wkt("EPSG:4326" if "CRS84" in name else name)
        if crs is None:
            raise ValueError(f"reference system '{name}'")
        items: list[Shape] = []
        without = []
        for feature in content["features"] if content.get("type") == "FeatureCollection" else [content]:
            geometry = feature["geometry"] if feature.get("type") == "Feature" else feature
            if geometry is None:
                without.append(feature.get("properties") or {})
            else:
                items += _singles(geometry)
        return Shapes(path, None if content.get("fers_coordinates") == PIXEL else crs, tuple(items), tuple(without))


def _singles(geometry: dict[str, Any]) -> Iterator[Shape]:
    kind = geometry["type"]
    if kind == "GeometryCollection":
        for inner in geometry["geometries"]:
            yield from _singles(inner)
        return
    single, parts = kind.removeprefix("Multi"), geometry["coordinates"]
    if single not in ("Point", "LineString", "Polygon"):
        raise ValueError(f"it holds a {kind}")
    for one in parts if kind != single else [parts]:
        rings = {"Point": [[one]], "LineString": [one]}.get(single, one)
        arrays = tuple(np.asarray(ring, float)[:, :2] for ring in rings if len(ring))
        if arrays and arrays[0].size:
            if any(array.shape[1] != 2 for array in arrays):
                raise ValueError("a position has fewer than two numbers")
            yield Shape(single, arrays)


def _as_geojson(path: Path, out: Path) -> Path:
    """A shapefile or GeoPackage as GeoJSON, in its own reference system."""
    magic, kind = OTHER_SHAPES[path.suffix.lower()]
    with open(path, "rb") as file:
        if file.read(len(magic)) != magic:  # other drivers follow names into other files
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
