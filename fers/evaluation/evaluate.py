"""Run one setting over a test set: a table while it goes, and everything it found in a folder.

    save_dir/results.json        {"scenes": {name: {"auc", "seconds", ...}}, "mean_auc", "config", ...}
    save_dir/scores/<scene>.npy  the score map, (H, W)
    save_dir/maps/<scene>.png    false colour, score map, ground truth and ROC; or .pdf

Numbers first: all scenes are scored before the first map is drawn. An interrupted run goes on where it stopped when it
is started again with the same configuration; a finished one is run again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fers.datasets.catalogue import fingerprint
from fers.evaluation.metrics import SCENE_MEASURES, auc, scene_measures
from fers.evaluation.results import RESULTS_FILE, RESULTS_FORMAT, Results, full_config, read_score, truth_sha256
from fers.evaluation.tables import SECONDS_NOTE, header_line, mean_line, scene_line
from fers.scenes import LabelledScene, Scene, SceneError
from fers.scenes.scene import npy_bytes
from fers.scoring.networks import NAMES
from fers.scoring.pipeline import DetectConfig, Pipeline, read_h
from fers.util.cite import this_command
from fers.util.files import write_whole
from fers.util.lock import locked


@dataclass(frozen=True)
class Sample:
    """A scene, read and normalised; without the raw cube, which would be kept for nothing."""

    labelled: LabelledScene
    h: np.ndarray
    left_out: np.ndarray  # (H, W) bool, True at pixels without data
    truth: np.ndarray
    about: dict  # entries of results.json that need no score map
    notes: tuple[str, ...]


def evaluate(
    scenes: list[LabelledScene],
    pipeline: Pipeline,
    save_dir: str | Path,
    *,
    dataset: str,
    published: dict[str, float] | None = None,
    config: dict | None = None,
    batch_size: int = 8,
    maps: bool = True,
    map_format: str = "png",
) -> Results:
    """Score every scene, print a table, write results and score maps; then draw the maps.

    Args:
        scenes: The test set.
        pipeline: What scores them.
        save_dir: Folder for the results.
        dataset: Name of the test set.
        published: AUC by scene from the paper, for a column beside the measured one.
        config: Further entries for the configuration in results.json.
        batch_size: Scenes of one size that are scored together, where they follow each other.
        maps: Draw maps/<scene>.png.
        map_format: Their suffix, ``png`` or ``pdf``.

    Raises:
        SceneError: A scene cannot be used. Those before it are saved, and a second call goes on there.
        FersError: Another run is writing to the folder.
    """
    began = time.perf_counter()
    save_dir = Path(save_dir)
    config = {**full_config(pipeline), "dataset": dataset, **(config or {})}
    settings = pipeline.config
    title = f"{dataset}: {settings.title}, {settings.bands} bands"
    with locked(save_dir):
        done = _resumable(settings, save_dir, config, scenes)
        results = Results(done, config, pipeline.caveats, command=this_command())
        results.write(save_dir, complete=False)  # what else lies there is no result any more
        tqdm.write(f"{title}, on {pipeline.device}")
        if done:
            tqdm.write(f"Going on with an interrupted run: {len(done)} of {len(scenes)} scenes were done.")
        tqdm.write(header_line(published is not None))
        for name in [labelled.name for labelled in scenes if labelled.name in done]:
            tqdm.write(scene_line(name, done[name], published))
        remaining = [labelled for labelled in scenes if labelled.name not in done]
        together = 1 if settings.select == "oracle" else batch_size  # it looks at each scene's own truth
        told: set[str] = set()
        with tqdm(total=len(remaining), unit="scene", leave=False, dynamic_ncols=True, disable=None) as bar:
            for batch in _batches(map(partial(_read_sample, settings), remaining), together):
                for name, found in _evaluate_batch(batch, pipeline, save_dir).items():
                    done[name] = found
                    plain = (
                        settings.start_band == 0
                        and found["bands"] >= settings.bands
                        and " bad " not in found["band_use"]
                    )
                    if not plain and found["band_use"] not in told:
                        told.add(found["band_use"])
                        tqdm.write(f"Bands: {found['band_use']}.")
                    tqdm.write(scene_line(name, found, published))
                results = replace(results, caveats=pipeline.caveats)  # scoring may have added to them
                results.write(save_dir, complete=False)
                bar.update(len(batch))
        _print_summary(results, published)
        if maps:
            scored = {labelled.name for labelled in remaining}
            _draw_maps(scenes, save_dir, map_format, f"{title}{_weights(pipeline.provenance)}", settings.unit, scored)
        results.write(save_dir, complete=True)
    drawn = " and figures" if maps else ""
    print(f"Results, score maps{drawn}: {save_dir} ({time.perf_counter() - began:.1f} s in all)")
    return results


def _read_sample(settings: DetectConfig, labelled: LabelledScene) -> Sample:
    scene, truth = labelled.load()
    h, left_out = read_h(settings, scene)
    left_out = np.zeros(truth.shape, dtype=bool) if left_out is None else left_out
    notes = list(scene.notes)
    if (missing := settings.start_band + settings.bands - scene.bands) > 0:
        notes.append(f"{missing} zero bands appended")
    about = {
        "height": truth.shape[0],
        "width": truth.shape[1],
        "bands": scene.bands,
        "band_use": band_use(scene, settings.bands, settings.start_band),
        "anomalous_pixels": int(truth.sum()),
        "left_out_pixels": int(left_out.sum()),
        "truth_sha256": truth_sha256(truth),
        "fingerprint": fingerprint(scene.cube, truth),
        "cut": "cut" in " ".join(scene.notes),
    }
    return Sample(labelled, h, left_out, truth, about, tuple(notes))


def band_use(scene: Scene, bands: int, start: int) -> str:
    """Say what becomes of a scene's bands when ``bands`` of them are taken from ``start`` on, in a line.

    Example:
        >>> band_use(Scene("a", np.zeros((9, 9, 6)), Path("a.npy")), bands=4, start=1)
        '1 to 4 of 0 to 5 used, 2 dropped, 0 of zeros appended'
    """
    stop = min(start + bands, scene.bands)
    line = (
        f"{start} to {stop - 1} of 0 to {scene.bands - 1} used, {scene.bands - (stop - start)} dropped, "
        f"{bands - (stop - start)} of zeros appended"
    )
    if scene.good is not None:
        line += f"; {int((~scene.good[start:stop]).sum())} of those used are bad by {scene.good_source}"
    return line


def _batches(samples: Iterator[Sample], together: int) -> Iterator[list[Sample]]:
    """Scenes of one size that follow each other, at most so many at a time."""
    batch: list[Sample] = []
    try:
        for sample in samples:
            if batch and (len(batch) >= together or sample.h.shape != batch[0].h.shape):
                yield batch
                batch = []
            batch.append(sample)
    except SceneError:
        if batch:  # what was read before the one that cannot be used is not lost
            yield batch
        raise
    if batch:
        yield batch


def _evaluate_batch(batch: list[Sample], pipeline: Pipeline, save_dir: Path) -> dict[str, dict]:
    choice = partial(_best_by, batch[0].truth) if pipeline.config.select == "oracle" else None
    left_out = np.stack([sample.left_out for sample in batch])
    started = time.perf_counter()
    try:
        # ends with a copy to the host, so a GPU has finished
        cubes = np.stack([sample.h for sample in batch]) if len(batch) > 1 else batch[0].h[None]  # no copy of one
        scores = pipeline.score(cubes, left_out, choice)
    except ValueError as error:  # what a detector says of its input, with the file it was
        if len(batch) == 1:
            raise SceneError(f"{batch[0].labelled.path}: {error}") from error
        return {k: v for sample in batch for k, v in _evaluate_batch([sample], pipeline, save_dir).items()}
    seconds = (time.perf_counter() - started) / len(batch)
    found = {}
    for sample, score in zip(batch, scores, strict=True):
        name = sample.labelled.name
        content = npy_bytes(score)
        write_whole(save_dir / "scores" / f"{name}.npy", content)
        found[name] = scene_result(score, sample, hashlib.sha256(content).hexdigest(), seconds)
    return found


def scene_result(score: np.ndarray, sample: Sample, score_sha256: str, seconds: float) -> dict:
    """Collect what results.json has of one scene; pixels left out have no part in the AUC."""
    every = scene_measures(score, sample.truth, sample.left_out)
    found = {key: every[key] for key in SCENE_MEASURES}
    notes = list(sample.notes)
    if found["auc"] is None:
        only = "anomaly" if sample.truth[~sample.left_out].any() else "background"
        notes.append(f"no AUC: the truth is all {only}")
    if count := sample.about["left_out_pixels"]:
        notes.append(f"{count} pixels without data left out")
    return {**found, **sample.about, "note": "; ".join(notes), "score_sha256": score_sha256, "seconds": seconds}


def _best_by(truth: np.ndarray, maps: Iterable[torch.Tensor]) -> torch.Tensor:
    return max(maps, key=lambda score: auc(score[0].cpu().numpy(), truth) or 0.0)


def _weights(provenance: dict[str, dict]) -> str:
    """Name the weights that a map was made with, in a few words for its title: each branch's folder and the start of its sha256."""
    named = []
    for branch, info in provenance.items():
        if info.get("untrained"):
            named.append(f"{NAMES[branch]} untrained, layers {info['backbone']}, seed {info['seed']}")
        else:
            named.append(f"{NAMES[branch]} from {Path(info['path']).parent.name} ({info['sha256'][:8]})")
    return f"; {', '.join(named)}" if named else ""


