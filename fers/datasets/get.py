"""Fetch the labelled scenes that papers use, each checked by its checksum.

    fers data get abu
    fers data get san-diego hydice
    fers data get open            every scene that the catalogue has an address of

ABU's scenes go to data/ABU, the others to data/scenes. The copies are in repositories of others (``fers data list``).
An interrupted call goes on where it stopped, and a second one checks what is there. A file that you fetched by hand is
checked too, once it is in its place. No file has its name before it is known to be right.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from fers.datasets.archive import ArchiveError, NoConnection, check_sum, fetch_published
from fers.datasets.catalogue import CATALOGUE, CatalogueScene
from fers.util.commandline import run
from fers.util.errors import FersError, did_you_mean
from fers.util.lock import locked

OPEN = "open"  # every scene with an address


def chosen(names: Sequence[str]) -> list[CatalogueScene]:
    """Look up scenes by their own names, by their data set's, or ``open`` for all that have an address.

    Raises:
        FersError: A name is unknown, or no address of its scene is known.
    """
    found: dict[str, CatalogueScene] = {}
    for name in names:
        asked = name.lower().removeprefix("abu-")
        if asked in CATALOGUE and not CATALOGUE[asked].copies:
            raise FersError(f"{name}: no address of this scene is known. {CATALOGUE[asked].note.capitalize()}.")
        open_scenes = [s for s in CATALOGUE.values() if s.copies]
        scenes = [s for s in open_scenes if s.name == asked or asked in (s.dataset, OPEN)]
        if not scenes:
            known = [*dict.fromkeys(s.dataset for s in CATALOGUE.values() if s.dataset), OPEN]
            raise FersError(
                f"{name}: no such scene.{did_you_mean(asked, [*known, *CATALOGUE])} Choose from {', '.join(known)}, or "
                "from the names that fers data list shows. HAD100: fers data download had100"
            )
        found |= {scene.name: scene for scene in scenes}
    return list(found.values())


def get_scene(scene: CatalogueScene, final: Path) -> None:
    """Fetch a scene to ``final`` from the first of its addresses that has it, or check the file there.

    Raises:
        NoConnection: No server answered.
        ArchiveError: What came, or what is there, is not the scene's file.
        OSError: A file cannot be read or written.
    """
    kind = f"sha256 {scene.sha256}" if scene.sha256 else f"git blob id {scene.git_blob}"
    by_hand = (
        "Run the same command again to go on. To fetch it by hand:\n"
        + "".join(f"  {'or' if number else '1.'} open {copy.page}\n" for number, copy in enumerate(scene.published))
        + f"  2. Download the file and put it at {final}\n"
        f"  3. Run the same command again: it checks the {kind}"
    )
    if final.is_file():
        check_sum(final, scene.published[0], "Move it away and run the command again.")
        return
    failed: list[ArchiveError] = []
    for copy in scene.published:
        try:
            fetch_published(copy, final, "")
            return
        except ArchiveError as error:
            failed.append(error)
    offline = all(isinstance(error, NoConnection) for error in failed)
    told = "\n".join(map(str, failed))
    raise (NoConnection if offline else ArchiveError)(f"{scene.name}: {told}\n\n{by_hand}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="fers data get", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="scenes or sets of scenes (see fers data list), or open"
    )
    parser.add_argument("--out", type=Path, help="folder to write all of them to (default: as above)")
    args = parser.parse_args(arguments)

    def work() -> None:
        folders: dict[Path, list[CatalogueScene]] = defaultdict(list)
        for scene in chosen(args.names):
            folders[args.out or scene.path.parent].append(scene)
        failed: list[ArchiveError] = []
        for folder, scenes in folders.items():
            there = []
            with locked(folder):
                for scene in scenes:
                    try:
                        get_scene(scene, folder / scene.path.name)
                        there.append(scene)
                    except NoConnection:  # the others cannot be fetched either
                        raise
                    except ArchiveError as error:
                        failed.append(error)
            print(f"{folder}: {len(there)} of {len(scenes)} scenes, checked")
            _tell(there)
        if failed:
            raise ArchiveError("\n\n".join(map(str, failed)))
        print("".join(f"Next: fers compare --scenes {folder}\n" for folder in folders), end="")

    return run(work, how_to_resume="run the same command again")


def _tell(scenes: list[CatalogueScene]) -> None:
    """Print where scenes come from, and whom to cite."""
    for source in dict.fromkeys(scene.published[0].page.partition("/blob/")[0] for scene in scenes):
        print(f"  Source: {source}, a copy made by others. No licence is stated there.")
    for cite in dict.fromkeys(scene.cite for scene in scenes):
        print(f"  Cite: {cite or 'the source above; who published the scene first is not known here'}")


def show(arguments: Sequence[str] | None = None) -> int:
    """Run ``fers data list``; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="fers data list", description="Show the labelled scenes that are known, and which of them are here."
    )
    parser.parse_args(arguments)

    def work() -> None:
        rows = [("name", "set", "rows x columns x bands", "anomalous px", "objects", "sensor", "place", "here", "note")]
        for s in CATALOGUE.values():
            size = f"{s.height} x {s.width} x {s.bands}" if s.height else ""
            counts = (str(s.anomalies or ""), str(s.objects or ""))
            here = "yes" if s.path.is_file() else ""
            rows.append((s.name, s.dataset, size, *counts, s.sensor, s.place, here, s.note))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        print("\nAn empty cell is not known. To fetch: fers data get NAME. HAD100: fers data download had100")

    return run(work)
