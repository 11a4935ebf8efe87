"""HAD100.zip: which scenes it holds, and the crops that the dataset is made of, without writing any.

One scene at a time is unpacked, to a temporary folder, so memory and space do not depend on the archive's size.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from fers.datasets import had100
from fers.datasets.archive import ArchiveError, check_sum, copy_member, open_zip
from fers.datasets.had100 import GROUPS, MASK_SOURCE, MASKS, NODATA, RAW_200, SENSORS, SIDE, TEST_CROPS
from fers.datasets.manifest import entry, file_bytes
from fers.scenes.scene import SceneError, read_scene, read_truth
from fers.util.files import sha256_of, temporary_prefix

_ENVI_SUFFIXES = ("", ".img", ".dat", ".raw", ".bil", ".bip", ".bsq")


@dataclass(frozen=True)
class Source:
    """Scene of the archive, and what becomes of it.

    Attributes:
        archive: The zip file.
        group: The output folder, a key of GROUPS.
        name: Scene name.
        header, data, truth: Its members in the zip file: ENVI header and data, and the ground truth of a test scene.
        bands: Ranges of bands to keep, 0-based and half-open.
    """

    archive: Path
    group: str
    name: str
    header: str
    data: str
    truth: str | None
    bands: tuple[tuple[int, int], ...]

    @property
    def sensor(self) -> str:
        """Folder of the sensor, a key of SENSORS."""
        return self.group.split("/")[1]

    def corners(self, height: int = SIDE, width: int = SIDE) -> dict[str, tuple[int, int]]:
        """Give the scene's crops by name, without suffix: first row and column in a scene of this size."""
        bottom, right = height - SIDE, width - SIDE
        places = (
            TEST_CROPS.get(self.name, ((0, 0),)) if self.truth else ((0, 0), (0, right), (bottom, 0), (bottom, right))
        )
        return {self.name if len(places) == 1 else f"{self.name}_{n}": place for n, place in enumerate(places, start=1)}

    def files(self) -> list[str]:
        """List the files made from the scene, relative to the output folder."""
        names = list(self.corners())
        return [f"{self.group}/{n}.npy" for n in names] + [f"{MASKS}/{n}.png" for n in names if self.truth]


def chosen_bands(sensor: str, bands: str) -> tuple[tuple[int, int], ...]:
    """Choose the bands of a sensor that go into the output, as ranges, 0-based and half-open.

    ``kept`` is the archive's own choice, and ``raw`` AVIRIS-Classic's first 200 of 224; AVIRIS-NG's are the kept ones.
    """
    return RAW_200 if bands == "raw" and sensor == "aviris" else SENSORS[sensor].kept


def count_bands(ranges: tuple[tuple[int, int], ...]) -> int:
    """Count the bands in half-open ranges."""
    return sum(stop - start for start, stop in ranges)


def check_archive(archive: Path, any_archive: bool) -> dict:
    """Check the archive, and return what the manifest says about it.

    Raises:
        ArchiveError: It has to be the published one and is not.
    """
    if not archive.is_file():
        raise ArchiveError(
            f"{archive}: no such file. Fetch it with python -m data.download had100, then give its path."
        )
    if any_archive:
        return {"name": archive.name, "bytes": archive.stat().st_size, "sha256": sha256_of(archive)}
    advice = "Fetch it again with python -m data.download had100; --any_archive takes another archive of its structure."
    check_sum(archive, had100.ARCHIVE, advice)
    return {"name": had100.ARCHIVE.name, "bytes": had100.ARCHIVE.size, "sha256": had100.ARCHIVE.sha256}


