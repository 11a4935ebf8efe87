"""Which bands of a scene are used, by quality, number or wavelength, and how they become a model's bands.

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
from fers.scenes.scene import Scene, SceneError, nodata_pixels, row_blocks

MIN_COVERAGE = 0.9  # share of a model's bands that the scene must have
SAME_NM = 1.0  # a band this near to the model's is that band
WATER_WINDOWS_NM = ((1350.0, 1440.0), (1800.0, 1960.0))  # water vapour absorbs everything here
_AVIRIS_WINDOWS_NM = ((1340.0, 1440.0), (1800.0, 1975.0))
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)\s*(nm|um|µm)", re.IGNORECASE)
SYNTAX = "all, good, first:N, or wavelengths such as 400-900nm; several with commas: good,400-900nm,1500-1700nm"


@dataclass(frozen=True)
class BandRequest:
    """Request of ``--bands``.

    Attributes:
        text: As it was written.
        good: Leave out bad bands.
        first: Take this many from the first on; None for no limit.
        ranges: Wavelengths in nm, ends included; all if empty.
    """

    text: str
    good: bool = False
    first: int | None = None
    ranges: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class BandChoice:
    """Choice of the bands of a scene that are used.

    Attributes:
        asked: The request.
        available: Number of bands in the file.
        used: Their numbers, 0-based, in the order in which they are used.
        bad: Bands that are marked as bad.
        bad_source: Who marks them.
        padded: Zero-valued bands to append, as the authors do for scenes with too few.
        targets: ``(C,)`` wavelengths in nm of the model's bands that ``matrix`` makes.
        matrix: ``(C, len(used))`` weights from used bands to the model's; None where bands are taken as they are.
        coverage: Share of the model's bands that the scene's sensor has; None without a model's wavelengths.
        filled: The model's bands, 0-based, that no used band overlaps with, because the sensor lacks them or they are bad;
            each is a copy of the nearest used band.
    """

    asked: str
    available: int
    used: tuple[int, ...]
    bad: tuple[int, ...] = ()
    bad_source: str = ""
    padded: int = 0
    targets: tuple[float, ...] | None = None
    matrix: np.ndarray | None = field(default=None, repr=False, compare=False)
    coverage: float | None = None
    filled: tuple[int, ...] = ()

    @property
    def dropped(self) -> tuple[int, ...]:
        """Bands of the file that are not used, 0-based."""
        return tuple(sorted(set(range(self.available)) - set(self.used)))

    @property
    def count(self) -> int:
        """Number of bands C that ``apply`` gives and the padding adds."""
        return (len(self.used) if self.matrix is None else len(self.matrix)) + self.padded

    def apply(self, block: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
        """Turn the used bands into the model's.

        Args:
            block: ``(rows, W, len(used))``.
            valid: ``(rows, W)`` bool; where it is False, a resampled pixel is NaN. No-data values must not be mixed.

        Returns:
            ``(rows, W, C)`` without the padding: ``block`` itself, or float32 where it is resampled. Each pixel depends on
            itself only, to the last bit.
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
        if valid is not None:
            out[:, ~valid] = np.nan
        return np.moveaxis(out, 0, 2)

    def describe(self) -> str:
        """Describe the choice in one line, for the log."""
        parts = [f"bands: {len(self.used)} of {self.available} used ({self.asked})"]
        if self.bad or self.bad_source:
            left_out = len(set(self.bad) - set(self.used))
            parts.append(f"{len(self.bad)} marked bad by {self.bad_source}, {left_out} of them left out")
        if self.matrix is not None:
            parts.append(f"resampled to the model's {len(self.matrix)}, {self.coverage:.0%} covered")
        if self.filled:
            parts.append(f"{len(self.filled)} without overlap copied from the nearest band")
        if self.padded:
            parts.append(f"{self.padded} zero-valued bands appended")
        return "; ".join(parts)

    def record(self) -> dict[str, Any]:
        """Return what goes into results: numbers, reasons, no arrays."""
        return {
            "asked": self.asked,
            "available": self.available,
            "used": list(self.used),
            "dropped": list(self.dropped),
            "bad": list(self.bad),
            "bad_source": self.bad_source,
            "padded": self.padded,
            "resampled_to_nm": None if self.matrix is None else list(self.targets or ()),
            "coverage": self.coverage,
            "filled": list(self.filled),
        }


def parse_bands(text: str) -> BandRequest:
    """Read a ``--bands`` option.

    Args:
        text: ``all``, ``good``, ``first:N``, ``400-900nm`` (or um); several with commas. Ranges add up, the others narrow.

    Raises:
        SceneError: It is none of these.

    Example:
        >>> parse_bands("good,0.4-0.9um").ranges
        ((400.0, 900.0),)
    """
    good, first, ranges = False, None, []
    for term in (part.strip().lower() for part in text.split(",")):
        if term in ("good", "all"):
            good = good or term == "good"
        elif re.fullmatch(r"first:[0-9]{1,9}", term) and int(term[6:]) > 0:
            first = int(term[6:])
        elif (match := _RANGE.fullmatch(term)) and float(match[1]) < float(match[2]):
            factor = 1.0 if match[3] == "nm" else 1e3
            ranges.append((float(match[1]) * factor, float(match[2]) * factor))
        else:
            raise SceneError(f"--bands {text}: '{term}' is not understood. Give {SYNTAX}.")
    return BandRequest(text, good, first, tuple(ranges))


