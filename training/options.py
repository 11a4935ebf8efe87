"""What the training scripts share: their options, the data they read, and how they end."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import Subset

from data import SceneError, abu
from data.commandline import list_of, natural, positive, run
from data.files import atomic_path
from data.normalise import normalise
from data.patches import BackgroundPatches
from models import BackboneError, CheckpointError
from models.backbones import BACKBONE_FILE, random_seed, read_state
from models.checkpoint import ROOT, save_backbones
from training.loop import PRECISIONS, Settings, TrainingError
from training.recipe import RECIPES, Recipe

USER_ERRORS = (SceneError, CheckpointError, BackboneError, TrainingError)
_NAMED_SCENES = 20
_TEST_CHOICE_WARNING = (
    "WARNING: --select test-auc keeps the epoch that scores best on the test set's ground truth, as the published numbers "
    "did. Such numbers are optimistic; log and checkpoint are marked 'test-auc'."
)


def add_train_options(parser: argparse.ArgumentParser, terms: Iterable[str]) -> None:
    """Add the options of a training script, grouped by concern; ``terms`` are its loss terms."""
    terms = tuple(terms)

    group = parser.add_argument_group("data")
    group.add_argument(
        "--data_path",
        type=Path,
        default=ROOT / "data" / "HAD100Dataset",
        help="the dataset's folder, with train/<sensor>/*.npy (default: data/HAD100Dataset)",
    )
    group.add_argument("--sensor", default="aviris_ng", help="sensor of data and checkpoint (default: %(default)s)")
    group.add_argument("--input_channel", type=positive, default=50, help="bands given to the networks (default: 50)")
    group.add_argument("--start_band", type=natural, default=0, help="the first of them (default: 0)")
    group.add_argument(
        "--train_ratio",
        type=_ratio,
        default=0.9,
        help="share of the source scenes to train on; the loss on the others is logged (default: 0.9; 1 for all)",
    )

    group = parser.add_argument_group("method")
    group.add_argument(
        "--recipe",
        choices=tuple(RECIPES),
        default="paper",
        help="the paper's settings or the released code's (default: paper)",
    )
    group.add_argument(
        "--losses", type=list_of(terms), default=terms, help=f"terms to train with (default: {','.join(terms)})"
    )
    group.add_argument(
        "--backbone",
        default="imagenet",
        help="frozen layers: imagenet, random[:SEED], a file or a folder (default: imagenet)",
    )
    group.add_argument("--seed", type=natural, default=0, help="of weights, order and held-out scenes (default: 0)")

    group = parser.add_argument_group("training")
    group.add_argument("--epochs", type=positive, default=60, help="default: 60")
    group.add_argument("--batch_size", type=positive, default=16, help="over all processes together (default: 16)")
    group.add_argument("--lr", type=_learning_rate, default=0.005, help="Adam's, constant (default: 0.005)")
    group.add_argument(
        "--select",
        choices=("last", "test-auc"),
        default="last",
        help="epoch to keep. test-auc repeats the published protocol, which looks at the test set; marked as such (default: last)",
    )
    group.add_argument(
        "--test_path",
        type=Path,
        help="test scenes for --select test-auc: HAD100's layout or abu-*.mat (default: --data_path)",
    )

    group = parser.add_argument_group("run")
    group.add_argument(
        "--checkpoint_dir", type=Path, help="for the weights (default: checkpoints/<sensor>_<input_channel>)"
    )
    group.add_argument(
        "--save_dir",
        type=Path,
        help="for log and resume file, in stage1/ or stage2/ (default: runs/<sensor>_<input_channel>_<recipe>_seed<seed>)",
    )
    group.add_argument(
        "--resume", action="store_true", help="go on with the run in --save_dir after its last whole epoch"
    )
    group.add_argument("--precision", choices=tuple(PRECISIONS), default="fp32", help="of the networks (default: fp32)")
    group.add_argument("--workers", type=natural, help="processes that read patches (default: 0; 4 with a GPU)")
    group.add_argument("--cpu", action="store_true", help="do not use a GPU")


@dataclass(frozen=True)
class Run:
    """A run, from its options.

    Attributes:
        recipe: See ``training.recipe``.
        settings: For the loop.
        patches: All training patches.
        train: Indices of those to train on.
        held_out: Indices of those to look at.
        checkpoint_dir: Where the weights go when training is over.
    """

    recipe: Recipe
    settings: Settings
    patches: BackgroundPatches
    train: list[int]
    held_out: list[int]
    checkpoint_dir: Path

    @classmethod
    def from_options(cls, options: argparse.Namespace, stage: int, device: torch.device) -> Run:
        """Open the data and settle every default.

        Raises:
            SceneError: The data is missing or unusable.
        """
        recipe = RECIPES[options.recipe]
        patches = BackgroundPatches(options.data_path, options.sensor, options.input_channel, options.start_band)
        train, held_out = patches.split(options.train_ratio, options.seed)
        setting = f"{options.sensor}_{options.input_channel}"
        save_dir = options.save_dir or ROOT / "runs" / f"{setting}_{recipe.name}_seed{options.seed}"
        settings = Settings(
            save_dir=save_dir / f"stage{stage}",
            epochs=options.epochs,
            batch_size=options.batch_size,
            lr=options.lr,
            betas=recipe.betas,
            seed=options.seed,
            precision=options.precision,
            workers=options.workers if options.workers is not None else (4 if device.type == "cuda" else 0),
            resume=options.resume,
            identity={
                "stage": stage,
                "recipe": recipe.name,
                "losses": sorted(options.losses),
                "backbone": options.backbone,
                "train_ratio": options.train_ratio,
                "select": options.select,
                "data": patches.fingerprint(),
            },
        )
        return cls(recipe, settings, patches, train, held_out, options.checkpoint_dir or ROOT / "checkpoints" / setting)

    def subsets(self) -> tuple[Subset, Subset]:
        """Training and held-out patches as datasets."""
        return Subset(self.patches, self.train), Subset(self.patches, self.held_out)

    def origin(self) -> str:
        """What the weights were trained from, for their metadata."""
        scenes = sorted({self.patches.sources[i] for i in self.train})
        named = ", ".join(scenes) if len(scenes) <= _NAMED_SCENES else f"{len(scenes)} scenes"
        return (
            f"this project's training on {len(self.train)} patches of {self.patches.size[0]} x {self.patches.size[1]} px from "
            f"{named}; losses {', '.join(self.settings.identity['losses'])}; precision {self.settings.precision}"
        )

    def describe(self, accelerator: Accelerator, stage: str) -> None:
        """Print what is about to be trained, on the main process."""
        scenes = [len({self.patches.sources[i] for i in part}) for part in (self.train, self.held_out)]
        accelerator.print(
            f"{stage}, {self.recipe.name} recipe, {self.patches.bands} bands, seed {self.settings.seed}: {len(self.train)} "
            f"patches of {self.patches.size[0]} x {self.patches.size[1]} px from {scenes[0]} scenes, {len(self.held_out)} "
            f"from {scenes[1]} held out; {accelerator.num_processes} process(es) on {accelerator.device.type}, "
            f"{self.settings.precision}; log in {self.settings.save_dir}"
        )
        if self.patches.left_out:
            accelerator.print(f"{self.patches.left_out} further patches lack data or contrast and are left out.")
        if self.settings.identity["select"] == "test-auc":
            accelerator.print(_TEST_CHOICE_WARNING)


def backbone_name(source: str) -> str:
    """A backbone's source as checkpoints record it: ``imagenet``, ``random:SEED`` or ``file:NAME``."""
    if source == "imagenet":
        return source
    if source == "random" or source.startswith("random:"):
        return f"random:{random_seed(source)}"
    return f"file:{Path(source).name}"


