"""Units of wavelength, and what band names say about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fers.scenes.readers.errors import SceneError, check_length, refusing

SPELLINGS = ("wavelengths", "wavelength", "Wavelength", "Wavelengths", "WAVELENGTH")  # names of arrays of band centres
_FACTORS = {  # nm in each; µ is both the micro sign and the Greek letter
    1.0: "nanometer nanometre nm",
    1e3: "micrometer micrometre micron um µm μm",
    1e6: "millimeter mm",
    1e7: "centimeter cm",
}
_UNITS = {unit: factor for factor, units in _FACTORS.items() for unit in units.split()}
_LARGEST_TEXT = 1 << 20  # bytes of a file of wavelengths
_WAVENUMBER = ("wavenumber", "cm-1", "1/cm")
_PLAIN = re.compile(r"band[ _-]?(\d{3,4}(?:\.\d+)?)", re.IGNORECASE)
_NAMED = re.compile(r"(\d+(?:\.\d+)?)\s*(nanometers?|nm|micrometers?|um|µm|μm)\b", re.IGNORECASE)


def to_nm(
    centres: np.ndarray, unit: str, fwhm: np.ndarray | None = None
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Convert band centres and widths, ``(B,)`` in a unit as the file spells it, to nm.

    Without a usable unit, centres below 100 are micrometres. None where the unit is "Index", or there are no widths.

    Example:
        >>> to_nm(np.array([0.55, 2.2]), "Micrometers")[0].tolist()
        [550.0, 2200.0]
        >>> to_nm(np.array([10000.0]), "Wavenumber")[0].tolist()
        [1000.0]
    """
    unit = unit.strip().lower()
    if unit == "index":
        return None, None
    if unit.removesuffix("s") in _WAVENUMBER:
        return 1e7 / centres, None if fwhm is None else 1e7 * fwhm / centres**2
    # reflected light lies below 100 if it is in micrometres, and above if in nanometres
    factor = _UNITS.get(unit if unit in _UNITS else unit.removesuffix("s"), 1e3 if centres.max() < 100 else 1.0)
    return centres * factor, None if fwhm is None else fwhm * factor


def read_wavelengths(path: Path, bands: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Read band centres, and widths if there are any, in nm from a file of text or .npy: one row a band.

    Columns are the centre and the width, in nm or um; before them may stand the number of the band. Lines that hold other
    words, such as a title, are left out.

    Raises:
        SceneError: The file has not one row for each of the scene's ``bands``, or cannot be read.
    """
    with refusing(path, "file of wavelengths"):
        check_length(path, _LARGEST_TEXT)
        if path.suffix.lower() == ".npy":
            table = np.atleast_2d(np.asarray(np.load(path, allow_pickle=False), float).T).T
        else:
            lines = (
                re.split(r"[\s,;]+", line.strip().strip(",;{}[]")) for line in path.read_text("latin-1").splitlines()
            )
            rows = [row for line in lines if line != [""] and (row := _numbers(line))]
            if len(rows) == 1 or len({len(row) for row in rows}) > 1:  # a list over one or several lines
                rows = [[number] for row in rows for number in row]
            table = np.array(rows)
        if len(table) != bands:
            raise SceneError(f"{path}: {len(table)} wavelengths for {bands} bands. Give one row for each band.")
        if table.shape[1] > 1 and (np.diff(table[:, 0]) == 1).all() and table[0, 0] in (0, 1):
            table = table[:, 1:]
        centres, widths = to_nm(table[:, 0], "", table[:, 1] if table.shape[1] > 1 else None)
        assert centres is not None
        return centres, widths


def _numbers(parts: Sequence[str]) -> list[float]:
    """The numbers of a line; none where something else stands in it."""
    try:
        return [float(part) for part in parts]
    except ValueError:
        return []


def within(centres: np.ndarray, ranges: Sequence[tuple[float, float] | np.ndarray]) -> np.ndarray:
    """Tell which numbers, ``(B,)``, lie in one of the ranges, ends included."""
    return np.any([(centres >= low) & (centres <= high) for low, high in ranges], axis=0)


def rising(centres: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Order bands by wavelength: ``(B,)`` centres, and which are the first and the second detector's, ``(B,)`` bool.

    Where the first detector reaches into the second, the second is kept. Returns the numbers of the bands kept.

    Example:
        >>> part = np.array([True, True, False, False])
        >>> rising(np.array([500.0, 960.0, 1400.0, 950.0]), part, ~part).tolist()
        [0, 3, 2]
    """
    kept = np.flatnonzero(~(first & (centres >= centres[second].min(initial=np.inf))))
    return kept[np.argsort(centres[kept], kind="stable")]


def from_names(names: Sequence[str | None]) -> np.ndarray | None:
    """Read band centres in nm from names such as "376.44 Nanometers" or "band 12 (550.5 nm)"; None if one has none.

    "Band_503" has one too, where the numbers of all bands rise from 300 up, and are no plain count.

    Example:
        >>> from_names(["376.44 Nanometers", "band 2 (0.5 um)"]).tolist()
        [376.44, 500.0]
        >>> from_names(["Band_503", "Band_518"]).tolist(), from_names(["Band_503", "Band_504"])
        ([503.0, 518.0], None)
    """
    found = [_NAMED.search(name or "") for name in names]
    if found and all(found):
        return np.array([float(m[1]) * (1.0 if m[2].lower().startswith("n") else 1e3) for m in found if m])
    plain = np.array([float(m[1]) for name in names if (m := _PLAIN.fullmatch((name or "").strip()))])
    if len(plain) < max(2, len(names)) or plain[0] < 300 or plain[-1] > 2600:
        return None
    steps = np.diff(plain)
    return plain if (steps > 0).all() and (steps != 1).any() else None


def listed(text: str, count: int) -> np.ndarray | None:
    """Read a list such as "{0.4, 0.5}" of ``count`` numbers; None where there is none, or of another length.

    Example:
        >>> listed("{0.4, 0.5}", 2).tolist(), listed("", 2)
        ([0.4, 0.5], None)
    """
    parts = [part for part in re.split(r"[\s,;]+", text.strip().strip("{}[]()")) if part]
    try:
        return np.array([float(part) for part in parts]) if len(parts) == count else None
    except ValueError:
        return None
