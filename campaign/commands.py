"""The commands of the campaign on small inputs: write what they need, run them, read what they found."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from safetensors.torch import load_file

import fers.comparison.command
import fers.datasets.had100.prepare
import fers.detection.command
import reproduce
import train_FERD.train
import train_FERS.train
from fers.datasets import archive
from fers.datasets.archive import Published, fetch_published
from fers.datasets.synthetic import benchmark as synthetic
from fers.evaluation import command
from fers.networks import CheckpointInfo, SpeFEN, save_checkpoint
from fers.networks.backbones import backbone_state, state_hash
from fers.util.commandline import run
from fers.util.lock import locked
from tests import fake_had100
from tests.conftest import run_had100
from tests.file_server import FileServer

PLAIN = ("--features", "original")
SCENES = tuple(f"s{i}" for i in range(5))


def tree(folder: Path) -> dict[str, str]:
    """Map every file below a folder to its sha256."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def table_rows(paths: Iterable[Path], *times: str) -> dict[str, list]:
    """Read tables without the columns and rows that hold times."""
    found = {}
    for path in sorted(paths):
        with path.open(newline="") as file:
            rows = [{k: v for k, v in row.items() if k not in times} for row in csv.DictReader(file)]
        found[path.name] = [row for row in rows if not {*row.values()} & {*times}]
    return found


# ----- test.py


def test_had100(folder: Path, *arguments: str) -> int:
    """Run test.py on a folder's dataset; return the exit code."""
    return run_had100(folder / "data", folder / "out", *PLAIN, *arguments)


def results_of(folder: Path) -> dict:
    """Read a run's results, without times."""
    results = json.loads((folder / "out" / "results.json").read_text())
    scenes = {name: {k: v for k, v in s.items() if k != "seconds"} for name, s in results["scenes"].items()}
    maps = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "out" / "scores").iterdir()}
    return {"complete": results["complete"], "scenes": scenes, "mean": results["mean_auc"], "maps": maps}


def results_and_maps(folder: Path) -> object:
    """Read a run's results, and which maps it drew."""
    return results_of(folder), sorted(path.name for path in (folder / "out" / "maps").iterdir())


def write_abu(folder: Path, name: str, version: str) -> None:
    """Write a scene as ABU has it, in a MATLAB file of a version."""
    (folder / "data").mkdir()
    cube = np.random.RandomState(0).uniform(size=(14, 12, 6)).astype(np.float32)
    truth = np.eye(14, 12, dtype=np.uint8)
    path = folder / "data" / name
    if version == "7.3":
        with h5py.File(path, "w", userblock_size=512) as file:
            file.create_dataset("data", data=cube.T, compression="gzip", chunks=(2, 6, 7))
            file["map"] = truth.T
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    else:
        scipy.io.savemat(path, {"data": cube, "map": truth}, do_compression=True)


def test_abu(folder: Path) -> int:
    """Run FERS_ABU's test script; return the exit code."""
    fixed = ["--data_path", str(folder / "data"), "--save_dir", str(folder / "out"), "--input_channel", "6"]
    return command.test_benchmark("ABU", "", [*fixed, *PLAIN, "--no_maps", "--scenes", "all"])


# ----- detect.py


def detect(folder: Path, *more: str, scene: Path | None = None, out: Path | None = None) -> int:
    """Run detect.py on a scene, by default that of the folder; return the exit code."""
    scene = scene or min((folder / "in").glob("scene*"))
    fixed = ["--out", str(out or folder / "out"), "--quiet", "--workers", "1", "--device", "cpu"]
    return fers.detection.command.main([str(scene), *fixed, *more])


def write_scene(folder: Path, suffix: str = "npy", side: int = 40, seed: int = 0) -> None:
    """Write a scene for detect.py, with four objects: an array, or ENVI."""
    (folder / "in").mkdir(parents=True, exist_ok=True)
    cube = np.random.RandomState(seed).uniform(size=(side, side, 12)).astype(np.float32)
    for row, column in OBJECTS:
        cube[row, column, ::2] += 3
    if suffix == "npy":
        np.save(folder / "in" / "scene.npy", cube)
    else:
        lines = {"samples": side, "lines": side, "bands": 12, "data type": 4, "interleave": "bip", "byte order": 0}
        lines |= {"header offset": 0, "wavelength": "{" + ", ".join(map(str, range(400, 520, 10))) + "}"}
        lines |= {"fwhm": "{" + ", ".join(["10"] * 12) + "}", "data ignore value": -9999, "reflectance scale factor": 1}
        lines |= {"bbl": "{" + ", ".join(["1"] * 12) + "}"}
        header = "".join(f"{key} = {value}\n" for key, value in lines.items())
        (folder / "in" / "scene.hdr").write_text(
            f"ENVI\n{header}map info = {{UTM, 1, 1, 5e5, 4e6, 5, 5, 11, North, WGS-84}}\n"
        )
        cube.tofile(folder / "in" / "scene.img")


OBJECTS = ((5, 7), (30, 12), (17, 33), (22, 3))


def detected(folder: Path) -> dict[str, str]:
    """Hash what detect.py wrote, except for files that hold times."""
    return {name: digest for name, digest in tree(folder / "out").items() if not name.endswith((".html", "run.json"))}


