"""The tables and the picture of the documents: nothing between the markers is typed.

    python -m experiments.render            rewrite README.md and docs/*.md from CSVs
    python -m experiments.render --check    say which document differs from its data; exit code 2

In a document a table stands between ``<!-- table NAME: begin -->`` and ``<!-- table NAME: end -->``. NAME is a key of
``RENDERED``.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments import RESULTS, ROOT, evidence, performance, spatial_features
from experiments.coverage import coverage_table
from experiments.jobs import STAGE_FILES, Score, given, machine
from experiments.leaderboard import claims, kept, leaderboard, others, scene_by_scene
from experiments.objects import choices, difference, gains, study, yardstick
from experiments.plan import make_missing
from experiments.tables import ABU_BANDS, FIVE
from experiments.workspace import Workspace
from fers.comparison.beside import published_beside
from fers.datasets import abu as abu_scenes
from fers.detectors import DETECTORS, make_detector
from fers.detectors.base import takes_left_out
from fers.evaluation.figures import SceneMaps, draw_rank_bar, draw_row, line_styles, save_figure
from fers.evaluation.metrics import MEASURES, SCENE_MEASURES, roc
from fers.evaluation.published import published_aucs
from fers.evaluation.tables import markdown
from fers.networks.checkpoint import git_revision
from fers.scenes.normalise import normalise
from fers.scoring.pipeline import DetectConfig, Pipeline
from fers.util.commandline import run
from fers.util.errors import FersError
from fers.util.files import atomic_path, write_whole

RUNS = ROOT / "results" / "reproduce"
PICTURE = ROOT / "docs" / "picture.png"
IMAGENET = {"backbone": str(ROOT / "checkpoints" / "aviris_200_released" / "backbone.safetensors")}
# name in the table, arguments of DetectConfig, seeds, folder of weights
ABU_SETTINGS: list[tuple[str, dict, tuple[int, ...], str]] = [
    ("original", {"features": "original"}, (0,), ""),
    ("untrained control", {"features": "untrained", **IMAGENET}, (0, 1, 2), ""),
    ("untrained, random layer1", {"features": "untrained", "backbone": "random"}, (0, 1, 2), ""),
    ("own weights, random layer1", {"features": "spectral"}, (0,), "aviris_200"),
    ("own weights, ImageNet layer1", {"features": "spectral", **IMAGENET}, (0,), "aviris_200_imagenet"),
    ("released Spe-FEN", {"features": "spectral"}, (0,), "aviris_200_released"),
]
PICTURED: dict[str, dict] = {  # title of a map and its curve, arguments of DetectConfig
    "RX on the cube": {"features": "original"},
    "features, never trained": {"features": "untrained", "backbone": "random"},
    "features, trained here": {"features": "spectral"},
    "fusion D, never trained": {"features": "untrained", "backbone": "random", "fusion": "D"},
}
PICTURED_SCENE = "airport-2"  # whose maps are drawn; the curves are of every scene
FIRST_TABLE = {  # label in features.csv: name in the README's first table
    "RX": "RX on the cube",
    "RX untrained": "the paper's features, never trained",
    "RX spectral": "the paper's features, as its authors trained them<sup>1</sup>",
    "RX untrained-C": "fusion C, never trained",
    "RX untrained-D": "**fusion D**, never trained",
}
_MARKED = re.compile(r"(<!-- table (\S+): begin -->\n).*?(<!-- table \2: end -->)", re.DOTALL)


def abu_table(data: Path, device: str = "auto") -> Path:
    """Score the ABU scenes as far as weights are there, and write experiments/results/abu.csv; returns its path.

    Rows of settings that cannot be run here stay as an earlier run left them, if that was on a data set of this name.

    Raises:
        FersError: No setting could be run, or earlier rows are of another data set.
    """
    path = RESULTS / "abu.csv"
    earlier = _csv("abu", dtype=str, keep_default_na=False) if path.is_file() else pd.DataFrame({"setting": []})
    workspace = Workspace("ABU", data, RUNS, "all")
    rows: list[dict] = []
    for name, config, seeds, folder in ABU_SETTINGS:
        try:
            spe_fen = ROOT / "checkpoints" / folder / STAGE_FILES["stage1"]
            weights = given([spe_fen], workspace.folder / "weights") if folder else None
            jobs = [Score(workspace, name, ABU_BANDS, seed, config, weights) for seed in seeds]
            make_missing(jobs, device, RUNS / "log.txt")
            rows += [row for job in jobs for row in _abu_rows(job)]
        except FersError as error:
            kept = earlier[earlier.setting == name].to_dict("records")
            print(f"left out: {name}: {error}" + (f"\n  its {len(kept)} earlier rows stay" if kept else ""))
            rows += kept
    if not rows:
        raise FersError("abu: no setting could be run; see above.")
    if len({row["dataset"] for row in rows}) > 1:
        raise FersError(f"{path}: holds rows of another data set. Move it away, or run all settings again.")
    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n")
    return path


def _abu_rows(job: Score) -> Iterator[dict]:
    results = job.results()
    config = results["config"]
    weights = config["checkpoints"].values()
    for name, scene in results["scenes"].items():
        yield {
            "setting": job.name,
            **{key: config[key] for key in ("dataset", "data", "detect", "view", "bands", "seed")},
            "scene": name,
            **{key: "" if scene[key] is None else f"{scene[key]:.6f}" for key in SCENE_MEASURES},
            "seconds": f"{scene['seconds']:.4f}",
            "selection": "+".join(sorted({weight.get("selection", "untrained") for weight in weights})),
            "weights": "+".join(sorted({weight.get("sha256", "")[:8] for weight in weights} - {""})),
            "device": config["device"],
            "machine": machine(),
            "revision": git_revision()[:12],
            "date": time.strftime("%Y-%m-%d"),
        }


def draw_picture(data: Path) -> Path:
    """Draw docs/picture.png from a folder of the ABU scenes, with the weights that are shipped; returns its path.

    The maps of one scene stand beside the mean curve over all scenes, from one false alarm in 10,000 pixels on.
    """
    pipelines = {title: Pipeline(DetectConfig(ABU_BANDS, "aviris", **config)) for title, config in PICTURED.items()}
    rates = np.geomspace(1e-4, 1, 200)
    curves: dict[str, list[np.ndarray]] = {title: [] for title in PICTURED}
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    maps_side, curve_side = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.75, 1])[0]
    panels = maps_side.subplots(2, 3)
    scenes = abu_scenes.scenes(data, names="all")
    for labelled in scenes:
        scene, truth = labelled.load()
        h = normalise(scene, ABU_BANDS)
        maps = {title: pipeline.score(h) for title, pipeline in pipelines.items()}
        for title, score in maps.items():
            false, true = roc(score, truth)
            curves[title].append(true[np.searchsorted(false, rates, "right") - 1])
        if labelled.name == PICTURED_SCENE:
            shown = draw_row(list(panels.flat), SceneMaps(scene, truth, maps), 8.5)
    draw_rank_bar(maps_side, shown, panels, 7)
    axes = curve_side.subplots()
    for title, style in line_styles(list(PICTURED)).items():
        axes.plot(rates, np.mean(curves[title], axis=0), label=title, linewidth=1.6, **style)
    axes.set(xscale="log", xlim=(1e-4, 1), ylim=(0, 1.02))
    axes.set_title(f"Mean over ABU's {len(scenes)} scenes", fontsize=8.5)
    axes.set_xlabel("share of the background that is flagged", fontsize=8)
    axes.set_ylabel("share of the anomalies found", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(True, color="0.9", linewidth=0.6)
    curve_side.legend(loc="outside lower center", fontsize=7, frameon=False)
    return save_figure(figure, PICTURE, 150)


def _csv(name: str, **options) -> pd.DataFrame:
    path = RESULTS / f"{name}.csv"
    if not path.is_file():
        raise FersError(f"{path}: no results. Make them as docs/ says above the table.")
    return pd.read_csv(path, **options)


def _markdown(frame: pd.DataFrame) -> str:
    return markdown(list(frame), frame.to_numpy().tolist())


def _spread(values: pd.Series) -> str:
    """A mean to four digits, with the standard deviation over seeds where there are several."""
    return f"{values.mean():.4f}" + (f" ± {values.std():.4f}" if len(values) > 1 else "")


def abu() -> str:
    """Render the README's table: scenes by settings, the paper's fusion B at the end; means of AP and Pd; a note on seeds."""
    frame = _csv("abu")
    paper = published_aucs("ABU", "RX", "fused-B", 200)
    every = sorted(frame.scene.unique())
    groups = {scene: [scene] for scene in FIVE}
    groups |= {"**mean of these five**": list(FIVE), f"mean of all {len(every)} ABU scenes": every}
    lines = []
    for name, scenes in groups.items():
        seeds = frame[frame.scene.isin(scenes)].groupby(["setting", "seed"], sort=False).auc.mean()
        published = pd.Series([paper.get(scene) for scene in scenes], dtype=float).mean(skipna=False)
        shown = seeds.groupby("setting", sort=False).agg(_spread)
        lines.append([name, *shown, "-" if pd.isna(published) else f"{published:.4f}"])
    for key in SCENE_MEASURES[1:]:
        seeds = frame.groupby(["setting", "seed"], sort=False)[key].mean()
        shown = seeds.groupby("setting", sort=False).agg(_spread)
        lines.append([f"{MEASURES[key].title}, mean of all {len(every)}", *shown, "-"])
    of_run = "run == 'paper recipe, ImageNet layer1, 16 epochs' and background == 'land' and scene == 'mean'"
    [seeds] = _csv("training_stage1").query(of_run).itertuples()
    note = f"three seeds of the one with ImageNet's layer1 have {seeds.auc:.4f} ± {seeds.standard_deviation:.4f} on these five"
    return markdown(["scene", *frame.setting.unique(), "paper: both branches"], lines) + (
        f"\nOwn weights are one seed each: {note}, so it is one of the better draws.\n"
    )


def first_table() -> str:
    """Render the README's first table: the settings by AUC and at few false alarms, and the best that others print."""
    result = kept("features")
    frame = result.table()
    means = frame.groupby("label")[["auc", "ap", "pd@1e-3"]].mean()
    printed = published_beside(result)
    printed = printed[printed.protocol.str.contains("trained on the test scene")]
    printed = printed[printed.source == printed.groupby("source").scene.nunique().idxmax()]
    scenes = sorted(printed.scene.unique())
    by_method = printed.groupby("method").published.mean()
    best = by_method.idxmax()
    protocol = printed[printed.method == best].protocol.iloc[0]
    ours = frame[frame.scene.isin(scenes)].groupby("label").auc.mean()
    rows = [
        [name, *(f"{v:.3f}" for v in means.loc[label]), f"{ours[label]:.3f}"] for label, name in FIRST_TABLE.items()
    ]
    rows.append([f"{best}, the best in print<sup>2</sup>", "-", "-", "-", f"{by_method[best]:.3f}"])
    head = ["score map", "AUC", "AP", "Pd at 1e-3", f"AUC on {len(scenes)} of them"]
    return markdown(head, rows) + (
        f"\n{frame.scene.nunique()} scenes, one setting for all. <sup>1</sup> Chosen on a test set. "
        f"<sup>2</sup> {printed.source.iloc[0]}, on {', '.join(scenes)}: {protocol}.\n"
    )


