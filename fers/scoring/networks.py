"""The branches of a setting, loaded and deployed once for any number of scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from fers.fast.deploy import TILE, DeployedSpeFEN, Window, deploy
from fers.networks import CheckpointError, SpaFEN, SpeFEN
from fers.networks.aetnet import AETNet
from fers.networks.backbones import random_seed
from fers.networks.checkpoint import load_branch
from fers.scoring.views import Features, View
from fers.util.errors import FersError
from fers.util.files import sha256_of

BRANCHES: Mapping[str, Callable[..., SpeFEN | SpaFEN | AETNet]] = {
    "spe_fen": SpeFEN,
    "spa_fen": SpaFEN,
    "aetnet": AETNet,
}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
NAMES = {"spe_fen": "Spe-FEN", "spa_fen": "Spa-FEN", "aetnet": "AETNet"}


WAIT: dict[str, Any] = {"leave": False, "disable": None, "delay": 2}  # a bar on terminals, from two seconds on


class DeviceError(FersError):
    """A device that is not there."""


@dataclass
class Networks:
    """The deployed branches, and what a reader of their results should know.

    Attributes:
        spe: Spe-FEN, or None where no view needs it.
        spa: Spa-FEN, likewise.
        aetnet: AETNet, likewise.
        precision: Of their arithmetic.
        caveats: Sentences for every table made with them: a random backbone, a choice that looked at a test set.
        provenance: For results.json: each branch's file, its sha256 and metadata.
    """

    spe: nn.Module | None = None
    spa: nn.Module | None = None
    aetnet: nn.Module | None = None
    precision: torch.dtype = torch.float32
    caveats: list[str] = field(default_factory=list)
    provenance: dict[str, dict] = field(default_factory=dict)

    def features(self, h: torch.Tensor, together: int = 1) -> Iterator[tuple[torch.Tensor, Features]]:
        """Normalised cubes ``(N, C, H, W)`` with F_spe and F_spa, as far as there are networks for them.

        Spa-FEN sees all scenes at once: its ResNet's maps are so small that even a CPU wants many. Spe-FEN sees as
        many as are given together: on a CPU one, which fits into the cache.

        Yields:
            Some cubes and their features.
        """
        cubes = h.split(together)
        spatial = None if self.spa is None else self.spa(h.to(self.precision)).float().split(together)
        for i, cube in enumerate(cubes):
            found = {} if spatial is None else {"spa": spatial[i]}
            if self.spe is not None:
                found["spe"] = self.spe(cube.to(self.precision)).float()
            if self.aetnet is not None:
                found["aetnet"] = self.aetnet(cube.to(self.precision)).float()
            yield cube, Features(**found)

    def views(self, view: View, h: torch.Tensor, together: int = 1) -> Iterator[list[torch.Tensor]]:
        """The cubes of a view, as ``view.cubes`` makes them of ``features``, of a few scenes after the other.

        A large scene is made window by window, and its F_spa is overwritten with the first cube. So beside H there is
        never more than one cube for each that the view has.

        Args:
            view: Without a fusion of its own (``joined``).
            h: As ``features``.
            together: As ``features``.

        Yields:
            What a detector sees of some scenes.
        """
        cubes = h.split(together)
        spatial = None if self.spa is None else self.spa(h.to(self.precision)).float().split(together)
        for i, cube in enumerate(cubes):
            whole = None if spatial is None else spatial[i]
            made: list[torch.Tensor] = []
            tiles = -(-cube.shape[2] // TILE) * (1 if self.spe is None else -(-cube.shape[3] // TILE))
            for window, spe in tqdm(self._windows(cube), "networks", tiles, unit="tile", **WAIT):
                found = {} if whole is None else {"spa": whole[window]}
                if spe is not None:
                    found["spe"] = spe.float()
                if self.aetnet is not None:
                    found["aetnet"] = self.aetnet(cube.to(self.precision)).float()
                parts = view.cubes(cube[window], Features(**found))
                if parts[0].shape == cube.shape:
                    made = parts
                    break
                if not made:
                    made = [torch.empty_like(cube) if whole is None or j else whole for j in range(len(parts))]
                for target, part in zip(made, parts, strict=True):
                    target[window] = part
            yield made

    def _windows(self, cube: torch.Tensor) -> Iterator[tuple[Window, torch.Tensor | None]]:
        """Windows of a scene, with their F_spe where the view needs it."""
        if isinstance(self.spe, DeployedSpeFEN):
            yield from self.spe.windows(cube.to(self.precision))
        elif self.spe is not None:  # compiled
            yield (..., slice(None), slice(None)), self.spe(cube.to(self.precision))
        else:
            rows = cube.shape[2] if self.aetnet is not None else TILE
            yield from (((..., slice(top, top + rows), slice(None)), None) for top in range(0, cube.shape[2], rows))


def load_networks(
    needs: tuple[str, ...],
    bands: int,
    checkpoint_dir: Path,
    device: torch.device,
    *,
    sensor: str = "",
    backbone: str | None = None,
    untrained_seed: int | None = None,
    precision: str = "fp32",
    compiled: bool = False,
) -> Networks:
    """Load and deploy the branches that a view needs.

    Args:
        needs: Among ``spe_fen``, ``spa_fen`` and ``aetnet``.
        bands: C.
        checkpoint_dir: Folder of ``spe_fen.safetensors``, ``spa_fen.safetensors`` and ``aetnet.safetensors``.
        device: Where they compute.
        sensor: For the commands that an error message names.
        backbone: Frozen layers, ``imagenet``, ``random[:SEED]`` or a path, instead of what a checkpoint says.
        untrained_seed: With it Spe-FEN is the control that was never trained, and nothing is read from the folder.
        precision: A key of ``PRECISIONS``.
        compiled: Compile the networks with ``torch.compile``.

    Raises:
        CheckpointError: A checkpoint is missing or does not fit.
        BackboneError: Frozen layers cannot be had.
    """
    found = Networks(precision=PRECISIONS[precision])
    paths = {branch: Path(checkpoint_dir) / f"{branch}.safetensors" for branch in needs}
    loaded: dict[str, SpeFEN | SpaFEN | AETNet] = {}
    if untrained_seed is not None:
        loaded["spe_fen"] = _untrained(found, bands, backbone or "imagenet", untrained_seed)
    else:
        if missing := [branch for branch, path in paths.items() if not path.is_file()]:
            raise CheckpointError(_missing(missing, paths, bands, sensor, Path(checkpoint_dir)))
        for branch, path in paths.items():
            loaded[branch] = _branch(found, branch, path, bands, backbone)
    for branch, network in loaded.items():
        deployed = (network if isinstance(network, AETNet) else deploy(network)).to(device, found.precision)
        setattr(found, branch.removesuffix("_fen"), torch.compile(deployed) if compiled else deployed)
    if precision != "fp32":
        found.caveats.append(f"Networks computed in {precision}.")
    return found


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, then MPS, then the CPU; ``gpu`` is the first of these that is no CPU.

    Raises:
        DeviceError: The device that was named is not there.
    """
    gpu = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
    try:
        device = torch.device({"auto": gpu or "cpu", "gpu": gpu or "cuda"}.get(name, name))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"--device {name}: not usable here ({reason}). Take auto or cpu.") from error
    return device


