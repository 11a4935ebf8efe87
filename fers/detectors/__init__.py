"""Cube in, score map out. Nothing here knows a network's weights or a file.

Read ``base.py`` first: it has the protocol of every detector. Then read ``rx.py``, the paper's, with its ``background.py``.
``table.py`` names them all; a new detector is one file here and one row there. A detector of your own needs neither:
``--detect my_module:MyDetector``. The windowed ones share ``windows.py``, those that are trained on the scene ``trained.py``.

Every detector has a test of its own against plain loops or golden files, so change one and run its test.
"""

from __future__ import annotations

from fers.detectors.table import DETECTORS, Entry, find_detector, make_detector

__all__ = ["DETECTORS", "Entry", "find_detector", "make_detector"]
