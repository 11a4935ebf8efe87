"""The command ``fers``, through which everything is run."""

from __future__ import annotations

from collections.abc import Sequence

from fers.util.commandline import subcommands

COMMANDS = {
    "detect": ("fers.detection.command", "find anomalies in scenes of your own: maps, targets, a page"),
    "compare": ("fers.comparison.command", "compare detectors of any origin on the same scenes, in one table"),
    "test": ("fers.evaluation.command", "score a test set: HAD100, ABU, or a folder in their layout"),
    "train": ("train.py", "train Stage 1 (FERD) and Stage 2 (FERS); needs a checkout"),
    "data": ("fers.datasets.command", "fetch, prepare, check and make data sets"),
    "weights": ("fers.weights", "fetch, import and export weights"),
    "info": ("fers.info", "print versions, devices, threads and folders, for a report of a fault"),
    "report": ("fers.evaluation.report", "make one page from the results of several tests"),
    "reproduce": ("reproduce.py", "measure every table and figure of the paper again; needs a checkout"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    return subcommands("fers", "Hyperspectral anomaly detection.", COMMANDS, arguments)