# ----- fers compare, reproduce.py


def compare(folder: Path) -> int:
    """Compare two detectors; return the exit code."""
    given = [
        "--scenes",
        str(folder / "data"),
        "--detect",
        "RX,LRX",
        "--option",
        "LRX.inner=3",
        "--option",
        "LRX.outer=7",
    ]
    return fers.comparison.command.main([*given, "--save_dir", str(folder / "out"), "--device", "cpu"])


def compared(folder: Path) -> object:
    """Read the tables of a comparison."""
    return table_rows((folder / "out").glob("*.csv"), "seconds", "cpu_seconds", "peak_mb", "note")


def reproduce_table(folder: Path) -> int:
    """Make two rows of Table I; return the exit code."""
    fixed = ["--data", str(folder / "data"), "--out", str(folder / "out"), "--bands", "10", "--device", "cpu"]
    return reproduce.main(["table1", *fixed, "--option", "AE.iterations=2", "--rows", "RX,AE"])


def reproduced(folder: Path) -> object:
    """Read the tables of a reproduction."""
    return table_rows((folder / "out").rglob("tables/*.csv"), "seconds", "time")


# ----- training


def patches(folder: Path, scenes: int = 4, side: int = 16) -> Path:
    """Write a background dataset of ten bands, two patches a scene."""
    place = folder / "train" / "aviris_ng"
    place.mkdir(parents=True)
    rng = np.random.RandomState(0)
    for scene in range(scenes):
        for crop in (1, 2):
            np.save(place / f"s{scene}_{crop}.npy", rng.uniform(size=(side, side, 10)).astype(np.float32))
    return folder


def checkpoint(folder: Path) -> Path:
    """Write a Spe-FEN for ten bands on random frozen layers; return its path."""
    sha256 = state_hash(backbone_state(SpeFEN.ARCHITECTURE, SpeFEN.FROZEN, "random"))
    info = CheckpointInfo("spe_fen", 10, "aviris_ng", "paper", "random:0", sha256, metrics={"train_loss": 0.5})
    return save_checkpoint(SpeFEN(10, "random"), folder / "weights" / "spe_fen.safetensors", info)


def teacher(folder: Path) -> None:
    """Write what Stage 2 needs."""
    patches(folder / "data", scenes=6)
    checkpoint(folder / "out")


def train(stage: int, folder: Path, *more: str) -> int:
    """Run a stage for two epochs; return the exit code."""
    fixed: dict[str, object] = {"--data_path": folder / "data", "--save_dir": folder / "out"}
    fixed |= {"--checkpoint_dir": folder / "out" / "weights"}
    fixed |= {"--input_channel": 10, "--backbone": "random", "--batch_size": 4, "--epochs": 2, "--train_ratio": 0.8}
    given = [str(part) for pair in fixed.items() for part in pair] + ["--device", "cpu", *more]
    return (train_FERD, train_FERS)[stage - 1].train.main(given)


def trained(folder: Path) -> object:
    """Read weights and log of a stage."""
    weights = {path.name: load_file(path) for path in (folder / "out" / "weights").iterdir()}
    sums = {
        name: {k: hashlib.sha256(v.numpy().tobytes()).hexdigest() for k, v in w.items()} for name, w in weights.items()
    }
    logs = [json.loads(line) for path in (folder / "out").rglob("log.jsonl") for line in path.read_text().splitlines()]
    left = [path.name for path in (folder / "out").rglob("last.pt")]
    return sums, [{k: v for k, v in entry.items() if "second" not in k} for entry in logs], left


# ----- datasets


def make_synthetic(folder: Path, n_train: int = 3, n_test: int = 2) -> int:
    """Make a small synthetic dataset in ``out``; return the exit code."""
    return synthetic.main([str(folder / "out"), "--train", str(n_train), "--test", str(n_test), "--size", "32"])


def write_archive(folder: Path) -> None:
    """Write a small archive in HAD100.zip's structure."""
    folder.mkdir(parents=True, exist_ok=True)
    fake_had100.write(folder / "HAD100.zip", fake_had100.scenes(1, 1, 1, 64))


def prepare(folder: Path) -> int:
    """Prepare the small archive of a folder; return the exit code."""
    given = ["prepare", str(folder / "HAD100.zip"), "--out", str(folder / "out"), "--any_archive", "--workers", "1"]
    return fers.datasets.had100.prepare.main(given)


def written(folder: Path) -> object:
    """Hash what was written to ``out``."""
    return tree(folder / "out")


def write_large(folder: Path) -> None:
    """Write a file that takes a while to fetch."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "large.bin").write_bytes(np.random.RandomState(0).bytes(64 << 20))


def download(folder: Path) -> int:
    """Fetch that file from a server on this machine, as ``fers data get`` does; return the exit code."""

    def work() -> None:
        os.environ["NO_PROXY"], archive.RETRIES = "127.0.0.1", 0
        server, content = FileServer(), (folder / "large.bin").read_bytes()
        server.files["/large.bin"] = content
        known = Published("large.bin", f"{server.url}/large.bin", "", len(content), hashlib.sha256(content).hexdigest())
        with locked(folder / "out"):
            fetch_published(known, folder / "out" / "large.bin", "")

    return run(work)
