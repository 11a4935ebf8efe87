"""Detect anomalies in scenes of your own: a score map, a list of targets, and a page that explains them.

    fers detect scene.hdr                                  products in results/detect/scene/; open report.html
    fers detect EMIT_L2A_RFL_....nc --left_out auto        clouds left out, by the EMIT mask file next to it
    fers detect folder/ --common_background                all scenes of a folder against one background
    fers detect line.hdr --detect LRX --features original  another detector
    fers detect line.hdr --memory 4GB --background segment:1000
    fers detect line.hdr --plan                            print blocks, passes, memory and time; compute nothing
    fers detect line.hdr --scheduler tcp://10.0.0.1:8786   on a Dask cluster

Nothing is trained or downloaded beforehand. Files may be larger than memory. A run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fers.detection.options import METHODS, DetectOptions, Work, in_todays_words
from fers.fast.process import prepare_process
from fers.util.commandline import Parser, run
from fers.util.options import add_options, read_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``fers detect``, or ``detect.py``; return the exit code."""
    given = _command_parser().parse_args(arguments)
    return run(lambda: _detect(given), how_to_resume="run the same command again")


def _detect(given: argparse.Namespace) -> None:
    prepare_process()
    from fers.detection.inputs import find_scenes  # --help does not wait for the readers

    vars(given).update(
        in_todays_words({name: getattr(given, name) for name in ("method", "features", "fusion", "checkpoint_dir")})
    )
    options, work = read_options(DetectOptions, given), read_options(Work, given)
    readers = find_scenes(given.scenes, say=lambda text: print(text, file=sys.stderr), **options.reading)
    from fers.detection.several import detect_all, plan_all  # PyTorch: a file that is refused does not wait for it

    if work.plan:
        plan_all(readers, options)
    else:
        detect_all(readers, options, work)


def _command_parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="+", help="files of any known format, or folders of them")
    for carrier in (DetectOptions, Work):
        add_options(parser, carrier)
    parser.add_argument("--method", choices=list(METHODS), help=argparse.SUPPRESS)  # of earlier versions
    parser.add_argument("--checkpoint", dest="checkpoint_dir", help=argparse.SUPPRESS)
    return parser
