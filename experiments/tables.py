"""Tables I to V of the paper, and one of the field's other measures: their jobs, then their cells."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from experiments.cells import TIME
from experiments.jobs import Score
from experiments.measured import Measured, Rows, common_scenes, measured, others
from experiments.rows import ENHANCED, LAST, ORACLE, ORIGINAL, RELEASED_RX, TABLE2, UNTRAINED, Request, TableRow
from experiments.workspace import Workspace
from fers.evaluation.metrics import measures
from fers.evaluation.published import published_numbers
from fers.evaluation.statistics import bootstrap_mean, compare_methods, delong, holm

LEVEL = 0.05
FIVE = ("airport-1", "airport-2", "airport-3", "airport-4", "urban-3")  # ABU scenes whose public files are whole
ABU_BANDS = 200


@dataclass(frozen=True)
class Column:
    """A column of a table of means."""

    name: str  # as the table calls it
    bands: int
    scenes: tuple[str, ...] = ()  # that are averaged; empty for all
    config: tuple[tuple[str, object], ...] = ()  # arguments of DetectConfig for rows with both branches


@dataclass(frozen=True)
class Means:
    """A table of means over scenes: I, III, IV, V."""

    request: Request
    source: str  # as published.csv calls it
    workspace: Workspace
    rows: list[TableRow]
    columns: list[Column]

    def settings(self, column: Column) -> list[tuple[TableRow, list[Score]]]:
        """The rows of a column with their jobs."""
        rows = self.request.chosen(self.rows, column.bands)
        rows = [replace(r, config={**r.config, **dict(column.config)}) if r.network == "fused" else r for r in rows]
        return [(row, self.request.jobs(self.workspace, row, column.bands)) for row in rows]

    @property
    def jobs(self) -> list[Score]:
        """What must be scored."""
        return [job for column in self.columns for _, jobs in self.settings(column) for job in jobs]

    def measured(self, column: Column) -> Rows:
        """The rows of a column with what was measured; other people's come last, in Table I."""
        rows = [(row, measured(jobs)) for row, jobs in self.settings(column)]
        scores = self.request.scores if self.source == "Table I" else ()
        return rows + [(TableRow(name), others(self.workspace, name, path, column.bands)) for name, path in scores]

    def cells(self) -> Iterator[dict]:
        """The table. Bold is better than each other row of its column, by Wilcoxon's test with Holm's correction."""
        for column in self.columns:
            rows = self.measured(column)
            names = common_scenes(rows, column.scenes or self.workspace.truths)
            best = winner({row.name: found.table(names).mean(0) for row, found in rows if not row.oracle})
            for row, found in rows:
                table = found.table(names)
                interval = bootstrap_mean(table.mean(0), names)
                yield {
                    **{"row": row.name, "column": column.name, "value": interval.mean},
                    **{"spread": spread_of(table.mean(1)), "low": interval.low, "high": interval.high},
                    **{"seeds": len(table), "scenes": len(names), "seconds": found.seconds},
                    "paper": None if found.cut & set(names) else self._paper(row, column, names),
                    "paper_seconds": published(self.workspace, self.source, row, "mean", column.bands, "seconds"),
                    **{"best": row.name == best, "mark": found.mark(row.mark)},
                }

    def _paper(self, row: TableRow, column: Column, names: Sequence[str]) -> float | None:
        if self.workspace.benchmark == "HAD100":
            return published(self.workspace, self.source, row, "mean", column.bands, "mAUC")
        return published_mean(self.workspace, row, names, column.bands)

    def metric_cells(self, column: Column) -> Iterator[dict]:
        """The field's other measures for the rows of one column, means over scenes of the first seed's maps."""
        rows = self.measured(column)
        names = common_scenes(rows, self.workspace.truths)
        for row, found in rows:
            of_scenes = [measures(found.score(name), self.workspace.truths[name]) for name in names]
            for measure in of_scenes[0]:
                value = float(np.mean([one[measure] for one in of_scenes]))
                cell = {"row": row.name, "column": measure, "value": value}
                yield {**cell, "scenes": len(names), "mark": found.mark(row.mark)}


def winner(results: Mapping[str, np.ndarray], level: float = LEVEL) -> str:
    """The row with the highest mean, if each other row differs from it by Wilcoxon's test with Holm's correction."""
    if len(results) < 2:
        return ""
    best = max(results, key=lambda name: float(results[name].mean()))
    return best if all(pair.p_holm < level for pair in compare_methods(results, best)) else ""


