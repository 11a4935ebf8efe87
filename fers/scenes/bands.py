"""The choice of a scene's bands, by quality, number or wavelength, and how they become a model's bands.

A choice is made from the wavelengths and flags that the file has. It says what was used, what was not, and why; its
``record`` goes into results.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fers.scenes.readers import Reader
from fers.scenes.readers.base import missing_pixels, windowed
from fers.scenes.readers.wavelengths import within
from fers.scenes.scene import Scene, SceneError, row_blocks
from fers.scenes.survey import Survey, survey

MIN_COVERAGE = 0.9  # share of a model's bands that the scene must have
SAME_NM = 1.0  # a band this near to the model's is that band
WATER_WINDOWS_NM = ((1350.0, 1440.0), (1800.0, 1960.0))  # water vapour absorbs everything here
_AVIRIS_WINDOWS_NM = ((1340.0, 1440.0), (1800.0, 1975.0))
_OVER_EARTH = re.compile(  # sensors that fly over it: their bands are judged without a place, too
    r"AVIRIS|EMIT|EnMAP|PRISMA|DESIS|Tanager|NEON|PACE|Hyperion|HyMap|CASI|HISUI|APEX|AisaEAGLE|AisaFENIX",
    re.IGNORECASE,
)
_NUMBERS = re.compile(r"(-?)(\d{1,6})(?::(\d{1,6}))?")  # counted from 1, ends included; a minus leaves them out
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s*(nm|um|[µμ]m)")  # the micro sign and the Greek letter


@dataclass(frozen=True)
class BandChoice:
    """Choice of the bands of a scene that are used. Bands are numbered from 0."""

    asked: str  # the request
    available: int  # number of bands in the file
    used: tuple[int, ...]  # in the order in which they are used
    bad: tuple[int, ...] = ()  # bands that are marked as bad
    bad_source: str = ""  # who marks them
    padded: int = 0  # zero-valued bands to append, as the authors do for scenes with too few
    targets: tuple[float, ...] | None = None  # (C,) wavelengths in nm of the model's bands that matrix makes
    matrix: np.ndarray | None = field(default=None, repr=False, compare=False)  # (C, len(used)) weights, if resampled
    coverage: float | None = None  # share of the model's bands that the scene's sensor has
    empty: tuple[int, ...] = ()  # bands that have data in no pixel, which are never used
    notes: tuple[str, ...] = ()  # what a reader of the results should know
    filled: tuple[int, ...] = ()  # the model's bands that no used one overlaps with: copies of the nearest used one

    @property
    def dropped(self) -> tuple[int, ...]:
        """Bands of the file that are not used, 0-based."""
        return tuple(sorted(set(range(self.available)) - set(self.used)))

    @property
    def count(self) -> int:
        """Number of bands C that ``apply`` gives and the padding adds."""
        return (len(self.used) if self.matrix is None else len(self.matrix)) + self.padded

    def apply(self, block: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Turn the used bands of a block, ``(rows, W, len(used))``, into the model's, without the padding.

        Returns:
            ``(rows, W, C)``: ``block`` itself, or float32 where it is resampled, with NaN where ``valid``, ``(rows, W)``
            bool, is False: no-data values must not be mixed. Each pixel depends on itself only, to the last bit.
        """
        if self.matrix is None:
            return block
        source = np.ascontiguousarray(np.moveaxis(block, 2, 0), dtype=np.float64)
        out = np.empty((len(self.matrix), *block.shape[:2]), np.float32)
        for place, weights in enumerate(self.matrix):
            total = np.zeros(block.shape[:2])
            for band in np.flatnonzero(weights):
                total += weights[band] * source[band]
            out[place] = total
        out[:, ~valid] = np.nan
        return np.moveaxis(out, 0, 2)

    def describe(self) -> str:
        """Describe the choice in one line, for the log."""
        parts = [f"bands: {len(self.used)} of {self.available} used ({self.asked})"]
        if self.bad or self.bad_source:
            left_out = len(set(self.bad) - set(self.used))
            parts.append(f"{len(self.bad)} marked bad by {self.bad_source}, {left_out} of them left out")
        if self.empty:
            parts.append(f"{len(self.empty)} without data anywhere left out (from 1: {_spans(self.empty)})")
        if self.matrix is not None:
            parts.append(f"resampled to the model's {len(self.matrix)}, {self.coverage:.0%} covered")
        if self.filled:
            parts.append(f"{len(self.filled)} without overlap copied from the nearest band")
        if self.padded:
            parts.append(f"{self.padded} zero-valued bands appended")
        return "; ".join(parts)

    def record(self) -> dict[str, Any]:
        """Return what goes into results: numbers, reasons, no arrays."""
        facts = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}
        del facts["matrix"], facts["targets"]
        resampled = None if self.matrix is None else list(self.targets or ())
        return facts | {"dropped": list(self.dropped), "resampled_to_nm": resampled}


