"""The check of a HAD100Dataset: against the archive or its manifest, and against what is published of HAD100."""

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
from fers.util.files import visible

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
    """Compare a HAD100Dataset, whoever made it, with the archive, else with its manifest, and with what is published.

    Test scenes and their truths are compared by name. Training patches are compared by their values and may have any
    name, since another program may name them otherwise.

    Args:
        out: The folder.
        archive, sensor, workers: As for `prepare`.
        bands: ``kept`` or ``raw``; by default what the manifest says, else ``kept``.
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

    found = dict(in_threads(lambda file: (file, _describe(out / file)), present, workers, "files"))
    problems = [f"{file}: {facts['error']}" for file, facts in found.items() if "error" in facts]
    readable = {file: facts for file, facts in found.items() if "error" not in facts}
    remarks = []
    expected: dict[str, dict] = {}
    reference = out / MANIFEST if archive is None else Path(archive)
    published = not any_archive and (manifest is None or manifest.get("published_archive") is True)
    if archive is not None:
        check_archive(reference, any_archive)
        sources = [source for source in list_scenes(reference, bands, any_archive) if source.sensor in wanted]
        for made in in_threads(lambda s: [(file, facts) for file, _, facts in crops(s)], sources, workers, "scenes"):
            expected |= dict(made)
    elif manifest is not None:
        expected = {file: facts for file, facts in manifest["files"].items() if wanted & {*file.split("/")[1:2]}}
        if not manifest.get("published_archive"):
            remarks.append(f"made from {made_from(manifest)}: not the published archive")
    else:
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


def _describe(path: Path) -> dict:
    """What `verify` needs to know about one file; an ``error`` where it cannot be read."""
    try:
        if path.suffix == ".npy":
            cube = read_scene(path).cube
            return {"shape": cube.shape, "values_sha256": values_sha256(cube)}
        truth = read_truth(path)
    except SceneError as error:
        return {"error": str(error).removeprefix(f"{path}: ")}
    return {"shape": truth.shape, "values_sha256": values_sha256(truth), "anomalous_pixels": int(truth.sum())}


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
    """Compare test scenes and truths with the published table; returns what differs in names, crops and pixels."""
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
    """Find the arrays and truths in the dataset's folders, relative to ``out``."""
    paths = (path for kind in ("train/*/*.npy", "test/*/*.npy", "ground_truth/*/*.png") for path in visible(out, kind))
    return {path.relative_to(out).as_posix() for path in paths}


def made_from(facts: dict) -> str:
    """Describe the archive and the bands that a manifest names."""
    archive = facts.get("archive", {})
    counts = {sensor: sum(stop - start for start, stop in ranges) for sensor, ranges in facts.get("bands", {}).items()}
    chosen = ", ".join(f"{sensor} {count} bands" for sensor, count in counts.items())
    return f"{archive.get('name')} of sha256 {str(archive.get('sha256'))[:8]}.. with {chosen}"


def in_threads(function: Callable[[T], R], items: Sequence[T], workers: int | None, what: str) -> Iterator[R]:
    """Apply a function to items in threads, and yield the results as they come: unpacking and hashing let others run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers or cores) as pool:
        try:
            futures = [pool.submit(function, item) for item in items]
            for future in tqdm(as_completed(futures), what, len(items), unit=what.removesuffix("s")):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)
