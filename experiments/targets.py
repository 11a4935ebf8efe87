"""What ``reproduce.py`` can be asked for: each target's jobs, and what it makes of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from experiments.cells import Cell
from experiments.explain import Explained, timing_cells
from experiments.jobs import Job
from experiments.measured import common_scenes, measured
from experiments.output import save
from experiments.plan import TABLE1, TABLE3, TABLE4, TABLE5, Plan, Row
from experiments.runner import machine
from experiments.tables import (
    Column,
    Means,
    Scenes,
    abu_columns,
    band_columns,
    fusion_columns,
    metric_cells,
)
from experiments.workspace import Workspace
from fers.evaluation.figures import SceneMaps, comparison_figure, critical_difference_figure
from fers.evaluation.statistics import rank_methods
from fers.util.errors import FersError

POSITIONS = (58, 76, 87, 90)  # of Fig. 7, 1-based in the sorted list of scenes
BOLD = "Bold: better than every other row of its column (Wilcoxon's signed-rank test over scenes with Holm's correction, p < 0.05)."
BOLD_PAIR = "Bold: better than its pair on that scene (DeLong's test of the first seed's maps with Holm's correction, p < 0.05)."
INTERVAL = "In brackets: 95 % bootstrap interval of the mean over scenes. ±: standard deviation over seeds."
ABU_BANDS = 200


@dataclass(frozen=True)
class Request:
    """Everything that a target is made from.

    Attributes:
        plan: Which rows, weights and seeds.
        had100, abu: The test sets; None where there is none.
        bands: Columns of Tables I and III.
        positions: Scenes of Fig. 7, 1-based.
        scores: Other people's score maps, a folder by the method's name.
        own: Rows of detectors of the user's.
        device: As ``--device``.
        facts: Sentences for every table: seeds, epochs, frozen layers.
    """

    plan: Plan
    had100: Workspace | None = None
    abu: Workspace | None = None
    bands: tuple[int, ...] = (50, 100, 200)
    positions: tuple[int, ...] = POSITIONS
    scores: tuple[tuple[str, Path], ...] = ()
    own: tuple[Row, ...] = ()
    device: str = "auto"
    facts: tuple[str, ...] = ()

    @property
    def first(self) -> Workspace:
        """HAD100.

        Raises:
            FersError: It is not there.
        """
        if self.had100 is None:
            raise FersError("--data: no HAD100 here. Give its folder, or make one up: python -m data.synthetic FOLDER")
        return self.had100

    @property
    def second(self) -> Workspace:
        """ABU, or what stands for it.

        Raises:
            FersError: It is not there.
        """
        if self.abu is None:
            raise FersError("--abu: no ABU scenes here. Give their folder; to get them: python -m data.download abu")
        return self.abu

    @property
    def both(self) -> list[Workspace]:
        """The test sets that are there.

        Raises:
            FersError: None is.
        """
        found = [workspace for workspace in (self.had100, self.abu) if workspace is not None]
        return found or [self.first]


@dataclass(frozen=True)
class Target:
    """Something to ask for.

    Attributes:
        needs: The test sets without which it is left out of ``all``: attributes of ``Request``.
        jobs: What must be done for it.
        make: What is made of that; returns the files.
    """

    needs: tuple[str, ...]
    jobs: Callable[[Request], Sequence[Job]]
    make: Callable[[Request], list[Path]]


def _save(
    request: Request, workspace: Workspace, name: str, cells: Sequence[Cell], title: str, notes: Sequence[str]
) -> list[Path]:
    return save(workspace, name, cells, title, [*notes, *request.facts])


def _table1(request: Request) -> Means:
    return Means(
        "table1", "Table I", request.first, [*TABLE1, *request.own], band_columns(request.bands), request.scores
    )


def _table3(request: Request, workspace: Workspace) -> Means:
    if workspace.benchmark == "HAD100":
        columns = band_columns(request.bands)
    else:
        columns = abu_columns([scene.name for scene in workspace.scenes])
    return Means("table3", "Table III", workspace, TABLE3, columns)


def _table4(request: Request) -> tuple[Means, Plan]:
    """Its Stage 1 is always trained here: an ablation has no released weights."""
    columns = band_columns(request.bands[:1])
    return Means("table4", "Table IV", request.first, TABLE4, columns), replace(request.plan, weights="own")


def _table5(request: Request) -> Means:
    return Means("table5", "Table V", request.first, TABLE5, fusion_columns(request.bands[0]))


def _make_table1(request: Request) -> list[Path]:
    table, workspace = _table1(request), request.first
    paths = _save(
        request, workspace, "table1", table.cells(request.plan), f"Methods on {workspace.title}", (BOLD, INTERVAL)
    )
    first = table.columns[0]
    measures = metric_cells(table, request.plan, first)
    note = "Means over scenes of the first seed's maps. For AUC(F,tau) lower is better, for the others higher."
    paths += _save(request, workspace, "metrics", measures, f"Further measures, {first.name}", (note,))
    for column in table.columns:
        rows = [(row, found) for row, found in table.measured(request.plan, column) if not row.oracle]
        names = common_scenes({row.name: found for row, found in rows}, [s.name for s in workspace.scenes])
        if len(rows) > 2 and len(names) > 1:
            ranks = rank_methods({_short(row.name).replace("\n", " "): found.by_scene(names) for row, found in rows})
            stem = workspace.folder / "figures" / f"ranks_{column.bands}"
            paths += [critical_difference_figure(ranks, stem.with_suffix(suffix)) for suffix in (".png", ".pdf")]
    return paths


def _make_table3(request: Request) -> list[Path]:
    paths = []
    for workspace in request.both:
        found = _table3(request, workspace).cells(request.plan)
        paths += _save(
            request, workspace, "table3", found, f"Branches and fusions on {workspace.title}", (BOLD, INTERVAL)
        )
    return paths


def _make_table2(request: Request) -> list[Path]:
    found = Scenes(request.second, ABU_BANDS).cells(request.plan)
    title = f"Original and enhanced scene by scene on {request.second.title}"
    return _save(request, request.second, "table2", found, title, (BOLD_PAIR,))


def _make_table4(request: Request) -> list[Path]:
    table, plan = _table4(request)
    return _save(request, request.first, "table4", table.cells(plan), "Losses of Stage 1", (BOLD, INTERVAL))


def _make_table5(request: Request) -> list[Path]:
    found = _table5(request).cells(request.plan)
    return _save(request, request.first, "table5", found, "Losses of Stage 2", (BOLD, INTERVAL))


def _make_figure7(request: Request) -> list[Path]:
    workspace, bands = request.first, request.bands[0]
    column = Column("", bands)
    table = replace(_table1(request), columns=[column])
    rows = [(row, found) for row, found in table.measured(request.plan, column) if not row.oracle]
    scenes = workspace.scenes
    positions = request.positions
    if max(positions) > len(scenes):  # a smaller test set: as many, spread over it
        positions = tuple(int(p) for p in np.linspace(1, len(scenes), min(len(positions), len(scenes))).round())
        print(
            f"fig7: {workspace.title} has {len(scenes)} scenes only; drawn are those at {', '.join(map(str, positions))}."
        )
    lines = []
    for position in positions:
        scene, mask = scenes[position - 1].load()
        maps = {_short(row.name): found.score(scene.name) for row, found in rows}
        lines.append(SceneMaps(replace(scene, name=f"scene {position}"), mask, maps))
    return _maps(lines, workspace.folder / "figures" / "fig7")


def _make_figure8(request: Request) -> list[Path]:
    workspace = request.second
    rows = [
        r
        for r in Scenes(workspace, ABU_BANDS).settings(request.plan)
        if "oracle" not in r[0] and r[1] != "untrained control"
    ]
    lines = []
    for labelled in workspace.scenes:
        scene, mask = labelled.load()
        maps = {f"{_short(detector)}\n{view}": measured(jobs).score(scene.name) for detector, view, _, jobs in rows}
        lines.append(SceneMaps(scene, mask, maps))
    return _maps(lines, workspace.folder / "figures" / "fig8")


def _maps(lines: list[SceneMaps], stem: Path) -> list[Path]:
    columns = 2 + len(lines[0].scores)
    side = max(0.72, 7.0 / columns)  # inches: a page is about 7 wide
    return [comparison_figure(lines, stem.with_suffix(suffix), side, font=7) for suffix in (".png", ".pdf")]


def _short(name: str) -> str:
    """As a narrow column is headed."""
    name = re.sub(r", (last iteration|last)$", "", name)
    return (
        name.replace(", fusion A as released", "\nas released")
        .replace(", ", ",\n")
        .replace("untrained ", "untrained\n")
    )


def _explained(request: Request) -> list[Explained]:
    return [
        Explained(workspace, request.bands[0] if workspace.benchmark == "HAD100" else ABU_BANDS)
        for workspace in request.both
    ]


def _make_gaussianity(request: Request) -> list[Path]:
    paths = []
    for one in _explained(request):
        note = "Of the background without the anomalies, in its whitened coordinates; skewness and kurtosis are Mardia's, over what a Gaussian has."
        found = one.gaussianity(request.plan, request.device)
        title = f"Gaussianity and separability before and after enhancement on {one.workspace.title}, {one.bands} bands"
        paths += _save(request, one.workspace, "gaussianity", found, title, (note,))
        paths += one.qq_figures(request.plan, request.device, one.workspace.folder / "figures")
    return paths


def _make_decorrelation(request: Request) -> list[Path]:
    folders = [(one, one.workspace.folder / "figures") for one in _explained(request)]
    return [path for one, folder in folders for path in one.decorrelation(request.plan, request.device, folder)]


def _make_figure9(request: Request) -> list[Path]:
    one = Explained(request.second, ABU_BANDS)
    return one.figure9(request.plan, request.device, request.second.folder / "figures")


def _make_timing(request: Request) -> list[Path]:
    found = timing_cells(request.first, request.plan, request.bands, request.device)
    where = torch.cuda.get_device_name() if torch.cuda.is_available() and request.device != "cpu" else machine()
    notes = (f"Measured on {where}; the paper's on an RTX 3090 Ti.", "AE's time is that of either iteration.")
    return _save(request, request.first, "timing", found, "Seconds per scene", notes)


def _explained_jobs(request: Request) -> list[Job]:
    return [job for one in _explained(request) for job in one.jobs(request.plan)]


TARGETS: dict[str, Target] = {
    "table1": Target(("had100",), lambda r: _table1(r).jobs(r.plan), _make_table1),
    "table2": Target(("abu",), lambda r: Scenes(r.second, ABU_BANDS).jobs(r.plan), _make_table2),
    "table3": Target((), lambda r: [j for w in r.both for j in _table3(r, w).jobs(r.plan)], _make_table3),
    "table4": Target(("had100",), lambda r: _table4(r)[0].jobs(_table4(r)[1]), _make_table4),
    "table5": Target(("had100",), lambda r: _table5(r).jobs(r.plan), _make_table5),
    "fig7": Target(
        ("had100",),
        lambda r: replace(_table1(r), columns=band_columns(r.bands[:1])).jobs(r.plan),
        _make_figure7,
    ),
    "fig8": Target(("abu",), lambda r: Scenes(r.second, ABU_BANDS).jobs(r.plan), _make_figure8),
    "fig9": Target(
        ("abu",),
        lambda r: Explained(r.second, ABU_BANDS).jobs(r.plan),
        _make_figure9,
    ),
    "decorrelation": Target((), _explained_jobs, _make_decorrelation),
    "gaussianity": Target((), _explained_jobs, _make_gaussianity),
    "timing": Target(("had100",), lambda r: _table1(r).jobs(r.plan), _make_timing),
}
