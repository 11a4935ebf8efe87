"""Folders of the paper's reproduction: one folder for each data set, never two data sets in one.

results/reproduce/<data set>/data.json     which data this is
                             training/     a folder for each trained network
                             weights/      weights that were there already, put together
                             runs/         a folder for each setting and seed: results.json and score maps
                             tables/       Markdown, CSV, LaTeX
                             figures/      PNG and PDF
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from fers.datasets.benchmarks import BENCHMARKS
from fers.datasets.had100 import is_synthetic, published_test_scenes
from fers.datasets.patches import BackgroundPatches
from fers.evaluation.results import truth_sha256
from fers.scenes.scene import LabelledScene, unchanging
from fers.util.errors import FersError
from fers.util.files import write_whole
from fers.util.paths import folder_name


@dataclass(frozen=True)
class Workspace:
    """A test set with its training patches, and the folder of what is made of it."""

    benchmark: str  # a key of BENCHMARKS
    data: Path  # the data set's folder
    out: Path  # holds a folder for each data set
    names: str = "all"  # scenes, as --scenes takes them

    @cached_property
    def synthetic(self) -> bool:
        """True where the scenes are made up."""
        return is_synthetic(self.data)

    @cached_property
    def title(self) -> str:
        """Name of the data set in headings."""
        return (
            f"synthetic-{self.benchmark}"
            if self.synthetic
            else BENCHMARKS[self.benchmark].title(self.data, self.scenes)
        )

    @cached_property
    def published(self) -> set[str]:
        """Names of the scenes whose published numbers may stand beside ours; ``mean`` where those over all of them may."""
        if self.title != self.benchmark:
            return set()
        known = BENCHMARKS[self.benchmark].known(self.scenes)
        same = {name for name, published in known.items() if name == published}
        whole = self.benchmark != "HAD100" or len(same) == len(published_test_scenes())
        return same | ({"mean"} if whole else set())

    @property
    def folder(self) -> Path:
        """Folder of everything that is made of this data set."""
        return self.out / folder_name(self.title)

    @property
    def sensor(self) -> str:
        """Sensor of scenes and patches."""
        return BENCHMARKS[self.benchmark].sensor

    @property
    def has_patches(self) -> bool:
        """True where there are patches to train on."""
        return any((self.data / "train" / self.sensor).glob("*.npy"))

    @cached_property
    def scenes(self) -> list[LabelledScene]:
        """The scenes in the order of their names, or of ``names``."""
        return [unchanging(scene) for scene in BENCHMARKS[self.benchmark].scenes(self.data, None, self.names)]

    @cached_property
    def truths(self) -> dict[str, np.ndarray]:
        """Each scene's ground truth by its name, ``(H, W)`` bool, True at anomalies."""
        return {scene.name: scene.load()[1] for scene in self.scenes}

    @cached_property
    def data_hash(self) -> str:
        """Eight digits of the scenes' names, cubes and ground truths, by their bytes."""
        digest = hashlib.sha256()
        for scene in self.scenes:
            digest.update(
                scene.name.encode() + scene.path.read_bytes() + truth_sha256(self.truths[scene.name]).encode()
            )
        return digest.hexdigest()[:8]

    def figures(self, name: str, draw: Callable[[Path], Path]) -> list[Path]:
        """Draw a figure as PNG and PDF, by a function that takes the path."""
        return [draw(self.folder / "figures" / f"{name}{suffix}") for suffix in (".png", ".pdf")]

    def claim(self) -> None:
        """Refuse a folder that holds results of other data."""
        mine = {"data": self.data_hash, "scenes": list(self.truths), "path": str(self.data.resolve())}
        path = self.folder / "data.json"
        if not path.is_file():
            write_whole(path, (json.dumps(mine, indent=2) + "\n").encode())
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FersError(f"{path}: cannot be read ({error}). Move {self.folder} away.") from error
        if found["data"] != mine["data"]:
            raise FersError(
                f"{self.folder}: holds results of other data ({found['data']}, {len(found['scenes'])} scenes) than "
                f"{self.data} ({mine['data']}, {len(self.scenes)} scenes). Give another --out, or move that folder away."
            )


@cache
def training_patches(data: Path, sensor: str, bands: int, nodata: str) -> tuple[BackgroundPatches, str]:
    """The training patches of a data set, and eight digits of them."""
    found = BackgroundPatches(data, sensor, bands, nodata=nodata)
    return found, found.fingerprint()[:8]
