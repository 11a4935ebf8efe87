"""Pixels that the user leaves out: clouds, water, or those of a file of the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fers.detection.shapes import OTHER_SHAPES, read_shapes
from fers.scenes.readers import Geometry, SceneError, open_scene, read_array
from fers.scenes.readers.errors import local_file, refusing
from fers.scenes.readers.products import read_emit_mask
from fers.scenes.scene import read_png
from fers.util.errors import FersError

AGGREGATE = "aggregate flag"  # EMIT's own: clouds, cirrus, water and spacecraft
_SHAPES = (".geojson", ".json", *OTHER_SHAPES)
_MASK_FORMATS = "a raster of one band (GeoTIFF, ENVI), .png, .npy, .npz, .mat, GeoJSON, a shapefile or a GeoPackage"


def read_left_out(path: str | Path, shape: tuple[int, int], geometry: Geometry | None = None) -> np.ndarray:
    """Read the pixels to leave out.

    Args:
        path: An EMIT mask file (its aggregate flag), a raster of one band, .npy, .npz or .mat: pixels are left out unless
            their value is zero, NaN or the declared no-data. A colour .png marks them by green 255, as HAD100 does. Or
            shapes: GeoJSON, or a shapefile or GeoPackage where pyogrio is installed.
        shape: ``(H, W)`` of the scene.
        geometry: Place of the scene, which shapes need.

    Returns:
        ``(H, W)`` bool, True where a pixel is left out.

    Raises:
        FersError: The file cannot be read, has another shape, or marks no pixel by its colours or shapes.
    """
    path = local_file(path, "file after --left_out")
    suffix = path.suffix.lower()
    if suffix in _SHAPES:
        return _of_shapes(path, shape, geometry)
    if suffix == ".nc":
        flags = {name.lower(): flag for name, flag in read_emit_mask(path).items()}
        out = flags[AGGREGATE] if AGGREGATE in flags else np.any(list(flags.values()), axis=0)
    elif suffix in (".npy", ".npz", ".mat"):
        out = np.nan_to_num(read_array(path, shape=shape)) != 0
    elif suffix == ".png":
        out = _of_picture(path, read_png(path, shape))
    else:
        out = _of_raster(path, shape)
    _check_sides(path, out.shape, shape)
    return out


def _check_sides(path: Path, found: tuple[int, ...], shape: tuple[int, int]) -> None:
    if found != shape:
        raise FersError(
            f"{path}: is {' x '.join(map(str, found))} px and its scene is {shape[0]} x {shape[1]}. "
            "Both must be on the same grid, rows first."
        )


def _of_picture(path: Path, picture: np.ndarray) -> np.ndarray:
    if picture.ndim == 2:
        return picture != 0
    out = picture[:, :, 1] == 255
    if picture.any() and not out.any():
        raise SceneError(
            f"{path}: no pixel of this colour picture has green 255, which marks pixels to leave out. Paint them green or "
            "white, or save a grey picture in which they are not zero."
        )
    return out


def _of_raster(path: Path, shape: tuple[int, int]) -> np.ndarray:
    try:
        reader = open_scene(path)
    except SceneError as error:
        raise SceneError(f"{error} As pixels to leave out, give {_MASK_FORMATS}.") from error
    if reader.bands != 1:
        raise SceneError(f"{path}: has {reader.bands} bands. As pixels to leave out, give {_MASK_FORMATS}.")
    _check_sides(path, reader.shape[:2], shape)  # before anything is read
    block, valid = reader.read_valid()
    return (block[:, :, 0] != 0) & valid


def _of_shapes(path: Path, shape: tuple[int, int], geometry: Geometry | None) -> np.ndarray:
    shapes = read_shapes(path)
    with refusing(path, "file of shapes"):
        touched = shapes.pixels(shapes.items, geometry, shape, touched=True)
    if not touched.any():
        raise FersError(
            f"{path}: none of its {len(shapes.items)} shapes lies in the scene. Is its reference system right?"
        )
    return touched
