"""Trained weights on disk: one safetensors file per branch, trained tensors only, and what it takes to rebuild the rest.

    checkpoints/<sensor>_<bands>/spe_fen.safetensors   CWL, FPL, ZCL
    checkpoints/<sensor>_<bands>/spa_fen.safetensors   compression, LightSPP, SE; with the released recipe the statistics
                                                       of the frozen batch norms, which adapted in training
    checkpoints/<sensor>_<bands>/backbone.safetensors  optional: the frozen layers, ``<architecture>.<torchvision name>``

Without the third, the frozen layers are found as the metadata says (ImageNet from torchvision, or a random seed).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from data.files import atomic_path
from models.backbones import BACKBONE_FILE, BackboneError, backbone_state, load_frozen, read_state, state_hash
from models.spa_fen import SpaFEN
from models.spe_fen import SpeFEN

ROOT = Path(__file__).resolve().parent.parent
BRANCHES: dict[str, type[nn.Module]] = {"spe_fen": SpeFEN, "spa_fen": SpaFEN}
_FROZEN_PREFIX = "backbone."
_STATISTICS = ("running_mean", "running_var")  # of batch norms


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint's metadata.

    Attributes:
        branch: ``spe_fen`` or ``spa_fen``.
        bands: C.
        sensor: Sensor of the training data, such as ``aviris_ng``.
        recipe: ``paper`` or ``released``.
        backbone: Source of the frozen layers while it was trained: ``imagenet``, ``random:SEED`` or ``file:NAME``.
        backbone_sha256: ``state_hash`` of those frozen layers.
        seed: Training seed, None where it is not known.
        epoch: Epochs trained, None where it is not known.
        selection: How the epoch was chosen: ``last``, or ``test-auc`` where the test set's ground truth chose it.
        origin: Who trained it and from what.
        git_revision: Of the project that wrote the file.
        metrics: What was measured with it.
    """

    branch: str
    bands: int
    sensor: str
    recipe: str
    backbone: str
    backbone_sha256: str
    seed: int | None = None
    epoch: int | None = None
    selection: str = "last"
    origin: str = ""
    git_revision: str = ""
    metrics: dict[str, float] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """As safetensors stores it: each value in JSON."""
        return {"format": "fers-1", **{key: json.dumps(value) for key, value in vars(self).items()}}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str] | None, path: Path) -> CheckpointInfo:
        """Read back what ``to_metadata`` wrote.

        Raises:
            CheckpointError: The file was not written by this project, or by a later version of it.
        """
        if (metadata or {}).get("format") != "fers-1":
            raise CheckpointError(
                f"{path}: not a checkpoint of this project (no metadata of format fers-1). Released .pt folders are turned "
                "into one with: python -m models.import_released FOLDER OUT.safetensors"
            )
        try:
            return cls(**{key: json.loads(value) for key, value in metadata.items() if key != "format"})
        except (TypeError, json.JSONDecodeError) as error:
            raise CheckpointError(
                f"{path}: its metadata is damaged or of a later version ({error}). Update, or train again."
            ) from error


def is_trained(network: nn.Module, key: str) -> bool:
    """Whether a tensor of a branch is trained: all but the frozen backbone, of which only statistics may adapt."""
    if not key.startswith(_FROZEN_PREFIX):
        return True
    return getattr(network, "adapt_batch_norm", False) and key.endswith(_STATISTICS)


