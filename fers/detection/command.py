"""Detect anomalies in scenes of your own: a score map, a list of targets, and a page that explains them.

    fers detect scene.hdr                                  products in results/detect/scene/; open report.html
    fers detect EMIT_L2A_RFL_....nc --left_out auto        clouds left out, by the EMIT mask file next to it
    fers detect folder/ --common_background                all scenes of a folder against one background
    fers detect line.hdr --detect LRX --features original  another detector
    fers detect line.hdr --memory 4GB --background segment:1000
    fers detect results/detect/line --far 1e-3             another threshold for a finished result, in seconds
    fers detect results/detect/line --like 3               where else in the scene is the spectrum of target 3?
    fers detect results/detect/line --not known.geojson    without places that are known already
    fers detect line.hdr --plan                            print blocks, passes, memory and time; compute nothing
    fers detect line.hdr --scheduler tcp://10.0.0.1:8786   on a Dask cluster

Nothing is trained or downloaded beforehand. Files may be larger than memory. A run that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from fers.detection.options import METHODS, DetectOptions, SearchOptions, Work, in_todays_words, is_result
from fers.fast.process import prepare_process
from fers.util.commandline import Parser, run
from fers.util.errors import FersError
from fers.util.options import add_options, options_said, read_options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``fers detect``, or ``detect.py``; return the exit code."""
    parser = _command_parser()
    given = parser.parse_args(arguments)
    return run(lambda: _detect(given, options_said(parser, arguments)), how_to_resume="run the same command again")


def _detect(given: argparse.Namespace, said: dict[str, Any]) -> None:
    prepare_process()
    results = [path for path in given.scenes if is_result(path)]
    if results and len(results) < len(given.scenes):
        raise FersError(f"{results[0]}: is a finished result, and others are scenes. Give one kind at a time.")

    search = read_options(SearchOptions, given)
    if results:
        from fers.detection.several import detect_again

        detect_again(results, in_todays_words(said), read_options(Work, given), search)
        return
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
        detect_all(readers, options, work, search=search)


def _command_parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="+", help="files of any known format, folders of them, or results")
    for carrier in (DetectOptions, SearchOptions, Work):
        add_options(parser, carrier)
    parser.add_argument("--method", choices=list(METHODS), help=argparse.SUPPRESS)  # of earlier versions
    parser.add_argument("--checkpoint", dest="checkpoint_dir", help=argparse.SUPPRESS)
    return parser
