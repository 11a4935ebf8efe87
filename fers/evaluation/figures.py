"""Pictures of results: what the scene looks like, where the detector sees anomalies, where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator
from matplotlib.transforms import blended_transform_factory

from fers.evaluation.metrics import auc, has_both_classes, rank, roc
from fers.scenes.scene import Scene
from fers.util.files import atomic_path

RGB_NM = (640.0, 550.0, 470.0)
_FULL_RANGE_NM = (400.0, 2500.0)  # assumed of a file without wavelengths: AVIRIS and its kin
_VNIR_RANGE_NM = (430.0, 860.0)  # assumed of one with too few bands for that: ROSIS and its kin
_VNIR_BANDS = 128
COLOURS = (
    "#000000",
    "#e69f00",
    "#0072b2",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
)  # told apart by all (Okabe, Ito)
_DASHES = ("-", "--", "-.")


def rgb_bands(scene: Scene) -> tuple[int, int, int]:
    """The bands nearest to red, green and blue (640, 550, 470 nm).

    Where the file has no wavelengths they are assumed to be spread evenly, over 400-2500 nm for more than 128 bands,
    over 430-860 nm for fewer.
    """
    wavelengths = scene.wavelengths
    if wavelengths is None:
        ends = _FULL_RANGE_NM if scene.bands > _VNIR_BANDS else _VNIR_RANGE_NM
        wavelengths = np.linspace(*ends, scene.bands)
    red, green, blue = (int(np.abs(wavelengths - target).argmin()) for target in RGB_NM)
    return red, green, blue


def false_colour(scene: Scene) -> np.ndarray:
    """``(H, W, 3)`` in [0, 1]: three bands, each stretched from its 2nd to its 98th percentile."""
    channels = []
    for band in rgb_bands(scene):
        values = np.asarray(scene.cube[:, :, band], dtype=np.float64)
        low, high = np.nanpercentile(values, [2, 98])
        channels.append(np.clip((values - low) / (high - low if high > low else 1.0), 0, 1))
    return np.nan_to_num(np.stack(channels, axis=2))


def scene_figure(
    scene: Scene, score: np.ndarray, mask: np.ndarray, path: str | Path, title: str, unit: str = "score"
) -> Path:
    """Draw one scene's result: false colour, score map, ground truth and ROC side by side.

    Args:
        scene: The scene, for its false colour.
        score: ``(H, W)`` score map. Its colours end at the 99.5th percentile, as a few pixels would take all the range.
        mask: ``(H, W)`` bool, True at anomalies.
        path: The file to write; its suffix chooses the format, such as .png or .pdf.
        title: What the map was made with, such as ``ABU: RX, fusion B, 200 bands``.
        unit: What the colour bar of the score map measures.

    Returns:
        ``path``.
    """
    height, width = mask.shape
    # Fixed places, in inches: a layout engine takes as long as all the drawing.
    side = 3.0
    tall = min(max(side * height / width, 1.8), 12.0)
    below, above, total = 0.55, 0.85, 4 * side + 2.5
    high = below + tall + above
    figure = Figure(figsize=(total, high))
    picture, scores, truth, curve = (
        figure.add_axes(((0.15 + i * (side + 0.15) + gap) / total, below / high, side / total, tall / high))
        for i, gap in enumerate((0.0, 0.0, 0.6, 1.1))
    )
    value = auc(score, mask)

    picture.imshow(false_colour(scene), interpolation="none")
    picture.set_title("False colour (bands {}, {}, {})".format(*(band + 1 for band in rgb_bands(scene))), fontsize=10)
    draw_scale(picture, width)
    low, top = np.percentile(score, [0.5, 99.5])
    image = scores.imshow(score, cmap="inferno", vmin=low, vmax=top if top > low else low + 1, interpolation="none")
    scores.set_title("Score map", fontsize=10)
    bar = figure.colorbar(image, cax=scores.inset_axes((1.02, 0.0, 0.04, 1.0)), extend="both")
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    truth.imshow(mask, cmap="gray", vmin=0, vmax=1, interpolation="none")
    truth.set_title(f"Ground truth ({int(mask.sum())} px)", fontsize=10)
    for axes in (picture, scores, truth):
        axes.set_xticks([])
        axes.set_yticks([])

    draw_roc(curve, mask, {title: score})
    curve.set_title("ROC: no AUC" if value is None else f"ROC, AUC = {value:.4f}", fontsize=10)
    note = f" ({'; '.join(scene.notes)})" if scene.notes else ""
    figure.text(0.15 / total, 1 - 0.1 / high, plain(f"{scene.name}{note}"), fontweight="bold", ha="left", va="top")
    figure.text(0.15 / total, 1 - 0.32 / high, plain(title), fontsize=8, color="0.3", ha="left", va="top")
    with atomic_path(path) as temporary:
        options: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if Path(path).suffix == ".png" else {}
        figure.savefig(temporary, dpi=130, **options)
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
    """A text as matplotlib draws it to the letter: names of files may hold mathtext, or bytes that are no text."""
    return text.replace("$", r"\$").encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True)
class Row:
    """One scene of ``comparison_figure``.

    Attributes:
        scene: For its false colour and name.
        mask: ``(H, W)`` bool, True at anomalies.
        scores: Score maps ``(H, W)`` by the title of their column.
    """

    scene: Scene
    mask: np.ndarray
    scores: dict[str, np.ndarray]


def comparison_figure(rows: Sequence[Row], path: str | Path, side: float = 2.2, font: float = 10) -> Path:
    """Draw scenes as rows: false colour, ground truth, and each method's score map with its AUC.

    Every map is stretched over its own ranks, from the median to the 99.9th percentile. Score maps of different methods
    have no common unit, so one colour bar says what the colours mean: the share of the scene's pixels below.

    Args:
        rows: The scenes; all have the same columns.
        path: The file to write; its suffix chooses the format, such as .png or .pdf.
        side: Inches of one map.
        font: Size of the titles in points; other text is a little smaller.

    Returns:
        ``path``.
    """
    titles = ["False colour", "Ground truth", *rows[0].scores]
    figure = Figure(figsize=(side * len(titles) + 0.6, side * len(rows) + 0.5), layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        image = draw_row(list(line), row, font)
        line[0].set_ylabel(plain(row.scene.name), fontsize=font)
    for line in axes[1:]:
        for panel in line:
            panel.set_title("")
    draw_rank_bar(figure, image, axes, 0.8 * font)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=160)
    return Path(path)


def draw_row(axes: list[Axes], row: Row, font: float = 10) -> ScalarMappable:
    """Draw a scene's false colour, ground truth and score maps on as many axes, each map with its title and AUC.

    Returns:
        What a colour bar takes.
    """
    axes[0].imshow(false_colour(row.scene))
    axes[0].set_title("False colour", fontsize=font)
    axes[1].imshow(row.mask, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes[1].set_title("Ground truth", fontsize=font)
    image = None
    for panel, (title, score) in zip(axes[2:], row.scores.items(), strict=True):
        image = panel.imshow(_ranks(score), cmap="viridis", norm=_RANK_NORM, interpolation="nearest")
        panel.set_title(plain(title), fontsize=font)
        value = auc(score, row.mask)
        panel.set_xlabel("no AUC" if value is None else f"AUC {value:.4f}", fontsize=0.9 * font)
    for panel in axes:
        panel.set_xticks([])
        panel.set_yticks([])
    assert image is not None
    return image


def draw_rank_bar(figure: Figure, image: ScalarMappable, axes: Any, font: float = 8) -> None:
    """Draw the colour bar of maps that ``draw_row`` drew, beside ``axes``."""
    bar = figure.colorbar(image, ax=axes, fraction=0.02, pad=0.01, ticks=[0.5, 0.9, 0.99, 0.999])
    bar.set_label("share of pixels that score lower", fontsize=font)
    bar.ax.set_yticklabels(["≤ 50 %", "90 %", "99 %", "99.9 %"], fontsize=font)


def draw_roc(axes: Axes, mask: np.ndarray, scores: dict[str, np.ndarray]) -> None:
    """Draw ROC curves; false alarms on a logarithmic axis, as a detector works where they are few."""
    axes.set_box_aspect(1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("False positive rate")
    axes.set_ylabel("True positive rate")
    axes.grid(True, which="major", color="0.88", linewidth=0.6)
    for spine in ("top", "right"):
        axes.spines[spine].set_visible(False)
    if not has_both_classes(mask):
        axes.text(0.5, 0.5, "the mask lacks a class", ha="center", transform=axes.transAxes, color="0.4")
        return
    axes.set_xscale("log")
    floor = 1.0 / int((~mask).sum())  # one false alarm
    for index, (title, score) in enumerate(scores.items()):
        false_positive, true_positive = roc(score, mask)
        colour = COLOURS[index % len(COLOURS)]
        style = _DASHES[index // len(COLOURS) % len(_DASHES)]
        axes.step(
            np.maximum(false_positive, floor),
            true_positive,
            where="post",
            color=colour,
            ls=style,
            lw=1.5,
            label=plain(title),
        )
    chance = np.geomspace(floor, 1, 100)
    axes.plot(chance, chance, color="0.6", linewidth=0.8, linestyle=":")
    axes.set_xlim(floor, 1)
    axes.xaxis.set_minor_locator(NullLocator())  # minor ticks, and powers of ten as formulas, take as long as a map
    axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    if len(scores) > 1:
        axes.legend(fontsize=7, loc="lower right", frameon=False)


def _ranks(score: np.ndarray) -> np.ndarray:
    """The share of the scene's pixels that score lower, in [0, 1)."""
    return (rank(score) - 1) / score.size


# few pixels matter: half the colours go to the last one in ten, a third to the last one in a hundred
_RANK_NORM = FuncNorm((lambda r: -np.log10(1 - np.clip(r, 0.5, 0.999)), lambda v: 1 - 10**-v), vmin=0.5, vmax=0.999)