def _draw_maps(
    scenes: list[LabelledScene], save_dir: Path, suffix: str, title: str, unit: str, scored: set[str]
) -> None:
    """Draw each scene that was scored just now, or whose map an interrupted run still owes."""
    from fers.evaluation.figures import scene_figure  # Matplotlib, only where something is drawn

    for labelled in tqdm(scenes, desc="maps", unit="map", leave=False, dynamic_ncols=True, disable=None):
        path = save_dir / "maps" / f"{labelled.name}.{suffix}"
        score = save_dir / "scores" / f"{labelled.name}.npy"
        if labelled.name in scored or not path.is_file() or path.stat().st_mtime < score.stat().st_mtime:
            scene, truth = labelled.load()
            scene_figure(scene, np.load(score), truth, path, title, unit)


def _print_summary(results: Results, published: dict[str, float] | None) -> None:
    aucs = results.aucs
    scored = {name: results.scenes[name] for name in aucs}
    print(mean_line(f"mean of {len(aucs)}", scored, results.mean_seconds, published))
    cut = [name for name in aucs if results.scenes[name]["cut"]]
    if cut and len(cut) < len(aucs):
        whole = {name: scene for name, scene in scored.items() if name not in cut}
        print(mean_line(f"without {', '.join(cut)}", whole, None, published))
    if len(aucs) < len(results.scenes):
        print(f"{len(results.scenes) - len(aucs)} of {len(results.scenes)} scenes have no AUC and are not in the mean.")
    print(SECONDS_NOTE)
    for caveat in results.caveats:
        print(f"Note: {caveat}")
    print(f"To cite: {results.citation}")