def publish(product: Path, folder: Path, architecture: str, frozen: dict[str, torch.Tensor] | None) -> Path:
    """Copy a finished branch to its checkpoint folder, and see to it that it loads there.

    Args:
        product: The branch's .safetensors.
        folder: The checkpoint folder. A ``backbone.safetensors`` in it must hold the frozen layers of this branch or none.
        architecture: Of the frozen layers.
        frozen: They themselves if they came from a file, to be kept beside the branch; None where the metadata is enough.

    Returns:
        The copy.
    """
    beside = folder / BACKBONE_FILE
    states: dict[str, dict[str, torch.Tensor]] = {}
    if beside.is_file():
        for key, value in read_state(beside).items():
            states.setdefault(key.partition(".")[0], {})[key.partition(".")[2]] = value
    changed = states.pop(architecture, None) is not None or frozen is not None
    if frozen is not None:
        states[architecture] = frozen
    if changed and states:
        save_backbones(beside, states)
    elif changed:
        beside.unlink()
    with atomic_path(folder / product.name) as temporary:
        shutil.copyfile(product, temporary)
    return folder / product.name


def test_auc(
    options: argparse.Namespace,
    score_map: Callable[[torch.Tensor], torch.Tensor],
    auc: Callable[[np.ndarray, np.ndarray], float | None],
    device: torch.device,
) -> Callable[[], float]:
    """For ``--select test-auc``: a function that scores the test scenes as the networks are at that moment.

    Args:
        options: Of the training script.
        score_map: ``(1, C, H, W)`` on ``device`` to ``(1, H, W)``.
        auc: Of a score map and a mask.
        device: Where the networks are.

    Raises:
        SceneError: There are no test scenes.
    """
    scenes = abu.test_scenes(
        options.test_path or options.data_path, options.sensor if options.test_path is None else None, "paper"
    )

    @torch.no_grad()
    def mean_auc() -> float:
        found = []
        for labelled in scenes:
            scene, mask = labelled.load()
            h = normalise(scene, options.input_channel, options.start_band).transpose(2, 0, 1)
            value = auc(score_map(torch.from_numpy(h.copy())[None].to(device))[0].cpu().numpy(), mask)
            found += [] if value is None else [value]
        if not found:
            raise SceneError(
                f"{options.test_path or options.data_path}: no test scene has an anomaly; no epoch can be chosen."
            )
        return float(np.mean(found))

    return mean_auc


def run_script(script: Callable[[], None]) -> int:
    """Run a training script's work; returns the exit code."""
    return run(script, USER_ERRORS, how_to_resume="the same command with --resume")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _ratio(text: str) -> float:
    if not 0 < _number(text) <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0 and up to 1")
    return float(text)


def _learning_rate(text: str) -> float:
    if not 0 < _number(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return float(text)
