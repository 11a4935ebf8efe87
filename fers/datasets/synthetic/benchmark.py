"""Synthetic scenes, and a benchmark of them on disk in HAD100's layout.

fers data synthetic data/Synthetic --seed 0 --train 48 --test 12
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from fers.datasets.manifest import Progress, write_array
from fers.datasets.synthetic.cover import LAYOUTS, Canvas, random_fields
from fers.datasets.synthetic.objects import MASK_FRACTION, place_objects
from fers.datasets.synthetic.sensor import PSF_SIGMA, radiance, reflectance, sense
from fers.datasets.synthetic.spectra import WAVELENGTHS_NM
from fers.util.commandline import natural, run
from fers.util.errors import FersError
from fers.util.files import visible
from fers.util.lock import locked

DEFAULT_DIFFICULTY = 0.5
MIN_SIZE = 32
CROP_MARGIN = 17  # training scenes are this much larger than their corner crops: 81 px for 64, as in HAD100
FIRST_TRAIN_INDEX = 100_000  # scene indices of the training scenes; the test scenes count from 0
FULL_TRAIN, FULL_TEST = 1040, 100  # HAD100's

_LAYOUT, _SPECTRA, _OBJECTS, _NOISE = range(4)  # purposes of the random streams


@dataclass(frozen=True)
class SyntheticScene:
    """One synthetic scene.

    Attributes:
        cube: ``(H, W, 276)`` float32, radiance in uW cm-2 sr-1 nm-1, >= 0, typically below 20.
        truth: ``(H, W)`` bool, True at anomalies.
        wavelengths: ``(276,)`` float64, band centres in nm.
    """

    cube: np.ndarray
    truth: np.ndarray
    wavelengths: np.ndarray


def _check_request(size: int, difficulty: float, **counts: int) -> None:
    for name, value in counts.items():
        if value < 0:
            raise FersError(f"{name} is {value}; expected 0 or more.")
    if size < MIN_SIZE:
        raise FersError(f"size is {size} px; expected at least {MIN_SIZE}.")
    if not 0 <= difficulty <= 1:
        raise FersError(f"difficulty is {difficulty}; expected 0 (plain to see) to 1 (almost hidden).")


def make_scene(
    seed: int, index: int = 0, *, size: int = 64, anomalies: bool = True, difficulty: float = DEFAULT_DIFFICULTY
) -> SyntheticScene:
    """Make one scene. The same arguments give the same bytes.

    The kinds of ground cover take turns with `index`: farmland, rangeland, coast, forest, suburb, airfield.

    Args:
        seed: Seed of the benchmark, >= 0.
        index: Number of the scene, >= 0. Background, objects and noise come from separate streams: only
            the objects change with `anomalies`, and only their strength with `difficulty`.
        size: Height and width in px, at least 32.
        anomalies: Put objects into the scene, as many, as large and as long as those of a scene of HAD100. A pixel is an
            anomaly where an object fills at least `MASK_FRACTION` of it, after the sensor's blur.
        difficulty: 0 to 1. At 0 every object shows its pure material; above, it is more and more hidden:
            its share of a pixel is multiplied by ``least ** difficulty**2``, ``least`` from 0.016 to 0.37.

    Raises:
        FersError: An argument is out of its range.
    """
    _check_request(size, difficulty, seed=seed, index=index)

    def stream(purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, purpose])))

    canvas = Canvas(stream(_LAYOUT), size)
    LAYOUTS[index % len(LAYOUTS)](canvas)
    slope = random_fields(canvas.rng, 1, size, 14)[0]
    relief = np.sin(canvas.sun) * np.gradient(slope, axis=0) + np.cos(canvas.sun) * np.gradient(slope, axis=1)
    canvas.shade *= np.clip(1 + 0.8 * relief, 0.5, 1.4)
    for layer in (*canvas.abundance, *canvas.offset, canvas.shade):
        ndimage.gaussian_filter(layer, PSF_SIGMA, output=layer, mode="nearest")

    ground = reflectance(stream(_SPECTRA), canvas)
    truth = np.zeros((size, size), dtype=bool)
    if anomalies:
        truth, touched, share, reflected = place_objects(stream(_OBJECTS), canvas, difficulty)
        ground[touched] = ground[touched] * (1 - share) + reflected
    cube = sense(stream(_NOISE), radiance(ground, canvas.shade))
    return SyntheticScene(cube, truth, WAVELENGTHS_NM.copy())


def write_benchmark(
    out: Path,
    *,
    seed: int = 0,
    n_train: int = 48,
    n_test: int = 12,
    size: int = 64,
    difficulty: float = DEFAULT_DIFFICULTY,
    sensor: str = "aviris_ng",
) -> Path:
    """Write a benchmark in the layout of HAD100Dataset; returns its folder. The same arguments give the same bytes.

    ``train/<sensor>/<scene>_<crop>.npy`` are the four corner crops of background scenes 17 px larger: crops
    of one scene overlap, so a split has to be by scene. ``test/<sensor>/<scene>.npy`` go with
    ``ground_truth/<sensor>/<scene>.png``. ``manifest.json`` names the settings and what each file holds. Interrupted,
    the same call goes on: what is there with the right checksum is not made again.

    Args:
        out: Folder to write to; made if missing.
        n_train, n_test: Training patches and test scenes, >= 0. Four patches are of one scene.
        sensor: Name of the sensor's folder.
        seed, size, difficulty: As for `make_scene`.

    Raises:
        FersError: An argument is out of its range, or the folder holds scenes or masks that are not of this benchmark.
    """
    out = Path(out)
    _check_request(size, difficulty, seed=seed, n_train=n_train, n_test=n_test)
    if n_train + n_test == 0:
        raise FersError("n_train and n_test are both 0; there is nothing to write.")
    if not sensor or sensor != Path(sensor).name or sensor.startswith("."):
        raise FersError(f"sensor is {sensor!r}; expected the name of a folder, such as aviris_ng.")

    corners = [(row, column) for row in (0, CROP_MARGIN) for column in (0, CROP_MARGIN)]
    scenes: list[tuple[str, int, list[str]]] = []  # name, index, files
    for n in range(-(-n_train // 4)):
        name = f"synthetic_b{n:04d}"
        crops = [f"train/{sensor}/{name}_{crop + 1}.npy" for crop in range(min(4, n_train - 4 * n))]
        scenes.append((name, FIRST_TRAIN_INDEX + n, crops))
    for n in range(n_test):
        name = f"synthetic_t{n:04d}"
        scenes.append((name, n, [f"test/{sensor}/{name}.npy", f"ground_truth/{sensor}/{name}.png"]))
    expected = {file for _, _, files in scenes for file in files}
    for folder in ("train", "test", "ground_truth"):
        for path in visible(out / folder / sensor, "*"):
            if path.suffix in (".npy", ".png") and path.relative_to(out).as_posix() not in expected:
                raise FersError(f"{path}: found a file that is not of this benchmark. Choose an empty folder for it.")

    facts = {
        "dataset": "synthetic",
        "synthetic": True,
        "note": "Made by fers.datasets.synthetic. No number measured on it says anything about HAD100 itself.",
        "seed": seed,
        "difficulty": difficulty,
        "size": size,
        "sensor": sensor,
        "train": n_train,
        "test": n_test,
        "bands": {sensor: [[0, int(WAVELENGTHS_NM.size)]]},
        "mask_fraction": MASK_FRACTION,
        "wavelengths_nm": [round(float(nm), 4) for nm in WAVELENGTHS_NM],
    }
    with locked(out), Progress(out, facts, replace=True) as progress:
        for name, index, files in tqdm(scenes, desc="synthetic scenes", unit="scene"):
            if progress.intact(files):
                continue
            if files[0].startswith("test/"):
                made = make_scene(seed, index, size=size, difficulty=difficulty)
                for file, values in zip(files, (made.cube, made.truth), strict=True):
                    progress.add({file: write_array(out, file, values, name)})
                continue
            cube = make_scene(seed, index, size=size + CROP_MARGIN, anomalies=False).cube
            for file, (row, column) in zip(files, corners, strict=False):
                crop = cube[row : row + size, column : column + size]
                progress.add({file: write_array(out, file, crop, name, row=row, column=column)})
        progress.finish()
    return out


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="fers data synthetic",
        description="Write a synthetic benchmark in the layout of HAD100Dataset. Interrupted, the same command goes on.",
    )
    parser.add_argument("out", type=Path, help="folder to write to")
    same = "the same seed gives the same bytes (default %(default)s)"
    parser.add_argument("--seed", type=natural, default=0, help=same)
    parser.add_argument("--train", type=natural, default=48, help="training patches (default %(default)s)")
    parser.add_argument("--test", type=natural, default=12, help="test scenes (default %(default)s)")
    full = f"as many as HAD100 has: {FULL_TRAIN:,} patches, {FULL_TEST} scenes (5.2 GB)"
    parser.add_argument("--full", action="store_true", help=full)
    parser.add_argument("--size", type=natural, default=64, help="height and width in px (default %(default)s)")
    parser.add_argument("--difficulty", type=float, default=DEFAULT_DIFFICULTY, help="0 to 1 (default %(default)s)")
    parser.add_argument("--sensor", default="aviris_ng", help="name of the sensor's folder (default %(default)s)")
    settings = vars(parser.parse_args(arguments))
    out, n_train, n_test = settings.pop("out"), settings.pop("train"), settings.pop("test")
    if settings.pop("full"):
        n_train, n_test = FULL_TRAIN, FULL_TEST

    def work() -> None:
        write_benchmark(out, n_train=n_train, n_test=n_test, **settings)
        print(f"{out}: {n_train:,} training patches and {n_test:,} test scenes written")

    return run(work, how_to_resume="run the same command again")