def good_bands(source: Scene | Reader) -> tuple[np.ndarray, str]:
    """Tell which bands are good: by the provider's flags, else outside the windows where water vapour absorbs.

    Args:
        source: A scene or reader.

    Returns:
        ``(B,)`` bool, and who says so; all True and an empty text where the file has neither flags nor wavelengths.
    """
    if source.good is not None:
        return source.good, source.good_source
    if source.wavelengths is None:
        return np.ones(source.bands, bool), ""
    windows = _AVIRIS_WINDOWS_NM if source.sensor.startswith("AVIRIS") else WATER_WINDOWS_NM
    bad = np.any([(source.wavelengths >= low) & (source.wavelengths <= high) for low, high in windows], axis=0)
    return ~bad, "the water vapour windows " + " and ".join(f"{low:g}-{high:g} nm" for low, high in windows)


def choose_bands(
    source: Scene | Reader,
    request: BandRequest | str = "good",
    count: int | None = None,
    centres: np.ndarray | None = None,
    fwhm: np.ndarray | None = None,
) -> BandChoice:
    """Choose the bands of a scene.

    Args:
        source: A scene or reader.
        request: What ``--bands`` asks for.
        count: C, the number of bands that a model takes where it does not know their wavelengths: the first C of the
            chosen ones, with zero-valued bands appended where there are fewer.
        centres: ``(C,)`` wavelengths in nm that the model was trained on. The chosen bands are resampled to them, except
            for ``first:N``, which is by position.
        fwhm: ``(C,)`` widths of these.

    Returns:
        The choice.

    Raises:
        SceneError: No band is left, wavelengths are needed and missing, or less than 90 % of the model's are covered.
    """
    if isinstance(request, str):
        request = parse_bands(request)
    good, who = good_bands(source)
    by_wavelength = centres is not None and request.first is None
    if source.wavelengths is None and (request.ranges or by_wavelength):
        raise SceneError(
            f"{source.path}: the file has no wavelengths, and {'the model' if by_wavelength else '--bands'} goes by them. "
            "Add them to the file, or choose bands by position: --bands first:N."
        )
    inside = np.ones(source.bands, bool)
    if request.ranges and source.wavelengths is not None:
        within = [(source.wavelengths >= low) & (source.wavelengths <= high) for low, high in request.ranges]
        inside = np.any(within, axis=0)
    used = np.flatnonzero(inside & good if request.good else inside)[: request.first]
    if len(used) == 0:
        raise SceneError(f"{source.path}: --bands {request.text} leaves none of its {source.bands} bands. Widen it.")
    choice = BandChoice(request.text, source.bands, tuple(used.tolist()), tuple(np.flatnonzero(~good).tolist()), who)
    if by_wavelength:
        assert centres is not None
        targets = np.asarray(centres, float)
        widths = _spacing(targets) if fwhm is None else np.asarray(fwhm, float)
        return _resampled(source, choice, inside, targets, widths)
    wanted = request.first if count is None else count
    if wanted is None:
        return choice
    return replace(choice, used=choice.used[:wanted], padded=max(0, wanted - len(used)))


def select(scene: Scene, choice: BandChoice) -> Scene:
    """Take the chosen bands of a scene: a view where they are neighbours, else in memory.

    Args:
        scene: The scene.
        choice: From ``choose_bands`` of this scene.

    Returns:
        The scene; pixels without data are NaN where it was resampled. The padding is left to ``normalise``.
    """
    used = np.array(choice.used)
    if choice.matrix is None:
        neighbours = len(used) == used[-1] - used[0] + 1 and (np.diff(used) == 1).all()
        cube = scene.cube[:, :, used[0] : used[-1] + 1] if neighbours else scene.cube[:, :, used]
        wavelengths, fwhm, good = (None if v is None else v[used] for v in (scene.wavelengths, scene.fwhm, scene.good))
        return replace(scene, cube=cube, wavelengths=wavelengths, fwhm=fwhm, good=good)
    cube = np.empty((*scene.cube.shape[:2], choice.count), np.float32)
    for rows in row_blocks(scene.cube.shape):
        block = replace(scene, cube=np.asarray(scene.cube[rows][:, :, used]))
        cube[rows] = choice.apply(block.cube, ~nodata_pixels(block))
    return replace(
        scene, cube=cube, wavelengths=np.array(choice.targets), fwhm=None, good=None, good_source="", nodata=()
    )


def _resampled(
    source: Scene | Reader, choice: BandChoice, present: np.ndarray, centres: np.ndarray, fwhm: np.ndarray
) -> BandChoice:
    """The choice with the weights to the model's wavelengths.

    Bad bands count as covered: the scene's sensor has them. They are filled from the nearest band like those it lacks.
    """
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
    order = np.argsort(own, kind="stable")
    matrix = np.zeros((len(centres), len(used)))
    matrix[:, order] = _weights(own[order], widths[used][order], centres, fwhm)
    empty = np.isnan(matrix).any(axis=1) & ~same
    alike = same | empty
    matrix[alike] = 0
    matrix[alike, nearest[alike]] = 1
    filled = tuple(np.flatnonzero(empty).tolist())
    return replace(choice, targets=targets, matrix=matrix, coverage=float(covered.mean()), filled=filled)


def _weights(own: np.ndarray, own_fwhm: np.ndarray, centres: np.ndarray, fwhm: np.ndarray) -> np.ndarray:
    from spectral import BandResampler

    logging.getLogger("spectral").setLevel(logging.WARNING)  # it reports each band without overlap
    order = np.argsort(centres, kind="stable")
    matrix = np.empty((len(centres), len(own)))
    matrix[order] = BandResampler(own, centres[order], own_fwhm, fwhm[order]).matrix
    return matrix


def _spacing(centres: np.ndarray) -> np.ndarray:
    """Widths where none are given: the distance between neighbours."""
    if len(centres) < 2:
        return np.full(len(centres), 10.0)
    order = np.argsort(centres, kind="stable")
    widths = np.empty(len(centres))
    widths[order] = np.maximum(np.gradient(centres[order]), 1e-3)
    return widths
