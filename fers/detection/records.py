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

ABOVE, BELOW = "above the threshold", "candidate"  # status of a target
WITH_SPECTRA = 200  # targets, from the highest score; reading spectra takes whole rows of the file for each
TOP_BANDS = 5
_ROWS_READ = 64  # at a time, for targets near each other


@dataclass(frozen=True, eq=False)
class Spectra:
    """Spectra and picture of a target and its surroundings, in C bands.

    Attributes:
        wavelengths: ``(C,)`` nm, or None.
        spectrum: Spectrum ``(C,)`` of its peak.
        mean, std: Mean and standard deviation ``(C,)`` of the ring around it, without pixels of targets; NaN if none is
            left.
        shares: Share ``(C,)`` of each band in its RX score on H.
        picture: The three shown bands, ``(rows, W, 3)``, NaN where there is no data.
        corner: Row and column of the picture's first pixel.
    """

    wavelengths: np.ndarray | None
    spectrum: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    shares: np.ndarray
    picture: np.ndarray
    corner: tuple[int, int]


def read_spectra(
    targets: list[Target],
    labels: np.ndarray,
    job: Job,
    backgrounds: tuple[list[Background], np.ndarray],
    wavelengths: np.ndarray | None,
) -> dict[int, Spectra]:
    """Read the spectra of the first targets from the cube.

    Args:
        targets: Targets in the order of rank.
        labels: ``(H, W)``, 0 where no target is.
        job: Job that was computed; its reader and its bands are used.
        backgrounds: Mean and covariance of H in each segment, and the segments' middle rows.
        wavelengths: ``(C,)`` in nm, or None.

    Returns:
        The spectra by rank.
    """
    found: dict[int, Spectra] = {}
    bands = job.bands.count - job.bands.padded  # zero-valued ones may have been appended
    rows, values, valid = slice(0, 0), np.empty(0), np.empty(0)
    for target in sorted(targets[:WITH_SPECTRA], key=lambda target: target.row):
        top, left, ring = background_ring(labels.shape, target.row, target.column)
        if not (rows.start <= top.start and top.stop <= rows.stop):
            rows = slice(top.start, min(max(top.stop, top.start + _ROWS_READ), labels.shape[0]))
            values, valid = job.read(rows)
        here = slice(top.start - rows.start, top.stop - rows.start)
        window, has_data = values[here, left].astype(np.float64), valid[here, left]
        around = window[ring & has_data & (labels[top, left] == 0)][:, :bands]
        spectrum = window[target.row - top.start, target.column - left.start]
        background = backgrounds[0][int(np.abs(backgrounds[1] - target.row).argmin())]
        terms = background.contributions(scaled(spectrum, job.low, job.high))[:bands]
        nothing = np.full(bands, np.nan)
        found[target.rank] = Spectra(
            wavelengths,
            spectrum[:bands],
            around.mean(axis=0) if len(around) else nothing,
            around.std(axis=0) if len(around) else nothing,
            terms / terms.sum() if terms.sum() > 0 else terms,
            np.where(has_data[..., None], window[..., list(job.colours)], np.nan),
            (top.start, left.start),
        )
    return found


def make_records(
    targets: list[Target],
    candidates: list[Target],
    spectra: dict[int, Spectra],
    tail: Tail,
    place: Place,
    source: str,
) -> list[Record]:
    """Make one record for each target and candidate.

    Args:
        targets: Targets above the threshold, in the order of rank.
        candidates: Those below it, likewise.
        spectra: Spectra, by rank, of those whose spectra were read.
        tail: Upper tail of the scores.
        place: The georeference.
        source: File of the scene.
    """
    records = []
    for target in [*targets, *candidates]:
        x, y = _coordinates(place.xy(target.row, target.column))
        longitude, latitude = _coordinates(place.lonlat(target.row, target.column))
        probability = float(tail.probability(target.score))
        record: Record = {
            "rank": target.rank,
            "status": ABOVE if target.rank <= len(targets) else BELOW,
            "score": _short(target.score),
            "score_sum": _short(target.total),
            "far": float(f"{probability:.3g}"),
            "expected_false_alarms": float(f"{probability * tail.count:.3g}"),
            "pixels": target.pixels,
            "area_m2": None if target.area is None else _short(target.area),
            "row": target.row,
            "column": target.column,
            "x": x,
            "y": y,
            "longitude": longitude,
            "latitude": latitude,
            "source": source,
            "top_wavelengths": [],
            "top_shares": [],
            "spectrum": None,
            "background": None,
            "_label": target.label,
            "_spectra": spectra.get(target.rank),
        }
        if target.rank in spectra:
            record |= _told_of(spectra[target.rank])
        records.append(record)
    return records


def _told_of(read: Spectra) -> Record:
    known = read.wavelengths is not None
    x = read.wavelengths if known else np.arange(1, len(read.shares) + 1)
    top = np.argsort(-read.shares, kind="stable")[:TOP_BANDS]
    return {
        "top_wavelengths": [_short(x[band]) for band in top],
        "top_shares": [float(f"{read.shares[band]:.3g}") for band in top],
        "spectrum": profile(x, read.spectrum, known),
        "background": profile(x, read.mean, known),
    }


def _coordinates(point: tuple[float, float] | None) -> tuple[Any, Any]:
    return (None, None) if point is None or not np.isfinite(point).all() else (float(point[0]), float(point[1]))


def _short(value: float) -> float:
    return float(f"{value:.7g}")
