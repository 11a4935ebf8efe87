"""Detect anomalies in HAD100, or any test set in its layout, and report the mean AUC.

    python test.py --input_channel 50                          RX on the fused features (fusion A at 50 bands)
    python test.py --input_channel 200 --fusion B --detect RX
    python test.py --input_channel 50 --features original      RX on the cube itself
    python test.py --detect AE                                 the autoencoder detector
    python test.py --detect my_module:MyDetector               a detector of your own

The dataset's folder holds test/<sensor>/*.npy (H x W x B) and ground_truth/<sensor>/*.png (anomaly where green is 255).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fers.evaluation.command import test_benchmark


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    return test_benchmark("HAD100", __doc__ or "", arguments)


if __name__ == "__main__":
    sys.exit(main())