def _spans(bands: tuple[int, ...]) -> str:
    """Write band numbers, here counted from 1, as ranges: "26:29, 40"."""
    numbers = np.array(bands) + 1
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return ", ".join(f"{run[0]}:{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


@dataclass
class _Request:
    """Bands that ``--bands`` asks for."""

    good: bool = False  # good bands only
    dry: bool = False  # none in which water vapour absorbs
    first: int | None = None  # at most so many
    ranges: list[tuple[float, float]] = field(default_factory=list)  # in nm, ends included
    numbers: list[tuple[int, int]] = field(default_factory=list)  # counted from 1, ends included
    without: list[tuple[int, int]] = field(default_factory=list)


def _parsed(text: str) -> _Request:
    """Parse the text of ``--bands``."""
    asked = _Request()
    for term in (part.strip().lower() for part in text.split(",")):
        if term in ("good", "all", "dry"):
            asked.good, asked.dry = asked.good or term == "good", asked.dry or term == "dry"
        elif re.fullmatch(r"first:[0-9]{1,9}", term) and int(term[6:]) > 0:
            asked.first = int(term[6:])
        elif (match := _RANGE.fullmatch(term)) and float(match[1]) < float(match[2]):
            factor = 1.0 if match[3] == "nm" else 1e3
            asked.ranges.append((float(match[1]) * factor, float(match[2]) * factor))
        elif (match := _NUMBERS.fullmatch(term)) and 0 < int(match[2]) <= int(match[3] or match[2]):
            (asked.without if match[1] else asked.numbers).append((int(match[2]), int(match[3] or match[2])))
        else:
            raise SceneError(
                f"--bands {text}: '{term}' is not understood. Give all, good, first:N, dry (no water vapour), wavelengths such "
                "as 400-900nm, or numbers counted from 1, 10:90 to keep and -26:29 to leave out; several with commas: "
                "good,400-900nm,-26:29."
            )
    return asked


def good_bands(source: Scene | Reader) -> tuple[np.ndarray, str]:
    """Tell which bands are good: by the provider's flags, else outside the windows where water vapour absorbs.

    These windows are of the Earth's air: they count where the scene has a place on it or its sensor flies over it.

    Returns:
        ``(B,)`` bool, and who says so; all True and an empty text where nothing judges the bands.
    """
    if source.good is not None:
        return source.good, source.good_source
    return _outside_water(source) if _over_earth(source) else (np.ones(source.bands, bool), "")


def _over_earth(source: Scene | Reader) -> bool:
    place = source.located if isinstance(source, Reader) else source.map_info is not None
    return place or _OVER_EARTH.search(source.sensor) is not None


def _outside_water(source: Scene | Reader) -> tuple[np.ndarray, str]:
    if source.wavelengths is None:
        return np.ones(source.bands, bool), ""
    windows = _AVIRIS_WINDOWS_NM if source.sensor.startswith("AVIRIS") else WATER_WINDOWS_NM
    return ~within(source.wavelengths, windows), "the water vapour windows " + " and ".join(
        f"{low:g}-{high:g} nm" for low, high in windows
    )


def choose_bands(
    source: Scene | Reader,
    request: str = "good",
    count: int | None = None,
    centres: np.ndarray | None = None,
    fwhm: np.ndarray | None = None,
) -> BandChoice:
    """Choose the bands of a scene.

    Args:
        source: A scene or reader.
        request: ``--bands``: ``all``, ``good``, ``first:N``, ``dry`` (no water vapour windows, wherever the scene is),
            ``400-900nm`` (or um), ``10:90`` and ``-26:29`` by number, from 1, to keep and to leave out; several with commas.
            Ranges add up, the others narrow. A band without data anywhere is never used.
        count: C, the number of bands that a model takes where it does not know their wavelengths: the first C of the
            chosen ones, with zero-valued bands appended where there are fewer.
        centres: ``(C,)`` wavelengths in nm that the model was trained on. The chosen bands are resampled to them, except
            for ``first:N``, which is by position.
        fwhm: ``(C,)`` widths of these.

    Raises:
        SceneError: The request is not understood, no band is left, wavelengths are needed and missing, or less than 90 %
            of the model's are covered.
    """
    asked = _parsed(request)
    first, ranges = asked.first, asked.ranges
    good, who = good_bands(source)
    by_wavelength = centres is not None and first is None
    if source.wavelengths is None and (ranges or by_wavelength):
        raise SceneError(
            f"{source.path}: the file has no wavelengths, and {'the model' if by_wavelength else '--bands'} goes by them. "
            "Add them to the file, or choose bands by position: --bands first:N."
        )
    inside = np.ones(source.bands, bool)
    if ranges and source.wavelengths is not None:
        inside = within(source.wavelengths, ranges)
    if asked.dry:
        if source.wavelengths is None:
            raise SceneError(
                f"{source.path}: has no wavelengths, and --bands dry goes by them. Give --wavelengths FILE."
            )
        inside &= _outside_water(source)[0]
    count_from_1 = np.arange(1, source.bands + 1)
    if beyond := [last for _, last in asked.numbers + asked.without if last > source.bands]:
        raise SceneError(f"{source.path}: --bands {request}: there is no band {beyond[0]}; it has 1 to {source.bands}.")
    if asked.numbers:
        inside &= within(count_from_1, asked.numbers)
    if asked.without:
        inside &= ~within(count_from_1, asked.without)
    chosen = np.flatnonzero(inside & (good if asked.good else True))
    look = survey(source, chosen) if len(chosen) else Survey(chosen, ())
    used = np.setdiff1d(chosen, look.empty)[:first]
    if len(used) == 0:
        raise SceneError(f"{source.path}: --bands {request} leaves none of its {source.bands} bands. Widen it.")
    choice = BandChoice(
        request,
        source.bands,
        tuple(used.tolist()),
        tuple(np.flatnonzero(~good).tolist()),
        who,
        empty=tuple(look.empty.tolist()),
        notes=(*look.notes, *_unjudged(source, asked)),
    )
    if centres is not None and by_wavelength:
        targets = np.asarray(centres, float)
        return _resampled(
            source, choice, inside, targets, _spacing(targets) if fwhm is None else np.asarray(fwhm, float)
        )
    wanted = first if count is None else count
    if wanted is None:
        return choice
    return replace(choice, used=choice.used[:wanted], padded=max(0, wanted - len(used)))


def _unjudged(source: Scene | Reader, asked: _Request) -> list[str]:
    """Say what follows where nothing tells which bands are good."""
    if source.wavelengths is None:
        judged = "" if source.good is not None else "no band is judged, those of water vapour count, and "
        return [
            f"no wavelengths are known: {judged}spectra are shown by band number. Give them with --wavelengths FILE, or "
            "leave bands out by number: --bands all,-26:29"
        ]
    if not asked.good or asked.dry or source.good is not None or _over_earth(source):
        return []
    wet = int((~_outside_water(source)[0]).sum())
    unplaced = "the scene has no place on the Earth, so its water vapour windows are not cut"
    return [f"{unplaced}: {wet} bands lie in them. --bands dry leaves them out"] if wet else []


def select(scene: Scene, choice: BandChoice) -> Scene:
    """Take the bands that ``choose_bands`` chose of this scene: a view where they are neighbours, else in memory.

    Pixels without data are NaN where the scene is resampled. The padding is left to ``normalise``.
    """
    used = np.array(choice.used)
    if choice.matrix is None:
        window, chosen = windowed(used)
        cube = scene.cube[:, :, window] if isinstance(chosen, slice) else scene.cube[:, :, used]
        wavelengths, fwhm, good = (None if v is None else v[used] for v in (scene.wavelengths, scene.fwhm, scene.good))
        return replace(scene, cube=cube, wavelengths=wavelengths, fwhm=fwhm, good=good)
    cube = np.empty((*scene.cube.shape[:2], choice.count), np.float32)
    for rows in row_blocks(scene.cube.shape):
        block = np.asarray(scene.cube[rows][:, :, used])
        cube[rows] = choice.apply(block, ~missing_pixels(block, scene.nodata))
    return replace(
        scene, cube=cube, wavelengths=np.array(choice.targets), fwhm=None, good=None, good_source="", nodata=()
    )


def _resampled(
    source: Scene | Reader, choice: BandChoice, present: np.ndarray, centres: np.ndarray, fwhm: np.ndarray
) -> BandChoice:
    """The choice with the weights to the model's wavelengths.

    Bad bands count as covered: the scene's sensor has them. They are filled from the nearest band like those it lacks.
    """
    from spectral import BandResampler

    assert source.wavelengths is not None
    used = np.array(choice.used)
    own = source.wavelengths[used]
    distance = np.abs(own[None, :] - centres[:, None])
    nearest, same = distance.argmin(axis=1), distance.min(axis=1) <= SAME_NM
    targets = tuple(centres.tolist())
    if same.all() and len(set(nearest)) == len(nearest):
        return replace(choice, used=tuple(used[nearest].tolist()), targets=targets, coverage=1.0)
    # widths of the whole sensor: a gap where bands were left out must not make their neighbours look wide
    widths = source.fwhm if source.fwhm is not None else _spacing(source.wavelengths)
    reach = (widths[present][None, :] + fwhm[:, None]) / 2
    covered = (np.abs(source.wavelengths[present][None, :] - centres[:, None]) <= reach).any(axis=1)
    if covered.mean() < MIN_COVERAGE:
        raise SceneError(
            f"{source.path}: its bands ({own.min():.0f}-{own.max():.0f} nm) cover {covered.mean():.0%} of the model's "
            f"{len(centres)} ({centres.min():.0f}-{centres.max():.0f} nm); {MIN_COVERAGE:.0%} are needed. Use a model trained "
            "on such wavelengths, or none: --features untrained."
        )
    order, target_order = np.argsort(own, kind="stable"), np.argsort(centres, kind="stable")
    logging.getLogger("spectral").setLevel(logging.WARNING)  # it reports each band without overlap
    weights = BandResampler(own[order], centres[target_order], widths[used][order], fwhm[target_order]).matrix
    matrix = np.empty((len(centres), len(used)))
    matrix[np.ix_(target_order, order)] = weights
    empty = np.isnan(matrix).any(axis=1) & ~same
    alike = same | empty
    matrix[alike] = 0
    matrix[alike, nearest[alike]] = 1
    filled = tuple(np.flatnonzero(empty).tolist())
    return replace(choice, targets=targets, matrix=matrix, coverage=float(covered.mean()), filled=filled)


def _spacing(centres: np.ndarray) -> np.ndarray:
    """Widths where none are given: the distance between neighbours."""
    if len(centres) < 2:
        return np.full(len(centres), 10.0)
    order = np.argsort(centres, kind="stable")
    widths = np.empty(len(centres))
    widths[order] = np.maximum(np.gradient(centres[order]), 1e-3)
    return widths
