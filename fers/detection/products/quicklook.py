"""Maps with north up: rotated grids, lookup tables and swaths resampled to a plain grid, which every program draws fast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from rasterio.crs import CRS
from scipy.spatial import cKDTree

from fers.detection.products.place import Place
from fers.scenes.readers import LatLon, LookupTable
from fers.util.errors import FersError
from fers.util.pictures import stretched

_MOST_CELLS = 16  # of a grid for each pixel of a swath: a swath across the grid has about 2


def refuse_without_place(place: Place, name: str) -> None:
    """Refuse ``--north_up`` for a scene without a georeference."""
    if not place.known:
        raise FersError(f"{name}: --north_up needs a georeference, and the scene has none. Leave it out.")


def north_up(maps: np.ndarray, place: Place, fill: float, thinning: int = 1) -> tuple[np.ndarray, Affine, CRS]:
    """Resample maps to a grid with north up, by the nearest pixel: values are copied, never mixed.

    Args:
        maps: ``(n, h, w)``, maps of the scene, of which every ``thinning``-th row and column is there.
        place: The georeference; it must be known.
        fill: Value where there is no pixel.
        thinning: See ``maps``.

    Returns:
        ``(n, h', w')``, its transform, and its CRS. A grid that has north up already is kept as it is.

    Raises:
        FersError: The places of a swath are no map.
    """
    crs = place.crs
    assert crs is not None, "only a scene with a georeference has a north"
    if isinstance(place.geometry, LatLon):
        return *_of_swath(maps, place.geometry, fill, thinning), crs
    own, _ = place.raster
    assert own is not None
    own = own @ Affine.scale(thinning)
    if isinstance(table := place.geometry, LookupTable):
        rows, columns = table.rows[::thinning, ::thinning], table.columns[::thinning, ::thinning]
        maps = _taken(maps, rows // thinning, columns // thinning, rows >= 0, fill)
    if own.b == own.d == 0 and own.a > 0 > own.e:
        return maps, own, crs
    height, width = maps.shape[1:]
    x, y = np.array([own @ corner for corner in ((0, 0), (width, 0), (0, height), (width, height))]).T
    side = abs(own.determinant) ** 0.5
    transform = Affine(side, 0, x.min(), 0, -side, y.max())
    cells = np.meshgrid(np.arange(np.ceil(np.ptp(x) / side)) + 0.5, np.arange(np.ceil(np.ptp(y) / side)) + 0.5)
    at = ~own @ transform
    columns, rows = (np.floor(each).astype(np.int64) for each in at @ tuple(cells))
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return _taken(maps, rows, columns, inside, fill), transform, crs


def _taken(maps: np.ndarray, rows: np.ndarray, columns: np.ndarray, there: np.ndarray, fill: float) -> np.ndarray:
    """Take for each cell the pixel of this row and column, where it is there."""
    out = np.full((len(maps), *rows.shape), fill, maps.dtype)
    out[:, there] = maps[:, rows[there], columns[there]]
    return out


def _of_swath(maps: np.ndarray, swath: LatLon, fill: float, thinning: int) -> tuple[np.ndarray, Affine]:
    """Take for each cell the nearest pixel centre, if it is as near as pixels are to each other."""
    latitude, longitude = (
        np.asarray(table, float)[::thinning, ::thinning] for table in (swath.latitude, swath.longitude)
    )
    first = float(longitude[np.isfinite(longitude)][0])
    east = (longitude - first + 180) % 360 - 180  # so that the date line is nowhere near
    squeeze = np.cos(np.radians(np.nanmean(latitude)))
    points = np.stack([east * squeeze, latitude], axis=-1)
    steps = [np.linalg.norm(np.diff(points, axis=axis), axis=-1) for axis in (0, 1)]
    side = float(min(np.nanmedian(step) for step in steps))
    reach = float(np.nanmax([np.nanquantile(step, 0.99) for step in steps]))
    left, top = np.nanmin(points, axis=(0, 1))[0] - side / 2, np.nanmax(points, axis=(0, 1))[1] + side / 2
    right, bottom = np.nanmax(points, axis=(0, 1))[0] + side / 2, np.nanmin(points, axis=(0, 1))[1] - side / 2
    if not side > 0 or (right - left) * (top - bottom) > _MOST_CELLS * points[..., 0].size * side**2:
        raise FersError("latitude and longitude of the swath are no map that a grid could hold; some are wrong.")
    wide, high = (int(np.ceil(length / side)) for length in (right - left, top - bottom))
    usable = np.isfinite(points).all(axis=-1)
    tree, (rows, columns) = cKDTree(points[usable]), np.nonzero(usable)
    cells = np.meshgrid(left + side * (np.arange(wide) + 0.5), top - side * (np.arange(high) + 0.5))
    distance, nearest = tree.query(np.stack(cells, axis=-1), distance_upper_bound=reach)
    there = np.isfinite(distance)
    nearest[~there] = 0
    transform = Affine(side / squeeze, 0, left / squeeze + first, 0, -side, top)
    return _taken(maps, rows[nearest], columns[nearest], there, fill), transform


def write_quicklook(path: Path, colours: np.ndarray, overlay: np.ndarray, place: Place, thinning: int) -> None:
    """Write the scene under its highest scores as one picture with north up, a GeoTIFF in colour.

    Args:
        path: Ends in .tif.
        colours: ``(h, w, 3)``, the scene in three bands, every ``thinning``-th row and column, NaN without data.
        overlay: ``(h, w, 4)`` uint8 to lay over it.
        place: The georeference; it must be known.
        thinning: See ``colours``.
    """
    strength = overlay[..., 3:] / 255
    picture = stretched(colours) * (1 - strength) + overlay[..., :3] * strength
    seen = np.isfinite(colours).all(axis=2, keepdims=True) * 255
    layers = np.concatenate([picture.round(), seen], axis=2).astype(np.uint8).transpose(2, 0, 1)
    layers, transform, crs = north_up(layers, place, 0, thinning)
    profile = {"count": 4, "dtype": "uint8", "compress": "deflate", "tiled": True, "photometric": "RGB", "alpha": "YES"}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=layers.shape[1],
        width=layers.shape[2],
        transform=transform,
        crs=crs,
        **profile,
    ) as raster:
        raster.write(layers)
