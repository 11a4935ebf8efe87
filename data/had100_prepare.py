"""HAD100.zip into the folders that training and testing read, straight from the zip, scene by scene.

    python -m data.had100 prepare HAD100.zip --out data/HAD100Dataset
    python -m data.had100 prepare HAD100.zip --out data/HAD100Dataset --verify

    HAD100Dataset/train/aviris_ng/<scene>_<1..4>.npy    1,040 patches, 64 x 64 x 276
    HAD100Dataset/train/aviris/<scene>_<1..4>.npy       1,048 patches, 64 x 64 x 162 (x 200 with --bands raw)
    HAD100Dataset/test/aviris_ng/<scene>[_<1|2>].npy    100 scenes, 64 x 64 x 276
    HAD100Dataset/ground_truth/aviris_ng/<same>.png     their masks, green 255 at anomalies
    HAD100Dataset/manifest.json                         what each file holds (data.manifest)

A training patch is named after its scene and its corner: 1 top left, 2 top right, 3 bottom left, 4 bottom right. Six
test scenes are cropped twice, and their crops named _1 and _2. Values are the archive's own, in its own type. Pixels
without data stay as they are; the manifest counts them, and whoever uses such a file says what becomes of them.

An interrupted run goes on: what is there with the right checksum is not made again.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePosixPath
from typing import TypeVar

from tqdm import tqdm

from data import had100
from data.archive import ArchiveError, check_sum, free_bytes
from data.commandline import positive, run
from data.files import sha256_of, visible, write_whole
from data.had100 import GROUPS, MASKS, RAW_200, SENSORS, SIDE
from data.had100_archive import UNPACK, Source, chosen_bands, count_bands, crops, list_scenes
from data.manifest import MANIFEST, ManifestError, Progress, read_manifest, values_sha256
from data.scene import SceneError, read_mask, read_scene

_SHOWN = 10  # names in a message
T = TypeVar("T")
R = TypeVar("R")


def prepare(
    archive: str | Path,
    out: str | Path,
    bands: str = "kept",
    sensor: str = "all",
    workers: int | None = None,
    any_archive: bool = False,
) -> dict:
    """Make HAD100Dataset from HAD100.zip, or finish what an interrupted run has begun.

    Args:
        archive: HAD100.zip.
        out: The folder to write, HAD100Dataset.
        bands: ``kept`` (276 and 162 bands) or ``raw`` (AVIRIS-Classic's first 200 of 224 instead of the 162).
        sensor: ``all``, ``aviris_ng`` (training and test) or ``aviris`` (training).
        workers: Scenes at a time; by default one per core.
        any_archive: Take an archive of another size, checksum, number of scenes or ground truth than the published one.

    Returns:
        The manifest, as it is in ``manifest.json``.

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
        "nodata_values": list(had100.NODATA),
    }
    progress = Progress(out, facts)
    for before in progress.before:
        bands_before = before.get("bands", {})
        if before.get("archive") != origin or any(bands_before.get(s, b) != b for s, b in facts["bands"].items()):
            raise ArchiveError(
                f"{out}: made from another archive or with other bands ({_made_from(before)}; now {_made_from(facts)}). "
                "Choose another --out."
            )
        facts["bands"] = dict(sorted((bands_before | facts["bands"]).items()))  # the other sensor came before
    strangers = sorted(
        _files_in(out) - {file for source in everything for file in source.files()} - set(progress.files)
    )
    if strangers:
        raise ArchiveError(
            f"{out}: {len(strangers)} files there are not of this dataset and would be taken for it, such as "
            f"{strangers[0]}. Choose another --out, or check what is there with --verify."
        )
    _check_room(out, [source for source in sources if not all((out / file).is_file() for file in source.files())])
    for stale in out.glob(f"{UNPACK}*"):  # of a run that was killed
        shutil.rmtree(stale, ignore_errors=True)
    try:
        for entries in _each(
            lambda source: progress.intact(source.files()) or _write(source, out), sources, workers, "scenes"
        ):
            progress.add(entries)
    except BaseException:
        if out.is_dir():
            progress.save()
        raise
    problems = [] if any_archive else _against_the_published(progress.files)
    if problems:
        raise ArchiveError(
            f"{archive}: {problems[0]} ({len(problems)} differences). This is not the published archive."
        )
    return progress.finish()


