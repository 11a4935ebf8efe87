"""Targets of ``reproduce.py``: what each needs done, and what it makes of that."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from experiments.cells import save
from experiments.explain import Explained
from experiments.jobs import Step, machine
from experiments.rows import LAST, RELEASED_RX, TABLE3, TABLE4, TABLE5, Request
from experiments.tables import ABU_BANDS, FIVE, Column, Means, Measured, Scenes, common_scenes, measured, published
from experiments.workspace import Workspace
from fers.evaluation.figures import SceneMaps, comparison_figure, critical_difference_figure
from fers.evaluation.statistics import FEWEST, rank_methods
from fers.scenes.scene import LabelledScene
from fers.scoring.pipeline import Pipeline, read_h

BOLD = "Bold: better than every other row of its column (Wilcoxon's signed-rank test over scenes with Holm's correction, p < 0.05)."
BOLD_PAIR = "Bold: better than the original on that scene (DeLong's test of the first seed's maps with Holm's correction, p < 0.05)."
TIMED = 3  # runs; the fastest counts
INTERVAL = (
    f"In brackets: 95 % interval of the mean over scenes, where they are {FEWEST} groups or more. "
    "±: standard deviation over seeds."
)
MEASURES = "Means over scenes of the first seed's maps. For AUC(F,tau) lower is better, for the others higher."
NO_SPA_FEN = "Rows of both branches are left out: there is no Spa-FEN here, and no training patches for one."
WHITENED = (
    "Of the background without the anomalies, in its whitened coordinates; skewness and kurtosis are Mardia's, over "
    "what a Gaussian has."
)


class Work(NamedTuple):
    """The work that a target comes to for a request."""

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
            alone = () if all(map(table.has_both, table.columns)) else (NO_SPA_FEN,)
            notes = (BOLD, INTERVAL, *alone, *table.request.facts)
            yield from save(table.workspace, name, table.cells(), title.format(table.workspace.title), notes)

    return Work([job for table in tables for job in table.jobs], make)


def _table1(request: Request) -> Work:
    table = Means(request, "Table I", request.first, request.table1, _by_bands(request.bands))
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
    columns = {"HAD100": _by_bands(request.bands)}
    if request.abu is not None:
        names = list(request.abu.truths)  # the five scenes whose files are whole, where all are there; and all
        groups = (
            {f"mean of {len(names)}": ()}
            if not {*FIVE} <= {*names}
            else {"mean of five": FIVE, f"mean of {len(names)}": ()}
        )
        columns["ABU"] = [Column(f"{ABU_BANDS} bands, {title}", ABU_BANDS, scenes) for title, scenes in groups.items()]
    tables = [Means(request, "Table III", place, TABLE3, columns[place.benchmark]) for place in request.both]
    return _table("table3", "Branches and fusions on {}", tables)


def _table4(request: Request) -> Work:
    own = replace(request, weights="own")  # an ablation of Stage 1 has no released weights
    table = Means(own, "Table IV", request.first, TABLE4, _by_bands(request.bands[:1]))
    return _table("table4", "Losses of Stage 1", [table])


def _table5(request: Request) -> Work:
    bands = request.bands[0]
    released = Column(f"{bands} bands, fusion A, as released", bands, config=tuple(RELEASED_RX.items()))
    columns = [Column(f"{bands} bands, fusion A, equations", bands), released]
    return _table("table5", "Losses of Stage 2", [Means(request, "Table V", request.first, TABLE5, columns)])


def _by_bands(bands: Iterable[int]) -> list[Column]:
    return [Column(f"{c} bands", c) for c in bands]


def _figure7(request: Request) -> Work:
    workspace = request.first
    drawn = [row for row in request.table1 if row.mark != LAST]  # of AE the oracle's map, as in the paper; it says so
    table = Means(request, "Table I", workspace, drawn, [Column("", request.bands[0])])

    def make() -> Iterable[Path]:
        rows = {_short(row.name): found for row, found in table.measured(table.columns[0])}
        count, positions = len(workspace.scenes), request.positions
        if max(positions) > count:  # a smaller test set: as many, spread over it
            positions = tuple(int(p) for p in np.linspace(1, count, min(len(positions), count)).round())
            places = ", ".join(map(str, positions))
            print(f"fig7: {workspace.title} has only {count} scenes; drawn are those at {places}.")
        shown = {f"scene {position}": workspace.scenes[position - 1] for position in positions}
        return _maps(workspace, "fig7", rows, shown)

    return Work(table.jobs, make)


def _figure8(request: Request) -> Work:
    table = Scenes(request)
    shown = {
        f"{_short(detector)}\n{seen}": jobs
        for detector, seen, row, jobs in table.settings()
        if row.mark != LAST and seen != "untrained control"
    }

    def make() -> Iterable[Path]:
        rows = {title: measured(jobs) for title, jobs in shown.items()}
        return _maps(table.workspace, "fig8", rows, {scene.name: scene for scene in table.workspace.scenes})

    return Work([job for jobs in shown.values() for job in jobs], make)


def _maps(workspace: Workspace, name: str, rows: dict[str, Measured], shown: dict[str, LabelledScene]) -> list[Path]:
    """Draw score maps: a column for each of ``rows``, a line for each scene by its title."""
    lines = []
    for title, labelled in shown.items():
        scene, truth = labelled.load()
        maps = {column: found.score(scene.name) for column, found in rows.items()}
        lines.append(SceneMaps(replace(scene, name=title), truth, maps))
    side = max(0.72, 7.0 / (2 + len(rows)))  # inches: a page is about 7 wide
    return workspace.figures(name, lambda path: comparison_figure(lines, path, side, font=7))


def _short(name: str) -> str:
    """The name as a narrow column is headed."""
    name = re.sub(r", oracle( iteration)?$", "\nby the truth", name).replace(", fusion A as released", "\nas released")
    return name.replace(", ", ",\n").replace("untrained ", "untrained\n")


def _explained(request: Request, make: Callable[[Explained], Iterable[Path]], places: Sequence[Workspace]) -> Work:
    found = [Explained(request, place) for place in places]
    return Work([job for one in found for job in one.jobs.values()], lambda: [p for one in found for p in make(one)])


def _decorrelation(request: Request) -> Work:
    places = [one.workspace for one in (Explained(request, place) for place in request.both) if "enhanced" in one.seen]
    return _explained(request, Explained.decorrelation, places)


def _gaussianity(one: Explained) -> Iterable[Path]:
    title = f"Gaussianity and separability of the cubes that detectors see on {one.workspace.title}, {one.bands} bands"
    yield from save(one.workspace, "gaussianity", one.gaussianity(), title, (WHITENED, *one.request.facts))
    yield from one.qq_figures()


def _timing_cells(request: Request) -> Iterator[dict]:
    """Seconds for one scene, every row of Table I in one run on this machine, beside the paper's.

    The first scene, features and detector, without reading. Rows that take less than a second are run again, and the
    fastest counts.
    """
    scene, _ = request.first.scenes[0].load()
    for c in request.bands:
        for row in request.chosen(request.table1, c):
            if not row.oracle:  # it takes as long as the last iteration
                pipeline = request.jobs(request.first, row, c)[0].pipeline(request.device)
                h, left_out = read_h(pipeline.config, scene)
                seconds = _seconds(pipeline, h, left_out)
                column = f"{h.shape[0]} x {h.shape[1]} px, {c} bands (s)"
                as_paper = replace(row, paper=("AE", "original")) if row.name.startswith("AE,") else row
                paper = published(request.first, "Table I", as_paper, "mean", c, "seconds")
                yield {"row": row.name, "column": column, "value": seconds, "paper": paper, "digits": 3}


def _seconds(pipeline: Pipeline, h: np.ndarray, left_out: np.ndarray | None) -> float:
    times: list[float] = []
    while len(times) < TIMED and max(times, default=0) <= 1:
        began = time.perf_counter()
        pipeline.score(h, left_out)
        times.append(time.perf_counter() - began)
    return min(times)


def _timing(request: Request) -> Work:
    where = torch.cuda.get_device_name() if torch.cuda.is_available() and request.device != "cpu" else machine()
    measured_on = f"Measured on {where}; the paper's on an RTX 3090 Ti."
    notes = (measured_on, "AE's time is that of either iteration.", *request.facts)
    steps = _table1(request).steps
    return Work(steps, lambda: save(request.first, "timing", _timing_cells(request), "Seconds per scene", notes))


TARGETS: dict[str, Target] = {
    "table1": Target(("had100",), _table1),
    "table2": Target(("abu",), _table2),
    "table3": Target((), _table3),
    "table4": Target(("had100",), _table4),
    "table5": Target(("had100",), _table5),
    "fig7": Target(("had100",), _figure7),
    "fig8": Target(("abu",), _figure8),
    "fig9": Target(("abu",), lambda request: _explained(request, Explained.figure9, [request.second])),
    "decorrelation": Target((), _decorrelation),
    "gaussianity": Target((), lambda request: _explained(request, _gaussianity, request.both)),
    "timing": Target(("had100",), _timing),
}
