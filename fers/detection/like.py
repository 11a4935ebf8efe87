"""The step after a find: where else in the scene is this spectrum? And which entries of a library are like the targets?

The background of a search is the scene's own, without the pixels of the highest anomaly scores: a target and its like in the
covariance would hide each other. It takes one pass over the scene, and is kept; the search itself takes another.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fers.detection.blocks import parse_size, rows_of_strip
from fers.detection.findings import Findings
from fers.detection.inputs import used_wavelengths
from fers.detection.job import Job, normalised_rows
from fers.detection.options import DEFAULT_FAR, DetectOptions
from fers.detection.products.vector import Record
from fers.detection.search import LIKENESSES, SEARCH_RIDGE, TRIMMED, Likeness, null_threshold, spectral_angle
from fers.detection.store import BackgroundStatistics
from fers.detection.streaming import without_highest
from fers.detection.targets import find_candidates, find_targets
from fers.detection.thresholds import Tail, Threshold
from fers.detectors.background import Moments
from fers.detectors.base import Sum
from fers.scenes.libraries import REFLECTANCE, Library, read_library
from fers.scenes.normalise import scaled
from fers.util.errors import FersError

LISTED = 20  # places at least, as far as there are any: those below the threshold are marked
LEAST_COVERED = 0.8  # share of the scene's bands that a spectrum must have
BRIGHTEST_REFLECTANCE = 1.5  # 99 % of the pixels are below it in a scene of reflectance
INTEGER_REFLECTANCE = 1e-4  # scale of reflectance in whole numbers
AS_STORED = "as stored"  # unit of a spectrum from a scene that is not reflectance
NEAREST = 3  # entries of a library that a target names
_MOST_ALIKE = 1 - 1e-9  # ACE, where it is taken to an unbounded scale
_COMPARED = 1 << 12  # compared at a time


@dataclass(frozen=True, eq=False)
class Sought:
    """A spectrum to look for.

    Attributes:
        name: Its name, such as ``target 3``.
        values: ``(C,)`` in the scene's own values, NaN for bands that it lacks.
        row, column: Its pixel in this scene; None for one from elsewhere.
    """

    name: str
    values: np.ndarray
    row: int | None = None
    column: int | None = None


@dataclass(frozen=True, eq=False)
class Search:
    """Places of a scene that are like a spectrum.

    Attributes:
        sought: The spectrum.
        by: Measure of ``LIKENESSES`` that ranks the places.
        maps: ``(H, W)`` float32 for each measure, NaN where nothing is scored.
        threshold: Places at or above it are alike. For the angle it is on its negative.
        nominal: What Gaussian background of known covariance would exceed at the same rate; None where no law is known.
        places: One record for each place, the most alike first; keys that begin with _ are not written.
        labels: ``(H, W)`` int32, ``_label`` of the places, or 0.
        statistics: Background of the search.
        wavelengths, fwhm: ``(C,)`` nm of the bands, or None.
        unit: Unit of ``sought.values`` over ``scale``.
        scale: See ``unit``.
    """

    sought: Sought
    by: str
    maps: dict[str, np.ndarray]
    threshold: Threshold
    nominal: float | None
    places: list[Record]
    labels: np.ndarray
    statistics: BackgroundStatistics
    wavelengths: np.ndarray | None
    fwhm: np.ndarray | None
    unit: str
    scale: float

    @property
    def alike(self) -> list[Record]:
        """Places above the threshold, without the spectrum's own."""
        return [place for place in self.places if place["status"] == "like it"]

    def __str__(self) -> str:
        count = len(self.alike)
        return f"{count} place{'' if count == 1 else 's'} like {self.sought.name}, by {LIKENESSES[self.by]}"

    def record(self) -> dict[str, Any]:
        """Return what run.json keeps."""
        facts = {"sought": self.sought.name, "row": self.sought.row, "column": self.sought.column}
        threshold = asdict(self.threshold) | {"nominal_law": self.nominal}
        return facts | {
            "by": self.by,
            "ridge": SEARCH_RIDGE,
            "trimmed": TRIMMED,
            "threshold": threshold,
            "places": len(self.alike),
        }


