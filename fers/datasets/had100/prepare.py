"""HAD100.zip into the folders that training and testing read, straight from the zip, scene by scene; and their check.

    fers data had100 prepare HAD100.zip --out data/HAD100Dataset
    fers data had100 prepare HAD100.zip --out data/HAD100Dataset --verify

A training patch is named after its scene and its corner: 1 top left, 2 top right, 3 bottom left, 4 bottom right. Six
test scenes are cropped twice, and their crops named _1 and _2. Values are the archive's own, in its own type. Pixels
without data stay as they are; the manifest counts them (``fers.datasets.manifest``).

An interrupted run goes on: what is there with the right checksum is not made again. One scene at a time is unpacked, to
a temporary folder, so memory and space do not depend on the archive's size.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm.contrib.concurrent import thread_map

from fers.datasets import had100
from fers.datasets.archive import ArchiveError, check_sum, copy_member, open_zip, require_room
from fers.datasets.had100 import GROUPS, NODATA, RAW_200, SENSORS, SIDE, TEST_CROPS, TRUTH_SOURCE, TRUTHS
from fers.datasets.manifest import MANIFEST, ManifestError, Progress, read_manifest, values_sha256, write_array
from fers.scenes.scene import SceneError, read_scene, read_truth
from fers.util.commandline import positive, run
from fers.util.files import remove_leftovers, sha256_of, temporary_prefix, visible
from fers.util.lock import locked
from fers.util.paths import home

Ranges = tuple[tuple[int, int], ...]  # of bands, 0-based and half-open

_ENVI_SUFFIXES = ("", ".img", ".dat", ".raw", ".bil", ".bip", ".bsq")
_SHOWN = 10  # names in a message
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Source:
    """Scene of the archive, and what becomes of it."""

    archive: Path
    group: str  # the output folder, a key of GROUPS
    name: str
    header: str  # its ENVI header and data in the zip file, and the ground truth of a test scene
    data: str
    truth: str | None
    bands: Ranges  # to keep

    @property
    def sensor(self) -> str:
        """Folder of the sensor, a key of SENSORS."""
        return self.group.split("/")[1]

    def corners(self, height: int = SIDE, width: int = SIDE) -> dict[str, tuple[int, int]]:
        """Give the scene's crops by name, without suffix: first row and column in a scene of this size."""
        bottom, right = height - SIDE, width - SIDE
        four = ((0, 0), (0, right), (bottom, 0), (bottom, right))
        places = TEST_CROPS.get(self.name, ((0, 0),)) if self.truth else four
        return {self.name if len(places) == 1 else f"{self.name}_{n}": place for n, place in enumerate(places, start=1)}

    def files(self) -> list[str]:
        """List the files made from the scene, relative to the output folder."""
        names = list(self.corners())
        return [f"{self.group}/{n}.npy" for n in names] + [f"{TRUTHS}/{n}.png" for n in names if self.truth]


