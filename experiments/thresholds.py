"""Measure what the default threshold finds and how far its rate can be trusted: experiments/results/thresholds.csv.

    python -m experiments.thresholds FOLDER [FOLDER ...] [--maps FOLDER]

A folder holds scenes with truth, such as ABU's; a name of ``abu-*`` makes them the scenes of ABU. ``before`` is the rule of
earlier versions: a generalised Pareto fit to the highest 5 % of the scores, anomalies among them. ``best`` is the threshold
that the truth allows: it looks at the truth, and is here to compare with only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage, stats

from experiments import RESULTS
from fers.datasets.synthetic.benchmark import make_scene
from fers.detection.detect import detect
from fers.detection.targets import EIGHT
from fers.detection.thresholds import Tail
from fers.scenes import read_truth
from fers.scenes.readers import SceneError, open_scene
from fers.util.commandline import run
from fers.util.errors import FersError
from fers.util.files import atomic_path

SCORES: dict[str, dict] = {
    "fusion D": {},
    "fusion C": {"fusion": "C"},
    "RX": {"features": "original"},
}  # name and options of fers.detect
SIGNED = {"fusion C", "fusion D"}  # scores that are logarithms
RATES = (1e-4, 1e-3)
PATCHES = (0, 0, 0, 3, 4, 5, 7, 10, 12, 14)  # px, the side of the saturated patch of each planted scene
DRAWS, KNOWN = 12, 2_000_000  # samples of a law, and draws from which the law is known
LAWS: dict[str, tuple[Callable[[np.random.RandomState, int], np.ndarray], bool]] = {  # of a background's score
    "chi-square, 60 degrees": (lambda r, n: r.chisquare(60, n), False),
    "chi-square, 200 degrees": (lambda r, n: r.chisquare(200, n), False),
    "log-normal, deviation 0.4": (lambda r, n: np.exp(0.4 * r.randn(n)), False),
    "logistic, as a logarithm": (lambda r, n: r.logistic(size=n), True),
    "8 % of pixels three times as variable": (
        lambda r, n: r.chisquare(60, n) * np.where(r.rand(n) < 0.08, 3, 1),
        False,
    ),
    "heavy: t law of 8 degrees": (lambda r, n: r.chisquare(60, n) / r.chisquare(8, n), False),
    "heavy: t law of 4 degrees": (lambda r, n: r.chisquare(60, n) / r.chisquare(4, n), False),
    "heavy: sum of two logarithms": (
        lambda r, n: np.log(r.chisquare(60, n)) + np.log(r.chisquare(16, n) / r.chisquare(8, n)),
        True,
    ),
}

Rule = Callable[[np.ndarray, bool, float], float]
"""Function from scores, whether they are signed, and a rate to a threshold."""


@dataclass(frozen=True, eq=False)
class Map:
    """Score map ``(H, W)`` of one scene; ``truth`` is True at its objects, ``patch`` at a large one among them."""

    score: np.ndarray
    truth: np.ndarray
    patch: np.ndarray | None = None


def before(score: np.ndarray, signed: bool, rate: float) -> float:
    """Compute the threshold of earlier versions: a fit to the highest 5 % of the scores, by maximum likelihood."""
    scores = score[np.isfinite(score)]
    start = float(np.quantile(scores, 0.95))
    excesses = scores[scores > start] - start
    unit = excesses.mean()
    shape, _, scale = stats.genpareto.fit(excesses / unit, floc=0)
    return start + unit * float(stats.genpareto.isf(rate * len(scores) / len(excesses), shape, scale=scale))


def after(score: np.ndarray, signed: bool, rate: float) -> float:
    """Compute the threshold of ``fers detect``."""
    return Tail.fit(score, signed).threshold(rate)


RULES: dict[str, Rule] = {"before": before, "after": after}


def with_objects(data: str, name: str, maps: Sequence[Map]) -> Iterator[dict]:
    """Yield what each rule finds in scenes with objects, and how many background pixels it calls anomalous."""
    for rate in RATES:
        for rule in (*RULES, "best, by the truth"):
            hits, rates = [], []
            for each in maps:
                if rule in RULES:
                    threshold = RULES[rule](each.score, name in SIGNED, rate)
                else:
                    threshold = float(np.quantile(each.score[~each.truth], 1 - rate))
                found = each.score >= threshold
                objects, count = ndimage.label(each.truth, EIGHT)
                large = set() if each.patch is None else set(np.unique(objects[each.patch]))
                hits.append((set(np.unique(objects[found & each.truth])), count, large))
                rates.append((found & ~each.truth).sum() / (~each.truth).sum() / rate)
            total = sum(count - len(large) for _, count, large in hits)
            patches = sum(len(large) for *_, large in hits)
            yield _row(data, name, rate, rule, rates) | {
                "objects": f"{sum(len(hit - large) for hit, _, large in hits)} of {total}",
                "patches": f"{sum(len(hit & large) for hit, _, large in hits)} of {patches}" if patches else "",
                "scenes without": f"{sum(not hit for hit, *_ in hits)} of {len(maps)}",
            }


def without_objects(data: str, name: str, scores: Sequence[np.ndarray]) -> Iterator[dict]:
    """Yield each rule's realised rate on pure backgrounds, whose own scores are counted."""
    for rate in RATES:
        for rule, choose in RULES.items():
            rates = [float(np.mean(score >= choose(score, name in SIGNED, rate))) / rate for score in scores]
            yield _row(data, name, rate, rule, rates)


