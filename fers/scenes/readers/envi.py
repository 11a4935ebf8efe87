"""ENVI files: a text header beside a file of samples (BIL, BIP, BSQ), and what AVIRIS-Classic adds to it.

Source: the ENVI header format; AVIRIS-Classic's ``.spc`` and ``.gain`` files as JPL ships them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from fers.scenes.readers.base import Reader, SceneError, refusing
from fers.scenes.readers.projection import map_grid
from fers.scenes.readers.wavelengths import from_names, to_nm

_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 6: "c8", 9: "c16", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
_AXES = {"bil": "ybx", "bip": "yxb", "bsq": "byx"}
_ENTRY = re.compile(r"^([^=\n]*)=[ \t]*(\{[^}]*\}|[^\n]*)", re.MULTILINE)
SUFFIXES = (".img", ".dat", ".raw", ".hyspex", ".bil", ".bip", ".bsq")
_LARGEST_HEADER = 64 << 20  # bytes
_CLASSIC_NODATA = -50.0  # AVIRIS-Classic radiance marks missing samples with it and does not declare it


def header_of(path: Path) -> Path | None:
    """Find the ENVI header of a data file: ``scene.hdr`` or ``scene.img.hdr``; None where there is none."""
    places = [path.with_suffix(s) for s in (".hdr", ".HDR")] + [path.with_name(path.name + s) for s in (".hdr", ".HDR")]
    return next((header for header in places if header.is_file() and header != path), None)


def data_of(header: Path) -> Path:
    """Find the data file of an ENVI header; a `SceneError` if it is not there."""
    stem = header.with_suffix("")
    for suffix in ("", *(cased for low in SUFFIXES for cased in (low, low.upper()))):
        if (data := stem.with_name(stem.name + suffix)).is_file():
            return data
    raise SceneError(
        f"{header}: the data file of this ENVI header is missing. Put {stem.name}.img (or .dat, .raw, .hyspex, .bil, "
        ".bip, .bsq, or no extension) beside it."
    )


class Header:
    """Entries of an ENVI header: keys in lower case, a list where the value stands in braces."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields: dict[str, str | list[str]] = {}
        with refusing(path, "ENVI header"):
            if path.stat().st_size > _LARGEST_HEADER:
                raise ValueError(f"{path.stat().st_size} bytes")
            raw = path.read_bytes()
            try:
                text = raw.decode("utf-8-sig")
            except UnicodeDecodeError:  # spectral's own reader gives up here
                text = raw.decode("latin-1")
            if not text.startswith("ENVI"):
                raise ValueError("its first line is not ENVI")
            lines = (line for line in text.splitlines()[1:] if not line.lstrip().startswith(";"))
            for match in _ENTRY.finditer("\n".join(lines)):
                key, value = " ".join(match[1].lower().split()), match[2].strip()
                if not value.startswith("{"):
                    self.fields[key] = value
                    continue
                if "}" not in value:
                    raise ValueError(f"the braces of '{key}' are not closed")
                parts = value[1:].partition("}")[0].replace("\n", " ").split(",")
                self.fields[key] = [part.strip() for part in parts if part.strip()]

    def listed(self, entry: str) -> list[str]:
        """Return the values of an entry, with or without braces; none where it is missing."""
        value = self.fields.get(entry, [])
        return value if isinstance(value, list) else [value]

    def text(self, entry: str, default: str = "") -> str:
        """Return the value of an entry that stands without braces."""
        value = self.fields.get(entry, default)
        if isinstance(value, list):
            value = f"{{{', '.join(value)}}}"
            raise SceneError(f"{self.path}: ENVI header entry '{entry}' is {value}; expected one value without braces.")
        return value

    def whole(self, entry: str, at_least: int = 0, among: Collection[int] = (), default: str = "") -> int:
        """Return the whole number of an entry."""
        value = self.text(entry, default)
        known = re.fullmatch(r"[0-9]{1,18}", value) and (int(value) in among if among else int(value) >= at_least)
        if not known:
            expected = f"one of {', '.join(map(str, among))}" if among else f"a whole number of at least {at_least}"
            raise SceneError(f"{self.path}: ENVI header entry '{entry}' is '{value}'; expected {expected}.")
        return int(value)

    def numbers(self, entry: str) -> list[float]:
        """Return the numbers of an entry; none where it is missing."""
        try:
            return [float(value) for value in self.listed(entry)]
        except ValueError as error:
            raise SceneError(
                f"{self.path}: '{entry}' holds something that is not a number ({error}). Correct it."
            ) from error

    def per_band(self, entry: str, bands: int) -> np.ndarray | None:
        """Return the numbers of an entry, one a band; None where the entry is missing."""
        if entry not in self.fields:
            return None
        values = np.array(self.numbers(entry))
        if len(values) != bands:
            what = "wavelengths" if entry == "wavelength" else f"values of '{entry}'"
            raise SceneError(f"{self.path}: {len(values)} {what} for {bands} bands. Correct the header.")
        if entry == "wavelength" and not (np.isfinite(values).all() and (values >= 0).all()):
            raise SceneError(f"{self.path}: 'wavelength' holds negative or infinite values. Correct it.")
        return values


