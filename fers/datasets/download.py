"""Fetch HAD100 or the ABU scenes, checked against their sha256 before they are used.

    fers data download had100 --out data
    fers data download abu --out data/ABU --archive ABU.zip

HAD100.zip comes from Google Drive and stays a zip file: ``fers data had100 prepare`` reads it as it is. The ABU
scenes have no address that a program can rely on, so they are fetched by hand from their author's page and given
with ``--archive``. An interrupted download goes on where it stopped; a second call finds the work done. Every
failure ends with exit code 2, says how to go on, and leaves no file under a name that looks finished.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from fers.datasets import had100
from fers.datasets.archive import ArchiveError, check_sum, copy_member, fetch, fetch_published, open_zip, published
from fers.scenes.scene import SceneError, read_scene
from fers.util.commandline import run
from fers.util.files import sha256_of
from fers.util.paths import home

ABU_PAGE = "http://xudongkang.weebly.com/data-sets.html"
ABU_SHA256 = {file.name: file.sha256 for file in published("abu", ABU_PAGE, ABU_PAGE)}
BEACH_4 = "abu-beach-4.mat"  # the sum above is that of a 100x100 cut; the paper's scene is 150x150 and as welcome


def fetch_had100(out: Path, archive: Path | None = None, url: str | None = None) -> Path:
    """Fetch HAD100.zip into a folder, or check the copy ``archive`` where it is; returns the checked file.

    Raises:
        ArchiveError: It could not be fetched, or it is not the published file.
        OSError: A file cannot be read or written.
    """
    known = had100.ARCHIVE
    if archive is not None:
        if not archive.is_file():
            raise ArchiveError(f"{archive}: no such file. Give the HAD100.zip that you fetched.")
        check_sum(archive, known, "Fetch it again.")
        return archive
    final = out / known.name
    by_hand = (
        "Run the same command again to go on from the bytes that have come. To fetch it by hand:\n"
        f"  1. Open {known.url.replace('uc?id=', 'open?id=')} in a browser\n"
        f"     (linked from {known.page}) and save {known.name}, {known.size:,} bytes.\n"
        f"  2. Put it at {final}\n"
        "  3. Run the same command again: it checks the size and the sha256\n"
        f"     {known.sha256}\n"
        f"  4. fers data had100 prepare {final}"
    )
    return fetch_published(known, final, by_hand, url)


def fetch_abu(out: Path, archives: Sequence[Path] = (), url: str | None = None) -> list[str]:
    """Put the ABU scenes into a folder as ``abu-*.mat``, each checked against its sha256.

    ``archives`` were fetched by hand: zip files, folders, or single .mat files; ``url`` is the address of a zip file.

    Returns:
        What a user should know: scenes that are still missing, and a beach-4 that is not the known cut.

    Raises:
        ArchiveError: Nothing was given and scenes are missing, a file is damaged or another, or nothing was found.
            Then the folder is as it was.
        OSError: A file cannot be read or written.
    """
    by_hand = (
        "There is no address from which a program can fetch the ABU scenes. By hand:\n"
        f"  1. Open {ABU_PAGE} in a browser and save the Airport-Beach-Urban data.\n"
        f"  2. fers data download abu --out {out} --archive FILE\n"
        "     FILE is the zip file, a folder, or any number of .mat files; they are checked and copied.\n"
        f"  3. python FERS_ABU/test.py --data_path {out}"
    )

    def missing() -> str:
        names = [name for name in ABU_SHA256 if not (out / name).is_file()]
        return f"{len(names)} of {len(ABU_SHA256)} scenes ({', '.join(names)})" if names else ""

    if not archives and not url:
        notes = [_check_abu(out / name) for name in ABU_SHA256 if (out / name).is_file()]
        if missing():
            raise ArchiveError(f"{out}: {missing()} missing.\n\n{by_hand}")
        return [note for note in notes if note]
    zipped = out / "abu.zip.unchecked"
    if url and not zipped.is_file():
        fetch(url, zipped, by_hand)
    out.mkdir(parents=True, exist_ok=True)
    # beside the final files, so that a rename is all that is left to do
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=out) as staging:
        try:
            found = {p for archive in ([zipped] if url else archives) for p in _gather(archive, Path(staging))}
        finally:
            zipped.unlink(missing_ok=True)  # its scenes are in the staging folder, or it is of no use
        if not found:
            given = url or ", ".join(map(str, archives))
            raise ArchiveError(f"{given}: no ABU scene in it; expected {', '.join(ABU_SHA256)}.\n\n{by_hand}")
        notes = [_check_abu(path) for path in sorted(found)]
        for path in found:  # nothing before every file is known to be right
            path.replace(out / path.name)
    return [note for note in (*notes, missing() and f"{missing()} not there yet.") if note]


def _gather(archive: Path, staging: Path) -> Iterator[Path]:
    """Copy the scenes of a zip file, a folder or a single file to the staging folder, under their own names."""
    if archive.suffix.lower() in (".rar", ".7z", ".gz", ".tar"):
        raise ArchiveError(
            f"{archive}: only zip files are unpacked here. Unpack it and give the folder with --archive."
        )
    if archive.is_dir() or archive.suffix.lower() == ".mat":
        for path in sorted(archive.rglob("abu-*.mat")) if archive.is_dir() else [archive]:
            if path.name in ABU_SHA256 and staging not in path.parents:
                yield Path(shutil.copyfile(path, staging / path.name))
        return
    with open_zip(archive) as zipped:
        for member in zipped.namelist():
            name = PurePosixPath(member).name
            if name in ABU_SHA256:  # wherever in the zip file it is; the folders in it mean nothing here
                copy_member(zipped, member, staging / name)
                yield staging / name


def _check_abu(path: Path) -> str:
    """Raise unless a scene is the published one; a note, else empty, where it is a beach-4 other than the known cut."""
    found, expected = sha256_of(path), ABU_SHA256[path.name]
    if found == expected:
        return ""
    if path.name != BEACH_4:
        raise ArchiveError(
            f"{path.name}: sha256 {found}, expected {expected}: it is damaged or another file. Fetch it again from "
            f"{ABU_PAGE}."
        )
    try:
        height, width, bands = read_scene(path).cube.shape
    except SceneError as error:
        raise ArchiveError(f"{path.name}: it is damaged or another file ({error})") from error
    return (
        f"{path.name} is {height} x {width} px with {bands} bands and not the 100 x 100 cut whose sha256 is known here; "
        "the paper's scene is 150 x 150. It is taken as it is."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="fers data download",
        description="Fetch a dataset and check it. Interrupted, it goes on where it stopped.",
    )
    folders = {"had100": home() / "data", "abu": home() / "data" / "ABU"}
    parser.add_argument("dataset", choices=tuple(folders))
    told = ", ".join(f"{folder} for {name}" for name, folder in folders.items())
    parser.add_argument("--out", type=Path, help=f"folder to write to (default {told})")
    by_hand = "what was fetched by hand: HAD100.zip; for abu a zip file, a folder or .mat files"
    parser.add_argument("--archive", type=Path, nargs="+", default=[], metavar="FILE", help=by_hand)
    parser.add_argument("--url", help="another address of the file (of a zip file for abu); it is checked the same way")
    args = parser.parse_args(arguments)
    out = args.out or folders[args.dataset]
    if args.dataset == "had100" and len(args.archive) > 1:
        parser.error("--archive takes one file for had100")
    if args.archive and args.url:
        parser.error("--archive and --url exclude each other")

    def work() -> None:
        if args.dataset == "had100":
            path = fetch_had100(out, args.archive[0] if args.archive else None, args.url)
            print(f"{path}: complete, {had100.ARCHIVE.size:,} bytes, sha256 as published")
            print(f"Next: fers data had100 prepare {path}")
        else:
            notes = fetch_abu(out, args.archive, args.url)
            there = sum((out / name).is_file() for name in ABU_SHA256)
            print(f"{out}: {there} of {len(ABU_SHA256)} ABU scenes, checked")
            print("".join(f"Note: {note}\n" for note in notes), end="")
            print(f"Next: python FERS_ABU/test.py --data_path {out}")

    return run(work, how_to_resume="run the same command again")
