"""Start and end of a training script."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING

from fers.fast.process import prepare_process
from fers.training.options import TrainingError
from fers.util.commandline import run
from fers.util.paths import how_to_install

if TYPE_CHECKING:
    from accelerate import Accelerator

_TRAIN_EXTRA = ("accelerate", "tensorboard", "pytorch_msssim")  # needed by training, not by detection


def launch(train: Callable[[argparse.Namespace, Accelerator], None], given: argparse.Namespace) -> int:
    """Run a training script's work on the device that the command line names; return the exit code."""
    prepare_process()

    def script() -> None:
        import torch

        from fers.training.device import make_accelerator

        if given.threads:
            torch.set_num_threads(given.threads)
        train(given, make_accelerator(given.precision, given.device))

    return run_training(script)


def run_training(script: Callable[[], None]) -> int:
    """Run a part of a training script, if all packages that it needs are installed; return the exit code."""

    def work() -> None:
        if missing := [name for name in _TRAIN_EXTRA if importlib.util.find_spec(name) is None]:
            raise TrainingError(
                f"training needs packages that are not installed: {', '.join(missing)}. Run: {how_to_install('train')}"
            )
        script()

    return run(work, how_to_resume="the same command with --resume")
