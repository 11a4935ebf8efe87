"""What the paper only shows as pictures: Gaussianity and separability in numbers, Fig. 9, decorrelation; and times."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from experiments.drawing import Cloud, Decorrelation, decorrelation_figure, pca_figure
from experiments.gaussianity import describe, qq, qq_figure
from experiments.jobs import Score
from experiments.measured import measured
from experiments.rows import ENHANCED, ORIGINAL, Request, TableRow
from experiments.tables import published
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

    workspace: Workspace
    bands: int
    request: Request

    @property
    def jobs(self) -> dict[str, Score]:
        """What must be scored."""
        rows = {"original": TableRow("RX", ORIGINAL), "enhanced": TableRow("RX", ENHANCED, "fused")}
        return {name: self.request.jobs(self.workspace, row, self.bands)[0] for name, row in rows.items()}

    def gaussianity(self) -> list[dict]:
        """Each measure before and after, beside RX's AUC, and the correlation of their changes over the scenes.

        Only scenes with anomalies and background.
        """
        aucs = {seen: measured([job]).aucs[0] for seen, job in self.jobs.items()}
        scenes: dict[str, dict[str, dict[str, float]]] = {}
        for name, cube, enhanced, truth in self._cubes():
            if name in aucs["original"] and truth.any():
                scenes[name] = {"original": describe(cube, truth), "enhanced": describe(enhanced, truth)}
        cells = []
        for name, seen in scenes.items():
            for measure, title in MEASURES.items():
                cells += [_cell(name, f"{title}: {which}", seen[which][measure], 3) for which in seen]
            cells += [_cell(name, f"AUC of RX: {which}", aucs[which][name], 4) for which in seen]
        change = np.array([aucs["enhanced"][name] - aucs["original"][name] for name in scenes])
        for measure, title in MEASURES.items():
            values = np.array([seen["enhanced"][measure] - seen["original"][measure] for seen in scenes.values()])
            if len(values) > 2 and np.ptp(values) > 0 and np.ptp(change) > 0 and np.isfinite(values).all():
                rank = float(spearmanr(values, change).statistic)
                cells.append(_cell("rank correlation of the change with AUC's", f"{title}: enhanced", rank, 3))
        return cells

    def qq_figures(self) -> list[Path]:
        """Draw Q-Q lines of the background's distances before and after, a figure for each of the first scenes."""
        paths = []
        for name, cube, enhanced, truth in self._cubes(DRAWN):
            lines = {"original": qq(cube[~truth]), "enhanced": qq(enhanced[~truth])}
            paths += [qq_figure(lines, path) for path in self._files(f"qq_{name}")]
        return paths

    def figure9(self) -> list[Path]:
        """Draw spectra before and after on their principal components."""
        clouds = [
            (name, Cloud(cube[~truth], cube[truth]), Cloud(enhanced[~truth], enhanced[truth]))
            for name, cube, enhanced, truth in self._cubes(DRAWN)
            if truth.any()
        ]
        return [pca_figure(clouds, path) for path in self._files("fig9")]

    def decorrelation(self) -> list[Path]:
        """Draw how F_spe and F_spa are related, and Stage 2's curves if it was trained here."""
        spe, spa = (np.concatenate(parts) for parts in zip(*self._branches(), strict=True))
        weights = self.jobs["enhanced"].weights
        curves = read_log(weights.log)[0] if weights is not None and weights.log is not None else []
        found = Decorrelation.of(spe, spa, curves)
        return [decorrelation_figure(found, path) for path in self._files("decorrelation")]

    def _files(self, name: str) -> list[Path]:
        return [self.workspace.folder / "figures" / f"{name}{suffix}" for suffix in (".png", ".pdf")]

    def _cubes(self, most: int | None = None) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """Name, H and H + F_spe + F_spa ``(H, W, C)``, and truth of the first scenes."""
        for name, h, spe, spa in self._features(most):
            enhanced = h + (spe + spa)[0].permute(1, 2, 0).cpu().numpy()
            yield name, h.astype(np.float64), enhanced.astype(np.float64), self.workspace.truths[name]

    def _branches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """F_spe and F_spa of the first scenes, ``(n, C)``."""
        for _, _, *branches in self._features(COSINE_SCENES):
            spe, spa = (branch[0].flatten(1).T.cpu().numpy() for branch in branches)
            yield spe, spa

    @torch.no_grad()
    def _features(self, most: int | None) -> Iterator[tuple[str, np.ndarray, torch.Tensor, torch.Tensor]]:
        pipeline = self.jobs["enhanced"].pipeline(self.request.device)
        for labelled in self.workspace.scenes[:most]:
            h = normalise(labelled.load()[0], self.bands)
            cube = torch.from_numpy(h).permute(2, 0, 1)[None].to(pipeline.device)
            spe, spa = pipeline.networks.spe, pipeline.networks.spa
            assert spe is not None and spa is not None
            yield labelled.name, h, spe(cube).float(), spa(cube).float()


def _cell(row: str, column: str, value: float, digits: int) -> dict:
    return {"row": row, "column": column, "value": value, "digits": digits}


def timing_cells(request: Request) -> list[dict]:
    """Seconds for one scene, every row of Table I in one run on this machine, beside the paper's.

    The first scene, features and detector, without reading. Rows that take less than a second are run again, and the
    fastest counts.
    """
    scene, _ = request.first.scenes[0].load()
    cells = []
    for c in request.bands:
        h = normalise(scene, c)
        for row in request.chosen(request.table1, c):
            if not row.oracle:  # it takes as long as the last iteration
                seconds = _seconds(request.jobs(request.first, row, c)[0].pipeline(request.device), h)
                column = f"{h.shape[0]} x {h.shape[1]} px, {c} bands (s)"
                as_paper = replace(row, paper=("AE", "original")) if row.name.startswith("AE,") else row
                paper = published(request.first, "Table I", as_paper, "mean", c, "seconds")
                cells.append({**_cell(row.name, column, seconds, 3), "paper": paper})
    return cells


def _seconds(pipeline: Pipeline, h: np.ndarray) -> float:
    times: list[float] = []
    while len(times) < TIMED and max(times, default=0) <= 1:
        began = time.perf_counter()
        pipeline.score(h)
        times.append(time.perf_counter() - began)
    return min(times)
