"""Numbers for what the paper only shows as pictures: Gaussianity and separability in numbers, Fig. 9, decorrelation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import spearmanr

from experiments.gaussianity import QQ, describe, qq
from experiments.jobs import Score
from experiments.rows import ENHANCED, ORIGINAL, Request, TableRow
from experiments.tables import ABU_BANDS, measured
from experiments.workspace import Workspace
from fers.evaluation.figures import save_figure
from fers.scoring.pipeline import read_h
from fers.training.log import read_log

DRAWN = 6  # scenes of the Q-Q figures and of Fig. 9
COSINE_SCENES = 8  # that the decorrelation figure is made from
BLUE, RED = "#2166ac", "#b2182b"  # told apart by colour-blind readers, and light from dark in print
_SEEN = ("original", "enhanced")
_POINTS = 4000  # of the background that are drawn


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
        """List the work: settings that must be scored."""
        rows = {"original": TableRow("RX", ORIGINAL), "enhanced": TableRow("RX", ENHANCED, "fused")}
        return {name: self.request.jobs(self.workspace, row, self.bands)[0] for name, row in rows.items()}

    def gaussianity(self) -> Iterator[dict]:
        """Each measure before and after, beside RX's AUC, and the correlation of their changes over the scenes.

        Only scenes with anomalies and background.
        """
        aucs = {seen: measured([job]).aucs.iloc[0] for seen, job in self.jobs.items()}
        changes = []
        for name, *cubes, truth in self._cubes():
            if name in aucs["original"] and truth.any():
                found = {seen: describe(cube, truth) for seen, cube in zip(aucs, cubes, strict=True)}
                for title in found["original"]:
                    yield from (_cell(name, f"{title}: {seen}", found[seen][title], 3) for seen in found)
                yield from (_cell(name, f"AUC of RX: {seen}", aucs[seen][name], 4) for seen in found)
                before, after = (pd.Series({**found[seen], "AUC": aucs[seen][name]}) for seen in found)
                changes.append(after - before)
        frame = pd.DataFrame(changes)
        for title, change in frame.items():
            both = frame[[title, "AUC"]]
            if title != "AUC" and len(frame) > 2 and (both.nunique() > 1).all() and np.isfinite(change).all():
                rank = float(spearmanr(both).statistic)
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
            h, _ = read_h(pipeline.config, labelled.load()[0])
            cube = torch.from_numpy(h).permute(2, 0, 1)[None].to(pipeline.device)
            f_spe, f_spa = (network(cube).float()[0].permute(1, 2, 0).cpu().numpy() for network in (spe, spa))
            yield labelled.name, h, f_spe, f_spa


def _cell(row: str, column: str, value: float, digits: int) -> dict:
    return {"row": row, "column": column, "value": value, "digits": digits}


def own_components(pixels: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Project pixels ``(n, C)`` on the first three principal components of their covariance, ``(n, 3)``, zero at origin."""
    _, _, components = np.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
    three = np.zeros((3, pixels.shape[1]))
    three[: min(3, len(components))] = components[:3]
    signs = np.sign(three[np.arange(3), np.abs(three).argmax(1)])  # the largest loading is positive
    return (pixels - origin) @ (three * np.where(signs == 0, 1, signs)[:, None]).T


