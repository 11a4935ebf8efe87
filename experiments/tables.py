"""Tables I to V of the paper, and one of the field's other measures: their jobs, what these gave, and the cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.io import loadmat

from experiments.jobs import Score
from experiments.rows import TABLE2, Request, TableRow, beside_paper, table2_row
from experiments.workspace import Workspace
from fers.evaluation.metrics import MEASURES, SCENE_MEASURES, measures, scene_measures
from fers.evaluation.published import published_numbers
from fers.evaluation.statistics import compare_methods, delong, holm, mean_interval
from fers.util.errors import FersError

LEVEL = 0.05
FIVE = ("airport-1", "airport-2", "airport-3", "airport-4", "urban-3")  # ABU scenes whose public files are whole
ABU_BANDS = 200
BESIDE = {"ap": "ap", "pd_1e3": "pd@1e-3", "pd_1e2": "pd@1e-2"}  # fields of a cell: means of measures beside the AUC


@dataclass(frozen=True)
class Measured:
    """A row in one column: the measures of every scene, seed by seed."""

    values: pd.DataFrame  # columns (measure, scene) of the scenes that have both classes, a line for each seed
    maps: Path  # folder of the first seed's score maps
    seconds: float | None = None  # mean time per scene; None where it is not known
    caveats: tuple[str, ...] = ()  # what the runs say of themselves
    cut: frozenset[str] = frozenset()  # scenes that are only a part of the paper's

    def mark(self, of_row: str) -> str:
        """Join what a reader must know: the row's remark, and what the runs say beyond it."""
        known = ("--select oracle", "RX as inside") if of_row else ()
        return " ".join([of_row, *(text for text in self.caveats if not any(part in text for part in known))]).strip()

    @property
    def aucs(self) -> pd.DataFrame:
        """The AUCs: a column for each scene, a line for each seed."""
        return self.values["auc"]

    def beside(self, names: Sequence[str]) -> dict[str, float]:
        """The means over scenes and seeds of what stands beside the AUC, as fields of a cell."""
        return {field: float(self.values[key][list(names)].to_numpy().mean()) for field, key in BESIDE.items()}

    def table(self, names: Sequence[str]) -> np.ndarray:
        """AUCs ``(seeds, scenes)``."""
        return self.aucs[list(names)].to_numpy()

    def score(self, name: str) -> np.ndarray:
        """The first seed's score map of a scene, ``(H, W)``."""
        return load_map(self.maps, name)


Rows = Sequence[tuple[TableRow, Measured]]


def measured(jobs: Sequence[Score]) -> Measured:
    """Read what the seeds of a row gave."""
    results = [job.results() for job in jobs]
    seconds = float(np.mean([one["mean_seconds"] for one in results]))
    told = [text for one in results for text in one["caveats"]]
    caveats = tuple(dict.fromkeys([*told, *(job.weights.caveat for job in jobs if job.weights and job.weights.caveat)]))
    options = {k: v for k, v in results[0]["config"]["options"].items() if k not in ("checkpoint", "solver")}
    if options:
        caveats = (*caveats, f"Not by default: {', '.join(f'{key} {value}' for key, value in options.items())}.")
    cut = frozenset(name for name, scene in results[0]["scenes"].items() if scene["cut"])
    return Measured(_by_measure([one["scenes"] for one in results]), jobs[0].folder / "scores", seconds, caveats, cut)


def others(workspace: Workspace, name: str, folder: Path, bands: int) -> Measured:
    """Score the maps of somebody's method; ``folder`` may hold a folder of them for each number of bands."""
    folder = folder / str(bands) if (folder / str(bands)).is_dir() else folder
    found = {}
    for scene, truth in workspace.truths.items():
        try:
            found[scene] = scene_measures(load_map(folder, scene), truth)
        except ValueError as error:
            raise FersError(f"--scores {name}: {folder / scene}: {error}") from error
    return Measured(_by_measure([found]), folder)


def _by_measure(seeds: Sequence[Mapping[str, Mapping]]) -> pd.DataFrame:
    """The values of ``Measured``, of each seed's scenes by their names."""
    frames = {
        key: pd.DataFrame([{name: scene[key] for name, scene in scenes.items()} for scenes in seeds], dtype=float)
        for key in SCENE_MEASURES
    }
    return pd.concat(frames, axis=1).dropna(axis=1)


