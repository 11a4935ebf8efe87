"""Targets in a score map: connected pixels above a threshold, ranked by their highest score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from fers.detection.known import listed_places

RING_REACH = 12  # px around a target that are read, for its picture and the ring of its background
EIGHT = np.ones((3, 3), bool)  # neighbours, including diagonal ones


@dataclass(frozen=True, eq=False)
class Target:
    """Connected pixels at or above the threshold.

    Attributes:
        rank: 1 is the highest score.
        label: Its number in the label map.
        row, column: Pixel with the highest score.
        score: That score.
        total: Sum of the scores.
        pixels: Number of pixels.
        area: Area in m2; None without a georeference.
        bounds: First row, first column, row after the last, column after the last.
    """

    rank: int
    label: int
    row: int
    column: int
    score: float
    total: float
    pixels: int
    area: float | None
    bounds: tuple[int, int, int, int]


def find_targets(
    score: np.ndarray,
    threshold: float,
    min_area: float | None = None,
    max_area: float | None = None,
    pixel_area: Callable[[int, int], float] | None = None,
    known: np.ndarray | None = None,
) -> tuple[list[Target], np.ndarray]:
    """Find targets in a score map.

    Args:
        score: ``(H, W)``, NaN where nothing is scored.
        threshold: Pixels at or above it belong to targets. Diagonal neighbours belong together.
        min_area: Least size of a target: in m2 where ``pixel_area`` is given, else in pixels.
        max_area: Greatest size, likewise.
        pixel_area: Function from row and column of a pixel to its area in m2.
        known: ``(H, W)``, places that are not listed, as ``fers.detection.known.read_known`` gives them.

    Returns:
        The targets, the highest score first, and ``(H, W)`` int32 with their labels, 0 elsewhere.
    """
    labels, count = ndimage.label(score >= threshold, structure=EIGHT)
    labels = labels.astype(np.int32, copy=False)
    found = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        inside = labels[box] == label
        values = np.where(inside, score[box], -np.inf)
        peak = np.unravel_index(int(values.argmax()), values.shape)
        row, column = int(peak[0]) + box[0].start, int(peak[1]) + box[1].start
        pixels = int(inside.sum())
        area = None if pixel_area is None else pixels * pixel_area(row, column)
        size = pixels if area is None else area
        if (min_area is not None and size < min_area) or (max_area is not None and size > max_area):
            continue
        if known is not None and not listed_places((row, column), inside, known, (box[0].start, box[1].start)):
            continue
        bounds = (box[0].start, box[1].start, box[0].stop, box[1].stop)
        found.append((label, row, column, float(score[row, column]), float(values[inside].sum()), pixels, area, bounds))
    found.sort(key=lambda target: (-target[3], target[1], target[2]))
    kept = np.zeros(count + 1, bool)
    kept[[target[0] for target in found]] = True
    labels[~kept[labels]] = 0
    return [Target(rank, *target) for rank, target in enumerate(found, start=1)], labels


def threshold_for_count(score: np.ndarray, count: int, **bounds) -> float:
    """Choose a threshold low enough for ``count`` targets.

    It is lowered until there are enough targets, or a tenth of the pixels are above it.

    Args:
        score: ``(H, W)``, NaN where nothing is scored.
        count: Number of targets wanted.
        **bounds: As ``find_targets`` takes them.
    """
    ordered = np.sort(score[np.isfinite(score)])[::-1]
    pixels, most = count, max(count, len(ordered) // 10)
    while True:
        pixels = min(pixels, most, len(ordered))
        threshold = float(ordered[pixels - 1])
        if pixels >= min(most, len(ordered)) or len(find_targets(score, threshold, **bounds)[0]) >= count:
            return threshold
        pixels = pixels + max(1, pixels // 4)


def find_candidates(score: np.ndarray, labels: np.ndarray, count: int, **bounds) -> list[Target]:
    """Find the best targets among the pixels that belong to none and touch none.

    Args:
        score: ``(H, W)``, NaN where nothing is scored.
        labels: ``(H, W)`` with the labels of targets, 0 elsewhere. Those of the candidates are added.
        count: Number of candidates wanted. There are fewer where too few pixels are left.
        **bounds: As ``find_targets`` takes them.
    """
    taken = ndimage.binary_dilation(labels > 0, EIGHT)
    rest = np.where(taken, np.nan, score)
    if count == 0 or not np.isfinite(rest).any():
        return []
    found, own = find_targets(rest, threshold_for_count(rest, count, **bounds), **bounds)
    first = int(labels.max())
    found = [replace(target, label=first + target.label) for target in found[:count]]
    own[own > 0] += first
    chosen = np.isin(own, [target.label for target in found])
    labels[chosen] = own[chosen]
    return found


def background_ring(
    shape: tuple[int, int], row: int, column: int, inner: int = 5, outer: int = RING_REACH
) -> tuple[slice, slice, np.ndarray]:
    """Find the surroundings of a pixel.

    Args:
        shape: ``(H, W)`` of the scene.
        row: Row of the pixel.
        column: Column of the pixel.
        inner: Half side in pixels of the square that is left out.
        outer: Half side in pixels of the square that is taken.

    Returns:
        Rows and columns of the outer square inside the scene, and a bool array, True in the ring.
    """
    rows = slice(max(row - outer, 0), min(row + outer + 1, shape[0]))
    columns = slice(max(column - outer, 0), min(column + outer + 1, shape[1]))
    far_rows = np.abs(np.arange(rows.start, rows.stop) - row) > inner
    far_columns = np.abs(np.arange(columns.start, columns.stop) - column) > inner
    return rows, columns, far_rows[:, None] | far_columns[None, :]
