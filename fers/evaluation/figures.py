"""Pictures of results: what the scene looks like, where the detector sees anomalies, where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure, FigureBase
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, NullLocator
from matplotlib.transforms import blended_transform_factory

from fers.evaluation.metrics import as_truth, auc, has_both_classes, roc
from fers.scenes.scene import Scene
from fers.util.files import atomic_path
from fers.util.pictures import rgb_bands, stretched

if TYPE_CHECKING:
    from fers.evaluation.statistics import Ranks

# told apart by all (Okabe, Ito)
COLOURS = ("#000000", "#e69f00", "#0072b2", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
_DASHES = ("-", "--", "-.")
_NO_SCORE = "0.6"  # grey of pixels without a score


def false_colour(scene: Scene) -> np.ndarray:
    """Picture ``(H, W, 3)`` uint8 of a scene: the bands nearest to red, green and blue, stretched."""
    return stretched(np.asarray(scene.cube[:, :, list(rgb_bands(scene.wavelengths, scene.bands))], dtype=np.float64))


def scene_figure(
    scene: Scene, score: np.ndarray, truth: np.ndarray, path: str | Path, title: str, unit: str = "score"
) -> Path:
    """Draw one scene's result: false colour, score map, ground truth and ROC side by side; returns the path.

    Args:
        scene: The scene.
        score: ``(H, W)``, NaN at pixels without a score, which are drawn grey. Its colours end at the 99.5th percentile,
            as a few pixels would take all the range.
        truth: ``(H, W)``, bool or 0 and one other number.
        path: The .png or .pdf to write.
        title: What the map was made with, such as ``ABU: RX, fusion B, 200 bands``.
        unit: What the colour bar measures.
    """
    truth = as_truth(truth)
    height, width = truth.shape
    # Fixed places, in inches: a layout engine takes as long as all the drawing.
    side = 3.0
    tall = min(max(side * height / width, 1.8), 12.0)
    below, above, total = 0.55, 0.85, 4 * side + 2.5
    high = below + tall + above
    figure = Figure(figsize=(total, high))
    picture, scores, target, curve = (
        figure.add_axes(((0.15 + i * (side + 0.15) + gap) / total, below / high, side / total, tall / high))
        for i, gap in enumerate((0.0, 0.0, 0.6, 1.1))
    )
    value = auc(score, truth, np.isnan(score))

    picture.imshow(false_colour(scene), interpolation="none")
    shown = ", ".join(str(band + 1) for band in rgb_bands(scene.wavelengths, scene.bands))
    picture.set_title(f"False colour (bands {shown})", fontsize=10)
    draw_scale(picture, width)
    low, top = np.nanpercentile(score, [0.5, 99.5])
    scores.set_facecolor(_NO_SCORE)
    image = scores.imshow(score, cmap="inferno", vmin=low, vmax=top if top > low else low + 1, interpolation="none")
    scores.set_title("Score map", fontsize=10)
    bar = figure.colorbar(image, cax=scores.inset_axes((1.02, 0.0, 0.04, 1.0)), extend="both")
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    target.imshow(truth, cmap="gray", vmin=0, vmax=1, interpolation="none")
    target.set_title(f"Ground truth ({int(truth.sum())} px)", fontsize=10)
    for axes in (picture, scores, target):
        axes.set(xticks=[], yticks=[])

    draw_roc(curve, truth, {title: score})
    curve.set_title("ROC: no AUC" if value is None else f"ROC, AUC = {value:.4f}", fontsize=10)
    note = f" ({'; '.join(scene.notes)})" if scene.notes else ""
    figure.text(0.15 / total, 1 - 0.1 / high, plain(f"{scene.name}{note}"), fontweight="bold", ha="left", va="top")
    figure.text(0.15 / total, 1 - 0.32 / high, plain(title), fontsize=8, color="0.3", ha="left", va="top")
    return save_figure(
        figure, path, 130, **({"pil_kwargs": {"compress_level": 3}} if Path(path).suffix == ".png" else {})
    )


def save_figure(figure: Figure, path: str | Path, dpi: int = 200, **options: Any) -> Path:
    """Write a figure, whole or not at all; its suffix chooses the format, such as .png or .pdf; returns the path."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=dpi, **options)
    return Path(path)


