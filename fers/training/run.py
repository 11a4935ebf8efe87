"""A training run: its data, its folder, its checkpoint, and the scorer of ``--select test-auc``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import Subset

from fers.datasets import abu
from fers.datasets.patches import BackgroundPatches
from fers.detectors.base import Detector
from fers.evaluation.metrics import auc
from fers.networks import CheckpointInfo
from fers.networks.backbones import backbone_name, state_hash
from fers.networks.checkpoint import git_revision, install_checkpoint
from fers.scenes import SceneError
from fers.scoring.config import DetectConfig
from fers.scoring.networks import Networks
from fers.scoring.pipeline import Pipeline, read_h
from fers.training.loop import Patches, Trainer
from fers.training.options import TrainingError, TrainOptions
from fers.training.recipe import RECIPES
from fers.training.resume import RunFolder
from fers.training.stage import Stage
from fers.util.lock import locked
from fers.util.paths import home

_NAMED_SCENES = 20
_TEST_CHOICE_WARNING = (
    "WARNING: --select test-auc keeps the epoch that scores best on the test set's ground truth, as the published numbers "
    "did. Such numbers are optimistic; log and checkpoint are marked 'test-auc'."
)


class TrainRun:
    """A run, with its data opened and every default filled in.

    Args:
        options: Options of the training script.
        stage: The stage to train, or its class; its number and its checkpoint's name are read.
        accelerator: Result of ``make_accelerator``.
        identity: Further values that cannot change when the run is resumed.

    Attributes:
        patches: All training patches.
        folder: The folder of log and resume file.
        checkpoint: File for the weights once training is over.
        recipe: See ``fers.training.recipe``.

    Raises:
        SceneError: The data is missing or unusable.
        TrainingError: Another run, or its checkpoint, would be overwritten.
    """

    def __init__(self, options: TrainOptions, stage: Stage | type[Stage], accelerator: Accelerator, **identity: object):
        folder, self.checkpoint = places(options, stage)
        self.options, self.accelerator, self.recipe = options, accelerator, RECIPES[options.recipe]
        self.patches = BackgroundPatches(
            options.data_path, options.sensor, options.input_channel, options.start_band, options.nodata
        )
        self._train, self._held_out = self.patches.split(options.train_ratio, options.seed)
        identity = {"stage": stage.number, "data": self.patches.fingerprint(), **identity}
        self.folder = RunFolder(folder, options, identity)

    def finished(self) -> bool:
        """Tell whether the run to resume came to its end before, and print it if so."""
        finished = self.folder.finished()
        if finished:
            self.accelerator.print(
                f"{self.folder.path}: this run is finished; its weights are in {self.checkpoint}. There is nothing to do."
            )
        return finished

    def require_sides(self, multiple: int, least: int, title: str) -> None:
        """Raise a ``SceneError`` unless the patches' sides, in pixels, are such multiples and at least so long."""
        height, width = self.patches.size
        if any(side % multiple or side < least for side in (height, width)):
            raise SceneError(
                f"{self.patches.folder}: patches of {height} x {width} px; {title} needs sides that are multiples of "
                f"{multiple}, at least {least} px. Cut them again with fers data patches."
            )

    def describe(self, title: str) -> None:
        """Print what will be trained, on the main process."""
        say, (height, width) = self.accelerator.print, self.patches.size
        scenes = [len({self.patches.sources[i] for i in part}) for part in (self._train, self._held_out)]
        say(
            f"{title}, {self.recipe.name} recipe, {self.patches.bands} bands, seed {self.options.seed}: "
            f"{len(self._train)} patches of {height} x {width} px from {scenes[0]} scenes, {len(self._held_out)} from "
            f"{scenes[1]} held out; {self.accelerator.num_processes} process(es) on {self.accelerator.device.type}, "
            f"{self.options.precision}; log in {self.folder.path}"
        )
        if self.patches.describe():
            say(self.patches.describe())
        if self.options.select == "test-auc":
            say(_TEST_CHOICE_WARNING)

    def train(
        self, stage: Stage, data: Patches, score: Callable[[], float] | None, origin: str = "", teacher: str = ""
    ) -> None:
        """Train a stage, and put its branch where the test scripts find it.

        Args:
            stage: Stage that is not trained yet, its frozen layers as they were loaded.
            data: One item for each patch.
            score: Scorer of ``--select test-auc``, else None.
            origin: Further words on the origin of the weights, for the checkpoint.
            teacher: Fingerprint of Stage 2's teacher, likewise.
        """
        branch, main = stage.branch, self.accelerator.is_main_process
        train: Subset = Subset(data, self._train)  # type: ignore[arg-type]  # any sequence will do
        held_out: Subset = Subset(data, self._held_out)  # type: ignore[arg-type]
        # before training folds or adapts them
        frozen = {key: value.clone() for key, value in branch.backbone_layers().state_dict().items()}
        backbone = backbone_name(self.options.backbone)
        info = CheckpointInfo(
            branch=Path(stage.checkpoint).stem,
            bands=self.patches.bands,
            sensor=self.options.sensor,
            recipe=self.recipe.name,
            backbone=backbone,
            backbone_sha256=state_hash(frozen),
            seed=self.options.seed,
            patches=len(self._train),
            teacher=teacher,
            selection=self.options.select,
            origin=self._origin() + origin,
            git_revision=git_revision(),
        )
        with locked(self.folder.path) if main else nullcontext():
            Trainer(stage, self.folder, self.accelerator, info, score).fit(train, held_out)
            if main and self.patches.fingerprint() != self.folder.identity["data"]:
                raise TrainingError(
                    f"{self.patches.folder}: a patch changed during the training. Train with --overwrite."
                )
            if main:
                kept = frozen if backbone.startswith("file:") else None
                trained = self.folder.path / stage.checkpoint
                print(f"wrote {install_checkpoint(trained, self.checkpoint.parent, branch.ARCHITECTURE, kept)}")
                self.folder.finish()
            self.accelerator.wait_for_everyone()

    def _origin(self) -> str:
        scenes = sorted({self.patches.sources[i] for i in self._train})
        named = ", ".join(scenes) if len(scenes) <= _NAMED_SCENES else f"{len(scenes)} scenes"
        left_out = f" ({said.rstrip('.')})" if (said := self.patches.describe()) else ""
        return (
            f"this project's training on {len(self._train)} patches of {self.patches.size[0]} x "
            f"{self.patches.size[1]} px from {named}{left_out}; losses {', '.join(sorted(self.options.losses))}; "
            f"precision {self.options.precision}"
        )