def prepare(
    archive: str | Path,
    out: str | Path,
    bands: str = "kept",
    sensor: str = "all",
    workers: int | None = None,
    any_archive: bool = False,
) -> dict:
    """Make HAD100Dataset from HAD100.zip, or finish what an interrupted run has begun; returns the manifest.

    Args:
        archive, out: HAD100.zip, and the folder to write.
        bands: ``kept`` (276 and 162 bands) or ``raw`` (AVIRIS-Classic's first 200 of 224 instead of the 162).
        sensor: ``all``, ``aviris_ng`` (training and test) or ``aviris`` (training).
        workers: Scenes at a time; by default one per core.
        any_archive: Take an archive of another size, checksum, number of scenes or ground truth than the published one.

    Raises:
        ArchiveError: The archive is another or damaged, or the folder holds other files. What is finished is kept.
        OSError: The folder cannot be written, such as on a full disk. What is finished is kept.
    """
    archive, out = Path(archive), Path(out)
    origin = _check_archive(archive, any_archive)
    everything = list_scenes(archive, bands, any_archive)
    sources = [source for source in everything if sensor in ("all", source.sensor)]
    facts: dict = {
        "dataset": "HAD100",
        "archive": origin,
        "published_archive": not any_archive or origin["sha256"] == had100.ARCHIVE.sha256,
        "bands": dict(sorted({source.sensor: [list(pair) for pair in source.bands] for source in sources}.items())),
        "nodata_values": list(NODATA),
    }
    with locked(out):
        progress = Progress(out, facts)
        for before in progress.before:
            bands_before = before.get("bands", {})
            if before.get("archive", {}).get("sha256") != origin["sha256"] or any(
                bands_before.get(s, b) != b for s, b in facts["bands"].items()
            ):
                raise ArchiveError(
                    f"{out}: made from another archive or with other bands ({_made_from(before)}; now {_made_from(facts)}). "
                    "Choose another --out."
                )
            facts["bands"] = dict(sorted((bands_before | facts["bands"]).items()))  # the other sensor came before
        known = {file for source in everything for file in source.files()} | progress.files.keys()
        strangers = sorted(_files_in(out) - known)
        if strangers:
            raise ArchiveError(
                f"{out}: {len(strangers)} files there are not of this dataset and would be taken for it, such as "
                f"{strangers[0]}. Choose another --out, or check what is there with --verify."
            )
        sample = {"aviris_ng": 4, "aviris": 2}  # bytes at least; AVIRIS-Classic's scenes are int16 or float32
        pending = [source for source in sources if not all((out / file).is_file() for file in source.files())]
        needed = sum(len(s.corners()) * SIDE * SIDE * _count(s.bands) * sample[s.sensor] for s in pending)
        require_room(out, needed)
        remove_leftovers(out)  # of a run that was killed

        def make(source: Source) -> None:
            entries = progress.intact(source.files())
            if entries is None:
                out.mkdir(parents=True, exist_ok=True)
                entries = {
                    file: write_array(out, file, values, source.name, NODATA, **place)
                    for file, values, place in crops(source, out)
                }
            progress.add(entries)

        with progress:
            thread_map(make, sources, max_workers=workers or _CORES, desc="scenes", unit="scene")
        problems = [] if any_archive else _against_the_published(progress.files)
        if problems:
            raise ArchiveError(
                f"{archive}: {problems[0]} ({len(problems)} differences). This is not the published archive."
            )
        return progress.finish()


def _chosen_bands(sensor: str, bands: str) -> Ranges:
    return RAW_200 if bands == "raw" and sensor == "aviris" else SENSORS[sensor].kept


def _count(ranges: Ranges) -> int:
    return sum(stop - start for start, stop in ranges)


def _check_archive(archive: Path, any_archive: bool) -> dict:
    """Make the manifest's entry for the archive; raises if it has to be the published one and is not."""
    if not archive.is_file():
        raise ArchiveError(f"{archive}: no such file. Fetch it with fers data download had100, then give its path.")
    if any_archive:
        return {"name": archive.name, "bytes": archive.stat().st_size, "sha256": sha256_of(archive)}
    known = had100.ARCHIVE
    check_sum(archive, known, "Fetch it again (fers data download had100), or give --any_archive to take another.")
    return {"name": known.name, "bytes": known.size, "sha256": known.sha256}


def list_scenes(archive: Path, bands: str = "kept", any_archive: bool = False) -> list[Source]:
    """List the scenes of the archive by output folder and name, each with its ENVI pair and its ground truth.

    Raises:
        ArchiveError: It is no zip file, a name leads out of it, a scene lacks its data file or its truth, or the number
            of scenes is not that of the published archive.
    """
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    with open_zip(archive) as zipped:
        for member in zipped.namelist():
            path = PurePosixPath(member)
            if not member.endswith("/") and not path.name.startswith(".") and "__MACOSX" not in path.parts:
                by_folder[path.parent.name][path.name] = member
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
            truth = by_folder[TRUTH_SOURCE].get(f"{name}.mat") if group.startswith("test/") else None
            if group.startswith("test/") and truth is None:
                raise ArchiveError(
                    f"{archive}: no ground truth {TRUTH_SOURCE}/{name}.mat for {header}. Fetch it again."
                )
            chosen = _chosen_bands(group.split("/")[1], bands)
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


