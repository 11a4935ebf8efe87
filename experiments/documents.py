"""What the README shows: the table of the ABU scenes, as a CSV, and the picture of two of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from experiments import RESULTS, ROOT
from experiments.jobs import STAGE_FILES, Score, Weights, given, machine, make_missing
from experiments.tables import ABU_BANDS
from experiments.workspace import Workspace
from fers.datasets import abu
from fers.evaluation.figures import SceneMaps, comparison_figure
from fers.networks.checkpoint import git_revision
from fers.scenes.normalise import normalise
from fers.scoring.pipeline import DetectConfig, Pipeline
from fers.util.errors import FersError
from fers.util.files import atomic_path

RUNS = ROOT / "results" / "reproduce"
PICTURE = ROOT / "docs" / "picture.png"
IMAGENET = {"backbone": str(ROOT / "checkpoints" / "aviris_200_released" / "backbone.safetensors")}
# name in the table, arguments of DetectConfig, seeds, folder of weights
ABU_SETTINGS: list[tuple[str, dict, tuple[int, ...], str]] = [
    ("original", {"features": "original"}, (0,), ""),
    ("untrained control", {"features": "untrained", **IMAGENET}, (0, 1, 2), ""),
    ("untrained, random layer1", {"features": "untrained", "backbone": "random"}, (0, 1, 2), ""),
    ("own weights, random layer1", {"features": "fused", "fusion": "B"}, (0,), "aviris_200"),
    ("own weights, ImageNet layer1", {"features": "spectral", **IMAGENET}, (0,), "aviris_200_imagenet"),
    ("released Spe-FEN", {"features": "spectral"}, (0,), "aviris_200_released"),
]
PICTURED: dict[str, dict] = {  # of two scenes: title of the column, arguments of DetectConfig
    "RX on the cube": {"features": "original"},
    "RX on H + F_spe, untrained": {"features": "untrained", "backbone": "random"},
    "RX on H + F_spe, trained": {"features": "spectral"},
}


def abu_table(data: Path, device: str = "auto") -> Path:
    """Score the ABU scenes as far as weights are there, and write experiments/results/abu.csv.

    Rows of settings that cannot be run here stay as an earlier run left them, if that was on a data set of this name.

    Returns:
        The CSV.

    Raises:
        FersError: No setting could be run, or earlier rows are of another data set.
    """
    path = RESULTS / "abu.csv"
    earlier = pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else pd.DataFrame()
    workspace = Workspace("ABU", data, RUNS, "all")
    rows: list[dict] = []
    for name, config, seeds, folder in ABU_SETTINGS:
        try:
            jobs = [
                Score(workspace, name, ABU_BANDS, seed, config, _weights(workspace, config, folder)) for seed in seeds
            ]
            make_missing(jobs, device, RUNS / "log.txt")
            rows += [row for job in jobs for row in _rows(job)]
        except FersError as error:
            kept = earlier[earlier.setting == name].to_dict("records") if len(earlier) else []
            print(f"left out: {name}: {error}" + (f"\n  its {len(kept)} earlier rows stay" if kept else ""))
            rows += kept
    if not rows:
        raise FersError("abu: no setting could be run; see above.")
    if len({row["dataset"] for row in rows}) > 1:
        raise FersError(f"{path}: holds rows of another data set. Move it away, or run all settings again.")
    with atomic_path(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n")
    return path


def _weights(workspace: Workspace, config: dict, folder: str) -> Weights | None:
    stages = ("stage1", "stage2") if config["features"] == "fused" else ("stage1",)
    files = tuple(ROOT / "checkpoints" / folder / STAGE_FILES[stage] for stage in stages)
    return given(files, workspace.folder / "weights") if folder else None


def _rows(job: Score) -> Iterator[dict]:
    results = job.results()
    config = results["config"]
    weights = config["checkpoints"].values()
    for name, scene in results["scenes"].items():
        yield {
            "setting": job.name,
            **{key: config[key] for key in ("dataset", "data", "detect", "view", "bands", "seed")},
            "scene": name,
            "auc": "" if scene["auc"] is None else f"{scene['auc']:.6f}",
            "seconds": f"{scene['seconds']:.4f}",
            "selection": "+".join(sorted({weight.get("selection", "untrained") for weight in weights})),
            "weights": "+".join(sorted({weight.get("sha256", "")[:8] for weight in weights} - {""})),
            "device": config["device"],
            "machine": machine(),
            "revision": git_revision()[:12],
            "date": time.strftime("%Y-%m-%d"),
        }


def draw_picture(data: Path) -> Path:
    """Draw docs/picture.png from two ABU scenes of a folder, with the weights that are shipped; returns its path."""
    pipelines = {title: Pipeline(DetectConfig(ABU_BANDS, "aviris", **config)) for title, config in PICTURED.items()}
    lines = []
    for labelled in abu.scenes(data, names="airport-2,airport-4"):
        scene, truth = labelled.load()
        h = normalise(scene, ABU_BANDS)
        lines.append(SceneMaps(scene, truth, {title: pipeline.score(h) for title, pipeline in pipelines.items()}))
    return comparison_figure(lines, PICTURE)