def search(result: Findings, text: str, by: str = "ace", background: BackgroundStatistics | None = None) -> Search:
    """Search a scene for a spectrum.

    Args:
        result: A detection in the scene. Its scores say which pixels are background.
        text: Number of a target of it; ``row,column``; or a file of spectra, with ``:NAME`` where it holds several.
        by: Measure of ``LIKENESSES``.
        background: Background of an earlier search in the same scene.

    Raises:
        FersError: The spectrum does not fit the scene, or the scene is gone.
    """
    job = result.scene.read_job()
    scene = _Bands.of(job, result)
    sought = _sought(text, result, job, scene)
    usable = np.isfinite(sought.values)
    statistics = background or _background(result, job)
    moments = statistics.background()
    mean, covariance = moments.mean[0].numpy(), moments.covariance[0].numpy()
    inside = np.flatnonzero(usable)
    like = Likeness(scaled(sought.values[inside], job.low, job.high), mean[inside], covariance[np.ix_(inside, inside)])
    maps = {name: np.full(result.score.shape, np.nan, np.float32) for name in LIKENESSES}
    for rows, values, there in _strips(job, result.scene.options):
        pixels = values[there & np.isfinite(result.score[rows])][:, inside]
        found = {name: np.empty(len(pixels), np.float32) for name in LIKENESSES}
        for start in range(0, len(pixels), _COMPARED):
            some = pixels[start : start + _COMPARED].astype(np.float64)
            here = slice(start, start + len(some))
            found["ace"][here], found["mf"][here] = like(scaled(some, job.low, job.high))
            found["sam"][here] = spectral_angle(some, sought.values[inside])
        for name, each in found.items():
            maps[name][rows][there & np.isfinite(result.score[rows])] = each
    likeness = -maps["sam"].astype(np.float64) if by == "sam" else maps[by].astype(np.float64)
    threshold, nominal = _search_threshold(result, likeness, by, len(inside))
    places, labels = _ranked(result, sought, likeness, maps, threshold)
    return Search(
        sought,
        by,
        maps,
        threshold,
        nominal,
        places,
        labels,
        statistics,
        scene.centres,
        scene.fwhm,
        scene.unit,
        scene.scale,
    )


def nearest_entries(result: Findings, library: Library) -> None:
    """Name the library's entries nearest to each target's spectrum, by spectral angle, in its record.

    Args:
        result: The detection; its records get the entry ``library``: names with their angle in radians, the nearest first.
        library: The library.

    Raises:
        FersError: The scene has no wavelengths, is not reflectance, or lies outside the library.
    """
    scene = _Bands.of(result.scene.read_job(), result)
    entries = scene.resampled(library)
    for record in result.records:
        record["library"] = []
        if record["spectrum"] is None:
            continue
        spectrum = np.array([np.nan if v is None else v for v in record["spectrum"]["y"]], float)
        angles = []
        for name, entry in zip(library.names, entries, strict=True):
            both = np.isfinite(spectrum) & np.isfinite(entry)
            if both.mean() >= LEAST_COVERED:
                angles.append((float(spectral_angle(spectrum[None, both], entry[both])[0]), name))
        record["library"] = [f"{name} ({angle:.3g} rad)" for angle, name in sorted(angles)[:NEAREST]]


