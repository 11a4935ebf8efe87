"""Scenes, and the benchmark on disk in HAD100's layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from fers.datasets.manifest import Progress, entry, file_bytes
from fers.datasets.synthetic.cover import LAYOUTS, Canvas, random_fields
from fers.datasets.synthetic.objects import MASK_FRACTION, place_objects
from fers.datasets.synthetic.sensor import PSF_SIGMA, radiance, reflectance, sense
from fers.datasets.synthetic.spectra import WAVELENGTHS_NM
from fers.util.errors import FersError
from fers.util.files import visible, write_whole

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


def _rng(seed: int, index: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, purpose])))


def _check(seed: int, index: int, size: int, difficulty: float) -> None:
    for name, value in (("seed", seed), ("index", index)):
        if value < 0:
            raise FersError(f"{name} is {value}; expected 0 or more.")
    if size < MIN_SIZE:
        raise FersError(f"size is {size} px; expected at least {MIN_SIZE}.")
    if not 0 <= difficulty <= 1:
        raise FersError(f"difficulty is {difficulty}; expected 0 (plain to see) to 1 (almost hidden).")


def make_scene(
    seed: int,
    index: int = 0,
    *,
    size: int = 64,
    anomalies: bool = True,
    difficulty: float = DEFAULT_DIFFICULTY,
) -> SyntheticScene:
    """Make one scene. The same arguments give the same bytes.

    The kinds of ground cover take turns with `index`: farmland, rangeland, coast, forest, suburb, airfield.

    Args:
        seed: Seed of the benchmark, >= 0.
        index: Number of the scene, >= 0. Background, objects and noise come from separate streams: only
            the objects change with `anomalies`, and only their strength with `difficulty`.
        size: Height and width in px, at least 32.
        anomalies: Put objects into the scene: as many, as large and as long as those of a scene of HAD100
            (`fers.datasets.synthetic.objects`). A pixel is an anomaly where an object fills at least `MASK_FRACTION` of it,
            after the sensor's blur.
        difficulty: 0 to 1. At 0 every object shows its pure material; above, it is more and more hidden:
            its share of a pixel is multiplied by ``least ** difficulty**2``, ``least`` from 0.016 to 0.37.

    Returns:
        The scene: cube ``(size, size, 276)``, truth ``(size, size)``, wavelengths.

    Raises:
        FersError: An argument is out of its range.
    """
    _check(seed, index, size, difficulty)
    canvas = Canvas(_rng(seed, index, _LAYOUT), size)
    LAYOUTS[index % len(LAYOUTS)](canvas)
    slope = random_fields(canvas.rng, 1, size, 14)[0]
    relief = np.sin(canvas.sun) * np.gradient(slope, axis=0) + np.cos(canvas.sun) * np.gradient(slope, axis=1)
    canvas.shade *= np.clip(1 + 0.8 * relief, 0.5, 1.4)
    for layer in (*canvas.abundance, *canvas.offset, canvas.shade):
        ndimage.gaussian_filter(layer, PSF_SIGMA, output=layer, mode="nearest")

    ground = reflectance(_rng(seed, index, _SPECTRA), canvas)
    truth = np.zeros((size, size), dtype=bool)
    if anomalies:
        truth, touched, share, reflected = place_objects(_rng(seed, index, _OBJECTS), canvas, difficulty)
        ground[touched] = ground[touched] * (1 - share) + reflected
    cube = sense(_rng(seed, index, _NOISE), radiance(ground, canvas.shade))
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
    """Write a benchmark in the layout of HAD100Dataset.

    ``train/<sensor>/<scene>_<crop>.npy`` are the four corner crops of background scenes 17 px larger: crops
    of one scene overlap, so a split has to be by scene. ``test/<sensor>/<scene>.npy`` go with
    ``ground_truth/<sensor>/<scene>.png``. ``manifest.json`` names the settings and what each file holds. Interrupted,
    the same call goes on: what is there with the right checksum is not made again.

    Args:
        out: Folder to write to; made if missing.
        seed: Seed, >= 0. The same arguments give the same bytes.
        n_train: Training patches, >= 0; four of one scene, fewer of the last if it is no multiple of 4.
        n_test: Test scenes, >= 0.
        size: Height and width of every patch in px, at least 32.
        difficulty: 0 to 1, see `make_scene`.
        sensor: Name of the sensor's folder.

    Returns:
        The folder.

    Raises:
        FersError: An argument is out of its range, or the folder holds scenes or masks that are not of this benchmark.
    """
    out = Path(out)
    for name, value in (("n_train", n_train), ("n_test", n_test)):
        if value < 0:
            raise FersError(f"{name} is {value}; expected 0 or more.")
    if n_train + n_test == 0:
        raise FersError("n_train and n_test are both 0; there is nothing to write.")
    if not sensor or sensor != Path(sensor).name or sensor.startswith("."):
        raise FersError(f"sensor is {sensor!r}; expected the name of a folder, such as aviris_ng.")
    _check(seed, 0, size, difficulty)

    def crops(scene: int) -> list[str]:
        made = range(min(4, n_train - 4 * scene))
        return [f"train/{sensor}/synthetic_b{scene:04d}_{crop + 1}.npy" for crop in made]

    def pair(scene: int) -> list[str]:
        name = f"{sensor}/synthetic_t{scene:04d}"
        return [f"test/{name}.npy", f"ground_truth/{name}.png"]

    backgrounds, tests = range(-(-n_train // 4)), range(n_test)
    expected = {file for scene in backgrounds for file in crops(scene)} | {f for scene in tests for f in pair(scene)}
    for folder in ("train", "test", "ground_truth"):
        for path in visible(out / folder / sensor, "*"):
            if path.suffix in (".npy", ".png") and path.relative_to(out).as_posix() not in expected:
                raise FersError(f"{path}: found a file that is not of this benchmark. Choose an empty folder for it.")

    progress = Progress(
        out,
        {
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
        },
    )
    progress.drop_other_settings()

    def write(files: dict[str, tuple[np.ndarray, dict[str, int]]], scene: str) -> None:
        for file, (values, place) in files.items():
            content = file_bytes(values)
            write_whole(out / file, content)
            progress.add({file: entry(content, values, scene, (), **place)})

    with progress, tqdm(total=len(backgrounds) + n_test, desc="synthetic scenes", unit="scene") as bar:
        for scene in backgrounds:
            if not progress.intact(crops(scene)):
                cube = make_scene(seed, FIRST_TRAIN_INDEX + scene, size=size + CROP_MARGIN, anomalies=False).cube
                corners = [(row, column) for row in (0, CROP_MARGIN) for column in (0, CROP_MARGIN)]
                cut = {
                    file: (cube[row : row + size, column : column + size], {"row": row, "column": column})
                    for file, (row, column) in zip(crops(scene), corners, strict=False)
                }
                write(cut, f"synthetic_b{scene:04d}")
            bar.update()
        for scene in tests:
            if not progress.intact(pair(scene)):
                made = make_scene(seed, scene, size=size, difficulty=difficulty)
                cube_file, truth_file = pair(scene)
                write({cube_file: (made.cube, {}), truth_file: (made.truth, {})}, f"synthetic_t{scene:04d}")
            bar.update()
    progress.finish()
    return out
