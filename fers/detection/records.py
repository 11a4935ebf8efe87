"""Records of targets: place, rarity of the score, spectrum, and the wavelengths that contribute most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fers.detection.job import Job
from fers.detection.products.place import Place
from fers.detection.products.vector import Record, profile
from fers.detection.targets import Target, background_ring
from fers.detection.thresholds import Tail
from fers.detectors.background import Background
from fers.scenes.normalise import scaled

WITH_SPECTRA = 200  # targets, from the highest score; reading spectra takes whole rows of the file for each
TOP_BANDS = 5
_ROWS_READ = 64  # at a time, for targets near each other


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Spectra and picture of a target and its surroundings.

    Attributes:
        spectrum: Spectrum ``(C,)`` of its peak.
        mean, std: Mean and standard deviation ``(C,)`` of the ring around it, without pixels of targets; NaN if none is
            left.
        picture: The three shown bands, ``(rows, W, 3)``, NaN where there is no data.
        corner: Row and column of the picture's first pixel.
    """

    spectrum: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    picture: np.ndarray
    corner: tuple[int, int]


def read_surroundings(job: Job, targets: list[Target], labels: np.ndarray) -> dict[int, Surroundings]:
    """Read the spectra of the first targets.

    Args:
        job: Job that was computed; its reader and its bands are used.
        targets: Targets in the order of rank.
        labels: ``(H, W)``, 0 where no target is.

    Returns:
        The surroundings by rank.
    """
    found: dict[int, Surroundings] = {}
    rows, values, valid = slice(0, 0), np.empty(0), np.empty(0)
    for target in sorted(targets[:WITH_SPECTRA], key=lambda target: target.row):
        top, left, ring = background_ring(labels.shape, target.row, target.column)
        if not (rows.start <= top.start and top.stop <= rows.stop):
            rows = slice(top.start, min(max(top.stop, top.start + _ROWS_READ), labels.shape[0]))
            values, valid = job.read(rows)
        here = slice(top.start - rows.start, top.stop - rows.start)
        window, has_data = values[here, left].astype(np.float64), valid[here, left]
        background = window[ring & has_data & (labels[top, left] == 0)]
        picture = np.where(has_data[..., None], window[..., list(job.colours)], np.nan)
        nothing = np.full(window.shape[2], np.nan)
        found[target.rank] = Surroundings(
            window[target.row - top.start, target.column - left.start],
            background.mean(axis=0) if len(background) else nothing,
            background.std(axis=0) if len(background) else nothing,
            picture,
            (top.start, left.start),
        )
    return found


def make_records(
    targets: list[Target],
    surroundings: dict[int, Surroundings],
    job: Job,
    tail: Tail,
    place: Place,
    backgrounds: tuple[list[Background], np.ndarray],
    wavelengths: np.ndarray | None,
) -> list[Record]:
    """Make one record for each target.

    Args:
        targets: Targets in the order of rank.
        surroundings: Surroundings, by rank, of the targets whose spectra were read.
        job: Job that was computed.
        tail: Upper tail of the scores.
        place: The georeference.
        backgrounds: Mean and covariance of H in each segment, and the segments' middle rows.
        wavelengths: ``(C,)`` in nm, or None.
    """
    records = []
    for target in targets:
        x, y = _coordinates(place.xy(target.row, target.column))
        longitude, latitude = _coordinates(place.lonlat(target.row, target.column))
        probability = float(tail.probability(np.array(target.score)))
        record: Record = {
            "rank": target.rank,
            "score": _short(target.score),
            "score_sum": _short(target.total),
            "far": float(f"{probability:.3g}"),
            "expected_false_alarms": float(f"{probability * len(tail.scores):.3g}"),
            "pixels": target.pixels,
            "area_m2": None if target.area is None else _short(target.area),
            "row": target.row,
            "column": target.column,
            "x": x,
            "y": y,
            "longitude": longitude,
            "latitude": latitude,
            "source": str(job.reader.path),
            "top_wavelengths": [],
            "top_shares": [],
            "spectrum": None,
            "background": None,
            "_label": target.label,
            "_around": surroundings.get(target.rank),
        }
        if target.rank in surroundings:
            around = surroundings[target.rank]
            background = backgrounds[0][int(np.abs(backgrounds[1] - target.row).argmin())]
            record |= _explained(around, background, wavelengths, job)
        records.append(record)
    return records


def _explained(around: Surroundings, background: Background, wavelengths: np.ndarray | None, job: Job) -> Record:
    bands = job.bands.count - job.bands.padded  # zero-valued ones may have been appended
    terms = background.contributions(scaled(around.spectrum, job.low, job.high))[:bands]
    shares = terms / terms.sum() if terms.sum() > 0 else terms
    x = np.arange(1, len(shares) + 1) if wavelengths is None else wavelengths
    top = np.argsort(-shares, kind="stable")[:TOP_BANDS]
    return {
        "top_wavelengths": [_short(x[band]) for band in top],
        "top_shares": [float(f"{shares[band]:.3g}") for band in top],
        "spectrum": profile(x, around.spectrum[:bands], wavelengths is not None),
        "background": profile(x, around.mean[:bands], wavelengths is not None),
        "_shares": shares,
    }


def _coordinates(point: tuple[float, float] | None) -> tuple[Any, Any]:
    return (None, None) if point is None or not np.isfinite(point).all() else (float(point[0]), float(point[1]))


def _short(value: float) -> float:
    return float(f"{value:.7g}")