def draw_scale(axes: Axes, width: int) -> None:
    """Draw a bar of a round number of pixels, about a quarter of the picture's width, into its lower left corner."""
    power = 10 ** int(np.log10(max(width / 4, 1)))
    length = max(step * power for step in (1, 2, 5) if step * power <= max(width / 4, 1))
    x = 0.04 * width
    white: dict[str, Any] = {"color": "white", "path_effects": [withStroke(linewidth=2.5, foreground="black")]}
    place = blended_transform_factory(axes.transData, axes.transAxes)
    axes.plot([x, x + length], [0.04, 0.04], transform=place, linewidth=2, solid_capstyle="butt", **white)
    axes.text(x, 0.06, f"{length} px", transform=place, fontsize=8, va="bottom", **white)


def plain(text: str) -> str:
    """Escape a text so that matplotlib draws it to the letter: file names may hold mathtext, or bytes that are no text."""
    return text.replace("$", r"\$").encode("utf-8", "backslashreplace").decode()


def shortened(text: str, length: int) -> str:
    """Shorten a text to so many characters: its end, as of ``module:Name``, after a sign that it was longer."""
    return text if len(text) <= length else f"…{text[1 - length :]}"


@dataclass(frozen=True)
class SceneMaps:
    """Score maps of one scene, to be drawn in a row."""

    scene: Scene
    truth: np.ndarray  # (H, W), bool or 0 and one other number
    scores: dict[str, np.ndarray]  # (H, W) each, by the title of their column; NaN at pixels without a score


