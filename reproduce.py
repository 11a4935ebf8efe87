"""Measure what a table shows, and render it.

    python reproduce.py abu --data data/ABU      the ABU scenes with RX: the README's table
    python reproduce.py picture --data data/ABU  the README's picture
    python reproduce.py beyond --data FOLDER     fusion C on all scenes of a folder: docs/beyond.md

What is done with the same code, weights and data is not done again, and an interrupted run goes on. The rows go to
experiments/results/<name>.csv; make docs renders the documents from them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.benchmarks import BENCHMARKS
from data.commandline import run
from data.paths import ROOT


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    names = [*sorted(path.stem for path in (ROOT / "experiments").glob("*.toml")), "beyond", "picture"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=names, help="what to measure")
    parser.add_argument("--data", type=Path, help="the benchmark's folder (default: where its test script looks)")
    parser.add_argument("--device", default="auto", help="auto, gpu, cpu, cuda, ... (default: auto)")
    options = parser.parse_args(arguments)

    def work() -> None:
        from experiments import beyond, picture, render, runner

        if options.name == "beyond":
            print("wrote", *beyond.run(options.data or BENCHMARKS["ABU"].default_folder()))
            return
        if options.name == "picture":
            print(f"wrote {picture.draw(options.data or BENCHMARKS['ABU'].default_folder())}")
            return
        experiment = runner.Experiment.read(options.name)
        data = options.data or BENCHMARKS[experiment.benchmark].default_folder()
        print(f"wrote {runner.run(options.name, data, options.device)}")
        if options.name in render.TABLES:
            print(render.TABLES[options.name]())

    return run(work, how_to_resume="run the same command again")


if __name__ == "__main__":
    sys.exit(main())
