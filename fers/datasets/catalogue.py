"""The labelled scenes that papers use: what each holds, where it can be fetched, and how to know one by its values.

``catalogue.csv`` has one row for each pair of cube and truth. A cell is empty where a fact is not known. Copies are in
the repositories of others, who state no licence for them.
"""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from fers.datasets.archive import Published
from fers.datasets.manifest import values_sha256
from fers.util.paths import home

HOST = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class CatalogueScene:
    """One cube with one truth, and what is known of it.

    Attributes:
        name: Name that papers' tables use, or close to it.
        dataset: Name for it and others together, such as ``abu``; empty for one that stands alone.
        sensor, place: Sensor that took it, and the place.
        group: Name that scenes share which show the same ground; empty for one that stands alone.
        height, width, bands: Its size; None where it is not known.
        anomalies: Pixels of its truth.
        objects: Objects of its truth, connected by sides or corners.
        cube, truth: Variables of its file that hold them.
        copies: Places of the same bytes, as REPOSITORY@COMMIT:PATH, the first to be asked first.
        size, sha256, git_blob: What the file is known by. ``git_blob`` is its id in a git repository.
        fingerprint: See the function of this name; empty for a scene that was never at hand.
        cite: Its source.
        note: Doubles, and other truths in use.
    """

    name: str
    dataset: str
    sensor: str
    place: str
    group: str
    height: int | None
    width: int | None
    bands: int | None
    anomalies: int | None
    objects: int | None
    cube: str
    truth: str
    copies: tuple[str, ...]
    size: int | None
    sha256: str
    git_blob: str
    fingerprint: str
    cite: str
    note: str

    @property
    def path(self) -> Path:
        """Place of its file: ``fers data get`` puts it there, and the test sets are looked for there."""
        return home() / "data" / (f"ABU/abu-{self.name}.mat" if self.dataset == "abu" else f"scenes/{self.name}.mat")

    @property
    def published(self) -> tuple[Published, ...]:
        """Addresses of its file; all hold the same bytes."""
        return tuple(_address(self, copy) for copy in self.copies)


def _address(scene: CatalogueScene, copy: str) -> Published:
    repository, _, rest = copy.partition("@")
    commit, _, path = rest.partition(":")
    return Published(
        name=scene.path.name,
        url=f"{HOST}/{repository}/{commit}/{quote(path)}",
        page=f"https://github.com/{repository}/blob/{commit}/{quote(path)}",
        size=scene.size,
        sha256=scene.sha256 or None,
        git_blob=None if scene.sha256 else scene.git_blob,
    )


def _read() -> dict[str, CatalogueScene]:
    numbers = ("height", "width", "bands", "anomalies", "objects", "size")
    with Path(__file__).with_name("catalogue.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            CatalogueScene(
                **row
                | {key: int(row[key]) if row[key] else None for key in numbers}
                | {"copies": tuple(row["copies"].split(" | ")) if row["copies"] else ()}
            )
            for row in csv.DictReader(file)
        ]
    return {row.name: row for row in rows}


CATALOGUE: dict[str, CatalogueScene] = _read()
"""The scenes by name."""


def fingerprint(cube: np.ndarray, truth: np.ndarray) -> str:
    """Compute the sha256 that a cube and its truth are known by, whatever file and type they come from.

    Values count as float32, as in ``fers.datasets.manifest.values_sha256``.

    Args:
        cube: ``(H, W, B)``, raw values with every band of the file.
        truth: ``(H, W)``, not zero where an anomaly is.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> cube, truth = np.arange(12).reshape(2, 2, 3), np.eye(2)
        >>> fingerprint(cube, truth) == fingerprint(cube.astype(np.uint8), truth.astype(bool))
        True
    """
    parts = values_sha256(cube) + values_sha256(np.asarray(truth) != 0)
    return hashlib.sha256(parts.encode()).hexdigest()


def recognise(known_by: str) -> CatalogueScene | None:
    """Find the scene of the catalogue that has this ``fingerprint``; None where there is none."""
    return next((scene for scene in CATALOGUE.values() if scene.fingerprint and scene.fingerprint == known_by), None)
