"""What tables are made from: weights, trained or given, and settings that are scored. Each is done once and found again.

Its folder's name ends in its key: eight digits of all that it depends on. A folder that holds the end of the work is
enough; what else an interrupted training or scoring left there, training and ``evaluate`` go on from by themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import baselines.train
import train_FERD.train
import train_FERS.train
from experiments.staleness import scoring_code, training_code
from experiments.workspace import Workspace
from fers.detectors import find_detector
from fers.evaluation.evaluate import evaluate
from fers.evaluation.results import RESULTS_FILE
from fers.networks.backbones import BACKBONE_FILE
from fers.networks.checkpoint import file_sha256
from fers.scoring.pipeline import DetectConfig, Pipeline
from fers.training.resume import FINISHED_FILE
from fers.util.commandline import INTERRUPTED
from fers.util.errors import FersError
from fers.util.files import atomic_path

SCRIPTS = {"stage1": train_FERD.train, "stage2": train_FERS.train, "rd4ad": baselines.train, "aetnet": baselines.train}
STAGE_FILES = {network: f"{network}.safetensors" for network in SCRIPTS}
STAGE_FILES |= {"stage1": "spe_fen.safetensors", "stage2": "spa_fen.safetensors"}


@dataclass(frozen=True)
class Given:
    """Weights that are there already, such as released ones, copied to one folder as a pipeline wants them."""

    files: tuple[Path, ...]
    place: Path  # holds such folders
    needs = ()

    @property
    def label(self) -> str:
        """Name of the step."""
        return f"weights of {', '.join(path.parent.name for path in self.files)}"

    @property
    def key(self) -> str:
        """Digits of the files' bytes.

        Raises:
            FersError: A file is missing.
        """
        for path in self.files:
            if not path.is_file():
                folder = path.parent
                bands = "abu" if folder.name == "aviris_200_released" else folder.name.rpartition("_")[2]
                raise FersError(
                    f"{path}: not there. To get the authors' weights: python -m models.download_released --bands {bands} "
                    f"--out {folder}. Or take --weights own."
                )
        return _digits([file_sha256(path) for path in self.files])

    @property
    def folder(self) -> Path:
        """Folder of the copies."""
        return self.place / self.key

    checkpoints = folder

    def done(self) -> bool:
        """Whether the files are together."""
        return all((self.folder / path.name).is_file() for path in self.files)

    def make(self, device: str) -> None:
        """Copy them together, the frozen layers that lie beside the first one before."""
        for path in (self.files[0].with_name(BACKBONE_FILE), *self.files):
            _copy(path, self.folder)


@dataclass(frozen=True)
class Training:
    """A network to train on background patches."""

    workspace: Workspace
    network: str  # a key of SCRIPTS
    bands: int
    seed: int
    options: tuple[str, ...] = ()  # of the training script, such as ("--epochs", "60")
    teacher: Weights | None = None  # has the Spe-FEN that Stage 2 learns from

    @property
    def needs(self) -> tuple[Job, ...]:
        """The teacher, of Stage 2."""
        return () if self.teacher is None else (self.teacher,)

    @property
    def label(self) -> str:
        """Name of the step."""
        return f"train {self.network}, {self.bands} bands, seed {self.seed} {' '.join(self.options)}".rstrip()

    @property
    def key(self) -> str:
        """Digits of everything that the weights depend on."""
        teacher = "" if self.teacher is None else self.teacher.key
        code = training_code(SCRIPTS[self.network].__name__)
        data = self.workspace.train_hash(self.bands)
        return _digits([self.network, self.bands, self.seed, self.options, teacher, data, code])

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.workspace.folder / "training" / f"{self.network}_{self.bands}_seed{self.seed}_{self.key}"

    @property
    def log(self) -> Path:
        """Curves of the run."""
        return self.folder / ("stage2" if self.network == "stage2" else "stage1") / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the weights."""
        return self.folder / "checkpoints"

    def done(self) -> bool:
        """Whether it was trained to its end."""
        file = self.checkpoints / STAGE_FILES[self.network]
        return self.log.with_name(FINISHED_FILE).is_file() and file.is_file()

    def make(self, device: str) -> None:
        """Train, from the last whole epoch of an interrupted run if there is one."""
        if self.teacher is not None:  # beside its student, as a pipeline wants them
            for name in (BACKBONE_FILE, STAGE_FILES["stage1"]):
                _copy(self.teacher.checkpoints / name, self.checkpoints)
        arguments = [
            *([self.network] if SCRIPTS[self.network] is baselines.train else []),
            *("--data_path", self.workspace.data, "--sensor", self.workspace.row.sensor),
            *("--input_channel", self.bands, "--seed", self.seed, "--device", device),
            *("--checkpoint_dir", self.checkpoints, "--save_dir", self.folder, "--resume", *self.options),
        ]
        code = SCRIPTS[self.network].main([str(argument) for argument in arguments])
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            raise FersError("was not trained; the reason stands above.")


