"""Compare detectors over scenes by one protocol: AUC, average precision, Pd at few false alarms, seconds.

    fers compare --scenes ABU --detect fast                      the detectors that take seconds, as a first table
    fers compare --scenes ABU                                    every detector, the fast ones first
    fers compare --scenes FOLDER --detect RX,my_module:MyDetector --maps Theirs=maps/theirs
    fers compare --scenes scenes.csv --settings original,untrained-C --seeds 0,1,2
    fers compare --scenes ABU --detect fast,RX@untrained-C       one detector in a setting of its own

A place of scenes is ABU, HAD100, a folder in their layouts, a folder of cubes (.mat, .npy, .npz, ENVI, .tif) with their
truths inside or beside them (X_gt.mat, X_mask.png, ...), a file, or a scene list: a CSV file with the columns cube, truth,
sensor, group. Give several with commas. What refuses or fails on a scene has its reason in the table, and its mean says
over how many scenes it is. A stopped comparison goes on where it was when the same command is given again.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

from fers.comparison.contenders import FAST_SECONDS
from fers.detectors.table import DETECTORS
from fers.fast.process import prepare_process
from fers.scenes.normalise import NoData
from fers.scoring.config import Method
from fers.util.commandline import Parser, natural, positive, run
from fers.util.options import add_options, option, read_options

_LOADED = (
    "Some times were taken while other work ran on the machine, or by several jobs at once. Compare CPU seconds, or time "
    "them again in a folder of its own with --jobs 1."
)


def _seed_list(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(natural(part.strip()) for part in text.split(",")))


def _named_folder(text: str) -> tuple[str, Path]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"'{text}': expected NAME=FOLDER")
    return name, Path(folder)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds > 0")
    return seconds


@dataclass(frozen=True, kw_only=True)
class CompareOptions(Method):
    """Options of ``fers compare``; ``fers.comparison.compare.compare`` says what they mean."""

    scenes: str = option("ABU", "ABU, HAD100, folders, files or scene lists, with commas", group="data")
    bands: int | None = option(
        None, "bands of each scene that are used (default: all)", group="data", flag="--input_channel", type=positive
    )
    nodata: NoData = option(
        "refuse",
        "pixels without data: refuse the scene, keep them, or leave them out",
        group="data",
        choices=get_args(NoData),
    )
    detect: str = option(
        "all",
        f"{', '.join(DETECTORS)}, module:Name, several with commas; all; or fast: those of at most {FAST_SECONDS:g} s "
        "for 100 x 100 px and 200 bands",
        group="method",
    )
    settings: str = option(
        "original",
        "features and fusion, such as original, untrained, untrained-C, spectral, fused-A; several with commas",
        group="method",
    )
    maps: tuple[tuple[str, Path], ...] = option(
        (),
        "score maps that others made: a folder with a .npy, .mat or .tif named as each scene; as often as needed",
        group="method",
        type=_named_folder,
        metavar="NAME=FOLDER",
        many=True,
    )
    seeds: tuple[int, ...] = option(
        (0,), "seeds of what has random weights, with commas (default: 0)", group="method", type=_seed_list
    )
    against: str | None = option(
        None,
        "set published numbers of the very same scenes beside ours, each with its protocol",
        group="method",
        choices=("published",),
    )
    features: str = "original"  # settings has both
    fusion: str | None = None
    seed: int = 0
    save_dir: Path | None = option(
        None, "folder of tables and finished cells (default: results/compare)", group="run", type=Path
    )
    repeat: int = option(1, "timings of each cell, of which the least counts", group="run", type=positive)
    jobs: int = option(
        1, "processes; with more than one, times are marked as taken under load", group="run", type=positive
    )
    skip_slower_than: float | None = option(
        None,
        "leave out cells that are estimated to take longer",
        group="run",
        flag="--skip-slower-than",
        type=_seconds,
        metavar="SECONDS",
    )
    threads: int | None = option(
        None, "CPU threads of each process (default: PyTorch's choice)", group="run", type=positive
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = Parser(prog="fers compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, CompareOptions)
    given = parser.parse_args(arguments)
    command = shlex.join(["fers", "compare", *(sys.argv[1:] if arguments is None else arguments)])
    return run(
        lambda: _run_comparison(read_options(CompareOptions, given), command),
        how_to_resume="run the same command again",
    )


def _run_comparison(options: CompareOptions, command: str) -> None:
    prepare_process()
    import torch

    from fers.comparison.compare import compare
    from fers.comparison.summary import provenance_line

    if options.threads:
        torch.set_num_threads(options.threads)
    save_dir = options.save_dir or Path("results/compare")
    apart = {"detect", "options", "features", "fusion", "seed"}
    method = {each.name: getattr(options, each.name) for each in fields(Method) if each.name not in apart}
    names = (
        "settings",
        "seeds",
        "bands",
        "repeat",
        "jobs",
        "threads",
        "skip_slower_than",
        "options",
        "nodata",
        "against",
    )
    result = compare(
        options.detect,
        options.scenes,
        maps=dict(options.maps),
        save_dir=save_dir,
        command=command,
        **{name: getattr(options, name) for name in names},
        **method,
    )
    written = result.write(save_dir)
    for text in [*result.caveats, *([_LOADED] if result.provenance["loaded"] else [])]:
        print(f"Note: {text}")
    print(f"To cite: {provenance_line(result)}")
    print(
        f"{len(written)} files in {save_dir}, the page is {save_dir / 'compare.html'}; score maps in {save_dir / 'cells'}"
    )


if __name__ == "__main__":
    sys.exit(main())
