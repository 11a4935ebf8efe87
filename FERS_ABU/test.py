"""Detect anomalies in the Airport-Beach-Urban scenes and report their AUC.

    python FERS_ABU/test.py --data_path FOLDER                       RX on the fused features (fusion B)
    python FERS_ABU/test.py --data_path FOLDER --features original   RX on the cube itself
    python FERS_ABU/test.py --data_path FOLDER --detect AE           the autoencoder detector

FOLDER holds abu-airport-1.mat, abu-airport-2.mat, ... as their author publishes them, or test/<sensor>/*.npy and
ground_truth/<sensor>/*.png. Without the option it is data/ABU, or FERS_ABU/data/abu as in the released code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fers.evaluation.command import test_benchmark


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    return test_benchmark("ABU", __doc__ or "", arguments)


if __name__ == "__main__":
    sys.exit(main())
