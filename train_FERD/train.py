"""Train Stage 1 (FERD) and keep its Spe-FEN.

One process, CPU or GPU:

    cd train_FERD && python train.py --input_channel 50 --data_path ../data/HAD100Dataset

All GPUs of a machine, then two machines of four GPUs each (run on both, NODE = 0 and 1; --save_dir on a shared disk):

    torchrun --nproc_per_node gpu train.py --precision bf16
    torchrun --nnodes 2 --nproc_per_node 4 --node_rank NODE --master_addr HOST --master_port 29500 train.py --save_dir /disk/run1

--batch_size is shared by all processes: 16 on one GPU and 16 on eight are the same training. On GPUs batch norms use the
statistics of the whole batch (SyncBatchNorm); processes on CPUs use those of their own share.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fers.training.launch import launch
from fers.training.options import TrainOptions, add_train_options, loss_option
from fers.training.recipe import STAGE1_TERMS
from fers.util.checkout import run_script
from fers.util.commandline import Parser
from fers.util.options import read_options

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Stage1Options(TrainOptions):
    """Options of Stage 1."""

    losses: tuple[str, ...] = loss_option(*STAGE1_TERMS)


def parser() -> argparse.ArgumentParser:
    """Make the command line's parser."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_train_options(parser, Stage1Options)
    return parser


def train(given: argparse.Namespace, accelerator: Accelerator) -> None:
    """Train Stage 1 as the command line says."""
    # imported here, so that --help does not wait for PyTorch
    from fers.training.run import TrainRun, scene_scorer
    from train_FERD.network import FERD
    from train_FERD.stage import MULTIPLE, Stage1

    options = read_options(Stage1Options, given)
    run = TrainRun(options, Stage1, accelerator)
    if run.finished():
        return
    run.require_sides(MULTIPLE, MULTIPLE, "Stage 1")
    run.describe("Stage 1 (FERD)")
    stage = Stage1(FERD(options.input_channel, options.backbone, options.seed), run.recipe, options.losses)
    scorer = scene_scorer(options, {"spe_fen": stage.branch}, "spectral", accelerator.device)
    run.train(stage, run.patches, scorer)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    return launch(train, parser().parse_args(arguments))


if __name__ == "__main__":  # through train.py, which finds all packages from any folder
    sys.exit(run_script("train_FERD/train.py", "train.py", ["--stage", "1", *sys.argv[1:]]))
