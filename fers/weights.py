"""The command ``fers weights``: fetch, import and export weights. PyTorch is imported only when one of them works."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from fers.datasets.releases import RELEASES
from fers.util.commandline import Parser, run, subcommands

COMMANDS = {
    "download": ("fers.weights:download", "fetch the authors' released weights, check and import them"),
    "import": ("fers.weights:import_folder", "import released weights from a folder on this disk"),
    "export": ("fers.weights:export_network", "write a deployed network as ONNX or for torch.export"),
}
_DOWNLOAD = """Fetch the authors' released weights, check them, and import them as checkpoints.

    fers weights download --bands 50      for HAD100; also 100 and 200
    fers weights download --bands abu     for ABU, 200 bands

The files come from the authors' repository at one commit. Their sizes and checksums are known here; Spa-FEN's checksum is
its git blob id. After an interruption the same command goes on where it stopped. The checkpoints go to
``checkpoints/<sensor>_<bands>``, where the test scripts look. ABU's go to ``checkpoints/aviris_200_released``, since
``checkpoints/aviris_200`` holds this project's own.
"""
_IMPORT = """Turn a folder of the authors' released weights into checkpoints.

    fers weights import FOLDER OUT.safetensors [--sensor aviris_ng]

FOLDER holds ``convh.pt`` (CWL), ``enc.pt`` (layer1 of wide_resnet101_2) and ``pc.pt`` (FPL and ZCL), and perhaps
``spa_fen.pt``. OUT.safetensors gets the spectral branch. Its folder also gets ``backbone.safetensors``, the released frozen
layers, and ``spa_fen.safetensors`` where there is a spatial branch. Name OUT
``checkpoints/<sensor>_<bands>/spe_fen.safetensors`` and the test scripts find it by themselves.
"""
_EXPORT = """Write a branch, deployed, as a file that runs without this project: ONNX, or a program of ``torch.export``.

    fers weights export checkpoints/aviris_200/spe_fen.safetensors spe_fen.onnx
    fers weights export checkpoints/aviris_200/spe_fen.safetensors spe_fen.pt2

Input ``h`` and output ``features`` are N x C x H x W float32. N is 1 to 32768, H and W are 17 to 32768. ONNX needs the
packages of ``pip install "fers-had[export]"``.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the commands; return its exit code."""
    return subcommands("fers weights", "Fetch, import and export weights.", COMMANDS, arguments)


def download(arguments: Sequence[str] | None = None) -> int:
    """Run ``fers weights download``; return the exit code."""
    parser = _parser(_DOWNLOAD)
    parser.add_argument("--bands", choices=tuple(RELEASES), required=True, help="which weights")
    parser.add_argument("--out", type=Path, help="folder for the checkpoints (default: as above)")
    parser.add_argument("--url", help="another address of the folder with the .pt files; they are checked the same way")
    options = parser.parse_args(arguments)

    def work() -> None:
        from fers.networks.download_released import download_released

        written = download_released(options.bands, options.out, options.url)
        _say(written)
        script = "FERS_ABU/test.py" if options.bands == "abu" else f"test.py --input_channel {options.bands}"
        print(f"Next: python {script} --checkpoint_dir {written[0].parent}")

    return run(work, how_to_resume="run the same command again")


def import_folder(arguments: Sequence[str] | None = None) -> int:
    """Run ``fers weights import``; return the exit code."""
    parser = _parser(_IMPORT)
    parser.add_argument("folder", type=Path, help="the released folder")
    parser.add_argument("out", type=Path, help="checkpoint to write, <sensor>_<bands>/spe_fen.safetensors")
    parser.add_argument("--sensor", help="sensor for the metadata (default: from the name of the output's folder)")
    options = parser.parse_args(arguments)

    def work() -> None:
        from fers.networks.import_released import import_released

        _say(import_released(options.folder, options.out, options.sensor))

    return run(work)


def export_network(arguments: Sequence[str] | None = None) -> int:
    """Run ``fers weights export``; return the exit code."""
    parser = _parser(_EXPORT)
    parser.add_argument("checkpoint", type=Path, help="a spe_fen.safetensors or spa_fen.safetensors")
    parser.add_argument("out", type=Path, help="the file to write, .onnx or .pt2")
    parser.add_argument(
        "--backbone", help="frozen layers: imagenet, random[:SEED] or a path (default: the checkpoint's)"
    )
    options = parser.parse_args(arguments)

    def work() -> None:
        from fers.fast.export import export
        from fers.networks.checkpoint import load_checkpoint

        network, _ = load_checkpoint(options.checkpoint, backbone=options.backbone)
        print(f"wrote {export(network, options.out)}")

    return run(work, how_to_resume="run the same command again")


def _parser(description: str) -> argparse.ArgumentParser:
    return Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def _say(written: Sequence[Path]) -> None:
    for path in written:
        print(f"wrote {path} ({path.stat().st_size / 1000:.0f} kB)")
