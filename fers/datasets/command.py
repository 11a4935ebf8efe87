"""Data sets: fetch, check and unpack them, cut training patches, make a synthetic benchmark."""

from __future__ import annotations

from fers.util.commandline import subcommands

COMMANDS = {
    "list": ("fers.datasets.get:show", "show the labelled scenes that papers use"),
    "get": ("fers.datasets.get", "fetch some of them, and check them"),
    "download": ("fers.datasets.download", "fetch HAD100, and check it"),
    "had100": ("fers.datasets.had100.prepare", "unpack and check the HAD100 archive"),
    "patches": ("fers.datasets.patches", "cut training patches from scenes of your own"),
    "synthetic": ("fers.datasets.synthetic.benchmark", "make a synthetic benchmark"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands; returns its exit code."""
    return subcommands("fers data", __doc__ or "", COMMANDS, arguments)
