"""The only place that scores: a normalised cube, its features, the cubes of a view, a detector, a score map."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fers.detectors import Detector, find_detector, make_detector
from fers.networks.checkpoint import checkpoint_folder
from fers.scenes.normalise import NoData
from fers.scoring.networks import choose_device, load_networks
from fers.scoring.views import VIEWS, default_fusion, score, view_name
from fers.util.errors import FersError

Choice = Callable[[Iterable[torch.Tensor]], torch.Tensor]
"""Picks one of the score maps ``(1, H, W)`` that a detector trained on the scene makes, one an iteration."""


@dataclass(frozen=True)
class DetectConfig:
    """What a score map is made with.

    Attributes:
        bands: C, given to the networks and detectors.
        sensor: Sensor of the checkpoint, for its default folder ``checkpoints/<sensor>_<bands>``.
        detect: A detector, as ``detectors.find_detector`` takes it.
        options: The detector's own options, as text.
        features: What is added to the cube: nothing (``original``), F_spe of an untrained network (``untrained``, the
            control), F_spe (``spectral``), F_spa (``spatial``), or both (``fused``); or ``aetnet``:
            the cube that AETNet makes instead.
        fusion: Of fused features; None takes the detector's default. ``C`` needs no spatial branch, so it goes with
            ``spectral`` and ``untrained`` features too.
        select: ``last``, or ``oracle``: the iteration with the best AUC against the ground truth, for detectors that
            are trained on the scene.
        nodata: ``refuse`` scenes with pixels without data, ``keep`` them as the released code does, or ``mask`` them.
        start_band: The first of the bands.
        checkpoint_dir: Folder of the checkpoints; None for the default.
        backbone: Frozen layers instead of what a checkpoint says; for the untrained control None is ``imagenet``.
        seed: Of the untrained network and of detectors with random weights.
        device: ``auto``, ``gpu``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: Of the networks: ``fp32``, or ``bf16``. Detectors compute as they always do.
        compile: Compile the networks with ``torch.compile``.

    Raises:
        FersError: The choices do not fit together.
    """

    bands: int
    sensor: str
    detect: str = "RX"
    options: dict[str, str] = field(default_factory=dict)
    features: str = "fused"
    fusion: str | None = None
    select: str = "last"
    nodata: NoData = "refuse"
    start_band: int = 0
    checkpoint_dir: Path | None = None
    backbone: str | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "fp32"
    compile: bool = False

    def __post_init__(self) -> None:
        without_spatial = self.fusion == "C" and self.features in ("spectral", "untrained")
        if self.fusion is not None and self.features != "fused" and not without_spatial:
            raise FersError(
                f"--fusion {self.fusion} joins both branches; with --features {self.features} there is one. Leave it out."
            )

    @property
    def chosen_fusion(self) -> str | None:
        """The fusion in force; None where only one branch is used."""
        if self.features != "fused":
            return self.fusion
        return self.fusion or default_fusion(find_detector(self.detect).fusion, self.bands)

    @property
    def view(self) -> str:
        """The key of ``VIEWS``."""
        return view_name(self.features, self.chosen_fusion)

    @property
    def has_random_weights(self) -> bool:
        """Whether the seed has a part in the result."""
        return self.features == "untrained" or find_detector(self.detect).trains_on == "scene"

    @property
    def title(self) -> str:
        """Short name of the setting, such as ``RX, fusion B``; settings that differ in what counts differ in it."""
        what = f"fusion {self.chosen_fusion}" if self.chosen_fusion else self.features
        if self.chosen_fusion and self.features == "untrained":
            what += ", untrained"
        details = [f"{key} {value}" for key, value in self.options.items()]
        if self.select != "last":
            details.append("oracle iteration")
        if self.precision != "fp32":
            details.append(self.precision)
        if self.nodata != "refuse":
            details.append(f"no-data {self.nodata}")
        seed = f", seed {self.seed}" if self.has_random_weights and self.seed else ""
        return f"{self.detect}{' (' + ', '.join(details) + ')' if details else ''}, {what}{seed}"

    @property
    def unit(self) -> str:
        """What the scores measure, for the colour bar of a map."""
        return VIEWS[self.view].unit or find_detector(self.detect).unit

    @property
    def checkpoint_folder(self) -> Path:
        """Where the checkpoints are looked for."""
        return Path(self.checkpoint_dir or checkpoint_folder(self.sensor, self.bands))


class Pipeline:
    """The networks and the detector of a configuration, loaded once for any number of scenes.

    Args:
        config: What to use.

    Attributes:
        caveats: Sentences that belong under every table made with this pipeline.
        provenance: For results.json: which checkpoints, by their bytes and metadata.

    Raises:
        CheckpointError: A checkpoint that is needed is missing or does not fit.
        BackboneError: Its frozen layers cannot be had.
        DeviceError: The device is not there.
        ValueError: There is no such detector, or it has no such option.
    """

    def __init__(self, config: DetectConfig):
        self.config = config
        self.view = VIEWS[config.view]
        self.device = choose_device(config.device)
        self.detector = make_detector(config.detect, config.seed, config.options)
        if config.select == "oracle" and not hasattr(self.detector, "steps"):
            raise FersError(f"--select oracle: {config.detect} has no iterations to choose from. Leave it out.")
        self.networks = load_networks(
            self.view.needs,
            config.bands,
            config.checkpoint_folder,
            self.device,
            sensor=config.sensor,
            backbone=config.backbone,
            untrained_seed=config.seed if config.features == "untrained" else None,
            precision=config.precision,
            compiled=config.compile,
        )
        self.provenance = self.networks.provenance
        self.caveats = [*self.networks.caveats, *getattr(self.detector, "caveats", ())]
        if self.view.ours:
            self.caveats.append(self.view.ours)
        if config.select == "oracle":
            self.caveats.append(
                f"{config.detect} iteration chosen by the ground truth of each test scene (--select oracle)."
            )

    @torch.no_grad()
    def score(self, h: np.ndarray, left_out: np.ndarray | None = None, choice: Choice | None = None) -> np.ndarray:
        """Score scenes of one size.

        Args:
            h: ``(H, W, C)`` or ``(N, H, W, C)`` float32, each scene normalised.
            left_out: Pixels without data, True = left out, of ``h``'s shape without bands. They have no part in the
                background's statistics where the detector takes a ``mask``, and score as the least anomalous.
            choice: Which iteration's map to keep, of a detector with ``steps``; None keeps the last.

        Returns:
            ``(H, W)`` or ``(N, H, W)`` score map, higher is more anomalous.

        Raises:
            ValueError: The detector cannot score one of the scenes.
        """
        if h.ndim == 3:
            return self.score(h[None], None if left_out is None else left_out[None], choice)[0]
        cubes = torch.from_numpy(h).to(self.device).permute(0, 3, 1, 2)  # channels-last, as the networks like it
        masks = None if left_out is None else torch.from_numpy(left_out).to(self.device)
        one = self.device.type == "cpu" or masks is not None or choice is not None
        maps: list[torch.Tensor] = []
        together = 1 if one else len(cubes)
        scenes: Iterator[Any] = (
            self.networks.features(cubes, together)
            if self.view.joined
            else self.networks.views(self.view, cubes, together)
        )
        for scene in scenes:
            mask = None if masks is None or not masks[len(maps)].any() else masks[len(maps)][None]
            detector = self._detector(mask, choice)
            joined: Any = self.view.joined
            scored = joined(detector, *scene, mask) if joined else score(detector, scene)
            maps.append(scored if mask is None else scored.masked_fill(mask, float(scored[~mask].min())))
        return torch.cat(maps).cpu().numpy()

    def _detector(self, mask: torch.Tensor | None, choice: Choice | None) -> Detector:
        """The detector of one scene: with its mask, and with the choice of an iteration."""
        detector = self.detector
        if choice is not None:
            return lambda cube: choice(detector.steps(cube))  # type: ignore[attr-defined]
        if mask is None:
            return detector
        takes_mask = "mask" in inspect.signature(detector.__call__).parameters

        def masked(cube: torch.Tensor) -> torch.Tensor:
            scores = detector(cube, mask=mask) if takes_mask else detector(cube)  # type: ignore[call-arg]
            return scores.masked_fill(mask, float(scores[~mask].min()))

        return masked
