"""Damages small good files of every format at random places, reads them, and counts how that ends.

    python tests/fuzz_readers.py --seed 1 --cases 50

Each file is read whole, or refused with a message that names it; anything else is printed and makes the exit code 1.
Run it in a process of its own: damage can crash a library.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import scene_files
import scipy.io
from PIL import Image

from data import SceneError, read_mask, read_scene
from data.readers import open_scene

MEMORY = 3 << 30  # bytes of address space beyond what the libraries take
SLOW = 20.0  # seconds


def read_whole(path: Path) -> None:
    reader = open_scene(path)
    reader.read_valid(slice(0, 64))
    _ = reader.geometry
    scene = read_scene(path)
    np.asarray(scene.cube[:2]).sum()


def _mat5(folder: Path, compressed: bool) -> Path:
    path = folder / "a.mat"
    mask = np.eye(12, 10, dtype=np.uint8)
    content = {"cube": scene_files.values(5), "gt": mask, "note": "text", "cells": {"a": [1, 2]}}
    scipy.io.savemat(path, content, do_compression=compressed)
    return path


def _mat73(folder: Path) -> Path:
    path = folder / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("cube", data=scene_files.values(5).T, compression="gzip", chunks=(2, 5, 6))
        file["gt"] = np.eye(12, 10, dtype=np.uint8).T
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def _npy(folder: Path) -> Path:
    np.save(folder / "a.npy", scene_files.values(5))
    return folder / "a.npy"


def _npz(folder: Path) -> Path:
    np.savez_compressed(folder / "a.npz", cube=scene_files.values(5), gt=np.eye(12, 10, dtype=np.uint8))
    return folder / "a.npz"


def _png(folder: Path) -> Path:
    Image.fromarray(np.eye(12, 10, dtype=np.uint8) * 255).save(folder / "m.png")
    return folder / "m.png"


FORMATS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    **{name: (lambda folder, write=write: write(folder).path, read_whole) for name, write in scene_files.PRODUCTS.items()},
    "mat-5": (lambda folder: _mat5(folder, False), read_whole),
    "mat-5-compressed": (lambda folder: _mat5(folder, True), read_whole),
    "mat-7.3": (_mat73, read_whole),
    "npy": (_npy, read_whole),
    "npz": (_npz, read_whole),
    "mask-mat-5": (lambda folder: _mat5(folder, True), read_mask),
    "mask-mat-7.3": (_mat73, read_mask),
    "mask-npz": (_npz, read_mask),
    "mask-png": (_png, read_mask),
}  # fmt: skip
_NUMBERS = [b"0", b"-1", b"99", b"1e9", b"2147483648", b"nan", b"{1}", b"", b"x", b"18446744073709551616"]


def damage(content: bytes, rng: random.Random) -> bytes:
    """One to three of: bits flipped, bytes overwritten, cut short, a piece removed or repeated, a number replaced."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        if not data:
            break
        # half of the damage goes into the first kilobyte, where headers are
        place = rng.randrange(min(len(data), 1024) if rng.random() < 0.5 else len(data))
        kind = rng.randrange(6)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place : place + rng.choice((1, 2, 4, 8))] = rng.choice(
                (b"\0", b"\xff", b"\x7f", rng.randbytes(1))
            ) * rng.choice((1, 2, 4, 8))
        elif kind == 2:
            del data[place:]
        elif kind == 3:
            del data[place : place + rng.randint(1, 64)]
        elif kind == 4:
            data[place:place] = data[place : place + rng.randint(1, 64)]
        else:
            digits = [i for i, byte in enumerate(data[:8192]) if 48 <= byte <= 57]
            if digits:
                start = rng.choice(digits)
                data[start : start + 1] = rng.choice(_NUMBERS)
    return bytes(data)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=20, help="of each format")
    parser.add_argument("--formats", default=",".join(FORMATS))
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    counts: Counter[str] = Counter()
    for name in options.formats.split(","):
        write, read = FORMATS[name]
        rng = random.Random(f"{options.seed} {name}")
        print(name, file=sys.stderr, flush=True)  # what a crash leaves behind
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder))
            read(path)
            good = {p: p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}
            for case in range(options.cases):
                for one, content in good.items():
                    one.write_bytes(content)
                victim = rng.choice(list(good))
                victim.write_bytes(damage(good[victim], rng))
                start = time.monotonic()
                try:
                    read(path)
                    ending = "read"
                except SceneError as error:
                    ending = "refused" if folder in str(error) else "nameless"
                except Exception:
                    ending = "traceback"
                    traceback.print_exc()
                if time.monotonic() - start > SLOW:
                    ending = "slow"
                if ending not in ("read", "refused"):
                    print(f"{name}: seed {options.seed}, case {case}, {victim.name}: {ending}", file=sys.stderr)
                counts[ending] += 1
    print(json.dumps(counts))
    return 0 if set(counts) <= {"read", "refused"} else 1


if __name__ == "__main__":
    sys.exit(main())
