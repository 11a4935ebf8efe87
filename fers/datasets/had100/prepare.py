"""HAD100.zip into the folders that training and testing read, straight from the zip, scene by scene.

    python -m data.had100 prepare HAD100.zip --out data/HAD100Dataset
    python -m data.had100 prepare HAD100.zip --out data/HAD100Dataset --verify

A training patch is named after its scene and its corner: 1 top left, 2 top right, 3 bottom left, 4 bottom right. Six
test scenes are cropped twice, and their crops named _1 and _2. Values are the archive's own, in its own type. Pixels
without data stay as they are; the manifest counts them (``fers.datasets.manifest``).

An interrupted run goes on: what is there with the right checksum is not made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fers.datasets import had100
from fers.datasets.archive import ArchiveError, free_bytes
from fers.datasets.had100 import SENSORS, SIDE
from fers.datasets.had100.archive import Source, check_archive, count_bands, crops, list_scenes
from fers.datasets.had100.verify import against_the_published, files_in, in_threads, made_from, verify
from fers.datasets.manifest import MANIFEST, Progress
from fers.util.commandline import positive, run
from fers.util.files import remove_leftovers, write_whole
from fers.util.paths import home

_SHOWN = 10  # names in a message


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
    origin = check_archive(archive, any_archive)
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
        if before.get("archive", {}).get("sha256") != origin["sha256"] or any(
            bands_before.get(s, b) != b for s, b in facts["bands"].items()
        ):
            raise ArchiveError(
                f"{out}: made from another archive or with other bands ({made_from(before)}; now {made_from(facts)}). "
                "Choose another --out."
            )
        facts["bands"] = dict(sorted((bands_before | facts["bands"]).items()))  # the other sensor came before
    strangers = sorted(files_in(out) - {file for source in everything for file in source.files()} - set(progress.files))
    if strangers:
        raise ArchiveError(
            f"{out}: {len(strangers)} files there are not of this dataset and would be taken for it, such as "
            f"{strangers[0]}. Choose another --out, or check what is there with --verify."
        )
    _check_room(out, [source for source in sources if not all((out / file).is_file() for file in source.files())])
    remove_leftovers(out)  # of a run that was killed
    with progress:
        made = in_threads(lambda s: progress.intact(s.files()) or _write(s, out), sources, workers, "scenes")
        for entries in made:
            progress.add(entries)
    problems = [] if any_archive else against_the_published(progress.files)
    if problems:
        raise ArchiveError(
            f"{archive}: {problems[0]} ({len(problems)} differences). This is not the published archive."
        )
    return progress.finish()


def _check_room(out: Path, pending: list[Source]) -> None:
    """Refuse what surely does not fit, before the first file is written."""
    sample = {"aviris_ng": 4, "aviris": 2}  # bytes at least; AVIRIS-Classic's scenes are int16 or float32
    needed = sum(len(s.corners()) * SIDE * SIDE * count_bands(s.bands) * sample[s.sensor] for s in pending)
    if needed > free_bytes(out):
        raise ArchiveError(
            f"{out}: at least {needed:,} bytes are still to be written and {free_bytes(out):,} are free on this disk. "
            "Free some space, or choose another --out."
        )


def _write(source: Source, out: Path) -> dict[str, dict]:
    """Make and write the files of one scene; their manifest entries by file name."""
    out.mkdir(parents=True, exist_ok=True)
    entries = {}
    for file, content, facts in crops(source, out):
        write_whole(out / file, content)
        entries[file] = facts
    return entries


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m data.had100", description="HAD100.")
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "prepare",
        help="make HAD100Dataset from HAD100.zip",
        description="Make HAD100Dataset from HAD100.zip. Interrupted, it goes on with the scenes that are missing.",
    )
    command.add_argument("archive", type=Path, nargs="?", help="HAD100.zip; --verify works without, from the manifest")
    default = home() / "data" / "HAD100Dataset"
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
            made = prepare(args.archive, args.out, args.bands or "kept", *settings[1:])
            holed = sum(bool(entry.get("nodata_pixels")) for entry in made["files"].values())
            one_class = [f for f, e in made["files"].items() if e.get("anomalous_pixels") in (0, SIDE * SIDE)]
            print(f"{args.out}: complete, {len(made['files']):,} files; sha256 of each in {args.out / MANIFEST}")
            print(f"  {holed:,} of them hold pixels without data, kept as they are (nodata_pixels in the manifest)")
            if one_class:
                print(f"  {len(one_class)} truths are of one class and have no AUC: {', '.join(one_class[:_SHOWN])}")
            if not made["published_archive"]:
                print("  This is not the published archive.")
            return
        problems, remarks = verify(args.out, args.archive, *settings)
        print("".join(f"{remark}\n" for remark in remarks), end="")
        print("".join(f"  {problem}\n" for problem in problems[:_SHOWN]), end="")
        if problems:
            shown = min(len(problems), _SHOWN)
            raise ArchiveError(f"{args.out}: {len(problems):,} problems, {shown} shown. Make these files again.")
        print(f"{args.out}: right")

    return run(work, how_to_resume="run the same command again; finished scenes are kept")
