"""The frozen ImageNet layers: residual stages under torchvision's names, with weights from a source the user names.

``Branch`` is the base of the deployed networks: trained layers around such frozen ones.

Three sources, written as one string everywhere (options, checkpoint metadata):

- ``imagenet``: torchvision's IMAGENET1K_V1, from its cache (``$TORCH_HOME/hub/checkpoints``) or downloaded to it;
- ``random`` or ``random:SEED``: no ImageNet at all, drawn from numpy's frozen legacy generator;
- a path: a ``.pth``, ``.pt`` or ``.safetensors`` file, or a folder with one for each network. A file need only cover
  the layers used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import urllib.error
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from fers.networks.init import kaiming_std, normal
from fers.networks.resnet import RESNETS
from fers.util.errors import FersError
from fers.util.paths import home

BACKBONE_FILE = "backbone.safetensors"
_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")
MAX_WEIGHT = 1e6  # no trained network has larger values; a file that does is damaged


class BackboneError(FersError):
    """Frozen layers that cannot be loaded. The message says what was looked for, where, and what to do."""


class Branch(nn.Module):
    """Base of the networks that are deployed: trained layers around frozen layers of torchvision.

    Attributes:
        ARCHITECTURE: torchvision's name of the network that the frozen layers are from.
        FROZEN: The names of these layers there, in order.
        PREFIX: Start of the frozen layers' keys in the branch's own state dict.
        bands: C.
        adapt_batch_norm: Whether the running statistics of the frozen batch norms adapt in training.
        caveats: Sentences that belong under every table made with it.
    """

    ARCHITECTURE: ClassVar[str]
    FROZEN: ClassVar[tuple[str, ...]]
    PREFIX: ClassVar[str]
    bands: int
    adapt_batch_norm: bool = False
    caveats: ClassVar[tuple[str, ...]] = ()

    def backbone_layers(self) -> nn.Sequential:
        """Return the branch's own frozen layers, under their torchvision names."""
        raise NotImplementedError

    def load_backbone(self, source: str) -> None:
        """Fill the frozen layers from a source; see ``backbone_state``."""
        load_frozen(self.backbone_layers(), backbone_state(self.ARCHITECTURE, self.FROZEN, source))

    def is_trained(self, key: str) -> bool:
        """Tell whether a tensor of the state dict is trained. In the frozen layers only batch norms' statistics may be."""
        if not key.startswith(self.PREFIX):
            return True
        return self.adapt_batch_norm and key.endswith(("running_mean", "running_var"))

    def trained_state(self) -> dict[str, torch.Tensor]:
        """Return the trained tensors of the state dict."""
        return {key: value for key, value in self.state_dict().items() if self.is_trained(key)}

    def fingerprint(self) -> str:
        """Return the ``state_hash`` of all its tensors, trained and frozen: the same network in whatever file it comes."""
        return state_hash(self.state_dict())


def frozen_layers(architecture: str, layers: tuple[str, ...]) -> nn.Sequential:
    """Make layers of a ResNet, without their values.

    Args:
        architecture: A key of ``RESNETS``.
        layers: Names of the network's children, in order, such as ``("layer1",)``.

    Returns:
        The layers under their torchvision names, in eval mode, frozen, on the ``meta`` device: nothing is allocated
        and nothing random is drawn for the layers that are not used. Fill them with ``load_frozen``.
    """
    with torch.device("meta"):
        return RESNETS[architecture].layers(layers).eval().requires_grad_(False)


