"""How many objects the scenes of a test set hold, how large and how long: from its masks.

    python -m data.synthetic.measure data/HAD100Dataset/ground_truth/aviris_ng objects.csv

writes one row an object: number of its scene, area in px, and the sides in px of the rectangle with its second moments.
``fers/datasets/synthetic/had100_objects.csv`` was made so from the 100 masks of HAD100.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from fers.scenes.scene import read_truth
from fers.util.commandline import run
from fers.util.errors import FersError
from fers.util.files import visible, write_whole

HEADER = "scene,area,length,width"


def measure(masks: list[np.ndarray]) -> np.ndarray:
    """The objects in some masks; pixels that touch, across corners too, are one object.

    Args:
        masks: ``(H, W)`` bool each.

    Returns:
        ``(objects, 4)``: number of the mask, area, length and width in px, length >= width >= 1.

    Example:
        >>> measure([np.ones((2, 5), bool)]).tolist()
        [[0.0, 10.0, 5.0, 2.0]]
    """
    rows = []
    for number, mask in enumerate(masks):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        for label in range(1, count + 1):
            pixels = np.argwhere(labels == label)
            spread = np.linalg.eigvalsh(np.cov(pixels.T, bias=True))  # of n pixels in a row: (n^2 - 1) / 12
            width, length = np.sqrt(12 * np.maximum(spread, 0) + 1)
            rows.append((number, len(pixels), length, width))
    return np.array(rows, dtype=float).reshape(-1, 4)


def read_masks(path: Path) -> list[np.ndarray]:
    """The masks of a folder of .png files, by name, or the array ``masks`` ``(N, H, W)`` of an .npz file.

    Raises:
        FersError: There are none.
    """
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as archive:
                return list(archive["masks"].astype(bool))
        except (ValueError, KeyError, OSError) as error:
            raise FersError(
                f"{path}: no .npz file with an array masks ({error}). Give a folder of .png masks."
            ) from error
    masks = [read_truth(file) for file in visible(path, "*.png")]
    if not masks:
        raise FersError(f"{path}: no masks (*.png) here. Give the folder ground_truth/<sensor> of a dataset.")
    return masks


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data.synthetic.measure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("masks", type=Path, help="folder of .png masks, or an .npz file with the array masks")
    parser.add_argument("out", type=Path, help="the .csv file to write")
    options = parser.parse_args(arguments)

    def work() -> None:
        rows = [
            f"{scene:.0f},{area:.0f},{length:.1f},{width:.1f}"
            for scene, area, length, width in measure(read_masks(options.masks))
        ]
        write_whole(options.out, "\n".join([HEADER, *rows, ""]).encode())
        print(f"{options.out}: {len(rows)} objects")

    return run(work)


if __name__ == "__main__":
    sys.exit(main())
