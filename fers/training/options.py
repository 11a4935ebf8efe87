"""Options of a training script, each defined once as a field."""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fers.datasets.patches import NODATA_CHOICES
from fers.training.recipe import RECIPES
from fers.util.commandline import add_device_options, list_of, natural, positive
from fers.util.errors import FersError
from fers.util.options import add_options, option
from fers.util.paths import home

MIXED_PRECISION = {"fp32": "no", "tf32": "no", "bf16": "bf16", "fp16": "fp16"}  # --precision: Accelerate's word for it
_OLD_TERMS = {"zcl": "z"}  # loss names of earlier versions


class TrainingError(FersError):
    """Training that cannot start or go on. The message says where, why, and what to do."""


def loss_option(*terms: str) -> Any:
    """Make the field of ``--losses``: the terms in force, by default all ``terms`` of the script."""
    parse = list_of(terms)

    def read(text: str) -> tuple[str, ...]:
        return parse(",".join(_OLD_TERMS.get(name.strip(), name) for name in text.split(",")))

    return option(terms, f"terms to train with (default: {','.join(terms)})", type=read, group="method")


@dataclass(frozen=True)
class TrainOptions:
    """Options that every training script has; a script with more derives a class.

    Raises:
        TrainingError: A value is out of its range, or ``resume`` and ``overwrite`` are both set.
    """

    data_path: Path = option(
        home() / "data" / "HAD100Dataset",
        "folder with train/<sensor>/*.npy (default: data/HAD100Dataset)",
        type=Path,
        group="data",
    )
    sensor: str = option("aviris_ng", "sensor of data and checkpoint", group="data")
    input_channel: int = option(50, "bands given to the networks", type=positive, group="data")
    start_band: int = option(0, "the first of these bands", type=natural, names=("--start_channel_id",), group="data")
    train_ratio: float = option(
        1.0, "share of the source scenes to train on; the loss on the others is logged", type=float, group="data"
    )
    nodata: str = option(
        "mask",
        "patches that hold pixels without data: mask leaves these patches out, keep uses them (as released), or refuse",
        choices=NODATA_CHOICES,
        group="data",
    )

    recipe: str = option(
        "paper", "settings of the paper or of the released code", choices=tuple(RECIPES), group="method"
    )
    losses: tuple[str, ...] = ()  # each script has its own, by loss_option
    backbone: str = option("imagenet", "frozen layers: imagenet, random[:SEED], a file or a folder", group="method")
    seed: int = option(0, "seed of weights, order and held-out scenes", type=natural, group="method")

    epochs: int = option(60, "passes over the training patches", type=positive, group="training")
    batch_size: int = option(16, "patches in a step, over all processes together", type=positive, group="training")
    lr: float = option(0.005, "Adam's learning rate, constant", type=float, group="training")
    select: str = option(
        "last",
        "epoch to keep; test-auc repeats the published protocol, which looks at the test set, and is marked",
        choices=("last", "test-auc"),
        group="training",
    )
    test_path: Path | None = option(
        None,
        "test scenes of test-auc: HAD100's layout or abu-*.mat (default: --data_path)",
        type=Path,
        group="training",
    )

    checkpoint_dir: Path | None = option(
        None,
        "folder for the weights (default: checkpoints/<sensor>_<input_channel>)",
        type=Path,
        names=("--save_model",),
        group="run",
    )
    save_dir: Path | None = option(
        None,
        "folder for log and resume file, in stage1/ or stage2/ (default: runs/<sensor>_<input_channel>_<recipe>_seed<seed>)",
        type=Path,
        group="run",
    )
    resume: bool = option(False, "go on with the run in --save_dir after its last whole epoch", group="run")
    overwrite: bool = option(False, "start again over a run in --save_dir and over its checkpoint", group="run")
    precision: str = option(
        "fp32", "precision of the networks; losses are fp32", choices=tuple(MIXED_PRECISION), group="run"
    )
    workers: int | None = option(
        None, "processes that read patches (default: 0; 4 with a GPU)", type=natural, group="run"
    )

    def __post_init__(self) -> None:
        if self.resume and self.overwrite:
            raise TrainingError("--resume and --overwrite: give one of them; a run goes on, or it starts again.")
        if not 0 < self.lr < math.inf:
            raise TrainingError(f"--lr {self.lr}: must be a number above 0.")
        if not 0 < self.train_ratio <= 1:
            raise TrainingError(f"--train_ratio {self.train_ratio}: must be a number above 0 and up to 1.")
        if not re.fullmatch(r"\w[\w.-]*", self.sensor, re.ASCII):  # it names folders
            raise TrainingError(f"--sensor {self.sensor}: must be a name of letters, digits, '_', '-' and '.'.")

    @property
    def betas(self) -> tuple[float, float]:
        """Adam's betas, which the recipe decides."""
        return RECIPES[self.recipe].betas


def add_train_options(
    parser: argparse.ArgumentParser, carrier: type[TrainOptions], defaults: dict[str, Any] | None = None
) -> None:
    """Add a training script's options, and those of the device; ``defaults`` are the script's own, by name."""
    add_options(parser, carrier, defaults)
    group = parser.add_argument_group("device")
    add_device_options(group)
    group.add_argument("--cpu", dest="device", action="store_const", const="cpu", help=argparse.SUPPRESS)  # old
