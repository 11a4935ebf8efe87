"""HAD100.zip into the folders that training and testing read, straight from the zip, scene by scene (SPEC 8).

    python -m data.had100 prepare HAD100.zip --out data/HAD100Dataset
    python -m data.had100 prepare HAD100.zip --out data/HAD100Dataset --verify

    HAD100Dataset/train/aviris_ng/<scene>_<1..4>.npy    1,040 patches, 64 x 64 x 276
    HAD100Dataset/train/aviris/<scene>_<1..4>.npy       1,048 patches, 64 x 64 x 162 (x 200 with --bands raw)
    HAD100Dataset/test/aviris_ng/<scene>[_<1|2>].npy    100 scenes, 64 x 64 x 276
    HAD100Dataset/ground_truth/aviris_ng/<same>.png     their masks, green 255 at anomalies
    HAD100Dataset/manifest.json                         per file: sha256, source scene, row and column of the crop

A training patch is named after its scene and its corner: 1 top left, 2 top right, 3 bottom left, 4 bottom right. The
four overlap, so training and validation are split by scene: the name without its last ``_<n>``. Six test scenes are
cropped twice and their crops named _1 and _2; the others keep the scene's name.

Values are the archive's own, in its own type; nothing is scaled. Pixels without data (-9999, 1e-34, NaN or infinity
in a kept band) stay as they are, since the archive's layout has them too: the manifest counts them per file
(``nodata_pixels``), and `data.normalise` refuses such a crop when it is used.

One scene at a time is unpacked per process, to a folder that is removed afterwards, so memory and temporary space do
not depend on the archive's size. Every scene that is done is on record, and an interrupted run goes on after it.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from tqdm import tqdm

from data import had100
from data.archive import ArchiveError, check_sum, copy_member, explain, free_bytes, open_zip, sha256_of
from data.files import atomic_path
from data.scene import SceneError, nodata_pixels, read_mask, read_scene

SIDE = 64  # px, of every crop
MANIFEST = "manifest.json"
_WORK = ".prepare"  # in the output folder while a run is not finished: the record of what is done, and open scenes
_ENVI_SUFFIXES = ("", ".img", ".dat", ".raw", ".bil", ".bip", ".bsq")
_FOLDERS = ("train", "test", "ground_truth")
_SHOWN = 10  # names in a message


@dataclass(frozen=True)
class Sensor:
    """What the archive says about a sensor.

    Attributes:
        raw: Bands in the archive.
        kept: Ranges of the bands that are kept, 0-based and half-open.
    """

    raw: int
    kept: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Group:
    """One folder of the output and the folder of the archive that it is made from.

    Attributes:
        source: The folder in the archive.
        scenes: Scenes in the published archive.
        files: Crops made from them.
    """

    source: str
    scenes: int
    files: int


SENSORS = {  # SPEC 8
    "aviris_ng": Sensor(425, ((15, 109), (118, 145), (158, 187), (227, 274), (328, 407))),
    "aviris": Sensor(224, ((7, 57), (65, 79), (85, 104), (122, 149), (172, 224))),
}
RAW_200 = ((0, 200),)  # --bands raw: AVIRIS-Classic for the 200-band ABU model
GROUPS = {
    "train/aviris_ng": Group("aviris_ng_normal", 260, 1040),
    "train/aviris": Group("aviris_normal", 262, 1048),
    "test/aviris_ng": Group("aviris_ng_target", 94, 100),
}
MASK_SOURCE = "aviris_ng_gt"
MASKS = "ground_truth/aviris_ng"
TEST_CROPS = {  # SPEC 8: (row, column) of the 64 x 64 crops; a scene that is not listed is 64 x 64 already
    "ang20170821t183707_102": ((0, 15),),
    "ang20170821t183707_124": ((0, 0),),
    "ang20170821t195229_21": ((36, 36),),
    "ang20170825t173426_14": ((0, 0),),
    "ang20170825t173426_17": ((0, 36),),
    "ang20170908t225309_32": ((0, 0), (36, 17)),
    "ang20170908t225309_34": ((36, 0),),
    "ang20170908t225309_36": ((0, 0), (10, 36)),
    "ang20170908t225309_37": ((0, 0), (10, 36)),
    "ang20170908t225309_39": ((0, 16),),
    "ang20171012t194435_23": ((0, 0),),
    "ang20180227t082814_15": ((0, 0), (36, 36)),
    "ang20180227t082814_17": ((0, 36), (36, 5)),
    "ang20191004t185054_22": ((0, 0),),
    "ang20191004t185054_27": ((0, 3),),
    "ang20210614t141018_32": ((0, 17),),
    "ang20210614t141018_37": ((10, 0), (36, 36)),
    "ang20210614t141018_38": ((36, 0),),
}


@dataclass(frozen=True)
class Source:
    """One scene of the archive and what becomes of it.

    Attributes:
        archive: The zip file.
        group: The output folder, a key of GROUPS.
        name: Scene name.
        header: Its ENVI header in the zip file.
        data: Its ENVI data file in the zip file.
        mask: Its ground truth in the zip file, for a test scene.
        bands: Ranges of bands to keep, 0-based and half-open.
    """

    archive: Path
    group: str
    name: str
    header: str
    data: str
    mask: str | None
    bands: tuple[tuple[int, int], ...]

    @property
    def sensor(self) -> str:
        """The sensor's folder, a key of SENSORS."""
        return self.group.split("/")[1]

    def crop_names(self) -> list[str]:
        """The names of the scene's crops, without suffix."""
        if self.group.startswith("train/"):
            return [f"{self.name}_{corner}" for corner in (1, 2, 3, 4)]
        crops = len(TEST_CROPS.get(self.name, ((0, 0),)))
        return [self.name] if crops == 1 else [f"{self.name}_{crop}" for crop in range(1, crops + 1)]

    def files(self) -> list[str]:
        """The files made from the scene, relative to the output folder."""
        files = [f"{self.group}/{name}.npy" for name in self.crop_names()]
        if self.mask is not None:
            files += [f"{MASKS}/{name}.png" for name in self.crop_names()]
        return files


