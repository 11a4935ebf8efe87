"""One self-contained HTML page about a folder of results: table, maps, ROC and training curves.

    fers report results/demo --out results/demo/report.html

FOLDER holds the result folders of ``test.py`` or ``FERS_ABU/test.py`` (each with its results.json), and perhaps training
runs (each with its log.jsonl), at any depth. The page has its pictures inside it and loads nothing: it can be sent by
mail and opened from a disk.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fers.util.commandline import Parser, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = Parser(prog="fers report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the results are")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the folder)")
    parser.add_argument("--title", default="", help="heading")
    parser.add_argument("--note", default="", help="a paragraph under the heading")
    options = parser.parse_args(arguments)

    def work() -> None:
        from fers.evaluation.page import build_report, summary_lines  # PyTorch and Matplotlib: --help does not wait
        from fers.evaluation.results import find_result_sets

        page = build_report(options.folder, options.out or options.folder / "report.html", options.title, options.note)
        print("\n".join(summary_lines(find_result_sets(options.folder))))
        print(page)

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
