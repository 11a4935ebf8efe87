"""Scenes in memory: a hyperspectral cube and its truth, from the files that people have.

A cube is H x W x B whatever the file's own order; `fers.scenes.readers` knows the formats. ``.npy`` and ENVI files are
memory-mapped: nothing is read before it is used.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from fers.scenes.readers import SceneError, open_scene, read_array
from fers.scenes.readers.base import UNDECLARED_NODATA, Facts, missing_pixels
from fers.scenes.readers.errors import local_file, refusing
from fers.util.errors import did_you_mean
from fers.util.files import fingerprint_of

MIN_SIDE = 9  # px: reflect padding of 4, and enough pixels for RX


@dataclass
class Scene(Facts):
    """One hyperspectral scene in memory, or mapped into it.

    The cube, of any real numeric type, may be a read-only memory map. It has the values as stored; physical ones,
    with NaN for missing samples, where the file scales its bands differently.
    """

    name: str  # the file's stem unless the dataset knows better
    cube: np.ndarray  # (H, W, B)
    path: Path  # the file it was read from (for ENVI, the header)
    nodata: tuple[float, ...] = (UNDECLARED_NODATA,)  # values that mark missing samples; empty where they are NaN

    @property
    def bands(self) -> int:
        """Number of bands B in the file."""
        return self.cube.shape[2]


@dataclass(frozen=True)
class LabelledScene:
    """Scene of a test set, not read yet. ``load`` reads the scene, and its truth ``(H, W)`` bool, True at anomalies."""

    name: str  # as in the paper's tables
    path: Path  # the file with the cube
    load: Callable[[], tuple[Scene, np.ndarray]]


def unchanging(labelled: LabelledScene) -> LabelledScene:
    """Return a scene whose ``load`` refuses its files once they are others than now, so that no run mixes two versions."""
    if not labelled.path.is_file():
        return labelled
    try:
        files = open_scene(labelled.path).files
    except SceneError:  # of several cubes, say: ``load`` knows which
        files = (labelled.path,)
    return replace(labelled, load=partial(_load_unchanged, labelled.load, {f: fingerprint_of(f) for f in files}))


def _load_unchanged(
    load: Callable[[], tuple[Scene, np.ndarray]], before: dict[Path, list[int | str]]
) -> tuple[Scene, np.ndarray]:
    found = load()
    for path, known in before.items():
        if fingerprint_of(path) != known:
            raise SceneError(f"{path}: changed while it was in use. Run the same command again.")
    return found


def select_scenes(found: list[LabelledScene], names: str, folder: Path) -> list[LabelledScene]:
    """Select the scenes of a comma-separated list of names, in that order; every one for ``all``."""
    if names == "all":
        return found
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    by_name = {scene.name: scene for scene in found}
    missing = [name for name in wanted if name not in by_name]
    if missing or not wanted:
        raise SceneError(
            f"{folder}: no scene {', '.join(missing) or 'was named'}; found {', '.join(by_name)}."
            f"{did_you_mean(missing[0], by_name) if missing else ''} Choose among these."
        )
    return [by_name[name] for name in wanted]


def read_scene(
    path: str | Path,
    variable: str | None = None,
    name: str | None = None,
    nodata: tuple[float, ...] | None = None,
    axes: str | None = None,
) -> Scene:
    """Read a cube as H x W x B.

    Args:
        path: A file of any format that `fers.scenes.readers.open_scene` knows.
        variable: The variable to take from a file that holds several; by default the largest cube.
        name: Scene name; the file's stem by default.
        nodata: Values that mark missing samples, instead of what the file declares.
        axes: Order of the axes, such as ``band,y,x``, where the file does not say it.

    Returns:
        The scene; its cube is a memory map for .npy and ENVI.

    Raises:
        SceneError: The file is missing, unreadable, of an unknown type, or holds no (or more than one) cube.
    """
    reader = open_scene(path, variable, axes=axes)
    facts = {each.name: getattr(reader, each.name) for each in fields(Facts)}
    nodata = reader.nodata if nodata is None else nodata
    return Scene(name or Path(path).stem, reader.load(), reader.path, nodata, **facts)


def read_truth(path: str | Path, variable: str | None = None, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read the truth of a scene: which of its pixels are anomalous.

    Args:
        path: .png (RGB as HAD100's, where an anomaly has green 255; or grey, where it is not zero), .mat, .npy, .npz, or
            an ENVI header or GeoTIFF with one band.
        variable: The variable to take from a .mat or .npz file; by default the only two-dimensional one of ``shape``.
        shape: The scene's (H, W), which the truth must have.

    Returns:
        ``(H, W)`` bool array, True where an anomaly is.

    Raises:
        SceneError: The file is missing, unreadable, of another shape, or holds more than two values.
    """
    if not Path(path).exists():
        raise SceneError(f"{path}: no such file. Each scene needs a ground-truth mask of its name.")
    path = local_file(path, "truth")
    if path.suffix.lower() == ".png":
        truth = read_png(path, shape)
        truth = truth[:, :, 1] == 255 if truth.ndim == 3 else truth  # as HAD100 marks anomalies
    elif path.suffix.lower() in (".mat", ".npy", ".npz"):
        truth = read_array(path, variable, shape=shape)
    elif path.suffix.lower() in (".hdr", ".tif", ".tiff"):
        raster = open_scene(path)
        if raster.bands != 1:
            raise SceneError(f"{path}: has {raster.bands} bands; a mask has one. Give the file of the mask.")
        truth = raster.load()[:, :, 0]
    else:
        raise SceneError(f"{path}: not a mask format that is read here. Give .png, .mat, .npy, .npz, .hdr or .tif.")
    if truth.dtype.kind not in "biuf":
        raise SceneError(f"{path}: found values of type {truth.dtype}; a mask holds numbers. Convert it first.")
    if lacking := int((~np.isfinite(truth)).sum()):
        raise SceneError(
            f"{path}: {lacking} pixels of the mask are NaN or infinite. Say for each whether it is an anomaly."
        )
    values = np.unique(truth)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        shown = ", ".join([*map(str, values[:5]), *(["..."] if len(values) > 5 else [])])
        raise SceneError(
            f"{path}: a mask holds 0 for background and one other value for anomalies; found {len(values)} values "
            f"({shown}). Binarise it first."
        )
    if shape is not None and truth.shape != tuple(shape):
        raise SceneError(
            f"{path}: the mask is {' x '.join(map(str, truth.shape))} and its scene is {shape[0]} x {shape[1]}. "
            "Both must be of the same scene, rows first."
        )
    return truth != 0


