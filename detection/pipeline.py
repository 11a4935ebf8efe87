"""From a normalised cube to a score map: which features are added to it, and which detector looks at the sum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from detection.views import FUSION_A_BANDS, fusion_a, fusion_b
from detectors import Detector, ae, ae_iterations, rx
from evaluation.metrics import auc
from fast.deploy import deploy
from fast.process import keep_freed_memory
from models import BackboneError, CheckpointError, SpaFEN, SpeFEN, load_checkpoint
from models.backbones import random_seed
from models.checkpoint import ROOT, file_sha256

DETECTORS = ("RX", "AE")
FEATURES = ("original", "untrained", "spectral", "spatial", "fused")
FUSIONS = ("A", "B")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
_BATCH_PIXELS = {"cpu": 8 * 64**2, "cuda": 32 * 64**2}  # more gain nothing on a CPU; on a GPU not measured yet
_NAMES = {"spe_fen": "Spe-FEN", "spa_fen": "Spa-FEN"}


class DeviceError(ValueError):
    """A device that is not there."""


@dataclass(frozen=True)
class Settings:
    """What a score map is made with.

    Attributes:
        bands: C, given to the networks and detectors.
        sensor: Sensor of the checkpoint, for its default folder ``checkpoints/<sensor>_<bands>``.
        detect: ``RX`` or ``AE``.
        features: What is added to the cube: nothing (``original``), F_spe of an untrained network (``untrained``, the
            control), F_spe (``spectral``), F_spa (``spatial``), or both (``fused``).
        fusion: ``A`` or ``B``; None chooses: A up to 50 bands, B above, and always B for AE.
        ae_select: ``last``, or ``oracle``: the iteration with the best AUC against the ground truth.
        checkpoint_dir: Folder of ``spe_fen.safetensors`` and ``spa_fen.safetensors``; None for the default.
        backbone: Frozen layers, ``imagenet``, ``random[:SEED]`` or a path, in place of what a checkpoint says; for the
            untrained control None is ``imagenet``.
        seed: Of the untrained network and of the AE.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: Of the networks: ``fp32``, or ``bf16`` (detectors compute as they always do).
        compile: Compile the networks with ``torch.compile``.
    """

    bands: int
    sensor: str
    detect: str = "RX"
    features: str = "fused"
    fusion: str | None = None
    ae_select: str = "last"
    checkpoint_dir: Path | None = None
    backbone: str | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    compile: bool = False

    @property
    def chosen_fusion(self) -> str | None:
        """The fusion in force; None where only one branch is used."""
        if self.features != "fused":
            return None
        return self.fusion or ("A" if self.detect == "RX" and self.bands <= FUSION_A_BANDS else "B")

    @property
    def title(self) -> str:
        """Short name of the setting, such as ``RX, fused, fusion B``."""
        fusion = self.chosen_fusion
        oracle = " (oracle iteration)" if self.detect == "AE" and self.ae_select == "oracle" else ""
        return f"{self.detect}{oracle}, {'fusion ' + fusion if fusion else self.features}"


class Pipeline:
    """The networks, deployed, and the detector of a ``Settings``, loaded once for any number of scenes.

    On a CPU it has the process keep the memory of freed tensors for the next ones (``fast.process``).

    Args:
        settings: What to use.

    Attributes:
        marks: Sentences that belong under every table made with this pipeline: a random backbone, a choice that
            looked at the test set.
        provenance: For results.json: which checkpoints, by their bytes and metadata.

    Raises:
        CheckpointError: A checkpoint that is needed is missing or does not fit.
        BackboneError: Its frozen layers cannot be had.
        DeviceError: The device is not there.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.device = choose_device(settings.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.marks: list[str] = []
        self.provenance: dict[str, dict] = {}
        self.spe_fen = self.spa_fen = None
        branches = {"spectral": ["spe_fen"], "spatial": ["spa_fen"], "fused": ["spe_fen", "spa_fen"]}
        paths = {branch: self._checkpoint_path(branch) for branch in branches.get(settings.features, [])}
        if missing := [branch for branch, path in paths.items() if not path.is_file()]:
            raise CheckpointError(_missing(missing, paths, settings))
        if settings.features == "untrained":
            self.spe_fen = self._untrained()
        if "spe_fen" in paths:
            self.spe_fen = self._branch("spe_fen", paths["spe_fen"])
        if "spa_fen" in paths:
            self.spa_fen = self._branch("spa_fen", paths["spa_fen"])
        self.spe_fen, self.spa_fen = self._deployed(self.spe_fen), self._deployed(self.spa_fen)
        if settings.precision != "fp32":
            self.marks.append(f"Networks computed in {settings.precision}.")
        if settings.detect == "AE" and settings.ae_select == "oracle":
            self.marks.append("AE iteration chosen by the ground truth of each test scene (--ae_select oracle).")

    @property
    def batch_pixels(self) -> int:
        """As many pixels as are worth scoring together, for scenes of one size."""
        alone = self.device.type == "cpu" and (self.spa_fen is None or self.settings.detect == "AE")
        return 1 if alone else _BATCH_PIXELS.get(self.device.type, 1)

    def score(self, h: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Score one scene.

        Args:
            h: ``(H, W, C)`` float32, normalised.
            mask: ``(H, W)`` bool ground truth, looked at by ``ae_select='oracle'`` alone.

        Returns:
            ``(H, W)`` float score map, higher is more anomalous.
        """
        return self.score_batch(h[None], mask)[0]

    @torch.no_grad()
    def score_batch(self, h: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Score several scenes of one size together.

        Args:
            h: ``(N, H, W, C)`` float32, each scene normalised.
            mask: As ``score`` takes it, for a batch of one.

        Returns:
            ``(N, H, W)``.
        """
        cubes = torch.from_numpy(h).to(self.device).permute(0, 3, 1, 2)  # channels-last, as the networks like it
        detector = self._detector(mask)
        f_spa = self._features(
            self.spa_fen, cubes
        )  # its ResNet's maps are so small that even a CPU wants many at a time
        together = 1 if self.device.type == "cpu" else len(cubes)  # the rest of one scene fits into a CPU's cache
        parts = cubes.split(together)
        features = [None] * len(parts) if f_spa is None else f_spa.split(together)
        return torch.cat([self._detect(*part, detector) for part in zip(parts, features, strict=True)]).cpu().numpy()

    def _detect(self, cube: torch.Tensor, f_spa: torch.Tensor | None, detector: Detector) -> torch.Tensor:
        f_spe = self._features(self.spe_fen, cube)
        if f_spe is not None and f_spa is not None:
            fusion = fusion_a if self.settings.chosen_fusion == "A" else fusion_b
            return fusion(detector, cube, f_spe, f_spa)
        features = f_spe if f_spa is None else f_spa
        return detector(cube if features is None else cube + features)

    def _features(self, network: nn.Module | None, cube: torch.Tensor) -> torch.Tensor | None:
        return None if network is None else network(cube.to(PRECISIONS[self.settings.precision])).float()

    def _deployed(self, network: SpeFEN | SpaFEN | None) -> nn.Module | None:
        if network is None:
            return None
        deployed = deploy(network).to(self.device, PRECISIONS[self.settings.precision])
        return torch.compile(deployed) if self.settings.compile else deployed

    def _detector(self, mask: np.ndarray | None) -> Detector:
        if self.settings.detect == "RX":
            return rx
        if self.settings.ae_select == "last" or mask is None:
            return partial(ae, seed=self.settings.seed)

        def best_by_ground_truth(cube: torch.Tensor) -> torch.Tensor:
            scores = ae_iterations(cube, seed=self.settings.seed)
            return max(scores, key=lambda score: auc(score[0].cpu().numpy(), mask) or 0.0)

        return best_by_ground_truth

    def _untrained(self) -> SpeFEN:
        source = self.settings.backbone or "imagenet"
        if source.startswith("random"):
            self.marks.append(f"Frozen backbone random (seed {random_seed(source)}), not ImageNet.")
        self.provenance["spe_fen"] = {"untrained": True, "backbone": source, "seed": self.settings.seed}
        return SpeFEN(self.settings.bands, source, seed=self.settings.seed).eval()

    def _checkpoint_path(self, branch: str) -> Path:
        settings = self.settings
        folder = settings.checkpoint_dir or ROOT / "checkpoints" / f"{settings.sensor}_{settings.bands}"
        return Path(folder) / f"{branch}.safetensors"

    def _branch(self, branch: str, path: Path) -> SpeFEN | SpaFEN:
        network, info = load_checkpoint(path, bands=self.settings.bands, backbone=self.settings.backbone)
        if info.branch != branch:
            raise CheckpointError(f"{path}: holds a {info.branch}, not a {branch}. The file has the wrong name.")
        name = _NAMES[branch]
        if info.selection != "last":
            self.marks.append(f"{name}: its epoch or seed was chosen by AUC on a test set by those who trained it.")
        if info.backbone.startswith("random"):
            self.marks.append(f"{name}: frozen backbone random (seed {random_seed(info.backbone)}), not ImageNet.")
        self.provenance[branch] = {"path": str(path), "sha256": file_sha256(path), **vars(info)}
        return network


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, then MPS, then the CPU.

    Raises:
        DeviceError: The device that was named is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise DeviceError(
            f"--device {name}: not usable here ({str(error).splitlines()[0]}). Take auto or cpu."
        ) from error
    return device


def _missing(missing: list[str], paths: dict[str, Path], settings: Settings) -> str:
    """What is not there, the commands that make it, and what can be done without it."""
    arguments = f"--input_channel {settings.bands} --sensor {settings.sensor}"
    if settings.checkpoint_dir is not None:
        arguments += f" --checkpoint_dir {settings.checkpoint_dir}"
    lines = [f"--features {settings.features} needs checkpoints that are not there."]
    for branch in missing:
        lines.append(f"  no {_NAMES[branch]} checkpoint: {paths[branch]}")
        if branch == "spe_fen":
            lines.append(f"    train one (Stage 1):      python train_FERD/train.py {arguments}")
            lines.append(f"    or import released ones:  python -m models.import_released FOLDER {paths[branch]}")
        else:
            lines.append(f"    train one (Stage 2):      python train.py {arguments}")
    if settings.features == "fused":
        lines.append("  or use the spectral branch alone: --features spectral")
    if "spe_fen" in missing:
        lines.append("  or do without any checkpoint: --features original")
    return "\n".join(lines)


USER_ERRORS = (BackboneError, CheckpointError, DeviceError)
