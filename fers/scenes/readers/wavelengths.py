"""Units of wavelength, and what band names say about it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

SPELLINGS = ("wavelengths", "wavelength", "Wavelength", "Wavelengths", "WAVELENGTH")  # names of arrays of band centres
_FACTORS = {  # nm in each; µ is both the micro sign and the Greek letter
    1.0: "nanometer nanometre nm",
    1e3: "micrometer micrometre micron um µm μm",
    1e6: "millimeter mm",
    1e7: "centimeter cm",
}
_UNITS = {unit: factor for factor, units in _FACTORS.items() for unit in units.split()}
_WAVENUMBER = ("wavenumber", "cm-1", "1/cm")
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

    Example:
        >>> from_names(["376.44 Nanometers", "band 2 (0.5 um)"]).tolist()
        [376.44, 500.0]
    """
    found = [_NAMED.search(name or "") for name in names]
    if not found or not all(found):
        return None
    return np.array([float(m[1]) * (1.0 if m[2].lower().startswith("n") else 1e3) for m in found if m])
