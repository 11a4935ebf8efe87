"""Places of a scene's pixels on the Earth, of each kind that files have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from affine import Affine


@dataclass(frozen=True)
class MapGrid:
    """Place of a scene whose pixels lie on a regular, possibly rotated, map grid."""

    transform: Affine  # from (column, row) to map x, y; (0, 0) is the outer corner of the first pixel
    crs: str | None  # coordinate reference system as WKT; None where the file does not name one

    def xy(self, row: float, column: float) -> tuple[float, float]:
        """Compute the map coordinates of the centre of pixel (row, column)."""
        return self.transform @ (column + 0.5, row + 0.5)


@dataclass(frozen=True, eq=False)
class LookupTable:
    """Place of a scene on the sensor's own grid: a table (GLT) of which of its pixels fills each cell of a map grid."""

    transform: Affine  # from (column, row) of the map grid to map x, y
    crs: str | None  # of the map grid, as WKT
    rows: np.ndarray  # (H', W') row of the scene for each cell, 0-based; -1 where no pixel fills it
    columns: np.ndarray  # (H', W') column of the scene for each cell

    def orthorectify(self, values: np.ndarray, fill: float = np.nan) -> np.ndarray:
        """Push one value a pixel, ``(H, W)``, through the table: ``(H', W')``, ``fill`` where no pixel fills a cell."""
        filled = self.rows >= 0
        out = np.full(self.rows.shape, fill, dtype=np.result_type(values.dtype, np.asarray(fill).dtype))
        out[filled] = values[self.rows[filled], self.columns[filled]]
        return out


@dataclass(frozen=True, eq=False)
class LatLon:
    """Place of a scene on the sensor's own grid: ``(H, W)`` degrees north and east, of every pixel's centre."""

    latitude: np.ndarray
    longitude: np.ndarray

    def xy(self, row: int, column: int) -> tuple[float, float]:
        """Look up longitude and latitude of pixel (row, column)."""
        return float(self.longitude[row, column]), float(self.latitude[row, column])


@dataclass(frozen=True, eq=False)
class ControlPoints:
    """Places of a few pixels; the others are found by a polynomial through them."""

    points: np.ndarray  # (n, 4): column and row, (0, 0) the outer corner of the first pixel, and x, y of the map
    crs: str | None  # of x and y, as WKT


Geometry = MapGrid | LookupTable | LatLon