def load_map(folder: Path, name: str) -> np.ndarray:
    """Read a score map ``(H, W)`` from ``<name>.npy``, or from the only array in ``<name>.mat``.

    Raises:
        FersError: There is none, or it is not one map.
    """
    path = next((path for suffix in (".npy", ".mat") if (path := folder / f"{name}{suffix}").is_file()), None)
    if path is None:
        raise FersError(f"{folder}: no {name}.npy and no {name}.mat. Every scene of the table needs its score map.")
    try:
        if path.suffix == ".npy":
            score = np.load(path, allow_pickle=False)
        else:
            (score,) = (value for key, value in loadmat(path).items() if not key.startswith("__"))
    except (NotImplementedError, ValueError, TypeError, OSError) as error:
        raise FersError(f"{path}: cannot be read as a score map ({error}).") from error
    if score.ndim != 2 or not np.issubdtype(score.dtype, np.number) or np.iscomplexobj(score):
        raise FersError(f"{path}: holds {score.dtype} {score.shape}; expected one map of numbers, rows by columns.")
    return score


def common_scenes(rows: Rows, among: Iterable[str]) -> list[str]:
    """The scenes for which every row has an AUC.

    Raises:
        FersError: There is none.
    """
    names = [name for name in among if all(name in found.aucs for _, found in rows)]
    if not names:
        raise FersError("no scene has both anomalies and background, so there is no AUC to put into a table.")
    return names


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

    def has_both(self, column: Column) -> bool:
        """Tell whether rows of both branches can be made. HAD100's are what its patches are for, so there they must be."""
        return self.workspace.benchmark != "ABU" or self.request.has_both(self.workspace, column.bands)

    def settings(self, column: Column) -> list[tuple[TableRow, list[Score]]]:
        """The rows of a column with their jobs."""
        rows = self.request.chosen(self.rows, column.bands)
        if not self.has_both(column):
            rows = [row for row in rows if row.network != "fused"]
        rows = [replace(r, config={**r.config, **dict(column.config)}) if r.network == "fused" else r for r in rows]
        rows = [beside_paper(row, column.bands) for row in rows]
        return [(row, self.request.jobs(self.workspace, row, column.bands)) for row in rows]

    @property
    def jobs(self) -> list[Score]:
        """List the work: settings that must be scored."""
        return [job for column in self.columns for _, jobs in self.settings(column) for job in jobs]

    def measured(self, column: Column) -> Rows:
        """The rows of a column with what was measured; other people's come last, in Table I."""
        rows = [(row, measured(jobs)) for row, jobs in self.settings(column)]
        scores = self.request.scores if self.source == "Table I" else ()
        return rows + [(TableRow(name), others(self.workspace, name, path, column.bands)) for name, path in scores]

    def cells(self) -> Iterator[dict]:
        """The table. Bold is better than each other row of its column, by Wilcoxon's test with Holm's correction."""
        place = self.workspace, self.source
        for column in self.columns:
            rows = self.measured(column)
            names = common_scenes(rows, column.scenes or self.workspace.truths)
            best = winner({row.name: found.table(names).mean(0) for row, found in rows if not row.oracle})
            for row, found in rows:
                table = found.table(names)
                interval = mean_interval(table.mean(0), names, bounds=MEASURES["auc"].bounds)
                yield {
                    **{"row": row.name, "column": column.name, "value": interval.mean},
                    **{"spread": pd.Series(table.mean(1)).std(), "low": interval.low, "high": interval.high},
                    **{"seeds": len(table), "scenes": len(names), "seconds": found.seconds, **found.beside(names)},
                    "paper": None if found.cut & set(names) else published_mean(*place, row, names, column.bands),
                    "paper_seconds": published(*place, row, "mean", column.bands, "seconds"),
                    **{"best": row.name == best, "mark": found.mark(row.mark)},
                }

    def metric_cells(self, column: Column) -> Iterator[dict]:
        """The field's other measures for the rows of one column, means over scenes of the first seed's maps."""
        rows = self.measured(column)
        names = common_scenes(rows, self.workspace.truths)
        for row, found in rows:
            means = pd.DataFrame([_measures(found.score(name), self.workspace.truths[name]) for name in names]).mean()
            about = {"row": row.name, "scenes": len(names), "mark": found.mark(row.mark)}
            yield from ({**about, "column": measure, "value": value} for measure, value in means.items())


