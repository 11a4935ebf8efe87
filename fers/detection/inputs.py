"""The scenes of a detection: files, folders of them, or an array; and the wavelengths of their bands. No PyTorch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fers.detection.options import DetectOptions
from fers.scenes.bands import BandChoice
from fers.scenes.readers import MapGrid, Reader, SceneError, open_scene
from fers.scenes.readers.envi import is_side_file
from fers.scenes.readers.errors import local_file
from fers.util.errors import FersError

if TYPE_CHECKING:
    from affine import Affine

_SIDECARS = [
    ".qml",
    ".xml",
    ".txt",
    ".png",
    ".jpg",
    ".json",
    ".geojson",
    ".csv",
    ".html",
    ".md",
    ".ovr",
    ".prj",
    ".tfw",
    ".pgw",
    ".spc",
    ".gain",
    ".shp",
    ".shx",
    ".dbf",
    ".cpg",
    ".qix",
    ".gpkg",
]


@dataclass(kw_only=True)
class ArrayReader(Reader):
    """An array in memory, as a reader."""

    array: np.ndarray

    def _read(self, start: int, stop: int, index: np.ndarray) -> np.ndarray:
        return self.array[start:stop][:, :, index]


def find_scenes(
    paths: Sequence[str | Path], variable: str | None = None, say: Callable[[str], None] = print, **reading: Any
) -> list[Reader]:
    """Open scenes.

    Args:
        paths: Files and folders. A folder stands for all its files that can be read as scenes, in the order of their names.
        variable: Name of the cube in files that hold several.
        say: Is told once of each file of a folder that is not a scene.
        **reading: Further arguments of ``open_scene``.

    Raises:
        FersError: A file that was named is not a scene, or a folder holds none.
    """
    found: dict[Path, Reader] = {}
    for name in paths:
        path = local_file(name)
        if not path.is_dir():
            reader = open_scene(path, variable, **reading)
            found.setdefault(reader.path.resolve(), reader)
            continue
        told: set[str] = set()  # a header and its data fail with the same words
        before = len(found)
        for file in sorted(path.iterdir()):
            if file.is_dir() or file.name.startswith(".") or file.suffix.lower() in _SIDECARS:
                continue
            if any(file in other.files for other in found.values()):
                continue
            if is_side_file(file):
                error = (
                    f"{file.with_suffix('')}: by its name a table that belongs to a flight line. Name it to read it."
                )
            else:
                try:
                    reader = open_scene(file, variable, **reading)
                    found.setdefault(reader.path.resolve(), reader)
                    continue
                except SceneError as refused:
                    error = str(refused)
            if error not in told:
                say(f"left out: {error}")
            told.add(error)
        if len(found) == before:
            raise FersError(f"{path}: no scene in this folder can be read. Name a file to see why.")
    return list(found.values())


def open_source(
    source: str | Path | np.ndarray,
    wavelengths: str | Path | np.ndarray | None,
    transform: Affine | None,
    crs: str | None,
    options: DetectOptions,
) -> Reader:
    """Open a file or an array as a reader; ``fers.detection.detect.detect`` describes the arguments."""
    if not isinstance(source, np.ndarray):
        return open_scene(source, **options.reading | {"wavelengths": wavelengths})
    from rasterio.crs import CRS

    wkt = None if crs is None else CRS.from_user_input(crs).to_wkt()
    grid = None if transform is None else MapGrid(transform, wkt)
    centres = None if wavelengths is None else np.asarray(wavelengths, float)
    facts: dict[str, Any] = {} if options.nodata is None else {"declared_nodata": options.nodata}
    return ArrayReader(
        path=Path("array"),
        shape=source.shape,
        stored=source.dtype,
        array=source,
        wavelengths=centres,
        grid=grid,
        **facts,
    )


def trained_on(options: DetectOptions) -> tuple[np.ndarray | None, int | None]:
    """Read the wavelengths for which weights were trained, None where they record none, and the number of bands."""
    if options.checkpoint_dir is None or options.features == "original":
        return None, None
    from safetensors import SafetensorError, safe_open

    from fers.networks.checkpoint import CheckpointInfo

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
