"""Places that the user knows already, false alarms or known objects, from a file: they are not listed, or do not count."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from matplotlib.path import Path as Ring
from rasterio import features

from fers.detection.products.place import Place
from fers.scenes.readers import LatLon, LookupTable
from fers.util.errors import FersError

AREA, POINT = 1, 2  # in the map of known places
PIXEL = "pixel"  # value of the foreign member fers_coordinates: positions are column, row, from the corner of the scene
_HOW = "Give GeoJSON with points or polygons, or CSV with the columns row and column."


def read_known(path: str | Path, place: Place, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
    """Read known places.

    Args:
        path: GeoJSON with points and polygons in WGS84, or in columns and rows where its member ``fers_coordinates`` is
            ``pixel``; or CSV with the columns row and column. ``detections.geojson`` and ``detections.csv`` of a run are both.
        place: The scene's georeference.
        shape: ``(H, W)`` of the scene.

    Returns:
        ``(H, W)`` uint8, ``AREA`` in polygons, ``POINT`` at points, 0 elsewhere; and a sentence that says how many there are.

    Raises:
        FersError: The file cannot be read, or is georeferenced and the scene is not.
    """
    path = Path(path)
    if not path.is_file():
        raise FersError(f"{path}: no such file. Check the path after --not.")
    found, total, known = 0, 0, np.zeros(shape, np.uint8)
    try:
        for geometry, in_pixels in _places(path):
            total += 1
            found += _mark(known, geometry, None if in_pixels else _georeferenced(path, place))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        if isinstance(error, FersError):
            raise
        raise FersError(f"{path}: cannot be read as known places ({error}). {_HOW}") from error
    outside = f", {total - found} of them outside the scene" if found < total else ""
    return known, f"{total} known place{'' if total == 1 else 's'} from {path}{outside}"


def listed_places(target: tuple[int, int], inside: np.ndarray, known: np.ndarray, corner: tuple[int, int]) -> bool:
    """Tell whether a target is new: its peak lies in no known area, and no known point lies on it.

    Args:
        target: Row and column of its peak.
        inside: ``(h, w)`` bool, its pixels in the box around it.
        known: ``(H, W)`` as ``read_known`` gives it.
        corner: First row and column of the box.
    """
    box = known[corner[0] : corner[0] + inside.shape[0], corner[1] : corner[1] + inside.shape[1]]
    return not (known[target] or (box[inside] == POINT).any())


def _georeferenced(path: Path, place: Place) -> Place:
    if not place.known:
        raise FersError(
            f"{path}: its places are longitude and latitude, and the scene has no georeference. Give rows and columns."
        )
    return place


def _places(path: Path) -> Iterator[tuple[dict[str, Any], bool]]:
    """Single points and polygons, and whether their positions are columns and rows."""
    text = path.read_text(encoding="utf-8-sig")
    if not text.lstrip().startswith("{"):
        for row, column in _table_places(path, text):
            yield {"type": "Point", "coordinates": (column + 0.5, row + 0.5)}, True
        return
    content = json.loads(text)
    in_pixels = content.get("fers_coordinates") == PIXEL
    pending = [content]
    while pending:
        part = pending.pop(0)
        kind = part["type"]
        if kind == "FeatureCollection":
            pending += part["features"]
        elif kind == "GeometryCollection":
            pending += part["geometries"]
        elif (
            kind == "Feature" and part["geometry"] is None
        ):  # a target of a scene without a georeference, or off its grid
            about = part["properties"]
            column = about["col"] if "col" in about else about["column"]
            yield {"type": "Point", "coordinates": (column + 0.5, about["row"] + 0.5)}, True
        elif kind == "Feature":
            pending.append(part["geometry"])
        elif kind in ("Point", "Polygon"):
            yield part, in_pixels
        elif kind in ("MultiPoint", "MultiPolygon"):
            yield from (({"type": kind[5:], "coordinates": each}, in_pixels) for each in part["coordinates"])
        else:
            raise FersError(f"{path}: holds a {kind}. {_HOW}")


def _table_places(path: Path, text: str) -> Iterator[tuple[int, int]]:
    rows = [[part.strip() for part in row] for row in csv.reader(text.splitlines()) if row]
    names = ["row", "column"]
    if rows and not rows[0][0].lstrip("-").isdigit():
        names = ["column" if name.lower() == "col" else name.lower() for name in rows.pop(0)]
    if "row" not in names or "column" not in names:
        raise FersError(f"{path}: has no columns named row and column. {_HOW}")
    for row in rows:
        yield int(row[names.index("row")]), int(row[names.index("column")])


def _mark(known: np.ndarray, geometry: dict[str, Any], place: Place | None) -> bool:
    """Mark a point or polygon; tell whether any of it lies in the scene."""
    value = POINT if geometry["type"] == "Point" else AREA
    if place is None:
        marked = _rasterised(geometry, known.shape)
    elif isinstance(place.geometry, LatLon):
        marked = _in_swath(geometry, place.geometry)
    else:
        grid = _mapped_to_grid(geometry, place)
        if isinstance(table := place.geometry, LookupTable):
            cells = _rasterised(grid, table.rows.shape) & (table.rows >= 0)
            marked = np.zeros(known.shape, bool)
            marked[table.rows[cells], table.columns[cells]] = True
        else:
            marked = _rasterised(grid, known.shape)
    known[marked] = np.maximum(known[marked], value)
    return bool(marked.any())


def _rasterised(geometry: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Pixels whose centre lies in a geometry of columns and rows; the one pixel of a point or of a smaller polygon."""
    marked = np.zeros(shape, bool)
    if geometry["type"] == "Polygon":
        rings = [np.asarray(ring, float)[:, :2].tolist() for ring in geometry["coordinates"]]
        marked = features.rasterize(
            [geometry | {"coordinates": rings}], shape, transform=Affine.identity(), dtype="uint8"
        ).astype(bool)
    if not marked.any():
        ring = geometry["coordinates"] if geometry["type"] == "Point" else geometry["coordinates"][0]
        column, row = np.floor(np.atleast_2d(np.asarray(ring, float))[:, :2].mean(axis=0)).astype(int)
        if 0 <= row < shape[0] and 0 <= column < shape[1]:
            marked[row, column] = True
    return marked


