"""Places that the user knows already, false alarms or known objects, from a file: they are not listed, or do not count."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from fers.detection.products.place import Place
from fers.detection.shapes import OTHER_SHAPES, Shape, Shapes, read_shapes
from fers.scenes.readers.errors import check_length, local_file, refusing

AREA, POINT = 1, 2  # in the map of known places
_LARGEST_LIST = 64 << 20  # bytes of a table


def read_known(path: str | Path, place: Place, shape: tuple[int, int]) -> tuple[np.ndarray, str]:
    """Read known places.

    Args:
        path: Shapes, as ``fers.detection.shapes.read_shapes`` reads them, or CSV with the columns row and column.
            ``detections.geojson`` and ``detections.csv`` of a run are both.
        place: The scene's georeference.
        shape: ``(H, W)`` of the scene.

    Returns:
        ``(H, W)`` uint8, ``AREA`` in polygons, ``POINT`` at points, 0 elsewhere; and a sentence that says how many there are.

    Raises:
        FersError: The file cannot be read, or is georeferenced and the scene is not.
    """
    path = local_file(path, "file after --not")
    known = np.zeros(shape, np.uint8)
    with refusing(path, "file of known places"):
        shapes = read_shapes(path) if _holds_shapes(path) else Shapes(path, None, tuple(_of_table(path)))
        in_pixels = [_pixel(about["row"], about["col" if "col" in about else "column"]) for about in shapes.without]
        total = found = 0
        for group in (shapes, replace(shapes, crs=None, items=tuple(in_pixels))):
            for one in group.items:
                marked = group.pixels([one], place.geometry, shape, touched=False)
                known[marked] = np.maximum(known[marked], POINT if one.kind == "Point" else AREA)
                total, found = total + 1, found + bool(marked.any())
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


def _holds_shapes(path: Path) -> bool:
    with open(path, "rb") as file:
        return path.suffix.lower() in OTHER_SHAPES or file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def _pixel(row: int, column: int) -> Shape:
    return Shape("Point", (np.array([[column + 0.5, row + 0.5]]),))


def _of_table(path: Path) -> list[Shape]:
    check_length(path, _LARGEST_LIST)
    rows = [
        [part.strip() for part in row] for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if row
    ]
    names = ["row", "column"]
    if rows and not rows[0][0].lstrip("-").isdigit():
        names = ["column" if name.lower() == "col" else name.lower() for name in rows.pop(0)]
    if "row" not in names or "column" not in names:
        raise ValueError("no columns named row and column, and no GeoJSON, shapefile or GeoPackage")
    return [_pixel(int(row[names.index("row")]), int(row[names.index("column")])) for row in rows]
