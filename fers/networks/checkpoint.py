"""Trained weights on disk: one safetensors file per branch, with its trained tensors and metadata to rebuild the rest.

    checkpoints/<sensor>_<bands>/spe_fen.safetensors   CWL, FPL, ZCL
    checkpoints/<sensor>_<bands>/spa_fen.safetensors   compression, LightSPP, SE; with the released recipe the statistics
                                                       of the frozen batch norms, which adapted in training
    checkpoints/<sensor>_<bands>/backbone.safetensors  optional: the frozen layers, ``<architecture>.<torchvision name>``
    checkpoints/SHA256SUMS                             the files that are shipped; each is checked when it is loaded

Without the third, the frozen layers are found as the metadata says (ImageNet from torchvision, or a random seed).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fers.networks.backbones import (
    BACKBONE_FILE,
    BackboneError,
    Branch,
    backbone_state,
    load_frozen,
    read_state,
    state_hash,
    weight_problem,
)
from fers.networks.info import CheckpointError, CheckpointInfo
from fers.networks.spa_fen import SpaFEN
from fers.networks.spe_fen import SpeFEN
from fers.util.files import atomic_path, sha256_of
from fers.util.paths import PACKAGE, shipped_checkpoints

AnyBranch = TypeVar("AnyBranch", bound=Branch)
SUMS_FILE = "SHA256SUMS"


def save_checkpoint(network: Branch, path: str | Path, info: CheckpointInfo) -> Path:
    """Write a branch's trained tensors, whole or not at all.

    Args:
        network: Such as a SpeFEN or SpaFEN.
        path: The file to write, ``.safetensors``.
        info: Its metadata.

    Returns:
        ``path``.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.trained_state().items()}
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=info.to_metadata())
    except SafetensorError as error:  # such as of a full disk
        raise OSError(f"{path}: cannot be written ({error})") from error
    return Path(path)


def save_backbones(path: str | Path, states: dict[str, dict[str, torch.Tensor]]) -> Path:
    """Write ``backbone.safetensors``; ``states`` maps an architecture to the state dict of its frozen layers."""
    tensors = {f"{arch}.{key}": value.contiguous() for arch, state in states.items() for key, value in state.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "fers-backbone-1"})
    return Path(path)


def load_checkpoint(
    path: str | Path, bands: int | None = None, backbone: str | None = None
) -> tuple[SpeFEN | SpaFEN, CheckpointInfo]:
    """Rebuild a Spe-FEN or Spa-FEN; ``load_branch`` describes arguments, result and errors."""
    branches: Mapping[str, Callable[..., SpeFEN | SpaFEN]] = {"spe_fen": SpeFEN, "spa_fen": SpaFEN}
    return load_branch(path, branches, bands, backbone)


def load_branch(
    path: str | Path,
    branches: Mapping[str, Callable[..., AnyBranch]],
    bands: int | None = None,
    backbone: str | None = None,
) -> tuple[AnyBranch, CheckpointInfo]:
    """Rebuild a branch: trained tensors from the file, frozen layers from where the metadata says.

    Args:
        path: A ``.safetensors`` file that ``save_checkpoint`` wrote.
        branches: Networks that the file may hold, by their names in the metadata.
        bands: The number of bands it must be for; None takes any.
        backbone: Source of the frozen layers, instead of ``backbone.safetensors`` next to the file or the metadata's.

    Returns:
        The network in eval mode on the CPU, and its metadata.

    Raises:
        CheckpointError: The file is missing, damaged, for other bands, of another key set, or was trained with other
            frozen layers than those found; or it is a shipped one whose bytes have changed.
        BackboneError: The frozen layers cannot be loaded.
    """
    path = Path(path)
    info, tensors = _read_checkpoint(path)
    if bands is not None and info.bands != bands:
        raise CheckpointError(
            f"{path}: trained for {info.bands} bands, asked for {bands}. Give --input_channel {info.bands}, or the "
            f"checkpoint for {bands} bands with --checkpoint_dir."
        )
    if info.branch not in branches:
        raise CheckpointError(f"{path}: holds a {info.branch}; expected {' or '.join(branches)}. Give another file.")
    network = branches[info.branch](info.bands, backbone=None)
    network.adapt_batch_norm = info.branch == "spa_fen" and any(key.startswith(network.PREFIX) for key in tensors)
    check_tensors(path, tensors, network.trained_state())
    load_frozen(network.backbone_layers(), _frozen_state(network, path, info, backbone))
    network.load_state_dict(tensors, strict=False)
    return network.eval(), info


def read_info(path: str | Path) -> CheckpointInfo:
    """Read the metadata of a checkpoint; ``load_branch`` describes the errors of its file."""
    return _read_checkpoint(Path(path))[0]