def known_laws(count: int) -> Iterator[dict]:
    """Yield each rule's true rate on samples of a known law."""
    for law, (draw, signed) in LAWS.items():
        known = np.sort(draw(np.random.RandomState(DRAWS), KNOWN))
        for rate in RATES:
            for rule, choose in RULES.items():
                samples = (draw(np.random.RandomState(seed), count) for seed in range(DRAWS))
                thresholds = [choose(sample, signed, rate) for sample in samples]
                rates = [(KNOWN - np.searchsorted(known, threshold)) / KNOWN / rate for threshold in thresholds]
                yield _row(f"{count:,} draws", law, rate, rule, rates)


def planted(heavy: bool, patch: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make a scene of 120 x 90 px and 60 bands with five point targets and, where asked for, a saturated patch.

    Args:
        heavy: Add noise of a t law with 6 degrees of freedom.
        patch: Side of the patch in px.
        seed: Seed of the scene.

    Returns:
        The cube, the truth, and the pixels of the patch.
    """
    rng, shape = np.random.RandomState(seed), (120, 90)
    fields = np.stack([ndimage.gaussian_filter(rng.randn(*shape), 8) for _ in range(5)], axis=-1)
    cover = np.exp(60 * fields)
    cover /= cover.sum(-1, keepdims=True)
    materials = 0.3 + 0.1 * ndimage.gaussian_filter1d(rng.randn(7, 60), 6, axis=1) / 0.2
    cube = cover @ materials[:5] * (1 + 0.05 * rng.randn(*shape, 1)) + 0.01 * rng.randn(*shape, 60)
    if heavy:
        cube += 0.005 * rng.standard_t(6, (*shape, 60))
    truth, inside = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, column in ((12, 14), (25, 70), (60, 40), (95, 20), (104, 75)):
        cube[row, column] += 0.3 * (materials[5] - cube[row, column]) + 0.03 * rng.randn(60)
        cube[row, column, 28:33] += 0.08
        truth[row, column] = True
    inside[70 : 70 + patch, 60 : 60 + patch] = True
    cube[inside] = cube.max() * 1.2 + 0.003 * rng.randn(inside.sum(), 60)
    return cube.astype(np.float32), truth | inside, inside


def measure(folders: Sequence[Path], maps: Path | None) -> pd.DataFrame:
    """Measure all; ``maps`` is a folder that keeps score maps of scenes between runs."""
    rows: list[dict] = []
    for name, options in SCORES.items():
        labelled = {path.stem: _map_of(path, name, options, maps) for path in _scenes(folders)}
        abu = [each for stem, each in labelled.items() if stem.startswith("abu-")]
        if abu:
            rows += with_objects(f"ABU, {len(abu)} scenes", name, abu)
            rims = [ndimage.binary_dilation(each.truth, EIGHT) for each in abu]
            pure = [each.score[~rim] for each, rim in zip(abu, rims, strict=True)]
            rows += without_objects("ABU without its objects and 1 px around them", name, pure)
        if len(labelled) > len(abu):
            rows += with_objects(f"all {len(labelled)} scenes", name, list(labelled.values()))
        for heavy in (False, True):
            made = [planted(heavy, patch, seed) for seed, patch in enumerate(PATCHES)]
            scored = [Map(detect(cube, **options).score, truth, inside) for cube, truth, inside in made]
            kind = "heavy-tailed" if heavy else "Gaussian"
            rows += with_objects(f"planted in {kind} noise", name, scored)
        scenes = (make_scene(0, index, size=100, anomalies=False).cube for index in range(DRAWS))
        rows += without_objects("synthetic scenes without objects", name, [detect(c, **options).score for c in scenes])
    for count in (10_000, 100_000):
        rows += known_laws(count)
    return pd.DataFrame(rows).fillna("")


def _scenes(folders: Sequence[Path]) -> list[Path]:
    found = []
    for path in sorted(path for folder in folders for path in folder.glob("*.mat")):
        try:
            read_truth(path, shape=open_scene(path).shape[:2])
        except SceneError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        found.append(path)
    if not found:
        raise FersError(f"{', '.join(map(str, folders))}: no .mat file with a cube and its truth.")
    return found


def _map_of(path: Path, name: str, options: dict, maps: Path | None) -> Map:
    kept = None if maps is None else maps / f"{path.stem}, {name}.npy"
    if kept is not None and kept.is_file():
        score = np.load(kept)
    else:
        score = detect(path, **options).score
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            np.save(kept, score)
    return Map(score, read_truth(path, shape=score.shape))


def _row(data: str, score: str, rate: float, rule: str, rates: Sequence[float]) -> dict:
    realised = {"realised / nominal, mean": f"{np.mean(rates):.2f}", "worst": f"{max(rates):.1f}"}
    return {"data": data, "score": score, "far": f"{rate:g}", "rule": rule} | realised


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.thresholds", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("folders", type=Path, nargs="+", help="folders of .mat scenes with truth")
    parser.add_argument("--maps", type=Path, help="folder that keeps score maps between runs")
    options = parser.parse_args(arguments)

    def write() -> None:
        table = measure(options.folders, options.maps)
        with atomic_path(RESULTS / "thresholds.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
        print(table.to_string())

    return run(write)


if __name__ == "__main__":
    sys.exit(main())
