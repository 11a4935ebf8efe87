"""Read a hyperspectral cube or a ground-truth mask from the files that people have.

A cube is H x W x B whatever the file's own order: MATLAB v5 and v7.3 (``.mat``), NumPy (``.npy``, ``.npz``) and
ENVI (``.hdr`` beside ``.img``, ``.dat``, ``.raw`` or no extension; BIL, BIP, BSQ). ``.npy`` and ENVI files are
memory-mapped: nothing is read before it is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from PIL import Image

with warnings.catch_warnings():  # SPy's own import warns about optional viewers on some versions
    warnings.simplefilter("ignore")
    import spectral.io.envi as envi
    from spectral import SpyException

MIN_SIDE = 9  # SPEC 1: reflect padding of 4 px, and enough pixels for RX
UNDECLARED_NODATA = -9999.0  # the value that stands for "no data" in files that cannot declare one
CUBE_SUFFIXES = (".mat", ".npy", ".npz", ".hdr", ".img", ".dat", ".raw")
MASK_SUFFIXES = (".png", ".mat", ".npy", ".npz")
_TO_NM = {"nanometers": 1.0, "nm": 1.0, "micrometers": 1e3, "microns": 1e3, "um": 1e3, "µm": 1e3}


class SceneError(ValueError):
    """A scene or mask that cannot be used. The message names the file, what was found and what to do."""


@dataclass(frozen=True)
class Scene:
    """One hyperspectral scene.

    Attributes:
        name: Scene name, the file's stem unless the dataset knows better.
        cube: ``(H, W, B)`` array of any real numeric type, raw values; possibly a read-only memory map.
        path: The file it was read from (for ENVI, the header).
        wavelengths: ``(B,)`` band centres in nm, where the file has them.
        nodata: Values that mark missing samples: what the file declares, else -9999.
        map_info: The ENVI ``map info`` entry, verbatim, where the file has one.
        variable: The name of the variable inside the file, for .mat and .npz.
        notes: What a reader of its results should know, such as that it is a cut of the published scene.
    """

    name: str
    cube: np.ndarray
    path: Path
    wavelengths: np.ndarray | None = None
    nodata: tuple[float, ...] = (UNDECLARED_NODATA,)
    map_info: tuple[str, ...] | None = None
    variable: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def bands(self) -> int:
        """Number of bands B in the file."""
        return self.cube.shape[2]


@dataclass(frozen=True)
class LabelledScene:
    """A scene of a test set, not read yet.

    Attributes:
        name: Scene name, as in the paper's tables.
        path: The file with the cube.
        load: Reads it: the Scene and its ``(H, W)`` bool mask, True at anomalies.
    """

    name: str
    path: Path
    load: Callable[[], tuple[Scene, np.ndarray]]


def select_scenes(found: list[LabelledScene], names: str, folder: Path) -> list[LabelledScene]:
    """The scenes of a comma-separated list of names, in that order; every one for ``all``.

    Raises:
        SceneError: One of them is not there.
    """
    if names == "all":
        return found
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    by_name = {scene.name: scene for scene in found}
    missing = [name for name in wanted if name not in by_name]
    if missing or not wanted:
        raise SceneError(
            f"{folder}: no scene {', '.join(missing) or 'was named'}; found {', '.join(by_name)}. Choose among these."
        )
    return [by_name[name] for name in wanted]


def read_scene(
    path: str | Path, variable: str | None = None, name: str | None = None, nodata: tuple[float, ...] | None = None
) -> Scene:
    """Read a cube as H x W x B.

    Args:
        path: A .mat, .npy or .npz file, or an ENVI header or its data file.
        variable: The variable to take from a .mat or .npz file; by default the only three-dimensional one.
        name: Scene name; the file's stem by default.
        nodata: Values that mark missing samples, in place of what the file declares.

    Returns:
        The scene; its cube is a memory map for .npy and ENVI.

    Raises:
        SceneError: The file is missing, unreadable, of an unknown type, or holds no (or more than one) cube.
    """
    path = Path(path)
    extra: dict = {}
    if not path.exists():
        raise SceneError(f"{path}: no such file. Check the path of the scene.")
    suffix = path.suffix.lower()
    if suffix == ".mat":
        variable, cube = _pick(path, _read_mat(path), variable, ndim=3)
    elif suffix == ".npz":
        variable, cube = _pick(path, _read_npz(path), variable, ndim=3)
    elif suffix == ".npy":
        cube = _read_npy(path)
    elif suffix == ".hdr" or _header_of(path) is not None:
        path = path if suffix == ".hdr" else _header_of(path)
        cube, extra = _read_envi(path)
    else:
        raise SceneError(
            f"{path}: not a cube format that is read here. Give .mat, .npy, .npz, or an ENVI file with its .hdr beside it."
        )
    if cube.ndim != 3:
        raise SceneError(f"{path}: found an array of shape {cube.shape}; a cube has three axes, H x W x B.")
    if cube.dtype.kind not in "biuf":
        raise SceneError(f"{path}: found values of type {cube.dtype}; a cube holds real numbers. Convert it first.")
    if nodata is not None:
        extra["nodata"] = nodata
    return Scene(name=name or path.stem, cube=cube, path=path, variable=variable, **extra)


def read_mask(path: str | Path, variable: str | None = None, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Read a ground-truth mask.

    Args:
        path: .png (RGB as HAD100's, where an anomaly has green 255; or grey, where it is not zero), .mat, .npy or .npz.
        variable: The variable to take from a .mat or .npz file; by default the only two-dimensional one of ``shape``.
        shape: The scene's (H, W), which the mask must have.

    Returns:
        ``(H, W)`` bool array, True where an anomaly is.

    Raises:
        SceneError: The file is missing, unreadable, of another shape, or holds more than two values.
    """
    path = Path(path)
    if not path.exists():
        raise SceneError(f"{path}: no such file. Each scene needs a ground-truth mask of its name.")
    suffix = path.suffix.lower()
    if suffix == ".png":
        mask = _read_png_mask(path)
    elif suffix == ".mat":
        mask = _pick(path, _read_mat(path), variable, ndim=2, shape=shape)[1]
    elif suffix == ".npz":
        mask = _pick(path, _read_npz(path), variable, ndim=2, shape=shape)[1]
    elif suffix == ".npy":
        mask = _read_npy(path)
    else:
        raise SceneError(f"{path}: not a mask format that is read here. Give {', '.join(MASK_SUFFIXES)}.")
    values = np.unique(mask)
    if mask.dtype.kind not in "biuf" or len(values) > 2 or (len(values) == 2 and values[0] != 0):
        shown = ", ".join(f"{v}" for v in values[:5])
        raise SceneError(
            f"{path}: a mask holds 0 for background and one other value for anomalies; found {len(values)} values "
            f"({shown}{', ...' if len(values) > 5 else ''}). Binarise it first."
        )
    if shape is not None and mask.shape != tuple(shape):
        raise SceneError(
            f"{path}: the mask is {' x '.join(map(str, mask.shape))} and its scene is {shape[0]} x {shape[1]}. "
            "Both must be of the same scene, rows first."
        )
    return mask != 0


