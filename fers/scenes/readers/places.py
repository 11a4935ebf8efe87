"""Places of pixels from tables and control points: lookup tables (GLT), longitude and latitude, a few known pixels."""

from __future__ import annotations

import numpy as np
from affine import Affine

from fers.scenes.readers.errors import SceneError
from fers.scenes.readers.geometry import ControlPoints, Geometry, LatLon, LookupTable, MapGrid
from fers.scenes.readers.projection import to_lonlat

_EVERY = 9000.0  # values such as -9999 mark a pixel without a place
_TENTH = 0.1  # px by which control points may miss an affine grid


def checked_latlon(name: str, latitude: np.ndarray, longitude: np.ndarray, shape: tuple[int, ...]) -> LatLon:
    """Make the place of a swath; values near -9999, or not finite, are no place.

    Raises:
        SceneError: The tables have another size than the scene, ``shape``, or hold what is no latitude or longitude.
    """
    if latitude.shape != tuple(shape[:2]) or longitude.shape != tuple(shape[:2]):
        found = " and ".join(" x ".join(map(str, table.shape)) for table in (latitude, longitude))
        raise SceneError(
            f"{name}: latitude and longitude are {found}; the scene is {shape[0]} x {shape[1]}. Are both of one scene?"
        )
    latitude, longitude = (np.array(table, np.float64) for table in (latitude, longitude))
    void = ~(np.isfinite(latitude) & np.isfinite(longitude)) | (latitude < -_EVERY) | (longitude < -_EVERY)
    latitude[void] = longitude[void] = np.nan
    wrong = (np.abs(latitude) > 90) | (np.abs(longitude) > 360)
    if wrong.any() or void.all():
        row, column = np.argwhere(wrong | void)[0]
        raise SceneError(
            f"{name}: {int((wrong | void).sum())} pixels have no possible latitude and longitude, the first at row {row}, "
            f"column {column}. Correct the tables, or remove them to work without a place."
        )
    return LatLon(latitude, longitude)


def checked_lookup(
    name: str, grid: MapGrid, columns: np.ndarray, rows: np.ndarray, shape: tuple[int, ...]
) -> LookupTable:
    """Make the place of a scene with a lookup table that counts from 1: 0 for nothing, negative for "from a neighbour".

    Raises:
        SceneError: The table leads to pixels that the scene, ``shape``, does not have.
    """
    if columns.shape != rows.shape or columns.ndim != 2:
        raise SceneError(f"{name}: the lookup table's columns are {columns.shape} and its rows {rows.shape}.")
    columns, rows = (np.abs(table.astype(np.int64)) - 1 for table in (columns, rows))
    void = (columns < 0) | (rows < 0)
    rows[void] = columns[void] = -1
    if rows.max() >= shape[0] or columns.max() >= shape[1]:
        raise SceneError(
            f"{name}: the lookup table leads to row {rows.max() + 1}, column {columns.max() + 1}; the scene has "
            f"{shape[0]} x {shape[1]} px. Are both of one scene?"
        )
    if void.all():
        raise SceneError(f"{name}: the lookup table is empty.")
    return LookupTable(grid.transform, grid.crs, rows, columns)


def from_table(name: str, values: np.ndarray, grid: MapGrid | None, shape: tuple[int, ...]) -> Geometry:
    """Make the place of a scene of ``shape`` from the first two bands of a file.

    These are columns and rows of a GLT on the map ``grid``, or longitude and latitude, or map coordinates of a known reference
    system, of each pixel.
    """
    if is_lookup(values.shape[2], values.dtype, grid):
        assert grid is not None
        return checked_lookup(name, grid, values[:, :, 0], values[:, :, 1], shape)
    if values.shape[:2] != tuple(shape[:2]):
        raise SceneError(
            f"{name}: is {values.shape[0]} x {values.shape[1]} px; expected a GLT of 2 bands with map info, or longitude "
            f"and latitude of each of the scene's {shape[0]} x {shape[1]} px."
        )
    x, y = np.moveaxis(values.astype(np.float64), 2, 0)
    if np.nanmax(np.abs(x)) > _EVERY and np.nanmax(y) > _EVERY:
        if grid is None or grid.crs is None:
            raise SceneError(
                f"{name}: holds map coordinates, and its header names no reference system. Add a coordinate system "
                "string to the header, or give longitude and latitude (the _loc file)."
            )
        x, y = to_lonlat(grid.crs, x, y)
    return checked_latlon(name, y, x, shape)


def is_lookup(bands: int, dtype: np.dtype, grid: MapGrid | None) -> bool:
    """Tell whether a file is a GLT: whole numbers in two bands, on a map grid."""
    return bands == 2 and grid is not None and dtype.kind in "iu"


def from_points(control: ControlPoints, shape: tuple[int, ...]) -> Geometry | None:
    """Place a scene by control points: on a grid where an affine one fits to a tenth of a pixel, else by longitude and latitude.

    The polynomial is of the highest order, up to 3, that the number of points bears. None for fewer than 3 points.
    """
    column, row, x, y = np.asarray(control.points, float).T
    if len(column) < 3:
        return None
    affine, misses = _fitted(_terms(column, row, 3), x, y)
    step = min(np.hypot(*affine[1]), np.hypot(*affine[2]))
    if not step > 0:
        return None
    if misses <= _TENTH * step:
        (c, f), (a, d), (b, e) = affine.tolist()
        return MapGrid(Affine(a, b, c, d, e, f), control.crs)
    if control.crs is None:
        return None
    longitude, latitude = to_lonlat(control.crs, x, y)
    scaled = _terms(column / max(shape[1], 1), row / max(shape[0], 1), 10)
    count = next((count for count in (10, 6, 4) if np.linalg.matrix_rank(scaled[:, :count]) == count), 3)
    factors, _ = _fitted(_terms(column, row, count), longitude, latitude)
    columns, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    fitted = _terms(columns.ravel(), rows.ravel(), count) @ factors
    return checked_latlon("control points", fitted[:, 1].reshape(rows.shape), fitted[:, 0].reshape(rows.shape), shape)


def _terms(column: np.ndarray, row: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` terms of a polynomial of columns and rows: 3 are affine, 4 bilinear, 6 of order 2, 10 of order 3."""
    c, r = column, row
    every = [np.ones_like(c), c, r, c * r, c**2, r**2, c**2 * r, c * r**2, c**3, r**3]
    return np.stack(every[:count], axis=1)


def _fitted(terms: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Factors ``(terms, 2)`` by least squares, and by how much the worst point misses."""
    wanted = np.stack([x, y], axis=1)
    scale = np.maximum(np.abs(terms).max(axis=0), 1e-12)
    centre = wanted.mean(axis=0)  # northings of millions, steps of metres
    factors = np.linalg.lstsq(terms / scale, wanted - centre, rcond=None)[0] / scale[:, None]
    factors[0] += centre
    return factors, float(np.hypot(*(terms @ factors - wanted).T).max())
