"""ENVI files: a text header beside a file of samples (BIL, BIP, BSQ), and what AVIRIS-Classic adds to it.

Source: the ENVI header format; AVIRIS-Classic's ``.spc`` and ``.gain`` files as JPL ships them.
"""

from __future__ import annotations

import difflib
import glob
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from fers.scenes.readers.base import Reader
from fers.scenes.readers.errors import SceneError, check_length, refusing
from fers.scenes.readers.geometry import ControlPoints
from fers.scenes.readers.projection import crs_wkt, map_grid
from fers.scenes.readers.wavelengths import from_names, to_nm

_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 6: "c8", 9: "c16", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
_AXES = {"bil": "ybx", "bip": "yxb", "bsq": "byx"}
_ENTRY = re.compile(r"^([^=\n]*)=[ \t]*(\{[^}]*\}|[^\n]*)", re.MULTILINE)
DATA_SUFFIXES = (".img", ".dat", ".raw", ".hyspex", ".bil", ".bip", ".bsq")
_ESRI = re.compile(r"\s*(BYTEORDER|LAYOUT|NROWS|NCOLS|NBANDS|NBITS|SKIPBYTES|BANDROWBYTES|ULXMAP)\s", re.IGNORECASE)
_LARGEST_HEADER = 64 << 20  # bytes
_LARGEST_TABLE = 1 << 20
_SIDE_FILE = re.compile(r"[-_.](ort[-_.])?(?P<kind>glt|loc|igm|obs)([-_.]ort)?$", re.IGNORECASE)
_PLACES = ("glt", "loc", "igm")
_LINE = re.compile(r"([a-z]+\d*?)?\d{8}t\d{6}|f\d{6}t\d\dp\d\d_?r\d\d", re.IGNORECASE)  # names of flight lines
_CLASSIC_NODATA = -50.0  # AVIRIS-Classic radiance marks missing samples with it and does not declare it


def header_of(path: Path) -> Path | None:
    """Find the ENVI header of a data file: ``scene.hdr`` or ``scene.img.hdr``; None where there is none."""
    places = [path.with_suffix(s) for s in (".hdr", ".HDR")] + [path.with_name(path.name + s) for s in (".hdr", ".HDR")]
    return next((header for header in places if header.is_file() and header != path), None)


def data_of(header: Path, needed: int) -> Path:
    """Find the data file of an ENVI header: one of a usual name, else the only one of its name and ``needed`` bytes."""
    stem = header.with_suffix("")
    for suffix in ("", *(cased for low in DATA_SUFFIXES for cased in (low, low.upper()))):
        if (data := stem.with_name(stem.name + suffix)).is_file():
            return data
    others = [p for p in sorted(header.parent.glob(f"{glob.escape(stem.name)}.*")) if p.is_file() and p != header]
    fits = [p for p in others if p.stat().st_size == needed]
    if len(fits) == 1:
        return fits[0]
    found = (
        f" Found {', '.join(p.name for p in others[:5])}: is it one of these? Then give that file itself."
        if others
        else ""
    )
    raise SceneError(
        f"{header}: the data file of this ENVI header is missing. Put {stem.name}.img (or .dat, .raw, .hyspex, .bil, "
        f".bip, .bsq, or no extension) beside it.{found}"
    )


