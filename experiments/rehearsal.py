"""Rehearse the paper's commands on a stand-in for HAD100, from the archive to the tables, and say what they take.

    python -m experiments.rehearsal /disk/rehearsal                              as large as HAD100: 5 GB of archive, 6 GB unpacked
    python -m experiments.rehearsal /disk/rehearsal --background 4 --targets 3 --bands 50    some minutes

Every step is a documented command, in a process of its own. ``FOLDER/rehearsal.csv`` says of each: wall and CPU seconds,
peak memory, and what it added to the disk. A step that the file has is not run again. The first that fails ends it.

Trainings are one epoch of ``--patches`` patches: all of them would take days without a GPU. Nothing measured on made-up
cubes says anything about HAD100's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd

from experiments.processes import run_python
from fers.datasets.had100 import GROUPS
from fers.util.commandline import natural, positive, run
from fers.util.files import atomic_path, visible
from fers.util.machine import processor

TABLES = {  # target: a few of its rows
    "table1": "RX,FERD,FERS",
    "table3": "spectral,spatial,fusion A, equations,fusion B",
    "table4": "L_Z",
    "table5": "L_recon",
}


@dataclass(frozen=True)
class Rehearsal:
    """The folder of a rehearsal, and its size."""

    folder: Path
    background: int
    targets: int
    patches: int
    bands: tuple[int, ...]
    batch: int
    masks: Path | None
    workers: int

    @property
    def archive(self) -> Path:
        """The stand-in for HAD100.zip."""
        return self.folder / "standin.zip"

    @property
    def data(self) -> Path:
        """The data set that prepare makes of it."""
        return self.folder / "HAD100Dataset"

    @property
    def few(self) -> Path:
        """The same with few training patches."""
        return self.folder / f"few{self.patches}"

    def commands(self) -> Iterator[tuple[str, list[object]]]:
        """Name each step, and give its command as Python takes it."""
        size = ["--background", self.background, "--targets", self.targets]
        masks = ["--masks", self.masks] if self.masks else []
        yield "stand-in", ["-m", "experiments.standin", self.archive, *size, *masks]
        prepare = ["-m", "data.had100", "prepare"]
        more = ["--out", self.data, "--any_archive", "--workers", self.workers]
        yield "prepare", [*prepare, self.archive, *more]
        yield "verify", [*prepare, "--verify", *more]
        yield "verify against the archive", [*prepare, self.archive, "--verify", *more]
        scene = next(iter(visible(self.data / "test" / "aviris_ng", "*.npy")), "")
        truth = self.data / "ground_truth" / "aviris_ng" / f"{Path(scene).stem}.png"
        own = ["--size", 32, "--stride", 16, "--out", self.folder / "own"]
        yield "patches of a scene", ["-m", "data.patches", scene, "--mask", truth, *own]
        short = ["--epochs", 1, "--batch_size", self.batch, "--backbone", "random"]
        for c in self.bands:
            weights = ["--checkpoint_dir", self.folder / f"weights{c}"]
            data = ["--data_path", self.few, "--input_channel", c, "--save_dir", self.folder / f"runs{c}"]
            yield f"train both stages, {c} bands", ["train.py", "--stage", "all", *data, *weights, *short]
            for fusion in "AB":
                data = ["--data_path", self.data, "--input_channel", c, "--save_dir", self.folder / f"test{fusion}{c}"]
                test = ["test.py", *data, *weights, "--fusion", fusion, "--maps", "none"]
                yield f"test fusion {fusion}, {c} bands", test
        for name, rows in TABLES.items():
            data = ["--data", self.few, "--bands", self.bands[0], "--out", self.folder / "reproduce"]
            yield name, ["reproduce.py", name, *data, "--rows", rows, *short, "--device", "cpu"]

    def link_few(self) -> None:
        """Link the test scenes and the first training patches to a data set of their own."""
        for kind in ("test", "ground_truth", "train"):
            for path in visible(self.data / kind / "aviris_ng", "*")[: self.patches if kind == "train" else None]:
                link = self.few / path.relative_to(self.data)
                link.parent.mkdir(parents=True, exist_ok=True)
                if path.is_file() and not link.exists():
                    link.symlink_to(path.resolve())
        manifest = self.few / "manifest.json"  # its scenes are those of another archive than the published one
        if not manifest.exists():
            manifest.symlink_to((self.data / "manifest.json").resolve())


def rehearse(one: Rehearsal) -> Path:
    """Run the steps that ``rehearsal.csv`` lacks; return its path.

    Raises:
        FersError: A step failed.
    """
    one.folder.mkdir(parents=True, exist_ok=True)
    path = one.folder / "rehearsal.csv"
    rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
    for name, command in one.commands():
        if name in {row["step"] for row in rows}:
            continue
        if name.startswith("train"):
            one.link_few()
        print(f"{name}: python {' '.join(map(str, command))}", flush=True)
        measured = _measured(command, one.folder)
        about = {"machine": processor(), "date": datetime.now(timezone.utc).date().isoformat()}
        size = {"background": one.background, "targets": one.targets, "patches": one.patches, "batch": one.batch}
        told = " ".join(map(str, command)).replace(str(one.folder), "FOLDER").replace(str(one.masks), "MASKS")
        rows.append({"step": name, **measured, **size, **about, "command": told})
        with atomic_path(path) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n")
    return path


def _measured(command: list[object], folder: Path) -> dict[str, float]:
    """Run a command; wall and CPU seconds, peak memory and growth of the folder."""
    before = _bytes(folder)
    spent = run_python(command)
    return {
        "wall_s": round(spent.wall_s, 1),
        "cpu_s": round(spent.cpu_s, 1),
        "peak_mb": round(spent.peak_mb),
        "disk_mb": round((_bytes(folder) - before) / 1e6, 1),
    }


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m experiments.rehearsal", description=__doc__, formatter_class=raw)
    parser.add_argument("folder", type=Path, help="folder to write to")
    most = GROUPS["train/aviris"].scenes
    background = f"background scenes of each sensor (default: {most}, as in the archive)"
    parser.add_argument("--background", type=positive, default=most, help=background)
    targets = GROUPS["test/aviris_ng"].scenes
    parser.add_argument("--targets", type=positive, default=targets, help=f"scenes with anomalies (default: {targets})")
    parser.add_argument("--patches", type=natural, default=16, help="patches to train on (default: %(default)s)")
    parser.add_argument("--batch_size", type=positive, default=4, help="patches in a step (default: %(default)s)")
    bands = "numbers of bands (default: 50 100 200)"
    parser.add_argument("--bands", type=positive, nargs="+", default=[50, 100, 200], help=bands)
    parser.add_argument("--masks", type=Path, help=".npz with the published truths: names, masks")
    parser.add_argument("--workers", type=positive, default=2, help="scenes that are unpacked at a time (default: 2)")
    given = vars(parser.parse_args(arguments))
    folder, batch, numbers = given.pop("folder").resolve(), given.pop("batch_size"), tuple(given.pop("bands"))

    def work() -> None:
        path = rehearse(Rehearsal(folder, batch=batch, bands=numbers, **given))
        print(pd.read_csv(path)[["step", "wall_s", "cpu_s", "peak_mb", "disk_mb"]].to_string(index=False))
        print(f"wrote {path}")

    return run(work, how_to_resume="run the same command again")


if __name__ == "__main__":
    sys.exit(main())
