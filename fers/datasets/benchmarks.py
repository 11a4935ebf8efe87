"""The test sets of the paper, and any folder of one's own in their layouts.

A new benchmark is one row of ``BENCHMARKS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fers.datasets import abu, had100
from fers.scenes.scene import LabelledScene
from fers.util.paths import home


@dataclass(frozen=True)
class Benchmark:
    """Row of ``BENCHMARKS``.

    Attributes:
        sensor: Sensor of its scenes, and of the checkpoints that belong to it.
        bands: How many bands its test script takes by default.
        folders: Where its data is looked for, relative to the project: the first that exists.
        scenes: Lists the scenes of a folder; takes the folder, a sensor or None, and names.
        names: The names taken by default.
        names_help: What ``--scenes`` takes.
        title: What a folder's results are headed with; takes the folder.
    """

    sensor: str
    bands: int
    folders: tuple[str, ...]
    scenes: Callable[[Path, str | None, str], list[LabelledScene]]
    names: str
    names_help: str
    title: Callable[[Path], str]

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
        title=had100.dataset_name,
    ),
    "ABU": Benchmark(
        sensor="aviris",
        bands=200,
        folders=("data/ABU", "data/abu", "FERS_ABU/data/abu", "FERS_ABU/data"),
        scenes=abu.scenes,
        names="paper",
        names_help="paper for the six of the paper's table, all, or names separated by commas",
        title=lambda folder: "ABU",
    ),
}
