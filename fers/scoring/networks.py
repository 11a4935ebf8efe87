"""The branches of a setting, loaded and deployed once for any number of scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from fers.fast.deploy import TILE, DeployedSpeFEN, Window, deploy
from fers.networks import CheckpointError, SpaFEN, SpeFEN
from fers.networks.aetnet import AETNet
from fers.networks.backbones import Branch, random_seed
from fers.networks.checkpoint import load_branch
from fers.networks.info import DEAD_SPA_FEN
from fers.networks.rd4ad import READINGS
from fers.networks.spa_fen import varying_channels
from fers.scoring.config import PRECISIONS
from fers.scoring.settings import Cube
from fers.util.errors import FersError
from fers.util.files import sha256_of

RD4AD_NETWORKS = {reading.BRANCH: reading for reading in READINGS.values()}
_CLASSES: Mapping[str, Callable[..., Branch]] = {
    "spe_fen": SpeFEN,
    "spa_fen": SpaFEN,
    "aetnet": AETNet,
    **RD4AD_NETWORKS,
}
TYPES = dict(zip(PRECISIONS, (torch.float32, torch.bfloat16), strict=True))
NAMES = {"spe_fen": "Spe-FEN", "spa_fen": "Spa-FEN", "aetnet": "AETNet", **dict.fromkeys(RD4AD_NETWORKS, "RD4AD")}


_IS_CONSTANT = "Spa-FEN: every channel of F_spa is constant on a scene of this run, so it adds nothing there."
_TEACH = "Train one under this Spe-FEN: python train.py --stage 2."
GPU_TILE = 512  # px: a strip of a large scene is one tile, for a GPU waits longer for the next call than it computes
WAIT: dict[str, Any] = {"leave": False, "disable": None, "delay": 2}  # a bar on terminals, from two seconds on


class DeviceError(FersError):
    """A device that is not there."""


@dataclass
class Networks:
    """The deployed branches, with caveats and provenance for their results.

    Attributes:
        spe: Spe-FEN, or None where no cube needs it.
        spa: Spa-FEN, likewise.
        detector: Network of a detector that is trained on background, likewise; in float32.
        precision: Type of their arithmetic.
        caveats: Sentences for every table made with them: a random backbone, a choice that looked at a test set.
        provenance: For results.json: each branch's file, its sha256 and metadata.
    """

    spe: nn.Module | None = None
    spa: nn.Module | None = None
    detector: nn.Module | None = None
    precision: torch.dtype = torch.float32
    caveats: list[str] = field(default_factory=list)
    provenance: dict[str, dict] = field(default_factory=dict)

    def cubes(
        self, wanted: Sequence[Cube], h: torch.Tensor, together: int = 1, f_spa: torch.Tensor | None = None
    ) -> Iterator[list[torch.Tensor]]:
        """Yield the cubes that detectors see, a few scenes at a time.

        Spa-FEN sees all scenes at once: its ResNet's maps are so small that even a CPU is faster with many. Spe-FEN sees
        ``together`` scenes: one on a CPU, where it fits into the cache. A large scene is made window by window, and its
        F_spa is overwritten with the first cube that is not H. So besides H there is at most one tensor for each cube.

        Args:
            wanted: Cubes to make, as in ``Setting.cubes``.
            h: Normalised cubes, ``(N, C, H, W)``.
            together: Number of scenes at a time.
            f_spa: F_spa, if it is known; it may be overwritten.

        Yields:
            The cubes of some scenes, each ``(n, C, H, W)``; H itself where nothing is added to it.
        """
        if f_spa is None and self.spa is not None and any("f_spa" in cube for cube in wanted):
            f_spa = self.spa(h.to(self.precision)).float()
            if _IS_CONSTANT not in self.caveats and not bool(varying_channels(f_spa).any(1).all()):
                self.caveats.append(_IS_CONSTANT)
        spatial = None if f_spa is None else f_spa.split(together)
        for number, some in enumerate(h.split(together)):
            yield self._cubes(wanted, some, None if spatial is None else spatial[number])

    def _cubes(self, wanted: Sequence[Cube], h: torch.Tensor, f_spa: torch.Tensor | None) -> list[torch.Tensor]:
        if set(wanted) == {("h",)}:
            return [h] * len(wanted)
        made: list[torch.Tensor] = []
        needs_spe = any("f_spe" in cube for cube in wanted)
        side = getattr(self.spe, "tile", None) or TILE
        tiles = -(-h.shape[2] // side) * (-(-h.shape[3] // side) if needs_spe else 1)
        for window, f_spe in tqdm(self._windows(h, needs_spe), "networks", tiles, unit="tile", **WAIT):
            found = {"h": h[window]}
            if f_spa is not None:
                found["f_spa"] = f_spa[window]
            if f_spe is not None:
                found["f_spe"] = f_spe
            parts = [reduce(torch.add, [found[name] for name in cube]) for cube in wanted]
            if parts[0].shape == h.shape:
                return parts
            if not made:
                room = [torch.empty_like(h) if f_spa is None or number else f_spa for number in range(len(wanted))]
                made = [h if cube == ("h",) else own for cube, own in zip(wanted, room, strict=True)]
            for target, part, cube in zip(made, parts, wanted, strict=True):
                if cube != ("h",):
                    target[window] = part
        return made

    def _windows(self, cube: torch.Tensor, needs_spe: bool) -> Iterator[tuple[Window, torch.Tensor | None]]:
        """Yield windows of a scene, with their F_spe where it is needed."""
        if needs_spe and isinstance(self.spe, DeployedSpeFEN):
            yield from ((window, f_spe.float()) for window, f_spe in self.spe.windows(cube.to(self.precision)))
        elif needs_spe and self.spe is not None:  # compiled, or in training
            yield (..., slice(None), slice(None)), self.spe(cube.to(self.precision)).float()
        else:
            yield from (((..., slice(top, top + TILE), slice(None)), None) for top in range(0, cube.shape[2], TILE))


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
    detector: Sequence[str] = (),
    strict: bool = False,
) -> Networks:
    """Load and deploy the branches that a setting needs, and the network that its detector needs.

    Args:
        needs: Among ``spe_fen`` and ``spa_fen``.
        bands: C.
        checkpoint_dir: Folder of ``spe_fen.safetensors``, ``spa_fen.safetensors`` and the detector's.
        device: Device of the networks.
        sensor: Sensor for the commands in an error message.
        backbone: Frozen layers, ``imagenet``, ``random[:SEED]`` or a path, instead of what a checkpoint says.
        untrained_seed: Seed of an untrained Spe-FEN, the control, which needs no folder; None for trained networks.
        precision: A key of ``PRECISIONS``.
        compiled: Compile the networks with ``torch.compile``.
        detector: Networks of which the detector needs one, as ``Entry.network`` has them.
        strict: Refuse a Spa-FEN that another Spe-FEN taught, or that does not say which.

    Raises:
        CheckpointError: A checkpoint is missing or does not fit, there is more than one for the detector, or ``strict``
            refuses a Spa-FEN.
        BackboneError: Frozen layers cannot be loaded.
    """
    found = Networks(precision=TYPES[precision])
    folder = Path(checkpoint_dir)
    paths = {branch: folder / f"{branch}.safetensors" for branch in (() if untrained_seed is not None else needs)}
    if detector:
        there = [branch for branch in detector if (folder / f"{branch}.safetensors").is_file()] or list(detector[:1])
        if len(there) > 1:
            raise CheckpointError(
                f"{folder}: holds {' and '.join(f'{branch}.safetensors' for branch in there)}, and {NAMES[there[0]]} takes one. "
                "Name a folder that holds only one with --checkpoint_dir."
            )
        paths[there[0]] = folder / f"{there[0]}.safetensors"
    if missing := [branch for branch, path in paths.items() if not path.is_file()]:
        raise CheckpointError(_missing_checkpoints(missing, paths, bands, sensor, folder))
    loaded = {branch: _branch(found, branch, path, bands, backbone) for branch, path in paths.items()}
    if "spe_fen" in loaded and "spa_fen" in loaded and (mark := _other_teacher(found, loaded["spe_fen"])):
        if strict:
            raise CheckpointError(f"{paths['spa_fen']}: {mark} --strict refuses that. {_TEACH} Or leave --strict out.")
        found.caveats.append(mark)
    if untrained_seed is not None:
        loaded["spe_fen"] = _untrained(found, bands, backbone or "imagenet", untrained_seed)
    for branch, network in loaded.items():
        if isinstance(network, SpeFEN | SpaFEN):
            deployed = deploy(network).to(device, found.precision)
            if device.type != "cpu" and isinstance(deployed, DeployedSpeFEN):
                deployed.tile = GPU_TILE
            setattr(found, branch.removesuffix("_fen"), torch.compile(deployed) if compiled else deployed)
        else:
            found.detector = network.to(device)
    if precision != "fp32" and needs:
        found.caveats.append(f"Networks computed in {precision}.")
    return found


def _other_teacher(found: Networks, spe_fen: Branch) -> str:
    """Say that the Spe-FEN in use is not known to be the Spa-FEN's teacher; empty where it is."""
    teacher, used = found.provenance["spa_fen"]["teacher"], spe_fen.fingerprint()
    if teacher == used:
        return ""
    if not teacher:
        return "Spa-FEN: its file does not say which Spe-FEN taught it."
    return f"Spa-FEN: taught by another Spe-FEN ({teacher[:12]}) than the one in use ({used[:12]})."


