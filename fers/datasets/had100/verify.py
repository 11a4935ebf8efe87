"""Is a HAD100Dataset right? Compared with the archive, with its manifest, and with what is published of HAD100."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePosixPath
from typing import TypeVar

from tqdm import tqdm

from fers.datasets import had100
from fers.datasets.archive import ArchiveError
from fers.datasets.had100 import GROUPS, MASKS, RAW_200, SENSORS, SIDE
from fers.datasets.had100.archive import check_archive, chosen_bands, count_bands, crops, list_scenes
from fers.datasets.manifest import MANIFEST, ManifestError, read_manifest, values_sha256
from fers.scenes.scene import SceneError, read_scene, read_truth
from fers.util.files import sha256_of, visible

T = TypeVar("T")
R = TypeVar("R")


def verify(
    out: str | Path,
    archive: str | Path | None = None,
    bands: str | None = None,
    sensor: str = "all",
    workers: int | None = None,
    any_archive: bool = False,
) -> tuple[list[str], list[str]]:
    """Compare an existing folder with the archive, else with its manifest, and with what is published of HAD100.

    With the archive, test scenes and masks are compared by name. Training patches are compared by their values and may
    have any name, since another program may name them otherwise.

    Args:
        out: The folder, HAD100Dataset, whoever made it.
        archive: HAD100.zip.
        bands: ``kept`` or ``raw``; by default what the manifest says, else ``kept``.
        sensor: ``all``, ``aviris_ng`` or ``aviris``.
        workers: Files at a time; by default one per core.
        any_archive: As for `prepare`; without an archive, take any number of files and any ground truth.

    Returns:
        Problems, none if all is right, and remarks.

    Raises:
        ArchiveError: The folder holds nothing to check, or the archive cannot be used.
        OSError: A file cannot be read.
    """
    out = Path(out)
    manifest = read_manifest(out)
    if manifest is not None and not {"archive", "bands"} <= manifest.keys():
        raise ManifestError(f"{out / MANIFEST}: not the manifest of a HAD100 folder. Check the path given as --out.")
    # without a manifest every sensor is expected; with one, those it was made for
    wanted = set(SENSORS if manifest is None else manifest["bands"]) & ({sensor} if sensor != "all" else set(SENSORS))
    present = sorted(file for file in files_in(out) if file.split("/")[1] in wanted)
    if not present:
        raise ArchiveError(f"{out}: no HAD100Dataset here; expected train/, test/ and ground_truth/ with files.")
    if bands is None:
        raw = manifest is not None and manifest["bands"].get("aviris") == [list(pair) for pair in RAW_200]
        bands = "raw" if raw else "kept"

    found: dict[str, dict] = {}
    for facts in in_threads(lambda file: _describe_file(file, out), present, workers, "files"):
        found |= facts
    problems = [f"{file}: {facts['error']}" for file, facts in found.items() if "error" in facts]
    readable = {file: facts for file, facts in found.items() if "error" not in facts}
    remarks = []
    expected: dict[str, dict] = {}
    published = not any_archive and (manifest is None or manifest.get("published_archive") is True)
    if archive is not None:
        check_archive(Path(archive), any_archive)
        sources = [source for source in list_scenes(Path(archive), bands, any_archive) if source.sensor in wanted]
        for entries in in_threads(
            lambda source: {file: facts for file, _, facts in crops(source)}, sources, workers, "scenes"
        ):
            expected |= entries
        reference = Path(archive)
    elif manifest is not None:
        expected = {file: facts for file, facts in manifest["files"].items() if wanted & {*file.split("/")[1:2]}}
        reference = out / MANIFEST
        if not manifest.get("published_archive"):
            remarks.append(f"made from {made_from(manifest)}: not the published archive")
    else:
        expected = {}
        remarks.append(
            "only counts, shapes, bands and masks are checked: there is no manifest; give HAD100.zip as well"
        )
    problems += _check_structure(readable, bands, wanted, published and archive is None)
    if expected:
        differences, notes = _compare(expected, found, reference)
        problems += differences
        remarks += [f"{len(expected):,} crops and masks compared with {reference}, value by value", *notes]
    if published:
        problems += against_the_published({file: expected.get(file, {}) | facts for file, facts in readable.items()})
    return list(dict.fromkeys(problems)), remarks


def _describe_file(file: str, out: Path) -> dict[str, dict]:
    """What `verify` needs to know about one file; an ``error`` where it cannot be read."""
    facts: dict = {"sha256": sha256_of(out / file)}
    try:
        is_cube = file.endswith(".npy")
        values = read_scene(out / file, nodata=had100.NODATA).cube if is_cube else read_truth(out / file)
        facts |= {"shape": values.shape, "values_sha256": values_sha256(values)}
        if not is_cube:
            facts["anomalous_pixels"] = int(values.sum())
    except SceneError as error:
        facts["error"] = str(error).removeprefix(f"{out / file}: ")
    return {file: facts}


def _compare(expected: dict[str, dict], found: dict[str, dict], reference: Path) -> tuple[list[str], list[str]]:
    """Scenes and masks by name, training patches by value, each as often as expected; problems, and a remark on names."""
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
    note = f"{renamed:,} training patches have other names than here; split them by scene only if their names tell it"
    return problems + [f"{file}: not in {reference}" for file in strange], [note] if renamed else []


def _check_structure(found: dict[str, dict], bands: str, sensors: set[str], published: bool) -> list[str]:
    """Counts, shapes and the pairing of test scenes and masks."""
    counts = Counter(str(PurePosixPath(file).parent) for file in found)
    problems = [
        f"{group}: {counts[group]:,} files that can be read, expected {facts.files:,}"
        for group, facts in GROUPS.items()
        if published and group.split("/")[1] in sensors and counts[group] != facts.files
    ]
    for file, facts in found.items():
        folder, sensor, _ = file.split("/")
        shape = (SIDE, SIDE) if folder == "ground_truth" else (SIDE, SIDE, count_bands(chosen_bands(sensor, bands)))
        if tuple(facts["shape"]) != shape:
            problems.append(f"{file}: {' x '.join(map(str, facts['shape']))}, expected {' x '.join(map(str, shape))}")
    tests, masks = ({PurePosixPath(f).stem for f in found if f.startswith(k)} for k in ("test/", "ground_truth/"))
    problems += [f"test/aviris_ng/{name}.npy: no mask of its name" for name in tests - masks]
    return problems + [f"{MASKS}/{name}.png: no scene of its name" for name in masks - tests]


def against_the_published(files: dict[str, dict]) -> list[str]:
    """How test scenes and masks differ from the published table: names, crops and anomalous pixels."""
    published = had100.published_test_scenes()
    masks = {PurePosixPath(file).stem: facts for file, facts in files.items() if file.startswith(f"{MASKS}/")}
    if not masks:
        return []
    problems = [f"{name}: missing" for name in published if name not in masks]
    problems += [f"{name}: no test scene of HAD100" for name in masks if name not in published]
    for name in sorted(masks.keys() & published.keys()):
        facts, known = masks[name], published[name]
        if "row" in facts and (facts["row"], facts["column"]) != (known.row, known.column):
            problems.append(
                f"{name}: cut at row {facts['row']}, column {facts['column']}, expected {known.row} and {known.column}"
            )
        if facts["anomalous_pixels"] != known.anomalous_pixels:
            problems.append(f"{name}: {facts['anomalous_pixels']} anomalous pixels, expected {known.anomalous_pixels}")
    return problems


def files_in(out: Path) -> set[str]:
    """Arrays and masks in the dataset's folders, relative to ``out``."""
    paths = (path for kind in ("train/*/*.npy", "test/*/*.npy", "ground_truth/*/*.png") for path in visible(out, kind))
    return {path.relative_to(out).as_posix() for path in paths}


def made_from(facts: dict) -> str:
    archive = facts.get("archive", {})
    counts = {sensor: sum(stop - start for start, stop in ranges) for sensor, ranges in facts.get("bands", {}).items()}
    chosen = ", ".join(f"{sensor} {count} bands" for sensor, count in counts.items())
    return f"{archive.get('name')} of sha256 {str(archive.get('sha256'))[:8]}.. with {chosen}"


def in_threads(function: Callable[[T], R], items: Sequence[T], workers: int | None, what: str) -> Iterator[R]:
    """Results of a function over items, as they come, in threads: unpacking, hashing and writing let others run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers or cores) as pool:
        try:
            futures = [pool.submit(function, item) for item in items]
            for future in tqdm(as_completed(futures), what, len(items), unit=what.removesuffix("s")):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
