"""What the paper shows as pictures only: Gaussianity and separability in numbers, Fig. 9, decorrelation; and times."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fers.scoring.views import Features
from scipy.stats import spearmanr

from experiments.cells import Cell
from experiments.drawing import Cloud, Decorrelation, decorrelation_figure, pca_figure
from experiments.gaussianity import describe, qq, qq_figure
from experiments.jobs import Score, Training, Weights
from experiments.measured import measured
from experiments.plan import ENHANCED, ORIGINAL, TABLE1, Plan, Row
from experiments.workspace import Workspace
from fers.evaluation.published import published_rows
from fers.scenes.normalise import normalise
from fers.scenes.scene import LabelledScene
from fers.scoring.pipeline import Pipeline
from fers.training.log import read_log

MEASURES = {  # of experiments.gaussianity.describe, as the table calls them; and what a Gaussian has
    "skewness ratio": "skewness (1 is Gaussian)",
    "kurtosis ratio": "kurtosis (1 is Gaussian)",
    "Q-Q correlation": "Q-Q correlation (1 is Gaussian)",
    "Mahalanobis": "Mahalanobis distance",
    "Bhattacharyya": "Bhattacharyya distance",
}
QQ_SCENES = 6  # that are drawn
COSINE_SCENES = 8  # that the decorrelation figure is made from
TIMED = 3  # runs; the fastest counts


@dataclass(frozen=True)
class Explained:
    """Numbers and figures of the features of one test set.

    Attributes:
        workspace: Has the scenes.
        bands: C.
    """

    workspace: Workspace
    bands: int

    def rows(self, plan: Plan) -> dict[str, list[Score]]:
        """RX before and after enhancement, fusion B as in the paper's Fig. 9."""
        before, after = Row("RX", ORIGINAL), Row("RX", ENHANCED, "fused")
        return {
            name: plan.scores(self.workspace, row, self.bands)[:1]
            for name, row in (("original", before), ("enhanced", after))
        }

    def jobs(self, plan: Plan) -> list[Score]:
        """What must be scored."""
        return [job for jobs in self.rows(plan).values() for job in jobs]

    def gaussianity(self, plan: Plan, device: str) -> list[Cell]:
        """Each measure before and after, beside RX's AUC, and the correlation of their changes over the scenes.

        Scenes with anomalies and background only.
        """
        aucs = {name: measured(jobs).aucs[0] for name, jobs in self.rows(plan).items()}
        found: dict[str, dict[str, dict[str, float]]] = {}
        for scene, cube, enhanced, mask in self._cubes(plan, device):
            if scene.name in aucs["original"] and mask.any():
                found[scene.name] = {"original": describe(cube, mask), "enhanced": describe(enhanced, mask)}
        cells = []
        for name, views in found.items():
            for measure, title in MEASURES.items():
                cells += [self._cell(name, f"{title}: {view}", views[view][measure], 3) for view in views]
            cells += [self._cell(name, f"AUC of RX: {view}", aucs[view][name], 4) for view in views]
        change = np.array([aucs["enhanced"][name] - aucs["original"][name] for name in found])
        for measure, title in MEASURES.items():
            values = np.array([views["enhanced"][measure] - views["original"][measure] for views in found.values()])
            if len(values) > 2 and np.ptp(values) > 0 and np.ptp(change) > 0 and np.isfinite(values).all():
                rank = float(spearmanr(values, change).statistic)
                cells.append(self._cell("rank correlation of the change with AUC's", f"{title}: enhanced", rank, 3))
        return cells

    def _cell(self, row: str, column: str, value: float, digits: int) -> Cell:
        return Cell("gaussianity", self.workspace.title, row, column, value, digits=digits)

    def qq_figures(self, plan: Plan, device: str, folder: Path) -> list[Path]:
        """Q-Q lines of the background's distances before and after, a figure for each of the first scenes."""
        paths = []
        for scene, cube, enhanced, mask in self._cubes(plan, device, QQ_SCENES):
            lines = {"original": qq(cube[~mask]), "enhanced": qq(enhanced[~mask])}
            paths += [qq_figure(lines, folder / f"qq_{scene.name}{suffix}") for suffix in (".png", ".pdf")]
        return paths

    def figure9(self, plan: Plan, device: str, folder: Path, scenes: int = 6) -> list[Path]:
        """Spectra before and after on their principal components."""
        clouds = [
            (scene.name, Cloud(cube[~mask], cube[mask]), Cloud(enhanced[~mask], enhanced[mask]))
            for scene, cube, enhanced, mask in self._cubes(plan, device, scenes)
            if mask.any()
        ]
        return [pca_figure(clouds, folder / f"fig9{suffix}") for suffix in (".png", ".pdf")]

    def decorrelation(self, plan: Plan, device: str, folder: Path) -> list[Path]:
        """Histogram of the cosine of F_spe and F_spa, their cross-correlation, and Stage 2's curves if it was trained here."""
        spe, spa = [], []
        for _, _, features, _ in self._features(plan, device, COSINE_SCENES):
            spe.append(features.spe[0].flatten(1).T.cpu().numpy())
            spa.append(features.spa[0].flatten(1).T.cpu().numpy())
        job = self._weights(plan)
        curves = read_log(job.log)[0] if isinstance(job, Training) else []
        found = Decorrelation.of(np.concatenate(spe), np.concatenate(spa), curves)
        return [decorrelation_figure(found, folder / f"decorrelation{suffix}") for suffix in (".png", ".pdf")]

    def _weights(self, plan: Plan) -> Weights | None:
        return self.rows(plan)["enhanced"][0].weights

    def _cubes(
        self, plan: Plan, device: str, most: int | None = None
    ) -> Iterator[tuple[LabelledScene, np.ndarray, np.ndarray, np.ndarray]]:
        """Scene, H, H + F_spe + F_spa, each ``(H, W, C)``, and the mask."""
        for scene, h, features, mask in self._features(plan, device, most):
            enhanced = h + (features.spe + features.spa)[0].permute(1, 2, 0).cpu().numpy()
            yield scene, h.astype(np.float64), enhanced.astype(np.float64), mask

    @torch.no_grad()
    def _features(
        self, plan: Plan, device: str, most: int | None = None
    ) -> Iterator[tuple[LabelledScene, np.ndarray, Features, np.ndarray]]:
        pipeline = self.rows(plan)["enhanced"][0].pipeline(device)
        for labelled in self.workspace.scenes[:most]:
            scene, mask = labelled.load()
            h = normalise(scene, self.bands)
            cube = torch.from_numpy(h).permute(2, 0, 1)[None].to(pipeline.device)
            for _, features in pipeline.networks.features(cube):
                yield labelled, h, features, mask