def training_stage1() -> str:
    """Render the means of Stage 1's runs, one a line."""
    frame = _csv("training_stage1", dtype=str, keep_default_na=False).query("scene == 'mean'")
    mean = frame.auc.where(frame.standard_deviation == "", frame.auc + " ± " + frame.standard_deviation)
    return _markdown(frame[["run", "background", "seeds"]].replace("", "-").assign(**{"mean AUC": mean}))


def training_stage2() -> str:
    """Render the means of Stage 2's runs by what RX sees, over the seeds of a run."""
    frame = _csv("training_stage2")
    run = frame.run.str.partition(";")[0].str.replace(r", seed \d", "", regex=True).str.replace("on the ", "", n=1)
    table = frame.auc.groupby([run, frame["view"]], sort=False).agg(_spread).unstack(sort=False)
    return _markdown(table.reset_index(names="the Spe-FEN that teaches"))


def rehearsal() -> str:
    """Render what each step of a rehearsal took, and how large it was."""
    frame = _csv("rehearsal", dtype=str)
    titles = {"step": "step", "cpu_s": "CPU s", "peak_mb": "peak memory, MB", "disk_mb": "on the disk, MB"}
    one = frame.iloc[0]
    return _markdown(frame[[*titles]].rename(columns=titles)) + (
        f"\n{one.background} background scenes of each sensor at most, {one.targets} with anomalies, trainings on "
        f"{one.patches} patches. Measured on {one.machine}, one thread, {one.date}.\n"
    )


