"""Detect anomalies in scenes of your own: ``python detect.py SCENE``; ``--help`` has examples and options.

The command itself is ``fers/detection/command.py``, as ``fers detect``.
"""

from __future__ import annotations

import sys

from fers.detection.command import main

if __name__ == "__main__":
    sys.exit(main())
