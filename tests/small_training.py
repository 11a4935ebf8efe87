"""A training run small enough for a test: the smallest stage, and the options of the scripts for tiny patches."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from fers.networks import CheckpointInfo
from fers.training.device import make_accelerator
from fers.training.loop import Trainer
from fers.training.options import TrainOptions
from fers.training.resume import RunFolder
from fers.training.stage import Stage

BANDS = 8


class Line(Stage):
    """The smallest stage: a linear map, with dropout, so that random generators matter."""

    checkpoint = "line.safetensors"

    def __init__(self):
        super().__init__(("mse",))
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 1))

    @property
    def branch(self):
        return self.layers

    def loss(self, x: torch.Tensor):
        mse = (self.layers(x) - x.sum(1, keepdim=True)).square().mean()
        return mse, {"mse": mse}


def points(n: int) -> list[torch.Tensor]:
    return list(torch.randn(n, 4, generator=torch.Generator().manual_seed(1)))


def run_line(folder: Path, epochs: int, stage: Stage | None = None, score=None, **changes) -> Stage:
    """Train a Line on 18 points, in steps of four, and five held out."""
    stage = stage or Line()
    run_folder = RunFolder(folder, TrainOptions(epochs=epochs, batch_size=4, **changes))
    info = CheckpointInfo("spe_fen", BANDS, "none", "paper", "random:0", "0" * 64)
    Trainer(stage, run_folder, make_accelerator(device="cpu"), info, score).fit(points(18), points(5))
    return stage


def log(folder: Path) -> list[dict]:
    """The entries of a run's log."""
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def options(background: Path, weights: Path, save_dir: Path, *more: str) -> list[str]:
    """What a training script is given for three epochs on the CPU."""
    fixed = {"--data_path": background, "--checkpoint_dir": weights, "--save_dir": save_dir, "--input_channel": BANDS}
    fixed |= {"--backbone": "random", "--batch_size": 4, "--epochs": 3, "--train_ratio": 0.8}
    return [str(part) for pair in fixed.items() for part in pair] + ["--device", "cpu", *more]
