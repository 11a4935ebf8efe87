"""Pixels that the user leaves out: clouds, water, a mask of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from fers.scenes.readers import SceneError, read_array
from fers.scenes.readers.products import read_emit_mask
from fers.util.errors import FersError

AGGREGATE = (
    "aggregate flag"  # of EMIT: clouds, cirrus, water and spacecraft, as the mission's own products leave them out
)


def read_left_out(path: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """Read a mask of pixels to leave out.

    Args:
        path: An EMIT mask file (its aggregate flag), a raster of one band (GeoTIFF, PNG, ENVI), .npy, .npz or .mat. Values other than zero, NaN
            and the declared no-data are left out.
        shape: ``(H, W)`` of the scene.

    Returns:
        ``(H, W)`` bool, True where a pixel is left out.

    Raises:
        FersError: The file cannot be read, or is of another shape.
    """
    path = Path(path)
    if not path.is_file():
        raise FersError(f"{path}: no such file. Check the path of the mask.")
    if path.suffix.lower() == ".nc":
        flags = {name.lower(): flag for name, flag in read_emit_mask(path).items()}
        mask = flags[AGGREGATE] if AGGREGATE in flags else np.any(list(flags.values()), axis=0)
    elif path.suffix.lower() in (".npy", ".npz", ".mat"):
        mask = np.nan_to_num(read_array(path, shape=shape)) != 0
    else:
        try:
            with rasterio.open(path) as raster:
                band = raster.read(1, masked=True)
        except RasterioError as error:
            raise SceneError(
                f"{path}: cannot be read as a mask ({error}). Give a raster of one band, or .npy."
            ) from error
        mask = np.nan_to_num(band.filled(0)) != 0
    if mask.shape != shape:
        raise FersError(
            f"{path}: the mask is {' x '.join(map(str, mask.shape))} and its scene is {shape[0]} x {shape[1]}. "
            "Both must be on the same grid, rows first."
        )
    return mask