def open_envi(path: Path) -> Reader:
    """Open the scene of an ENVI header, or of the data file beside it."""
    place = path if path.suffix.lower() == ".hdr" else header_of(path)
    if place is None:
        raise SceneError(f"{path}: no ENVI header beside it. Put {path.stem}.hdr there.")
    data = data_of(place) if place == path else path
    header = Header(place)
    axes = _AXES.get(header.text("interleave").lower())
    if axes is None:
        raise SceneError(
            f"{place}: ENVI header entry interleave is '{header.text('interleave')}'; expected bil, bip or bsq."
        )
    if "library" in header.text("file type").lower():
        raise SceneError(f"{place}: a spectral library, not a scene. Give the header of an image.")
    if header.text("file compression", "0") != "0":
        raise SceneError(f"{place}: the samples are compressed. Save the image uncompressed.")
    for entry in ("major frame offsets", "minor frame offsets"):
        if any(header.numbers(entry)):
            raise SceneError(f"{place}: {entry} are not zero. Save the image without them.")
    height, width, bands = (header.whole(entry, at_least=1) for entry in ("lines", "samples", "bands"))
    kind, big = header.whole("data type", among=_TYPES), header.whole("byte order", among=(0, 1), default="0")
    dtype = np.dtype(("<", ">")[big] + _TYPES[kind])
    start = header.whole("header offset", default="0")
    needed, size = start + height * width * bands * dtype.itemsize, data.stat().st_size
    if size < needed:
        raise SceneError(
            f"{data}: {size} bytes, but its header says {height} lines x {width} samples x {bands} bands of "
            f"{dtype.name}, {needed} bytes. The file is cut short or the header is another's."
        )
    sensor = header.text("sensor type")
    facts = {"sensor": "" if sensor.lower() == "unknown" else sensor} | _header_facts(header, bands)
    return Reader(
        path=place,
        data=(data,),
        shape=(height, width, bands),
        stored=dtype,
        start=start,
        axes=axes,
        native_chunks=(height, width, 1) if axes == "byx" else (1, width, bands),
        **(facts | _classic(place, bands, facts)),
    )


def _header_facts(header: Header, bands: int) -> dict[str, Any]:
    """Wavelengths, widths, good bands, no-data values, scale, offset, and place."""
    facts: dict[str, Any] = {"notes": ()}
    widths, centres = header.per_band("fwhm", bands), header.per_band("wavelength", bands)
    names = header.listed("band names")
    if centres is not None:
        facts["wavelengths"], facts["fwhm"] = to_nm(centres, header.text("wavelength units"), widths)
    elif not names:
        facts["fwhm"] = widths
    elif len(names) == bands and (named := from_names(names)) is not None:
        facts |= {"wavelengths": named, "notes": ("wavelengths from the band names of the header",)}
    if (good := header.per_band("bbl", bands)) is not None:
        facts |= {"good": good != 0, "good_source": "bbl of the header"}
    if ignored := header.numbers("data ignore value"):
        facts["declared_nodata"] = tuple(ignored)
    gains, offsets = (header.per_band(f"data {kind} values", bands) for kind in ("gain", "offset"))
    factor = (header.numbers("reflectance scale factor") or [1.0])[0]
    if factor == 0 or not np.isfinite(factor):
        raise SceneError(f"{header.path}: 'reflectance scale factor' is {factor:g}. Correct it.")
    if gains is not None or factor != 1:
        facts["scale"] = (np.ones(bands) if gains is None else gains) / factor
    if offsets is not None and offsets.any():
        facts["offset"] = offsets / factor
    if info := header.listed("map info"):
        facts["grid"], note = map_grid(info, ", ".join(header.listed("coordinate system string")) or None)
        facts |= {"map_info": tuple(info), "notes": (*facts["notes"], *([note] if note else []))}
    return facts


def _classic(header: Path, bands: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Read what AVIRIS-Classic keeps in two text files of a flight line: band centres (.spc) and divisors (.gain)."""
    found: dict[str, Any] = {}
    for suffix in (".spc", ".gain"):
        sides = [p for p in header.parent.glob(f"*{suffix}") if header.name.startswith(p.stem) and p.stem]
        if not sides:
            continue
        side = max(sides, key=lambda p: len(p.stem))
        with refusing(side, f"AVIRIS {suffix} file"):
            table = np.loadtxt(side, ndmin=2)
        if len(table) != bands or (suffix == ".gain" and (table[:, 0] == 0).any()):
            raise SceneError(f"{side}: {len(table)} rows for {bands} bands. Is it another flight's? Remove it.")
        found["sensor"] = "AVIRIS-Classic"
        if suffix == ".gain":
            found["scale"] = 1 / table[:, 0]
            found["declared_nodata"] = facts.get("declared_nodata", (_CLASSIC_NODATA,))
        elif facts.get("wavelengths") is None:
            width = table[:, 1] if table.shape[1] > 1 else None
            found["wavelengths"], found["fwhm"] = to_nm(table[:, 0], "", width)
    return found