def _made_from(facts: dict) -> str:
    archive = facts.get("archive", {})
    counts = {sensor: sum(stop - start for start, stop in ranges) for sensor, ranges in facts.get("bands", {}).items()}
    chosen = ", ".join(f"{sensor} {count} bands" for sensor, count in counts.items())
    return f"{archive.get('name')} of sha256 {str(archive.get('sha256'))[:8]}.. with {chosen}"


def _check_archive(archive: Path, any_archive: bool) -> dict:
    """What the manifest says about the archive; raises if it has to be the published one and is not."""
    if not archive.is_file():
        raise ArchiveError(
            f"{archive}: no such file. Fetch it with python -m data.download had100, then give its path."
        )
    if any_archive:
        return {"name": archive.name, "bytes": archive.stat().st_size, "sha256": sha256_of(archive)}
    advice = "Fetch it again with python -m data.download had100; --any_archive takes another archive of its structure."
    check_sum(archive, had100.ARCHIVE, advice)
    return {"name": had100.ARCHIVE.name, "bytes": had100.ARCHIVE.size, "sha256": had100.ARCHIVE.sha256}


def _against_the_published(files: dict[str, dict]) -> list[str]:
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


def _files_in(out: Path) -> set[str]:
    """Arrays and masks in the dataset's folders, relative to ``out``."""
    paths = (path for kind in ("train/*/*.npy", "test/*/*.npy", "ground_truth/*/*.png") for path in visible(out, kind))
    return {path.relative_to(out).as_posix() for path in paths}


def _check_room(out: Path, pending: list[Source]) -> None:
    """Refuse what certainly does not fit, before the first file is written."""
    sample = {"aviris_ng": 4, "aviris": 2}  # bytes at least; AVIRIS-Classic's scenes are int16 or float32
    needed = sum(len(s.crop_names()) * SIDE * SIDE * count_bands(s.bands) * sample[s.sensor] for s in pending)
    if needed > free_bytes(out):
        raise ArchiveError(
            f"{out}: at least {needed:,} bytes are still to be written and {free_bytes(out):,} are free on this disk. "
            "Free some space, or choose another --out."
        )