def thresholds_objects() -> str:
    """Render what each rule of the threshold finds in scenes with objects, a data set and a rate a line."""
    frame = _thresholds().query("objects != ''")
    frame["scenes without"] = frame["scenes without"].str.partition(" of ")[0]
    names = {"objects": "objects", "scenes without": "scenes with none", "realised": "false / nominal, mean (worst)"}
    rules = ["before", "after", "best, by the truth"]
    kept = {(key, rule) for key in names for rule in rules} - {("scenes without", rules[2]), ("realised", rules[2])}
    kept |= {("patches", "before"), ("patches", "after")}
    return _by_rule(frame, names | {"patches": "patches"}, rules, kept)


def thresholds_rates() -> str:
    """Render the realised rate of each rule of the threshold on pure backgrounds."""
    frame = _thresholds().query("objects == ''")
    frame["rule"] = frame.far + ", " + frame.rule
    frame["far"] = ""
    rules = [f"{far}, {rule}" for far in ("0.0001", "0.001") for rule in ("before", "after")]
    return _by_rule(frame, {"realised": "realised / nominal"}, rules, {("realised", rule) for rule in rules})


def _thresholds() -> pd.DataFrame:
    frame = _csv("thresholds", dtype=str, keep_default_na=False)
    return frame.assign(realised=frame["realised / nominal, mean"] + " (" + frame.worst + ")")


