"""From a raw scene to the cube the networks and detectors see: band choice, zero bands, range [-0.1, 0.1] (SPEC 1)."""

from __future__ import annotations

import numpy as np

from data.scene import MIN_SIDE, Scene, SceneError, nodata_pixels, row_blocks

SCALE = 0.1


def normalise(scene: Scene, bands: int, start: int = 0) -> np.ndarray:
    """Take bands ``[start : start + bands]`` of a scene and scale them to [-0.1, 0.1].

    ``h = 0.1 * (2 * (x - min) / (max - min) - 1)`` with one minimum and maximum over all chosen bands together.
    A scene with fewer bands gets zero-valued ones appended to its raw cube first, as the authors do for ABU.

    Args:
        scene: The scene, ``(H, W, B)`` of any real type.
        bands: C, the number of bands the model takes.
        start: First band, 0-based.

    Returns:
        ``(H, W, C)`` float32 in [-0.1, 0.1].

    Raises:
        SceneError: The scene is smaller than 9 px on a side, holds NaN, infinity or a no-data value, is constant, or
            has no band at ``start``.

    Source: SPEC 1.

    Example:
        >>> from pathlib import Path
        >>> cube = np.arange(9 * 9 * 3).reshape(9, 9, 3)
        >>> h = normalise(Scene("ramp", cube, Path("ramp.npy")), bands=3)
        >>> h.dtype.name, float(h.min()), float(h.max())
        ('float32', -0.10000000149011612, 0.10000000149011612)
    """
    height, width, available = scene.cube.shape
    if min(height, width) < MIN_SIDE:
        raise SceneError(
            f"{scene.path}: {height} x {width} px; at least {MIN_SIDE} px on each side are needed. Give a larger cut of "
            "the scene. (Rows and columns come first: H x W x B.)"
        )
    if not 0 <= start < available:
        raise SceneError(f"{scene.path}: there is no band {start}; it has bands 0 to {available - 1}.")
    chosen = slice(start, min(start + bands, available))
    bad = nodata_pixels(scene, chosen)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise SceneError(
            f"{scene.path}: {int(bad.sum())} of {bad.size} pixels hold NaN, infinity or a no-data value "
            f"({', '.join(f'{v:g}' for v in scene.nodata)}), the first at row {row}, column {column}. "
            "Cut them away or fill them before the scene is used."
        )
    cube = scene.cube[:, :, chosen]
    low = min(float(np.min(cube[rows])) for rows in row_blocks(cube.shape))
    high = max(float(np.max(cube[rows])) for rows in row_blocks(cube.shape))
    if cube.shape[2] < bands:  # the appended bands are zero in raw values, and count for the range
        low, high = min(low, 0.0), max(high, 0.0)
    if not high > low:
        raise SceneError(f"{scene.path}: every value of the chosen bands is {low:g}. A constant cube has no anomalies.")
    h = np.empty((height, width, bands), dtype=np.float32)
    h[:, :, cube.shape[2] :] = SCALE * (2 * (0.0 - low) / (high - low) - 1)
    for rows in row_blocks(cube.shape):
        h[rows, :, : cube.shape[2]] = SCALE * (2 * (cube[rows].astype(np.float64) - low) / (high - low) - 1)
    return h