def comparison_figure(rows: Sequence[SceneMaps], path: str | Path, side: float = 2.2, font: float = 10) -> Path:
    """Draw scenes as rows: false colour, ground truth, and each method's score map with its AUC; returns the path.

    Every map is stretched over its own ranks, from the median to the 99.9th percentile. Score maps of different methods
    have no common unit, so one colour bar says what the colours mean: the share of the scene's pixels below.

    Args:
        rows: The scenes; all have the same columns.
        path: The .png or .pdf to write.
        side: Inches of one map.
        font: Size of the titles in points; other text is a little smaller.
    """
    titles = ["False colour", "Ground truth", *rows[0].scores]
    figure = Figure(figsize=(side * len(titles) + 0.6, side * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        image = draw_row(list(line), row, font)
        line[0].set_ylabel(plain(row.scene.name), fontsize=font)
    for panel in axes[1:].flat:
        panel.set_title("")
    draw_rank_bar(figure, image, axes, 0.8 * font)
    return save_figure(figure, path, 160)


def draw_row(axes: list[Axes], row: SceneMaps, font: float = 10) -> ScalarMappable:
    """Draw a scene's false colour, truth and titled score maps on as many axes; returns what a colour bar takes."""
    axes[0].imshow(false_colour(row.scene))
    axes[0].set_title("False colour", fontsize=font)
    image = axes[1].imshow(as_truth(row.truth), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes[1].set_title("Ground truth", fontsize=font)
    for panel, (title, score) in zip(axes[2:], row.scores.items(), strict=True):
        panel.set_facecolor(_NO_SCORE)
        image = panel.imshow(score_ranks(score), cmap="viridis", norm=RANK_NORM, interpolation="nearest")
        panel.set_title(plain(title), fontsize=font)
        value = auc(score, row.truth, np.isnan(score))
        panel.set_xlabel("no AUC" if value is None else f"AUC {value:.4f}", fontsize=0.9 * font)
    for panel in axes:
        panel.set(xticks=[], yticks=[])
    return image


def draw_rank_bar(figure: FigureBase, image: ScalarMappable, axes: Any, font: float = 8) -> None:
    """Draw the colour bar of maps that ``draw_row`` drew, to the right of ``axes``."""
    bar = figure.colorbar(image, ax=axes, fraction=0.02, pad=0.01, ticks=[0.5, 0.9, 0.99, 0.999])
    bar.set_label("share of pixels that score lower", fontsize=font)
    bar.ax.set_yticklabels(["≤ 50 %", "90 %", "99 %", "99.9 %"], fontsize=font)


def line_styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Choose colour and dash of each name's curve, by its place."""
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "linestyle": _DASHES[i // len(COLOURS) % len(_DASHES)]}
        for i, name in enumerate(names)
    }


def draw_roc(
    axes: Axes, truth: np.ndarray, scores: dict[str, np.ndarray], styles: dict[str, dict[str, Any]] | None = None
) -> None:
    """Draw ROC curves; false alarms on a logarithmic axis, as a detector works where they are few.

    With ``styles``, those of the lines by their titles, there is no legend.
    """
    axes.set(box_aspect=1, ylim=(0, 1.02), xlabel="False positive rate", ylabel="True positive rate")
    axes.grid(True, which="major", color="0.88", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if not has_both_classes(truth):
        axes.text(0.5, 0.5, "the truth lacks a class", ha="center", transform=axes.transAxes, color="0.4")
        return
    axes.set_xscale("log")
    floor = 1.0 / int((~as_truth(truth)).sum())  # one false alarm
    style_of = line_styles(list(scores)) if styles is None else styles
    for title, score in scores.items():
        if auc(score, truth, np.isnan(score)) is None:
            continue
        false_positive, true_positive = roc(score, truth, np.isnan(score))
        rates = np.maximum(false_positive, floor)
        axes.step(rates, true_positive, where="post", label=plain(title), **{"linewidth": 1.5, **style_of[title]})
    chance = np.geomspace(floor, 1, 100)
    axes.plot(chance, chance, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_xlim(floor, 1)
    axes.xaxis.set_minor_locator(NullLocator())  # minor ticks, and powers of ten as formulas, take as long as a map
    axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    if len(scores) > 1 and styles is None:
        axes.legend(fontsize=7, loc="lower right", frameon=False)


def critical_difference_figure(ranks: Ranks, path: str | Path) -> Path:
    """Draw mean ranks, best first, with bars one critical difference of Nemenyi's test long; returns the path.

    Two methods differ by more than chance where their bars do not overlap. It is as wide as a column of a paper, 3.5
    inches.
    """
    k, half = len(ranks.names), ranks.critical_difference / 2
    row = 0.16  # inches
    figure = Figure(figsize=(3.5, row * k + 0.75), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(ranks.mean_ranks[0] - half, ranks.mean_ranks[0] + half, color="0.93", linewidth=0)
    places = range(k)
    axes.hlines(places, ranks.mean_ranks - half, ranks.mean_ranks + half, color=COLOURS[2], linewidth=1.6)
    axes.plot(ranks.mean_ranks, places, "o", color="black", markersize=3)
    axes.set(ylim=(k - 0.4, -0.6), xlim=(min(1, ranks.mean_ranks[0] - half) - 0.2, None))
    axes.set_yticks(places, [plain(shortened(name, 24)) for name in ranks.names], fontsize=7)
    values = axes.secondary_yaxis("right")
    values.set_yticks(places, [f"{rank:.2f}" for rank in ranks.mean_ranks], fontsize=7)
    values.tick_params(length=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.tick_params(axis="x", labelsize=6)
    axes.tick_params(axis="y", length=0)
    for spine in (*axes.spines.values(), *values.spines.values()):
        spine.set_visible(spine is axes.spines["bottom"])
    axes.set_xlabel(
        f"mean rank, 1 is best; bars that do not overlap: p < {ranks.level:g} (Nemenyi)\n"
        f"critical difference {ranks.critical_difference:.2f}; of no difference at all, p = {ranks.p:.2g} (Friedman)",
        fontsize=6,
    )
    return save_figure(figure, path, 300)


def score_ranks(score: np.ndarray) -> np.ndarray:
    """Share of the scored pixels that score lower, in [0, 1); NaN where there is no score."""
    from scipy.stats import rankdata  # half a second, which one scene's figure does not need

    return (rankdata(score, nan_policy="omit").reshape(score.shape) - 1) / np.isfinite(score).sum()


# few pixels matter: half the colours go to the last one in ten, a third to the last one in a hundred
RANK_NORM = FuncNorm((lambda r: -np.log10(1 - np.clip(r, 0.5, 0.999)), lambda v: 1 - 10**-v), vmin=0.5, vmax=0.999)
