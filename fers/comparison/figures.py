"""Figures of a comparison, as papers print them: each as PNG and PDF, as wide as a column (3.5 inches).

Of each scene: ROC curves, the 3-D ROC curve with its three projections, box plots of the scores, and the score maps with
the truth outlined. Of all scenes: AUC and average precision against time, and mean ranks. Colours are those of Okabe and
Ito, told apart by all. With more than seven detectors, curves of the best seven by mean rank, RX among them, are coloured
and the others grey. Of several seeds the first is drawn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullLocator
from mpl_toolkits.mplot3d.axes3d import Axes3D

from fers.comparison.compared import Compared, ComparedScene
from fers.comparison.summary import reference_label, scene_values, standing, summary
from fers.evaluation.figures import (
    COLOURS,
    RANK_NORM,
    critical_difference_figure,
    draw_roc,
    line_styles,
    plain,
    save_figure,
    score_ranks,
    shortened,
)
from fers.evaluation.metrics import MEASURES, auc, roc_3d_curve
from fers.evaluation.statistics import rank_methods

WIDTH = 3.5  # inches: a column of a paper
_FONTS: Any = {  # Matplotlib's parameters
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,  # text stays text
}
_ANOMALY, _BACKGROUND = COLOURS[4], COLOURS[2]
_OTHERS: dict[str, Any] = {"color": "0.75", "linestyle": "-", "linewidth": 0.6, "zorder": 1}
_LEFT_OUT = 0.1  # share of the pixels that a box leaves out at each end
_MOST_SCENES = 20  # that are drawn unless asked for: a scene takes some seconds
_MAPS_A_LINE = 4  # of maps
Maps = dict[str, np.ndarray]
Styles = dict[str, dict[str, Any]]


def write_figures(result: Compared, folder: str | Path, scenes: Sequence[str] | None = None) -> list[Path]:
    """Draw every figure that the result has something for into a folder; returns the paths of all files.

    Args:
        result: The comparison.
        folder: Where the files go.
        scenes: The scenes that have figures of their own; by default the first 20.
    """
    folder = Path(folder)
    chosen = list(result.scenes)[:_MOST_SCENES] if scenes is None else scenes
    maps = {name: first_maps(result, name) for name in chosen}
    styles = _styles(result)
    drawn: dict[str, Callable[[], Figure]] = {}
    for name in chosen:
        scene = result.scenes[name]
        stem = re.sub(r"[^\w.-]", "-", name)
        counted = {label: score for label, score in maps[name].items() if _has_auc(score, scene)}
        if maps[name]:
            drawn[f"maps_{stem}"] = partial(map_figure, scene, maps[name])
        if counted:
            drawn[f"roc_{stem}"] = partial(roc_figure, scene, counted, styles)
            drawn[f"roc3d_{stem}"] = partial(roc_3d_figure, scene, counted, styles)
            drawn[f"boxes_{stem}"] = partial(box_figure, scene, counted)
    if scene_values(result, "seconds").notna().any(axis=None):
        drawn["times"] = partial(time_figure, result)
    paths = []
    with mpl.rc_context(_FONTS):
        for name, draw in drawn.items():
            figure = draw()
            paths += [save_figure(figure, folder / f"{name}.{suffix}", 300) for suffix in ("png", "pdf")]
        paths += _rank_figures(result, folder)
    return paths


def first_maps(result: Compared, scene: str) -> Maps:
    """Score maps of a scene by label, in the order of the labels; of several seeds the first."""
    labels = dict.fromkeys(row["label"] for row in result.rows)
    seeds = {label: [seed for of, name, seed in result.maps if (of, name) == (label, scene)] for label in labels}
    return {label: result.maps[label, scene, min(found)] for label, found in seeds.items() if found}


def roc_figure(scene: ComparedScene, maps: Maps, styles: Styles) -> Figure:
    """Draw the ROC curves of a scene over a logarithmic axis of false alarms, with AUC in the legend."""
    figure = Figure(figsize=(WIDTH, 2.5 + _legend_height(styles, maps)), layout="constrained")
    axes = figure.subplots()
    draw_roc(axes, _truth(scene), _drawn_last(maps, styles), styles)
    axes.set(box_aspect=0.62, xlabel="false-alarm probability Pf", ylabel="detection probability Pd")
    axes.set_title(plain(scene.name))
    areas = {label: auc(score, scene.truth, np.isnan(score)) for label, score in maps.items()}
    _legend(figure, maps, styles, {label: f"  {area:.4f}" for label, area in areas.items()})
    return figure


def roc_3d_figure(scene: ComparedScene, maps: Maps, styles: Styles) -> Figure:
    """Draw the 3-D ROC curves of a scene, Pd over Pf and the threshold tau, and their three projections."""
    top, low, left, step = 2.5, 0.88, 0.3, 1.1  # inches: the curve in space, its projections and where they stand
    legend = _legend_height(styles, maps)
    height = top + low + 0.5 + legend
    figure = Figure(figsize=(WIDTH, height))
    space = figure.add_axes((0.1, (height - top) / height, 0.8, top / height), projection="3d")
    assert isinstance(space, Axes3D)
    flat = [
        figure.add_axes(((left + i * step) / WIDTH, (legend + 0.32) / height, low / WIDTH, low / height))
        for i in range(3)
    ]
    for label, score in _drawn_last(maps, styles).items():
        tau, pf, pd = _thinned(*roc_3d_curve(score, scene.truth, np.isnan(score)))
        style = {"linewidth": 1.0, **styles[label]}
        space.plot(pf, tau, pd, **style)
        flat[0].step(pf, pd, where="post", **style)
        for axes, share in ((flat[1], pd), (flat[2], pf)):
            axes.step(tau, share, where="post", **style)
    limits = {"xlim": (0, 1), "ylim": (0, 1)}
    space.set(**limits, zlim=(0, 1), xlabel="Pf", ylabel=r"$\tau$", zlabel="Pd")
    space.tick_params(pad=-3, labelsize=6)
    for axis in (space.xaxis, space.yaxis, space.zaxis):
        axis.labelpad = -9
        axis.set_ticks([0, 0.5, 1], ["0", "0.5", "1"])
        axis.set_pane_color((1, 1, 1, 0))
    space.view_init(elev=24, azim=-58)
    space.set_box_aspect((1, 1, 0.8), zoom=0.98)
    space.text2D(0.5, 0.97, plain(scene.name), transform=space.transAxes, ha="center", va="top", fontsize=7)
    for axes, (x, y) in zip(flat, (("Pf", "Pd"), (r"$\tau$", "Pd"), (r"$\tau$", "Pf")), strict=True):
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.set_xticklabels(["0", "0.5", "1"])
        axes.set_yticklabels(["0", "0.5", "1"] if axes is flat[0] else [])
        axes.set_title(f"{y} over {x}", pad=3)
        axes.set_xlabel(x, labelpad=1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=2)
    _legend(figure, maps, styles)
    return figure


def box_figure(scene: ComparedScene, maps: Maps) -> Figure:
    """Draw the scores of anomalies and background, scaled to [0, 1], as boxes; at the right, how far these are apart.

    A box is from the 10 % to the 90 % quantile, its line the median, its whiskers go to the extremes: no outliers are
    drawn. The gap is the anomalies' 10 % quantile less the background's 90 % quantile.
    """
    row = 0.26
    figure = Figure(figsize=(WIDTH, row * len(maps) + 1.05), layout="constrained")
    axes = figure.subplots()
    gaps = []
    for place, score in enumerate(maps.values()):
        boxes = separability(score, _truth(scene))
        gaps.append(boxes[0]["q1"] - boxes[1]["q3"])
        for box, colour, shift in zip(boxes, (_ANOMALY, _BACKGROUND), (-0.19, 0.19), strict=True):
            axes.bxp(
                [box],
                positions=[place + shift],
                widths=0.32,
                orientation="horizontal",
                showfliers=False,
                patch_artist=True,
                boxprops={"facecolor": colour, "edgecolor": colour, "linewidth": 0.6},
                medianprops={"color": "white", "linewidth": 1.2},
                whiskerprops={"color": colour, "linewidth": 0.8},
                capprops={"color": colour, "linewidth": 0.8},
                manage_ticks=False,
            )
    axes.set(xlim=(-0.02, 1.02), ylim=(len(maps) - 0.5, -0.5), xlabel="score, scaled to [0, 1] on each map")
    axes.set_yticks(range(len(maps)), [plain(shortened(label, 24)) for label in maps])
    gap_axis = axes.secondary_yaxis("right")
    gap_axis.set_yticks(range(len(maps)), [f"{round(gap, 2) + 0.0:+.2f}" for gap in gaps])  # no minus before zero
    gap_axis.tick_params(length=0)
    gap_axis.set_ylabel("gap")
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_title(plain(scene.name))
    patches = [Patch(color=_ANOMALY, label="anomalies"), Patch(color=_BACKGROUND, label="background")]
    title = "box: 10 to 90 %; line: median; whiskers: extremes\ngap: anomalies' 10 % less background's 90 %"
    figure.legend(handles=patches, loc="outside lower center", ncols=2, frameon=False, title=title, title_fontsize=6)
    return figure


def separability(score: np.ndarray, truth: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Boxes of anomalies and of background, as ``Axes.bxp`` takes them: scores scaled to [0, 1] by the map's extremes.

    ``q1`` and ``q3`` are the 10 % and the 90 % quantile, ``whislo`` and ``whishi`` the extremes.

    Example:
        >>> score = np.array([[0, 1, 1, 2, 3], [5, 2, 6, 8, 10.0]])
        >>> anomalies, background = separability(score, np.array([[0] * 5, [0, 1, 1, 1, 1]], bool))
        >>> [round(float(anomalies[key]), 2) for key in ("q1", "med", "q3")], round(float(background["q3"]), 2)
        ([0.32, 0.7, 0.94], 0.4)
    """
    low, high = np.nanmin(score), np.nanmax(score)
    scaled = (score - low) / (high - low) if high > low else np.zeros_like(score)
    boxes = []
    for of_class in (truth, ~truth):
        values = scaled[of_class & ~np.isnan(score)]
        ends = np.quantile(values, [0, _LEFT_OUT, 0.5, 1 - _LEFT_OUT, 1])
        boxes.append(dict(zip(("whislo", "q1", "med", "q3", "whishi"), ends, strict=True)))
    return boxes[0], boxes[1]