@dataclass(frozen=True, eq=False)
class _Bands:
    """Facts that a spectrum from elsewhere must fit: the scene's bands, its unit, and the factor from it to the scene's values."""

    path: Path
    centres: np.ndarray | None
    fwhm: np.ndarray | None
    unit: str
    scale: float
    brightest: float

    @classmethod
    def of(cls, job: Job, result: Findings) -> _Bands:
        reader, bands = job.reader, job.bands
        shown = result.scene.colours
        brightest = float(np.nanpercentile(shown, 99)) if np.isfinite(shown).any() else np.inf
        scale = 1.0
        if reader.dtype.kind in "iu" and brightest > BRIGHTEST_REFLECTANCE:
            scale = 1 / INTEGER_REFLECTANCE
        unit = REFLECTANCE if brightest / scale <= BRIGHTEST_REFLECTANCE else AS_STORED
        centres, fwhm = used_wavelengths(reader, bands), None
        if bands.matrix is None and reader.fwhm is not None:
            fwhm = reader.fwhm[list(bands.used)]
        return cls(reader.path, centres, fwhm, unit, scale if unit == REFLECTANCE else 1.0, brightest)

    def resampled(self, library: Library) -> np.ndarray:
        """Bring a library to the scene's bands and values, ``(n, C)``."""
        if self.centres is None:
            raise FersError(
                f"{self.path}: has no wavelengths, so a library cannot be compared with it. Search for a target or a pixel."
            )
        if library.unit != self.unit:
            raise FersError(
                f"{library.path}: holds {library.unit}, and {self.path} does not look like it: 1 % of its values are above "
                f"{self.brightest:.4g}. Give a scene of reflectance (level 2), or search for a target of the scene itself."
            )
        return library.resampled(self.centres, self.fwhm) * self.scale


def spectrum_in(text: str) -> Library | None:
    """Read the spectrum that ``--like`` names in a file; None where it names a target or a pixel.

    Raises:
        FersError: The file cannot be read, or holds several spectra and none is named.
    """
    if re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)?", text):
        return None
    path, name = Path(text), ""
    if not path.exists() and ":" in text:
        before, _, name = text.rpartition(":")
        path = Path(before)
    library = read_library(path)
    if name:
        return library.only(name)
    if len(library.names) > 1:
        raise FersError(
            f"--like {text}: holds {len(library.names)} spectra ({', '.join(library.names[:5])}, ...). "
            f"Say which: {text}:NAME."
        )
    return library


def _sought(text: str, result: Findings, job: Job, scene: _Bands) -> Sought:
    height, width = result.score.shape
    if re.fullmatch(r"\d+", text):
        record = next((record for record in result.records if record["rank"] == int(text)), None)
        if record is None:
            raise FersError(
                f"--like {text}: there is no such target; {result.name} has 1 to {len(result.records)}. "
                "Give one of them, row,column, or a file of spectra."
            )
        return _of_pixel(f"target {text}", job, record["row"], record["column"])
    if match := re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", text):
        row, column = int(match[1]), int(match[2])
        if row >= height or column >= width:
            raise FersError(f"--like {text}: the scene has rows 0 to {height - 1} and columns 0 to {width - 1}.")
        return _of_pixel(f"row {row}, column {column}", job, row, column)
    library = spectrum_in(text)
    assert library is not None
    values = scene.resampled(library)[0]
    covered = np.isfinite(values).mean()
    if covered < LEAST_COVERED:
        raise FersError(
            f"{library.path}: '{library.names[0]}' covers {covered:.0%} of the scene's {len(values)} bands; {LEAST_COVERED:.0%} are "
            "needed. Give another spectrum, or fewer bands by --bands."
        )
    return Sought(library.names[0], values)


def _of_pixel(name: str, job: Job, row: int, column: int) -> Sought:
    values, there = job.read(slice(row, row + 1))
    if not there[0, column]:
        raise FersError(f"--like: row {row}, column {column} has no data. Give another pixel.")
    return Sought(name, values[0, column, : _own_bands(job)].astype(np.float64), row, column)


def _own_bands(job: Job) -> int:
    """Number of bands without appended ones."""
    return job.bands.count - job.bands.padded


def _background(result: Findings, job: Job) -> BackgroundStatistics:
    """Moments of H without the highest anomaly scores, in one pass."""
    out = result.scene.left_out
    without = (lambda rows: np.zeros_like(result.score[rows], bool)) if out is None else (lambda rows: out[rows])
    fewer, _ = without_highest(without, result.score, TRIMMED)
    total: Sum[Moments] = Sum()
    for rows, values, there in _strips(job, result.scene.options):
        h = normalised_rows(values, job.low, job.high, torch.device("cpu")).permute(2, 0, 1)[None]
        total.add(Moments.of(h, (~there | fewer(rows))[None]))
    assert job.fill is not None
    return BackgroundStatistics(job.low, job.high, job.fill, [[total.total()]])


