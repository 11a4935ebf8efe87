"""The command ``fers test``: score a test set, and report AUC and its kin.

fers test HAD100 --input_channel 50     as python test.py --input_channel 50
fers test ABU --detect AE               as python FERS_ABU/test.py --detect AE
"""

from __future__ import annotations

from fers.datasets.benchmarks import BENCHMARKS
from fers.evaluation import cli
from fers.util.commandline import Parser


def main(arguments: list[str]) -> int:
    """Run a benchmark's test; returns the exit code."""
    named = next((name for name in BENCHMARKS if arguments and arguments[0].lower() == name.lower()), None)
    if named is not None:
        return cli.main(named, __doc__ or "", arguments[1:])
    parser = Parser(description=__doc__)
    parser.add_argument("benchmark", choices=list(BENCHMARKS), help="the test set; --help after it has its options")
    parser.parse_args(arguments)
    return 2
