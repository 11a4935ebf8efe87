"""Steps that tables are made from: weights, trained or given, and settings that are scored. Each is done once and found again.

Its folder's name ends in its key: eight digits of all that it depends on. A folder that holds the end of the work is
enough; what else an interrupted training or scoring left there, training and ``evaluate`` go on from by themselves.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

import baselines.train
import train_FERD.train
import train_FERS.train
from experiments.staleness import scoring_code, training_code
from experiments.workspace import Workspace, training_patches
from fers.datasets.releases import RELEASES
from fers.detectors import find_detector
from fers.evaluation.evaluate import evaluate
from fers.evaluation.results import RESULTS_FILE
from fers.networks.backbones import BACKBONE_FILE
from fers.scoring.pipeline import DetectConfig, Pipeline
from fers.training.log import read_log
from fers.training.resume import FINISHED_FILE
from fers.util.commandline import INTERRUPTED
from fers.util.errors import FersError
from fers.util.files import sha256_of, write_whole
from fers.util.machine import processor

SCRIPTS = {"stage1": train_FERD.train, "stage2": train_FERS.train, "rd4ad": baselines.train, "aetnet": baselines.train}
SHIPPED = "aviris_200"  # folder in checkpoints/ of this project's own weights
STAGE_FILES = {network: f"{network}.safetensors" for network in SCRIPTS}
STAGE_FILES |= {"stage1": "spe_fen.safetensors", "stage2": "spa_fen.safetensors"}


@dataclass(frozen=True)
class Weights:
    """Networks that a setting needs: given ones, or those of a training."""

    label: str
    key: str  # digits of everything that the weights depend on
    folder: Path
    checkpoints: Path  # the folder for a pipeline
    ends: tuple[Path, ...]  # files that are there when the work is done
    make: Callable[[str], None]  # takes a device
    weights: Weights | None = None  # that must be there before
    log: Path | None = None  # curves of a training
    kind: str = ""  # the network of a training
    bands: int = 0
    patches: int = 0  # that are trained on
    pixels: int = 0  # of each
    batch: int = 1
    epochs: int = 0
    caveat: str = ""  # what became of patches that hold pixels without data

    def done(self) -> bool:
        """Tell whether the work came to its end before."""
        return all(path.is_file() for path in self.ends)

    @property
    def epochs_done(self) -> int:
        """Epochs in the log, of an interrupted training too."""
        return len(read_log(self.log)[0]) if self.log else 0

    @property
    def seconds_taken(self) -> float:
        """Seconds of these epochs."""
        return sum(entry.get("seconds", 0.0) for entry in read_log(self.log)[0]) if self.log else 0.0


def given(files: Sequence[Path], place: Path) -> Weights:
    """Weights that are there already, such as released ones, to be copied to one folder below ``place``."""
    for path in files:
        if not path.is_file():
            raise FersError(f"{path}: not there. {_where_to_get(path.parent)}")
    key = _digits([sha256_of(path) for path in files])
    folder = place / key
    every = (files[0].with_name(BACKBONE_FILE), *files)  # the frozen layers of the first one too
    label = f"weights of {', '.join(path.parent.name for path in files)}"
    ends = tuple(folder / path.name for path in files)
    return Weights(label, key, folder, folder, ends, lambda device: _copy(every, folder))


def _where_to_get(folder: Path) -> str:
    """Say where the weights of a folder come from: the authors, or this project."""
    if folder.name == SHIPPED:
        return "It comes with this project. Fetch it again, or give a data set with training patches of its sensor."
    bands = "abu" if folder.name == RELEASES["abu"].checkpoints else folder.name.rpartition("_")[2]
    if bands not in RELEASES:
        return f"The authors released no weights for {bands} bands. Take --weights own."
    return f"To get the authors' weights: fers weights download --bands {bands} --out {folder}. Or take --weights own."


def training(
    workspace: Workspace, network: str, bands: int, seed: int, options: tuple[str, ...], teacher: Weights | None = None
) -> Weights:
    """A network to train on background patches.

    Args:
        workspace: Has the patches.
        network: A key of ``SCRIPTS``.
        bands: C.
        seed: Of weights and order.
        options: Further options of the training script, such as ``("--epochs", "60")``.
        teacher: Has the Spe-FEN of Stage 2.
    """
    if not workspace.has_patches:
        raise FersError(
            f"{workspace.data / 'train' / workspace.sensor}: no training patches (*.npy) here. Give a data set that has "
            "them, or take --weights released, or leave out what is trained by --rows."
        )
    script = SCRIPTS[network]
    baseline = [network] if script is baselines.train else []
    given = script.parser().parse_args([*baseline, *options])
    patches, patches_hash = training_patches(workspace.data, workspace.sensor, bands, given.nodata)
    parts = [network, bands, seed, options, teacher.key if teacher else "", training_code(script.__name__)]
    key = _digits([*parts, patches_hash])
    folder = workspace.folder / "training" / f"{network}_{bands}_seed{seed}_{key}"
    checkpoints, log = folder / "checkpoints", folder / ("stage2" if network == "stage2" else "stage1") / "log.jsonl"

    def make(device: str) -> None:
        if teacher:  # beside the student, as a pipeline wants it
            _copy([teacher.checkpoints / name for name in (BACKBONE_FILE, STAGE_FILES["stage1"])], checkpoints)
        arguments = [
            *baseline,
            *("--data_path", workspace.data, "--sensor", workspace.sensor, "--input_channel", bands),
            *("--seed", seed, "--device", device, "--resume", *options),  # from the last whole epoch, if there is one
            *("--checkpoint_dir", checkpoints, "--save_dir", folder),
        ]
        code = script.main([str(argument) for argument in arguments])
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            raise FersError(
                "was not trained; the reason stands above. An option that it names is given here as --training NAME=VALUE. "
                f"To train it from the beginning, delete {folder}."
            )

    label = f"train {network}, {bands} bands, seed {seed} {' '.join(options)}".rstrip()
    ends = (log.with_name(FINISHED_FILE), checkpoints / STAGE_FILES[network])
    return Weights(
        *(label, key, folder, checkpoints, ends, make, teacher, log, network, bands),
        patches=len(patches),
        pixels=math.prod(patches.size),
        batch=given.batch_size,
        epochs=given.epochs,
        caveat=f"Training: {said}" if (said := patches.describe()) else "",
    )


@dataclass(frozen=True)
class Score:
    """A setting to score over all scenes with one seed."""

    workspace: Workspace
    name: str  # as tables call the setting
    bands: int
    seed: int  # of the detector, and of the untrained control
    config: dict = field(default_factory=dict, hash=False)  # further arguments of DetectConfig
    weights: Weights | None = None

    @property
    def label(self) -> str:
        """Name of the step."""
        return f"{self.workspace.title}: {self.name}, {self.bands} bands, seed {self.seed}"

    @property
    def identity(self) -> dict:
        """Everything that the scores depend on."""
        setting = json.loads(json.dumps(self.config, default=str))
        depends = {"data": self.workspace.data_hash, "method": scoring_code(self.config.get("detect", "RX"))}
        key = "" if self.weights is None else self.weights.key
        return {"bands": self.bands, "seed": self.seed, "setting": setting, "weights_key": key, **depends}

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        words = [str(self.config.get(key, "")) for key in ("detect", "features", "fusion", "select")]
        name = "_".join(word.replace(":", ".") for word in words if word)
        return self.workspace.folder / "runs" / f"{name}_{self.bands}_seed{self.seed}_{_digits(self.identity)}"

    @property
    def detect_config(self) -> DetectConfig:
        """The configuration, without a device."""
        fields = dict(self.config)
        if self.weights is not None:
            fields["checkpoint_dir"] = self.weights.checkpoints
        return DetectConfig(bands=self.bands, sensor=self.workspace.sensor, seed=self.seed, **fields)

    @property
    def scenes_done(self) -> int:
        """Scenes that are scored, in an interrupted run too."""
        return len(self._found().get("scenes", {}))

    @property
    def seconds_taken(self) -> float:
        """Seconds that these scenes took."""
        return sum(scene.get("seconds", 0.0) for scene in self._found().get("scenes", {}).values())

    def _found(self) -> dict:
        try:
            return self.results()
        except (OSError, ValueError):
            return {}

    def pipeline(self, device: str) -> Pipeline:
        """The networks and the detector that score it."""
        return Pipeline(replace(self.detect_config, device=device))

    def done(self) -> bool:
        """Tell whether all scenes were scored."""
        try:
            return self.results()["complete"] and set(self.results()["scenes"]) >= set(self.workspace.truths)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def results(self) -> dict:
        """The content of results.json."""
        return json.loads((self.folder / RESULTS_FILE).read_text(encoding="utf-8"))

    def make(self, device: str) -> None:
        """Score, from the first scene that an interrupted run has not finished."""
        slow = find_detector(self.config.get("detect", "RX")).trains_on == "scene"
        where = {"benchmark": self.workspace.benchmark, "data_path": str(self.workspace.data.resolve())}
        evaluate(
            *(self.workspace.scenes, self.pipeline(device), self.folder),
            dataset=self.workspace.title,
            config={**self.identity, **where},
            batch_size=1 if slow else 8,  # a scene that took minutes is not lost with those after it
            maps=False,
        )


Step = Weights | Score


def in_order(steps: Iterable[Step]) -> list[Step]:
    """Every step once, each after those that it needs. The same step may occur more than once in ``steps``."""

    def needed(step: Step) -> list[Step]:
        return [*(needed(step.weights) if step.weights else ()), step]

    return list({each.folder: each for step in steps for each in needed(step)}.values())


def machine() -> str:
    """Processor and threads, as tables name the machine."""
    return f"{processor()}, {torch.get_num_threads()} threads"


def _copy(files: Iterable[Path], folder: Path) -> None:
    for path in files:
        if path.is_file():
            write_whole(folder / path.name, path.read_bytes())


def _digits(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:8]
