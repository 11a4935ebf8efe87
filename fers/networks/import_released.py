"""Turn a folder of the authors' released weights into this project's checkpoints.

    python -m models.import_released FOLDER OUT.safetensors [--sensor aviris_ng]

FOLDER holds ``convh.pt`` (CWL), ``enc.pt`` (layer1 of wide_resnet101_2) and ``pc.pt`` (FPL and ZCL), and perhaps
``spa_fen.pt``. OUT.safetensors gets the spectral branch. Beside it go ``backbone.safetensors``, the folder's own frozen
layers, and ``spa_fen.safetensors`` where there is a spatial branch. Name OUT
``checkpoints/<sensor>_<bands>/spe_fen.safetensors`` and the test scripts find it by themselves.

The files are pickles from elsewhere: they are read with ``weights_only=True``, which runs nothing in them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from fers.networks.backbones import (
    BACKBONE_FILE,
    BackboneError,
    Branch,
    load_frozen,
    read_state,
    state_hash,
    weight_problem,
)
from fers.networks.checkpoint import CheckpointError, CheckpointInfo, git_revision, save_backbones, save_checkpoint
from fers.networks.spa_fen import SpaFEN
from fers.networks.spe_fen import SpeFEN
from fers.util.commandline import run

_SPE_FILES = ("convh.pt", "enc.pt", "pc.pt")
_SPE_KEYS = {  # ours: theirs
    "cwl.weight": "convh.weight",
    "fpl.0.weight": "conv1.weight",
    "fpl.0.bias": "conv1.bias",
    "fpl.2.weight": "conv2.weight",
    "fpl.2.bias": "conv2.bias",
    "zcl.weight": "conv3.weight",
    "zcl.bias": "conv3.bias",
}
_SPA_KEYS = {
    "compression.0.weight": "initial_conv.conv.weight",
    "compression.0.bias": "initial_conv.conv.bias",
    "compression.2.weight": "initial_conv.hidden.weight",
    "compression.2.bias": "initial_conv.hidden.bias",
    "spp.fuse.0.weight": "spp.fuse.0.weight",
    "spp.fuse.2.weight": "spp.fuse.2.weight",
    "se.fc.0.weight": "spp.se.fc.0.weight",
    "se.fc.2.weight": "spp.se.fc.2.weight",
}
_SPA_BACKBONE = "get_features."


def import_released(folder: str | Path, out: str | Path, sensor: str | None = None) -> list[Path]:
    """Read a released folder and write checkpoints.

    Args:
        folder: Holds convh.pt, enc.pt, pc.pt, and spa_fen.pt where there is one.
        out: The .safetensors file for the spectral branch.
        sensor: For the metadata; by default what the name of out's folder, ``<sensor>_<bands>``, says.

    Returns:
        The files written.

    Raises:
        CheckpointError: A file is missing or does not have the released layout.
        BackboneError: A file cannot be read, or lacks frozen layers.
    """
    folder, out = Path(folder), Path(out)
    if out.suffix != ".safetensors":
        raise CheckpointError(
            f"{out}: the output is a .safetensors file, such as checkpoints/aviris_200/spe_fen.safetensors."
        )
    missing = [name for name in _SPE_FILES if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"{folder}: lacks {', '.join(missing)}. A released folder holds {', '.join(_SPE_FILES)}.")
    sensor = sensor or out.parent.name.rpartition("_")[0] or "unknown"

    theirs = {key: value for name in ("convh.pt", "pc.pt") for key, value in read_state(folder / name).items()}
    trained = _renamed(theirs, _SPE_KEYS, folder)
    spe_fen = SpeFEN(trained["cwl.weight"].shape[1], backbone=None)
    spe_frozen = _frozen(read_state(folder / "enc.pt"), spe_fen, folder / "enc.pt")
    load_frozen(spe_fen.backbone_layers(), spe_frozen)
    _fill(spe_fen, trained, folder)
    branches: list[tuple[Branch, Path, str, str, dict[str, torch.Tensor]]] = [
        (spe_fen, out, "spe_fen", "imagenet", spe_frozen)
    ]

    if (folder / "spa_fen.pt").is_file():
        path = folder / "spa_fen.pt"
        theirs = read_state(path)
        trained = _renamed(theirs, _SPA_KEYS, path)
        spa_fen = SpaFEN(trained["compression.0.weight"].shape[1], backbone=None)
        if spa_fen.bands != spe_fen.bands:
            raise CheckpointError(
                f"{path}: is for {spa_fen.bands} bands, the spectral branch beside it for {spe_fen.bands}."
            )
        frozen = {k.removeprefix(_SPA_BACKBONE): v for k, v in theirs.items() if k.startswith(_SPA_BACKBONE)}
        frozen = _frozen(frozen, spa_fen, path)
        load_frozen(spa_fen.backbone_layers(), frozen)
        _fill(spa_fen, trained, path)
        # the released training let the running statistics adapt, so these are not ImageNet's any more
        branches.append((spa_fen, out.with_name("spa_fen.safetensors"), "spa_fen", "file:spa_fen.pt", frozen))

    backbones = {network.ARCHITECTURE: frozen for network, _, _, _, frozen in branches}
    written = [save_backbones(out.with_name(BACKBONE_FILE), backbones)]
    for network, path, branch, backbone, frozen in branches:
        info = CheckpointInfo(
            branch=branch,
            bands=network.bands,
            sensor=sensor,
            recipe="released",
            backbone=backbone,
            backbone_sha256=state_hash(frozen),
            selection="test-auc",  # docs/fidelity.md#choices-by-the-test-set
            origin=f"the authors' released weights, {folder.parent.name}/{folder.name}",
            git_revision=git_revision(),
        )
        written.append(save_checkpoint(network, path, info))
    return written


def _renamed(theirs: dict[str, torch.Tensor], keys: dict[str, str], where: Path) -> dict[str, torch.Tensor]:
    missing = [key for key in keys.values() if key not in theirs]
    if missing:
        raise CheckpointError(
            f"{where}: lacks {', '.join(missing)}. It does not have the layout of the released weights."
        )
    for key in keys.values():
        if problem := weight_problem(theirs[key]):
            raise CheckpointError(f"{where}: {key} {problem}. The file is damaged; fetch it again.")
    return {ours: theirs[key].float() for ours, key in keys.items()}


def _fill(network: Branch, trained: dict[str, torch.Tensor], where: Path) -> None:
    try:
        network.load_state_dict(trained, strict=False)
    except RuntimeError as error:  # a shape that does not fit
        raise CheckpointError(
            f"{where}: {str(error).splitlines()[-1].strip()}. It is not of the released layout."
        ) from error


def _frozen(theirs: dict[str, torch.Tensor], network: Branch, where: Path) -> dict[str, torch.Tensor]:
    """The frozen layers in torchvision's names, from those names or from the numbers of a Sequential of its children."""
    children = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    named = {}
    for key, value in theirs.items():
        head, _, tail = key.partition(".")
        named[f"{children[int(head)]}.{tail}" if head.isdigit() and int(head) < len(children) else key] = value
    chosen = {}
    for key, like in network.backbone_layers().state_dict().items():
        # a wrapper around the network puts its own name first
        found = next((v for k, v in named.items() if k == key or k.endswith(f".{key}")), None)
        if found is None and key.endswith("num_batches_tracked"):
            found = torch.zeros((), dtype=torch.int64)
        if found is None or found.shape != like.shape:
            raise BackboneError(
                f"{where}: {key} is missing or of another shape. It does not hold {network.ARCHITECTURE}."
            )
        if problem := weight_problem(found) if like.is_floating_point() else "":
            raise BackboneError(f"{where}: {key} {problem}. The file is damaged; fetch it again.")
        chosen[key] = found.to(like.dtype)
    return chosen


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m models.import_released",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="the released folder")
    parser.add_argument("out", type=Path, help="checkpoint to write, <sensor>_<bands>/spe_fen.safetensors")
    parser.add_argument("--sensor", help="sensor for the metadata (default: from the name of the output's folder)")
    options = parser.parse_args(arguments)

    def work() -> None:
        for path in import_released(options.folder, options.out, options.sensor):
            print(f"wrote {path} ({path.stat().st_size / 1000:.0f} kB)")

    return run(work, (CheckpointError, BackboneError))


if __name__ == "__main__":
    sys.exit(main())