@dataclass(frozen=True)
class Score:
    """A setting to score over all scenes with one seed."""

    workspace: Workspace
    name: str  # as tables call the setting
    bands: int
    seed: int  # of the detector, and of the untrained control
    config: dict = field(default_factory=dict, hash=False)  # further arguments of DetectConfig
    weights: Weights | None = None
    detector_file: str = ""  # a checkpoint of the detector's own, in the folder of the weights

    @property
    def needs(self) -> tuple[Job, ...]:
        """The weights."""
        return () if self.weights is None else (self.weights,)

    @property
    def label(self) -> str:
        """Name of the step."""
        return f"{self.workspace.title}: {self.name}, {self.bands} bands, seed {self.seed}"

    @property
    def identity(self) -> dict:
        """Everything that the scores depend on."""
        return {
            "bands": self.bands,
            "seed": self.seed,
            "setting": json.loads(json.dumps(self.config, default=str)),
            "weights_key": "" if self.weights is None else self.weights.key,
            "data": self.workspace.test_hash,
            "method": scoring_code(self.config.get("detect", "RX")),
        }

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        words = [str(self.config.get(key, "")) for key in ("detect", "features", "fusion", "select")]
        name = "_".join(word.replace(":", ".") for word in words if word)
        return self.workspace.folder / "runs" / f"{name}_{self.bands}_seed{self.seed}_{_digits(self.identity)}"

    def pipeline(self, device: str) -> Pipeline:
        """The networks and the detector that score it."""
        fields: dict[str, Any] = {
            "bands": self.bands,
            "sensor": self.workspace.row.sensor,
            "seed": self.seed,
            "device": device,
        }
        fields |= self.config
        if self.weights is not None:
            fields["checkpoint_dir"] = self.weights.checkpoints
            if self.detector_file:
                fields["options"] = {"checkpoint": str(self.weights.checkpoints / self.detector_file)}
        return Pipeline(DetectConfig(**fields))

    def done(self) -> bool:
        """Whether all scenes were scored."""
        try:
            return self.results()["complete"] and set(self.results()["scenes"]) >= set(self.workspace.scene_names)
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
            self.workspace.scenes,
            self.pipeline(device),
            self.folder,
            dataset=self.workspace.title,
            config={**self.identity, **where},
            batch_size=1 if slow else 8,  # a scene that took minutes is not lost with those after it
            maps=False,
        )


Weights = Given | Training
Job = Weights | Score


def make_missing(jobs: Sequence[Job], device: str, log: Path, plan: bool = False) -> None:
    """Do what is not done yet, each job after those that it needs.

    Args:
        jobs: What tables and figures need; the same job may occur more than once.
        device: As ``--device``.
        log: File for what the jobs print.
        plan: Print what would be done, and do nothing.

    Raises:
        FersError: A job cannot be done. The message names it; what was done before it is kept.
    """
    ordered: dict[Path, Job] = {}

    def add(job: Job) -> None:
        for needed in job.needs:
            add(needed)
        ordered.setdefault(job.folder, job)

    for job in jobs:
        add(job)
    missing = [job for job in ordered.values() if not job.done()]
    tqdm.write(f"{len(ordered) - len(missing)} of {len(ordered)} steps are done already.")
    if plan:
        print("\n".join(f"to do: {job.label}" for job in missing))
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as output, tqdm(missing, unit="step", disable=None) as bar:
        for number, job in enumerate(bar, 1):
            tqdm.write(f"[{number}/{len(missing)}] {job.label}")
            try:
                with contextlib.redirect_stdout(output):
                    job.make(device)
            except ValueError as error:
                raise FersError(f"{job.label}: {error}") from error


def machine() -> str:
    """Processor and threads, as tables name the machine."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{model}, {torch.get_num_threads()} threads"


def _copy(path: Path, folder: Path) -> None:
    if path.is_file():
        with atomic_path(folder / path.name) as temporary:
            shutil.copyfile(path, temporary)


def _digits(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:8]
