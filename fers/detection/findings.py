"""Findings in a scene that is scored: a threshold, targets with their spectra, provenance."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch

from fers.detection.blocks import Plan
from fers.detection.job import Job
from fers.detection.options import DetectOptions
from fers.detection.products.place import Place
from fers.detection.products.vector import Record
from fers.detection.records import make_records, read_surroundings
from fers.detection.store import BackgroundStatistics
from fers.detection.targets import Target, find_targets, threshold_for_count
from fers.detection.thresholds import Tail, Threshold, choose_threshold

F = TypeVar("F", bound="Findings")


@dataclass(frozen=True, eq=False)
class Scored:
    """A scene whose scores are computed.

    Attributes:
        name: Name of the scene.
        options: Options of the detection.
        job: Job that was computed.
        plan: How the scene was cut.
        place: The georeference.
        wavelengths: ``(C,)`` nm of the bands that were used, or None.
        score: ``(H, W)``, NaN where nothing is scored.
        colours: The thinned colours.
        statistics: Range and background.
        left_out: How many pixels the user left out.
        robust: How many pixels a robust background left out.
        about: Further entries of run.json.
    """

    name: str
    options: DetectOptions
    job: Job
    plan: Plan
    place: Place
    wavelengths: np.ndarray | None
    score: np.ndarray
    colours: np.ndarray
    statistics: BackgroundStatistics
    left_out: int
    robust: int
    about: dict[str, Any]


@dataclass(eq=False)
class Findings:
    """Anomalies in one scene.

    Attributes:
        name: Name of the scene.
        score: ``(H, W)`` float64, higher is more anomalous, NaN where nothing is scored.
        threshold: Which scores are detections, and how often background exceeds it.
        targets: Connected pixels above it, the highest score first.
        labels: ``(H, W)`` int32, ``Target.label`` or 0.
        records: One for each target; keys that begin with _ are not written.
        tail: Upper tail of the scores.
        colours: The scene in three bands, every ``thinning``-th row and column, NaN without data.
        thinning: See ``colours``.
        place: The georeference.
        statistics: Range and background.
        plan: How the scene was cut.
        about: Provenance, as in run.json.
    """

    name: str
    score: np.ndarray
    threshold: Threshold
    targets: list[Target]
    labels: np.ndarray
    records: list[Record]
    tail: Tail
    colours: np.ndarray
    thinning: int
    place: Place
    statistics: BackgroundStatistics
    plan: Plan
    about: dict[str, Any]

    @classmethod
    def of(cls: type[F], scene: Scored) -> F:
        """Choose a threshold and find the targets."""
        options, score, statistics, place = scene.options, scene.score, scene.statistics, scene.place
        bounds: dict[str, Any] = {"min_area": options.min_area, "max_area": options.max_area}
        if place.known:
            bounds["pixel_area"] = place.pixel_area
        tail = Tail.fit(score)
        threshold = _threshold(scene, tail, bounds)
        targets, labels = find_targets(score, threshold.value, **bounds)
        if options.top is not None:
            labels[~np.isin(labels, [target.label for target in targets[: options.top]])] = 0
            targets = targets[: options.top]
        backgrounds = [statistics.background(segment) for segment in range(len(statistics.segments))]
        records = make_records(
            targets,
            read_surroundings(scene.job, targets, labels),
            scene.job,
            tail,
            place,
            (backgrounds, scene.plan.segment_centres),
            scene.wavelengths,
        )
        about = scene.about | {
            "counts": _counts(scene, tail),
            "threshold": asdict(threshold),
            "threshold_described": threshold.sentence,
            "targets": len(targets),
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        }
        return cls(
            scene.name,
            score,
            threshold,
            targets,
            labels,
            records,
            tail,
            scene.colours,
            scene.job.thinning,
            place,
            statistics,
            scene.plan,
            about,
        )

    @property
    def detections(self) -> list[Record]:
        """Targets as plain dictionaries: position, score, false-alarm rate, area, spectrum, top wavelengths."""
        return [{k: v for k, v in record.items() if not k.startswith("_")} for record in self.records]

    @property
    def probability(self) -> np.ndarray:
        """Probability ``(H, W)`` that a background pixel scores at least as high; NaN where nothing is scored."""
        return self.tail.probabilities(self.score)

    def __str__(self) -> str:
        return (
            f"{self.name}: {len(self.targets)} target{'' if len(self.targets) == 1 else 's'}. {self.threshold.sentence}"
        )

    __repr__ = __str__


def _threshold(scene: Scored, tail: Tail, bounds: dict[str, Any]) -> Threshold:
    options = scene.options
    if options.top is not None:
        lowest = threshold_for_count(scene.score, options.top, **bounds)
        return replace(choose_threshold(tail, score=lowest), rule=f"top {options.top}")
    rank = None
    if options.chi2 is not None:
        [state] = scene.job.pipeline.fit(scene.statistics.segments[0], scene.plan.height)
        rank = int(state.rank)
    rules = {name: getattr(options, name) for name in ("far", "quantile", "score", "chi2")}
    return choose_threshold(tail, **rules, rank=rank)


def _counts(scene: Scored, tail: Tail) -> dict[str, Any]:
    scored = len(tail.scores)
    return {
        "pixels": scene.score.size,
        "scored": scored,
        "left_out": scene.left_out,
        "without_data": scene.score.size - scored - (0 if scene.options.score_left_out else scene.left_out),
        "left_out_of_robust_background": scene.robust,
        "background": scene.statistics.counts,
    }