def _resumable(settings: DetectConfig, save_dir: Path, config: dict, scenes: list[LabelledScene]) -> dict[str, dict]:
    """The scenes that an interrupted run of the same configuration finished, if their files are still the same."""
    path = save_dir / RESULTS_FILE
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        same = earlier["format"] == RESULTS_FORMAT and earlier["config"] == json.loads(json.dumps(config))
        if earlier["complete"] or not same:
            return {}
        found = dict(earlier["scenes"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    kept = {s.name: _kept(settings, s, found[s.name], save_dir) for s in scenes if s.name in found}
    return {name: result for name, result in kept.items() if result is not None}


def _kept(settings: DetectConfig, labelled: LabelledScene, found: dict, save_dir: Path) -> dict | None:
    """Make a scene's result again from its score map, if that is whole, and cube and truth are the same."""
    try:
        if not 0 <= found["seconds"] < 1e9:
            return None
        sample = _read_sample(settings, labelled)
        score = read_score(save_dir, labelled.name, found, sample.truth)
        if any(found[key] != sample.about[key] for key in ("truth_sha256", "fingerprint")):
            return None
        return scene_result(score, sample, found["score_sha256"], float(found["seconds"]))
    except (OSError, ValueError, KeyError, TypeError):  # the scene is scored again, which names what is wrong
        return None
