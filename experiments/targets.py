"""What ``reproduce.py`` can be asked for: each target's jobs, and what it makes of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from experiments.cells import save
from experiments.explain import Explained, timing_cells
from experiments.jobs import Step, machine
from experiments.measured import common_scenes, measured
from experiments.rows import TABLE3, TABLE4, TABLE5, UNTRAINED, Request
from experiments.tables import ABU_BANDS, Column, Means, Scenes, abu_columns, band_columns, fusion_columns
from experiments.workspace import Workspace
from fers.evaluation.figures import SceneMaps, comparison_figure, critical_difference_figure
from fers.evaluation.statistics import rank_methods

BOLD = "Bold: better than every other row of its column (Wilcoxon's signed-rank test over scenes with Holm's correction, p < 0.05)."
BOLD_PAIR = "Bold: better than its pair on that scene (DeLong's test of the first seed's maps with Holm's correction, p < 0.05)."
INTERVAL = "In brackets: 95 % bootstrap interval of the mean over scenes. ±: standard deviation over seeds."


@dataclass(frozen=True)
class Wanted:
    """Something to ask for."""

    needs: tuple[str, ...]  # test sets without which it is left out of ``all``: attributes of Request
    jobs: Callable[[Request], Sequence[Step]]  # what must be done for it
    make: Callable[[Request], list[Path]]  # makes it of that; returns the files


def _means(name: str, request: Request, workspace: Workspace | None = None) -> Means:
    if name == "table3":
        place = workspace or request.first
        hundred = place.benchmark == "HAD100"
        columns = band_columns(request.bands) if hundred else abu_columns(place.truths)
        return Means("Table III", place, TABLE3, columns)
    first = request.bands[0]
    source, rows, columns = {
        "table1": ("Table I", request.table1, band_columns(request.bands)),
        "fig7": ("Table I", request.table1, [Column("", first)]),
        "table4": ("Table IV", TABLE4, band_columns([first])),
        "table5": ("Table V", TABLE5, fusion_columns(first)),
    }[name]
    return Means(source, request.first, rows, columns)


def _asked(name: str, request: Request) -> Request:
    """The request as a table takes it: Table IV's Stage 1 is trained here, as an ablation has no released weights."""
    return replace(request, weights="own") if name == "table4" else request


def _means_jobs(name: str, request: Request) -> list[Step]:
    places = request.both if name == "table3" else [request.first]
    return [job for place in places for job in _means(name, request, place).jobs(_asked(name, request))]


def _make_means(name: str, title: str, request: Request) -> list[Path]:
    paths = []
    for place in request.both if name == "table3" else [request.first]:
        cells = _means(name, request, place).cells(_asked(name, request))
        paths += save(place, name, cells, title.format(place.title), (BOLD, INTERVAL, *request.facts))
    return paths


def _make_table1(request: Request) -> list[Path]:
    table, workspace = _means("table1", request), request.first
    paths = _make_means("table1", "Methods on {}", request)
    first = table.columns[0]
    note = "Means over scenes of the first seed's maps. For AUC(F,tau) lower is better, for the others higher."
    cells = table.metric_cells(request, first)
    paths += save(workspace, "metrics", cells, f"Further measures, {first.name}", (note, *request.facts))
    for column in table.columns:
        rows = [(row, found) for row, found in table.measured(request, column) if not row.oracle]
        names = common_scenes([found for _, found in rows], workspace.truths)
        if len(rows) > 2 and len(names) > 1:
            aucs = {_short(row.name).replace("\n", " "): found.table(names).mean(0) for row, found in rows}
            stem = workspace.folder / "figures" / f"ranks_{column.bands}"
            paths += _both(partial(critical_difference_figure, rank_methods(aucs)), stem)
    return paths


def _make_table2(request: Request) -> list[Path]:
    cells = Scenes(request.second).cells(request)
    title = f"Original and enhanced scene by scene on {request.second.title}"
    return save(request.second, "table2", cells, title, (BOLD_PAIR, *request.facts))


