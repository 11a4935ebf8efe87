"""Spectral libraries: named spectra from ENVI ``.sli``, USGS splib07 text, ECOSTRESS text and CSV, and the way to a sensor's bands.

Deleted channels are NaN. A sensor's band with a deleted channel under it is NaN too. Nothing is extrapolated.

Source: the ENVI header format; USGS Data Series 1035 (splib07); the text files of the ECOSTRESS library.
"""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fers.scenes.readers.envi import Header, header_of
from fers.scenes.readers.errors import SceneError, check_length, refusing
from fers.scenes.readers.wavelengths import to_nm
from fers.util.errors import did_you_mean

_LARGEST_LIBRARY = 64 << 20  # bytes of a library of text
REFLECTANCE = "reflectance"  # the unit of every library; a spectrum cut from a scene may have another
DELETED = -1e30  # and below: USGS marks deleted channels with -1.23e34
_FLOATS = {4: "f4", 5: "f8"}
_USGS = re.compile(r"\s*splib07\w?\s+Record=\d+:\s*(?P<title>.*\S)\s+(?P<instrument>\S+)\s+(?P<kind>[A-Z]{4})\s*$")
_USGS_KEYS = {"ASD": "ASD", "BECK": "BECK", "NIC4": "NIC4", "AVIR": "AVIRIS"}  # in the names of the wavelengths' files


@dataclass(frozen=True, eq=False)
class Library:
    """Spectra on one grid of wavelengths.

    Attributes:
        path: The file.
        names: Name of each spectrum.
        wavelengths: ``(B,)`` nm, rising.
        spectra: ``(n, B)`` float64, NaN where a channel is deleted.
        fwhm: ``(B,)`` nm; None where the file does not say.
        unit: ``reflectance``, or what a scene's spectrum was saved with.
    """

    path: Path
    names: tuple[str, ...]
    wavelengths: np.ndarray
    spectra: np.ndarray
    fwhm: np.ndarray | None = None
    unit: str = REFLECTANCE

    def only(self, name: str) -> Library:
        """Return the library with one spectrum, by its name.

        Raises:
            SceneError: No spectrum has this name, or several have.
        """
        wanted = [i for i, own in enumerate(self.names) if own == name]
        wanted = wanted or [i for i, own in enumerate(self.names) if name.lower() in own.lower()]
        if len(wanted) != 1:
            found = ", ".join(self.names[i] for i in wanted[:5]) or f"{len(self.names)} others"
            raise SceneError(
                f"{self.path}: '{name}' names {len(wanted)} of its spectra ({found})."
                f"{did_you_mean(name, self.names) if not wanted else ''} Give one whole name."
            )
        return replace(self, names=(self.names[wanted[0]],), spectra=self.spectra[wanted])

    def resampled(self, centres: np.ndarray, fwhm: np.ndarray | None = None) -> np.ndarray:
        """Resample all spectra to a sensor's bands.

        Each band is the mean of the channels that overlap it, weighted by a Gaussian that is cut at half the maximum.
        Where widths are missing, they are half the distance between a band's neighbours.

        Args:
            centres: ``(C,)`` nm of the sensor's bands, in any order.
            fwhm: ``(C,)`` nm, their widths.

        Returns:
            ``(n, C)``, NaN where no channel, or a deleted one, lies under a band.

        Source: Spectral Python's BandResampler.
        """
        order = np.argsort(centres, kind="stable")
        if len(centres) == len(self.wavelengths) and np.allclose(centres[order], self.wavelengths, atol=0.1):
            out = np.empty((len(self.names), len(centres)))
            out[:, order] = self.spectra  # the same bands: nothing to mix
            return out
        from spectral import BandResampler

        logging.getLogger("spectral").setLevel(logging.WARNING)  # it reports each band without overlap
        weights = np.empty((len(centres), len(self.wavelengths)))
        widths = None if fwhm is None else fwhm[order]
        weights[order] = BandResampler(self.wavelengths, centres[order], self.fwhm, widths).matrix
        under = np.nan_to_num(weights) > 0
        resampled = np.nan_to_num(self.spectra) @ np.nan_to_num(weights).T
        resampled[(np.isnan(self.spectra) @ under.T) | ~under.any(axis=1)] = np.nan
        return resampled


