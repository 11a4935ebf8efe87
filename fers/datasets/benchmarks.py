"""The test sets of the paper, and any folder of one's own in their layouts.

A new benchmark is one row of ``BENCHMARKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fers.datasets import abu, had100
from fers.scenes.scene import LabelledScene
from fers.util.paths import home


@dataclass(frozen=True)
class Benchmark:
    """Row of ``BENCHMARKS``."""

    sensor: str  # of its scenes, and of the checkpoints that belong to it
    bands: int  # that its test script takes by default
    folders: tuple[str, ...]  # where its data is looked for, relative to the project
    scenes: Callable[[Path, str | None, str], list[LabelledScene]]  # of a folder, a sensor or None, and names
    names: str  # taken by default
    names_help: str  # what --scenes takes
    known: Callable[
        [Iterable[LabelledScene]], dict[str, str]
    ]  # the published name of each scene that is a published one

    def title(self, folder: Path, scenes: Iterable[LabelledScene]) -> str:
        """Name the test set in headings: as the benchmark only where every scene is one of the published ones."""
        if had100.is_synthetic(folder):
            return "synthetic"
        scenes = list(scenes)
        name = next(name for name, benchmark in BENCHMARKS.items() if benchmark is self)
        published = not had100.is_of_another_archive(folder) and len(self.known(scenes)) == len(scenes)
        return name if published else f"own scenes in {name}'s layout"

    def default_folder(self) -> Path:
        """Find the first of ``folders`` that exists; else the first."""
        places = [home() / folder for folder in self.folders]
        return next((place for place in places if place.is_dir()), places[0])


BENCHMARKS: dict[str, Benchmark] = {
    "HAD100": Benchmark(
        sensor="aviris_ng",
        bands=50,
        folders=("data/HAD100Dataset", "data/HAD100"),
        scenes=lambda folder, sensor, names: had100.scenes(folder, sensor or "aviris_ng", names),
        names="all",
        names_help="all, or names separated by commas",
        known=had100.known_scenes,
    ),
    "ABU": Benchmark(
        sensor="aviris",
        bands=200,
        folders=("data/ABU", "data/abu", "FERS_ABU/data/abu", "FERS_ABU/data"),
        scenes=abu.scenes,
        names="paper",
        names_help="paper for the six of the paper's table, all, or names separated by commas",
        known=abu.known_scenes,
    ),
}
