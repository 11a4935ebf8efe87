"""The way from a raw scene to the cube that networks and detectors see: band choice, zero bands, range [-0.1, 0.1].

Pixels without data are refused by default. ``nodata="keep"`` uses them as they are, as the released code does.
``nodata="mask"`` leaves them out of the range and fills them (``fill_no_data``); ``usable_pixels`` says which they are, so that
statistics leave them out too and they are not scored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from fers.scenes.scene import MIN_SIDE, Scene, SceneError, nodata_pixels, row_blocks

SCALE = 0.1
REFLECTED = 3  # px beyond the data: what Spe-FEN's three 3x3 convolutions see from there
_NEAR = sorted(
    ((row, column) for row in range(-REFLECTED, REFLECTED + 1) for column in range(-REFLECTED, REFLECTED + 1)),
    key=lambda offset: (offset[0] ** 2 + offset[1] ** 2, offset),
)[1:]
NoData = Literal["refuse", "keep", "mask"]


def normalise(scene: Scene, bands: int, start: int = 0, nodata: NoData = "refuse") -> np.ndarray:
    """Take bands ``[start : start + bands]`` of a scene and scale them to [-0.1, 0.1].

    ``h = 0.1 * (2 * (x - min) / (max - min) - 1)`` with one minimum and maximum over all chosen bands together.
    A scene with fewer bands gets zero-valued ones appended to its raw cube first, as the authors do for ABU.

    Args:
        scene: The scene, ``(H, W, B)`` of any real type.
        bands: C, the number of bands the model takes.
        start: First band, 0-based.
        nodata: What to do with pixels that hold NaN, infinity or a no-data value: "refuse" the scene, "keep" their values
            (finite ones), or "mask": leave them out of the range and fill them by ``fill_no_data``.

    Returns:
        ``(H, W, C)`` float32 in [-0.1, 0.1].

    Raises:
        SceneError: The scene is smaller than 9 px on a side, lacks data where that is refused, is constant, or has no band
            at ``start``.

    Source: the authors' released implementation; the paper does not give the range.

    Example:
        >>> from pathlib import Path
        >>> cube = np.arange(9 * 9 * 3).reshape(9, 9, 3)
        >>> h = normalise(Scene("ramp", cube, Path("ramp.npy")), bands=3)
        >>> h.dtype.name, float(h.min()), float(h.max())
        ('float32', -0.10000000149011612, 0.10000000149011612)
    """
    height, width = scene.cube.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise SceneError(
            f"{scene.path}: {height} x {width} px; at least {MIN_SIDE} px on each side are needed. Give a larger cut of "
            "the scene. (Rows and columns come first: H x W x B.)"
        )
    if nodata not in ("refuse", "keep", "mask"):
        raise ValueError(f"nodata='{nodata}'; expected refuse, keep or mask")
    usable = usable_pixels(scene, bands, start)
    if nodata != "mask" and not usable.all():
        if nodata == "refuse" or not usable_pixels(replace(scene, nodata=()), bands, start).all():
            row, column = np.argwhere(~usable)[0]
            declared = f" ({', '.join(f'{v:g}' for v in scene.nodata)})" if scene.nodata else ""
            kept = "NaN and infinity cannot be kept; --nodata mask leaves them out."
            cut = "--nodata mask leaves them out, and --nodata keep uses their values, as the released code does."
            raise SceneError(
                f"{scene.path}: {int((~usable).sum())} of {usable.size} pixels hold NaN, infinity or a no-data value"
                f"{declared}, the first at row {row}, column {column}. {kept if nodata == 'keep' else cut}"
            )
        usable[:] = True
    whole = bool(usable.all())
    cube = scene.cube[:, :, start : start + bands]
    low, high, total = np.inf, -np.inf, np.zeros(cube.shape[2])
    for rows in row_blocks(cube.shape):
        block = cube[rows] if whole else cube[rows][usable[rows]]
        if block.size:
            low, high = min(low, float(np.min(block))), max(high, float(np.max(block)))
        if not whole:
            total += block.sum(axis=0, dtype=np.float64)
    if cube.shape[2] < bands and low <= high:  # the appended bands are zero in raw values, and count for the range
        low, high = min(low, 0.0), max(high, 0.0)
    if not low < high:
        constant = f"every value of the chosen bands is {low:g}"
        found = constant if low == high else "no pixel has data in the chosen bands"
        raise SceneError(f"{scene.path}: {found}. A constant cube has no anomalies.")
    h = np.empty((height, width, bands), dtype=np.float32)
    h[:, :, cube.shape[2] :] = scaled(np.zeros(()), low, high)
    with np.errstate(over="ignore"):  # no-data such as -1.8e308, which is filled afterwards
        for rows in row_blocks(cube.shape):
            h[rows, :, : cube.shape[2]] = scaled(cube[rows], low, high)
    if not whole:
        mean = np.pad(total / usable.sum(), (0, bands - cube.shape[2]))
        fill_no_data(h, usable, scaled(mean, low, high))
    return h


def fill_no_data(h: Any, has_data: np.ndarray, mean: Any) -> None:
    """Fill the pixels without data, in place, so that a network sees the border of the data as it sees a scene's border.

    Up to 3 px from data, a pixel gets what lies as far on the other side of the nearest pixel with data, as reflection
    padding does; that nearest pixel itself where there is no data on its other side. The others get the mean spectrum.

    Args:
        h: ``(H, W, C)``, an array or a tensor, ``mean`` likewise.
        has_data: ``(H, W)`` bool.
        mean: ``(C,)``, the mean spectrum.
    """
    rows, columns = np.nonzero(~has_data)
    h[rows, columns] = mean
    height, width = has_data.shape

    def there(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        return inside & has_data[rows.clip(0, height - 1), columns.clip(0, width - 1)]

    for down, right in _NEAR:
        nearest = there(rows + down, columns + right)
        at, beside = rows[nearest], columns[nearest]
        far = np.where(there(at + 2 * down, beside + 2 * right), 2, 1)
        h[at, beside] = h[at + far * down, beside + far * right]
        rows, columns = rows[~nearest], columns[~nearest]


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale values of any real type from the range [low, high] to [-0.1, 0.1], in float64."""
    return SCALE * (2 * (values.astype(np.float64) - low) / (high - low) - 1)


def usable_pixels(scene: Scene, bands: int, start: int = 0) -> np.ndarray:
    """Find the pixels of a scene with data in the bands ``[start : start + bands]``.

    Returns:
        ``(H, W)`` bool, False where ``normalise`` with ``nodata="mask"`` fills: leave these pixels
        out of statistics and do not score them.

    Raises:
        SceneError: There is no band at ``start``.
    """
    if not 0 <= start < scene.bands:
        raise SceneError(f"{scene.path}: there is no band {start}; it has bands 0 to {scene.bands - 1}.")
    return ~nodata_pixels(scene, slice(start, start + bands))
