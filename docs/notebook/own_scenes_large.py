"""A flight line larger than the memory: write it, detect in it, and measure memory and time.

Frozen record: it ran at commit 1d0dd8c, whose tree it needs.

python docs/notebook/own_scenes_large.py write line.img --lines 20000 --samples 600 --channels 425
python docs/notebook/own_scenes_large.py detect line.hdr --method rx --memory 2GB
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCK = 100  # lines written at a time


def write(path: Path, lines: int, samples: int, bands: int) -> None:
    """An ENVI file, BIL, float32: four materials in patches, noise, and a 2 x 2 px object every 500 lines."""
    rng = np.random.RandomState(0)
    wavelengths = np.linspace(376, 2500, bands)
    materials = np.stack(
        [np.exp(-(((wavelengths - c) / w) ** 2)) + 0.1 for c, w in ((900, 500), (600, 300), (1500, 900), (2100, 600))]
    )
    rarity = np.exp(-(((wavelengths - 1200) / 100) ** 2))
    with open(path, "wb") as file:
        for start in range(0, lines, BLOCK):
            rows = min(BLOCK, lines - start)
            patches = np.stack(
                [ndimage.gaussian_filter(rng.normal(size=(rows, samples)), 9) for _ in range(4)], axis=-1
            )
            shares = np.exp(20 * patches)
            shares /= shares.sum(axis=2, keepdims=True)
            cube = (shares @ materials).astype(np.float32)
            cube += rng.standard_normal((samples, bands)).astype(np.float32)[rng.permutation(samples)] * 0.004
            cube += rng.standard_normal((rows, 1, bands)).astype(np.float32) * 0.004
            cube += rng.uniform(-0.01, 0.01, size=(rows, samples, 1)).astype(np.float32)
            cube *= rng.uniform(0.995, 1.005, size=cube.shape).astype(np.float32)
            if start % 500 == 0:
                column = rng.randint(10, samples - 10)
                cube[20:22, column : column + 2] += 0.2 * rarity
            np.ascontiguousarray(cube.transpose(0, 2, 1)).tofile(file)
    header = [
        "ENVI",
        f"samples = {samples}",
        f"lines = {lines}",
        f"bands = {bands}",
        "header offset = 0",
        "data type = 4",
        "interleave = bil",
        "byte order = 0",
        "wavelength units = Nanometers",
        "map info = {UTM, 1, 1, 500000, 4600000, 5, 5, 32, North, WGS-84, units=Meters, rotation=-29}",
        f"wavelength = {{{', '.join(f'{w:.2f}' for w in wavelengths)}}}",
    ]
    path.with_suffix(".hdr").write_text("\n".join(header) + "\n")


def detect(header: Path, arguments: list[str]) -> None:
    """Run detect.py as a process of its own and print the most memory it took, and its passes."""
    out = header.parent / "large-detect"
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, str(ROOT / "detect.py"), str(header), "--out", str(out), "--force", *arguments], check=True
    )
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    about = json.loads((out / header.stem / "run.json").read_text())
    print(
        f"size {header.with_suffix('.img').stat().st_size / 1e9:.1f} GB, peak memory {peak / 1e9:.2f} GB, {seconds:.0f} s in all"
    )
    for stage, wall in about["seconds"]["wall"].items():
        share = about["seconds"]["reading"][stage] / about["seconds"]["work"][stage]
        print(f"{stage}: {wall:.0f} s, {share:.0%} of the work was reading")
    print(about["threshold_described"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "detect"))
    parser.add_argument("path", type=Path)
    for side, default in (("lines", 20_000), ("samples", 600), ("channels", 425)):
        parser.add_argument(f"--{side}", type=int, default=default)
    options, rest = parser.parse_known_args()
    if options.what == "write":
        write(options.path, options.lines, options.samples, options.channels)
    else:
        detect(options.path, rest)
