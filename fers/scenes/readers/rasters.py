"""The one door to rasters that GDAL reads. Nothing else of the package opens one for reading."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fers.scenes.readers.errors import SceneError, local_file

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_DRIVERS = (  # by what the file begins with
    (b"II*\0", "GTiff"),
    (b"MM\0*", "GTiff"),
    (b"II+\0", "GTiff"),  # BigTIFF
    (b"MM\0+", "GTiff"),
    (b"\0\0\0\x0cjP  ", "JP2OpenJPEG"),
    (b"\x89PNG", "PNG"),
)
_ENVI = (".bsq", ".bil", ".bip")  # EnMAP's delivery as ENVI; other ENVI files are mapped into memory by envi.py


def driver_of(path: str | Path, head: bytes) -> str | None:
    """Name the driver that reads a file, by its first bytes; None where there is none."""
    found = next((driver for magic, driver in _DRIVERS if head.startswith(magic)), None)
    return found or ("ENVI" if Path(path).suffix.lower() in _ENVI else None)


@contextmanager
def open_raster(path: str | Path, member: str = "") -> Iterator[DatasetReader]:
    """Open a raster for reading: GeoTIFF, JPEG 2000, PNG, or the samples of an ENVI file named as EnMAP names them.

    GDAL gets an absolute path and one driver. So it takes no name as that of a subdataset, follows no virtual raster into
    other files, and asks no server. Its virtual file systems are used for a member of a ZIP archive only.

    Args:
        path: A file on a disk.
        member: A name in it, if it is a ZIP archive.

    Raises:
        SceneError: It is no file, or is of another format.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    place = os.path.abspath(local_file(path, "raster"))
    if member:
        import zipfile

        with zipfile.ZipFile(place) as archive, archive.open(member) as file:
            head = file.read(16)
        place = f"/vsizip/{{{place}}}/{member}"
    else:
        with open(place, "rb") as file:
            head = file.read(16)
    driver = driver_of(member or path, head)
    if driver is None:
        raise SceneError(f"{path}: not a raster that is read here. Give GeoTIFF, JPEG 2000 or PNG (gdal_translate).")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(place, driver=driver, sharing=False) as source:
            yield source