def trained_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a branch that are trained."""
    return {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items() if is_trained(network, k)}


def save_checkpoint(network: nn.Module, path: str | Path, info: CheckpointInfo) -> Path:
    """Write a branch's trained tensors, whole or not at all.

    Args:
        network: A SpeFEN or SpaFEN.
        path: The file to write, ``.safetensors``.
        info: Its metadata.

    Returns:
        ``path``.
    """
    with atomic_path(path) as temporary:
        save_file(trained_state(network), temporary, metadata=info.to_metadata())
    return Path(path)


def save_backbones(path: str | Path, states: dict[str, dict[str, torch.Tensor]]) -> Path:
    """Write frozen layers beside checkpoints: ``states`` maps an architecture to its state dict."""
    tensors = {f"{arch}.{key}": value.contiguous() for arch, state in states.items() for key, value in state.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "fers-backbone-1"})
    return Path(path)


def load_checkpoint(
    path: str | Path, bands: int | None = None, backbone: str | None = None
) -> tuple[nn.Module, CheckpointInfo]:
    """Rebuild a branch: trained tensors from the file, frozen layers from where the metadata says.

    Args:
        path: A ``spe_fen.safetensors`` or ``spa_fen.safetensors``.
        bands: The number of bands it must be for; None takes any.
        backbone: Source of the frozen layers, in place of ``backbone.safetensors`` beside the file or the metadata's.

    Returns:
        The network in eval mode on the CPU, and its metadata.

    Raises:
        CheckpointError: The file is missing, damaged, for other bands, of another key set, or was trained with other
            frozen layers than those found.
        BackboneError: The frozen layers cannot be had.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint. Train it, or name another folder with --checkpoint_dir.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as safetensors ({error}). Is it complete? Train or import it again."
        ) from error
    info = CheckpointInfo.from_metadata(metadata, path)
    if info.branch not in BRANCHES:
        raise CheckpointError(f"{path}: holds a '{info.branch}'; expected one of {', '.join(BRANCHES)}.")
    if bands is not None and info.bands != bands:
        raise CheckpointError(
            f"{path}: trained for {info.bands} bands, asked for {bands}. Give --input_channel {info.bands}, or the "
            f"checkpoint for {bands} bands with --checkpoint_dir."
        )
    network = BRANCHES[info.branch](info.bands, backbone=None)
    if info.branch == "spa_fen":
        network.adapt_batch_norm = any(key.startswith(_FROZEN_PREFIX) for key in tensors)
    _check_tensors(path, tensors, {k: v for k, v in network.state_dict().items() if is_trained(network, k)})
    load_frozen(network.backbone, _frozen_state(network, path, info, backbone))
    network.load_state_dict(tensors, strict=False)
    return network.eval(), info


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes: which checkpoint a result was made with."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def git_revision() -> str:
    """The commit the code is at, with ``-dirty`` for uncommitted changes; empty outside a checkout."""
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _check_tensors(path: Path, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    if missing := sorted(expected.keys() - found.keys()):
        raise CheckpointError(
            f"{path}: lacks {', '.join(missing)}. It is of another version or damaged; train or import it again."
        )
    if extra := sorted(found.keys() - expected.keys()):
        raise CheckpointError(
            f"{path}: holds tensors this network has not: {', '.join(extra)}. It is of another version."
        )
    for key, value in expected.items():
        if found[key].shape != value.shape:
            raise CheckpointError(
                f"{path}: {key} is {tuple(found[key].shape)}, its metadata makes it {tuple(value.shape)}. Train or import it again."
            )


def _frozen_state(
    network: nn.Module, path: Path, info: CheckpointInfo, backbone: str | None
) -> dict[str, torch.Tensor]:
    beside = path.parent / BACKBONE_FILE
    if backbone is not None:
        source = backbone
    elif beside.is_file() and any(key.startswith(f"{network.ARCHITECTURE}.") for key in read_state(beside)):
        source = str(beside)
    elif info.backbone.startswith("file:"):
        raise BackboneError(
            f"{path}: was trained with frozen layers from a file, {info.backbone.removeprefix('file:')}, and there is no "
            f"{BACKBONE_FILE} with {network.ARCHITECTURE} beside it. Give that file with --backbone PATH, or --backbone "
            "imagenet if ImageNet's layers are what it held."
        )
    else:
        source = info.backbone
    state = backbone_state(network.ARCHITECTURE, network.FROZEN, source)
    if state_hash(state) != info.backbone_sha256:
        raise CheckpointError(
            f"{path}: was trained on other frozen layers ({info.backbone}, sha256 {info.backbone_sha256[:12]}...) than found in "
            f"'{source}' (sha256 {state_hash(state)[:12]}...). Its features would be wrong. Give the right file with "
            f"--backbone PATH, or put it beside the checkpoint as {BACKBONE_FILE}."
        )
    return state
