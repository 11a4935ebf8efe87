"""Findings in a score map: a threshold, targets and candidates with their spectra, provenance. No cube is needed."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from fers.detection.job import Job
from fers.detection.options import DetectOptions
from fers.detection.products.place import Place
from fers.detection.products.vector import Record
from fers.detection.records import Spectra, make_records
from fers.detection.store import BackgroundStatistics
from fers.detection.targets import Target, find_candidates, find_targets, threshold_for_count
from fers.detection.thresholds import Tail, Threshold, choose_threshold
from fers.util.cite import release
from fers.util.errors import FersError

ONE_SIDED = 4  # px from the border, where background scores high more often if it is compared with its surroundings
F = TypeVar("F", bound="Findings")
ReadSpectra = Callable[[list[Target], np.ndarray], dict[int, Spectra]]
"""Function from targets and the label map to the spectra of some of them, by rank."""


def no_spectra(targets: list[Target], labels: np.ndarray) -> dict[int, Spectra]:
    """Return the spectra of no target."""
    return {}


def no_job() -> Job:
    """Refuse to read the cube again."""
    raise FersError("the cube of this result cannot be read again. Run fers detect on its scene.")


@dataclass(frozen=True, eq=False)
class Scored:
    """A score map, and all that its findings are made of. The cube is not among it.

    Attributes:
        name: Name of the scene.
        options: Options of the detection: rule of the threshold, bounds of the size, number of candidates.
        place: The georeference.
        score: ``(H, W)`` float64, NaN where nothing is scored.
        signed: Whether the scores are logarithms or have a sign, as ``Tail.fit`` takes it.
        colours: The scene in three bands, every ``thinning``-th row and column, NaN without data.
        thinning: See ``colours``.
        about: Entries of run.json, ``source``, ``counts`` and ``method`` among them.
        local: Whether a pixel is compared with its surroundings, which are one-sided at the border of the data.
        rank: Degrees of freedom of the scores' chi-square law; None where they have none.
        statistics: Range and background, for background.npz; None where there is one already.
        spectra: Function that reads the spectra of targets.
        known: ``(H, W)``, places that are known, as ``fers.detection.known.read_known`` gives them; None for none.
        left_out: ``(H, W)`` bool, pixels that the user leaves out; None for none.
        read_job: Function that gives the job by which the cube is read again; a FersError where it is gone.
        folder: Folder of an earlier result that these scores come from; None for none.
    """

    name: str
    options: DetectOptions
    place: Place
    score: np.ndarray
    signed: bool
    colours: np.ndarray
    thinning: int
    about: dict[str, Any]
    local: bool = False
    rank: int | None = None
    statistics: BackgroundStatistics | None = None
    spectra: ReadSpectra = no_spectra
    known: np.ndarray | None = None
    left_out: np.ndarray | None = None
    read_job: Callable[[], Job] = no_job
    folder: Path | None = None


@dataclass(eq=False)
class Findings:
    """Anomalies in one scene.

    Attributes:
        scene: The score map, and what was known with it.
        name: Name of the scene.
        score: ``(H, W)`` float64, higher is more anomalous, NaN where nothing is scored.
        threshold: Which scores are detections, and how often background exceeds it.
        targets: Connected pixels above it, the highest score first.
        below: The best candidates below it, likewise; their ranks go on from those of the targets.
        labels: ``(H, W)`` int32, ``Target.label`` of targets and candidates, or 0.
        records: One for each target, then one for each candidate; keys that begin with _ are not written.
        tail: Upper tail of the scores.
        notes: Sentences that belong beside the threshold.
        about: Provenance, as in run.json.
    """

    scene: Scored
    name: str
    score: np.ndarray
    threshold: Threshold
    targets: list[Target]
    below: list[Target]
    labels: np.ndarray
    records: list[Record]
    tail: Tail
    notes: list[str]
    about: dict[str, Any]

    @classmethod
    def of(cls: type[F], scene: Scored) -> F:
        """Choose a threshold, and find the targets and the best candidates below it."""
        options, score, place = scene.options, scene.score, scene.place
        bounds: dict[str, Any] = {"min_area": options.min_area, "max_area": options.max_area}
        if place.known:
            bounds["pixel_area"] = place.pixel_area
        counted = score
        if scene.known is not None and "list" in options.known_from:
            bounds["known"] = scene.known
        if scene.known is not None and "statistics" in options.known_from:
            counted = np.where(scene.known > 0, np.nan, score)
        tail = Tail.fit(counted, scene.signed, options.anomalies_at_most)
        threshold = _threshold(scene, tail, bounds)
        targets, labels = find_targets(score, threshold.value, **bounds)
        if options.top is not None:
            labels[~np.isin(labels, [target.label for target in targets[: options.top]])] = 0
            targets = targets[: options.top]
        below = find_candidates(score, labels, options.candidates, **bounds)
        below = [replace(each, rank=each.rank + len(targets)) for each in below]
        spectra = scene.spectra([*targets, *below], labels)
        records = make_records(targets, below, spectra, tail, place, str(scene.about["source"]))
        notes = [*tail.notes, *_near_border(scene, targets)]
        about = scene.about | {
            "threshold": asdict(threshold),
            "threshold_described": threshold.sentence,
            "tail": tail.record(),
            "threshold_notes": notes,
            "targets": len(targets),
            "candidates": len(below),
            "versions": {
                "fers": release(),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "numpy": np.__version__,
            },
        }
        return cls(scene, scene.name, score, threshold, targets, below, labels, records, tail, notes, about)

    @property
    def detections(self) -> list[Record]:
        """Targets as plain dictionaries: position, score, false-alarm rate, area, spectrum, top wavelengths."""
        return _plain(self.records[: len(self.targets)])

    @property
    def candidates(self) -> list[Record]:
        """Candidates below the threshold, as ``detections`` has the targets."""
        return _plain(self.records[len(self.targets) :])

    @property
    def probability(self) -> np.ndarray:
        """Probability ``(H, W)`` that a background pixel scores at least as high; NaN where nothing is scored."""
        return self.tail.probabilities(self.score)

    def summary(self, most: int = 10) -> str:
        """Describe the threshold, and list the best targets and candidates, one a line.

        Args:
            most: Most lines of the list.
        """
        lines = [str(self), *self.notes]
        if self.records:
            lines.append(f"{'rank':>6} {'score':>11} {'by chance':>10} {'row':>6} {'column':>6}")
        lines += [
            f"{r['rank']:>6} {r['score']:>11.5g} {r['expected_false_alarms']:>10.2g} {r['row']:>6} {r['column']:>6}  {r['status']}"
            for r in self.records[:most]
        ]
        if len(self.records) > most:
            lines.append(f"{'':>6} and {len(self.records) - most} more in detections.csv")
        return "\n  ".join(lines)

    def __str__(self) -> str:
        targets = f"{len(self.targets)} target{'' if len(self.targets) == 1 else 's'}"
        return (
            f"{self.name}: {targets} above the threshold, {len(self.below)} candidates below. {self.threshold.sentence}"
        )

    __repr__ = __str__


def _plain(records: list[Record]) -> list[Record]:
    return [{k: v for k, v in record.items() if not k.startswith("_")} for record in records]


def _near_border(scene: Scored, targets: list[Target]) -> list[str]:
    inside = np.pad(np.isfinite(scene.score), ONE_SIDED)
    near = sum(not inside[t.row :, t.column :][: 2 * ONE_SIDED + 1, : 2 * ONE_SIDED + 1].all() for t in targets)
    if not scene.local or not near:
        return []
    return [
        f"{near} of {len(targets)} targets lie within {ONE_SIDED} px of the scene's border or of pixels without a score. A "
        "pixel there is compared with one side only, so background scores high more often. Of tiles, take ones that overlap."
    ]


def _threshold(scene: Scored, tail: Tail, bounds: dict[str, Any]) -> Threshold:
    options = scene.options
    if options.top is not None:
        lowest = threshold_for_count(scene.score, options.top, **bounds)
        return replace(choose_threshold(tail, score=lowest), rule=f"top {options.top}")
    rules = {name: getattr(options, name) for name in ("far", "fdr", "quantile", "score", "chi2")}
    return choose_threshold(tail, **rules, rank=scene.rank)
