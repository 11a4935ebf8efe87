"""What the training scripts share on the command line: their options, and how they start and end."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fers.datasets.patches import NODATA_CHOICES
from fers.fast.process import prepare
from fers.training.config import PRECISIONS
from fers.training.recipe import RECIPES
from fers.util.commandline import add_device_options, list_of, natural, positive, run
from fers.util.paths import home

if TYPE_CHECKING:
    from accelerate import Accelerator

_OLD_TERMS = {"zcl": "z"}  # loss names of earlier versions


def add_train_options(parser: argparse.ArgumentParser, terms: Iterable[str]) -> None:
    """Add the options of a training script, grouped by concern; ``terms`` are its loss terms."""
    terms = tuple(terms)

    group = parser.add_argument_group("data")
    group.add_argument(
        "--data_path",
        type=Path,
        default=home() / "data" / "HAD100Dataset",
        help="the dataset's folder, with train/<sensor>/*.npy (default: data/HAD100Dataset)",
    )
    group.add_argument(
        "--sensor", type=_folder_name, default="aviris_ng", help="sensor of data and checkpoint (default: %(default)s)"
    )
    group.add_argument("--input_channel", type=positive, default=50, help="bands given to the networks (default: 50)")
    group.add_argument(
        "--start_band", "--start_channel_id", type=natural, default=0, help="the first of them (default: 0)"
    )
    group.add_argument(
        "--train_ratio",
        type=_ratio,
        default=1.0,
        help="share of the source scenes to train on; below 1 the loss on the others is logged (default: 1)",
    )
    group.add_argument(
        "--nodata",
        choices=NODATA_CHOICES,
        default="refuse",
        help="patches with pixels without data: refuse, keep as they are (as released), or mask: leave them out (default: refuse)",
    )

    group = parser.add_argument_group("method")
    group.add_argument(
        "--recipe",
        choices=tuple(RECIPES),
        default="paper",
        help="the paper's settings or the released code's (default: paper)",
    )
    group.add_argument(
        "--losses", type=_terms(terms), default=terms, help=f"terms to train with (default: {','.join(terms)})"
    )
    group.add_argument(
        "--backbone",
        default="imagenet",
        help="frozen layers: imagenet, random[:SEED], a file or a folder (default: imagenet)",
    )
    group.add_argument("--seed", type=natural, default=0, help="of weights, order and held-out scenes (default: 0)")

    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=positive, default=60, help="default: 60")
    group.add_argument("--batch_size", type=positive, default=16, help="over all processes together (default: 16)")
    group.add_argument("--lr", type=_learning_rate, default=0.005, help="Adam's, constant (default: 0.005)")
    group.add_argument(
        "--select",
        choices=("last", "test-auc"),
        default="last",
        help="epoch to keep. test-auc repeats the published protocol, which looks at the test set; marked as such (default: last)",
    )
    group.add_argument(
        "--test_path",
        type=Path,
        help="test scenes for --select test-auc: HAD100's layout or abu-*.mat (default: --data_path)",
    )

    group = parser.add_argument_group("run")
    group.add_argument(
        "--checkpoint_dir",
        "--save_model",
        type=Path,
        help="for the weights (default: checkpoints/<sensor>_<input_channel>)",
    )
    group.add_argument(
        "--save_dir",
        type=Path,
        help="for log and resume file, in stage1/ or stage2/ (default: runs/<sensor>_<input_channel>_<recipe>_seed<seed>)",
    )
    again = group.add_mutually_exclusive_group()
    again.add_argument(
        "--resume", action="store_true", help="go on with the run in --save_dir after its last whole epoch"
    )
    again.add_argument(
        "--overwrite", action="store_true", help="start anew over a run in --save_dir and over its checkpoint"
    )
    group.add_argument("--precision", choices=tuple(PRECISIONS), default="fp32", help="of the networks (default: fp32)")
    group.add_argument("--workers", type=natural, help="processes that read patches (default: 0; 4 with a GPU)")
    add_device_options(group)
    group.add_argument(
        "--cpu", dest="device", action="store_const", const="cpu", help=argparse.SUPPRESS
    )  # old spelling


def launch(train: Callable[[argparse.Namespace, Accelerator], None], options: argparse.Namespace) -> int:
    """Run a training script's work; returns the exit code."""

    prepare()

    def script() -> None:
        import torch

        from fers.training.device import make_accelerator

        if options.threads:
            torch.set_num_threads(options.threads)
        accelerator = make_accelerator(options.precision, options.device)
        train(options, accelerator)

    return run_script(script)


def run_script(script: Callable[[], None]) -> int:
    """Do a part of a training script's work; returns the exit code."""
    return run(script, how_to_resume="the same command with --resume")


def _terms(allowed: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    """Type of ``--losses``."""
    parse = list_of(allowed)
    return lambda text: parse(",".join(_OLD_TERMS.get(name.strip(), name) for name in text.split(",")))


def _folder_name(text: str) -> str:
    if not re.fullmatch(r"\w[\w.-]*", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"'{text}' is not a name of letters, digits, '_', '-' and '.'")
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _ratio(text: str) -> float:
    if not 0 < _number(text) <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0 and up to 1")
    return float(text)


def _learning_rate(text: str) -> float:
    if not 0 < _number(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return float(text)
