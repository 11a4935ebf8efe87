"""Where the paper's reproduction keeps what it made: one folder for each data set, never two data sets in one.

results/reproduce/<data set>/data.json     which data this is
                             training/     a folder for each trained network
                             runs/         a folder for each setting and seed: results.json and score maps
                             tables/       Markdown, CSV, LaTeX
                             figures/      PNG and PDF
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from experiments import ROOT
from fers.datasets.benchmarks import BENCHMARKS, Benchmark
from fers.datasets.had100 import dataset_name
from fers.datasets.patches import BackgroundPatches
from fers.evaluation.results import truth_sha256
from fers.scenes.scene import LabelledScene
from fers.util.errors import FersError
from fers.util.files import write_whole

SCORING = ("data", "models", "detectors", "detection", "fast", "baselines")  # packages whose code a score depends on
TRAINING = (*SCORING, "training", "train_FERD", "train_FERS")


@dataclass(frozen=True)
class Workspace:
    """A test set with its training patches, and the folder of what is made of it.

    Attributes:
        benchmark: A key of ``BENCHMARKS``.
        data: The data set's folder.
        out: The folder that holds one of ours for each data set.
        names: Scenes, as ``--scenes`` takes them.
    """

    benchmark: str
    data: Path
    out: Path
    names: str

    @property
    def row(self) -> Benchmark:
        """The benchmark's facts."""
        return BENCHMARKS[self.benchmark]

    @property
    def synthetic(self) -> bool:
        """Whether the scenes are made up."""
        return dataset_name(self.data) == "synthetic"

    @property
    def title(self) -> str:
        """The data set as headings name it; the folder's name."""
        return f"synthetic-{self.benchmark}" if self.synthetic else self.benchmark

    @property
    def folder(self) -> Path:
        """Where everything of this data set goes."""
        return self.out / self.title

    @cached_property
    def scenes(self) -> list[LabelledScene]:
        """The scenes in the order of their names, or of ``names``."""
        return self.row.scenes(self.data, None, self.names)

    @cached_property
    def test_hash(self) -> str:
        """Eight digits of the scenes' cubes and masks, by their bytes."""
        return data_hash(self.scenes)

    def train_hash(self, bands: int) -> str:
        """Eight digits of the training patches."""
        return _patches_hash(self.data, self.row.sensor, bands)

    @property
    def has_patches(self) -> bool:
        """Whether there are patches to train on."""
        return any((self.data / "train" / self.row.sensor).glob("*.npy"))

    def claim(self) -> None:
        """See that the folder is for this data.

        Raises:
            FersError: It holds results of other data.
        """
        mine = {"data": self.test_hash, "scenes": [scene.name for scene in self.scenes]}
        path = self.folder / "data.json"
        if path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise FersError(f"{path}: cannot be read ({error}). Move {self.folder} away.") from error
            if found["data"] != mine["data"]:
                raise FersError(
                    f"{self.folder}: holds results of other data ({found['data']}, {len(found['scenes'])} scenes) than "
                    f"{self.data} ({mine['data']}, {len(mine['scenes'])} scenes). Results of different data have no place "
                    "under one heading. Give another --out, or move that folder away."
                )
            return
        write_whole(path, (json.dumps({**mine, "path": str(self.data.resolve())}, indent=2) + "\n").encode())


@cache
def _patches_hash(data: Path, sensor: str, bands: int) -> str:
    return BackgroundPatches(data, sensor, bands).fingerprint()[:8]


@cache
def code_hash(packages: tuple[str, ...] = SCORING) -> str:
    """Eight digits of the source of some packages."""
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def data_hash(scenes: Iterable[LabelledScene]) -> str:
    """Eight digits of some scenes' cubes and masks, by their bytes."""
    digest = hashlib.sha256()
    for scene in scenes:
        digest.update(scene.name.encode())
        with scene.path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        digest.update(truth_sha256(scene.load()[1]).encode())
    return digest.hexdigest()[:8]
