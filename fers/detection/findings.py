"""From the scores of a scene to what is told of it: a threshold, targets with their spectra, provenance."""

from __future__ import annotations

import platform
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fers.detection.records import make_records, read_surroundings
from fers.detection.result import DetectResult
from fers.detection.store import Statistics
from fers.detection.streaming import Stream
from fers.detection.targets import find_targets, threshold_for_count
from fers.detection.thresholds import Tail, choose_threshold
from fers.scoring.maps import Job, networks

if TYPE_CHECKING:
    from fers.detection.scene_run import SceneRun


def findings(
    run: SceneRun,
    stream: Stream,
    job: Job,
    score: np.ndarray,
    colours: np.ndarray,
    statistics: Statistics,
    robust: int,
) -> DetectResult:
    """Threshold, targets and provenance of a scene whose scores are computed.

    Args:
        run: The scene.
        stream: Its passes.
        job: What was computed.
        score: ``(H, W)``, NaN where nothing is scored.
        colours: The thinned colours.
        statistics: What the scores were measured against.
        robust: How many pixels a robust background left out.
    """
    options = run.options
    bounds: dict[str, Any] = {"min_area": options.min_area, "max_area": options.max_area}
    if run.place.known:
        bounds["pixel_area"] = run.place.pixel_area
    tail = Tail.fit(score)
    if options.top is not None:
        threshold = replace(
            choose_threshold(tail, score=threshold_for_count(score, options.top, **bounds)),
            rule=f"top {options.top}",
        )
    else:
        rank = statistics.backgrounds[run.job.views[0]][0].rank() if options.chi2 is not None else None
        rules = {name: getattr(options, name) for name in ("far", "quantile", "score", "chi2")}
        threshold = choose_threshold(tail, **rules, rank=rank)
    targets, labels = find_targets(score, threshold.value, **bounds)
    if options.top is not None:
        labels[~np.isin(labels, [target.label for target in targets[: options.top]])] = 0
        targets = targets[: options.top]
    surroundings = read_surroundings(job, targets, labels)
    originals = statistics.backgrounds["original"]
    centres = run.plan.segment_centres
    source, own = str(run.reader.path), run.bands.count - run.bands.padded
    records = make_records(targets, surroundings, tail, run.place, originals, centres, run.wavelengths, own, source)
    masked = 0 if run.left_out is None else int(run.left_out.sum())
    scored = len(tail.scores)
    counts = {
        "pixels": score.size,
        "scored": scored,
        "masked": masked,
        "without_data": score.size - scored - (0 if options.score_masked else masked),
        "left_out_of_robust_background": robust,
        "background": [moments.count for moments in originals],
    }
    about = {
        **run.identity,
        "options": asdict(options),
        "shape": list(run.reader.shape),
        "spatial_mode": run.spatial_mode,
        "sensor": run.reader.sensor,
        "notes": list(run.reader.notes),
        "bands_described": run.bands.describe(),
        "wavelengths_nm": None if run.wavelengths is None else [round(float(w), 3) for w in run.wavelengths],
        "range": None if run.network is None else [statistics.low, statistics.high],
        "counts": counts,
        "threshold": asdict(threshold),
        "threshold_described": threshold.sentence,
        "targets": len(targets),
        "caveats": [] if run.network is None else networks(run.network).caveats,
        "seconds": asdict(stream.timing),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    return DetectResult(
        run.name,
        score,
        threshold,
        targets,
        labels,
        records,
        tail,
        colours,
        job.thinning,
        run.place,
        statistics,
        run.plan,
        about,
    )
