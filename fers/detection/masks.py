"""Pixels that the user leaves out: clouds, water, or those of a file of the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import RasterioError

from fers.scenes.readers import SceneError, read_array
from fers.scenes.readers.products import read_emit_mask
from fers.util.errors import FersError

AGGREGATE = "aggregate flag"  # EMIT's own: clouds, cirrus, water and spacecraft


def read_left_out(path: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """Read the pixels to leave out.

    Args:
        path: An EMIT mask file (its aggregate flag), a raster of one band (GeoTIFF, PNG, ENVI), .npy, .npz or .mat.
            Pixels are left out unless their value is zero, NaN or the declared no-data.
        shape: ``(H, W)`` of the scene.

    Returns:
        ``(H, W)`` bool, True where a pixel is left out.

    Raises:
        FersError: The file cannot be read, or has another shape.
    """
    path = Path(path)
    if not path.is_file():
        raise FersError(f"{path}: no such file. Check the path after --left_out.")
    if path.suffix.lower() == ".nc":
        flags = {name.lower(): flag for name, flag in read_emit_mask(path).items()}
        out = flags[AGGREGATE] if AGGREGATE in flags else np.any(list(flags.values()), axis=0)
    elif path.suffix.lower() in (".npy", ".npz", ".mat"):
        out = np.nan_to_num(read_array(path, shape=shape)) != 0
    else:
        try:
            with rasterio.open(path) as raster:
                band = raster.read(1, masked=True)
        except RasterioError as error:
            raise SceneError(
                f"{path}: cannot be read as pixels to leave out ({error}). Give a raster of one band, or .npy."
            ) from error
        out = np.nan_to_num(band.filled(0)) != 0
    if out.shape != shape:
        raise FersError(
            f"{path}: is {' x '.join(map(str, out.shape))} px and its scene is {shape[0]} x {shape[1]}. "
            "Both must be on the same grid, rows first."
        )
    return out
