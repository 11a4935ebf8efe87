"""The page of ``fers report``: table, maps, ROC and training curves of finished runs, with its pictures inside it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tqdm import tqdm

from fers.datasets.benchmarks import BENCHMARKS
from fers.evaluation.figures import COLOURS, SceneMaps, draw_rank_bar, draw_roc, draw_row
from fers.evaluation.metrics import MEASURES, SCENE_MEASURES
from fers.evaluation.results import ReportError, ResultSet, find_result_sets
from fers.evaluation.statistics import compare_methods, least_p, mean_interval
from fers.scenes.scene import LabelledScene
from fers.training.log import read_log
from fers.util.pictures import data_uri, write_page

_LOG_FROM = 100  # curves that span more than this factor are drawn on a logarithmic axis


def build_report(folder: str | Path, out: str | Path, title: str = "", note: str = "") -> Path:
    """Write the page of the finished results and training runs below a folder, with a heading and a note; returns ``out``.

    Raises:
        ReportError: There is nothing to report on, something is damaged, or it does not belong together.
        SceneError: A scene cannot be read any more.
    """
    folder, out = Path(folder), Path(out)
    sets = find_result_sets(folder)
    config = sets[0].results.config
    scenes = _common_scenes(sets)
    rows = [(s.name, [each.results.scenes[s.name]["auc"] for each in sets]) for s in scenes]
    complete = [(name, values) for name, values in rows if None not in values]
    columns = {each.label: [values[i] for _, values in complete] for i, each in enumerate(sets)}
    caveats = [caveat for each in sets for caveat in each.results.caveats]
    write_page(
        out,
        Path(__file__).with_name("page.html"),
        title=title or f"{config['dataset']}, {config['bands']} bands",
        note=note,
        sets=sets,
        rows=rows,
        counted=len(complete),
        means=[
            mean_interval(values, [name for name, _ in complete], bounds=MEASURES["auc"].bounds)
            for values in columns.values()
        ]
        if complete
        else [],
        beside={
            MEASURES[key].title: [np.mean([each.results.scenes[name][key] for name, _ in complete]) for each in sets]
            for key in (SCENE_MEASURES[1:] if complete else ())
        },
        comparisons=_comparisons(columns),
        caveats={caveat: [one.label for one in sets if caveat in one.results.caveats] for caveat in caveats},
        scenes=[_scene(s, sets) for s in tqdm(scenes, desc="scenes", unit="scene", leave=False, disable=None)],
        training=_training(folder),
        citations={each.label: each.results.citation for each in sets},
    )
    return out


def summary_lines(sets: list[ResultSet]) -> list[str]:
    """Table of text with the mean of each result and its interval."""
    width = max(len(each.label) for each in sets) + 2
    head = f"{'setting':<{width}}{'mAUC':>8}{'95 % interval':>20}{'AP':>8}{'Pd@0.001':>10}{'Pd@0.01':>9}"
    lines = [f"{head}{'scenes':>8}{'s/scene':>10}"]
    for each in sets:
        aucs = each.results.aucs
        mean = between = "-"
        if aucs:
            interval = mean_interval(list(aucs.values()), list(aucs), bounds=MEASURES["auc"].bounds)
            mean, between = f"{interval.mean:.4f}", str(interval)
        scored = [each.results.scenes[name] for name in aucs]
        ap, *pds = (f"{np.mean([one[key] for one in scored]):.4f}" if scored else "-" for key in SCENE_MEASURES[1:])
        numbers = f"{mean:>8}{between:>20}{ap:>8}{pds[0]:>10}{pds[1]:>9}"
        lines.append(f"{each.label:<{width}}{numbers}{len(aucs):>8}{each.results.mean_seconds:>10.3f}")
    return lines


def _common_scenes(sets: list[ResultSet]) -> list[LabelledScene]:
    """Scenes that every result has, as their dataset reads them."""
    common = [name for name in sets[0].results.scenes if all(name in each.results.scenes for each in sets)]
    if not common:
        raise ReportError("the results have no scene in common and cannot stand in one table.")
    config = sets[0].results.config
    place = Path(config["data_path"])
    return BENCHMARKS[config["benchmark"]].scenes(place, config.get("scene_sensor"), ",".join(common))


def _comparisons(columns: dict[str, list[float]]) -> list[str]:
    """Say in a sentence what the differences of the means are worth."""
    scenes = len(next(iter(columns.values())))
    if len(columns) < 2:
        return []
    pairs = len(columns) * (len(columns) - 1) // 2
    if least_p(scenes, pairs) >= 0.05:
        return [f"{scenes} scenes are too few to test {pairs} differences of columns: none can be significant."]
    sure = [c for c in compare_methods(columns) if c.p_holm < 0.05]
    told = "; ".join(f"{c.first} and {c.second}" for c in sure)
    return [f"Pairs that differ by more than chance (Wilcoxon over {scenes} scenes, Holm, 5 %): {told or 'none'}."]


def _scene(labelled: LabelledScene, sets: list[ResultSet]) -> dict[str, str]:
    scene, truth = labelled.load()
    row = SceneMaps(scene, truth, {each.label: each.score(labelled.name, truth) for each in sets})
    panels = 3 + len(sets)
    lines = -(-panels // 5)
    columns = -(-panels // lines)
    figure = Figure(figsize=(12.4, (12.4 / columns + 0.35) * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    draw_rank_bar(figure, draw_row(list(axes[: panels - 1]), row), axes)
    draw_roc(axes[panels - 1], truth, row.scores)
    for panel in axes[panels:]:
        panel.set_axis_off()
    notes = "; ".join([f"{int(truth.sum())} anomalous pixels of {truth.size}", *scene.notes])
    return {"name": labelled.name, "png": _png(figure), "caption": notes}


def _training(folder: Path) -> list[dict[str, str]]:
    """Loss curves of each training log below a folder."""
    found = []
    for path in sorted(folder.rglob("log.jsonl")):
        entries, _ = read_log(path)
        if not entries:
            continue
        names = list(entries[0]["terms"])
        figure = Figure(figsize=(12.4, 3.0), layout="constrained")
        panels = np.atleast_1d(figure.subplots(1, 1 + len(names)))
        for panel, term in zip(panels, [None, *names], strict=True):
            _loss_curves(panel, entries, term)
        panels[0].legend(fontsize=8, frameon=False)
        caption = f"{len(entries)} epochs in {sum(e['seconds'] for e in entries):.0f} s, {entries[-1]['patches_per_second']:.1f} patches per second"
        found.append({"name": str(path.parent.relative_to(folder)), "png": _png(figure), "caption": caption})
    return found


def _loss_curves(panel: Axes, entries: list[dict], term: str | None) -> None:
    """Training and held-out loss, or one of its terms, over epochs."""

    def values(losses: list[dict]) -> list[float]:
        return [entry["loss"] if term is None else entry["terms"][term] for entry in losses]

    shown = values(entries)
    epochs = [entry["epoch"] for entry in entries]
    panel.plot(epochs, shown, color=COLOURS[2], marker="o", markersize=3, label="training")
    if all(entry["held_out"] for entry in entries):
        held_out = values([entry["held_out"] for entry in entries])
        panel.plot(epochs, held_out, color=COLOURS[4], marker="o", markersize=3, label="held out")
        shown = shown + held_out
    if 0 < _LOG_FROM * min(shown) < max(shown):
        panel.set_yscale("log")
    panel.set(title="loss" if term is None else f"L_{term}", xlabel="epoch")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.grid(True, color="0.9", linewidth=0.6)


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return data_uri(buffer.getvalue(), "png")
