"""Fetch HAD100 or the ABU scenes, checked against their sha256 before they are used.

    python -m data.download had100 --out data
    python -m data.download abu --out data/ABU --archive ABU.zip

HAD100.zip comes from Google Drive and stays a zip file: ``python -m data.had100 prepare`` reads it as it is. The ABU
scenes have no address that a program can rely on, so they are fetched by hand from their author's page and given
with ``--archive``. An interrupted download goes on where it stopped; a second call finds the work done. Every
failure ends with exit code 2, says how to go on, and leaves no file under a name that looks finished.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import gdown
import requests
from gdown.exceptions import DownloadError

from fers.datasets import had100
from fers.datasets.archive import ArchiveError, Published, check_sum, copy_member, free_bytes, open_zip
from fers.scenes.scene import SceneError, read_scene
from fers.util.commandline import run
from fers.util.files import sha256_of
from fers.util.paths import home

RETRIES = 3  # of a connection that breaks, within one call
TIMEOUT = (15, 60)  # s to connect, s between two blocks
ABU_PAGE = "http://xudongkang.weebly.com/data-sets.html"
ABU_SHA256 = {
    "abu-airport-1.mat": "5de3c0b74593552e21e88ee280d02c4acae60bd48a013d72bd28ef63815485f5",
    "abu-airport-2.mat": "7121476e700001e76191d6ee6bc6f2d5f680c0fe49186b61a57f10fcac7718b9",
    "abu-airport-3.mat": "97b574be2de8c1ae3158b60b4aa34676c59a218398fc096c0dcdf125a6c74495",
    "abu-airport-4.mat": "c10cb987f0a75ad5834da2be35e2cfe740660fd9094521dd6d047de535a2a72b",
    "abu-beach-1.mat": "b1fa88474fbc06f2e654e4452d8f7f98757c199197e2b7fec1977a5c5753fcb0",
    "abu-beach-2.mat": "3ec5f0c5c36b2f98a41f9d9e69946e9f3e6fdbeee0f42b3e402485a4efd9bb80",
    "abu-beach-3.mat": "56622ebe89aa1a37aced4b41286eb0a045677553f637c63f90c8222f1027f576",
    "abu-beach-4.mat": "bd020d4c649141e5aee2e25dae9a96d1ca8a1d180ddf3e32597494cd9c5b4c11",
    "abu-urban-1.mat": "951d8d9c405d7ae200634dfd5244586545c01a561b1028f0e65e09e562523942",
    "abu-urban-2.mat": "ed900cbde844582dd51943f920eac47c3a4e7f4cf3e0ae7612fdfb80b7ee7807",
    "abu-urban-3.mat": "a4e4ef3c512b72510f5852300a5050e9e544f80abb021d79ee04921c2070598b",
    "abu-urban-4.mat": "6d6b81c9688f883a9ca59ff99ebc8053c5be1a14099960c460ba420d8507e676",
    "abu-urban-5.mat": "16a50cfca9d6c4783adfd663e9d1e5e948ddaad950912b58577a604c86eb64c5",
}
BEACH_4 = "abu-beach-4.mat"  # the sum above is that of a 100x100 cut; the paper's scene is 150x150 and as welcome


def fetch(url: str, target: Path, by_hand: str, size: int | None = None) -> None:
    """Fetch a file over HTTP, or from Google Drive, going on from what an earlier call has left.

    Args:
        url: Its address.
        target: The file to write. Until it is whole, its bytes are beside it in ``<name>????????.part``.
        by_hand: What to do without a connection: the end of the message.
        size: Its size in bytes, where that is known.

    Raises:
        ArchiveError: There is no connection, it broke, or the server refused; or there is no room on the disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    parts = {part: part.stat().st_size for part in target.parent.glob(f"{target.name}????????.part")}
    if size is not None:
        # whole, but the call ended before it was renamed: asking for the bytes past its end would only fail
        if whole := next((part for part, length in parts.items() if length >= size), None):
            whole.replace(target)
            return
        missing, free = size - sum(parts.values()), free_bytes(target.parent)
        if missing > free:
            raise ArchiveError(
                f"{target.parent}: {missing:,} bytes are still to come and {free:,} are free on this disk. Free some space, "
                "or choose another folder with --out."
            )
    try:
        gdown.download(url=url, output=str(target), resume=True, retries=RETRIES, timeout=TIMEOUT)
    except (requests.RequestException, DownloadError) as error:
        raise ArchiveError(f"{url} could not be fetched ({' '.join(str(error).split())}).\n\n{by_hand}") from error
    except OSError as error:  # of a full disk, which names no file
        raise OSError(error.errno, error.strerror or str(error), error.filename or str(target)) from error


def fetch_published(published: Published, final: Path, by_hand: str, url: str | None = None) -> Path:
    """Fetch a published file unless it is there. It gets its name when its checksum is right.

    Args:
        published: The file.
        final: Where it is to be.
        by_hand: What to do without a connection: the end of the message.
        url: Another address of the same file.

    Returns:
        ``final``.

    Raises:
        ArchiveError: It could not be fetched, or it is not the published file.
        OSError: A file cannot be read or written.
    """
    if final.is_file():
        check_sum(final, published, "Remove it and run the command again.")
        return final
    unchecked = final.with_name(f"{final.name}.unchecked")
    if not unchecked.is_file():
        fetch(url or published.url, unchecked, by_hand, published.size)
    try:
        check_sum(unchecked, published, "It was removed; run the command again.")
    except ArchiveError:
        unchecked.unlink()
        raise
    unchecked.replace(final)
    return final