def _mapped_to_grid(geometry: dict[str, Any], place: Place) -> dict[str, Any]:
    def moved(points: Any) -> list[tuple[float, float]]:
        longitude, latitude = np.atleast_2d(np.asarray(points, float))[:, :2].T
        return list(zip(*place.grid_position(longitude, latitude), strict=True))

    if geometry["type"] == "Point":
        return {"type": "Point", "coordinates": moved(geometry["coordinates"])[0]}
    return {"type": "Polygon", "coordinates": [moved(ring) for ring in geometry["coordinates"]]}


def _in_swath(geometry: dict[str, Any], swath: LatLon) -> np.ndarray:
    """Pixels of a swath whose centre lies in a polygon; the nearest pixel of a point."""
    rings = [geometry["coordinates"]] if geometry["type"] == "Point" else geometry["coordinates"]
    first = np.atleast_2d(np.asarray(rings[0], float))[0, 0]

    def east(longitude: np.ndarray) -> np.ndarray:
        return (np.asarray(longitude, float) - first + 180) % 360 - 180  # so that the date line is nowhere near

    centres = np.stack([east(swath.longitude), np.asarray(swath.latitude, float)], axis=-1)
    if geometry["type"] == "Polygon":
        inside = np.zeros(swath.latitude.shape, bool)
        for ring in rings:  # holes come after the outline, and turn what lies in them around
            corners = np.asarray(ring, float)[:, :2]
            corners = np.column_stack([east(corners[:, 0]), corners[:, 1]])
            inside ^= Ring(corners).contains_points(centres.reshape(-1, 2)).reshape(inside.shape)
        if inside.any():
            return inside
    middle = np.atleast_2d(np.asarray(rings[0], float))[:, :2].mean(axis=0)
    scale = np.array([np.cos(np.radians(middle[1])), 1.0])
    distance = np.linalg.norm((centres - (east(middle[0]), middle[1])) * scale, axis=-1)
    distance = np.where(np.isfinite(distance), distance, np.inf)
    row, column = np.unravel_index(int(distance.argmin()), distance.shape)
    around = (centres[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] - centres[row, column]) * scale
    near = np.zeros(distance.shape, bool)
    near[row, column] = distance[row, column] < np.nanmax(
        np.linalg.norm(around, axis=-1)
    )  # else it is not in the scene
    return near