def crops(source: Source, beside: Path | None = None) -> Iterator[tuple[str, np.ndarray, dict[str, int]]]:
    """Unpack one scene into a temporary folder ``beside`` its output, and cut it.

    Yields:
        File name relative to the dataset, cube or truth, row and column of its first pixel.

    Raises:
        ArchiveError: The scene is damaged, or its size, bands or truth are not as published.
        OSError: There is no room to unpack it.
    """
    place = f"{source.archive}: {source.header}"
    with tempfile.TemporaryDirectory(prefix=f"{temporary_prefix()}-", dir=beside, ignore_cleanup_errors=True) as folder:
        header, gt = Path(folder, f"{source.name}.hdr"), Path(folder, f"{source.name}.mat")
        with open_zip(source.archive) as zipped:
            copy_member(zipped, source.header, header)
            copy_member(zipped, source.data, header.with_suffix(".img"))
            if source.truth:
                copy_member(zipped, source.truth, gt)
        try:
            cube = read_scene(header, name=source.name).cube
            truth = read_truth(gt, variable="gt", shape=cube.shape[:2]) if source.truth else None
        except SceneError as error:
            where = f"{source.archive}: {PurePosixPath(source.header).parent}/"  # not the temporary folder's name
            raise ArchiveError(str(error).replace(f"{folder}{os.sep}", where)) from error
        height, width, bands = cube.shape
        if bands != SENSORS[source.sensor].raw:
            raise ArchiveError(
                f"{place}: {bands} bands, expected {SENSORS[source.sensor].raw}. This is not the published archive."
            )
        place += f": {height} x {width} px"
        if truth is not None and (height, width) != (SIDE, SIDE) and source.name not in TEST_CROPS:
            raise ArchiveError(f"{place}; expected {SIDE} x {SIDE}, or a crop to be known for it.")
        kept = np.concatenate([np.arange(start, stop) for start, stop in source.bands])
        for name, (row, column) in source.corners(height, width).items():
            if row < 0 or column < 0 or row + SIDE > height or column + SIDE > width:
                raise ArchiveError(f"{place}; a crop of {SIDE} x {SIDE} at row {row}, column {column} does not fit.")
            at = (slice(row, row + SIDE), slice(column, column + SIDE))
            yield f"{source.group}/{name}.npy", cube[at][:, :, kept], {"row": row, "column": column}
            if truth is not None:
                yield f"{TRUTHS}/{name}.png", truth[at], {"row": row, "column": column}


def verify(
    out: str | Path,
    archive: str | Path | None = None,
    bands: str | None = None,
    sensor: str = "all",
    workers: int | None = None,
    any_archive: bool = False,
) -> tuple[list[str], list[str]]:
    """Compare a HAD100Dataset, whoever made it, with the archive, else with its manifest, and with what is published.

    Test scenes and their truths are compared by name, training patches by their values, since another program may name
    them otherwise. The arguments are those of `prepare`; ``bands`` is by default what the manifest says, else ``kept``.
    Without an archive, ``any_archive`` takes any number of files and any ground truth.

    Returns:
        Problems, none if all is right, and remarks.

    Raises:
        ArchiveError: The folder holds nothing to check, or the archive cannot be used.
    """
    out = Path(out)
    manifest = read_manifest(out)
    if manifest is not None and not {"archive", "bands"} <= manifest.keys():
        raise ManifestError(f"{out / MANIFEST}: not the manifest of a HAD100 folder. Check the path given as --out.")
    # without a manifest every sensor is expected; with one, those it was made for
    wanted = set(SENSORS if manifest is None else manifest["bands"]) & ({sensor} if sensor != "all" else set(SENSORS))
    present = sorted(file for file in _files_in(out) if file.split("/")[1] in wanted)
    if not present:
        raise ArchiveError(f"{out}: no HAD100Dataset here; expected train/, test/ and ground_truth/ with files.")
    if bands is None:
        raw = manifest is not None and manifest["bands"].get("aviris") == [list(pair) for pair in RAW_200]
        bands = "raw" if raw else "kept"

    def in_crops(source: Source) -> dict[str, dict]:
        cut = crops(source)
        return {f: {"values_sha256": values_sha256(v), "scene": source.name, **place} for f, v, place in cut}

    def in_file(file: str) -> dict:
        try:
            values = read_scene(out / file).cube if file.endswith(".npy") else read_truth(out / file)
        except SceneError as error:
            return {"error": str(error).removeprefix(f"{out / file}: ")}
        facts = {"shape": list(values.shape), "values_sha256": values_sha256(values)}
        return facts if file.endswith(".npy") else facts | {"anomalous_pixels": int(values.sum())}

    described = thread_map(in_file, present, max_workers=workers or _CORES, desc="files", unit="file")
    found = dict(zip(present, described, strict=True))
    readable = {file: facts for file, facts in found.items() if "error" not in facts}
    problems = [f"{file}: {facts['error']}" for file, facts in found.items() if "error" in facts]
    remarks = []
    expected: dict[str, dict] = {}
    reference = out / MANIFEST if archive is None else Path(archive)
    published = not any_archive and (manifest is None or manifest.get("published_archive") is True)
    if archive is not None:
        _check_archive(reference, any_archive)
        sources = [source for source in list_scenes(reference, bands, any_archive) if source.sensor in wanted]
        for made in thread_map(in_crops, sources, max_workers=workers or _CORES, desc="scenes", unit="scene"):
            expected |= made
    elif manifest is not None:
        expected = {file: facts for file, facts in manifest["files"].items() if wanted & {*file.split("/")[1:2]}}
        if not manifest.get("published_archive"):
            remarks.append(f"made from {_made_from(manifest)}: not the published archive")
    else:
        remarks.append("only counts, shapes and masks are checked: there is no manifest; give HAD100.zip as well")
    problems += _check_structure(readable, bands, wanted, published and archive is None)
    if expected:
        differences, renamed = _compare(expected, found, reference)
        problems += differences
        remarks.append(f"{len(expected):,} crops and masks compared with {reference}, value by value")
        if renamed:
            remarks.append(f"{renamed:,} training patches have other names; split them by scene only if these tell it")
    if published:
        problems += _against_the_published({file: expected.get(file, {}) | facts for file, facts in readable.items()})
    return list(dict.fromkeys(problems)), remarks


