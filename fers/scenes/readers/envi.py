"""ENVI files: a text header beside a file of samples (BIL, BIP, BSQ), and what AVIRIS-Classic adds to it.

Source: the ENVI header format; AVIRIS-Classic's ``.spc`` and ``.gain`` files as JPL ships them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fers.scenes.readers.base import Reader, SceneError, copied, refusing
from fers.scenes.readers.projection import map_grid
from fers.scenes.readers.wavelengths import from_names, to_nm

_TYPES = {1: "u1", 2: "i2", 3: "i4", 4: "f4", 5: "f8", 6: "c8", 9: "c16", 12: "u2", 13: "u4", 14: "i8", 15: "u8"}
_SUFFIXES = (".img", ".dat", ".raw", ".hyspex", ".bil", ".bip", ".bsq")
_LARGEST_HEADER = 64 << 20  # bytes
_CLASSIC_NODATA = -50.0  # AVIRIS-Classic radiance marks missing samples with it and does not declare it

Fields = dict[str, str | list[str]]


@dataclass(kw_only=True)
class EnviReader(Reader):
    """An ENVI file, memory-mapped."""

    data: Path
    start: int
    interleave: str

    def memory_map(self) -> np.ndarray:
        height, width, bands = self.shape
        sides, order = {
            "bil": ((height, bands, width), (0, 2, 1)),
            "bip": ((height, width, bands), (0, 1, 2)),
            "bsq": ((bands, height, width), (1, 2, 0)),
        }[self.interleave]
        with refusing(self.data, "ENVI data file"):
            return np.memmap(self.data, self.stored, "r", self.start, sides).transpose(order)

    def _read(self, start: int, stop: int, index: np.ndarray) -> np.ndarray:
        return copied(self.memory_map(), start, stop, index)


def header_of(path: Path) -> Path | None:
    """The ENVI header of a data file: ``scene.hdr`` or ``scene.img.hdr``; None where there is none."""
    for candidate in (path.with_suffix(".hdr"), path.with_name(path.name + ".hdr")):
        for header in (candidate, candidate.with_suffix(".HDR")):
            if header.is_file() and header != path:
                return header
    return None


def data_of(header: Path) -> Path:
    """The data file of an ENVI header.

    Raises:
        SceneError: It is not there.
    """
    stem = header.with_suffix("")
    candidates = [stem, *(stem.with_name(stem.name + s) for low in _SUFFIXES for s in (low, low.upper()))]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise SceneError(
        f"{header}: the data file of this ENVI header is missing. Put {stem.name}.img (or .dat, .raw, .hyspex, .bil, "
        ".bip, .bsq, or no extension) beside it."
    )


def read_header(header: Path) -> Fields:
    """The entries of an ENVI header: keys in lower case, a list where the value stands in braces.

    Raises:
        SceneError: It is not an ENVI header.
    """
    with refusing(header, "ENVI header"):
        if header.stat().st_size > _LARGEST_HEADER:
            raise ValueError(f"{header.stat().st_size} bytes")
        raw = header.read_bytes()
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        if not text.startswith("ENVI"):
            raise ValueError("its first line is not ENVI")
        fields: Fields = {}
        lines = iter(text.splitlines()[1:])
        for line in lines:
            key, equals, value = line.partition("=")
            if not equals or line.lstrip().startswith(";"):
                continue
            key, value = " ".join(key.lower().split()), value.strip()
            if value.startswith("{"):
                gathered = [value]
                while "}" not in gathered[-1]:
                    following = next(lines, None)
                    if following is None:
                        raise ValueError(f"the braces of '{key}' are not closed")
                    if not following.lstrip().startswith(";"):
                        gathered.append(following)
                inside = " ".join(gathered).strip()[1:].partition("}")[0]
                fields[key] = [part.strip() for part in inside.split(",") if part.strip()]
            else:
                fields[key] = value
        return fields


def open_envi(path: Path) -> Reader:
    """The scene of an ENVI header or of the data file beside it.

    Raises:
        SceneError: The header or the data cannot be used.
    """
    header = path if path.suffix.lower() == ".hdr" else header_of(path)
    if header is None:
        raise SceneError(f"{path}: no ENVI header beside it. Put {path.stem}.hdr there.")
    data = data_of(header) if header == path else path
    fields = read_header(header)
    interleave = _text(header, fields, "interleave").lower()
    if interleave not in ("bil", "bip", "bsq"):
        raise SceneError(f"{header}: ENVI header entry interleave is '{interleave}'; expected bil, bip or bsq.")
    if "library" in _text(header, fields, "file type").lower():
        raise SceneError(f"{header}: a spectral library, not a scene. Give the header of an image.")
    if _text(header, fields, "file compression", "0") != "0":
        raise SceneError(f"{header}: the samples are compressed. Save the image uncompressed.")
    for entry in ("major frame offsets", "minor frame offsets"):
        if any(_numbers(header, fields, entry)):
            raise SceneError(f"{header}: {entry} are not zero. Save the image without them.")
    height, width, bands = (_whole(header, fields, entry, at_least=1) for entry in ("lines", "samples", "bands"))
    kind = _whole(header, fields, "data type")
    if kind not in _TYPES:
        raise SceneError(
            f"{header}: ENVI header entry 'data type' is {kind}; expected one of {', '.join(map(str, _TYPES))}."
        )
    big = _whole(header, fields, "byte order", default=0)
    if big not in (0, 1):
        raise SceneError(f"{header}: ENVI header entry 'byte order' is {big}; expected 0 or 1.")
    dtype = np.dtype(("<", ">")[big] + _TYPES[kind])
    start = _whole(header, fields, "header offset", default=0)
    expected, found = start + height * width * bands * dtype.itemsize, data.stat().st_size
    if found < expected:
        raise SceneError(
            f"{data}: {found} bytes, but its header says {height} lines x {width} samples x {bands} bands of "
            f"{dtype.name}, {expected} bytes. The file is cut short or the header is another's."
        )
    entries = _spectral(header, fields, bands) | _values(header, fields, bands)
    notes = entries.pop("notes")
    if "map info" in fields:
        info = _list(fields["map info"])
        grid, note = map_grid(info, ", ".join(_list(fields.get("coordinate system string", []))) or None)
        entries |= {"map_info": tuple(info), "grid": grid}
        notes += (note,) if note else ()
    sensor = _text(header, fields, "sensor type")
    entries |= {"sensor": "" if sensor.lower() == "unknown" else sensor} | _classic(header, bands, entries)
    return EnviReader(
        path=header,
        data=data,
        shape=(height, width, bands),
        stored=dtype,
        start=start,
        interleave=interleave,
        native_chunks={"bil": (1, width, bands), "bip": (1, width, bands), "bsq": (height, width, 1)}[interleave],
        notes=notes,
        **entries,
    )


def _spectral(header: Path, fields: Fields, bands: int) -> dict[str, Any]:
    """Wavelengths, widths and good bands."""
    notes: tuple[str, ...] = ()
    unit = _text(header, fields, "wavelength units")
    centres, fwhm = None, _per_band(header, fields, "fwhm", bands)
    if "wavelength" in fields:
        listed = _per_band(header, fields, "wavelength", bands, "wavelengths")
        assert listed is not None
        centres, fwhm = to_nm(listed, unit, fwhm)
    elif "band names" in fields:
        names = _list(fields["band names"])
        centres = from_names(names) if len(names) == bands else None
        fwhm = None
        if centres is not None:
            notes = ("wavelengths from the band names of the header",)
    good = _per_band(header, fields, "bbl", bands)
    if good is None:
        return {"wavelengths": centres, "fwhm": fwhm, "notes": notes}
    source = "bbl of the header"
    return {"wavelengths": centres, "fwhm": fwhm, "good": good != 0, "good_source": source, "notes": notes}


def _values(header: Path, fields: Fields, bands: int) -> dict[str, Any]:
    """No-data values, scale and offset."""
    entries: dict[str, Any] = {}
    if "data ignore value" in fields:
        entries["declared_nodata"] = tuple(_numbers(header, fields, "data ignore value"))
    gains, offsets = (_per_band(header, fields, f"data {kind} values", bands) for kind in ("gain", "offset"))
    factor = (_numbers(header, fields, "reflectance scale factor") or [1.0])[0]
    if factor == 0 or not np.isfinite(factor):
        raise SceneError(f"{header}: 'reflectance scale factor' is {factor:g}. Correct it.")
    if gains is not None or factor != 1:
        entries["scale"] = (np.ones(bands) if gains is None else gains) / factor
    if offsets is not None and offsets.any():
        entries["offset"] = offsets / factor
    return entries


def _classic(header: Path, bands: int, entries: dict[str, Any]) -> dict[str, Any]:
    """What AVIRIS-Classic keeps in two text files beside a flight line: band centres (.spc) and divisors (.gain)."""
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
        if suffix == ".spc" and entries["wavelengths"] is None:
            width = table[:, 1] if table.shape[1] > 1 else None
            found["wavelengths"], found["fwhm"] = to_nm(table[:, 0], "", width)
        elif suffix == ".gain":
            found["scale"] = 1 / table[:, 0]
            if "declared_nodata" not in entries:
                found["declared_nodata"] = (_CLASSIC_NODATA,)
    return found


def _list(value: str | list[str]) -> list[str]:
    return value if isinstance(value, list) else [value]


def _text(header: Path, fields: Fields, entry: str, default: str = "") -> str:
    value = fields.get(entry, default)
    if isinstance(value, list):
        raise SceneError(
            f"{header}: ENVI header entry '{entry}' is {{{', '.join(value)}}}; expected one value without braces."
        )
    return value


def _whole(header: Path, fields: Fields, entry: str, at_least: int = 0, default: int | None = None) -> int:
    value = _text(header, fields, entry, "" if default is None else str(default))
    if not re.fullmatch(r"[0-9]{1,18}", value) or int(value) < at_least:
        raise SceneError(
            f"{header}: ENVI header entry '{entry}' is '{value}'; expected a whole number of at least {at_least}."
        )
    return int(value)


def _numbers(header: Path, fields: Fields, entry: str) -> list[float]:
    try:
        return [float(value) for value in _list(fields.get(entry, []))]
    except ValueError as error:
        raise SceneError(f"{header}: '{entry}' holds something that is not a number ({error}). Correct it.") from error


def _per_band(header: Path, fields: Fields, entry: str, bands: int, plural: str = "") -> np.ndarray | None:
    """One number a band; None where the entry is missing."""
    if entry not in fields:
        return None
    values = np.array(_numbers(header, fields, entry))
    if len(values) != bands:
        raise SceneError(
            f"{header}: {len(values)} {plural or 'values of ' + repr(entry)} for {bands} bands. Correct the header."
        )
    if entry == "wavelength" and not (np.isfinite(values).all() and (values >= 0).all()):
        raise SceneError(f"{header}: 'wavelength' holds negative or infinite values. Correct it.")
    return values
