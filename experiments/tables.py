"""Tables I to V of the paper, and one of the field's other measures: their jobs, then their cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments.cells import TIME, Cell
from experiments.jobs import Score
from experiments.measured import Measured, common_scenes, mask_of, measured, metrics, others
from experiments.plan import ENHANCED, LAST, ORACLE, ORIGINAL, RELEASED_RX, TABLE2, UNTRAINED, Plan, Row
from experiments.workspace import Workspace
from fers.evaluation.published import published_rows
from fers.evaluation.statistics import bootstrap_mean, compare_methods, delong, holm

LEVEL = 0.05
FIVE = ("airport-1", "airport-2", "airport-3", "airport-4", "urban-3")  # ABU scenes whose public files are whole


@dataclass(frozen=True)
class Column:
    """A column of a table of means.

    Attributes:
        name: As the table calls it.
        bands: C.
        scenes: The scenes that are averaged; empty for all.
        config: Arguments of ``DetectConfig`` for rows with both branches, instead of the row's.
    """

    name: str
    bands: int
    scenes: tuple[str, ...] = ()
    config: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True)
class Means:
    """A table of means over scenes: I, III, IV, V.

    Attributes:
        name: Such as ``table1``.
        source: As ``published.csv`` calls it.
        workspace: Has the scenes.
        rows, columns: Of the table.
        scores: Other people's score maps, a folder by the method's name.
    """

    name: str
    source: str
    workspace: Workspace
    rows: list[Row]
    columns: list[Column]
    scores: tuple[tuple[str, Path], ...] = ()

    def settings(self, plan: Plan, column: Column) -> list[tuple[Row, list[Score]]]:
        """The rows of a column with their jobs."""
        found = []
        for row in plan.chosen(self.rows, column.bands):
            if row.network == "fused":
                row = replace(row, config={**row.config, **dict(column.config)})
            found.append((row, plan.scores(self.workspace, row, column.bands)))
        return found

    def jobs(self, plan: Plan) -> list[Score]:
        """What must be scored."""
        return [job for column in self.columns for _, jobs in self.settings(plan, column) for job in jobs]

    def measured(self, plan: Plan, column: Column) -> list[tuple[Row, Measured]]:
        """The rows of a column with what was measured, other people's last."""
        found = [(row, measured(jobs)) for row, jobs in self.settings(plan, column)]
        theirs = [(Row(name), others(self.workspace, name, folder, column.bands)) for name, folder in self.scores]
        return found + theirs

    def cells(self, plan: Plan) -> list[Cell]:
        """The table. Bold is what is better than each other row of its column, by Wilcoxon's test with Holm's correction."""
        return [cell for column in self.columns for cell in self._column(plan, column)]

    def _column(self, plan: Plan, column: Column) -> list[Cell]:
        rows = self.measured(plan, column)
        if not rows:
            return []
        among = column.scenes or [scene.name for scene in self.workspace.scenes]
        names = common_scenes({row.name: found for row, found in rows}, among)
        best = winner({row.name: found.by_scene(names) for row, found in rows if not row.oracle})
        return [self._cell(column, names, row, found, row.name == best) for row, found in rows]

    def _cell(self, column: Column, names: Sequence[str], row: Row, found: Measured, best: bool) -> Cell:
        seeds = found.by_seed(names)
        interval = bootstrap_mean(found.by_scene(names), names)
        return Cell(
            self.name,
            self.workspace.title,
            row.name,
            column.name,
            interval.mean,
            spread_of(seeds),
            interval.low,
            interval.high,
            len(seeds),
            len(names),
            None if found.cut & set(names) else self._paper(row, column, names),
            found.seconds,
            self._paper_seconds(row, column),
            best,
            found.mark(row.mark),
        )

    def _paper(self, row: Row, column: Column, names: Sequence[str]) -> float | None:
        if self.workspace.synthetic:  # the paper has no number for such scenes
            return None
        if self.workspace.benchmark == "HAD100":
            return published(self.source, row, "HAD100", "mean", column.bands, "mAUC")
        values = [published("Table II", row, "ABU", name, column.bands, "AUC") for name in names]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known and len(known) == len(names) else None

    def _paper_seconds(self, row: Row, column: Column) -> float | None:
        if self.workspace.synthetic:
            return None
        dataset = "HAD100" if self.workspace.benchmark == "HAD100" else "ABU"
        return published(self.source, row, dataset, "mean", column.bands, "seconds")


def winner(results: Mapping[str, np.ndarray], level: float = LEVEL) -> str:
    """The row with the highest mean, if each other row differs from it by Wilcoxon's test with Holm's correction."""
    if len(results) < 2:
        return ""
    best = max(results, key=lambda name: float(results[name].mean()))
    compared = compare_methods(results, best)
    return best if all(pair.p_holm < level for pair in compared) else ""


def spread_of(values: np.ndarray) -> float | None:
    """The standard deviation over seeds, if there are several."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def published(source: str, row: Row, dataset: str, scene: str, bands: int, metric: str) -> float | None:
    """A number of the paper's; None where it has none."""
    method, features = row.paper
    wanted = {"method": method, "features": features, "dataset": dataset, "scene": scene, "metric": metric}
    wanted |= {"source": source, "bands": str(bands), "losses": row.paper_losses}
    return next((float(r["value"]) for r in published_rows() if all(r[k] == v for k, v in wanted.items())), None)


