"""One self-contained HTML page about a folder of results: table, maps, ROC and training curves.

    python -m evaluation.report results/demo --out results/demo/report.html

FOLDER holds the result folders of ``test.py`` or ``FERS_ABU/test.py`` (each with its results.json), and perhaps training
runs (each with its log.jsonl), at any depth. The page has its pictures inside it and loads nothing: it can be sent by
mail and opened from a disk.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from data import SceneError, commandline
from data.benchmarks import BENCHMARKS
from data.files import atomic_path
from data.scene import LabelledScene, Scene
from detection.views import VIEWS
from detectors import DETECTORS
from evaluation.figures import false_colour
from evaluation.metrics import auc, has_both_classes, roc

_COLOURS = ("#4d4d4d", "#8c6bb1", "#2166ac", "#1b9e77", "#b2182b", "#e08214", "#7f3b08", "#542788")
_PANELS_IN_A_ROW = 5
_LOG_FROM = 100  # curves that span more than this factor are drawn on a logarithmic axis

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #1c1c1e; background: #fff;
       max-width: 1180px; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid #e3e3e6; }
h3 { font-size: 1rem; margin: 1.8rem 0 .4rem; }
.lead { color: #555; margin: 0 0 1.2rem; max-width: 46rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
th, td { padding: .34rem .9rem .34rem 0; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-right: 1.6rem; }
thead th { border-bottom: 2px solid #1c1c1e; vertical-align: bottom; }
tbody tr:hover { background: #f6f6f8; }
tfoot td { border-top: 1px solid #1c1c1e; font-weight: 600; }
tfoot tr + tr td { border-top: 0; font-weight: 400; color: #555; padding-top: 0; }
.best { font-weight: 700; color: #b2182b; }
ul.caveats { padding-left: 1.2rem; color: #7a4b00; }
figure { margin: 0 0 1.2rem; }
img { max-width: 100%; height: auto; display: block; }
details { margin: .5rem 0; } summary { cursor: pointer; }
pre { background: #f6f6f8; padding: .8rem 1rem; overflow-x: auto; font-size: .82rem; line-height: 1.45; border-radius: 6px; }
footer { margin-top: 3rem; color: #777; font-size: .85rem; }
"""


class ReportError(ValueError):
    """There is nothing to report on, or it does not belong together."""


@dataclass(frozen=True)
class Run:
    """One finished result folder.

    Attributes:
        folder: Where it is.
        results: Its results.json.
    """

    folder: Path
    results: dict

    @property
    def title(self) -> str:
        """Column head, such as ``RX, fusion B``."""
        return self.results["config"]["title"]

    @property
    def order(self) -> tuple:
        """Columns go from the plain cube to what is added to it, detector by detector."""
        config = self.results["config"]
        return (
            list(DETECTORS).index(config["detect"]) if config["detect"] in DETECTORS else 99,
            list(VIEWS).index(config["view"]),
            self.title,
        )


def find_runs(folder: str | Path) -> list[Run]:
    """The finished results below a folder, in the order of the columns.

    Raises:
        ReportError: There are none, or they are of different data.
    """
    runs = []
    for path in sorted(Path(folder).rglob("results.json")):
        results = json.loads(path.read_text())
        if results["complete"]:
            runs.append(Run(path.parent, results))
    if not runs:
        raise ReportError(f"{folder}: no finished results.json here. Make one with test.py --save_dir {folder}/NAME.")
    for key in ("data_path", "bands", "start_band"):
        if len({str(run.results["config"][key]) for run in runs}) > 1:
            raise ReportError(f"{folder}: the results differ in {key} and cannot stand in one table. Keep them apart.")
    return sorted(runs, key=lambda run: run.order)