def chosen_bands(sensor: str, bands: str) -> tuple[tuple[int, int], ...]:
    """The bands of a sensor that go into the output.

    Args:
        sensor: ``aviris_ng`` or ``aviris``.
        bands: ``kept`` for the archive's own choice; ``raw`` for AVIRIS-Classic's first 200 of 224. AVIRIS-NG's are
            the kept ones either way.

    Returns:
        Ranges, 0-based and half-open.
    """
    return RAW_200 if bands == "raw" and sensor == "aviris" else SENSORS[sensor].kept


def _named_bands(sensor: str, bands: str) -> dict:
    """The bands of a sensor as the manifest names them: ranges 0-based and half-open."""
    ranges = chosen_bands(sensor, bands)
    return {
        "choice": "raw" if ranges == RAW_200 else "kept",
        "ranges": " ".join(f"[{start}:{stop})" for start, stop in ranges),
        "count": sum(stop - start for start, stop in ranges),
        "of": SENSORS[sensor].raw,
    }


def prepare(
    archive: str | Path,
    out: str | Path,
    bands: str = "kept",
    sensor: str = "all",
    jobs: int | None = None,
    any_archive: bool = False,
) -> dict:
    """Make HAD100Dataset from HAD100.zip, or finish what an interrupted run has begun.

    Args:
        archive: HAD100.zip.
        out: The folder to write, HAD100Dataset.
        bands: ``kept`` (276 and 162 bands) or ``raw`` (AVIRIS-Classic's first 200 of 224 in place of the 162).
        sensor: ``all``, ``aviris_ng`` (training and test) or ``aviris`` (training).
        jobs: Processes; by default one per core. With 1, no other process is started.
        any_archive: Take an archive of another size, sha256 or number of scenes than the published one.

    Returns:
        The manifest, as it is in ``manifest.json``.

    Raises:
        ArchiveError: The archive is another or damaged, or the folder holds other files. What is finished is kept.
        OSError: The folder cannot be written, such as on a full disk. What is finished is kept.
    """
    archive, out = Path(archive), Path(out)
    origin = _check_archive(archive, any_archive)
    everything = list_scenes(archive, bands, any_archive)
    sources = [source for source in everything if sensor in ("all", source.sensor)]
    settings = {"archive": origin, "bands": {source.sensor: _named_bands(source.sensor, bands) for source in sources}}

    done = _read_done(out, settings)
    _refuse_strangers(out, {file for source in everything for file in source.files()} | set(done))
    sizes = {file: (out / file).stat().st_size for file in done if (out / file).is_file()}
    done = {file: entry for file, entry in done.items() if sizes.get(file) == entry["bytes"]}
    pending = [source for source in sources if not all(file in done for file in source.files())]

    work = out / _WORK
    shutil.rmtree(work / "open", ignore_errors=True)  # what a run that was killed has left
    (work / "open").mkdir(parents=True)
    _check_room(out, pending)
    try:
        with (work / "done.jsonl").open("a", encoding="utf-8") as record:
            # a line that was cut short by a kill must not swallow the next one
            record.write("\n" + json.dumps({"settings": settings}) + "\n")
            with closing(_run(partial(_write_scene, out=out), pending, jobs, "scenes")) as results:
                for entries in results:
                    record.write(json.dumps(entries) + "\n")
                    record.flush()
                    done.update(entries)
        manifest = _manifest(settings, done, out)
        with atomic_path(out / MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(work / "open", ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)  # the manifest says it all now
    return manifest


def list_scenes(archive: Path, bands: str = "kept", any_archive: bool = False) -> list[Source]:
    """The scenes of the archive, each with its ENVI pair and its mask.

    Args:
        archive: The zip file.
        bands: ``kept`` or ``raw``.
        any_archive: Take any number of scenes.

    Returns:
        The scenes by output folder and name.

    Raises:
        ArchiveError: It is no zip file, a name leads out of it, a scene lacks its data file or its mask, or the number
            of scenes is not that of the published archive.
    """
    by_folder: dict[str, dict[str, str]] = defaultdict(dict)
    with open_zip(archive) as zipped:
        for member in zipped.namelist():
            path = PurePosixPath(member)
            if not member.endswith("/") and not path.name.startswith(".") and "__MACOSX" not in path.parts:
                by_folder[path.parent.name][path.name] = member
    masks = {Path(name).stem: member for name, member in by_folder[MASK_SOURCE].items() if name.endswith(".mat")}
    sources = []
    for group, facts in GROUPS.items():
        chosen = chosen_bands(group.split("/")[1], bands)
        members = by_folder[facts.source]
        found = []
        for name, header in sorted(members.items()):
            stem, suffix = os.path.splitext(name)
            if suffix.lower() != ".hdr":
                continue
            if os.path.splitext(stem)[1].lower() in _ENVI_SUFFIXES[1:]:  # scene.img.hdr
                stem = os.path.splitext(stem)[0]
            data = [members[f"{stem}{s}"] for e in _ENVI_SUFFIXES for s in {e, e.upper()} if f"{stem}{s}" in members]
            if not data:
                raise ArchiveError(f"{archive}: {header} has no data file ({stem}, {stem}.img, ...). Fetch it again.")
            if group.startswith("test/") and stem not in masks:
                raise ArchiveError(f"{archive}: no ground truth {MASK_SOURCE}/{stem}.mat for {header}. Fetch it again.")
            mask = masks[stem] if group.startswith("test/") else None
            found.append(Source(archive, group, stem, header, data[0], mask, chosen))
        if len(found) != facts.scenes and not any_archive:
            raise ArchiveError(
                f"{archive}: {len(found)} scenes in {facts.source}, expected {facts.scenes}. This is not the published "
                "archive; fetch it again, or give --any-archive."
            )
        sources += found
    if not sources:
        wanted = ", ".join(facts.source for facts in GROUPS.values())
        raise ArchiveError(f"{archive}: no ENVI scenes found; expected the folders {wanted}. Is this HAD100.zip?")
    return sources


def _check_archive(archive: Path, any_archive: bool) -> dict:
    """What the manifest says about the archive; raises if it has to be the published one and is not."""
    if not archive.is_file():
        raise ArchiveError(
            f"{archive}: no such file. Fetch it with python -m data.download had100, then give its path."
        )
    if any_archive:
        return {"name": archive.name, "bytes": archive.stat().st_size, "sha256": sha256_of(archive, progress=True)}
    advice = "Fetch it again with python -m data.download had100; --any-archive takes another archive of its structure."
    check_sum(archive, had100.ARCHIVE, advice)
    return {"name": had100.ARCHIVE.name, "bytes": had100.ARCHIVE.size, "sha256": had100.ARCHIVE.sha256}


def _read_done(out: Path, settings: dict) -> dict[str, dict]:
    """The finished files that the folder's manifest and an interrupted run's record know, if they are of these settings."""
    blocks = []
    if (out / MANIFEST).is_file():
        manifest = read_manifest(out)
        blocks.append((manifest, manifest["files"]))
    record = out / _WORK / "done.jsonl"
    if record.is_file():
        for line in record.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                item = json.loads(line)
            except ValueError:  # cut short when the run was killed: that scene is done again
                continue
            if "settings" in item:
                blocks.append((item["settings"], {}))
            elif blocks:
                blocks[-1][1].update(item)
    done: dict[str, dict] = {}
    for found, files in blocks:
        same_bands = all(found["bands"].get(s, b) == b for s, b in settings["bands"].items())
        if found["archive"]["sha256"] != settings["archive"]["sha256"] or not same_bands:
            before, now = (
                f"{s['archive']['name']} of sha256 {s['archive']['sha256'][:8]}.. with "
                + ", ".join(f"{sensor} {chosen['choice']}" for sensor, chosen in s["bands"].items())
                for s in (found, settings)
            )
            raise ArchiveError(
                f"{out}: made from another archive or with other bands ({before}; now {now}). Choose another --out."
            )
        settings["bands"] = found["bands"] | settings["bands"]  # the other sensor may have been prepared before
        done.update(files)
    return done


def _refuse_strangers(out: Path, expected: set[str]) -> None:
    strangers = sorted(_files_in(out) - expected)
    if strangers:
        raise ArchiveError(
            f"{out}: {len(strangers)} files there are not of this dataset and would be taken for it, such as "
            f"{strangers[0]}. Choose another --out, or check what is there with --verify."
        )


def _files_in(out: Path) -> set[str]:
    """Arrays and masks in the dataset's folders, relative to ``out``."""
    paths = (path for folder in _FOLDERS for path in (out / folder).glob("*/*"))
    return {path.relative_to(out).as_posix() for path in paths if path.suffix in (".npy", ".png")}


def _check_room(out: Path, pending: list[Source]) -> None:
    """Refuse what certainly does not fit, before the first file is written."""
    needed = 0
    for source in pending:
        bytes_per_value = 4 if source.group.endswith("_ng") else 2  # AVIRIS-Classic's scenes are int16 or float32
        values = SIDE * SIDE * sum(stop - start for start, stop in source.bands)
        needed += len(source.crop_names()) * values * bytes_per_value
    if needed > free_bytes(out):
        raise ArchiveError(
            f"{out}: at least {needed:,} bytes are still to be written and {free_bytes(out):,} are free on this disk. "
            "Free some space, or choose another --out."
        )


def _run(function: Callable, items: Sequence, jobs: int | None, what: str) -> Iterator:
    """Results of a function over items, as they come, over processes and with a progress bar."""
    jobs = min(jobs or _cores(), max(1, len(items)))
    bar = partial(tqdm, total=len(items), desc=what, unit=what.removesuffix("s"))
    if jobs == 1:
        yield from bar(map(function, items))
        return
    # not forked: a caller may have threads, and a fork of those can hang
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker) as pool:
        try:
            for future in bar(as_completed([pool.submit(function, item) for item in items])):
                yield future.result()
        except BrokenProcessPool as error:
            raise ArchiveError(
                "A process was ended from outside, perhaps for want of memory. Run the command again to go on, with "
                "fewer --jobs."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it: it may be killed while work is queued."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _write_scene(source: Source, out: Path) -> dict[str, dict]:
    """Make and write the files of one scene; their manifest entries by file name."""
    with tempfile.TemporaryDirectory(dir=out / _WORK / "open", ignore_cleanup_errors=True) as folder:
        entries = {}
        for file, content, entry in _make_scene(source, Path(folder)):
            temporary = Path(folder) / "whole"
            temporary.write_bytes(content)
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, out / file)
            entries[file] = entry
        return entries


