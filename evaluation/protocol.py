"""Run one setting over a test set: a table while it goes, and everything it found in a folder.

    save_dir/results.json        {"scenes": {name: {"auc", "seconds", ...}}, "mean_auc", "config", ...}
    save_dir/scores/<scene>.npy  the score map, (H, W)
    save_dir/maps/<scene>.png    false colour, score map, ground truth and ROC

results.json is renewed after each scene, so an interrupted run goes on where it stopped when it is started again with
the same configuration; a finished one is run anew.
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy
import sklearn
import torch
import torchvision
from tqdm import tqdm

from data import LabelledScene, SceneError, normalise
from data.files import atomic_path
from evaluation.figures import scene_figure
from evaluation.metrics import auc
from evaluation.pipeline import Pipeline
from evaluation.tables import header_line, mean_line, scene_line
from models.checkpoint import git_revision


@dataclass(frozen=True)
class Results:
    """What a run found.

    Attributes:
        scenes: By name: ``auc`` (None without both classes), ``seconds``, ``height``, ``width``, ``bands``,
            ``anomalous_pixels``, ``note``.
        config: The full configuration, checkpoints and versions.
        marks: Sentences that belong under the table.
    """

    scenes: dict[str, dict]
    config: dict
    marks: list[str]

    @property
    def aucs(self) -> dict[str, float]:
        """AUC of the scenes that have one."""
        return {name: scene["auc"] for name, scene in self.scenes.items() if scene["auc"] is not None}

    @property
    def mean_auc(self) -> float | None:
        """Mean AUC over the scenes that have one."""
        return float(np.mean(list(self.aucs.values()))) if self.aucs else None

    @property
    def mean_seconds(self) -> float:
        """Mean seconds per scene, features and detector; reading and drawing not counted."""
        return float(np.mean([scene["seconds"] for scene in self.scenes.values()]))

    def to_json(self, complete: bool) -> dict:
        """As results.json stores it."""
        return {
            "scenes": self.scenes,
            "mean_auc": self.mean_auc,
            "mean_seconds": self.mean_seconds,
            "scenes_without_auc": sorted(self.scenes.keys() - self.aucs.keys()),
            "marks": self.marks,
            "config": self.config,
            "complete": complete,
        }


def evaluate(
    scenes: list[LabelledScene],
    pipeline: Pipeline,
    save_dir: str | Path,
    *,
    dataset: str,
    start_band: int = 0,
    published: dict[str, float] | None = None,
    config: dict | None = None,
) -> Results:
    """Score every scene, print a table, write results, score maps and figures.

    Args:
        scenes: The test set.
        pipeline: What scores them.
        save_dir: Folder for the results.
        dataset: Its name, for the table's head.
        start_band: First band given to the networks.
        published: AUC by scene from the paper, for a column beside the measured one.
        config: Further entries for the configuration in results.json.

    Returns:
        The results.

    Raises:
        SceneError: A scene cannot be used. Those before it are saved, and a second call goes on there.
    """
    save_dir = Path(save_dir)
    settings = pipeline.settings
    config = {
        **{key: str(value) if isinstance(value, Path) else value for key, value in vars(settings).items()},
        "fusion": settings.chosen_fusion,
        "dataset": dataset,
        "start_band": start_band,
        "checkpoints": pipeline.provenance,
        **(config or {}),
        **_environment(pipeline.device),
    }
    done = _resumable(save_dir, config, scenes)
    results = Results(done, config, pipeline.marks)

    tqdm.write(f"{dataset}: {settings.title}, {settings.bands} bands, on {pipeline.device}")
    if done:
        tqdm.write(f"Going on with an interrupted run: {len(done)} of {len(scenes)} scenes were done.")
    tqdm.write(header_line(published is not None))
    for labelled in tqdm(scenes, unit="scene", leave=False, dynamic_ncols=True, disable=None):
        if labelled.name not in done:
            done[labelled.name] = _evaluate_scene(labelled, pipeline, save_dir, start_band)
            _write_json(save_dir / "results.json", results.to_json(complete=False))
        tqdm.write(scene_line(labelled.name, done[labelled.name], published))
    _write_json(save_dir / "results.json", results.to_json(complete=True))
    _print_summary(results, published, save_dir)
    return results


def _evaluate_scene(labelled: LabelledScene, pipeline: Pipeline, save_dir: Path, start_band: int) -> dict:
    scene, mask = labelled.load()
    h = normalise(scene, pipeline.settings.bands, start_band)
    started = time.perf_counter()
    try:
        score = pipeline.score(h, mask)  # ends with a copy to the host, so a GPU has finished
    except ValueError as error:  # what a detector says of its input, with the file it was
        raise SceneError(f"{scene.path}: {error}") from error
    seconds = time.perf_counter() - started
    with atomic_path(save_dir / "scores" / f"{scene.name}.npy") as temporary:
        np.save(temporary, score)
    scene_figure(scene, score, mask, save_dir / "maps" / f"{scene.name}.png", pipeline.settings.title)
    value = auc(score, mask)
    notes = list(scene.notes)
    if value is None:
        notes.append("no AUC: the mask is all background" if not mask.any() else "no AUC: the mask is all anomaly")
    return {
        "auc": value,
        "seconds": seconds,
        "height": mask.shape[0],
        "width": mask.shape[1],
        "bands": scene.bands,
        "anomalous_pixels": int(mask.sum()),
        "note": "; ".join(notes),
    }


def _print_summary(results: Results, published: dict[str, float] | None, save_dir: Path) -> None:
    aucs = results.aucs
    print(mean_line(f"mean of {len(aucs)}", results.mean_auc, results.mean_seconds, published, aucs))
    cut = [name for name in aucs if "cut" in results.scenes[name]["note"]]
    if cut and len(cut) < len(aucs):
        whole = {name: value for name, value in aucs.items() if name not in cut}
        mean = float(np.mean(list(whole.values())))
        print(mean_line(f"without {', '.join(cut)}", mean, None, published, whole))
    if len(aucs) < len(results.scenes):
        print(f"{len(results.scenes) - len(aucs)} of {len(results.scenes)} scenes have no AUC and are not in the mean.")
    for mark in results.marks:
        print(f"Note: {mark}")
    print(f"Results, score maps and figures: {save_dir}")


def _resumable(save_dir: Path, config: dict, scenes: list[LabelledScene]) -> dict[str, dict]:
    """The scenes that an interrupted run of the same configuration finished, if their files have not changed since."""
    path = save_dir / "results.json"
    try:
        earlier = json.loads(path.read_text())
        if earlier["complete"] or earlier["config"] != json.loads(json.dumps(config)):
            return {}
        written = path.stat().st_mtime
        return {
            scene.name: earlier["scenes"][scene.name]
            for scene in scenes
            if scene.name in earlier["scenes"] and scene.path.stat().st_mtime < written
        }
    except (OSError, ValueError, KeyError):
        return {}


def _write_json(path: Path, content: dict) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def _environment(device: torch.device) -> dict:
    """What a result may depend on beside its options."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
        "git_revision": git_revision(),
        "versions": {
            "python": platform.python_version(),
            **{module.__name__: module.__version__ for module in (torch, torchvision, np, scipy, sklearn)},
        },
    }
