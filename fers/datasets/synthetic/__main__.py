"""The command line: python -m data.synthetic."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fers.datasets.synthetic.benchmark import DEFAULT_DIFFICULTY, FULL_TEST, FULL_TRAIN, write_benchmark
from fers.util.commandline import natural, run


def main(arguments: list[str] | None = None) -> int:
    """Write a benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data.synthetic",
        description="Write a synthetic benchmark in the layout of HAD100Dataset. Interrupted, the same command goes on.",
    )
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument(
        "--seed", type=natural, default=0, help="the same seed gives the same bytes (default %(default)s)"
    )
    parser.add_argument("--train", type=natural, default=48, help="training patches (default %(default)s)")
    parser.add_argument("--test", type=natural, default=12, help="test scenes (default %(default)s)")
    parser.add_argument(
        "--full",
        action="store_true",
        help=f"as many as HAD100 has: {FULL_TRAIN:,} patches, {FULL_TEST} scenes (5.2 GB)",
    )
    parser.add_argument("--size", type=natural, default=64, help="height and width in px (default %(default)s)")
    parser.add_argument("--difficulty", type=float, default=DEFAULT_DIFFICULTY, help="0 to 1 (default %(default)s)")
    parser.add_argument("--sensor", default="aviris_ng", help="name of the sensor's folder (default %(default)s)")
    args = parser.parse_args(arguments)
    n_train, n_test = (FULL_TRAIN, FULL_TEST) if args.full else (args.train, args.test)

    def work() -> None:
        settings = {"seed": args.seed, "size": args.size, "difficulty": args.difficulty, "sensor": args.sensor}
        write_benchmark(args.out, n_train=n_train, n_test=n_test, **settings)
        print(f"{args.out}: {n_train:,} training patches and {n_test:,} test scenes written")

    return run(work, how_to_resume="run the same command again")


if __name__ == "__main__":
    sys.exit(main())