def _describe_scene(source: Source) -> dict[str, dict]:
    """The manifest entries of one scene, nothing written."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        return {file: entry for file, _, entry in _make_scene(source, Path(folder))}


def _make_scene(source: Source, folder: Path) -> Iterator[tuple[str, bytes, dict]]:
    """Unpack one scene and cut it: the file names, their contents and their manifest entries.

    Raises:
        ArchiveError: The scene is damaged, or its size, bands or mask are not as in SPEC 8.
    """
    header, data, gt = folder / f"{source.name}.hdr", folder / f"{source.name}.img", folder / f"{source.name}.mat"
    with open_zip(source.archive) as zipped:
        copy_member(zipped, source.header, header)
        copy_member(zipped, source.data, data)
        if source.mask is not None:
            copy_member(zipped, source.mask, gt)
    place = f"{source.archive}: {source.header}"
    try:
        scene = read_scene(header, name=source.name, nodata=had100.NODATA)
        mask = None if source.mask is None else read_mask(gt, variable="gt", shape=scene.cube.shape[:2])
    except SceneError as error:
        where = f"{source.archive}: {PurePosixPath(source.header).parent}/"  # not the temporary folder's name
        raise ArchiveError(str(error).replace(f"{folder}{os.sep}", where)) from error
    height, width, found = scene.cube.shape
    raw = SENSORS[source.sensor].raw
    if found != raw:
        raise ArchiveError(f"{place}: {found} bands, expected {raw}. This is not the published archive.")
    corners = _positions(source, height, width)
    for row, column in corners:
        if row < 0 or column < 0 or row + SIDE > height or column + SIDE > width:
            raise ArchiveError(
                f"{place}: {height} x {width} px; a crop of {SIDE} x {SIDE} at row {row}, column {column} does not fit."
            )
    if (
        len(corners) == 1
        and source.mask is not None
        and source.name not in TEST_CROPS
        and (height, width) != (SIDE, SIDE)
    ):
        raise ArchiveError(f"{place}: {height} x {width} px; expected {SIDE} x {SIDE}, or a crop to be known for it.")
    kept = np.concatenate([np.arange(start, stop) for start, stop in source.bands])
    for name, (row, column) in zip(source.crop_names(), corners, strict=True):
        at = (slice(row, row + SIDE), slice(column, column + SIDE))
        cube = np.ascontiguousarray(scene.cube[at][:, :, kept])
        cube = cube.astype(cube.dtype.newbyteorder("="), copy=False)
        file, content = f"{source.group}/{name}.npy", _npy(cube)
        facts = {"scene": source.name, "row": row, "column": column}
        missing = int(nodata_pixels(replace(scene, cube=cube)).sum())
        yield file, content, _entry(content, cube, facts | {"dtype": cube.dtype.name, "nodata_pixels": missing})
        if mask is not None:
            content = _png(mask[at])
            anomalous = int(mask[at].sum())
            yield f"{MASKS}/{name}.png", content, _entry(content, mask[at], facts | {"anomalous_pixels": anomalous})


def _positions(source: Source, height: int, width: int) -> tuple[tuple[int, int], ...]:
    """Row and column of each crop, in the order of ``source.crop_names()``."""
    if source.group.startswith("train/"):
        bottom, right = height - SIDE, width - SIDE
        return ((0, 0), (0, right), (bottom, 0), (bottom, right))
    return TEST_CROPS.get(source.name, ((0, 0),))


def _npy(cube: np.ndarray) -> bytes:
    # by way of memory: numpy's own write to a file loses the reason when the disk is full
    buffer = io.BytesIO()
    np.save(buffer, cube, allow_pickle=False)
    return buffer.getvalue()


def _png(mask: np.ndarray) -> bytes:
    pixels = np.zeros((*mask.shape, 3), dtype=np.uint8)
    pixels[mask, 1] = 255  # SPEC 8: an anomaly is where the green channel is 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _entry(content: bytes, values: np.ndarray, facts: dict) -> dict:
    sha256 = hashlib.sha256(content).hexdigest()
    return {"sha256": sha256, "values_sha256": values_sha256(values), "bytes": len(content)} | facts


def values_sha256(values: np.ndarray) -> str:
    """The sha256 of what an array says, whatever its file looks like.

    Shape and values as float32, which holds int16 exactly: the same for any numeric type, byte or memory order, .npy
    version and PNG encoder. So a folder that another program wrote can be compared.

    Args:
        values: A cube ``(H, W, B)`` or a mask ``(H, W)``.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> cube = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
        >>> values_sha256(cube) == values_sha256(np.asfortranarray(cube, dtype=">f8"))
        True
    """
    digest = hashlib.sha256("x".join(map(str, values.shape)).encode())
    digest.update(np.ascontiguousarray(values, dtype="<f4"))
    return digest.hexdigest()


def _manifest(settings: dict, files: dict[str, dict], out: Path) -> dict:
    """The manifest of a finished folder.

    Raises:
        ArchiveError: A file of it is missing.
    """
    missing = sorted(set(files) - _files_in(out))
    if missing:
        raise ArchiveError(f"{out / missing[0]}: was written and is gone. Run the command again.")
    counts = Counter(str(PurePosixPath(file).parent) for file in files)
    return {
        "dataset": "HAD100",
        "archive": settings["archive"],
        "published_archive": settings["archive"]["sha256"] == had100.ARCHIVE.sha256,
        "bands": dict(sorted(settings["bands"].items())),
        "side": SIDE,
        "nodata_values": list(had100.NODATA),
        "counts": dict(sorted(counts.items())),
        "files": dict(sorted(files.items())),
    }


def read_manifest(out: str | Path) -> dict:
    """The manifest of a prepared folder.

    Args:
        out: The folder.

    Returns:
        What `prepare` returned.

    Raises:
        ArchiveError: There is none, or it is not one of `prepare`.
    """
    path = Path(out) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["dataset"] == "HAD100" and manifest["archive"] and manifest["bands"] and manifest["files"]:
            return manifest
        raise KeyError("dataset")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArchiveError(
            f"{path}: not a manifest of a HAD100 folder ({type(error).__name__}: {error}). Remove it, or choose another --out."
        ) from error


# ---- checking a folder


def verify(
    out: str | Path,
    archive: str | Path | None = None,
    bands: str | None = None,
    sensor: str = "all",
    jobs: int | None = None,
    any_archive: bool = False,
) -> tuple[list[str], list[str]]:
    """Compare an existing folder with the archive, else with its manifest, else with the structure of SPEC 8.

    With the archive, test scenes and masks are compared by name. Training patches are compared by their values and may
    have any name, since another program may name them otherwise.

    Args:
        out: The folder, HAD100Dataset, whoever made it.
        archive: HAD100.zip.
        bands: ``kept`` or ``raw``; by default what the manifest says, else ``kept``.
        sensor: ``all``, ``aviris_ng`` or ``aviris``.
        jobs: Processes; by default one per core.
        any_archive: As for `prepare`; without an archive, take any number of files.

    Returns:
        Problems, none if all is right, and remarks.

    Raises:
        ArchiveError: The folder holds nothing to check, or the archive cannot be used.
        OSError: A file cannot be read.
    """
    out = Path(out)
    manifest = read_manifest(out) if (out / MANIFEST).is_file() else None
    # without a manifest every sensor is expected; with one, those it was made for
    wanted = set(SENSORS if manifest is None else manifest["bands"]) & ({sensor} if sensor != "all" else set(SENSORS))
    present = sorted(file for file in _files_in(out) if file.split("/")[1] in wanted)
    if not present:
        raise ArchiveError(f"{out}: no HAD100Dataset here; expected train/, test/ and ground_truth/ with files.")
    if bands is None:
        bands = "kept" if manifest is None else manifest["bands"].get("aviris", {"choice": "kept"})["choice"]

    found: dict[str, dict] = {}
    with closing(_run(partial(_describe_file, out=out), present, jobs, "files")) as results:
        for entry in results:
            found.update(entry)
    problems = [f"{file}: {entry['error']}" for file, entry in found.items() if "error" in entry]
    unreadable = {file for file, entry in found.items() if "error" in entry}
    readable = {file: entry for file, entry in found.items() if file not in unreadable}
    remarks = []

    if archive is not None:
        archive = Path(archive)
        _check_archive(archive, any_archive)
        sources = [source for source in list_scenes(archive, bands, any_archive) if source.sensor in wanted]
        expected: dict[str, dict] = {}
        with closing(_run(_describe_scene, sources, jobs, "scenes")) as results:
            for entries in results:
                expected.update(entries)
        problems += _compare_named(expected, readable, unreadable)
        patches, notes = _compare_patches(expected, readable)
        problems += patches
        remarks += [f"{len(expected):,} crops and masks compared with {archive}, value by value", *notes]
    elif manifest is not None:
        listed = {file: entry for file, entry in manifest["files"].items() if file.split("/")[1] in wanted}
        problems += [f"{file}: missing" for file in sorted(set(listed) - set(found))]
        problems += [f"{file}: not in the manifest" for file in sorted(set(found) - set(listed))]
        problems += [
            f"{file}: sha256 {entry['sha256']}, expected {listed[file]['sha256']}"
            for file, entry in sorted(found.items())
            if file in listed and entry["sha256"] != listed[file]["sha256"]
        ]
        remarks.append(f"{len(listed):,} files compared with {out / MANIFEST} by sha256")
        if not manifest["published_archive"]:
            other = manifest["archive"]
            remarks.append(f"made from {other['name']}, sha256 {other['sha256']}: not the published archive")
    else:
        remarks.append(
            "only counts, shapes, bands and masks are checked: there is no manifest; give HAD100.zip as well"
        )
    # where the number of files follows from something else than SPEC 8, that has been compared already
    any_count = any_archive or archive is not None or (manifest is not None and not manifest["published_archive"])
    problems += _check_structure(readable, bands, wanted, any_count)
    return sorted(set(problems)), remarks


def _describe_file(file: str, out: Path) -> dict[str, dict]:
    """What `verify` needs to know about one file; an ``error`` where it cannot be read."""
    path = out / file
    entry: dict = {"sha256": sha256_of(path)}
    try:
        if path.suffix == ".npy":
            cube = read_scene(path, nodata=had100.NODATA).cube
            entry |= {"shape": cube.shape, "values_sha256": values_sha256(cube)}
        else:
            mask = read_mask(path)
            entry |= {"shape": mask.shape, "values_sha256": values_sha256(mask)}
    except SceneError as error:
        entry["error"] = str(error).removeprefix(f"{path}: ")
    return {file: entry}


def _compare_named(expected: dict[str, dict], found: dict[str, dict], unreadable: set[str]) -> list[str]:
    """Test scenes and masks, whose names SPEC 8 gives."""
    expected = {file: entry for file, entry in expected.items() if not file.startswith("train/")}
    found = {file: entry for file, entry in found.items() if not file.startswith("train/")}
    problems = [f"{file}: missing" for file in expected if file not in found and file not in unreadable]
    problems += [f"{file}: not in the archive" for file in found if file not in expected]
    return problems + [
        f"{file}: its values are not the archive's (crop at row {entry['row']}, column {entry['column']} of {entry['scene']})"
        for file, entry in expected.items()
        if file in found and found[file]["values_sha256"] != entry["values_sha256"]
    ]


def _compare_patches(expected: dict[str, dict], found: dict[str, dict]) -> tuple[list[str], list[str]]:
    """Training patches: the same values the same number of times; problems, and a remark on names."""
    problems, renamed = [], 0
    for group in ("train/aviris_ng/", "train/aviris/"):
        left = defaultdict(list)
        for file, entry in found.items():
            if file.startswith(group):
                left[entry["values_sha256"]].append(file)
        for file, entry in expected.items():
            if not file.startswith(group):
                continue
            same = left[entry["values_sha256"]]
            if not same:
                problems.append(
                    f"{group}: no file holds the crop at row {entry['row']}, column {entry['column']} of {entry['scene']}"
                )
                continue
            here = file in same
            same.remove(file if here else same[0])
            renamed += not here
        problems += [f"{file}: not a crop of the archive" for files in left.values() for file in files]
    note = f"{renamed:,} training patches have other names than here; split them by scene only if their names tell it"
    return problems, [note] if renamed else []


def _check_structure(found: dict[str, dict], bands: str, sensors: set[str], any_count: bool) -> list[str]:
    """Counts, shapes and the pairing of test scenes and masks."""
    counts = Counter(str(PurePosixPath(file).parent) for file in found)
    problems = []
    for group, facts in GROUPS.items():
        if group.split("/")[1] in sensors and counts[group] != facts.files and not any_count:
            problems.append(f"{group}: {counts[group]:,} files that can be read, expected {facts.files:,}")
    for file, entry in found.items():
        folder, sensor, _ = file.split("/")
        values = sum(stop - start for start, stop in chosen_bands(sensor, bands)) if sensor in SENSORS else None
        shape = (SIDE, SIDE) if folder == "ground_truth" else (SIDE, SIDE, values)
        if tuple(entry["shape"]) != shape:
            problems.append(f"{file}: {' x '.join(map(str, entry['shape']))}, expected {' x '.join(map(str, shape))}")
    tests = {PurePosixPath(file).stem for file in found if file.startswith("test/")}
    masks = {PurePosixPath(file).stem for file in found if file.startswith("ground_truth/")}
    problems += [f"test/aviris_ng/{name}.npy: no mask of its name" for name in tests - masks]
    return problems + [f"{MASKS}/{name}.png: no scene of its name" for name in masks - tests]


# ---- command line


def _summary(manifest: dict, out: Path) -> Iterator[str]:
    yield f"{out}: complete, {len(manifest['files']):,} files; sha256 of each in {out / MANIFEST}"
    for group, facts in GROUPS.items():
        files = {f: e for f, e in manifest["files"].items() if f.startswith(f"{group}/")}
        if files:
            bands = manifest["bands"][group.split("/")[1]]
            yield (
                f"  {group}: {len(files):,} of {facts.files:,} crops, {SIDE} x {SIDE} x {bands['count']}, "
                f"{bands['choice']} bands {bands['ranges']} of {bands['of']}"
            )
            holes = sum(entry["nodata_pixels"] > 0 for entry in files.values())
            if holes:
                yield f"    {holes:,} of them hold pixels without data, kept as they are (nodata_pixels in the manifest)"
    one_class = [f for f, e in manifest["files"].items() if e.get("anomalous_pixels") in (0, SIDE * SIDE)]
    if one_class:
        yield f"  {len(one_class)} masks are of one class only and have no AUC: {', '.join(one_class[:_SHOWN])}"
    if not manifest["published_archive"]:
        yield "  This is not the published archive."


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line.

    Args:
        arguments: The arguments; those of the process by default.

    Returns:
        0 if the folder is complete and right, 2 if not, 130 if interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m data.had100", description="HAD100.")
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "prepare",
        help="make HAD100Dataset from HAD100.zip",
        description="Make HAD100Dataset from HAD100.zip. Interrupted, it goes on after the last finished scene.",
    )
    command.add_argument("archive", type=Path, nargs="?", help="HAD100.zip; --verify works without, from the manifest")
    default = Path(__file__).resolve().parent / "HAD100Dataset"
    command.add_argument("--out", type=Path, default=default, help="folder to write to (default %(default)s)")
    command.add_argument(
        "--bands",
        choices=("kept", "raw"),
        help="kept: 276 of AVIRIS-NG's 425 and 162 of AVIRIS-Classic's 224 (default); raw: AVIRIS-Classic's first 200",
    )
    command.add_argument("--sensor", choices=("all", *SENSORS), default="all", help="sensors to prepare (default all)")
    command.add_argument("--jobs", type=int, help="processes (default: one per core)")
    command.add_argument("--verify", action="store_true", help="check what is in the folder; nothing is written")
    command.add_argument(
        "--any-archive",
        action="store_true",
        help="take an archive of another size, sha256 or number of scenes; the manifest says so",
    )
    args = parser.parse_args(arguments)
    if args.archive is None and not args.verify:
        command.error("give the path of HAD100.zip; python -m data.download had100 fetches it")
    if args.jobs is not None and args.jobs < 1:
        command.error(f"--jobs is {args.jobs}; expected 1 or more")
    try:
        if args.verify:
            problems, remarks = verify(args.out, args.archive, args.bands, args.sensor, args.jobs, args.any_archive)
            print("".join(f"{remark}\n" for remark in remarks), end="")
            print("".join(f"  {problem}\n" for problem in problems[:_SHOWN]), end="")
            if problems:
                print(
                    f"error: {args.out}: {len(problems):,} problems, {min(len(problems), _SHOWN)} shown",
                    file=sys.stderr,
                )
                return 2
            print(f"{args.out}: right")
        else:
            manifest = prepare(args.archive, args.out, args.bands or "kept", args.sensor, args.jobs, args.any_archive)
            print("\n".join(_summary(manifest, args.out)))
    except ArchiveError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        advice = "Finished scenes are kept; put it right and run the command again to go on."
        print(f"error: {explain(error, args.out)} {advice}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; finished scenes are kept, run the command again to go on", file=sys.stderr)
        return 130
    return 0