def _measures(score: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return measures(score, truth, np.isnan(score))  # pixels without data have no score


def winner(results: Mapping[str, np.ndarray], level: float = LEVEL) -> str:
    """The row with the highest mean, if each other row differs from it by Wilcoxon's test with Holm's correction."""
    if len(results) < 2:
        return ""
    best = max(results, key=lambda name: float(results[name].mean()))
    return best if all(pair.p_holm < level for pair in compare_methods(results, best)) else ""


def published(workspace: Workspace, source: str, row: TableRow, scene: str, bands: int, metric: str) -> float | None:
    """A number of the paper's; None where it has none, or the scenes are others than the paper's."""
    if scene not in workspace.published:
        return None
    wanted = {"source": source, "dataset": workspace.benchmark, "losses": row.paper_losses}
    return published_numbers((metric,), *row.paper, bands, **wanted).get(scene)


def published_mean(workspace: Workspace, source: str, row: TableRow, names: Sequence[str], bands: int) -> float | None:
    """The paper's mean over HAD100, or of its numbers for these ABU scenes; None where it lacks one of them."""
    if workspace.benchmark == "HAD100":
        return published(workspace, source, row, "mean", bands, "mAUC")
    known = [published(workspace, "Table II", row, name, bands, "AUC") for name in names]
    return None if None in known else float(np.mean(np.array(known, dtype=float)))


@dataclass(frozen=True)
class Scenes:
    """Table II: each detector on what it sees (keys of ``rows.SEEN``), scene by scene."""

    request: Request

    @property
    def workspace(self) -> Workspace:
        """ABU, or what stands for it."""
        return self.request.second

    def settings(self) -> list[tuple[str, str, TableRow, list[Score]]]:
        """Detector, what it sees, row, jobs."""
        wanted = [detector for detector in TABLE2 if self.request.wants(detector)]
        kinds = self.request.seen(self.workspace, ABU_BANDS)
        rows = [(detector, seen, table2_row(detector, seen)) for detector in wanted for seen in kinds]
        return [(*line, self.request.jobs(self.workspace, line[2], ABU_BANDS)) for line in rows]

    @property
    def jobs(self) -> list[Score]:
        """List the work: settings that must be scored."""
        return [job for *_, jobs in self.settings() for job in jobs]

    def cells(self) -> Iterator[dict]:
        """The table. Bold is better than the original on that scene, by DeLong's test with Holm's correction."""
        rows = [(detector, seen, row, measured(jobs)) for detector, seen, row, jobs in self.settings()]
        names = common_scenes([(row, found) for *_, row, found in rows], self.workspace.truths)
        better = self._better({(detector, seen): found for detector, seen, _, found in rows}, names)
        cut = frozenset().union(*(found.cut for *_, found in rows))
        groups = {f"{name} (a cut of the paper's)" if name in cut else name: [name] for name in names}
        if whole := [name for name in names if name not in cut] if cut else []:
            groups[f"mean of the {len(whole)} whole ones"] = whole
        groups[f"mean of {len(names)}"] = names
        for detector, seen, row, found in rows:
            place = {"row": row.name, "mark": found.mark(row.mark)}
            for title, among in groups.items():
                values = found.table(among).mean(1)
                known = not found.cut & set(among)
                paper = published_mean(self.workspace, "Table II", row, among, ABU_BANDS) if known else None
                numbers = {"value": float(values.mean()), "spread": pd.Series(values).std(), "paper": paper}
                if len(among) > 1:
                    numbers |= found.beside(among)
                if among is names:
                    numbers["seconds"] = found.seconds
                    numbers["paper_seconds"] = published(self.workspace, "Table II", row, "mean", ABU_BANDS, "seconds")
                best = len(among) == 1 and (detector, seen, among[0]) in better
                yield {**place, **numbers, "column": title, "best": best, "seeds": len(values), "scenes": len(among)}

    def _better(self, rows: Mapping[tuple[str, str], Measured], names: Sequence[str]) -> set[tuple[str, str, str]]:
        tests = []
        for detector, seen in [key for key in rows if key[1] != "original" and "oracle" not in key[0]]:
            for scene in names:
                before, after = (rows[detector, each].score(scene) for each in ("original", seen))
                counts = np.isfinite(before) & np.isfinite(after)  # pixels without data have no score
                truth = self.workspace.truths[scene][counts]
                if min(int(truth.sum()), int((~truth).sum())) >= 2:
                    tests.append((detector, seen, scene, delong(after[counts], before[counts], truth)))
        adjusted = holm([test.p for *_, test in tests])
        better = (key for (*key, test), p in zip(tests, adjusted, strict=True) if p < LEVEL and test.z > 0)
        return {(detector, seen, scene) for detector, seen, scene in better}
