"""The manifest of a dataset: what each file holds and where it was cut, so that nobody has to read them all again.

``manifest.json`` describes the files below its own folder: a whole dataset, or the patches of ``train/<sensor>``. Whoever
writes patches writes it (``had100.prepare``, ``synthetic``, ``patches``), and training writes it for a folder without one.

    {"format": "fers-dataset-1", "dataset": "HAD100", ..., "files": {"train/aviris_ng/x_1.npy": ENTRY, ...}}

ENTRY says ``sha256`` and ``bytes`` of the file, ``values_sha256`` (see there), ``shape``, ``dtype``, ``scene`` (the source;
patches of one scene overlap, so a split is by scene), and where it is known the crop's ``row`` and ``column``. A cube's
says ``nodata_pixels``, and three lists of band ranges [first, last + 1): ``nodata_bands``, in which some pixel has no
data, ``nonfinite_bands``, in which that is NaN or infinity, and ``constant_bands``, over each of which all values are one
value. A truth's says ``anomalous_pixels``. ``check`` is a checksum of the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from pathlib import Path

import numpy as np

from fers.scenes.readers.base import missing_pixels
from fers.scenes.scene import npy_bytes, row_blocks, truth_png_bytes
from fers.util.errors import FersError
from fers.util.files import sha256_of, write_whole

MANIFEST = "manifest.json"
FORMAT = "fers-dataset-1"
_UNFINISHED = ".unfinished.json"  # the manifest while its dataset is being written
_SAVE_EVERY = 5.0  # s

_RANGES = [(int, int)]
_TRUTH = {"sha256": str, "bytes": int, "values_sha256": str, "shape": (int, int), "dtype": str, "scene": str}
_CUBE = _TRUTH | {"shape": (int, int, int), "nodata_pixels": int}
_CUBE |= {"nodata_bands": _RANGES, "nonfinite_bands": _RANGES, "constant_bands": _RANGES}


class ManifestError(FersError):
    """Manifest that cannot be used. The message names it, what is wrong and what to do."""


def write_array(
    folder: Path, file: str, values: np.ndarray, scene: str, nodata: tuple[float, ...] = (), **place: int
) -> dict:
    """Write a cube ``(H, W, B)`` as .npy or a truth ``(H, W)`` as .png, whole or not at all; returns its ``entry``."""
    content = npy_bytes(values) if values.ndim == 3 else truth_png_bytes(values)
    write_whole(folder / file, content)
    return entry(content, values, scene, nodata, **place)


def entry(content: bytes, values: np.ndarray, scene: str, nodata: tuple[float, ...] = (), **place: int) -> dict:
    """Describe a file, of this content and these values, for the manifest.

    ``nodata`` marks missing samples of a cube, besides NaN and infinity. ``place`` is ``row`` and ``column`` of the crop in
    its source scene.
    """
    facts: dict = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "values_sha256": values_sha256(values),
        "shape": list(values.shape),
        "dtype": values.dtype.name,
        "scene": scene,
        **place,
    }
    if values.ndim == 2:
        return facts | {"anomalous_pixels": int(values.sum())}
    missing = missing_pixels(values, nodata)
    lacking = values[missing].T[None]  # what lacks data, bands in the place of pixels
    zero = np.zeros(values.shape[2])
    return facts | {
        "nodata_pixels": int(missing.sum()),
        "nodata_bands": _ranges(missing_pixels(lacking, nodata)[0], zero),
        "nonfinite_bands": _ranges(missing_pixels(lacking, ())[0], zero),
        "constant_bands": _ranges((values == values[:1, :1]).all(axis=(0, 1)), values[0, 0]),
    }


def _ranges(chosen: np.ndarray, value: np.ndarray) -> list[list[int]]:
    """The longest ranges of bands that are chosen and have one value."""
    ranges: list[list[int]] = []
    for band in np.flatnonzero(chosen).tolist():
        if ranges and ranges[-1][1] == band and value[band] == value[band - 1]:
            ranges[-1][1] = band + 1
        else:
            ranges.append([band, band + 1])
    return ranges


def values_sha256(values: np.ndarray) -> str:
    """Compute the sha256 of an array's shape and its values as float32, whatever its type, order and file.

    So a folder that another program wrote can be compared.

    Example:
        >>> cube = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
        >>> values_sha256(cube) == values_sha256(np.asfortranarray(cube, dtype=">f8"))
        True
    """
    digest = hashlib.sha256("x".join(map(str, values.shape)).encode())
    for rows in row_blocks(values.shape):
        digest.update(np.ascontiguousarray(values[rows], dtype="<f4").data)
    return digest.hexdigest()


def read_manifest(folder: str | Path, name: str = MANIFEST) -> dict | None:
    """Read the manifest of a folder, with ``files`` from path to entry; None where there is none.

    Raises:
        ManifestError: It is damaged, or of another format.
        OSError: It cannot be read.
    """
    path = Path(folder) / name
    if not path.is_file():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not _is_a(manifest, {"format": str, "files": dict}) or manifest["format"] != FORMAT:
            raise ValueError(f"no table of format {FORMAT}")
        if not all(type(manifest.get(key, {})) is dict for key in ("archive", "bands")):
            raise ValueError("archive or bands is no table")
        for file, facts in manifest["files"].items():
            if not _is_a(facts, _CUBE if file.endswith(".npy") else _TRUTH):
                raise ValueError(f"the entry of {file!r} is incomplete")
    except (ValueError, RecursionError) as error:
        raise ManifestError(
            f"{path}: not a manifest of this project ({error}). Remove it: what needs one makes it again."
        ) from error
    return manifest


def _is_a(value: object, kind: type | dict | tuple | list) -> bool:
    """Tell whether JSON is of a type, a table with such keys (dict), such a sequence (tuple), or any number of one kind (list)."""
    if isinstance(kind, type):
        return type(value) is kind
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(_is_a(value.get(key), kind[key]) for key in kind)
    kinds = kind if isinstance(kind, tuple) or not isinstance(value, list) else kind * len(value)
    return isinstance(value, list) and len(value) == len(kinds) and all(map(_is_a, value, kinds))


def _check_manifest(manifest: dict) -> str:
    """The sha256 of all that a manifest says but for this itself."""
    content = {key: value for key, value in manifest.items() if key != "check"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: str | Path, facts: dict, files: dict[str, dict], name: str = MANIFEST) -> dict:
    """Write the manifest of a folder, and return it: ``facts`` and, by path relative to the folder, an entry a file."""
    manifest = {"format": FORMAT, **facts, "files": dict(sorted(files.items()))}
    manifest["check"] = _check_manifest(manifest)
    write_whole(Path(folder) / name, (json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


class Progress:
    """Record of the files of a dataset that is being written, so that an interrupted run goes on.

    It is a context manager: the record is saved when its block ends with an error. ``facts`` is what the manifest says
    besides the files. With ``replace``, a manifest with other facts is removed, and its files are made again.

    Attributes:
        before: The manifests that were there: of a finished run and of an interrupted one.
        files: The entries that are on record.
    """

    def __init__(self, folder: Path, facts: dict, replace: bool = False):
        self.folder, self.facts = folder, facts
        self.before: list[dict] = []
        self.files: dict[str, dict] = {}
        for name in (MANIFEST, _UNFINISHED):
            found = read_manifest(folder, name)
            if found is None:
                continue
            said = {key: value for key, value in found.items() if key not in ("format", "files", "check")}
            if replace and said != json.loads(json.dumps(facts)):
                (folder / name).unlink()
            elif found.get("check") in (None, _check_manifest(found)):  # what was altered proves nothing
                self.before.append(found)
                self.files |= found["files"]
        self._saved = time.monotonic()
        self._lock = threading.Lock()

    def intact(self, files: list[str]) -> dict[str, dict] | None:
        """Look up the entries of these files; None unless every one is there with the checksum on record."""
        known = {file: self.files[file] for file in files if file in self.files and (self.folder / file).is_file()}
        whole = all(sha256_of(self.folder / file) == facts["sha256"] for file, facts in known.items())
        return known if whole and len(known) == len(files) else None

    def add(self, entries: dict[str, dict]) -> None:
        """Record files that are written, in any thread; every few seconds this goes to the disk."""
        with self._lock:
            self.files |= entries
            if time.monotonic() > self._saved + _SAVE_EVERY:
                self._save()

    def _save(self) -> None:
        write_manifest(self.folder, self.facts, self.files, _UNFINISHED)
        self._saved = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self.folder.is_dir():
            with contextlib.suppress(OSError):  # a full disk takes the record neither
                self._save()

    def finish(self) -> dict:
        """Write the manifest of the whole dataset, which it returns; files that are gone are not in it."""
        self.files = {file: facts for file, facts in self.files.items() if (self.folder / file).is_file()}
        manifest = write_manifest(self.folder, self.facts, self.files)
        (self.folder / _UNFINISHED).unlink(missing_ok=True)
        return manifest
