"""Train a baseline on background patches.

    python -m baselines.train rd4ad --data_path data/HAD100Dataset --sensor aviris_ng --input_channel 50
    python -m baselines.train aetnet --data_path data/HAD100Dataset --sensor aviris_ng --input_channel 50

write checkpoints/<sensor>_<bands>/rd4ad.safetensors (``rd4ad_a`` for ``--reading A``) and aetnet.safetensors. The defaults are
those of the official codes: 200 epochs in batches of 16. Two things differ from them. The last, incomplete batch of an epoch
is left out, and the last epoch is kept, whatever the test scenes look like. All GPUs of a machine: torchrun, as in train_FERD/train.py.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from fers.training.launch import launch
from fers.training.options import TrainOptions, add_train_options, loss_option
from fers.util.commandline import Parser
from fers.util.options import option, read_options
from fers.util.paths import home

if TYPE_CHECKING:
    from accelerate import Accelerator

    from fers.detectors.base import Detector
    from fers.training.stage import Stage


class Trained(NamedTuple):
    """A baseline, ready to be trained."""

    stage: Stage
    multiple: int  # sides of the patches are multiples of it, px
    least: int  # sides are at least so long, px
    detector: Detector  # scores by the network in its present state


@dataclass(frozen=True)
class RD4ADOptions(TrainOptions):
    """Options of RD4AD."""

    betas = (0.5, 0.999)
    losses: tuple[str, ...] = loss_option("distillation")
    reading: str = option(
        "B",
        "the CWL instead of the stem's convolution (B) or of the whole stem (A)",
        choices=("B", "A"),
        group="method",
    )

    def make(self) -> Trained:
        """RD4AD, and the score of its networks as they are."""
        from baselines.rd4ad import RD4ADStage
        from fers.detectors.rd4ad import RD4AD
        from fers.networks.rd4ad import READINGS

        network = READINGS[self.reading](self.input_channel, self.backbone, self.seed)
        return Trained(RD4ADStage(network), 16, 16, RD4AD(network))


@dataclass(frozen=True)
class AETNetOptions(TrainOptions):
    """Options of AETNet."""

    betas = (0.9, 0.999)
    losses: tuple[str, ...] = loss_option("msgms", "decay")

    def make(self) -> Trained:
        """AETNet, and RX on the cubes that its network makes."""
        from baselines.aetnet import CELL, SMALLEST, AETNetStage
        from fers.detectors.aetnet import EnhancedRX
        from fers.networks.aetnet import AETNet

        network = AETNet(self.input_channel, seed=self.seed)
        return Trained(AETNetStage(network, self.seed), CELL, SMALLEST, EnhancedRX(network))


BASELINES: dict[str, tuple[str, str, type[RD4ADOptions] | type[AETNetOptions], dict[str, Any]]] = {
    "rd4ad": (
        "RD4AD",
        "reverse distillation, a detector",
        RD4ADOptions,
        {"epochs": 200, "lr": 0.005, "seed": 111, "recipe": "released"},
    ),
    "aetnet": (
        "AETNet",
        "anomaly enhancement network, which makes the cube that RX sees",
        AETNetOptions,
        {"epochs": 200, "lr": 1e-4, "seed": 60, "recipe": "released", "backbone": "none"},
    ),
}
"""By name: title, what it is, options, and the official code's defaults."""


def train(given: argparse.Namespace, accelerator: Accelerator) -> None:
    """Train as the command line says."""
    from fers.training.run import TrainRun, scene_scorer  # not above: --help does not wait for PyTorch

    title, _, carrier, _ = BASELINES[given.baseline]
    options = read_options(carrier, given)
    if options.save_dir is None:
        name = f"{given.baseline}_{options.sensor}_{options.input_channel}_seed{options.seed}"
        options = replace(options, save_dir=home() / "runs" / name)
    made = options.make()
    run = TrainRun(options, made.stage, accelerator, baseline=made.stage.checkpoint)
    if run.finished():
        return
    run.require_sides(made.multiple, made.least, title)
    run.describe(title)
    scorer = scene_scorer(options, {}, "original", accelerator.device, made.detector)
    run.train(made.stage, run.patches, scorer)


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="python -m baselines.train", description=__doc__, formatter_class=raw)
    baselines = parser.add_subparsers(dest="baseline", required=True)
    for name, (_, words, carrier, defaults) in BASELINES.items():
        add_train_options(baselines.add_parser(name, help=words), carrier, defaults)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return launch(train, parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