def load_frozen(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put a state dict that ``backbone_state`` made into the layers that ``frozen_layers`` made, on the CPU."""
    module.load_state_dict({key: value.clone() for key, value in state.items()}, strict=True, assign=True)
    module.requires_grad_(False)


def backbone_state(architecture: str, layers: tuple[str, ...], source: str) -> dict[str, torch.Tensor]:
    """Load weights and buffers of some frozen layers.

    Args:
        architecture: A key of ``RESNETS``.
        layers: Names of the network's children.
        source: ``imagenet``, ``random``, ``random:SEED``, or a path; see the module's docstring.

    Returns:
        A complete state dict of those layers in torchvision's names, float32.

    Raises:
        BackboneError: The weights cannot be downloaded, the file is missing or does not cover the layers.
    """
    if not layers:
        return {}
    expected = frozen_layers(architecture, layers).state_dict()
    if source == "imagenet":
        return select_layers(_imagenet(architecture), expected, architecture, f"torchvision's {architecture}")
    if source == "random" or source.startswith("random:"):
        return _random(expected, architecture, random_seed(source))
    path = _file_for(Path(source), architecture)
    return select_layers(read_state(path), expected, architecture, str(path))


def random_seed(source: str) -> int:
    """Parse the seed in ``random`` (which is 0) or ``random:SEED``.

    Raises:
        BackboneError: The text after the colon is not a whole number >= 0.
    """
    seed = source.partition(":")[2] or "0"
    if not (seed.isascii() and seed.isdigit() and len(seed) <= 10) or int(seed) >= 2**32:
        raise BackboneError(f"backbone '{source}': the seed is a whole number from 0 to 2^32 - 1, as in random:7.")
    return int(seed)


def state_hash(state: dict[str, torch.Tensor]) -> str:
    """Hash names, shapes and float32 values by SHA-256: it identifies frozen layers in whatever file they come.

    ``num_batches_tracked`` does not count: it affects no result, and old files lack it.
    """
    digest = hashlib.sha256()
    for key in sorted(state):
        if not key.endswith("num_batches_tracked"):
            value = state[key].detach().cpu().float().contiguous()
            digest.update(f"{key}{tuple(value.shape)}".encode())
            digest.update(value.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def weight_problem(value: torch.Tensor) -> str:
    """Say why a tensor is unfit to be a weight, as the end of a sentence; empty where it is fit."""
    if not value.is_floating_point():
        return f"is of type {str(value.dtype).removeprefix('torch.')}, not floating point"
    if not value.isfinite().all():
        return "holds values that are NaN or infinite"
    if value.numel() and (largest := value.abs().max().item()) > MAX_WEIGHT:
        return f"holds values up to {largest:.3g}, which no trained network has"
    return ""


def backbone_name(source: str) -> str:
    """Name a backbone's source as checkpoints record it: ``imagenet``, ``random:SEED``, ``file:NAME``, or ``none``."""
    if source in ("imagenet", "none"):
        return source
    if source == "random" or source.startswith("random:"):
        return f"random:{random_seed(source)}"
    return f"file:{Path(source).name}"


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a ``.safetensors``, ``.pth`` or ``.pt`` file, whatever they are wrapped in.

    Pickled files are read with ``weights_only=True``: nothing in them is run.

    Raises:
        BackboneError: The file is missing, damaged, or holds something other than tensors.
    """
    if not path.is_file():
        raise BackboneError(
            f"{path}: no such file of weights. Give 'imagenet', 'random', or the path of a file that exists."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BackboneError(
            f"{path}: cannot be read as weights ({reason}). It must hold plain tensors and be complete; fetch or save it again."
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise BackboneError(
            f"{path}: holds no state dict of tensors. Save it with torch.save(model.state_dict(), path)."
        )
    return {key.removeprefix("module."): value for key, value in state.items()}


def select_layers(
    state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], architecture: str, where: str
) -> dict[str, torch.Tensor]:
    """Pick the expected keys from a state dict, which may name its network (``resnet34.layer1...``) or not.

    Raises:
        BackboneError: A tensor is missing, of another shape, or damaged; the message begins with ``where``.
    """
    prefix = f"{architecture}."
    chosen, missing = {}, []
    for key, like in expected.items():
        value = state.get(prefix + key, state.get(key))
        if value is None and key.endswith("num_batches_tracked"):
            value = torch.zeros((), dtype=torch.int64)
        if value is None:
            missing.append(key)
        elif value.shape != like.shape:
            raise BackboneError(
                f"{where}: {key} is {tuple(value.shape)}; {architecture} has {tuple(like.shape)}. These are another network's weights."
            )
        else:
            if problem := weight_problem(value) if like.is_floating_point() else "":
                raise BackboneError(f"{where}: {key} {problem}. The file is damaged; fetch or save it again.")
            chosen[key] = value.to(like.dtype)
    if missing:
        raise BackboneError(
            f"{where}: {len(missing)} of {len(expected)} tensors of {architecture} are not in it, the first is {missing[0]}. "
            f"Give a file that covers these layers (torchvision's own: {RESNETS[architecture].url}), or 'random'."
        )
    return chosen


def _random(expected: dict[str, torch.Tensor], architecture: str, seed: int) -> dict[str, torch.Tensor]:
    """Draw Kaiming-normal (fan-out) convolutions and identity batch norms: a ResNet before any training."""
    state = {}
    for key, like in expected.items():
        if like.ndim == 4:
            state[key] = normal(f"{architecture}.{key}", seed, like.shape, kaiming_std(like)).float()
        else:
            one = key.endswith(("weight", "running_var"))
            state[key] = torch.full(like.shape, 1 if one else 0, dtype=like.dtype)
    return state


def _imagenet(architecture: str) -> dict[str, torch.Tensor]:
    weights = RESNETS[architecture]
    cache = Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(weights.url)
    try:
        return torch.hub.load_state_dict_from_url(weights.url, map_location="cpu", check_hash=True, weights_only=True)
    except (urllib.error.URLError, OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        if cache.exists():
            raise BackboneError(
                f"{cache}: cannot be read as torchvision's weights ({str(error).splitlines()[0]}). It may be an interrupted "
                "download: delete it and run again, or put a complete copy there."
            ) from error
        raise BackboneError(
            f"the ImageNet weights of {architecture} are not on this machine and could not be downloaded ({error}).\n"
            f"  Fetch   {weights.url} ({weights.megabytes} MB)\n  put it  {cache}\n"
            + "".join(f"  or use  --backbone {path}, which was imported\n" for path in _imported(architecture))
            + "  or give the file with --backbone PATH, or do without ImageNet: --backbone random (results differ and say so)."
        ) from error


def _imported(architecture: str) -> list[Path]:
    """Find files of frozen layers that came with imported checkpoints and cover some of this network."""
    found = []
    for path in sorted(home().glob(f"checkpoints/*/{BACKBONE_FILE}")):
        with contextlib.suppress(SafetensorError, OSError), safe_open(path, "pt") as file:
            if any(key.startswith(f"{architecture}.") for key in file.keys()):  # noqa: SIM118  # no mapping
                found.append(path)
    return found


def _file_for(path: Path, architecture: str) -> Path:
    if not path.is_dir():
        return path
    named = [p for p in sorted(path.iterdir()) if p.name.startswith(architecture) and p.suffix in _WEIGHT_SUFFIXES]
    for candidate in [path / BACKBONE_FILE, *named]:
        if candidate.is_file():
            return candidate
    raise BackboneError(f"{path}: holds neither {BACKBONE_FILE} nor a file {architecture}*.pth. Give the file itself.")