def timing_cells(workspace: Workspace, plan: Plan, bands: Sequence[int], device: str) -> list[Cell]:
    """Seconds for one scene, every row of Table I in one run on this machine, beside the paper's.

    The first scene, features and detector, without reading. Rows that take less than a second are run again, and the
    fastest counts.
    """
    scene, _ = workspace.scenes[0].load()
    cells = []
    for c in bands:
        h = normalise(scene, c)
        for row in plan.chosen(TABLE1, c):
            if row.oracle:
                continue  # it takes as long as the last iteration
            pipeline = plan.scores(workspace, row, c)[0].pipeline(device)
            seconds = _seconds(pipeline, h)
            paper = [
                float(r["value"])
                for r in published_rows()
                if (r["source"], r["method"], r["bands"], r["metric"]) == ("Table I", _method(row), str(c), "seconds")
            ]
            size = f"{h.shape[0]} x {h.shape[1]} px"
            cells.append(
                Cell(
                    "timing",
                    workspace.title,
                    row.name,
                    f"{size}, {c} bands (s)",
                    seconds,
                    paper=paper[0] if paper else None,
                    digits=3,
                )
            )
    return cells


def _method(row: Row) -> str:
    return "AE" if row.name.startswith("AE,") else row.paper[0]


def _seconds(pipeline: Pipeline, h: np.ndarray) -> float:
    times = []
    for _ in range(TIMED):
        began = time.perf_counter()
        pipeline.score(h)
        times.append(time.perf_counter() - began)
        if times[0] > 1:
            break
    return min(times)
