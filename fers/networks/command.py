"""The command ``fers weights``."""

from __future__ import annotations

from fers.util.commandline import subcommands


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands; returns its exit code."""
    commands = {
        "download": ("fers.networks.download_released", "fetch the authors' released weights, check and import them"),
        "import": ("fers.networks.import_released", "import released weights that are on this disk"),
        "export": ("fers.fast.export", "write the deployed networks as ONNX"),
    }
    return subcommands("fers weights", __doc__ or "", commands, arguments)
