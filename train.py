"""Train FERS.

    python train.py                       Stage 2, on the Spe-FEN in the checkpoint folder (as train_FERS/train.py)
    python train.py --stage 1             Stage 1 (as train_FERD/train.py)
    python train.py --stage all           Stage 1, then Stage 2 on its result

Every other option is the stage's own: python train.py --stage 1 --help. With several processes: torchrun
--nproc_per_node gpu train.py --stage all; see train_FERS/train.py for several machines.
"""

from __future__ import annotations

import sys

import train_FERD.train as stage1
import train_FERS.train as stage2
from fers.fast.process import prepare_process
from fers.training.launch import launch, run_training
from fers.training.options import TrainOptions
from fers.util.commandline import Parser
from fers.util.options import read_options

SCRIPTS = {"1": (stage1,), "2": (stage2,), "all": (stage1, stage2)}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code of the first stage that fails, else 0."""
    parser = Parser(add_help=False)
    parser.add_argument("--stage", choices=tuple(SCRIPTS), default="2")
    chosen, rest = parser.parse_known_args(arguments)
    if {"-h", "--help"} & set(rest):
        print(__doc__)
    given = {script: script.parser().parse_args(rest) for script in SCRIPTS[chosen.stage]}
    prepare_process()

    def check() -> None:  # an error in the second stage should not show only after hours of the first
        from fers.training.run import places
        from train_FERD.stage import Stage1
        from train_FERS.stage import Stage2

        for script, stage in ((stage1, Stage1), (stage2, Stage2)):
            if script in given:
                places(read_options(TrainOptions, given[script]), stage)

    if code := run_training(check):
        return code
    for script, options in given.items():
        if code := launch(script.train, options):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
