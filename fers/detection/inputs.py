"""The scene of a detection: a file or an array, and the wavelengths of its bands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from safetensors import SafetensorError, safe_open

from fers.detection.options import DetectOptions
from fers.networks.checkpoint import CheckpointInfo
from fers.scenes.bands import BandChoice
from fers.scenes.readers import MapGrid, Reader, open_scene
from fers.util.errors import FersError


@dataclass(kw_only=True)
class ArrayReader(Reader):
    """An array in memory, as a reader."""

    array: np.ndarray

    def _read(self, start: int, stop: int, index: np.ndarray) -> np.ndarray:
        return self.array[start:stop][:, :, index]


def open_source(
    source: str | Path | np.ndarray,
    wavelengths: np.ndarray | None,
    transform: Affine | None,
    crs: str | None,
    variable: str | None,
) -> Reader:
    """Open a file or an array as a reader; ``fers.detection.detect.detect`` describes the arguments."""
    if not isinstance(source, np.ndarray):
        return open_scene(source, variable)
    wkt = None if crs is None else CRS.from_user_input(crs).to_wkt()
    grid = None if transform is None else MapGrid(transform, wkt)
    centres = None if wavelengths is None else np.asarray(wavelengths, float)
    return ArrayReader(
        path=Path("array"), shape=source.shape, stored=source.dtype, array=source, wavelengths=centres, grid=grid
    )


def trained_on(options: DetectOptions) -> tuple[np.ndarray | None, int | None]:
    """Read the wavelengths for which weights were trained, None where they record none, and the number of bands."""
    if options.checkpoint_dir is None or options.features == "original":
        return None, None
    path = Path(options.checkpoint_dir) / "spe_fen.safetensors"
    if not path.is_file():
        raise FersError(
            f"--checkpoint_dir {options.checkpoint_dir}: holds no spe_fen.safetensors. Give a folder of trained weights."
        )
    try:
        with safe_open(path, framework="pt") as file:
            info = CheckpointInfo.from_metadata(file.metadata(), path)
    except (SafetensorError, OSError) as error:
        raise FersError(f"{path}: cannot be read as weights ({error}). Copy it again.") from error
    centres = getattr(info, "wavelengths", None)
    return (None if centres is None else np.asarray(centres, float)), info.bands


def used_wavelengths(reader: Reader, bands: BandChoice) -> np.ndarray | None:
    """Return the centres in nm of the bands that are used, without appended ones; None where the file has none."""
    if bands.matrix is not None:
        return np.asarray(bands.targets)
    return None if reader.wavelengths is None else reader.wavelengths[list(bands.used)]
