"""ABU as scenes of one's own: what a stated false-alarm rate means for pixels, objects and square kilometres.

Frozen record: it ran at commit 1d0dd8c, whose tree it needs.

    python docs/notebook/own_scenes_abu.py FOLDER_OF_ABU [--far 1e-3]

The scenes have no georeference. One of 5 m pixels is made up, so that areas have a unit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from affine import Affine
from data.scene import read_mask, read_scene
from detection.detect import detect
from detection.targets import EIGHT
from scipy import ndimage

GRID = Affine(5, 0, 500_000, 0, -5, 4_600_000)


def measures(score: np.ndarray, threshold: float, mask: np.ndarray) -> list[float]:
    """Share of anomalous objects found, share of background pixels called anomalous, false alarms per km2."""
    found = score >= threshold
    objects, count = ndimage.label(mask, structure=EIGHT)
    hit = len(np.unique(objects[found & mask]))
    alarms, number = ndimage.label(found, structure=EIGHT)
    false = number - len(np.unique(alarms[found & ndimage.binary_dilation(mask, EIGHT)]))
    return [hit / count, (found & ~mask).sum() / (~mask).sum(), false / (mask.size * 25e-6)]


def main(folder: Path, far: float) -> None:
    """Print one table."""
    rules: list[tuple[str, dict]] = [
        ("rx, chi-square", {"method": "rx", "chi2": far}),
        ("rx, fitted tail", {"method": "rx", "far": far}),
        ("rx, robust, fitted tail", {"method": "rx", "far": far, "background": "robust:0.02"}),
        ("rx-spectral, fitted tail", {"method": "rx-spectral", "far": far}),
    ]
    print("| scene | " + " | ".join(f"{name}: Pd, false-alarm rate, per km2" for name, _ in rules) + " |")
    print("| --- |" + " --- |" * len(rules))
    totals = []
    for path in sorted(folder.glob("abu-*.mat")):
        cube = np.asarray(read_scene(path).cube)
        mask = read_mask(path, shape=cube.shape[:2])
        row = []
        for _, options in rules:
            result = detect(cube, transform=GRID, crs="EPSG:32632", **options)
            row.append(measures(result.score, result.threshold.value, mask))
        totals.append(row)
        print(
            f"| {path.stem} | " + " | ".join(f"{pd:.2f}, {rate:.5f}, {km2:.1f}" for pd, rate, km2 in row) + " |",
            flush=True,
        )
    means = np.mean(totals, axis=0)
    print("| mean | " + " | ".join(f"{pd:.2f}, {rate:.5f}, {km2:.1f}" for pd, rate, km2 in means) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--far", type=float, default=1e-3)
    options = parser.parse_args()
    main(options.folder, options.far)