def _compare(expected: dict[str, dict], found: dict[str, dict], reference: Path) -> tuple[list[str], int]:
    """Scenes and truths by name, training patches by value, each as often as expected; problems, and how many renamed."""
    left: dict[tuple[str, str], list[str]] = defaultdict(list)
    for file, facts in found.items():
        left[str(PurePosixPath(file).parent), facts.get("values_sha256", "")].append(file)
    problems, renamed = [], 0
    for file, facts in sorted(expected.items(), key=lambda item: item[0] not in found):  # equal names first
        same = left[str(PurePosixPath(file).parent), facts["values_sha256"]]
        crop = f"crop at row {facts.get('row')}, column {facts.get('column')} of {facts['scene']}"
        if file in same:
            same.remove(file)
        elif same and file.startswith("train/"):
            renamed += 1
            same.pop()
        elif file not in found:
            problems.append(f"{file}: missing, the {crop}")
        elif "error" not in found[file]:
            problems.append(f"{file}: its values are not those of the {crop} in {reference}")
    strange = [file for files in left.values() for file in files if file not in expected]
    return problems + [f"{file}: not in {reference}" for file in strange], renamed


def _check_structure(found: dict[str, dict], bands: str, sensors: set[str], published: bool) -> list[str]:
    """Problems with counts, shapes, and the pairing of test scenes and truths."""
    counts = Counter(str(PurePosixPath(file).parent) for file in found)
    problems = [
        f"{group}: {counts[group]:,} files that can be read, expected {facts.files:,}"
        for group, facts in GROUPS.items()
        if published and group.split("/")[1] in sensors and counts[group] != facts.files
    ]
    for file, facts in found.items():
        folder, sensor, _ = file.split("/")
        shape = [SIDE, SIDE] + ([] if folder == "ground_truth" else [_count(_chosen_bands(sensor, bands))])
        if facts["shape"] != shape:
            problems.append(f"{file}: {' x '.join(map(str, facts['shape']))}, expected {' x '.join(map(str, shape))}")
    scenes, truths = ({PurePosixPath(f).stem for f in found if f.startswith(k)} for k in ("test/", "ground_truth/"))
    return problems + [f"{name}: a test scene or its truth without the other" for name in sorted(scenes ^ truths)]