def _make_figure7(request: Request) -> list[Path]:
    workspace = request.first
    table = _means("fig7", request)
    rows = [(row, found) for row, found in table.measured(request, table.columns[0]) if not row.oracle]
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
    return _maps(lines, workspace.folder / "figures" / "fig7")


def _make_figure8(request: Request) -> list[Path]:
    rows = [
        (f"{_short(detector)}\n{seen}", measured(jobs))
        for detector, seen, row, jobs in Scenes(request.second).settings(request)
        if not row.oracle and row is not UNTRAINED
    ]
    lines = []
    for labelled in request.second.scenes:
        scene, truth = labelled.load()
        lines.append(SceneMaps(scene, truth, {title: found.score(scene.name) for title, found in rows}))
    return _maps(lines, request.second.folder / "figures" / "fig8")


def _maps(lines: list[SceneMaps], stem: Path) -> list[Path]:
    side = max(0.72, 7.0 / (2 + len(lines[0].scores)))  # inches: a page is about 7 wide
    return _both(lambda path: comparison_figure(lines, path, side, font=7), stem)


def _both(draw: Callable[[Path], Path], stem: Path) -> list[Path]:
    return [draw(stem.with_suffix(suffix)) for suffix in (".png", ".pdf")]


def _short(name: str) -> str:
    """The name as a narrow column is headed."""
    name = re.sub(r", (last iteration|last)$", "", name).replace(", fusion A as released", "\nas released")
    return name.replace(", ", ",\n").replace("untrained ", "untrained\n")


def _explained(request: Request) -> list[Explained]:
    return [
        Explained(workspace, request.bands[0] if workspace.benchmark == "HAD100" else ABU_BANDS, request)
        for workspace in request.both
    ]


def _explained_jobs(request: Request) -> list[Step]:
    return [job for one in _explained(request) for job in one.jobs.values()]


def _make_gaussianity(request: Request) -> list[Path]:
    note = (
        "Of the background without the anomalies, in its whitened coordinates; skewness and kurtosis are Mardia's, over "
        "what a Gaussian has."
    )
    paths = []
    for one in _explained(request):
        title = f"Gaussianity and separability before and after enhancement on {one.workspace.title}, {one.bands} bands"
        paths += save(one.workspace, "gaussianity", one.gaussianity(), title, (note, *request.facts))
        paths += one.qq_figures()
    return paths


def _make_timing(request: Request) -> list[Path]:
    where = torch.cuda.get_device_name() if torch.cuda.is_available() and request.device != "cpu" else machine()
    notes = (f"Measured on {where}; the paper's on an RTX 3090 Ti.", "AE's time is that of either iteration.")
    return save(request.first, "timing", timing_cells(request), "Seconds per scene", (*notes, *request.facts))


def _figure9(request: Request) -> Explained:
    return Explained(request.second, ABU_BANDS, request)


def _table(name: str, title: str, needs: tuple[str, ...] = ("had100",)) -> Wanted:
    return Wanted(needs, partial(_means_jobs, name), partial(_make_means, name, title))


TARGETS: dict[str, Wanted] = {
    "table1": Wanted(("had100",), partial(_means_jobs, "table1"), _make_table1),
    "table2": Wanted(("abu",), lambda r: Scenes(r.second).jobs(r), _make_table2),
    "table3": _table("table3", "Branches and fusions on {}", ()),
    "table4": _table("table4", "Losses of Stage 1"),
    "table5": _table("table5", "Losses of Stage 2"),
    "fig7": Wanted(("had100",), partial(_means_jobs, "fig7"), _make_figure7),
    "fig8": Wanted(("abu",), lambda r: Scenes(r.second).jobs(r), _make_figure8),
    "fig9": Wanted(("abu",), lambda r: list(_figure9(r).jobs.values()), lambda r: _figure9(r).figure9()),
    "decorrelation": Wanted(
        (), _explained_jobs, lambda r: [path for one in _explained(r) for path in one.decorrelation()]
    ),
    "gaussianity": Wanted((), _explained_jobs, _make_gaussianity),
    "timing": Wanted(("had100",), partial(_means_jobs, "table1"), _make_timing),
}