def metric_cells(table: Means, plan: Plan, column: Column) -> list[Cell]:
    """The field's other measures for the rows of one column, means over scenes of the first seed's maps."""
    rows = table.measured(plan, column)
    if not rows:
        return []
    names = common_scenes({row.name: found for row, found in rows}, [s.name for s in table.workspace.scenes])
    return [
        Cell("metrics", table.workspace.title, row.name, name, value, scenes=len(names), mark=found.mark(row.mark))
        for row, found in rows
        for name, value in metrics(table.workspace, found, names).items()
    ]


@dataclass(frozen=True)
class Scenes:
    """Table II: scene by scene, each detector on the original and on the enhanced cube.

    Attributes:
        workspace: Has the scenes.
        bands: C.
    """

    workspace: Workspace
    bands: int = 200
    name: str = "table2"

    def settings(self, plan: Plan) -> list[tuple[str, str, Row, list[Score]]]:
        """Detector, what it sees, row, jobs."""
        found = []
        for detector, (config, comparable) in TABLE2.items():
            if plan.rows and not any(detector.lower().startswith(name.lower()) for name in plan.rows):
                continue
            mark = ORACLE if "oracle" in detector else LAST if not comparable else ""
            name = str(config["detect"]) if comparable else ""
            before = Row(detector, {**config, **ORIGINAL}, "", (name, "original"), mark)
            after = Row(detector, {**config, **ENHANCED}, "fused", (name, "fused-B"), mark)
            found += [
                (detector, view, row, plan.scores(self.workspace, row, self.bands))
                for view, row in (("original", before), ("enhanced", after))
            ]
        if not plan.rows or any(name.lower() in UNTRAINED.name for name in plan.rows):
            found.append(("RX", UNTRAINED.name, UNTRAINED, plan.scores(self.workspace, UNTRAINED, self.bands)))
        return found

    def jobs(self, plan: Plan) -> list[Score]:
        """What must be scored."""
        return [job for *_, jobs in self.settings(plan) for job in jobs]

    def cells(self, plan: Plan) -> list[Cell]:
        """The table. Bold is what is better than its pair on that scene, by DeLong's test with Holm's correction."""
        rows = [(detector, view, row, measured(jobs)) for detector, view, row, jobs in self.settings(plan)]
        names = common_scenes({f"{d} {v}": m for d, v, _, m in rows}, [s.name for s in self.workspace.scenes])
        better = self._better(rows, names)
        cut = frozenset().union(*(found.cut for *_, found in rows))
        groups = {f"{name} (a cut of the paper's)" if name in cut else name: [name] for name in names}
        groups[f"mean of {len(names)}"] = names
        if whole := [name for name in names if name not in cut] if cut else []:
            groups[f"mean of the {len(whole)} whole ones"] = whole
        cells = []
        for detector, view, row, found in rows:
            column = f"{detector}: {view}"
            for title, among in groups.items():
                best = len(among) == 1 and (detector, view, among[0]) in better
                cells.append(self._cell(title, column, row, found, among, best))
            paper = published("Table II", row, self.workspace.title, "mean", self.bands, "seconds")
            seconds = found.seconds or 0.0
            time = Cell(
                self.name, self.workspace.title, TIME, column, seconds, paper=paper,
                mark=found.mark(row.mark), digits=2,
            )  # fmt: skip
            cells.append(time)
        return cells

    def _cell(self, title: str, column: str, row: Row, found: Measured, among: Sequence[str], best: bool) -> Cell:
        values = found.by_seed(among)
        # the paper has no number for synthetic scenes, and none for a part of a scene
        papers = [published("Table II", row, self.workspace.title, name, self.bands, "AUC") for name in among]
        known = [value for value in papers if value is not None]
        paper = float(np.mean(known)) if len(known) == len(among) and not found.cut & set(among) else None
        return Cell(
            self.name, self.workspace.title, title, column, float(values.mean()), spread_of(values), seeds=len(values),
            scenes=len(among), paper=paper, best=best, mark=found.mark(row.mark),
        )  # fmt: skip

    def _better(
        self, rows: Iterable[tuple[str, str, Row, Measured]], names: Sequence[str]
    ) -> set[tuple[str, str, str]]:
        by_place = {(detector, view): found for detector, view, _, found in rows}
        tests = []
        for detector in dict.fromkeys(detector for detector, _ in by_place):
            if "oracle" in detector:
                continue
            for scene in names:
                mask = mask_of(self.workspace, scene)
                if min(int(mask.sum()), int((~mask).sum())) < 2:
                    continue
                before, after = (by_place[detector, view].score(scene) for view in ("original", "enhanced"))
                tests.append((detector, scene, delong(after, before, mask)))
        adjusted = list(holm([test.p for *_, test in tests])) if tests else []
        return {
            (detector, "enhanced" if test.z > 0 else "original", scene)
            for (detector, scene, test), p in zip(tests, adjusted, strict=True)
            if p < LEVEL
        }


def band_columns(bands: Iterable[int]) -> list[Column]:
    """A column for each number of bands."""
    return [Column(f"{c} bands", c) for c in bands]


def fusion_columns(bands: int) -> list[Column]:
    """Fusion A of Table V by the equations and as released."""
    return [
        Column(f"{bands} bands, fusion A, equations", bands),
        Column(f"{bands} bands, fusion A, as released", bands, config=tuple(RELEASED_RX.items())),
    ]


def abu_columns(names: Sequence[str], bands: int = 200) -> list[Column]:
    """Means over the five scenes whose files are whole, where all are there, and over all."""
    five = [Column(f"{bands} bands, mean of five", bands, FIVE)] if set(FIVE) <= set(names) else []
    return [*five, Column(f"{bands} bands, mean of {len(names)}", bands)]