def choose_device(name: str) -> torch.device:
    """Choose a device: ``auto`` is CUDA if there is one, else MPS, else the CPU; ``gpu`` is CUDA or MPS.

    From then on float32 is float32 on it: see ``allow_tf32``.

    Raises:
        DeviceError: The device that was named is not there.
    """
    allow_tf32(False)
    gpu = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
    try:
        device = torch.device({"auto": gpu or "cpu", "gpu": gpu or "cuda"}.get(name, name))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"--device {name}: cannot be used on this machine ({reason}). Give auto or cpu.") from error
    return device


def sent(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Send an array to a device; to CUDA from pinned memory, so that nothing waits for the copy."""
    here = torch.from_numpy(array)
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here.to(device)


def allow_tf32(allow: bool) -> None:
    """Let GPUs round float32 to TF32's 10 bits in products and convolutions, or not; for convolutions PyTorch's default is yes.

    TF32 changes F_spe by 1e-3, before an RX whose covariance has a condition of some 1e8.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allow


def _untrained(found: Networks, bands: int, source: str, seed: int) -> SpeFEN:
    if source.startswith("random"):
        found.caveats.append(f"Frozen backbone random (seed {random_seed(source)}), not ImageNet.")
    found.provenance["spe_fen"] = {"untrained": True, "backbone": source, "seed": seed}
    return SpeFEN(bands, source, seed=seed).eval()


def _branch(found: Networks, branch: str, path: Path, bands: int, backbone: str | None) -> Branch:
    network, info = load_branch(path, _CLASSES, bands, backbone)
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
    if info.metrics.get("live_channels") == 0:
        found.caveats.append(DEAD_SPA_FEN[0].upper() + DEAD_SPA_FEN[1:])
    found.caveats += network.caveats
    found.provenance[branch] = {"path": str(path), "sha256": sha256_of(path), **vars(info)}
    return network


def _missing_checkpoints(missing: list[str], paths: dict[str, Path], bands: int, sensor: str, folder: Path) -> str:
    """Say which checkpoints are missing, which commands make them, and what works without them."""
    arguments = f"--input_channel {bands} --sensor {sensor} --checkpoint_dir {folder}"
    published = {("aviris_ng", b): str(b) for b in (50, 100, 200)} | {("aviris", 200): "abu"}
    lines = ["This method needs checkpoints that do not exist yet."]
    for branch in missing:
        lines.append(f"  no {NAMES[branch]} checkpoint: {paths[branch]}")
        if branch not in ("spe_fen", "spa_fen"):
            lines.append(f"    train one:                python -m baselines.train {branch} {arguments}")
            continue
        if (sensor, bands) in published:
            released = f"fers weights download --bands {published[sensor, bands]}"
            lines.append(f"    fetch the authors' one:   {released} --out {folder}")
        if branch == "spe_fen":
            lines.append(f"    train one (Stage 1):      python train_FERD/train.py {arguments}")
            lines.append(f"    or import released ones:  fers weights import FOLDER {paths[branch]}")
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
    """Find files in the authors' layout, ``saved_models/<C>bands/convh.pt``, near a folder."""
    places = {Path.cwd(), *folder.resolve().parents[:2]}
    return sorted({found for place in places for found in place.glob("saved_models/**/convh.pt")})
