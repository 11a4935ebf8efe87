"""How many objects HAD100's test scenes hold, how large and how long: from their 100 masks.

    python docs/notebook/synthetic_objects.py data/HAD100Dataset/ground_truth/aviris_ng objects.csv

wrote ``fers/datasets/synthetic/had100_objects.csv``: one row an object, with the number of its scene, its area in px, and
the sides in px of the rectangle with its second moments. tests/test_synthetic.py holds the table to the masks.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from fers.scenes import read_truth
from fers.util.files import visible


def measure(truths: list[np.ndarray]) -> np.ndarray:
    """Measure the objects in some truths, ``(H, W)`` bool each; pixels that touch, across corners too, are one object.

    Returns:
        ``(objects, 4)``: number of the truth, area, length and width in px, length >= width >= 1.
    """
    rows = []
    for number, truth in enumerate(truths):
        labels, count = ndimage.label(truth, np.ones((3, 3)))
        for label in range(1, count + 1):
            pixels = np.argwhere(labels == label)
            spread = np.linalg.eigvalsh(np.cov(pixels.T, bias=True))  # of n pixels in a row: (n^2 - 1) / 12
            width, length = np.sqrt(12 * np.maximum(spread, 0) + 1)
            rows.append((number, len(pixels), length, width))
    return np.array(rows, dtype=float).reshape(-1, 4)


if __name__ == "__main__":
    folder, out = map(Path, sys.argv[1:])
    found = measure([read_truth(path) for path in visible(folder, "*.png")])
    lines = [f"{scene:.0f},{area:.0f},{length:.1f},{width:.1f}" for scene, area, length, width in found]
    out.write_text("\n".join(["scene,area,length,width", *lines, ""]), encoding="utf-8")
