"""What the paper only shows as pictures: Gaussianity and separability in numbers, Fig. 9, decorrelation; and times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from experiments.drawing import decorrelation_figure, pca_figure, qq_figure
from experiments.gaussianity import describe, qq
from experiments.jobs import Score
from experiments.measured import measured
from experiments.rows import ENHANCED, ORIGINAL, Request, TableRow
from experiments.tables import ABU_BANDS, published
from experiments.workspace import Workspace
from fers.scenes.normalise import normalise
from fers.scoring.pipeline import Pipeline
from fers.training.log import read_log

MEASURES = {  # of experiments.gaussianity.describe, as the table calls them; and what a Gaussian has
    "skewness ratio": "skewness (1 is Gaussian)",
    "kurtosis ratio": "kurtosis (1 is Gaussian)",
    "Q-Q correlation": "Q-Q correlation (1 is Gaussian)",
    "Mahalanobis": "Mahalanobis distance",
    "Bhattacharyya": "Bhattacharyya distance",
}
DRAWN = 6  # scenes of the Q-Q figures and of Fig. 9
COSINE_SCENES = 8  # that the decorrelation figure is made from
TIMED = 3  # runs; the fastest counts


@dataclass(frozen=True)
class Explained:
    """Numbers and figures of the features of one test set, RX before and after enhancement by fusion B (Fig. 9)."""

    request: Request
    workspace: Workspace

    @property
    def bands(self) -> int:
        """C."""
        return self.request.bands[0] if self.workspace.benchmark == "HAD100" else ABU_BANDS

    @property
    def jobs(self) -> dict[str, Score]:
        """What must be scored."""
        rows = {"original": TableRow("RX", ORIGINAL), "enhanced": TableRow("RX", ENHANCED, "fused")}
        return {name: self.request.jobs(self.workspace, row, self.bands)[0] for name, row in rows.items()}

    def gaussianity(self) -> Iterator[dict]:
        """Each measure before and after, beside RX's AUC, and the correlation of their changes over the scenes.

        Only scenes with anomalies and background.
        """
        aucs = {seen: measured([job]).aucs[0] for seen, job in self.jobs.items()}
        changes = []
        for name, *cubes, truth in self._cubes():
            if name in aucs["original"] and truth.any():
                found = {seen: describe(cube, truth) for seen, cube in zip(aucs, cubes, strict=True)}
                for measure, title in MEASURES.items():
                    yield from (_cell(name, f"{title}: {seen}", found[seen][measure], 3) for seen in found)
                yield from (_cell(name, f"AUC of RX: {seen}", aucs[seen][name], 4) for seen in found)
                before, after = ([*(found[seen][key] for key in MEASURES), aucs[seen][name]] for seen in found)
                changes.append(np.subtract(after, before))
        if len(changes) > 2:
            *of_measures, of_auc = np.transpose(changes)
            for title, change in zip(MEASURES.values(), of_measures, strict=True):
                if np.ptp(change) > 0 and np.ptp(of_auc) > 0 and np.isfinite(change).all():
                    rank = float(spearmanr(change, of_auc).statistic)
                    yield _cell("rank correlation of the change with AUC's", f"{title}: enhanced", rank, 3)

    def qq_figures(self) -> Iterator[Path]:
        """Draw Q-Q lines of the background's distances before and after, a figure for each of the first scenes."""
        for name, cube, enhanced, truth in self._cubes(DRAWN):
            lines = {"original": qq(cube[~truth]), "enhanced": qq(enhanced[~truth])}
            yield from self.workspace.figures(f"qq_{name}", partial(qq_figure, lines))

    def figure9(self) -> list[Path]:
        """Draw spectra before and after on their principal components."""
        return self.workspace.figures("fig9", partial(pca_figure, [row for row in self._cubes(DRAWN) if row[3].any()]))

    def decorrelation(self) -> list[Path]:
        """Draw how F_spe and F_spa are related, and Stage 2's curves if it was trained here."""
        branches = zip(*(pair for _, _, *pair in self._features(COSINE_SCENES)), strict=True)
        spe, spa = (np.concatenate([features.reshape(-1, self.bands) for features in each]) for each in branches)
        weights = self.jobs["enhanced"].weights
        curves = read_log(weights.log)[0] if weights is not None and weights.log is not None else []
        return self.workspace.figures("decorrelation", partial(decorrelation_figure, spe, spa, curves))

    def _cubes(self, most: int | None = None) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """Name, H and H + F_spe + F_spa ``(H, W, C)``, and truth of the first scenes."""
        for name, h, spe, spa in self._features(most):
            yield name, h.astype(np.float64), (h + (spe + spa)).astype(np.float64), self.workspace.truths[name]

    @torch.no_grad()
    def _features(self, most: int | None) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """Name, H, F_spe and F_spa of the first scenes, ``(H, W, C)`` float32."""
        pipeline = self.jobs["enhanced"].pipeline(self.request.device)
        spe, spa = pipeline.networks.spe, pipeline.networks.spa
        assert spe is not None and spa is not None
        for labelled in self.workspace.scenes[:most]:
            h = normalise(labelled.load()[0], self.bands)
            cube = torch.from_numpy(h).permute(2, 0, 1)[None].to(pipeline.device)
            f_spe, f_spa = (network(cube).float()[0].permute(1, 2, 0).cpu().numpy() for network in (spe, spa))
            yield labelled.name, h, f_spe, f_spa


def _cell(row: str, column: str, value: float, digits: int) -> dict:
    return {"row": row, "column": column, "value": value, "digits": digits}


def timing_cells(request: Request) -> Iterator[dict]:
    """Seconds for one scene, every row of Table I in one run on this machine, beside the paper's.

    The first scene, features and detector, without reading. Rows that take less than a second are run again, and the
    fastest counts.
    """
    scene, _ = request.first.scenes[0].load()
    for c in request.bands:
        h = normalise(scene, c)
        for row in request.chosen(request.table1, c):
            if not row.oracle:  # it takes as long as the last iteration
                seconds = _seconds(request.jobs(request.first, row, c)[0].pipeline(request.device), h)
                column = f"{h.shape[0]} x {h.shape[1]} px, {c} bands (s)"
                as_paper = replace(row, paper=("AE", "original")) if row.name.startswith("AE,") else row
                paper = published(request.first, "Table I", as_paper, "mean", c, "seconds")
                yield {**_cell(row.name, column, seconds, 3), "paper": paper}


def _seconds(pipeline: Pipeline, h: np.ndarray) -> float:
    times: list[float] = []
    while len(times) < TIMED and max(times, default=0) <= 1:
        began = time.perf_counter()
        pipeline.score(h)
        times.append(time.perf_counter() - began)
    return min(times)
