"""Run one setting over a test set: a table while it goes, and everything it found in a folder.

    save_dir/results.json        {"scenes": {name: {"auc", "seconds", ...}}, "mean_auc", "config", ...}
    save_dir/scores/<scene>.npy  the score map, (H, W)
    save_dir/maps/<scene>.png    false colour, score map, ground truth and ROC

Numbers first: all scenes are scored before the first map is drawn, as a map takes longer. results.json is renewed after
each batch, so an interrupted run goes on where it stopped when it is started again with the same configuration; a
finished one is run anew.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
from detection.pipeline import Pipeline
from evaluation.figures import scene_figure
from evaluation.metrics import auc
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
        """Mean seconds per scene, features and detector; the next scenes are read at the same time."""
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
    batch_size: int | None = None,
    maps: bool = True,
) -> Results:
    """Score every scene, print a table, write results and score maps; then draw the maps.

    Args:
        scenes: The test set.
        pipeline: What scores them.
        save_dir: Folder for the results.
        dataset: Its name, for the table's head.
        start_band: First band given to the networks.
        published: AUC by scene from the paper, for a column beside the measured one.
        config: Further entries for the configuration in results.json.
        batch_size: Scenes of one size that are scored together, where they follow each other; None: as many as are
            fastest.
        maps: Draw maps/<scene>.png.

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
    if settings.ae_select == "oracle":
        batch_size = 1  # it looks at each scene's own mask

    def together(sample: _Sample) -> int:
        return batch_size or max(pipeline.batch_pixels // sample.mask.size, 1)

    for labelled in scenes:
        if labelled.name in done:
            tqdm.write(scene_line(labelled.name, done[labelled.name], published))
    remaining = [labelled for labelled in scenes if labelled.name not in done]
    with tqdm(total=len(remaining), unit="scene", leave=False, dynamic_ncols=True, disable=None) as bar:
        for batch in _batches(_read_ahead(remaining, settings.bands, start_band, together), together):
            for name, found in _evaluate_batch(batch, pipeline, save_dir).items():
                done[name] = found
                tqdm.write(scene_line(name, found, published))
            _write_json(save_dir / "results.json", results.to_json(complete=False))
            bar.update(len(batch))
    _print_summary(results, published)
    if maps:
        _draw_maps(scenes, save_dir, settings.title, anew={labelled.name for labelled in remaining})
    _write_json(save_dir / "results.json", results.to_json(complete=True))
    print(f"Results, score maps{' and figures' if maps else ''}: {save_dir}")
    return results


@dataclass(frozen=True)
class _Sample:
    """A scene, read and normalised; without the raw cube, which would be kept for nothing."""

    name: str
    path: Path
    notes: tuple[str, ...]
    bands: int
    h: np.ndarray
    mask: np.ndarray


def _read(labelled: LabelledScene, bands: int, start_band: int) -> _Sample:
    scene, mask = labelled.load()
    return _Sample(scene.name, scene.path, tuple(scene.notes), scene.bands, normalise(scene, bands, start_band), mask)


def _read_ahead(
    scenes: list[LabelledScene], bands: int, start_band: int, together: Callable[[_Sample], int]
) -> Iterator[_Sample]:
    """The scenes in their order; a batch of the next ones is read while one is used."""
    rest = list(reversed(scenes))
    waiting: list[Future] = []
    with ThreadPoolExecutor(1) as reader:

        def read(ahead: int) -> None:
            while rest and len(waiting) < ahead:
                waiting.append(reader.submit(_read, rest.pop(), bands, start_band))

        try:
            read(1)
            while waiting:
                sample = waiting.pop(0).result()
                read(together(sample))
                yield sample
        finally:
            reader.shutdown(wait=False, cancel_futures=True)


def _batches(samples: Iterator[_Sample], together: Callable[[_Sample], int]) -> Iterator[list[_Sample]]:
    """Scenes of one size that follow each other, at most so many at a time."""
    batch: list[_Sample] = []
    try:
        for sample in samples:
            if batch and (len(batch) >= together(sample) or sample.h.shape != batch[0].h.shape):
                yield batch
                batch = []
            batch.append(sample)
    except SceneError:
        if batch:  # what was read before the one that cannot be used is not lost
            yield batch
        raise
    if batch:
        yield batch


def _evaluate_batch(batch: list[_Sample], pipeline: Pipeline, save_dir: Path) -> dict[str, dict]:
    started = time.perf_counter()
    try:
        # ends with a copy to the host, so a GPU has finished
        scores = pipeline.score_batch(np.stack([sample.h for sample in batch]), batch[0].mask)
    except ValueError as error:  # what a detector says of its input, with the file it was
        if len(batch) == 1:
            raise SceneError(f"{batch[0].path}: {error}") from error
        return {
            name: found for sample in batch for name, found in _evaluate_batch([sample], pipeline, save_dir).items()
        }
    seconds = (time.perf_counter() - started) / len(batch)
    found = {}
    for sample, score in zip(batch, scores, strict=True):
        with atomic_path(save_dir / "scores" / f"{sample.name}.npy") as temporary:
            np.save(temporary, score)
        mask = sample.mask
        value = auc(score, mask)
        notes = list(sample.notes)
        if value is None:
            notes.append("no AUC: the mask is all background" if not mask.any() else "no AUC: the mask is all anomaly")
        found[sample.name] = {
            "auc": value,
            "seconds": seconds,
            "height": mask.shape[0],
            "width": mask.shape[1],
            "bands": sample.bands,
            "anomalous_pixels": int(mask.sum()),
            "note": "; ".join(notes),
        }
    return found


def _draw_maps(scenes: list[LabelledScene], save_dir: Path, title: str, anew: set[str]) -> None:
    """Draw each scene that was scored just now, or whose map an interrupted run still owes."""
    for labelled in tqdm(scenes, desc="maps", unit="map", leave=False, dynamic_ncols=True, disable=None):
        path = save_dir / "maps" / f"{labelled.name}.png"
        score = save_dir / "scores" / f"{labelled.name}.npy"
        if labelled.name in anew or not path.is_file() or path.stat().st_mtime < score.stat().st_mtime:
            scene, mask = labelled.load()
            scene_figure(scene, np.load(score), mask, path, title)


def _print_summary(results: Results, published: dict[str, float] | None) -> None:
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
