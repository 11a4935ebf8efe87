"""A stand-in for HAD100.zip: the archive's folders, names, sizes, bands and truths. Its cubes are made up.

Names, crops and anomalous pixels of the test scenes are the published ones (``fers.datasets.had100``). The masks are too,
where a file of them is given. Names of background scenes are made up, and so is where data is missing: in one corner of
every ``HOLED``-th background scene, with both values that occur in the archive.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io
from tqdm import tqdm

from fers.datasets.had100 import GROUPS, NODATA, SENSORS, SIDE, TEST_CROPS, TRUTH_SOURCE, published_test_scenes
from fers.datasets.synthetic.benchmark import FIRST_TRAIN_INDEX, make_scene
from fers.datasets.synthetic.spectra import WAVELENGTHS_NM, object_materials
from fers.util.commandline import natural, run
from fers.util.errors import FersError
from fers.util.files import atomic_path

HOLED = 35
ROOT = "HAD100"
_BACKGROUND_SIDE, _SMALLEST = 81, 66  # px; one in ten AVIRIS-Classic scenes is of the smallest size
_ENVI_TYPES = {"int16": 2, "float32": 4}
_AXES = {"bil": (0, 2, 1), "bip": (0, 1, 2)}
_COUNTS = 500  # AVIRIS-Classic's int16 counts for a unit of radiance
_RADIANCE = 10.0  # of a white object


class RawScene(NamedTuple):
    """A scene as the archive has it: ``cube`` ``(H, W, B)`` of its type and byte order, ``truth`` ``(H, W)`` or None."""

    folder: str
    name: str
    cube: np.ndarray
    interleave: str = "bil"
    suffix: str = ""  # of the data file
    truth: np.ndarray | None = None


def write_archive(path: Path, scenes: Iterable[RawScene], compression: int = zipfile.ZIP_STORED) -> Path:
    """Write scenes to a zip file of the archive's layout, one at a time, whole or not at all; return its path."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", compression, compresslevel=1) as archive:
        for scene in scenes:
            place = f"{ROOT}/data/{scene.folder}/{scene.name}"
            archive.writestr(f"{place}.hdr", envi_header(scene))
            archive.writestr(f"{place}{scene.suffix}", scene.cube.transpose(_AXES[scene.interleave]).tobytes())
            if scene.truth is not None:
                archive.writestr(f"{ROOT}/gt/{TRUTH_SOURCE}/{scene.name}.mat", truth_file(scene.truth))
    return path


def envi_header(scene: RawScene) -> str:
    """Write the ENVI header of a scene, with map info."""
    height, width, bands = scene.cube.shape
    big = scene.cube.dtype.newbyteorder("=") != scene.cube.dtype
    return (
        f"ENVI\ndescription = {{\n  made up }}\nsamples = {width}\nlines   = {height}\nbands   = {bands}\n"
        "header offset = 0\nfile type = ENVI Standard\n"
        f"data type = {_ENVI_TYPES[scene.cube.dtype.name]}\ninterleave = {scene.interleave}\nbyte order = {int(big)}\n"
        "map info = {UTM, 1.000, 1.000, 500000.000, 4000000.000, 5.0, 5.0, 11, North, WGS-84, units=Meters}\n"
        f"wavelength units = Nanometers\nwavelength = {{ {', '.join(f'{376 + 5 * b:.2f}' for b in range(bands))} }}\n"
    )


def truth_file(truth: np.ndarray) -> bytes:
    """Write a truth ``(H, W)`` as the archive has it: a .mat file of one variable, ``gt``."""
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"gt": truth.astype(np.uint16)})
    return buffer.getvalue()