def read_library(path: str | Path) -> Library:
    """Read a spectral library; its kind is recognised by what it holds.

    Args:
        path: ENVI library (``.sli`` or its header), USGS splib07 text beside the files of its wavelengths, ECOSTRESS text, or
            CSV: wavelength and value, then perhaps width, with or without names of the columns.

    Raises:
        SceneError: The file is missing, damaged, or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise SceneError(f"{path}: no such file. Give a spectral library, or the number of a target.")
    with refusing(path, "spectral library"):
        header = path if path.suffix.lower() == ".hdr" else header_of(path)
        if header is not None:
            library = _read_sli(header)
        else:
            check_length(path, _LARGEST_LIBRARY)
            raw = path.read_bytes()
            try:
                text = raw.decode("utf-8-sig")
            except UnicodeDecodeError:  # ECOSTRESS
                text = raw.decode("latin-1")
            first = next(iter(text.splitlines()), "")
            read: Callable[[Path, str], Library] = _read_csv
            if _USGS.match(first):
                read = _read_usgs
            elif re.match(r"\s*[A-Za-z][\w .]*:", first):
                read = _read_ecostress
            library = read(path, text)
    return _checked(library)


def _checked(library: Library) -> Library:
    """Put the channels in rising order, with NaN for deleted ones."""
    spectra = np.where(library.spectra < DELETED, np.nan, library.spectra)
    order = np.argsort(library.wavelengths, kind="stable")
    centres = library.wavelengths[order]
    if len(centres) < 2 or not (np.isfinite(centres).all() and centres[0] > 0 and (np.diff(centres) > 0).all()):
        raise SceneError(f"{library.path}: its wavelengths are not positive and different from each other. Correct it.")
    fwhm = None if library.fwhm is None else library.fwhm[order]
    if fwhm is not None and not (fwhm > 0).all():
        fwhm = None
    return replace(library, wavelengths=centres, spectra=spectra[:, order], fwhm=fwhm)


def _read_sli(path: Path) -> Library:
    header = Header(path)
    if "library" not in header.text("file type").lower():
        raise SceneError(f"{path}: an ENVI image, not a spectral library. Give a library, or the number of a target.")
    data = next(
        (p for p in (path.with_suffix(".sli"), path.with_suffix(".SLI"), path.with_suffix("")) if p.is_file()), None
    )
    if data is None:
        raise SceneError(f"{path}: the data file of this library is missing. Put {path.stem}.sli beside it.")
    bands, count = header.whole("samples", at_least=2), header.whole("lines", at_least=1)
    kind, big = header.whole("data type", among=_FLOATS), header.whole("byte order", among=(0, 1), default="0")
    start = header.whole("header offset", default="0")
    dtype = np.dtype(("<", ">")[big] + _FLOATS[kind])
    if data.stat().st_size < start + count * bands * dtype.itemsize:
        raise SceneError(f"{data}: is cut short: its header says {count} spectra of {bands} channels.")
    spectra = np.fromfile(data, dtype, count * bands, offset=start).reshape(count, bands).astype(np.float64)
    centres = header.per_band("wavelength", bands)
    if centres is None:
        raise SceneError(f"{path}: has no wavelengths. Add them to the header.")
    nm, fwhm = to_nm(centres, header.text("wavelength units"), header.per_band("fwhm", bands))
    if nm is None:
        raise SceneError(f"{path}: its wavelengths are an index. Give a library in nm or um.")
    names = header.listed("spectra names")
    if len(names) != count:
        names = [f"spectrum {number}" for number in range(1, count + 1)]
    factor = (header.numbers("reflectance scale factor") or [1.0])[0]
    spectra[spectra > DELETED] /= factor
    return Library(path, tuple(names), nm, spectra, fwhm)


def _read_usgs(path: Path, text: str) -> Library:
    lines = text.splitlines()
    about = _USGS.match(lines[0])
    assert about is not None
    if about["kind"] != "AREF":
        raise SceneError(f"{path}: holds {about['kind']}; a search needs absolute reflectance. Give the AREF file.")
    values = np.array([float(line) for line in lines[1:] if line.strip()])
    key = next((word for start, word in _USGS_KEYS.items() if about["instrument"].upper().startswith(start)), None)
    if key is None:
        raise SceneError(f"{path}: its spectrometer {about['instrument']} is not one of {', '.join(_USGS_KEYS)}.")
    centres = _usgs_column(path, key, "wavelength", len(values))
    if centres is None:
        raise SceneError(
            f"{path}: splib07 keeps the wavelengths of {key} ({len(values)} channels) in a file of their own, "
            "..._Wavelengths_... . Put it in this folder."
        )
    fwhm = _usgs_column(path, key, "bandpass", len(values))
    return Library(path, (about["title"],), 1e3 * centres, values[None], None if fwhm is None else 1e3 * fwhm)


def _usgs_column(path: Path, key: str, what: str, count: int) -> np.ndarray | None:
    """Values in um of the file beside a spectrum, or in the folder above, that has as many."""
    for folder in (path.parent, path.parent.parent):
        for file in sorted(folder.glob("*.txt")):
            if what in file.name.lower() and key in file.name.upper():
                numbers = np.array([float(line) for line in file.read_text().splitlines()[1:] if line.strip()])
                if len(numbers) == count:
                    return numbers
    return None


def _read_ecostress(path: Path, text: str) -> Library:
    about, rows = {}, []
    for line in text.splitlines():
        if match := re.match(r"\s*([A-Za-z][\w .]*?)\s*:\s*(.*\S)?", line):
            about[match[1].lower()] = match[2] or ""
        elif len(parts := line.split()) == 2:  # some files hold lines of one value or of three
            rows.append([float(part) for part in parts])
    if not rows:
        raise SceneError(f"{path}: has no two columns of wavelength and value below its description.")
    x, y = np.array(rows).T
    unit = about.get("x units", "").lower()
    nm = 1e7 / x if "number" in unit or "cm-1" in unit else to_nm(x, "nm" if "nano" in unit else "um")[0]
    assert nm is not None
    nm, first = np.unique(nm, return_index=True)
    per_cent = re.search(r"per ?cent|%", about.get("y units", "").lower()) is not None
    return Library(path, (about.get("name") or path.stem,), nm, y[None, first] / (100 if per_cent else 1))


def _read_csv(path: Path, text: str) -> Library:
    """Read columns of wavelength, value and width; with a header, further columns are further spectra."""
    dialect = ";" if text.count(";") > text.count(",") else "\t" if "\t" in text and "," not in text else ","
    rows = [[part.strip() for part in row] for row in csv.reader(text.splitlines(), delimiter=dialect)]
    rows = [row for row in rows if any(row) and not row[0].startswith("#")]
    names = None if not rows or _number(rows[0][0]) is not None else rows.pop(0)
    width = len(rows[0]) if rows else 0
    if width < 2 or any(len(row) != width for row in rows) or (names is not None and len(names) != width):
        raise SceneError(f"{path}: expected columns of wavelength and value in every row. Is it a spectral library?")
    names = names or ["wavelength", path.stem, "fwhm"][:width]
    if len(names) != width:
        raise SceneError(
            f"{path}: {width} columns without names. Name them: wavelength, fwhm, and a name for each spectrum."
        )
    lower = [name.lower() for name in names]
    x = next((i for i, name in enumerate(lower) if name.startswith("wavelength")), 0)
    wide = next((i for i, name in enumerate(lower) if name.startswith(("fwhm", "width", "bandwidth"))), None)
    said = lower.index("unit") if "unit" in lower else None
    columns = [i for i in range(width) if i not in (x, wide, said)]

    def column(i: int) -> np.ndarray:
        found = [_number(row[i]) for row in rows]
        return np.array([np.nan if value is None else value for value in found])

    centres = column(x)
    unit = "nm" if centres.max() > 100 else "um"
    nm, fwhm = to_nm(centres, unit, None if wide is None else column(wide))
    assert nm is not None
    spectra = np.stack([column(i) for i in columns])
    labels = tuple(path.stem if names[i].lower() == "value" else names[i] for i in columns)
    return Library(path, labels, nm, spectra, fwhm, REFLECTANCE if said is None else rows[0][said])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