def read_png(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read a .png: ``(H, W)`` where it is grey, else its colours ``(H, W, 3)``.

    Raises:
        SceneError: It is damaged, or has not the sides ``shape``, which is seen before it is unpacked.
    """
    with refusing(path, "PNG image"), Image.open(path, formats=["PNG"]) as image:  # others start external programs
        if shape is not None and image.size != (shape[1], shape[0]):
            raise SceneError(
                f"{path}: the mask is {image.size[1]} x {image.size[0]} and its scene is {shape[0]} x {shape[1]}. "
                "Both must be of the same scene, rows first."
            )
        return np.asarray(image.convert("RGB") if image.mode in ("P", "PA", "RGBA", "LA") else image)


def npy_bytes(array: np.ndarray) -> bytes:
    """Write an array as the content of a .npy file, in C order and native byte order."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")), allow_pickle=False)
    return buffer.getvalue()


def truth_png_bytes(truth: np.ndarray) -> bytes:
    """Write a truth ``(H, W)`` as HAD100 has it: the content of an RGB .png, green 255 at anomalies."""
    pixels = np.zeros((*truth.shape, 3), dtype=np.uint8)
    pixels[truth, 1] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def nodata_pixels(scene: Scene, bands: slice = slice(None)) -> np.ndarray:
    """Find the pixels ``(H, W)`` of a scene in which any of the bands is NaN, infinite or one of ``scene.nodata``."""
    bad = np.empty(scene.cube.shape[:2], dtype=bool)
    for rows in row_blocks(scene.cube.shape):
        bad[rows] = missing_pixels(np.asarray(scene.cube[rows, :, bands]), scene.nodata)
    return bad


def row_blocks(shape: tuple[int, ...], samples: int = 1 << 24) -> list[slice]:
    """Cut a cube into slices of whole rows, of about ``samples`` values at most: a memory map is read piece by piece."""
    rows = max(1, samples // max(1, int(np.prod(shape[1:]))))
    return [slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]
