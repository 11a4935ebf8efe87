"""Files of a search: maps of likeness, a ranked list of places, and the spectrum, which can be sought in another scene."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from fers.detection.like import Search
from fers.detection.products.place import Place
from fers.detection.products.raster import write_maps
from fers.detection.products.vector import write_csv, write_geojson
from fers.detection.search import LIKENESSES
from fers.util.files import plain_cell


def write_search(folder: Path, found: Search, place: Place, tags: dict[str, str], north_up: bool = False) -> None:
    """Write ``like.tif``, ``like_places.geojson`` and ``.csv``, and ``like.csv``.

    Args:
        folder: The folder.
        found: The search.
        place: The georeference.
        tags: Tags of the map.
        north_up: Write the map with north up.
    """
    maps = {name: found.maps[measure] for measure, name in LIKENESSES.items()}
    about = tags | {"like": found.sought.name, "by": LIKENESSES[found.by]}
    write_maps(folder / "like.tif", maps, LIKENESSES["ace" if found.by == "sam" else found.by], place, about, north_up)
    write_geojson(folder / "like_places.geojson", found.places, place.polygons(found.labels))
    write_csv(folder / "like_places.csv", found.places)
    write_spectrum(folder / "like.csv", found)


def write_spectrum(path: Path, found: Search) -> None:
    """Write the spectrum so that ``--like`` reads it for another scene; nothing without wavelengths."""
    if found.wavelengths is None:
        return
    widths = np.full(len(found.wavelengths), np.nan) if found.fwhm is None else found.fwhm
    columns = [("wavelength_nm", found.wavelengths), ("fwhm_nm", widths), ("value", found.sought.values / found.scale)]
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*(name for name, _ in columns), "unit"])
        for row in zip(*(values for _, values in columns), strict=True):
            table.writerow([*(f"{value:.9g}" if np.isfinite(value) else "" for value in row), plain_cell(found.unit)])
