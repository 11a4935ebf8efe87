"""What a table or figure needs done: networks trained, settings scored. Each job is done once and found again."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import baselines.train as baseline
import train_FERD.train as stage1
import train_FERS.train as stage2
from experiments.workspace import SCORING, TRAINING, Workspace, code_hash
from fers.detectors import find_detector
from fers.evaluation.evaluate import evaluate
from fers.evaluation.results import RESULTS_FILE
from fers.networks.backbones import BACKBONE_FILE
from fers.scoring.pipeline import DetectConfig, Pipeline
from fers.training.device import make_accelerator
from fers.training.resume import FINISHED_FILE
from fers.util.errors import FersError
from fers.util.files import atomic_path, sha256_of

STAGE_FILES = {
    "stage1": "spe_fen.safetensors",
    "stage2": "spa_fen.safetensors",
    "rd4ad": "rd4ad.safetensors",
    "aetnet": "aetnet.safetensors",
}


@dataclass(frozen=True)
class Machine:
    """How jobs are run, which changes no result but the time.

    Attributes:
        device: As ``--device``.
    """

    device: str = "auto"


@dataclass(frozen=True)
class Given:
    """Weights that are there already: released ones, or those that are shipped.

    Attributes:
        folders: The folder with each file that is wanted, such as ``{"spe_fen": Path(...)}``.
        place: The folder that they are put together in.
    """

    folders: tuple[tuple[str, Path], ...]
    place: Path
    kind: str = "weights"

    @property
    def after(self) -> tuple[Job, ...]:
        """Nothing comes before it."""
        return ()

    @property
    def label(self) -> str:
        """As progress shows it."""
        return f"weights of {', '.join(str(folder.name) for _, folder in self.folders)}"

    @property
    def key(self) -> str:
        """Digits of the files' bytes.

        Raises:
            FersError: A file is missing.
        """
        for branch, folder in self.folders:
            if not (path := folder / f"{branch}.safetensors").is_file():
                raise FersError(
                    f"{path}: not there. To get the authors' weights: python -m models.download_released --bands "
                    f"{folder.name} --out {folder}. Or take --weights own."
                )
        return _digits([sha256_of(folder / f"{branch}.safetensors") for branch, folder in self.folders])

    @property
    def checkpoints(self) -> Path:
        """The folder for a pipeline."""
        return self.place / self.key

    def done(self) -> bool:
        """Whether the files are together."""
        return all((self.checkpoints / f"{branch}.safetensors").is_file() for branch, _ in self.folders)

    def run(self, machine: Machine) -> None:
        """Copy them together, with the frozen layers that lie beside the first."""
        for branch, folder in self.folders:
            _copy(folder / f"{branch}.safetensors", self.checkpoints)
        if (backbone := self.folders[0][1] / BACKBONE_FILE).is_file():
            _copy(backbone, self.checkpoints)


@dataclass(frozen=True)
class Training:
    """A network to train on background patches.

    Attributes:
        workspace: Has the patches.
        what: A key of ``STAGE_FILES``.
        bands: C.
        seed: Of weights and order.
        options: Further options of the training script, such as ``("--epochs", "60")``.
        teacher: Of Stage 2: what has its Spe-FEN.
    """

    workspace: Workspace
    what: str
    bands: int
    seed: int
    options: tuple[str, ...] = ()
    teacher: Weights | None = None

    @property
    def after(self) -> tuple[Job, ...]:
        """Stage 2 comes after its teacher."""
        return () if self.teacher is None else (self.teacher,)

    @property
    def kind(self) -> str:
        """Jobs of one kind take about as long."""
        return f"{self.what} {self.bands}"

    @property
    def label(self) -> str:
        """As progress shows it."""
        return f"train {self.what}, {self.bands} bands, seed {self.seed} {' '.join(self.options)}".rstrip()

    @property
    def key(self) -> str:
        """Digits of everything that the weights depend on."""
        teacher = "" if self.teacher is None else self.teacher.key
        data = self.workspace.train_hash(self.bands)
        return _digits([self.what, self.bands, self.seed, self.options, teacher, data, code_hash(TRAINING)])

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.workspace.folder / "training" / f"{self.what}_{self.bands}_seed{self.seed}_{self.key}"

    @property
    def log(self) -> Path:
        """Its curves."""
        return self.folder / ("stage2" if self.what == "stage2" else "stage1") / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder for a pipeline."""
        return self.folder / "checkpoints"

    def done(self) -> bool:
        """Whether it was trained to its end."""
        return self.log.with_name(FINISHED_FILE).is_file() and (self.checkpoints / STAGE_FILES[self.what]).is_file()

    def run(self, machine: Machine) -> None:
        """Train, from the last whole epoch of an interrupted run if there is one."""
        arguments = [
            *("--data_path", self.workspace.data, "--sensor", self.workspace.row.sensor),
            *("--input_channel", self.bands, "--seed", self.seed, "--device", machine.device),
            *("--checkpoint_dir", self.checkpoints, "--save_dir", self.folder, "--resume", *self.options),
        ]
        if self.teacher is not None:  # beside its student, as a pipeline wants them
            for name in (STAGE_FILES["stage1"], BACKBONE_FILE):
                if (self.teacher.checkpoints / name).is_file():
                    _copy(self.teacher.checkpoints / name, self.checkpoints)
        script = {"stage1": stage1, "stage2": stage2}.get(self.what, baseline)
        command = [*([self.what] if script is baseline else []), *map(str, arguments)]
        options = script.parser().parse_args(command)
        script.train(options, make_accelerator(options.precision, options.device))


