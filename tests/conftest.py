"""Fixtures and helpers that several files of tests share."""

from __future__ import annotations

import importlib.util
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fers.detectors import DETECTORS
from fers.detectors.base import product
from fers.networks import CheckpointInfo, SpaFEN, SpeFEN, save_checkpoint
from fers.networks.backbones import backbone_state, state_hash
from fers.scoring.settings import SETTINGS

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

torch.set_num_threads(1)  # each core has a process of its own

WITHOUT_WEIGHTS = [name for name, row in DETECTORS.items() if not row.network]
QUICK = {  # options of the slow detectors: what they promise shows after a few steps
    "AE": {"iterations": "5"},
    "Auto-AD": {"iterations": "3"},
    "KRX": {"samples": "200", "rtol": "1e-3"},
    "KIFD": {"trees": "20", "components": "20", "samples": "200"},
    "LRASR-K15": {"clusters": "3"},
    **{name: {"epochs": "3"} for name in ("LREN", "GAED", "RGAE")},
    **{name: {"epochs": "1"} for name in ("GT-HAD", "PDBSNet")},
}

# by its path: "test" is also the name of a package of Python's own
_specification = importlib.util.spec_from_file_location("had100_script", ROOT / "test.py")
_had100_script = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(_had100_script)


def shared_file(name: str) -> Path:
    """Path of a file of the reference data. Skips the test where that data is not installed."""
    if not SHARED.is_dir():
        pytest.skip(f"the reference data ({SHARED}) is not on this machine")
    return SHARED / name


@pytest.fixture
def golden():
    """Load one of the golden files as a dict of arrays."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(shared_file(f"golden/{name}.npz")) as archive:
            return {key: archive[key] for key in archive.files}

    return load


def write_had100(folder, names=("a", "b"), sensor="aviris_ng", shape=(12, 11, 6)) -> Path:
    """Write a dataset in HAD100's layout: noise, with the anomalous pixel (i, i) in scene i."""
    (folder / "test" / sensor).mkdir(parents=True)
    (folder / "ground_truth" / sensor).mkdir(parents=True)
    for index, name in enumerate(names):
        rng = np.random.RandomState(index)
        np.save(folder / "test" / sensor / f"{name}.npy", rng.uniform(size=shape).astype(np.float32))
        truth = np.zeros((*shape[:2], 3), np.uint8)
        truth[index % shape[0], index % shape[1]] = (0, 255, 0)
        Image.fromarray(truth).save(folder / "ground_truth" / sensor / f"{name}.png")
    return folder


@pytest.fixture
def dataset(tmp_path) -> Path:
    return write_had100(tmp_path / "data", names=("a", "b", "c"), shape=(20, 24, 30))


def write_checkpoints(folder: Path) -> Path:
    """Write checkpoints of both branches for ten bands, on random frozen layers."""
    spe_fen, spa_fen = SpeFEN(10, "random"), SpaFEN(10, "random")
    for branch, network, teacher in (("spe_fen", spe_fen, ""), ("spa_fen", spa_fen, spe_fen.fingerprint())):
        sha256 = state_hash(backbone_state(network.ARCHITECTURE, network.FROZEN, "random"))
        info = CheckpointInfo(branch, 10, "aviris_ng", "paper", "random", sha256, teacher=teacher)
        save_checkpoint(network, folder / f"{branch}.safetensors", info)
    return folder


@pytest.fixture
def checkpoints(tmp_path) -> Path:
    return write_checkpoints(tmp_path / "checkpoints")


@pytest.fixture
def background(tmp_path) -> Path:
    """Twelve patches of six scenes in HAD100's layout."""
    folder = tmp_path / "data" / "train" / "aviris_ng"
    folder.mkdir(parents=True)
    rng = np.random.RandomState(0)
    for scene in range(6):
        for crop in (1, 2):
            np.save(folder / f"scene{scene}_{crop}.npy", rng.uniform(size=(16, 16, 10)).astype(np.float32))
    return tmp_path / "data"


@pytest.fixture
def teacher(tmp_path) -> Path:
    """A checkpoint folder with an untrained Spe-FEN for eight bands."""
    sha256 = state_hash(backbone_state(SpeFEN.ARCHITECTURE, SpeFEN.FROZEN, "random"))
    info = CheckpointInfo("spe_fen", 8, "aviris_ng", "paper", "random:0", sha256)
    save_checkpoint(SpeFEN(8, "random"), tmp_path / "weights" / "spe_fen.safetensors", info)
    return tmp_path / "weights"


def run_had100(dataset: Path, save_dir: Path | None, *arguments: str) -> int:
    """Run test.py on ten bands of a small dataset; return the exit code."""
    fixed = ["--data_path", str(dataset), "--input_channel", "10"]
    return _had100_script.main([*fixed, *([] if save_dir is None else ["--save_dir", str(save_dir)]), *arguments])


def joined(detector, name: str, h: torch.Tensor, f_spe: torch.Tensor, f_spa: torch.Tensor) -> torch.Tensor:
    """The score map of a setting by product, from H and its features: what the pipeline does after the networks."""
    parts = {"h": h, "f_spe": f_spe, "f_spa": f_spa}
    return product([detector(reduce(torch.add, [parts[part] for part in cube])) for cube in SETTINGS[name].cubes])