def _strips(job: Job, options: DetectOptions) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Rows, values ``(rows, W, C)`` and where they are valid; the next strips are read meanwhile."""
    height, width = job.reader.shape[:2]
    step, count = rows_of_strip(height, width, job.reader.native_chunks[0]), _own_bands(job)
    workers = options.workers or os.cpu_count() or 1
    workers = max(1, min(workers, parse_size(options.memory) // (2 * step * width * count * 12)))

    def read(start: int) -> tuple[slice, np.ndarray, np.ndarray]:
        rows = slice(start, min(start + step, height))
        values, there = job.read(rows)
        return rows, values[..., :count], there

    starts = list(range(0, height, step))
    with ThreadPoolExecutor(workers) as pool:
        waiting = [pool.submit(read, start) for start in starts[:workers]]
        for number in range(len(starts)):
            yield waiting.pop(0).result()
            if number + workers < len(starts):
                waiting.append(pool.submit(read, starts[number + workers]))


def _search_threshold(result: Findings, likeness: np.ndarray, by: str, bands: int) -> tuple[Threshold, float | None]:
    """By the tail of the pixels that are no targets; for ACE never below the nominal law."""
    rate = result.scene.options.far or DEFAULT_FAR
    nominal = None
    background = np.where(result.score >= result.threshold.value, np.nan, likeness)
    if by == "ace":  # its cosine by Fisher's transformation: a tail without an end at 1, near to a normal one
        background = np.arctanh(np.sign(background) * np.sqrt(np.minimum(np.abs(background), _MOST_ALIKE)))
    value = Tail.fit(background, signed=True).threshold(rate)
    if by == "ace":
        nominal = null_threshold(rate, bands)
        value = max(np.sign(value) * np.tanh(value) ** 2, nominal)
    scored = int(np.isfinite(likeness).sum())
    realised = float((likeness >= value).sum() / max(scored, 1))
    return Threshold(float(value), "tail of the pixels that are no targets", rate, realised, scored), nominal


def _ranked(
    result: Findings, sought: Sought, likeness: np.ndarray, maps: dict[str, np.ndarray], threshold: Threshold
) -> tuple[list[Record], np.ndarray]:
    place = result.scene.place
    bounds: dict[str, Any] = {"pixel_area": place.pixel_area} if place.known else {}
    bounds["known"] = result.scene.known
    found, labels = find_targets(likeness, threshold.value, **bounds)
    below = find_candidates(likeness, labels, max(LISTED - len(found), 0), **bounds)
    records = []
    for rank, each in enumerate([*found, *below], start=1):
        itself = sought.row is not None and labels[sought.row, sought.column or 0] == each.label
        point, at = place.xy(each.row, each.column), place.lonlat(each.row, each.column)
        box = tuple(slice(*ends) for ends in zip(each.bounds[:2], each.bounds[2:], strict=True))
        detected = result.labels[box][labels[box] == each.label]
        ranks = [r["rank"] for r in result.records if r["_label"] in np.unique(detected[detected > 0])]
        records.append(
            {
                "rank": rank,
                "status": "itself" if itself else "like it" if each.score >= threshold.value else "candidate",
                **{name: float(f"{values[each.row, each.column]:.5g}") for name, values in maps.items()},
                "target": min(ranks, default=None),
                "pixels": each.pixels,
                "area_m2": None if each.area is None else float(f"{each.area:.7g}"),
                "row": each.row,
                "column": each.column,
                "x": None if point is None else float(point[0]),
                "y": None if point is None else float(point[1]),
                "longitude": None if at is None else at[0],
                "latitude": None if at is None else at[1],
                "spectrum": None,
                "_label": each.label,
            }
        )
    return records, labels