@dataclass(frozen=True)
class Score:
    """A setting to score over all scenes with one seed.

    Attributes:
        workspace: Has the scenes.
        name: As tables call the setting.
        bands: C.
        seed: Of the detector, and of the untrained control.
        config: Further arguments of ``DetectConfig``.
        weights: What has the checkpoints that it needs.
        detector_file: A checkpoint of the detector's own, in the folder of ``weights``.
    """

    workspace: Workspace
    name: str
    bands: int
    seed: int
    config: dict = field(default_factory=dict, hash=False)
    weights: Weights | None = None
    detector_file: str = ""

    @property
    def after(self) -> tuple[Job, ...]:
        """It comes after its weights."""
        return () if self.weights is None else (self.weights,)

    @property
    def kind(self) -> str:
        """Jobs of one kind take about as long."""
        return f"{self.config.get('detect', 'RX')} {self.bands}"

    @property
    def label(self) -> str:
        """As progress shows it."""
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
            "method": code_hash(SCORING),
        }

    @property
    def key(self) -> str:
        """Its digits."""
        return _digits(self.identity)

    @property
    def folder(self) -> Path:
        """The run's folder."""
        words = [str(self.config.get(key, "")) for key in ("detect", "features", "fusion", "select")]
        name = "_".join(word.replace(":", ".") for word in words if word)
        return self.workspace.folder / "runs" / f"{name}_{self.bands}_seed{self.seed}_{self.key}"

    def pipeline(self, device: str) -> Pipeline:
        """What scores it."""
        fields = dict(self.config)
        if self.weights is not None:
            fields["checkpoint_dir"] = self.weights.checkpoints
        if self.detector_file and self.weights is not None:
            fields["options"] = {"checkpoint": str(self.weights.checkpoints / self.detector_file)}
        settings = {"bands": self.bands, "sensor": self.workspace.row.sensor, "seed": self.seed, "device": device}
        return Pipeline(DetectConfig(**{**settings, **fields}))

    def done(self) -> bool:
        """Whether all scenes were scored."""
        try:
            found = json.loads((self.folder / RESULTS_FILE).read_text(encoding="utf-8"))
            return found["complete"] and set(found["scenes"]) >= {scene.name for scene in self.workspace.scenes}
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def results(self) -> dict:
        """Its results.json."""
        return json.loads((self.folder / RESULTS_FILE).read_text(encoding="utf-8"))

    def run(self, machine: Machine) -> None:
        """Score, from the first scene that an interrupted run has not finished."""
        slow = find_detector(self.config.get("detect", "RX")).trains_on == "scene"
        extra = {
            **self.identity,
            "benchmark": self.workspace.benchmark,
            "data_path": str(self.workspace.data.resolve()),
        }
        together = 1 if slow else 8  # a scene that took minutes is not lost with those after it
        pipeline = self.pipeline(machine.device)
        scenes = self.workspace.scenes
        title = self.workspace.title
        evaluate(scenes, pipeline, self.folder, dataset=title, config=extra, batch_size=together, maps=False)


Weights = Given | Training
Job = Weights | Score


def _copy(path: Path, folder: Path) -> None:
    with atomic_path(folder / path.name) as temporary:
        shutil.copyfile(path, temporary)


def _digits(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:8]