def _read_checkpoint(path: Path) -> tuple[CheckpointInfo, dict[str, torch.Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint. Train it, or name another folder with --checkpoint_dir.")
    _check_sum(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as safetensors ({error}). Is it complete? Train or import it again."
        ) from error
    return CheckpointInfo.from_metadata(metadata, path), tensors


def shipped(name: str) -> Path:
    """Find a checkpoint folder that comes with the project, in a checkout and in an installed copy.

    Args:
        name: The folder's name, such as ``aviris_200``.

    Raises:
        CheckpointError: None of that name is shipped.

    Example:
        >>> sorted(path.name for path in shipped("aviris_200").glob("*.safetensors"))
        ['spe_fen.safetensors']
    """
    names = sorted({Path(file).parent.name for file in _sums(shipped_checkpoints())})
    if name not in names:
        raise CheckpointError(f"'{name}': no such checkpoint is shipped; there are {', '.join(names) or 'none'}.")
    return shipped_checkpoints() / name


def is_shipped(path: str | Path) -> bool:
    """Tell whether a file is named in the ``SHA256SUMS`` of the folder above its own."""
    path = Path(path).resolve()
    return f"{path.parent.name}/{path.name}" in _sums(path.parent.parent)


def install_checkpoint(trained: Path, folder: Path, architecture: str, frozen: dict[str, torch.Tensor] | None) -> Path:
    """Copy a trained branch to its checkpoint folder, so that it loads there.

    A shipped file that is replaced is no longer shipped: its line in ``SHA256SUMS`` is deleted.

    Args:
        trained: The branch's .safetensors.
        folder: The checkpoint folder. A ``backbone.safetensors`` in it must hold the frozen layers of this branch or none.
        architecture: torchvision's name of the network that has the frozen layers.
        frozen: The frozen layers, if they came from a file, to be kept with the branch; None where the metadata is enough.

    Returns:
        The copy.
    """
    own_file = folder / BACKBONE_FILE
    states: dict[str, dict[str, torch.Tensor]] = {}
    if own_file.is_file():
        for key, value in read_state(own_file).items():
            states.setdefault(key.partition(".")[0], {})[key.partition(".")[2]] = value
    changed = states.pop(architecture, None) is not None or frozen is not None
    if frozen is not None:
        states[architecture] = frozen
    if changed and states:
        save_backbones(own_file, states)
    elif changed:
        own_file.unlink()
    copy = folder / trained.name
    if is_shipped(copy):
        sums = _sums(folder.resolve().parent)
        del sums[f"{folder.resolve().name}/{trained.name}"]
        with atomic_path(folder.resolve().parent / SUMS_FILE) as temporary:
            temporary.write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    with atomic_path(copy) as temporary:
        shutil.copyfile(trained, temporary)
    return copy


def git_revision() -> str:
    """Return the commit of the code, with ``-dirty`` for uncommitted changes; empty outside a checkout."""
    try:
        command = ["git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def check_tensors(path: Path, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Raise a ``CheckpointError`` unless a file's tensors have the expected names and shapes, and sound values."""
    if missing := sorted(expected.keys() - found.keys()):
        raise CheckpointError(
            f"{path}: lacks {', '.join(missing)}. It is from another version, or damaged; train or import it again."
        )
    if extra := sorted(found.keys() - expected.keys()):
        raise CheckpointError(
            f"{path}: holds tensors that this network does not have: {', '.join(extra)}. It is from another version; train or import it again."
        )
    for key, value in expected.items():
        if found[key].shape != value.shape:
            raise CheckpointError(
                f"{path}: {key} is {tuple(found[key].shape)}, expected {tuple(value.shape)}. Train or import it again."
            )
        if problem := weight_problem(found[key]):
            raise CheckpointError(f"{path}: {key} {problem}. Train or import it again.")


def _sums(folder: Path) -> dict[str, str]:
    """Read a folder's ``SHA256SUMS``: the SHA-256 of each file, by its name."""
    try:
        lines = (folder / SUMS_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name}


def _check_sum(path: Path) -> None:
    path = path.resolve()
    expected = _sums(path.parent.parent).get(f"{path.parent.name}/{path.name}")
    if expected is not None and sha256_of(path) != expected:
        raise CheckpointError(
            f"{path}: is not the shipped file: {path.parent.parent / SUMS_FILE} has another sha256. Restore it with "
            "git checkout, or install again."
        )


def _frozen_state(network: Branch, path: Path, info: CheckpointInfo, backbone: str | None) -> dict[str, torch.Tensor]:
    own_file = path.parent / BACKBONE_FILE
    if backbone is not None:
        source = backbone
    elif own_file.is_file() and any(key.startswith(f"{network.ARCHITECTURE}.") for key in read_state(own_file)):
        source = str(own_file)
    elif info.backbone.startswith("file:") and (path.parent / info.backbone.removeprefix("file:")).is_file():
        source = str(path.parent / info.backbone.removeprefix("file:"))
    elif info.backbone.startswith("file:"):
        raise BackboneError(
            f"{path}: was trained with frozen layers from a file, {info.backbone.removeprefix('file:')}, and there is no "
            f"{BACKBONE_FILE} with {network.ARCHITECTURE} in its folder. Give that file with --backbone PATH, or --backbone "
            "imagenet if ImageNet's layers are what it held."
        )
    else:
        source = info.backbone
    state = backbone_state(network.ARCHITECTURE, network.FROZEN, source)
    if state_hash(state) != info.backbone_sha256:
        raise CheckpointError(
            f"{path}: was trained on other frozen layers ({info.backbone}, sha256 {info.backbone_sha256[:12]}...) than found in "
            f"'{source}' (sha256 {state_hash(state)[:12]}...). Its features would be wrong. Give the right file with "
            f"--backbone PATH, or put it into the checkpoint's folder as {BACKBONE_FILE}."
        )
    return state
