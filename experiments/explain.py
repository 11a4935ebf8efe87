"""Numbers for what section IV of the paper only shows as pictures or says: Gaussianity, separability, Fig. 9, decorrelation."""

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
from experiments.rows import Request, table2_row
from experiments.tables import ABU_BANDS, measured
from experiments.workspace import Workspace
from fers.evaluation.figures import save_figure
from fers.scenes.scene import LabelledScene
from fers.scoring.pipeline import read_h
from fers.training.log import read_log

DRAWN = 6  # scenes of the Q-Q figures and of Fig. 9
COSINE_SCENES = 8  # that the decorrelation figure is made from
BLUE, RED = "#2166ac", "#b2182b"  # told apart by colour-blind readers, and light from dark in print
FOLLOWED = {"ABU": ("RX", "AE, oracle")}  # detectors whose AUC is set beside the measures; RX where a data set has none
_POINTS = 4000  # of the background that are drawn


@dataclass(frozen=True)
class Explained:
    """Numbers and figures of the features of one test set: the cubes that detectors see (``rows.SEEN``, Fig. 9)."""

    request: Request
    workspace: Workspace

    @property
    def bands(self) -> int:
        """C."""
        return self.request.bands[0] if self.workspace.benchmark == "HAD100" else ABU_BANDS

    @property
    def seen(self) -> list[str]:
        """The keys of ``SEEN`` that can be made here."""
        return self.request.seen(self.workspace, self.bands)

    @property
    def jobs(self) -> dict[tuple[str, str], Score]:
        """List the work by detector and what it sees: settings that must be scored."""
        detectors = FOLLOWED.get(self.workspace.benchmark, ("RX",))
        rows = {(detector, seen): table2_row(detector, seen) for detector in detectors for seen in self.seen}
        return {key: self.request.jobs(self.workspace, row, self.bands)[0] for key, row in rows.items()}

    def gaussianity(self) -> Iterator[dict]:
        """Each measure on each cube, beside the detectors' AUCs, and how far the changes go together over the scenes.

        Only scenes with anomalies and background.
        """
        aucs = {key: measured([job]).aucs.iloc[0] for key, job in self.jobs.items()}
        detectors = dict.fromkeys(detector for detector, _ in aucs)
        found: dict[str, list[pd.Series]] = {seen: [] for seen in self.seen}  # of each scene
        for name, cubes, truth in self._cubes():
            if name in aucs["RX", "original"] and truth.any():
                for seen, cube in cubes.items():
                    one = {**describe(cube, truth), **{f"AUC of {each}": aucs[each, seen][name] for each in detectors}}
                    found[seen].append(pd.Series(one))
                    yield from (
                        _cell(name, f"{title}: {seen}", value, 4 if title.startswith("AUC") else 3)
                        for title, value in one.items()
                    )
        for seen in self.seen[1:]:
            changes = pd.DataFrame(found[seen]) - pd.DataFrame(found["original"])
            for detector in detectors:
                row = f"rank correlation of the change with that of {detector}'s AUC"
                for title, change in changes.items():
                    both = changes[[title, f"AUC of {detector}"]]
                    enough = len(both) > 2 and bool((both.nunique() > 1).all())
                    if not str(title).startswith("AUC") and enough and np.isfinite(change).all():
                        yield _cell(row, f"{title}: {seen}", float(spearmanr(both).statistic), 3)

    def qq_figures(self) -> Iterator[Path]:
        """Draw Q-Q lines of the background's distances, a figure for each of the first scenes."""
        for name, cubes, truth in self._cubes(DRAWN):
            lines = {seen: qq(cube[~truth]) for seen, cube in cubes.items()}
            yield from self.workspace.figures(f"qq_{name}", partial(qq_figure, lines))

    def figure9(self) -> list[Path]:
        """Draw spectra of each cube on their principal components."""
        return self.workspace.figures("fig9", partial(pca_figure, [row for row in self._cubes(DRAWN) if row[2].any()]))

    def decorrelation(self) -> list[Path]:
        """Draw how F_spe and F_spa are related, and Stage 2's curves if it was trained here."""
        branches = zip(*self._features(COSINE_SCENES), strict=True)
        spe, spa = (np.concatenate([features.reshape(-1, self.bands) for features in each]) for each in branches)
        weights = self.jobs["RX", "enhanced"].weights
        curves = read_log(weights.log)[0] if weights is not None and weights.log is not None else []
        return self.workspace.figures("decorrelation", partial(decorrelation_figure, spe, spa, curves))

    def _cubes(self, most: int | None = None) -> Iterator[tuple[str, dict[str, np.ndarray], np.ndarray]]:
        """Name, the cubes ``(H, W, C)`` by what detectors see, and truth of the first scenes."""
        kinds = [seen for seen in self.seen if seen != "original"]
        networks = {seen: self.jobs["RX", seen].pipeline(self.request.device).networks for seen in kinds}
        for labelled in self.workspace.scenes[:most]:
            h = self._h(labelled)
            cubes = {"original": h.astype(np.float64)}
            for seen, each in networks.items():
                there = [network for network in (each.spe, each.spa) if network is not None]
                cubes[seen] = (h + sum(features_of(network, h) for network in there)).astype(np.float64)
            yield labelled.name, cubes, self.workspace.truths[labelled.name]

    def _h(self, labelled: LabelledScene) -> np.ndarray:
        return read_h(self.jobs["RX", "original"].pipeline(self.request.device).config, labelled.load()[0])[0]

    def _features(self, most: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """F_spe and F_spa of the first scenes, ``(H, W, C)`` float32."""
        networks = self.jobs["RX", "enhanced"].pipeline(self.request.device).networks
        assert networks.spe is not None and networks.spa is not None
        for labelled in self.workspace.scenes[:most]:
            h = self._h(labelled)
            yield features_of(networks.spe, h), features_of(networks.spa, h)


@torch.no_grad()
def features_of(network: torch.nn.Module, h: np.ndarray) -> np.ndarray:
    """Features ``(H, W, C)`` float32 of a normalised cube."""
    device = next(network.parameters()).device
    return network(torch.from_numpy(h).permute(2, 0, 1)[None].to(device)).float()[0].permute(1, 2, 0).cpu().numpy()


def _cell(row: str, column: str, value: float, digits: int) -> dict:
    return {"row": row, "column": column, "value": value, "digits": digits}


def own_components(pixels: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Project pixels ``(n, C)`` on the first three principal components of their covariance, ``(n, 3)``, zero at origin."""
    _, _, components = np.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
    three = np.zeros((3, pixels.shape[1]))
    three[: min(3, len(components))] = components[:3]
    signs = np.sign(three[np.arange(3), np.abs(three).argmax(1)])  # the largest loading is positive
    return (pixels - origin) @ (three * np.where(signs == 0, 1, signs)[:, None]).T


def pca_figure(rows: Sequence[tuple[str, Mapping[str, np.ndarray], np.ndarray]], path: Path) -> Path:
    """Draw scenes' spectra (Fig. 9), a line for each: name, cubes ``(H, W, C)`` by their titles, and truth.

    Background and anomalies are each projected on their own first three principal components, as in the paper. The paper
    does not say where the origin is. Here it is the background's mean for both, so that the distance of the anomalies shows.
    """
    wide, lines = max((len(cubes) for _, cubes, _ in rows), default=1), max(len(rows), 1)
    figure = Figure(figsize=(2.7 * wide, 2.75 * lines + 0.45))
    top = 1 - 0.62 / (2.75 * lines + 0.45)
    figure.subplots_adjust(left=0.0, right=0.97, bottom=0.03, top=top, wspace=0.12, hspace=0.2)
    rng = np.random.default_rng(0)
    panels = [(name, title, cube, truth) for name, cubes, truth in rows for title, cube in cubes.items()]
    for index, (name, title, cube, truth) in enumerate(panels, 1):
        axes = figure.add_subplot(lines, wide, index, projection="3d")
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