def places(options: TrainOptions, stage: Stage | type[Stage]) -> tuple[Path, Path]:
    """Return the run's folder, and the file for its weights.

    Raises:
        TrainingError: A run or a checkpoint is there, and neither ``--resume`` nor ``--overwrite`` was given.
    """
    trained_for = f"{options.sensor}_{options.input_channel}"
    save_dir = options.save_dir or home() / "runs" / f"{trained_for}_{options.recipe}_seed{options.seed}"
    target = (options.checkpoint_dir or home() / "checkpoints" / trained_for) / stage.checkpoint
    folder = RunFolder(save_dir / f"stage{stage.number}", options)
    folder.check()
    if target.is_file() and not (options.overwrite or (options.resume and folder.holds_run())):
        raise TrainingError(
            f"{target}: a checkpoint exists already. Give another --checkpoint_dir, replace it with --overwrite, or continue "
            "an interrupted run with --resume."
        )
    return folder.path, target


def scene_scorer(
    options: TrainOptions,
    networks: Mapping[str, nn.Module],
    features: str,
    device: torch.device,
    detector: Detector | None = None,
) -> Callable[[], float] | None:
    """Make the scorer of ``--select test-auc``: it scores the test scenes with the networks in their present state.

    Args:
        options: Options of the training script.
        networks: Networks by branch, ``spe_fen`` or ``spa_fen``, from cubes to features of their shape.
        features: As in ``--features``; ``fused`` takes the default fusion of this number of bands.
        device: The networks' device.
        detector: Detector to use instead of RX.

    Returns:
        The function, which gives the mean AUC; None where no epoch is to be selected.

    Raises:
        SceneError: There are no test scenes.
    """
    if options.select != "test-auc":
        return None
    folder = options.test_path or options.data_path
    scenes = abu.scenes(folder, options.sensor if options.test_path is None else None, "paper")
    config = DetectConfig(
        options.input_channel,
        options.sensor,
        start_band=options.start_band,
        features=features,
        nodata=options.nodata,  # type: ignore[arg-type]  # the same choices
        device=str(device),
    )
    branches = Networks(networks.get("spe_fen"), networks.get("spa_fen"))
    pipeline = Pipeline(config, branches, detector)

    def mean_auc() -> float:
        values = []
        for labelled in scenes:
            scene, truth = labelled.load()
            h, left_out = read_h(config, scene)
            value = auc(pipeline.score(h, left_out), truth, left_out)
            values += [] if value is None else [value]
        if not values:
            raise SceneError(
                f"{folder}: no test scene has an anomaly, so no epoch can be selected. Give other scenes with --test_path."
            )
        return float(np.mean(values))

    return mean_auc
