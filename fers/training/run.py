"""A run, made of a training script's options: data, config, and where its files go."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import Subset

from fers.datasets import abu
from fers.datasets.patches import BackgroundPatches
from fers.networks import CheckpointInfo
from fers.networks.backbones import backbone_name, state_hash
from fers.networks.checkpoint import git_revision, install_checkpoint
from fers.scenes import SceneError
from fers.scenes.normalise import normalise
from fers.training.config import TrainConfig, TrainingError
from fers.training.loop import Patches, Trainer
from fers.training.recipe import RECIPES, Recipe
from fers.training.resume import RunFolder, holds_run, refuse_to_overwrite
from fers.training.stage import Stage
from fers.util.lock import locked
from fers.util.paths import home

_NAMED_SCENES = 20
_TEST_CHOICE_WARNING = (
    "WARNING: --select test-auc keeps the epoch that scores best on the test set's ground truth, as the published numbers "
    "did. Such numbers are optimistic; log and checkpoint are marked 'test-auc'."
)


@dataclass(frozen=True)
class TrainRun:
    """A run, from its options.

    Attributes:
        options: Of the training script.
        accelerator: Where it runs.
        recipe: See ``fers.training.recipe``.
        config: For the loop.
        patches: All training patches.
        train_patches: Indices of those to train on.
        held_out_patches: Indices of those to look at.
        checkpoint: Where the weights go when training is over.
    """

    options: argparse.Namespace
    accelerator: Accelerator
    recipe: Recipe
    config: TrainConfig
    patches: BackgroundPatches
    train_patches: list[int]
    held_out_patches: list[int]
    checkpoint: Path

    @classmethod
    def from_options(
        cls, options: argparse.Namespace, stage: int, checkpoint: str, accelerator: Accelerator, **identity: object
    ) -> TrainRun:
        """Open the data and settle every default.

        Args:
            options: Of the training script.
            stage: 1 or 2.
            checkpoint: Name of the file with the weights.
            accelerator: From ``make_accelerator``.
            identity: What else must be the same to go on with the run.

        Raises:
            SceneError: The data is missing or unusable.
            TrainingError: Another run, or its checkpoint, would be overwritten.
        """
        save_dir, target = places(options, stage, checkpoint)
        recipe = RECIPES[options.recipe]
        patches = BackgroundPatches(
            options.data_path, options.sensor, options.input_channel, options.start_band, options.nodata
        )
        train, held_out = patches.split(options.train_ratio, options.seed)
        workers = 4 if accelerator.device.type == "cuda" else 0
        config = TrainConfig(
            save_dir=save_dir,
            epochs=options.epochs,
            batch_size=options.batch_size,
            lr=options.lr,
            betas=recipe.betas,
            seed=options.seed,
            precision=options.precision,
            workers=options.workers if options.workers is not None else workers,
            resume=options.resume,
            overwrite=options.overwrite,
            identity={
                "stage": stage,
                "recipe": recipe.name,
                "losses": sorted(options.losses),
                "backbone": options.backbone,
                "train_ratio": options.train_ratio,
                "select": options.select,
                "data": patches.fingerprint(),
                **identity,
            },
        )
        return cls(options, accelerator, recipe, config, patches, train, held_out, target)

    def finished(self) -> bool:
        """Whether the run to resume came to its end before; says so."""
        finished = RunFolder(self.config).finished()
        if finished:
            self.accelerator.print(
                f"{self.config.save_dir}: this run is finished; its weights are in {self.checkpoint}. There is nothing to do."
            )
        return finished

    def split(self, data: Patches) -> tuple[Patches, Patches]:
        """Training and held-out items of a data set that has one item for each patch."""
        train = Subset(data, self.train_patches)  # type: ignore[arg-type, var-annotated]  # any sequence will do
        held_out = Subset(data, self.held_out_patches)  # type: ignore[arg-type, var-annotated]
        return train, held_out

    def describe(self, stage: str) -> None:
        """Print what is about to be trained, on the main process."""
        say = self.accelerator.print
        scenes = [len({self.patches.sources[i] for i in part}) for part in (self.train_patches, self.held_out_patches)]
        say(
            f"{stage}, {self.recipe.name} recipe, {self.patches.bands} bands, seed {self.config.seed}: "
            f"{len(self.train_patches)} patches of {self.patches.size[0]} x {self.patches.size[1]} px from {scenes[0]} "
            f"scenes, {len(self.held_out_patches)} from {scenes[1]} held out; {self.accelerator.num_processes} process(es) on "
            f"{self.accelerator.device.type}, {self.config.precision}; log in {self.config.save_dir}"
        )
        if self.patches.describe():
            say(self.patches.describe())
        if self.options.select == "test-auc":
            say(_TEST_CHOICE_WARNING)

    def train(
        self, stage: Stage, train: Patches, held_out: Patches, score: Callable[[], float] | None, origin: str = ""
    ) -> None:
        """Train a stage, and put its branch where the test scripts find it.

        Args:
            stage: Not trained yet, its frozen layers as they were loaded.
            train: What to train on.
            held_out: What to look at.
            score: For ``--select test-auc``, else None.
            origin: What the checkpoint says of its origin beyond the patches.
        """
        branch, main = stage.branch, self.accelerator.is_main_process
        folder = RunFolder(self.config)
        if main:
            folder.sweep()
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
            seed=self.config.seed,
            selection=self.options.select,
            origin=self._origin() + origin,
            git_revision=git_revision(),
        )
        with locked(self.config.save_dir) if main else nullcontext():
            Trainer(stage, self.config, self.accelerator, info, score).fit(train, held_out)
            if main:
                trained, kept = (
                    self.config.save_dir / stage.checkpoint,
                    frozen if backbone.startswith("file:") else None,
                )
                print(f"wrote {install_checkpoint(trained, self.checkpoint.parent, branch.ARCHITECTURE, kept)}")
                folder.finish()
            self.accelerator.wait_for_everyone()

    def _origin(self) -> str:
        scenes = sorted({self.patches.sources[i] for i in self.train_patches})
        named = ", ".join(scenes) if len(scenes) <= _NAMED_SCENES else f"{len(scenes)} scenes"
        return (
            f"this project's training on {len(self.train_patches)} patches of {self.patches.size[0]} x "
            f"{self.patches.size[1]} px from {named}; losses {', '.join(sorted(self.options.losses))}; "
            f"precision {self.config.precision}"
        )


def places(options: argparse.Namespace, stage: int, checkpoint: str) -> tuple[Path, Path]:
    """Where a run's files go.

    Args:
        options: Of the training script.
        stage: 1 or 2.
        checkpoint: Name of the file with the weights.

    Returns:
        The run's folder, and the file for the weights.

    Raises:
        TrainingError: A run or a checkpoint is there, and neither ``--resume`` nor ``--overwrite`` was given.
    """
    setting = f"{options.sensor}_{options.input_channel}"
    save_dir = options.save_dir or home() / "runs" / f"{setting}_{options.recipe}_seed{options.seed}"
    target = (options.checkpoint_dir or home() / "checkpoints" / setting) / checkpoint
    folder = save_dir / f"stage{stage}"
    refuse_to_overwrite(folder, options.resume or options.overwrite)
    if target.is_file() and not (options.overwrite or (options.resume and holds_run(folder))):
        raise TrainingError(
            f"{target}: there is a checkpoint already. Give another --checkpoint_dir, replace it by --overwrite, or go on with "
            "an interrupted run by --resume."
        )
    return folder, target


def scene_scorer(
    options: argparse.Namespace,
    score_map: Callable[[torch.Tensor], torch.Tensor],
    auc: Callable[[np.ndarray, np.ndarray], float | None],
    device: torch.device,
) -> Callable[[], float] | None:
    """For ``--select test-auc``: a function that scores the test scenes with the networks as they are at that moment.

    Args:
        options: Of the training script.
        score_map: ``(1, C, H, W)`` on ``device`` to ``(1, H, W)``.
        auc: Of a score map and a mask.
        device: Where the networks are.

    Returns:
        The function, which gives the mean AUC; None where no epoch is to be selected.

    Raises:
        SceneError: There are no test scenes.
    """
    if options.select != "test-auc":
        return None
    folder = options.test_path or options.data_path
    scenes = abu.scenes(folder, options.sensor if options.test_path is None else None, "paper")

    @torch.no_grad()
    def mean_auc() -> float:
        found = []
        for labelled in scenes:
            scene, mask = labelled.load()
            h = normalise(scene, options.input_channel, options.start_band).transpose(2, 0, 1)
            value = auc(score_map(torch.from_numpy(h.copy())[None].to(device))[0].cpu().numpy(), mask)
            found += [] if value is None else [value]
        if not found:
            raise SceneError(f"{folder}: no test scene has an anomaly; no epoch can be selected.")
        return float(np.mean(found))

    return mean_auc
