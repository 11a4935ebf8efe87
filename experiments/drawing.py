"""The paper's figures that are no score maps: spectra on principal components, and how F_spe and F_spa are related."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fers.util.files import atomic_path

BLUE, RED = "#2166ac", "#b2182b"  # told apart by colour-blind readers, and light from dark in print
_POINTS = 4000  # of the background that are drawn


@dataclass(frozen=True)
class Cloud:
    """Spectra of one scene."""

    background: np.ndarray  # (n, C)
    anomalies: np.ndarray  # (m, C)


def own_components(pixels: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Project pixels ``(n, C)`` on the first three principal components of their covariance, ``(n, 3)``, zero at origin."""
    _, _, components = np.linalg.svd(pixels - pixels.mean(0), full_matrices=False)
    three = np.zeros((3, pixels.shape[1]))
    three[: min(3, len(components))] = components[:3]
    signs = np.sign(three[np.arange(3), np.abs(three).argmax(1)])  # the largest loading is positive
    return (pixels - origin) @ (three * np.where(signs == 0, 1, signs)[:, None]).T


def pca_figure(rows: Sequence[tuple[str, Cloud, Cloud]], path: str | Path) -> Path:
    """Draw each scene's spectra before and after enhancement (Fig. 9).

    Background and anomalies are each projected on their own first three principal components, as in the paper. The paper
    does not say where the origin is. Here it is the background's mean for both, so that the distance of the anomalies shows.

    Args:
        rows: Name of the scene, its spectra before, and after.
        path: The file to write; its suffix chooses the format. It is returned.
    """
    wide = 2 if len(rows) > 1 else 1  # scenes in a line
    lines = -(-len(rows) // wide)
    figure = Figure(figsize=(5.4 * wide, 2.75 * lines + 0.45))
    figure.subplots_adjust(
        left=0.0, right=0.97, bottom=0.03, top=1 - 0.62 / (2.75 * lines + 0.45), wspace=0.12, hspace=0.2
    )
    rng = np.random.default_rng(0)
    axes = None
    for index, (name, before, after) in enumerate(rows):
        for side, (title, cloud) in enumerate((("original", before), ("enhanced", after))):
            axes = figure.add_subplot(lines, 2 * wide, 2 * index + side + 1, projection="3d")
            origin = cloud.background.mean(0)
            background = own_components(cloud.background, origin)
            shown = rng.permutation(len(background))[:_POINTS]
            anomalies = own_components(cloud.anomalies, origin)
            axes.scatter(
                *background[shown].T, s=2.5, c=BLUE, alpha=0.6, linewidths=0, rasterized=True, label="background"
            )
            axes.scatter(*anomalies.T, s=7, c=RED, alpha=0.9, linewidths=0, label="anomalies", depthshade=False)
            axes.set_title(f"{name}, {title}", fontsize=9, pad=-2)
            for axis, label in zip((axes.xaxis, axes.yaxis, axes.zaxis), ("PC 1", "PC 2", "PC 3"), strict=True):
                axis.set_major_locator(MaxNLocator(3))
                axis.set_tick_params(labelsize=6, pad=-2)
                axis.set_label_text(label, fontsize=7)
                axis.labelpad = -4
            axes.set_box_aspect((1, 1, 0.85), zoom=0.86)
    if axes is not None:
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="upper center", ncols=2, frameon=False, fontsize=9, markerscale=3)
    return _save(figure, path)


@dataclass(frozen=True)
class Decorrelation:
    """How two branches' features are related."""

    cosine: np.ndarray  # (n,), of each pixel's F_spe and F_spa
    correlation: np.ndarray  # (C, C): channel i of F_spe with channel j of F_spa; NaN where one is constant
    curves: list[dict]  # entries of Stage 2's log; empty where it was not trained here

    @classmethod
    def of(cls, spe: np.ndarray, spa: np.ndarray, curves: list[dict]) -> Decorrelation:
        """Relate features ``(n, C)`` of the same pixels."""
        spe, spa = spe.astype(np.float64), spa.astype(np.float64)
        norms = np.linalg.norm(spe, axis=1) * np.linalg.norm(spa, axis=1)
        cosine = (spe * spa).sum(1)[norms > 0] / norms[norms > 0]
        a, b = spe - spe.mean(0), spa - spa.mean(0)
        sizes = [np.linalg.norm(x, axis=0) for x in (a, b)]
        varies = np.outer(*(size > 1e-6 * size.max(initial=1e-12) for size in sizes))
        correlation = np.divide(a.T @ b, np.outer(*sizes), out=np.full(varies.shape, np.nan), where=varies)
        return cls(cosine, correlation, curves)


def decorrelation_figure(found: Decorrelation, path: str | Path) -> Path:
    """Draw the cosine's histogram, the cross-correlation matrix, and Stage 2's losses by epoch; returns ``path``."""
    panels = 3 if found.curves else 2
    figure = Figure(figsize=(4.0 * panels, 3.5), layout="constrained")
    axes = figure.subplots(1, panels)
    axes[0].hist(found.cosine, bins=60, color=BLUE)
    mean = float(found.cosine.mean()) if found.cosine.size else float("nan")
    axes[0].axvline(mean, color=RED, linewidth=1.2, linestyle="--", label=f"mean {mean:.3f}")
    axes[0].set_xlabel("cosine of $F_{spe}$ and $F_{spa}$ at a pixel")
    axes[0].set_ylabel("pixels")
    axes[0].xaxis.set_major_locator(MaxNLocator(5))
    axes[0].legend(frameon=False, fontsize=9)
    axes[0].spines[["top", "right"]].set_visible(False)

    known = np.isfinite(found.correlation)
    alive = found.correlation[known.any(1)][:, known.any(0)]  # channels that the last ReLU keeps at zero have none
    rms = float(np.sqrt(np.square(alive).mean())) if alive.size else float("nan")
    shown = alive if alive.size else np.zeros((1, 1))
    image = axes[1].imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
    channels = len(found.correlation)
    axes[1].set_xlabel(f"$F_{{spa}}$: the {alive.shape[1]} of {channels} channels that vary", fontsize=9)
    axes[1].set_ylabel(f"$F_{{spe}}$: the {alive.shape[0]} of {channels} channels that vary", fontsize=9)
    axes[1].set_title(f"correlation, root mean square {rms:.3f}", fontsize=10)
    for axis in (axes[1].xaxis, axes[1].yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    figure.colorbar(image, ax=axes[1], fraction=0.046, pad=0.03)
    if found.curves:
        _curves(axes[2], found.curves)
    return _save(figure, path)


def _curves(axes, curves: list[dict]) -> None:
    """Each term relative to its first epoch, so that all of them fit on one axis."""
    epochs = [entry["epoch"] for entry in curves]
    colours = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
    styles = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), "-")
    for (name, first), colour, style in zip(curves[0]["terms"].items(), colours, styles, strict=False):
        values = np.array([entry["terms"][name] for entry in curves]) / (first or 1.0)
        axes.plot(epochs, values, color=colour, linestyle=style, label=f"$L_{{{name}}}$", marker="o", markersize=2.5)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss relative to the first epoch")
    axes.set_yscale("log")
    axes.set_xlim(0.5, len(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.legend(frameon=False, fontsize=8, ncols=2)


def _save(figure: Figure, path: str | Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=200)
    return Path(path)
