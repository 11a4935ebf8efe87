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
from typing import TYPE_CHECKING

from fers.training.options import add_train_options, launch
from fers.training.recipe import STAGE1_TERMS
from fers.util.checkout import run_script
from fers.util.commandline import Parser

if TYPE_CHECKING:
    from accelerate import Accelerator


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_train_options(parser, STAGE1_TERMS)
    return parser


def train(options: argparse.Namespace, accelerator: Accelerator) -> None:
    """Train as the options say."""
    from train_FERD import stage  # PyTorch, which --help does not wait for

    stage.train(options, accelerator)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return launch(train, parser().parse_args(arguments))


if __name__ == "__main__":  # by the script above, which sees all packages from any folder
    sys.exit(run_script("train_FERD/train.py", "train.py", ["--stage", "1", *sys.argv[1:]]))