def list_scenes(archive: Path, bands: str = "kept", any_archive: bool = False) -> list[Source]:
    """List the scenes of the archive by output folder and name, each with its ENVI pair and its ground truth.

    Args:
        archive: The zip file.
        bands: ``kept`` or ``raw``.
        any_archive: Take any number of scenes.

    Raises:
        ArchiveError: It is no zip file, a name leads out of it, a scene lacks its data file or its mask, or the number
            of scenes is not that of the published archive.
    """
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    with open_zip(archive) as zipped:
        for member in zipped.namelist():
            path = PurePosixPath(member)
            if not member.endswith("/") and not path.name.startswith(".") and "__MACOSX" not in path.parts:
                by_folder[path.parent.name][path.name] = member
    truths = {
        PurePosixPath(name).stem: member for name, member in by_folder[MASK_SOURCE].items() if name.endswith(".mat")
    }
    sources = []
    for group, facts in GROUPS.items():
        members = by_folder[facts.source]
        headers = {name[: -len(".hdr")]: member for name, member in members.items() if name.lower().endswith(".hdr")}
        for stem, header in sorted(headers.items()):
            name, suffix = os.path.splitext(stem)  # scene.img.hdr
            name = name if suffix.lower() in _ENVI_SUFFIXES[1:] else stem
            data = [members[f"{name}{s}"] for e in _ENVI_SUFFIXES for s in {e, e.upper()} if f"{name}{s}" in members]
            if not data:
                raise ArchiveError(f"{archive}: {header} has no data file ({name}, {name}.img, ...). Fetch it again.")
            truth = truths.get(name) if group.startswith("test/") else None
            if group.startswith("test/") and truth is None:
                raise ArchiveError(f"{archive}: no ground truth {MASK_SOURCE}/{name}.mat for {header}. Fetch it again.")
            chosen = chosen_bands(group.split("/")[1], bands)
            sources.append(Source(archive, group, name, header, data[0], truth, chosen))
        if len(headers) != facts.scenes and not any_archive:
            raise ArchiveError(
                f"{archive}: {len(headers)} scenes in {facts.source}, expected {facts.scenes}. This is not the published "
                "archive; fetch it again, or give --any_archive."
            )
    if not sources:
        wanted = ", ".join(facts.source for facts in GROUPS.values())
        raise ArchiveError(f"{archive}: no ENVI scenes found; expected the folders {wanted}. Is this HAD100.zip?")
    return sources


def crops(source: Source, beside: Path | None = None) -> Iterator[tuple[str, bytes, dict]]:
    """Unpack one scene into a temporary folder ``beside`` its output, and cut it.

    Yields:
        File name relative to the dataset, content, manifest entry.

    Raises:
        ArchiveError: The scene is damaged, or its size, bands or mask are not as published.
        OSError: There is no room to unpack it.
    """
    with tempfile.TemporaryDirectory(prefix=f"{temporary_prefix()}-", dir=beside, ignore_cleanup_errors=True) as folder:
        cube, truth = _unpack(source, Path(folder))
        height, width, _ = cube.shape
        kept = np.concatenate([np.arange(start, stop) for start, stop in source.bands])
        for name, (row, column) in source.corners(height, width).items():
            if row < 0 or column < 0 or row + SIDE > height or column + SIDE > width:
                raise ArchiveError(
                    f"{source.archive}: {source.header}: {height} x {width} px; a crop of {SIDE} x {SIDE} at row {row}, "
                    f"column {column} does not fit."
                )
            at = (slice(row, row + SIDE), slice(column, column + SIDE))
            made = [(f"{source.group}/{name}.npy", cube[at][:, :, kept])]
            made += [] if truth is None else [(f"{MASKS}/{name}.png", truth[at])]
            for file, values in made:
                content = file_bytes(values)
                yield file, content, entry(content, values, source.name, NODATA, row=row, column=column)


def _unpack(source: Source, folder: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """The cube, in all bands, and the truth of a scene."""
    header, gt = folder / f"{source.name}.hdr", folder / f"{source.name}.mat"
    with open_zip(source.archive) as zipped:
        for member, target in ((source.header, header), (source.data, header.with_suffix(".img")), (source.truth, gt)):
            if member is not None:
                copy_member(zipped, member, target)
    place = f"{source.archive}: {source.header}"
    try:
        cube = read_scene(header, name=source.name).cube
        truth = None if source.truth is None else read_truth(gt, variable="gt", shape=cube.shape[:2])
    except SceneError as error:
        where = f"{source.archive}: {PurePosixPath(source.header).parent}/"  # not the temporary folder's name
        raise ArchiveError(str(error).replace(f"{folder}{os.sep}", where)) from error
    height, width, found = cube.shape
    if found != SENSORS[source.sensor].raw:
        raise ArchiveError(
            f"{place}: {found} bands, expected {SENSORS[source.sensor].raw}. This is not the published archive."
        )
    if truth is not None and source.name not in TEST_CROPS and (height, width) != (SIDE, SIDE):
        raise ArchiveError(f"{place}: {height} x {width} px; expected {SIDE} x {SIDE}, or a crop to be known for it.")
    return cube, truth