def standin_scenes(background: int, targets: int, masks: Path | None = None) -> Iterator[RawScene]:
    """Make the scenes of a stand-in, one at a time.

    Args:
        background: Scenes of each sensor, at most; the archive has 260 and 262.
        targets: Source scenes of the test scenes, at most; the archive has 94.
        masks: .npz file with the published truths, ``names`` and ``masks`` ``(100, 64, 64)``; without it as many pixels are
            anomalous, in small groups.

    Raises:
        FersError: The file lacks a scene.
    """
    for number in range(min(background, GROUPS["train/aviris_ng"].scenes)):
        cube = _background(number, _BACKGROUND_SIDE)
        raw = np.zeros((*cube.shape[:2], SENSORS["aviris_ng"].raw), np.float32)
        raw[:, :, _kept("aviris_ng")] = cube
        if number % HOLED == 0:
            raw[:9, :12] = NODATA[number // HOLED % 2]
        yield RawScene(GROUPS["train/aviris_ng"].source, f"ang20190101t000000_{number}", raw)
    for number in range(min(background, GROUPS["train/aviris"].scenes)):
        side = _SMALLEST if number % 10 == 9 else _BACKGROUND_SIDE
        raw = _background(number + GROUPS["train/aviris_ng"].scenes, side)[:, :, : SENSORS["aviris"].raw]
        counts = number % 2 == 1
        raw = np.round(raw * _COUNTS).astype(np.int16) if counts else np.ascontiguousarray(raw)
        if number % HOLED == 0:
            raw[-9:, -12:] = NODATA[0]
        name = f"f190101t01p00r{number:03d}"
        yield RawScene(GROUPS["train/aviris"].source, name, raw, "bip" if counts else "bil", ".img" if counts else "")
    for number, name in enumerate(sorted(TEST_CROPS)[:targets]):
        yield _target(number, name, masks)


def _background(number: int, side: int) -> np.ndarray:
    return make_scene(0, FIRST_TRAIN_INDEX + number, size=side, anomalies=False).cube


def _kept(sensor: str) -> np.ndarray:
    return np.concatenate([np.arange(first, last) for first, last in SENSORS[sensor].kept])


def _target(number: int, name: str, masks: Path | None) -> RawScene:
    """A test scene's source: just large enough for its crops, with anomalies of one material mixed into the ground."""
    rng = np.random.default_rng(number)
    truth = _truth(name, masks, rng)
    height, width = truth.shape
    cube = make_scene(0, number, size=max(height, width), anomalies=False).cube[:height, :width]
    materials = list(object_materials().values())
    share = rng.uniform(0.1, 0.5, (int(truth.sum()), 1))
    bright = _RADIANCE * materials[number % len(materials)] * (WAVELENGTHS_NM / WAVELENGTHS_NM[0]) ** -1.5
    cube[truth] = (1 - share) * cube[truth] + share * bright
    raw = np.zeros((height, width, SENSORS["aviris_ng"].raw), np.float32)
    raw[:, :, _kept("aviris_ng")] = cube
    return RawScene(GROUPS["test/aviris_ng"].source, name, raw, truth=truth)


def _truth(name: str, masks: Path | None, rng: np.random.Generator) -> np.ndarray:
    """The truth of a source scene ``(H, W)``: in each of its crops as many pixels as published."""
    crops = [(key, scene) for key, scene in published_test_scenes().items() if scene.scene == name]
    truth = np.zeros((max(c.row for _, c in crops) + SIDE, max(c.column for _, c in crops) + SIDE), bool)
    inside = [np.s_[crop.row : crop.row + SIDE, crop.column : crop.column + SIDE] for _, crop in crops]
    cover = np.zeros(truth.shape, int)
    for place in inside:
        cover[place] += 1
    for (key, crop), place in zip(crops, inside, strict=True):
        if masks is not None:
            truth[place] |= _mask(masks, key)
            continue
        free = np.zeros(truth.shape, bool)
        free[place] = cover[place] == 1  # what belongs to this crop only
        left = crop.anomalous_pixels
        while left:
            row, column = rng.choice(np.argwhere(free & ~truth))
            group = np.argwhere(free[row : row + 3, column : column + 4] & ~truth[row : row + 3, column : column + 4])
            taken = group[:left] + np.array([row, column])
            truth[tuple(taken.T)] = True
            left -= len(taken)
    return truth


def _mask(masks: Path, key: str) -> np.ndarray:
    with np.load(masks, allow_pickle=False) as found:
        at = np.flatnonzero(found["names"] == key)
        if len(at) != 1:
            raise FersError(f"{masks}: has no mask of {key}. Give a file with the published names, or none.")
        return found["masks"][at[0]].astype(bool)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.standin", description=__doc__)
    parser.add_argument("path", type=Path, help="zip file to write")
    most = GROUPS["train/aviris"].scenes
    parser.add_argument(
        "--background", type=natural, default=most, help="background scenes of each sensor (default: all)"
    )
    targets = GROUPS["test/aviris_ng"].scenes
    parser.add_argument("--targets", type=natural, default=targets, help="scenes with anomalies (default: all)")
    parser.add_argument("--masks", type=Path, help=".npz with the published truths: names, masks")
    given = parser.parse_args(arguments)

    def work() -> None:
        scenes = standin_scenes(given.background, given.targets, given.masks)
        write_archive(given.path, tqdm(scenes, "stand-in", unit="scene", disable=None, leave=False))
        print(f"wrote {given.path}, {given.path.stat().st_size:,} bytes")

    return run(work, how_to_resume="run the same command again")


if __name__ == "__main__":
    sys.exit(main())