def build_report(folder: str | Path, out: str | Path, title: str = "", note: str = "") -> Path:
    """Write the page.

    Args:
        folder: Where the results and training runs are, at any depth.
        out: The .html file.
        title: Heading; by default the name of the dataset.
        note: A paragraph under the heading: what was done, and what it does and does not show.

    Returns:
        ``out``.

    Raises:
        ReportError: There are no finished results, or they are of different data.
        SceneError: A scene of the results is no longer readable.
    """
    runs = find_runs(folder)
    config = runs[0].results["config"]
    title = title or f"Anomaly detection: {config['dataset']}, {config['bands']} bands"
    scenes = _scenes(config, runs)
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f'<p class="lead">{html.escape(note)}</p>' if note else "",
        "<h2>Area under the ROC curve</h2>",
        _table(runs, [scene.name for scene in scenes]),
        _caveats(runs),
    ]
    if curves := _training(Path(folder)):
        parts += ["<h2>Training</h2>", *curves]
    parts.append("<h2>Scenes</h2>")
    for labelled in scenes:
        parts.append(_scene(labelled, runs))
    parts += ["<h2>Configuration</h2>", *(_configuration(run) for run in runs)]
    versions = ", ".join(f"{name} {version}" for name, version in config["versions"].items())
    parts.append(f"<footer>{html.escape(config['device_name'])}, {html.escape(versions)}</footer>")
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f"<body>\n{chr(10).join(filter(None, parts))}\n</body></html>\n"
    )
    with atomic_path(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(out)


def summary_lines(runs: list[Run]) -> list[str]:
    """The means of some runs as a table of text."""
    width = max(len(run.title) for run in runs) + 2
    lines = [f"{'setting':<{width}}{'mAUC':>8}{'scenes':>8}{'s/scene':>10}"]
    for run in runs:
        mean = "-" if run.results["mean_auc"] is None else f"{run.results['mean_auc']:.4f}"
        scenes = len(run.results["scenes"]) - len(run.results["scenes_without_auc"])
        lines.append(f"{run.title:<{width}}{mean:>8}{scenes:>8}{run.results['mean_seconds']:>10.3f}")
    return lines


def _scenes(config: dict, runs: list[Run]) -> list[LabelledScene]:
    """The scenes that every run has, as their dataset reads them."""
    common = [name for name in runs[0].results["scenes"] if all(name in run.results["scenes"] for run in runs)]
    if not common:
        raise ReportError("the results have no scene in common and cannot stand in one table.")
    benchmark = BENCHMARKS[config["benchmark"]]
    return benchmark.scenes(Path(config["data_path"]), None, ",".join(common))


def _table(runs: list[Run], names: list[str]) -> str:
    values = np.array([[run.results["scenes"][name]["auc"] for run in runs] for name in names], dtype=float)
    with_auc = ~np.isnan(values).any(axis=1)

    def row(name: str, numbers: np.ndarray) -> str:
        best = np.nanmax(numbers) if np.isfinite(numbers).any() else None
        cells = ["<td>-</td>" if np.isnan(v) else f"<td{best_class(v, best)}>{v:.4f}</td>" for v in numbers]
        return f"<tr><td>{html.escape(name)}</td>{''.join(cells)}</tr>"

    def best_class(value: float, best: float | None) -> str:
        return ' class="best"' if len(runs) > 1 and best is not None and round(value, 4) == round(best, 4) else ""

    head = "".join(f"<th>{html.escape(run.title)}</th>" for run in runs)
    body = "".join(row(name, numbers) for name, numbers in zip(names, values, strict=True))
    mean = row(f"mean of {with_auc.sum()}", values[with_auc].mean(axis=0)) if with_auc.any() else ""
    seconds = "".join(f"<td>{run.results['mean_seconds']:.3f} s</td>" for run in runs)
    return (
        f'<div class="scroll"><table id="auc"><thead><tr><th>scene</th>{head}</tr></thead><tbody>{body}</tbody>'
        f"<tfoot>{mean}<tr><td>time per scene</td>{seconds}</tr></tfoot></table></div>"
    )


def _caveats(runs: list[Run]) -> str:
    """Each mark once, with the settings it belongs to."""
    settings: dict[str, list[str]] = {}
    for run in runs:
        for caveat in run.results["caveats"]:
            settings.setdefault(caveat, []).append(run.title)
    lines = [
        f"<li>{html.escape(caveat)} ({html.escape('; '.join(titles))})</li>" for caveat, titles in settings.items()
    ]
    return f'<ul class="caveats">{"".join(lines)}</ul>' if lines else ""


def _scene(labelled: LabelledScene, runs: list[Run]) -> str:
    scene, mask = labelled.load()
    scores = {run.title: np.load(run.folder / "scores" / f"{labelled.name}.npy") for run in runs}
    notes = "; ".join(filter(None, [f"{int(mask.sum())} anomalous pixels of {mask.size}", *scene.notes]))
    picture = _img(_scene_figure(scene, mask, scores), f"{labelled.name}: false colour, ground truth, score maps, ROC")
    return (
        f"<h3>{html.escape(labelled.name)}</h3><figure>{picture}<figcaption>{html.escape(notes)}</figcaption></figure>"
    )


def _scene_figure(scene: Scene, mask: np.ndarray, scores: dict[str, np.ndarray]) -> Figure:
    """False colour and ground truth, one map for each run, and every run's ROC in one plot."""
    panels = 2 + len(scores) + 1
    rows = -(-panels // _PANELS_IN_A_ROW)
    columns = -(-panels // rows)
    figure = Figure(figsize=(12.4, (12.4 / columns + 0.15) * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in axes:
        panel.set_xticks([])
        panel.set_yticks([])
    axes[0].imshow(false_colour(scene))
    axes[0].set_title("False colour")
    axes[1].imshow(mask, cmap="gray", vmin=0, vmax=1)
    axes[1].set_title("Ground truth")
    curve = axes[panels - 1]
    for index, (title, score) in enumerate(scores.items()):
        low, high = np.percentile(score, [0.5, 99.5])
        axes[2 + index].imshow(score, cmap="inferno", vmin=low, vmax=high if high > low else low + 1)
        value = auc(score, mask)
        axes[2 + index].set_title(title + ("" if value is None else f": {value:.4f}"))
        if has_both_classes(mask):
            false_positive, true_positive = roc(score, mask)
            floor = 1 / int((~mask).sum())
            colour = _COLOURS[index % len(_COLOURS)]
            curve.step(
                np.maximum(false_positive, floor), true_positive, where="post", color=colour, label=title, lw=1.4
            )
            curve.set_xlim(floor, 1)
    curve.set_xscale("log")
    curve.set_box_aspect(1)
    curve.set_ylim(0, 1.02)
    curve.set_yticks([0, 0.5, 1])
    curve.grid(True, color="0.9", linewidth=0.6)
    curve.set_title("ROC")
    curve.set_xlabel("False positive rate")
    if has_both_classes(mask):
        curve.legend(fontsize=7, loc="lower right", frameon=False)
    for panel in axes[panels:]:
        panel.set_axis_off()
    return figure


def _training(folder: Path) -> list[str]:
    """A figure of loss curves for each training log below a folder."""
    parts = []
    for path in sorted(folder.rglob("log.jsonl")):
        entries = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        if not entries:
            continue
        name = str(path.parent.relative_to(folder))
        figure = Figure(figsize=(12.4, 3.0), layout="constrained")
        names = list(entries[0]["terms"])
        panels = figure.subplots(1, 1 + len(names))
        epochs = [entry["epoch"] for entry in entries]
        for panel, term in zip(panels, [None, *names], strict=True):
            train = [entry["loss"] if term is None else entry["terms"][term] for entry in entries]
            panel.plot(epochs, train, color=_COLOURS[2], marker="o", markersize=3, label="training")
            shown = list(train)
            if entries[0]["held_out"]:
                held = [e["held_out"]["loss"] if term is None else e["held_out"]["terms"][term] for e in entries]
                panel.plot(epochs, held, color=_COLOURS[4], marker="o", markersize=3, label="held out")
                shown += held
            if 0 < _LOG_FROM * min(shown) < max(shown):
                panel.set_yscale("log")
            panel.set_title("loss" if term is None else f"L_{term}")
            panel.set_xlabel("epoch")
            panel.xaxis.get_major_locator().set_params(integer=True)
            panel.grid(True, color="0.9", linewidth=0.6)
        panels[0].legend(fontsize=8, frameon=False)
        seconds = sum(entry["seconds"] for entry in entries)
        caption = (
            f"{len(entries)} epochs in {seconds:.0f} s, {entries[-1]['patches_per_second']:.1f} patches per second"
        )
        parts.append(
            f"<h3>{html.escape(name)}</h3><figure>{_img(figure, f'training curves of {name}')}"
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
    return parts


def _configuration(run: Run) -> str:
    text = json.dumps(run.results["config"], indent=2)
    return f"<details><summary>{html.escape(run.title)}</summary><pre>{html.escape(text)}</pre></details>"


def _img(figure: Figure, alt: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the results are")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the folder)")
    parser.add_argument("--title", default="", help="heading")
    parser.add_argument("--note", default="", help="a paragraph under the heading")
    options = parser.parse_args(arguments)
    out = options.out or options.folder / "report.html"

    def work() -> None:
        page = build_report(options.folder, out, options.title, options.note)
        for line in summary_lines(find_runs(options.folder)):
            print(line)
        print(page)

    return commandline.run(work, (ReportError, SceneError))


if __name__ == "__main__":
    sys.exit(main())
