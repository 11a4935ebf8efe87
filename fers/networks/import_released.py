"""Turn a folder of the authors' released weights into this project's checkpoints.

    fers weights import FOLDER OUT.safetensors [--sensor aviris_ng]

FOLDER holds ``convh.pt`` (CWL), ``enc.pt`` (layer1 of wide_resnet101_2) and ``pc.pt`` (FPL and ZCL), and perhaps
``spa_fen.pt``. OUT.safetensors gets the spectral branch. Its folder also gets ``backbone.safetensors``, the released frozen
layers, and ``spa_fen.safetensors`` where there is a spatial branch. Name OUT
``checkpoints/<sensor>_<bands>/spe_fen.safetensors`` and the test scripts find it by themselves.

The files are pickles from elsewhere: they are read with ``weights_only=True``, which runs nothing in them.
"""

from __future__ import annotations

from pathlib import Path

import torch

from fers.networks.backbones import (
    BACKBONE_FILE,
    Branch,
    load_frozen,
    read_state,
    select_layers,
    state_hash,
)
from fers.networks.checkpoint import (
    CheckpointError,
    CheckpointInfo,
    check_tensors,
    git_revision,
    save_backbones,
    save_checkpoint,
)
from fers.networks.spa_fen import SpaFEN
from fers.networks.spe_fen import SpeFEN

ORIGIN = "the authors' released weights"  # how the metadata of an imported checkpoint begins
_SPE_FILES = ("convh.pt", "enc.pt", "pc.pt")
_SPE_KEYS = {  # ours: theirs; the first has the bands in its second axis
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
_CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")  # of torchvision's ResNets
_IN_ALL = "layer1.0.conv1.weight"


def import_released(folder: str | Path, out: str | Path, sensor: str | None = None) -> list[Path]:
    """Read a released folder and write checkpoints.

    Args:
        folder: Holds convh.pt, enc.pt, pc.pt, and spa_fen.pt where there is one.
        out: The .safetensors file for the spectral branch.
        sensor: Sensor for the metadata; by default that in the name of out's folder, ``<sensor>_<bands>``.

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
    spe = {key: value for name in ("convh.pt", "pc.pt") for key, value in read_state(folder / name).items()}
    spe_fen = _rebuilt(SpeFEN, folder, spe, _SPE_KEYS, folder / "enc.pt", read_state(folder / "enc.pt"))
    branches: list[tuple[Branch, Path, str]] = [(spe_fen, out, "imagenet")]
    if (path := folder / "spa_fen.pt").is_file():
        spa = read_state(path)
        spa_fen = _rebuilt(SpaFEN, path, spa, _SPA_KEYS, path, spa)
        if spa_fen.bands != spe_fen.bands:
            raise CheckpointError(
                f"{path}: is for {spa_fen.bands} bands, the spectral branch in the same folder for {spe_fen.bands}."
            )
        # the released training let the running statistics adapt, so these are not ImageNet's any more
        branches.append((spa_fen, out.with_name("spa_fen.safetensors"), "file:spa_fen.pt"))

    frozen = {network.ARCHITECTURE: network.backbone_layers().state_dict() for network, _, _ in branches}
    written = [save_backbones(out.with_name(BACKBONE_FILE), frozen)]
    for network, path, backbone in branches:
        info = CheckpointInfo(
            branch="spe_fen" if network is spe_fen else "spa_fen",
            bands=network.bands,
            sensor=sensor or out.parent.name.rpartition("_")[0] or "unknown",
            recipe="released",
            backbone=backbone,
            backbone_sha256=state_hash(frozen[network.ARCHITECTURE]),
            teacher="" if network is spe_fen else spe_fen.fingerprint(),
            selection="test-auc",  # docs/fidelity.md#choices-by-the-test-set
            origin=f"{ORIGIN}, {folder.parent.name}/{folder.name}",
            git_revision=git_revision(),
        )
        written.append(save_checkpoint(network, path, info))
    return written


def _rebuilt(
    make: type[SpeFEN | SpaFEN],
    path: Path,
    theirs: dict[str, torch.Tensor],
    keys: dict[str, str],
    frozen_path: Path,
    frozen: dict[str, torch.Tensor],
) -> SpeFEN | SpaFEN:
    """Rebuild a branch from the released weights ``theirs`` and the frozen layers among ``frozen``."""
    if missing := [key for key in keys.values() if key not in theirs]:
        raise CheckpointError(
            f"{path}: lacks {', '.join(missing)}. It does not have the layout of the released weights."
        )
    trained = {ours: theirs[key] for ours, key in keys.items()}
    network = make(next(iter(trained.values())).shape[1], backbone=None)
    check_tensors(path, trained, network.trained_state())
    expected = network.backbone_layers().state_dict()
    layers = select_layers(_torchvision_names(frozen), expected, network.ARCHITECTURE, str(frozen_path))
    load_frozen(network.backbone_layers(), layers)
    network.load_state_dict(trained, strict=False)
    return network


def _torchvision_names(theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a ResNet's tensors to torchvision's names, from these or a Sequential's numbers, in any wrapper."""
    by_number = _IN_ALL.replace("layer1", str(_CHILDREN.index("layer1")), 1)
    wrapped = next((key for key in theirs if key.endswith((f".{_IN_ALL}", f".{by_number}"))), "")
    wrapper = wrapped.removesuffix(_IN_ALL).removesuffix(by_number)
    named = {}
    for key, value in theirs.items():
        head, _, tail = key.removeprefix(wrapper).partition(".")
        named[
            f"{_CHILDREN[int(head)]}.{tail}" if head.isdigit() and int(head) < len(_CHILDREN) else f"{head}.{tail}"
        ] = value
    return named
