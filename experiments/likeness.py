"""Shares of objects that a search for a spectrum finds, beside anomaly scores: experiments/results/likeness.csv.

    python -m experiments.likeness FOLDER_OF_ABU

ABU: from one object of a scene to the others. The spectrum is the highest-scored pixel of an object, which is then left out
with 2 px around it, up to 12 objects a scene. The objects of a scene are seldom of one material, so 1 is out of reach.

Planted: a material in 20 pixels of a textured background at shares of 0.1 to 0.6, sought from a whole pixel of it, among 20
pixels of another material at the same shares. RX and fusion C cannot tell the two apart; a search should.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from experiments import RESULTS
from fers.datasets import abu
from fers.detection.detect import detect
from fers.detection.targets import EIGHT
from fers.evaluation.metrics import auc
from fers.util.commandline import run
from fers.util.files import atomic_path

FALSE_PIXELS = (1, 3, 10, 30, 100)
MOST_OBJECTS, AROUND = 12, 2
SEEDS = 10
MEASURED = {"ace": "signed ACE", "mf": "matched filter", "sam": "spectral angle"}


def compared(scores: dict[str, np.ndarray], wanted: np.ndarray, background: np.ndarray) -> dict[str, dict[str, float]]:
    """Compute AUC, and the share of wanted pixels above as many background pixels as ``FALSE_PIXELS`` says.

    Args:
        scores: ``(H, W)`` for each method, higher is more alike.
        wanted: ``(H, W)`` bool, pixels to find.
        background: ``(H, W)`` bool, pixels not to find.
    """
    found = {}
    inside = wanted | background
    for name, score in scores.items():
        values, others = score[wanted], np.sort(score[background])[::-1]
        found[name] = {"AUC": float(auc(score[inside], wanted[inside]) or 0)}
        found[name] |= {f"Pd at {n} false px": float((values > others[n]).mean()) for n in FALSE_PIXELS}
    return found


def of_objects(cube: np.ndarray, truth: np.ndarray) -> list[dict[str, dict[str, float]]]:
    """Search from each object of a scene for the others."""
    objects, count = ndimage.label(truth, structure=EIGHT)
    if count < 2:
        return []
    result, rx = detect(cube, fusion="C"), detect(cube, features="original").score
    rows = []
    for number in range(1, min(count, MOST_OBJECTS) + 1):
        own = objects == number
        peak = np.unravel_index(int(np.where(own, result.score, -np.inf).argmax()), own.shape)
        near = ndimage.binary_dilation(own, EIGHT, iterations=AROUND)
        scores = _searched(result, (int(peak[0]), int(peak[1]))) | {"RX": rx, "fusion C": result.score}
        rows.append(compared(scores, truth & ~near, ~truth & ~near))
    return rows


def planted(seed: int) -> dict[str, dict[str, float]]:
    """Search for one of two materials in a made scene."""
    rng = np.random.RandomState(seed)
    x = np.linspace(0, 1, 60)
    ground = np.stack([0.3 + 0.1 * np.sin(k * x + k) for k in range(1, 6)])
    shares = np.stack([ndimage.gaussian_filter(rng.normal(size=(120, 90)), 4) for _ in ground], axis=-1)
    shares = np.exp(8 * shares) / np.exp(8 * shares).sum(axis=-1, keepdims=True)
    cube = shares @ ground + 0.004 * rng.normal(size=(120, 90, 60))
    materials = 0.3 + 0.12 * np.sin(9 * x), 0.3 + 0.12 * np.cos(11 * x + 1)
    places = rng.permutation(120 * 90)[:41]
    rows, columns = np.unravel_index(places, (120, 90))
    strengths = np.tile(rng.uniform(0.1, 0.6, 20), 2)
    kinds = np.repeat([0, 1], 20)
    for row, column, share, kind in zip(rows[1:], columns[1:], strengths, kinds, strict=True):
        cube[row, column] = (1 - share) * cube[row, column] + share * materials[kind]
    whole = int(rows[0]), int(columns[0])
    cube[whole] = materials[0]
    wanted = np.zeros((120, 90), bool)
    wanted[rows[1:21], columns[1:21]] = True
    background = ~wanted
    background[whole] = False
    result, rx = detect(cube, fusion="C"), detect(cube, features="original").score
    return compared(_searched(result, whole) | {"RX": rx, "fusion C": result.score}, wanted, background)


def _searched(result, pixel: tuple[int, int]) -> dict[str, np.ndarray]:
    maps = result.like(pixel).maps
    return {name: -maps[key] if key == "sam" else maps[key] for key, name in MEASURED.items()}


def measure(folder: Path) -> pd.DataFrame:
    """Measure all scenes; the rows named ``mean`` are means over scenes."""
    scenes: dict[str, list] = {}
    for labelled in abu.scenes(folder, names="all"):
        scene, truth = labelled.load()
        if rows := of_objects(np.asarray(scene.cube), truth):
            scenes[labelled.name] = rows
            print(f"{labelled.name}: {len(rows)} objects", file=sys.stderr)
    table = [_row("ABU", name, method, rows) for name, rows in scenes.items() for method in rows[0]]
    found = pd.DataFrame(table)
    means = found.groupby("method", sort=False).mean(numeric_only=True).round(3).reset_index()
    means.insert(0, "scene", "mean")
    means.insert(0, "data", "ABU")
    means["searches"] = found.groupby("method", sort=False)["searches"].sum().to_numpy()
    made = [planted(seed) for seed in range(SEEDS)]
    rest = pd.DataFrame([_row("planted", "mean", method, made) for method in made[0]])
    return pd.concat([found, means, rest], ignore_index=True)


def _row(data: str, scene: str, method: str, rows: list[dict[str, dict[str, float]]]) -> dict:
    means = {key: round(float(np.mean([row[method][key] for row in rows])), 3) for key in rows[0][method]}
    return {"data": data, "scene": scene, "method": method, "searches": len(rows)} | means


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.likeness", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of ABU's .mat files")
    options = parser.parse_args(arguments)

    def write() -> None:
        table = measure(options.folder)
        with atomic_path(RESULTS / "likeness.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
        print(table[table["scene"] == "mean"].to_string())

    return run(write)


if __name__ == "__main__":
    sys.exit(main())