def pca_figure(rows: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]], path: Path) -> Path:
    """Draw scenes' spectra before and after enhancement (Fig. 9), of name, both cubes ``(H, W, C)`` and truth.

    Background and anomalies are each projected on their own first three principal components, as in the paper. The paper
    does not say where the origin is. Here it is the background's mean for both, so that the distance of the anomalies shows.
    """
    wide = 2 if len(rows) > 1 else 1  # scenes in a line
    lines = -(-len(rows) // wide)
    figure = Figure(figsize=(5.4 * wide, 2.75 * lines + 0.45))
    top = 1 - 0.62 / (2.75 * lines + 0.45)
    figure.subplots_adjust(left=0.0, right=0.97, bottom=0.03, top=top, wspace=0.12, hspace=0.2)
    rng = np.random.default_rng(0)
    panels = [
        (name, title, cube, truth) for name, *both, truth in rows for title, cube in zip(_SEEN, both, strict=True)
    ]
    for index, (name, title, cube, truth) in enumerate(panels, 1):
        axes = figure.add_subplot(lines, 2 * wide, index, projection="3d")
        origin = cube[~truth].mean(0)
        background, anomalies = own_components(cube[~truth], origin), own_components(cube[truth], origin)
        shown = background[rng.permutation(len(background))[:_POINTS]]
        axes.scatter(*shown.T, s=2.5, c=BLUE, alpha=0.6, linewidths=0, rasterized=True, label="background")
        axes.scatter(*anomalies.T, s=7, c=RED, alpha=0.9, linewidths=0, label="anomalies", depthshade=False)
        axes.set_title(f"{name}, {title}", fontsize=9, pad=-2)
        for axis, label in zip((axes.xaxis, axes.yaxis, axes.zaxis), ("PC 1", "PC 2", "PC 3"), strict=True):
            axis.set_major_locator(MaxNLocator(3))
            axis.set_tick_params(labelsize=6, pad=-2)
            axis.set_label_text(label, fontsize=7)
            axis.labelpad = -4
        axes.set_box_aspect((1, 1, 0.85), zoom=0.86)
    if panels:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper center", ncols=2, frameon=False, fontsize=9, markerscale=3)
    return save_figure(figure, path)


def relate(spe: np.ndarray, spa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Relate features ``(n, C)`` of the same pixels.

    Returns:
        The cosine at each pixel whose features are not zero, and the correlation ``(C, C)`` of channel i of F_spe with
        channel j of F_spa, NaN where one is constant.
    """
    spe, spa = spe.astype(np.float64), spa.astype(np.float64)
    norms = np.linalg.norm(spe, axis=1) * np.linalg.norm(spa, axis=1)
    cosine = (spe * spa).sum(1)[norms > 0] / norms[norms > 0]
    a, b = spe - spe.mean(0), spa - spa.mean(0)
    sizes = [np.linalg.norm(x, axis=0) for x in (a, b)]
    varies = np.outer(*(size > 1e-6 * size.max(initial=1e-12) for size in sizes))
    return cosine, np.divide(a.T @ b, np.outer(*sizes), out=np.full(varies.shape, np.nan), where=varies)


def decorrelation_figure(spe: np.ndarray, spa: np.ndarray, curves: list[dict], path: Path) -> Path:
    """Draw the cosine's histogram, the cross-correlation matrix, and the entries of Stage 2's log, if there are any."""
    cosine, correlation = relate(spe, spa)
    panels = 3 if curves else 2
    figure = Figure(figsize=(4.0 * panels, 3.5), layout="constrained")
    axes = figure.subplots(1, panels)
    axes[0].hist(cosine, bins=60, color=BLUE)
    mean = float(cosine.mean()) if cosine.size else float("nan")
    axes[0].axvline(mean, color=RED, linewidth=1.2, linestyle="--", label=f"mean {mean:.3f}")
    axes[0].set(xlabel="cosine of $F_{spe}$ and $F_{spa}$ at a pixel", ylabel="pixels")
    axes[0].xaxis.set_major_locator(MaxNLocator(5))
    axes[0].legend(frameon=False, fontsize=9)
    axes[0].spines[["top", "right"]].set_visible(False)

    known = np.isfinite(correlation)
    alive = correlation[known.any(1)][:, known.any(0)]  # channels that the last ReLU keeps at zero have none
    rms = float(np.sqrt(np.square(alive).mean())) if alive.size else float("nan")
    shown = alive if alive.size else np.zeros((1, 1))
    image = axes[1].imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    axes[1].set_xlabel(f"$F_{{spa}}$: the {alive.shape[1]} of {len(correlation)} channels that vary", fontsize=9)
    axes[1].set_ylabel(f"$F_{{spe}}$: the {alive.shape[0]} of {len(correlation)} channels that vary", fontsize=9)
    axes[1].set_title(f"correlation, root mean square {rms:.3f}", fontsize=10)
    for axis in (axes[1].xaxis, axes[1].yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    figure.colorbar(image, ax=axes[1], fraction=0.046, pad=0.03)
    if curves:
        _curves(axes[2], curves)
    return save_figure(figure, path)


def _curves(axes, curves: list[dict]) -> None:
    """Each term relative to its first epoch, so that all of them fit on one axis."""
    epochs = [entry["epoch"] for entry in curves]
    colours = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
    styles = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), "-")
    for (name, first), colour, style in zip(curves[0]["terms"].items(), colours, styles, strict=False):
        values = np.array([entry["terms"][name] for entry in curves]) / (first or 1.0)
        axes.plot(epochs, values, color=colour, linestyle=style, label=f"$L_{{{name}}}$", marker="o", markersize=2.5)
    axes.set(xlabel="epoch", ylabel="loss relative to the first epoch", yscale="log", xlim=(0.5, len(epochs) + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.legend(frameon=False, fontsize=8, ncols=2)


def qq_figure(lines: Mapping[str, QQ], path: Path) -> Path:
    """Draw Q-Q lines side by side by their titles, on the same axes, to a .png or .pdf; returns its path."""
    figure = Figure(figsize=(0.6 + 3.2 * len(lines), 3.6), layout="constrained")
    panels = figure.subplots(1, len(lines), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (title, line) in zip(panels, lines.items(), strict=True):
        axes.semilogy(line.expected, line.expected, color="0.4", linewidth=1, linestyle="--", label="Gaussian")
        dots = {"color": BLUE, "markersize": 2, "rasterized": True, "label": "background"}
        axes.semilogy(line.expected, line.observed, ".", **dots)
        axes.set_title(f"{title} (r = {line.correlation:.3f})", fontsize=10)
        axes.set_xlabel("expected squared distance")
        axes.grid(True, color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
    panels[0].set_ylabel("observed squared distance")
    panels[0].legend(loc="upper left", frameon=False, markerscale=4)
    return save_figure(figure, path)