class Header:
    """Entries of an ENVI header: keys in lower case, a list where the value stands in braces."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fields: dict[str, str | list[str]] = {}
        with refusing(path, "ENVI header"):
            check_length(path, _LARGEST_HEADER)
            raw = path.read_bytes()
            try:
                text = raw.decode("utf-8-sig")
            except UnicodeDecodeError:  # spectral's own reader gives up here
                text = raw.decode("latin-1")
            if _ESRI.match(text):
                data = f"{path.stem}.bil (or .bip, .bsq)"
                raise SceneError(
                    f"{path}: an ESRI (ArcGIS) header, not one of ENVI. Convert it: gdal_translate -of ENVI {data} new.img"
                )
            if not (text := text.lstrip()).startswith("ENVI"):
                raise ValueError("its first line is not ENVI")
            lines = (line for line in text.splitlines()[1:] if not line.lstrip().startswith(";"))
            for match in _ENTRY.finditer("\n".join(lines)):
                key, value = " ".join(match[1].lower().split()), match[2].strip()
                key = "wavelength" if key == "wavelengths" else key
                if not value.startswith("{"):
                    if value:  # a key without a value is as good as missing
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
    needed = start + height * width * bands * dtype.itemsize
    data = data_of(place, needed) if place == path else path
    if (size := data.stat().st_size) < needed:
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


def wavelengths_of(header: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Read band centres and widths in nm from the header of a scene."""
    entries = Header(header)
    centres = entries.per_band("wavelength", entries.whole("bands", at_least=1))
    if centres is None:
        raise SceneError(f"{header}: the header has no wavelengths. Give another file.")
    found, widths = to_nm(centres, entries.text("wavelength units"), entries.per_band("fwhm", len(centres)))
    if found is None:
        raise SceneError(f"{header}: the header counts its bands instead of naming wavelengths. Give another file.")
    return found, widths


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
    corners = header.numbers("geo points")
    if facts.get("grid") is None and len(corners) >= 12 and len(corners) % 4 == 0:
        points = np.array(corners).reshape(-1, 4)  # column and row from 1, latitude, longitude
        places = np.column_stack([points[:, :2] - 1, points[:, 3], points[:, 2]])
        facts["points"] = ControlPoints(places, crs_wkt("EPSG:4326"))
        facts["notes"] = (*facts["notes"], f"placed by the {len(points)} geo points of the header")
    return facts


def _classic(header: Path, bands: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Read what AVIRIS-Classic keeps in two text files of a flight line: band centres (.spc) and divisors (.gain)."""
    found: dict[str, Any] = {}
    for suffix in (".spc", ".gain"):
        sides = [
            p for p in header.parent.glob(f"*{suffix}") if header.name.startswith(p.stem) and p.stem and p.is_file()
        ]
        if not sides:
            continue
        side = max(sides, key=lambda p: len(p.stem))
        with refusing(side, f"AVIRIS {suffix} file"):
            check_length(side, _LARGEST_TABLE)
            table = np.loadtxt(side, ndmin=2)
        if len(table) != bands or (suffix == ".gain" and (table[:, 0] == 0).any()):
            raise SceneError(f"{side}: {len(table)} rows for {bands} bands. Is it another flight's? Remove it.")
        found["sensor"] = "AVIRIS-Classic"
        found["beside"] = (*found.get("beside", ()), side)
        if suffix == ".gain":
            found["scale"] = 1 / table[:, 0]
            found["declared_nodata"] = facts.get("declared_nodata", (_CLASSIC_NODATA,))
        elif facts.get("wavelengths") is None:
            width = table[:, 1] if table.shape[1] > 1 else None
            found["wavelengths"], found["fwhm"] = to_nm(table[:, 0], "", width)
    return found


# ----- tables of places beside a flight line


def is_side_file(path: Path) -> bool:
    """Tell by its name whether a file belongs to a flight line: places (GLT, IGM, LOC) or observation angles (OBS)."""
    return _SIDE_FILE.search(_stem(path)) is not None


def table_beside(scene: Path) -> Path | None:
    """Find the header of the table of places of a flight line, as AVIRIS and its kin are delivered; None without one.

    ``LINE_rdn_v1_glt`` belongs to ``LINE_rdn_v1_img`` and, if there is no nearer one, to every file whose name begins
    with ``LINE``. A GLT comes before longitude and latitude, these before map coordinates.
    """
    name, found = _stem(scene), []
    for header in sorted(scene.parent.glob("*.[hH][dD][rR]")):
        match = _SIDE_FILE.search(_stem(header))
        if match is None or match["kind"].lower() not in _PLACES or header == scene:
            continue
        base = _stem(header)[: match.start()]
        lines = [_LINE.match(one) for one in (base, name)]
        of_line = all(lines) and len({one[0].lower() for one in lines if one}) == 1
        if name.lower().startswith(base.lower()) or of_line:
            shared = difflib.SequenceMatcher(None, base.lower(), name.lower()).find_longest_match().size
            found.append((-shared, _PLACES.index(match["kind"].lower()), header))
    return min(found)[2] if found else None


def _stem(path: Path) -> str:
    """A file's name without the endings of headers and data."""
    while path.suffix.lower() in (".hdr", *DATA_SUFFIXES):
        path = path.with_suffix("")
    return path.name