def spread_of(values: np.ndarray) -> float | None:
    """The standard deviation over seeds, if there are several."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def published(workspace: Workspace, source: str, row: TableRow, scene: str, bands: int, metric: str) -> float | None:
    """A number of the paper's; None where it has none, as for synthetic scenes."""
    wanted = {"source": source, "dataset": workspace.title, "losses": row.paper_losses}  # no synthetic one is published
    return published_numbers((metric,), *row.paper, bands, **wanted).get(scene)


def published_mean(workspace: Workspace, row: TableRow, names: Sequence[str], bands: int) -> float | None:
    """The mean of the paper's numbers for ABU scenes; None where it lacks one of them."""
    known = [published(workspace, "Table II", row, name, bands, "AUC") for name in names]
    return None if None in known else float(np.mean(np.array(known, dtype=float)))


@dataclass(frozen=True)
class Scenes:
    """Table II: scene by scene, each detector on the original and on the enhanced cube."""

    request: Request

    @property
    def workspace(self) -> Workspace:
        """ABU, or what stands for it."""
        return self.request.second

    def settings(self) -> list[tuple[str, str, TableRow, list[Score]]]:
        """Detector, what it sees, row, jobs."""
        rows: list[tuple[str, str, TableRow]] = []
        for detector, (config, comparable) in TABLE2.items():
            if self.request.wants(detector):
                mark = ORACLE if "oracle" in detector else LAST if not comparable else ""
                name = str(config["detect"]) if comparable else ""
                before = TableRow(detector, {**config, **ORIGINAL}, "", (name, "original"), mark)
                after = TableRow(detector, {**config, **ENHANCED}, "fused", (name, "fused-B"), mark)
                rows += [(detector, "original", before), (detector, "enhanced", after)]
        if self.request.wants(UNTRAINED.name):
            rows.append(("RX", UNTRAINED.name, UNTRAINED))
        return [(*line, self.request.jobs(self.workspace, line[2], ABU_BANDS)) for line in rows]

    @property
    def jobs(self) -> list[Score]:
        """What must be scored."""
        return [job for *_, jobs in self.settings() for job in jobs]

    def cells(self) -> Iterator[dict]:
        """The table. Bold is better than its pair on that scene, by DeLong's test with Holm's correction."""
        rows = [(detector, seen, row, measured(jobs)) for detector, seen, row, jobs in self.settings()]
        names = common_scenes([(row, found) for *_, row, found in rows], self.workspace.truths)
        better = self._better({(detector, seen): found for detector, seen, _, found in rows}, names)
        cut = frozenset().union(*(found.cut for *_, found in rows))
        groups = {f"{name} (a cut of the paper's)" if name in cut else name: [name] for name in names}
        groups[f"mean of {len(names)}"] = names
        if whole := [name for name in names if name not in cut] if cut else []:
            groups[f"mean of the {len(whole)} whole ones"] = whole
        for detector, seen, row, found in rows:
            place = {"column": f"{detector}: {seen}", "mark": found.mark(row.mark)}
            for title, among in groups.items():
                values = found.table(among).mean(1)
                paper = None if found.cut & set(among) else published_mean(self.workspace, row, among, ABU_BANDS)
                best = len(among) == 1 and (detector, seen, among[0]) in better
                numbers = {"value": float(values.mean()), "spread": spread_of(values), "paper": paper, "best": best}
                yield {**place, **numbers, "row": title, "seeds": len(values), "scenes": len(among)}
            paper = published(self.workspace, "Table II", row, "mean", ABU_BANDS, "seconds")
            yield {**place, "row": TIME, "value": found.seconds or 0.0, "paper": paper, "digits": 2}

    def _better(self, rows: Mapping[tuple[str, str], Measured], names: Sequence[str]) -> set[tuple[str, str, str]]:
        tests = []
        for detector in [detector for detector, seen in rows if seen == "enhanced" and "oracle" not in detector]:
            for scene in names:
                truth = self.workspace.truths[scene]
                if min(int(truth.sum()), int((~truth).sum())) >= 2:
                    before, after = (rows[detector, seen].score(scene) for seen in ("original", "enhanced"))
                    tests.append((detector, scene, delong(after, before, truth)))
        adjusted = holm([test.p for *_, test in tests])
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


def abu_columns(names: Collection[str]) -> list[Column]:
    """Means over the five scenes whose files are whole, where all are there, and over all."""
    five = [Column(f"{ABU_BANDS} bands, mean of five", ABU_BANDS, FIVE)] if set(FIVE) <= set(names) else []
    return [*five, Column(f"{ABU_BANDS} bands, mean of {len(names)}", ABU_BANDS)]