def _each(function: Callable[[T], R], items: Sequence[T], workers: int | None, what: str) -> Iterator[R]:
    """Results of a function over items, as they come, in threads: unpacking, hashing and writing let others run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers or cores) as pool:
        try:
            futures = [pool.submit(function, item) for item in items]
            for future in tqdm(as_completed(futures), what, len(items), unit=what.removesuffix("s")):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write(source: Source, out: Path) -> dict[str, dict]:
    """Make and write the files of one scene; their manifest entries by file name."""
    out.mkdir(parents=True, exist_ok=True)
    entries = {}
    for file, content, facts in crops(source, out):
        write_whole(out / file, content)
        entries[file] = facts
    return entries


# ---- checking a folder


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
    present = sorted(file for file in _files_in(out) if file.split("/")[1] in wanted)
    if not present:
        raise ArchiveError(f"{out}: no HAD100Dataset here; expected train/, test/ and ground_truth/ with files.")
    if bands is None:
        raw = manifest is not None and manifest["bands"].get("aviris") == [list(pair) for pair in RAW_200]
        bands = "raw" if raw else "kept"

    found: dict[str, dict] = {}
    for facts in _each(lambda file: _describe_file(file, out), present, workers, "files"):
        found |= facts
    problems = [f"{file}: {facts['error']}" for file, facts in found.items() if "error" in facts]
    readable = {file: facts for file, facts in found.items() if "error" not in facts}
    remarks = []
    expected: dict[str, dict] = {}
    published = not any_archive and (manifest is None or manifest.get("published_archive") is True)
    if archive is not None:
        _check_archive(Path(archive), any_archive)
        sources = [source for source in list_scenes(Path(archive), bands, any_archive) if source.sensor in wanted]
        for entries in _each(
            lambda source: {file: facts for file, _, facts in crops(source)}, sources, workers, "scenes"
        ):
            expected |= entries
        reference = Path(archive)
    elif manifest is not None:
        expected = {file: facts for file, facts in manifest["files"].items() if file.split("/")[1] in wanted}
        reference = out / MANIFEST
        if not manifest.get("published_archive"):
            remarks.append(f"made from {_made_from(manifest)}: not the published archive")
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
        problems += _against_the_published({file: expected.get(file, {}) | facts for file, facts in readable.items()})
    return list(dict.fromkeys(problems)), remarks


def _describe_file(file: str, out: Path) -> dict[str, dict]:
    """What `verify` needs to know about one file; an ``error`` where it cannot be read."""
    facts: dict = {"sha256": sha256_of(out / file)}
    try:
        is_cube = file.endswith(".npy")
        values = read_scene(out / file, nodata=had100.NODATA).cube if is_cube else read_mask(out / file)
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
        crop = f"crop at row {facts['row']}, column {facts['column']} of {facts['scene']}"
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


# ---- command line


def _summary(manifest: dict, out: Path) -> Iterator[str]:
    yield f"{out}: complete, {len(manifest['files']):,} files; sha256 of each in {out / MANIFEST}"
    for group, facts in GROUPS.items():
        files = [entry for file, entry in manifest["files"].items() if file.startswith(f"{group}/")]
        if files:
            ranges = manifest["bands"][group.split("/")[1]]
            named = " ".join(f"[{start}:{stop})" for start, stop in ranges)
            shape = " x ".join(map(str, files[0]["shape"]))
            yield f"  {group}: {len(files):,} of {facts.files:,} crops, {shape}, bands {named}"
            if holes := sum(entry["nodata_pixels"] > 0 for entry in files):
                yield f"    {holes:,} of them hold pixels without data, kept as they are (nodata_pixels in the manifest)"
    one_class = [f for f, e in manifest["files"].items() if e.get("anomalous_pixels") in (0, SIDE * SIDE)]
    if one_class:
        yield f"  {len(one_class)} masks are of one class only and have no AUC: {', '.join(one_class[:_SHOWN])}"
    if not manifest["published_archive"]:
        yield "  This is not the published archive."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m data.had100", description="HAD100.")
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "prepare",
        help="make HAD100Dataset from HAD100.zip",
        description="Make HAD100Dataset from HAD100.zip. Interrupted, it goes on with the scenes that are missing.",
    )
    command.add_argument("archive", type=Path, nargs="?", help="HAD100.zip; --verify works without, from the manifest")
    default = Path(__file__).resolve().parent / "HAD100Dataset"
    command.add_argument("--out", type=Path, default=default, help="folder to write to (default %(default)s)")
    command.add_argument(
        "--bands",
        choices=("kept", "raw"),
        help="kept: 276 of AVIRIS-NG's 425 and 162 of AVIRIS-Classic's 224 (default); raw: AVIRIS-Classic's first 200",
    )
    command.add_argument("--sensor", choices=("all", *SENSORS), default="all", help="sensors to prepare (default all)")
    command.add_argument("--workers", "--jobs", type=positive, help="scenes at a time (default: one per core)")
    command.add_argument("--verify", action="store_true", help="check what is in the folder; nothing is written")
    command.add_argument(
        "--any_archive",
        "--any-archive",
        action="store_true",
        help="take an archive of another size, sha256, number of scenes or ground truth; the manifest says so",
    )
    args = parser.parse_args(arguments)
    if args.archive is None and not args.verify:
        command.error("give the path of HAD100.zip; python -m data.download had100 fetches it")

    def work() -> None:
        settings = (args.bands, args.sensor, args.workers, args.any_archive)
        if not args.verify:
            print("\n".join(_summary(prepare(args.archive, args.out, settings[0] or "kept", *settings[1:]), args.out)))
            return
        problems, remarks = verify(args.out, args.archive, *settings)
        print("".join(f"{remark}\n" for remark in remarks), end="")
        print("".join(f"  {problem}\n" for problem in problems[:_SHOWN]), end="")
        if problems:
            shown = min(len(problems), _SHOWN)
            raise ArchiveError(f"{args.out}: {len(problems):,} problems, {shown} shown. Make these files again.")
        print(f"{args.out}: right")

    return run(work, how_to_resume="run the same command again; finished scenes are kept")