def fetch_had100(out: Path, archive: Path | None = None, url: str | None = None) -> Path:
    """Fetch HAD100.zip into a folder, or check the copy ``archive`` where it is; returns the checked file.

    Raises:
        ArchiveError: It could not be fetched, or it is not the published file.
        OSError: A file cannot be read or written.
    """
    if archive is None:
        final = out / had100.ARCHIVE.name
        return fetch_published(had100.ARCHIVE, final, _had100_by_hand(final), url)
    if not archive.is_file():
        raise ArchiveError(f"{archive}: no such file. Give the HAD100.zip that you fetched.")
    check_sum(archive, had100.ARCHIVE, "Fetch it again.")
    return archive


def _had100_by_hand(final: Path) -> str:
    return (
        "Run the same command again to go on from the bytes that have come. To fetch it by hand:\n"
        f"  1. Open {had100.ARCHIVE.url.replace('uc?id=', 'open?id=')} in a browser\n"
        f"     (linked from {had100.ARCHIVE.page}) and save {had100.ARCHIVE.name}, {had100.ARCHIVE.size:,} bytes.\n"
        f"  2. Put it at {final}\n"
        "  3. Run the same command again: it checks the size and the sha256\n"
        f"     {had100.ARCHIVE.sha256}\n"
        f"  4. python -m data.had100 prepare {final}"
    )


def fetch_abu(out: Path, archives: Sequence[Path] = (), url: str | None = None) -> list[str]:
    """Put the ABU scenes into a folder, each checked against its sha256.

    Args:
        out: Folder for ``abu-*.mat``.
        archives: What was fetched by hand: zip files, folders, or single .mat files.
        url: The address of a zip file with the scenes.

    Returns:
        What a user should know: scenes that are still missing, and a beach-4 that is not the known cut.

    Raises:
        ArchiveError: Nothing was given and scenes are missing, a file is damaged or another, or nothing was found.
            Then the folder is as it was.
        OSError: A file cannot be read or written.
    """
    if not archives and not url:
        notes = [note for name in ABU_SHA256 if (out / name).is_file() and (note := _check_abu(out / name))]
        if missing := _missing(out):
            raise ArchiveError(f"{out}: {missing} missing.\n\n{_abu_by_hand(out)}")
        return notes
    zipped = out / "abu.zip.unchecked"
    if url and not zipped.is_file():
        fetch(url, zipped, _abu_by_hand(out))
    out.mkdir(parents=True, exist_ok=True)
    # beside the final files, so that a rename is all that is left to do
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=out) as staging:
        try:
            found = {p for archive in ([zipped] if url else archives) for p in _gather(archive, Path(staging))}
        finally:
            zipped.unlink(missing_ok=True)  # its scenes are in the staging folder, or it is of no use
        if not found:
            given = url or ", ".join(map(str, archives))
            raise ArchiveError(f"{given}: no ABU scene in it; expected {', '.join(ABU_SHA256)}.\n\n{_abu_by_hand(out)}")
        notes = [note for path in sorted(found) if (note := _check_abu(path))]
        for path in found:  # nothing before every file is known to be right
            path.replace(out / path.name)
    return notes + ([f"{missing} not there yet."] if (missing := _missing(out)) else [])


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


def _check_abu(path: Path) -> str | None:
    """Raise unless a scene is the published one; a note where it is a beach-4 other than the known cut."""
    found, expected = sha256_of(path), ABU_SHA256[path.name]
    if found == expected:
        return None
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


def _missing(out: Path) -> str:
    names = [name for name in ABU_SHA256 if not (out / name).is_file()]
    return f"{len(names)} of {len(ABU_SHA256)} scenes ({', '.join(names)})" if names else ""


def _abu_by_hand(out: Path) -> str:
    return (
        "There is no address from which a program can fetch the ABU scenes. By hand:\n"
        f"  1. Open {ABU_PAGE} in a browser and save the Airport-Beach-Urban data.\n"
        f"  2. python -m data.download abu --out {out} --archive FILE\n"
        "     FILE is the zip file, a folder, or any number of .mat files; they are checked and copied.\n"
        f"  3. python FERS_ABU/test.py --data_path {out}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data.download",
        description="Fetch a dataset and check it. Interrupted, it goes on where it stopped.",
    )
    folders = {"had100": home() / "data", "abu": home() / "data" / "ABU"}
    parser.add_argument("dataset", choices=tuple(folders))
    told = ", ".join(f"{folder} for {name}" for name, folder in folders.items())
    parser.add_argument("--out", type=Path, help=f"folder to write to (default {told})")
    parser.add_argument(
        "--archive",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="what was fetched by hand: HAD100.zip; for abu a zip file, a folder or .mat files",
    )
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
            print(f"Next: python -m data.had100 prepare {path}")
        else:
            notes = fetch_abu(out, args.archive, args.url)
            there = sum((out / name).is_file() for name in ABU_SHA256)
            print(f"{out}: {there} of {len(ABU_SHA256)} ABU scenes, checked")
            print("".join(f"Note: {note}\n" for note in notes), end="")
            print(f"Next: python FERS_ABU/test.py --data_path {out}")

    return run(work, how_to_resume="run the same command again")


if __name__ == "__main__":
    sys.exit(main())
