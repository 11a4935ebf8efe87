"""Position of pixels and targets on the Earth, for all three kinds of georeference."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from affine import Affine
from rasterio import features, warp
from rasterio.crs import CRS
from scipy import ndimage

from fers.scenes.readers import Geometry, LatLon, LookupTable, MapGrid
from fers.scenes.readers.projection import on_earth

WGS84 = CRS.from_epsg(4326)
METRES_PER_DEGREE = 111_320.0  # of latitude, on a sphere; for areas of pixels only


class Place:
    """The georeference of a scene.

    Args:
        geometry: Georeference from a reader.
        shape: ``(H, W)`` of the scene.
    """

    def __init__(self, geometry: Geometry | None, shape: tuple[int, int]):
        self.geometry, self.shape = geometry, shape
        self.crs: CRS | None = None
        if isinstance(geometry, MapGrid | LookupTable) and geometry.crs is not None:
            self.crs = CRS.from_wkt(geometry.crs)
        elif isinstance(geometry, LatLon):
            self.crs = WGS84
        self._on_earth = self.crs is not None and on_earth(self.crs.to_wkt())

    @property
    def known(self) -> bool:
        """True where longitude and latitude are known."""
        return self._on_earth

    @property
    def notes(self) -> list[str]:
        """Notes for the user on the place."""
        if self.crs is None or self._on_earth:
            return []
        return ["the map is not of the Earth: places are in its own coordinates, without longitude and latitude"]

    @property
    def raster(self) -> tuple[Affine | None, CRS | None]:
        """Transform and CRS of a raster made by ``to_raster``."""
        if isinstance(self.geometry, MapGrid | LookupTable):
            return self.geometry.transform, self.crs
        return None, None

    def to_raster(self, values: np.ndarray, fill: float = np.nan) -> np.ndarray:
        """Bring a map to the grid of the written raster: the sensor's, or that of the lookup table."""
        return self.geometry.orthorectify(values, fill) if isinstance(self.geometry, LookupTable) else values

    def xy(self, row: int, column: int) -> tuple[float, float] | None:
        """Return the map coordinates of the centre of a pixel; None where it has none."""
        if isinstance(self.geometry, LookupTable):
            return self._cell(row, column)
        return None if self.geometry is None else self.geometry.xy(row, column)

    def lonlat(self, row: int, column: int) -> tuple[float, float] | None:
        """Return longitude and latitude in WGS84 of the centre of a pixel; None where it has none."""
        point = self.xy(row, column)
        if point is None or not self.known:
            return None
        if self.crs == WGS84:
            return point
        (longitude,), (latitude,) = warp.transform(self.crs, WGS84, [point[0]], [point[1]])
        return float(longitude), float(latitude)

    def grid_position(self, longitude: np.ndarray, latitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute column and row on the grid of the written raster, with fractions, of places in WGS84; not for a swath."""
        transform, _ = self.raster
        assert transform is not None and self.crs is not None, "only a known grid has positions"
        x, y = np.array(warp.transform(WGS84, self.crs, longitude, latitude))
        return ~transform @ (x, y)

    def pixel_area(self, row: int, column: int) -> float:
        """Return the area in m2 of a pixel near this one."""
        if isinstance(self.geometry, LatLon):
            return self._swath_area(row, column)
        assert self.geometry is not None and self.crs is not None
        area = abs(self.geometry.transform.determinant)
        if not self.crs.is_geographic:
            return area * self.crs.linear_units_factor[1] ** 2
        point = self.xy(row, column)
        latitude = 0.0 if point is None else point[1]
        return area * METRES_PER_DEGREE**2 * float(np.cos(np.radians(latitude)))

    def polygons(self, labels: np.ndarray) -> dict[int, dict[str, Any]]:
        """Outline each label as a GeoJSON geometry in WGS84, with holes and several parts where it has them.

        Args:
            labels: ``(H, W)`` int32, 0 for nothing.

        Returns:
            The geometry of each label that lies where every pixel has a place.
        """
        if not self.known:
            return {}
        transform = self.raster[0] or Affine.identity()
        grid = self.to_raster(labels, 0).astype(np.int32, copy=False)
        parts: dict[int, list] = {}
        for shape, label in features.shapes(grid, mask=grid > 0, connectivity=8, transform=transform):
            parts.setdefault(int(label), []).append(shape["coordinates"])
        outlines = {}
        for label, polygons in parts.items():
            shape = (
                {"type": "Polygon", "coordinates": polygons[0]}
                if len(polygons) == 1
                else {"type": "MultiPolygon", "coordinates": polygons}
            )
            if isinstance(self.geometry, LatLon):
                shape = _mapped(shape, self._corner)
            elif self.crs != WGS84:
                shape = warp.transform_geom(self.crs, WGS84, shape, antimeridian_cutting=True)
            outlines[label] = _mapped(shape, lambda x, y: (float(x), float(y)))
        return {label: shape for label, shape in outlines.items() if _finite(shape["coordinates"])}

    @cached_property
    def _cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Filled cells of the lookup table, sorted by the number of their pixel: that number, row and column."""
        table = self.geometry
        assert isinstance(table, LookupTable)
        rows, columns = np.nonzero(table.rows >= 0)
        pixels = table.rows[rows, columns].astype(np.int64) * self.shape[1] + table.columns[rows, columns]
        order = np.argsort(pixels, kind="stable")
        return pixels[order], rows[order], columns[order]

    def _cell(self, row: int, column: int) -> tuple[float, float] | None:
        """Middle of the cells of the lookup table that a pixel fills."""
        assert isinstance(self.geometry, LookupTable)
        pixels, rows, columns = self._cells
        number = row * self.shape[1] + column
        found = slice(*np.searchsorted(pixels, [number, number + 1]))
        if found.start == found.stop:
            return None
        x, y = self.geometry.transform @ (float(columns[found].mean()) + 0.5, float(rows[found].mean()) + 0.5)
        return float(x), float(y)

    @cached_property
    def _around(self) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude of a swath with one more pixel on each side, by linear extrapolation."""
        swath = self.geometry
        assert isinstance(swath, LatLon)
        longitude, latitude = (np.asarray(table, float) for table in (swath.longitude, swath.latitude))
        if np.nanmax(longitude) - np.nanmin(longitude) > 180:  # over the date line
            longitude = longitude % 360
        longitude, latitude = (np.pad(t, 1, mode="reflect", reflect_type="odd") for t in (longitude, latitude))
        return longitude, latitude

    def _corner(self, x: float, y: float) -> tuple[float, float]:
        """Longitude and latitude of a corner (column x, row y), between the pixels' centres; at the border beyond them."""
        place = [[y + 0.5], [x + 0.5]]
        longitude, latitude = (float(ndimage.map_coordinates(table, place, order=1)[0]) for table in self._around)
        return (longitude + 180) % 360 - 180, latitude

    def _swath_area(self, row: int, column: int) -> float:
        area = float(self._areas[row, column])
        return area if np.isfinite(area) else float(np.nanmedian(self._areas))  # near pixels without a place

    @cached_property
    def _areas(self) -> np.ndarray:
        """Area in m2 of each pixel of a swath, by its neighbours; NaN near pixels without a place."""
        longitude, latitude = self._around
        (x_down, x_across), (y_down, y_across) = np.gradient(longitude), np.gradient(latitude)
        areas = np.abs(x_down * y_across - x_across * y_down) * np.cos(np.radians(latitude)) * METRES_PER_DEGREE**2
        return areas[1:-1, 1:-1]


def _finite(part: Any) -> bool:
    """Tell whether all positions of a GeoJSON geometry are numbers."""
    return all(_finite(inner) for inner in part) if isinstance(part, list | tuple) else bool(np.isfinite(part))


def _mapped(shape: dict[str, Any], move) -> dict[str, Any]:
    """Move each position of a GeoJSON geometry."""

    def walk(part):
        return move(*part) if isinstance(part[0], int | float) else [walk(inner) for inner in part]

    return {"type": shape["type"], "coordinates": walk(shape["coordinates"])}