def _untrained(found: Networks, bands: int, source: str, seed: int) -> SpeFEN:
    if source.startswith("random"):
        found.caveats.append(f"Frozen backbone random (seed {random_seed(source)}), not ImageNet.")
    found.provenance["spe_fen"] = {"untrained": True, "backbone": source, "seed": seed}
    return SpeFEN(bands, source, seed=seed).eval()


def _branch(found: Networks, branch: str, path: Path, bands: int, backbone: str | None) -> SpeFEN | SpaFEN | AETNet:
    network, info = load_branch(path, BRANCHES, bands, backbone)
    if info.branch != branch:
        raise CheckpointError(f"{path}: holds a {info.branch}, not a {branch}. The file has the wrong name.")
    if info.selection != "last":
        found.caveats.append(
            f"{NAMES[branch]}: its epoch or seed was chosen by AUC on a test set by those who trained it."
        )
    if info.backbone.startswith("random"):
        found.caveats.append(
            f"{NAMES[branch]}: frozen backbone random (seed {random_seed(info.backbone)}), not ImageNet."
        )
    found.provenance[branch] = {"path": str(path), "sha256": sha256_of(path), **vars(info)}
    return network


def _missing(missing: list[str], paths: dict[str, Path], bands: int, sensor: str, folder: Path) -> str:
    """What is not there, the commands that make it, and what can be done without it."""
    arguments = f"--input_channel {bands} --sensor {sensor} --checkpoint_dir {folder}"
    published = {("aviris_ng", b): str(b) for b in (50, 100, 200)} | {("aviris", 200): "abu"}
    lines = ["These features need checkpoints that are not there."]
    for branch in missing:
        lines.append(f"  no {NAMES[branch]} checkpoint: {paths[branch]}")
        if branch == "aetnet":
            lines.append(f"    train one:                python -m baselines.train aetnet {arguments}")
            continue
        if (sensor, bands) in published:
            released = f"python -m models.download_released --bands {published[sensor, bands]}"
            lines.append(f"    fetch the authors' one:   {released} --out {folder}")
        if branch == "spe_fen":
            lines.append(f"    train one (Stage 1):      python train_FERD/train.py {arguments}")
            lines.append(f"    or import released ones:  python -m models.import_released FOLDER {paths[branch]}")
        else:
            lines.append(f"    train one (Stage 2):      python train.py {arguments}")
    if missing == ["spa_fen"] and "spe_fen" in paths:
        lines.append("  or use only the spectral branch: --features spectral")
    if "spe_fen" in missing:
        lines.append("  or do without any checkpoint: --features untrained --backbone random, or --features original")
    lines += [
        f"  Found weights of the released layout: {path.parent}; import them with the command above."
        for path in _released_near(folder)
    ]
    return "\n".join(lines)


def _released_near(folder: Path) -> list[Path]:
    """Files of the authors' layout, ``saved_models/<C>bands/convh.pt``, where their users have them."""
    places = {Path.cwd(), *folder.resolve().parents[:2]}
    return sorted({found for place in places for found in place.glob("saved_models/**/convh.pt")})
