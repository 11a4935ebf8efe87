"""What ``reproduce.py`` can be asked for: what each target needs done, and what it makes of that."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from experiments.cells import save
from experiments.explain import Explained, timing_cells
from experiments.jobs import Step, machine
from experiments.measured import common_scenes, measured
from experiments.rows import TABLE3, TABLE4, TABLE5, UNTRAINED, Request
from experiments.tables import Column, Means, Scenes, abu_columns, band_columns, fusion_columns
from experiments.workspace import Workspace
from fers.evaluation.figures import SceneMaps, comparison_figure, critical_difference_figure
from fers.evaluation.statistics import rank_methods

BOLD = "Bold: better than every other row of its column (Wilcoxon's signed-rank test over scenes with Holm's correction, p < 0.05)."
BOLD_PAIR = "Bold: better than its pair on that scene (DeLong's test of the first seed's maps with Holm's correction, p < 0.05)."
INTERVAL = "In brackets: 95 % bootstrap interval of the mean over scenes. ±: standard deviation over seeds."
MEASURES = "Means over scenes of the first seed's maps. For AUC(F,tau) lower is better, for the others higher."
WHITENED = (
    "Of the background without the anomalies, in its whitened coordinates; skewness and kurtosis are Mardia's, over "
    "what a Gaussian has."
)


class Work(NamedTuple):
    """What a target comes to for a request."""

    steps: Sequence[Step]  # what must be done before
    make: Callable[[], Iterable[Path]]  # makes it of that; returns the files


@dataclass(frozen=True)
class Target:
    """Something to ask for."""

    needs: tuple[str, ...]  # test sets without which it is left out of ``all``: attributes of Request
    work: Callable[[Request], Work]


def _table(name: str, title: str, tables: Sequence[Means]) -> Work:
    def make() -> Iterable[Path]:
        for table in tables:
            notes = (BOLD, INTERVAL, *table.request.facts)
            yield from save(table.workspace, name, table.cells(), title.format(table.workspace.title), notes)

    return Work([job for table in tables for job in table.jobs], make)


def _table1(request: Request) -> Work:
    table = Means(request, "Table I", request.first, request.table1, band_columns(request.bands))
    main = _table("table1", "Methods on {}", [table])

    def make() -> Iterable[Path]:
        yield from main.make()
        first, workspace = table.columns[0], table.workspace
        notes = (MEASURES, *request.facts)
        yield from save(workspace, "metrics", table.metric_cells(first), f"Further measures, {first.name}", notes)
        for column in table.columns:
            rows = [(row, found) for row, found in table.measured(column) if not row.oracle]
            names = common_scenes(rows, workspace.truths)
            if len(rows) > 2 and len(names) > 1:
                aucs = {_short(row.name).replace("\n", " "): found.table(names).mean(0) for row, found in rows}
                draw = partial(critical_difference_figure, rank_methods(aucs))
                yield from workspace.figures(f"ranks_{column.bands}", draw)

    return Work(main.steps, make)


def _table2(request: Request) -> Work:
    table = Scenes(request)
    title = f"Original and enhanced scene by scene on {request.second.title}"
    notes = (BOLD_PAIR, *request.facts)
    return Work(table.jobs, lambda: save(table.workspace, "table2", table.cells(), title, notes))


def _table3(request: Request) -> Work:
    tables = [
        Means(
            *(request, "Table III", place, TABLE3),
            band_columns(request.bands) if place.benchmark == "HAD100" else abu_columns(place.truths),
        )
        for place in request.both
    ]
    return _table("table3", "Branches and fusions on {}", tables)


def _table4(request: Request) -> Work:
    own = replace(request, weights="own")  # an ablation of Stage 1 has no released weights
    table = Means(own, "Table IV", request.first, TABLE4, band_columns(request.bands[:1]))
    return _table("table4", "Losses of Stage 1", [table])


def _table5(request: Request) -> Work:
    table = Means(request, "Table V", request.first, TABLE5, fusion_columns(request.bands[0]))
    return _table("table5", "Losses of Stage 2", [table])


def _figure7(request: Request) -> Work:
    workspace = request.first
    table = Means(request, "Table I", workspace, request.table1, [Column("", request.bands[0])])

    def make() -> Iterable[Path]:
        rows = [(row, found) for row, found in table.measured(table.columns[0]) if not row.oracle]
        scenes, positions = workspace.scenes, request.positions
        if max(positions) > len(scenes):  # a smaller test set: as many, spread over it
            positions = tuple(int(p) for p in np.linspace(1, len(scenes), min(len(positions), len(scenes))).round())
            drawn = ", ".join(map(str, positions))
            print(f"fig7: {workspace.title} has only {len(scenes)} scenes; drawn are those at {drawn}.")
        lines = []
        for position in positions:
            scene, truth = scenes[position - 1].load()
            maps = {_short(row.name): found.score(scene.name) for row, found in rows}
            lines.append(SceneMaps(replace(scene, name=f"scene {position}"), truth, maps))
        return _maps(lines, workspace, "fig7")

    return Work(table.jobs, make)


def _figure8(request: Request) -> Work:
    table, workspace = Scenes(request), request.second

    def make() -> Iterable[Path]:
        rows = {
            f"{_short(detector)}\n{seen}": measured(jobs)
            for detector, seen, row, jobs in table.settings()
            if not row.oracle and row is not UNTRAINED
        }
        loaded = [labelled.load() for labelled in workspace.scenes]
        lines = [
            SceneMaps(scene, truth, {title: found.score(scene.name) for title, found in rows.items()})
            for scene, truth in loaded
        ]
        return _maps(lines, workspace, "fig8")

    return Work(table.jobs, make)


def _maps(lines: list[SceneMaps], workspace: Workspace, name: str) -> list[Path]:
    side = max(0.72, 7.0 / (2 + len(lines[0].scores)))  # inches: a page is about 7 wide
    return workspace.figures(name, lambda path: comparison_figure(lines, path, side, font=7))


def _short(name: str) -> str:
    """The name as a narrow column is headed."""
    name = re.sub(r", (last iteration|last)$", "", name).replace(", fusion A as released", "\nas released")
    return name.replace(", ", ",\n").replace("untrained ", "untrained\n")


def _explained(request: Request, make: Callable[[Explained], Iterable[Path]], places: Sequence[Workspace]) -> Work:
    found = [Explained(request, place) for place in places]
    return Work([job for one in found for job in one.jobs.values()], lambda: [p for one in found for p in make(one)])


def _gaussianity(one: Explained) -> Iterable[Path]:
    title = f"Gaussianity and separability before and after enhancement on {one.workspace.title}, {one.bands} bands"
    yield from save(one.workspace, "gaussianity", one.gaussianity(), title, (WHITENED, *one.request.facts))
    yield from one.qq_figures()


def _timing(request: Request) -> Work:
    where = torch.cuda.get_device_name() if torch.cuda.is_available() and request.device != "cpu" else machine()
    notes = (f"Measured on {where}; the paper's on an RTX 3090 Ti.", "AE's time is that of either iteration.")
    notes = (*notes, *request.facts)
    steps = _table1(request).steps
    return Work(steps, lambda: save(request.first, "timing", timing_cells(request), "Seconds per scene", notes))


TARGETS: dict[str, Target] = {
    "table1": Target(("had100",), _table1),
    "table2": Target(("abu",), _table2),
    "table3": Target((), _table3),
    "table4": Target(("had100",), _table4),
    "table5": Target(("had100",), _table5),
    "fig7": Target(("had100",), _figure7),
    "fig8": Target(("abu",), _figure8),
    "fig9": Target(("abu",), lambda request: _explained(request, Explained.figure9, [request.second])),
    "decorrelation": Target((), lambda request: _explained(request, Explained.decorrelation, request.both)),
    "gaussianity": Target((), lambda request: _explained(request, _gaussianity, request.both)),
    "timing": Target(("had100",), _timing),
}