def nodata_pixels(scene: Scene, bands: slice = slice(None)) -> np.ndarray:
    """Where a scene has no data.

    Args:
        scene: The scene.
        bands: The bands to look at.

    Returns:
        ``(H, W)`` bool, True where any of the bands is NaN, infinite or one of ``scene.nodata``.
    """
    bad = np.zeros(scene.cube.shape[:2], dtype=bool)
    for rows in row_blocks(scene.cube.shape):
        block = np.asarray(scene.cube[rows, :, bands])
        if block.dtype.kind == "f":
            bad[rows] |= ~np.isfinite(block).all(axis=2)
        for value in scene.nodata:
            # compared in the cube's own precision: 1e-34 in a header is not 1e-34 in float32 data
            as_stored = np.array(value).astype(block.dtype, casting="unsafe") if block.dtype.kind == "f" else value
            bad[rows] |= (block == as_stored).any(axis=2)
    return bad


def row_blocks(shape: tuple[int, ...], samples: int = 1 << 24) -> list[slice]:
    """Slices of whole rows, of at most about ``samples`` values each, so that a memory map is read piece by piece."""
    rows = max(1, samples // max(1, int(np.prod(shape[1:]))))
    return [slice(start, min(start + rows, shape[0])) for start in range(0, shape[0], rows)]


def _read_mat(path: Path) -> dict[str, np.ndarray]:
    """All numeric variables of a MATLAB file, v5 or v7.3, in MATLAB's axis order."""
    try:
        if h5py.is_hdf5(path):  # v7.3 is HDF5 with the axes reversed
            with h5py.File(path, "r") as file:
                return {
                    key: np.asarray(item).T
                    for key, item in file.items()
                    if isinstance(item, h5py.Dataset) and item.dtype.kind in "biufV"
                }
        return {
            key: value
            for key, value in scipy.io.loadmat(path).items()
            if not key.startswith("__") and isinstance(value, np.ndarray) and value.dtype.kind in "biufc"
        }
    except Exception as error:  # both readers raise a dozen kinds of error on a damaged file
        raise SceneError(
            f"{path}: cannot be read as a MATLAB file ({error}). Is it complete? Save it again."
        ) from error


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except Exception as error:
        raise SceneError(f"{path}: cannot be read as .npz ({error}). Save plain arrays with numpy.savez.") from error


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise SceneError(f"{path}: cannot be read as .npy ({error}). Save a plain array with numpy.save.") from error


def _pick(
    path: Path, arrays: dict[str, np.ndarray], variable: str | None, ndim: int, shape: tuple[int, int] | None = None
) -> tuple[str, np.ndarray]:
    """The variable that was named, else the only one with ``ndim`` axes longer than 1 (and of ``shape``)."""
    kind = {3: "cube (H x W x B)", 2: "mask (H x W)"}[ndim]
    found = "; found " + (
        ", ".join(f"{k} {' x '.join(map(str, a.shape))}" for k, a in arrays.items()) or "nothing numeric"
    )
    if variable is not None:
        if variable not in arrays:
            raise SceneError(f"{path}: no variable named '{variable}'{found}. Name one of these.")
        return variable, arrays[variable]
    fits = [k for k, a in arrays.items() if a.ndim == ndim and (ndim == 3 or min(a.shape) > 1)]
    if shape is not None and len(fits) > 1:
        fits = [k for k in fits if arrays[k].shape == tuple(shape)]
    if len(fits) != 1:
        count = "no" if not fits else f"{len(fits)} variables that could each be the"
        raise SceneError(f"{path}: {count} {kind}{found}. Name the one to read (variable=...).")
    return fits[0], arrays[fits[0]]


def _read_png_mask(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode in ("P", "PA", "RGBA", "LA"):
                image = image.convert("RGB")
            pixels = np.asarray(image)
    except OSError as error:
        raise SceneError(f"{path}: cannot be read as an image ({error}). Save it again as PNG.") from error
    if pixels.ndim == 3:
        return pixels[:, :, 1] == 255  # SPEC 8: anomaly where the green channel is 255
    return pixels


def _header_of(path: Path) -> Path | None:
    """The ENVI header of a data file: ``scene.hdr`` or ``scene.img.hdr``."""
    for candidate in (path.with_suffix(".hdr"), path.with_name(path.name + ".hdr")):
        for header in (candidate, candidate.with_suffix(".HDR")):
            if header.is_file() and header != path:
                return header
    return None


def _data_file_of(header: Path) -> Path:
    stem = header.with_suffix("")
    candidates = [stem] + [
        stem.with_name(stem.name + suffix)
        for lower in (".img", ".dat", ".raw", ".bil", ".bip", ".bsq")
        for suffix in (lower, lower.upper())
    ]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise SceneError(
        f"{header}: the data file of this ENVI header is missing. Put {stem.name}.img (or .dat, .raw, .bil, .bip, "
        ".bsq, or no extension) beside it."
    )


def _read_envi(header: Path) -> tuple[np.ndarray, dict]:
    data = _data_file_of(header)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # upper-case header keys are common and harmless
            fields = envi.read_envi_header(str(header))
            if fields.get("interleave", "").lower() not in ("bil", "bip", "bsq"):
                raise SceneError(f"{header}: interleave is '{fields.get('interleave')}'; expected bil, bip or bsq.")
            image = envi.open(str(header), str(data))
    except (SpyException, ValueError, KeyError, UnicodeDecodeError) as error:
        if isinstance(error, SceneError):
            raise
        raise SceneError(f"{header}: cannot be read as an ENVI header ({error!r}). Check its entries.") from error
    expected = image.offset + image.nrows * image.ncols * image.nbands * np.dtype(image.dtype).itemsize
    if data.stat().st_size < expected:
        raise SceneError(
            f"{data}: {data.stat().st_size} bytes, but its header says {image.nrows} lines x {image.ncols} samples x "
            f"{image.nbands} bands of {np.dtype(image.dtype)}, {expected} bytes. The file is cut short or the header is another's."
        )
    extra: dict = {}
    if "data ignore value" in fields:
        extra["nodata"] = tuple(_numbers(header, "data ignore value", [fields["data ignore value"]]))
    if "map info" in fields:
        info = fields["map info"]
        extra["map_info"] = tuple(info) if isinstance(info, list) else (info,)
    if "wavelength" in fields:
        extra["wavelengths"] = _wavelengths_nm(header, fields, image.nbands)
    return image.open_memmap(interleave="bip"), extra


def _wavelengths_nm(header: Path, fields: dict, bands: int) -> np.ndarray:
    centres = np.array(_numbers(header, "wavelength", fields["wavelength"]))
    if len(centres) != bands:
        raise SceneError(f"{header}: {len(centres)} wavelengths for {bands} bands. Correct the header.")
    unit = fields.get("wavelength units", "").strip().lower()
    # without a usable unit: reflected light lies below 100 if it is in micrometres and above if in nanometres
    return centres * _TO_NM.get(unit, 1e3 if centres.max() < 100 else 1.0)


def _numbers(header: Path, entry: str, values: list[str]) -> list[float]:
    try:
        return [float(value) for value in values]
    except ValueError as error:
        raise SceneError(f"{header}: '{entry}' holds something that is not a number ({error}). Correct it.") from error
