"""Fetch HAD100, checked against its sha256 before it is used. The other scenes: ``fers data get``.

    fers data download had100 --out data

HAD100.zip comes from Google Drive and stays a zip file: ``fers data had100 prepare`` reads it as it is. An interrupted
download goes on where it stopped; a second call finds the work done. Every failure ends with exit code 2, says how to
go on, and leaves no file under a name that looks finished.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from fers.datasets import had100
from fers.datasets.archive import ArchiveError, check_sum, fetch_published
from fers.util.commandline import run
from fers.util.lock import locked
from fers.util.paths import home


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="fers data download",
        description="Fetch HAD100 and check it. Interrupted, it goes on where it stopped. Other scenes: fers data get",
    )
    parser.add_argument("dataset", choices=("had100", "abu"), help="had100 (abu: use fers data get abu)")
    folder = home() / "data"
    parser.add_argument("--out", type=Path, default=folder, help=f"folder to write to (default {folder})")
    parser.add_argument("--archive", type=Path, metavar="FILE", help="the HAD100.zip that you fetched by hand")
    parser.add_argument("--url", help="another address of the file; it is checked the same way")
    args = parser.parse_args(arguments)
    if args.dataset == "abu":
        parser.error("the ABU scenes have a command of their own: fers data get abu")
    if args.archive and args.url:
        parser.error("--archive and --url exclude each other")

    def work() -> None:
        with nullcontext() if args.archive else locked(args.out):
            path = fetch_had100(args.out, args.archive, args.url)
        print(f"{path}: complete, {had100.ARCHIVE.size:,} bytes, sha256 as published")
        print(f"Next: fers data had100 prepare {path}")

    return run(work, how_to_resume="run the same command again")