def _by_rule(frame: pd.DataFrame, names: dict[str, str], rules: list[str], kept: set[tuple[str, str]]) -> str:
    """Bring the rules side by side: one line for each data set, score and rate."""
    lines = []
    columns = [(key, rule) for key in names for rule in rules if (key, rule) in kept]
    for (data, score, far), group in frame.groupby(["data", "score", "far"], sort=False):
        values = group.set_index("rule")
        lines.append([data, score, *([far] if far else []), *(values.loc[rule, key] or "-" for key, rule in columns)])
    head = ["data", "score", *(["rate"] if frame.far.any() else [])]
    return markdown([*head, *(f"{names[key]}: {rule}" for key, rule in columns)], lines)


def detectors() -> str:
    """Render the table of detectors: what each is, its default setting, what it needs, and what its row's note says."""
    rows = []
    for name, entry in DETECTORS.items():
        known = inspect.signature(entry.load()).parameters.values()
        options = {p.name: p.default for p in known if p.name != "seed" and p.default is not p.empty}
        rows.append(
            {
                "name": name,
                "source": entry.cite,
                "default setting": ", ".join(f"{option} {value}" for option, value in options.items()) or "-",
                "leaves pixels out": "yes" if takes_left_out(make_detector(name, network=object())) else "no",
                "seconds": f"{entry.cost:g}",
                "to know": entry.note or "-",
            }
        )
    return markdown(list(rows[0]), [list(row.values()) for row in rows], [key == "seconds" for key in rows[0]])


RENDERED: dict[str, Callable[[], str]] = {
    "abu": abu,
    "first": first_table,
    "detectors": detectors,
    "leaderboard": partial(leaderboard, "leaderboard"),
    "leaderboard_claims": partial(claims, "leaderboard"),
    "leaderboard_scenes": partial(scene_by_scene, "leaderboard"),
    "leaderboard_others": partial(others, "leaderboard"),
    "features_claims": partial(claims, "features"),
    "training_stage1": training_stage1,
    "training_stage2": training_stage2,
    **spatial_features.RENDERED,
    "performance_networks": performance.networks,
    "performance_training": performance.training,
    "performance_windows": performance.windows,
    "performance_detect": performance.detect,
    "performance_start": performance.start,
    "performance_abu": performance.abu,
    "performance_where": performance.where,
    "performance_whole": performance.whole,
    "coverage": lambda: coverage_table(_csv("coverage")),
    "thresholds_objects": thresholds_objects,
    "thresholds_rates": thresholds_rates,
    "likeness": lambda: _markdown(
        _csv("likeness", dtype=str, keep_default_na=False).query("scene == 'mean'").drop(columns="scene")
    ),
    "auto_ad": evidence.auto_ad,
    "rehearsal": rehearsal,
    "features_means": evidence.features_means,
    "gaussianity": evidence.gaussianity,
    "statements": evidence.statements,
    "table2": evidence.table2,
    "objects": lambda: yardstick("objects"),
    "objects_difference": lambda: difference("objects", "RX untrained-D", "RX untrained-C"),
    "objects_scenes": lambda: gains("objects", ("RX untrained-C", "RX untrained-D")),
    "objects_study": study,
    "objects_choices": choices,
    "objects_cost": lambda: _markdown(_csv("objects_cost", dtype=str)),
}


def documents() -> list[Path]:
    """List the documents that may hold tables."""
    return [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "docs" / "notebook").glob("*.md")),
    ]


def rendered(text: str) -> str:
    """Render every table in a document's text again.

    Raises:
        FersError: A table is unknown, or has no data.
    """

    def table(match: re.Match[str]) -> str:
        name = match.group(2)
        if name not in RENDERED:
            raise FersError(f"<!-- table {name} -->: unknown; choose among {', '.join(RENDERED)}.")
        return f"{match.group(1)}{RENDERED[name]()}{match.group(3)}"

    return _MARKED.sub(table, text)


def render(check: bool) -> None:
    """Rewrite the documents whose tables differ from their data; with ``check``, refuse them instead."""
    texts = {path: path.read_text(encoding="utf-8") for path in documents()}
    stale = {path: new for path, text in texts.items() if (new := rendered(text)) != text}
    if stale and check:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        raise FersError(f"{names}: tables differ from their data. Run make docs.")
    for path, text in stale.items():
        write_whole(path, text.encode())
        print(f"rendered {path.relative_to(ROOT)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.render", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say which documents differ from their data")
    options = parser.parse_args(arguments)
    return run(lambda: render(options.check))


if __name__ == "__main__":
    sys.exit(main())
