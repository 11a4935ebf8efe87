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
from collections.abc import Callable
from dataclasses import replace

import torch
from accelerate import Accelerator

from baselines.aetnet import CELL, SMALLEST, AETNetStage
from baselines.rd4ad import RD4AD_STAGES, READINGS
from fers.detectors import RX
from fers.detectors.rd4ad import RD4AD
from fers.evaluation.metrics import auc
from fers.networks.aetnet import AETNet
from fers.scenes import SceneError
from fers.training.options import add_train_options, launch
from fers.training.run import TrainRun, scene_scorer
from fers.training.stage import Stage
from fers.util.paths import home


def train(options: argparse.Namespace, accelerator: Accelerator) -> None:
    """Train as the options say."""
    stage, score_map = options.make(options)
    if options.save_dir is None:
        name = f"{options.baseline}_{options.sensor}_{options.input_channel}_seed{options.seed}"
        options.save_dir = home() / "runs" / name
    run = TrainRun.from_options(options, 1, stage.checkpoint, accelerator, baseline=stage.checkpoint)
    run = replace(run, config=replace(run.config, betas=options.betas))
    if run.finished():
        return
    if any(side % options.multiple or side < options.smallest for side in run.patches.size):
        raise SceneError(
            f"{run.patches.folder}: patches of {run.patches.size[0]} x {run.patches.size[1]} px; {options.title} needs sides "
            f"that are multiples of {options.multiple}, at least {options.smallest} px. Cut them again with fers data patches."
        )
    run.describe(options.title)
    run.train(stage, *run.split(run.patches), scene_scorer(options, score_map, auc, accelerator.device))


def make_rd4ad(options: argparse.Namespace) -> tuple[Stage, Callable[[torch.Tensor], torch.Tensor]]:
    """Make the stage of RD4AD, and the score map of its networks as they are."""
    network = READINGS[options.reading](options.input_channel, options.backbone, options.seed)
    return RD4AD_STAGES[options.reading](network), RD4AD(network, network.padding, network.multiple)


def make_aetnet(options: argparse.Namespace) -> tuple[Stage, Callable[[torch.Tensor], torch.Tensor]]:
    """Make the stage of AETNet, and RX on the cube that its network makes."""
    network = AETNet(options.input_channel, seed=options.seed)
    return AETNetStage(network, options.seed), lambda h: RX()(network(h))


def parser() -> argparse.ArgumentParser:
    """Make the parser of the options."""
    parser = argparse.ArgumentParser(
        prog="python -m baselines.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    baselines = parser.add_subparsers(dest="baseline", required=True)

    rd4ad = baselines.add_parser("rd4ad", help="reverse distillation, a detector")
    add_train_options(rd4ad, RD4AD_STAGES["B"].TERMS)
    rd4ad.add_argument(
        "--reading",
        choices=tuple(READINGS),
        default="B",
        help="the CWL instead of the stem's convolution (B) or of the whole stem (A) (default: B)",
    )
    rd4ad.set_defaults(make=make_rd4ad, title="RD4AD", multiple=16, smallest=16)
    rd4ad.set_defaults(epochs=200, lr=0.005, betas=(0.5, 0.999), seed=111, recipe="released")

    aetnet = baselines.add_parser("aetnet", help="anomaly enhancement network, which makes cubes")
    add_train_options(aetnet, AETNetStage.TERMS)
    aetnet.set_defaults(make=make_aetnet, title="AETNet", multiple=CELL, smallest=SMALLEST, backbone="none")
    aetnet.set_defaults(epochs=200, lr=1e-4, betas=(0.9, 0.999), seed=60, recipe="released")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return launch(train, parser().parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