def map_figure(scene: ComparedScene, maps: Maps) -> Figure:
    """Draw a scene's quick look and its score maps, the truth outlined, with their AUC; colours show ranks."""
    truth = _truth(scene)
    panels: list[tuple[str, np.ndarray | None]] = [("truth", None), *maps.items()]
    if scene.picture is not None:
        panels.insert(0, ("true colour", None))
    columns = min(_MAPS_A_LINE, len(panels))
    lines = -(-len(panels) // columns)
    gap, text, foot = 0.04, 0.27, 0.36  # inches: between maps, for the texts of each, for the colour bar
    side = (WIDTH - gap * (columns + 1)) / columns
    tall = min(side * truth.shape[0] / truth.shape[1], 3 * side)
    height = lines * (tall + text) + foot
    figure = Figure(figsize=(WIDTH, height))
    places = [
        ((gap + i % columns * (side + gap)) / WIDTH, 1 - (i // columns * (tall + text) + 0.13 + tall) / height)
        for i in range(len(panels))
    ]
    image = None
    for place, (title, score) in zip(places, panels, strict=True):
        axes = figure.add_axes((*place, side / WIDTH, tall / height))
        below = ""
        if score is not None:
            axes.set_facecolor("0.6")
            image = axes.imshow(score_ranks(score), cmap="viridis", norm=RANK_NORM, interpolation="nearest")
            value = auc(score, truth, np.isnan(score))
            below = "no AUC" if value is None else f"{value:.4f}"
        elif title == "truth":
            axes.imshow(truth, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        else:
            assert scene.picture is not None
            axes.imshow(scene.picture, interpolation="nearest")
        if title != "truth" and truth.any() and not truth.all():
            axes.contour(truth, levels=[0.5], colors="#ff4fd8" if score is None else "white", linewidths=0.35)
        axes.set_title(plain(shortened(title, 17)), fontsize=6, pad=2)
        axes.set_xlabel(below, fontsize=5.5, labelpad=1.5)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_linewidth(0.4)
    if image is not None:
        bar_axes = figure.add_axes((0.06, 0.27 / height, 0.88, 0.06 / height))
        bar = figure.colorbar(image, cax=bar_axes, orientation="horizontal", ticks=[0.5, 0.9, 0.99, 0.999])
        bar.ax.set_xticklabels(["≤ 50 %", "90 %", "99 %", "99.9 %"], fontsize=5.5)
        bar.ax.tick_params(length=1.5, pad=1)
        text_below = f"{plain(scene.name)}: share of pixels that score lower; AUC below each map"
        figure.text(0.5, 0.02 / height, text_below, fontsize=6, ha="center", va="bottom")
    return figure


def time_figure(result: Compared) -> Figure:
    """Draw mean AUC and mean average precision against mean seconds a scene, on a logarithmic axis."""
    table = summary(result).dropna(subset=["auc", "seconds"])
    numbered = len(table) > 6
    key_lines = -(-len(table) // 3) if numbered else 0
    figure = Figure(figsize=(WIDTH, 3.9 + 0.115 * key_lines))
    below = (0.42 + 0.115 * key_lines) / figure.get_figheight()
    above = 0.06 / figure.get_figheight()
    half = (1 - below - above - 0.02) / 2
    for index, key in enumerate(("auc", "ap")):
        axes = figure.add_axes((0.14, below + (1 - index) * (half + 0.02), 0.83, half))
        axes.set_xscale("log")
        axes.scatter(table["seconds"], table[key], s=9, color=COLOURS[2], linewidths=0, zorder=3)
        axes.set_ylabel(f"{MEASURES[key].title}, mean", labelpad=2)
        axes.margins(0.12, 0.14)
        axes.grid(True, color="0.92", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if np.log10(table["seconds"].max() / table["seconds"].min()) < 2:
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.tick_params(axis="x", labelbottom=index == 1)
        texts = [str(i + 1) if numbered else plain(shortened(label, 24)) for i, label in enumerate(table["label"])]
        _place_labels(figure, axes, table["seconds"].to_numpy(), table[key].to_numpy(), texts)
    loaded = ", taken under other load" if result.provenance.get("loaded") else ""
    axes.set_xlabel(f"seconds a scene, mean{loaded}", labelpad=2)
    for i, label in enumerate(table["label"]) if numbered else ():
        column, line = divmod(i, key_lines)
        y = (0.115 * (key_lines - 1 - line) + 0.04) / figure.get_figheight()
        figure.text(
            0.03 + column * 0.325, y, f"{i + 1:\u2007>2}  {plain(shortened(label, 18))}", fontsize=6, va="bottom"
        )
    return figure


def _rank_figures(result: Compared, folder: Path) -> list[Path]:
    """Mean ranks by AUC of the labels that have every scene; nothing for fewer than two labels or scenes."""
    values = scene_values(result, "auc")
    complete = values.loc[:, values.notna().any()].dropna()
    if min(complete.shape) < 2:
        return []
    ranks = rank_methods({str(label): row.to_numpy() for label, row in complete.iterrows()})
    return [critical_difference_figure(ranks, folder / f"ranks.{suffix}") for suffix in ("png", "pdf")]


def _styles(result: Compared) -> Styles:
    """Line of each label: the best seven by mean rank coloured, RX among them, the others grey."""
    table = standing(result).sort_values(["rank", "mean"], ascending=[True, False], kind="stable")
    labels = list(table["label"])
    first = labels[: len(COLOURS)]
    reference = reference_label(result)
    if reference is not None and reference not in first:
        first[-1] = reference
    return {label: dict(_OTHERS) for label in labels} | {
        label: {**style, "zorder": 2} for label, style in line_styles(first).items()
    }


def _drawn_last(maps: Maps, styles: Styles) -> Maps:
    """Maps in an order that draws the coloured ones over the grey ones."""
    return dict(sorted(maps.items(), key=lambda pair: styles[pair[0]]["zorder"]))


def _legend_names(maps: Maps, styles: Styles) -> tuple[list[str], int]:
    """Labels that the legend names, in their order of merit, and how many others there are."""
    named = [label for label, style in styles.items() if label in maps and style["zorder"] == 2]
    return named, len(maps) - len(named)


def _legend_height(styles: Styles, maps: Maps) -> float:
    named, others = _legend_names(maps, styles)
    return 0.12 * -(-(len(named) + (others > 0)) // 2) + 0.1


def _legend(figure: Figure, maps: Maps, styles: Styles, after: dict[str, str] | None = None) -> None:
    """Draw the legend below the axes, two columns."""
    named, others = _legend_names(maps, styles)
    texts = [plain(shortened(label, 26)) + (after or {}).get(label, "") for label in named]
    kinds: list[dict[str, Any]] = [{"linewidth": 1.2, **styles[label]} for label in named]
    if others:
        texts.append(f"{others} others" if others > 1 else "1 other")
        kinds.append(_OTHERS)
    place: Any = "outside lower center" if figure.get_layout_engine() is not None else "lower center"
    lines = [Line2D([], [], **kind) for kind in kinds]
    figure.legend(
        handles=lines,
        labels=texts,
        loc=place,
        ncols=2,
        frameon=False,
        handlelength=1.8,
        labelspacing=0.25,
        borderpad=0.2,
    )


def _place_labels(figure: Figure, axes: Axes, x: np.ndarray, y: np.ndarray, texts: Sequence[str]) -> None:
    """Write a text beside each point where it meets neither a point nor another text; a line leads to one far off."""
    axes.autoscale_view()  # the transform does not know the limits before
    points = axes.transData.transform(np.column_stack([x, y]))
    scale = figure.dpi / 72
    taken = [np.array([px - 2.2, py - 2.2, px + 2.2, py + 2.2]) for px, py in points / scale]
    frame = axes.get_window_extent().bounds
    left, bottom = frame[0] / scale, frame[1] / scale
    inside = np.array([left, bottom, left + frame[2] / scale, bottom + frame[3] / scale])
    for (px, py), at_x, at_y, text in zip(points / scale, x, y, texts, strict=True):
        half = np.array([1.75 * len(text.replace("\\", "")) + 0.8, 3.2])  # points, of text of 6 points
        best: tuple[float, np.ndarray, float] | None = None
        for distance in (0.0, 4.0, 9.0, 15.0, 22.0, 30.0):
            for angle in np.arange(0, 2 * np.pi, np.pi / 6):
                away = np.array([np.cos(angle), np.sin(angle)])
                centre = np.array([px, py]) + away * (half + 2.6 + distance)
                box = np.concatenate([centre - half, centre + half])
                cost = sum(_overlap(box, other) for other in taken) + 4 * _outside(box, inside) + 0.25 * distance
                if best is None or cost < best[0] - 1e-9:
                    best = cost, box, distance
        assert best is not None
        _, box, distance = best
        taken.append(box)
        away = (box[:2] + box[2:]) / 2 - (px, py)
        line = {"arrowstyle": "-", "color": "0.6", "linewidth": 0.4, "shrinkA": 1, "shrinkB": 1}
        axes.annotate(
            text,
            (at_x, at_y),
            away,
            textcoords="offset points",
            fontsize=6,
            ha="center",
            va="center",
            arrowprops=line if distance > 4 else None,
        )


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return float(np.prod(sides)) if (sides > 0).all() else 0.0


def _outside(box: np.ndarray, frame: np.ndarray) -> float:
    return float(np.maximum(frame[:2] - box[:2], 0).sum() + np.maximum(box[2:] - frame[2:], 0).sum())


def _thinned(tau: np.ndarray, pf: np.ndarray, pd: np.ndarray, steps: int = 250) -> tuple[np.ndarray, ...]:
    """Corners of a 3-D ROC curve that can be told apart in print: each at another of ``steps`` places of an axis."""
    places = np.floor(np.stack([tau, pf, pd]) * steps)
    kept = np.append(True, (np.diff(places, axis=1) != 0).any(0))
    kept[-1] = True
    start = np.array([[tau[0]], [0.0], [0.0]])
    return tuple(np.concatenate([start, np.stack([tau, pf, pd])[:, kept]], axis=1))


def _truth(scene: ComparedScene) -> np.ndarray:
    return np.asarray(scene.truth, bool)


def _has_auc(score: np.ndarray, scene: ComparedScene) -> bool:
    return auc(score, scene.truth, np.isnan(score)) is not None