def _against_the_published(files: dict[str, dict]) -> list[str]:
    """List the differences from the published table: names, crops and anomalous pixels of the truths."""
    published = had100.published_test_scenes()
    truths = {PurePosixPath(file).stem: facts for file, facts in files.items() if file.startswith(f"{TRUTHS}/")}
    if not truths:
        return []
    problems = [f"{name}: missing" for name in published if name not in truths]
    problems += [f"{name}: no test scene of HAD100" for name in truths if name not in published]
    for name in sorted(truths.keys() & published.keys()):
        facts, known = truths[name], published[name]
        row, column = facts.get("row", known.row), facts.get("column", known.column)
        if (row, column) != (known.row, known.column):
            problems.append(f"{name}: cut at row {row}, column {column}, expected {known.row} and {known.column}")
        if facts["anomalous_pixels"] != known.anomalous_pixels:
            problems.append(f"{name}: {facts['anomalous_pixels']} anomalous pixels, expected {known.anomalous_pixels}")
    return problems


def _files_in(out: Path) -> set[str]:
    """The arrays and truths in the dataset's folders, relative to ``out``."""
    paths = (path for kind in ("train/*/*.npy", "test/*/*.npy", "ground_truth/*/*.png") for path in visible(out, kind))
    return {path.relative_to(out).as_posix() for path in paths}


def _made_from(facts: dict) -> str:
    """The archive and the bands that a manifest names."""
    archive = facts.get("archive", {})
    chosen = ", ".join(f"{sensor} {_count(ranges)} bands" for sensor, ranges in facts.get("bands", {}).items())
    return f"{archive.get('name')} of sha256 {str(archive.get('sha256'))[:8]}.. with {chosen}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="fers data had100", description="HAD100.")
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "prepare",
        help="make HAD100Dataset from HAD100.zip",
        description="Make HAD100Dataset from HAD100.zip. Interrupted, it goes on with the scenes that are missing.",
    )
    command.add_argument("archive", type=Path, nargs="?", help="HAD100.zip; --verify works without, from the manifest")
    default = home() / "data" / "HAD100Dataset"
    command.add_argument("--out", type=Path, default=default, help="folder to write to (default %(default)s)")
    kept = "kept: 276 of AVIRIS-NG's 425 and 162 of AVIRIS-Classic's 224 (default); raw: AVIRIS-Classic's first 200"
    command.add_argument("--bands", choices=("kept", "raw"), help=kept)
    command.add_argument("--sensor", choices=("all", *SENSORS), default="all", help="sensors to prepare (default all)")
    command.add_argument("--workers", "--jobs", type=positive, help="scenes at a time (default: one per core)")
    command.add_argument("--verify", action="store_true", help="check what is in the folder; nothing is written")
    other = "take an archive of another size, sha256, number of scenes or ground truth; the manifest says so"
    command.add_argument("--any_archive", "--any-archive", action="store_true", help=other)
    args = parser.parse_args(arguments)
    if args.archive is None and not args.verify:
        command.error("give the path of HAD100.zip; fers data download had100 fetches it")

    def work() -> None:
        settings = (args.sensor, args.workers, args.any_archive)
        if args.verify:
            problems, remarks = verify(args.out, args.archive, args.bands, *settings)
            print("".join(f"{line}\n" for line in (*remarks, *(f"  {each}" for each in problems[:_SHOWN]))), end="")
            if problems:
                shown = min(len(problems), _SHOWN)
                raise ArchiveError(f"{args.out}: {len(problems):,} problems, {shown} shown. Make these files again.")
            print(f"{args.out}: right")
            return
        made = prepare(args.archive, args.out, args.bands or "kept", *settings)
        holed = sum(bool(entry.get("nodata_pixels")) for entry in made["files"].values())
        one_class = [f for f, e in made["files"].items() if e.get("anomalous_pixels") in (0, SIDE * SIDE)]
        print(f"{args.out}: complete, {len(made['files']):,} files; sha256 of each in {args.out / MANIFEST}")
        print(f"  {holed:,} of them hold pixels without data, kept as they are (nodata_pixels in the manifest).")
        if holed:
            print("  Training leaves such patches out, and tests refuse such scenes; their --nodata decides otherwise.")
        if one_class:
            print(f"  {len(one_class)} truths are of one class and have no AUC: {', '.join(one_class[:_SHOWN])}")
        if not made["published_archive"]:
            print("  This is not the published archive.")

    return run(work, how_to_resume="run the same command again; finished scenes are kept")
