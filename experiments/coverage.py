"""Measure how often the interval of a mean over scenes holds the mean, by simulation.

    python -m experiments.coverage                  experiments/results/coverage.csv again, some minutes

Values of scenes are drawn from laws that AUCs and their differences have: those of the 75 scenes of docs/notebook/beyond
as they are, and made-up ones that are skewed or have ties. Beside the interval stand Student's t and the percentile
bootstrap. ``lines`` are HAD100's flight lines: 38, 13, 12, 8, 8, 6, 6, 5, 3 and 1 scenes, of whose variance 70 % is
between the lines.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats

from experiments import RESULTS, ROOT
from fers.evaluation.statistics import mean_interval
from fers.evaluation.tables import markdown
from fers.util.commandline import Parser, positive, run
from fers.util.files import write_whole

LINES = (38, 13, 12, 8, 8, 6, 6, 5, 3, 1)
BETWEEN = 0.7  # share of the variance that is between flight lines
SIZES = (5, 10, 13, 20, 30, 50, 100, "lines")
Draw = Callable[[np.random.Generator, int], np.ndarray]  # so many values of scenes
Limits = tuple[float, float] | None


def laws() -> dict[str, Draw]:
    """Laws of a scene's value, by their names: how to draw from each."""
    frame = pd.read_csv(ROOT / "docs" / "notebook" / "beyond" / "scenes.csv").query("bands == 200 and seed == 0")
    aucs = frame.pivot(index="scene", columns="setting", values="auc")
    rx = aucs["raw RX"]
    real = {
        "AUC of RX": rx,
        "fusion C less RX": aucs["C, untrained"] - rx,
        "LRX-PC less RX": aucs["LRX-PC 11, 27"] - rx,
        "spectral branch less RX": aucs["spectral, untrained"] - rx,
    }

    def few_gains(rng: np.random.Generator, count: int) -> np.ndarray:
        return np.where(rng.uniform(size=count) < 0.3, rng.exponential(0.08, count), rng.normal(0.005, 0.005, count))

    return {
        **{name: partial(_resampled, values.dropna().to_numpy()) for name, values in real.items()},
        "Gaussian": lambda rng, count: rng.normal(0.02, 0.03, count),
        "three large gains of ten": few_gains,
        "half of them ties": lambda rng, count: np.where(
            rng.uniform(size=count) < 0.5, 0, rng.exponential(0.05, count)
        ),
        "lognormal": lambda rng, count: rng.lognormal(-4, 1, count),
    }


def _resampled(values: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.choice(values, count)


def coverage(draw: Draw, size: int | str, simulations: int, resamples: int, seed: int = 0) -> dict[str, float]:
    """Share of the simulations whose interval holds the law's mean, by method; NaN where a method gives none.

    Args:
        draw: The law.
        size: Number of scenes, or ``lines``.
        simulations: How many test sets are drawn.
        resamples: Bootstrap samples of each.
        seed: For the draws.
    """
    rng = np.random.default_rng(seed)
    mean = float(draw(np.random.default_rng(1), 2_000_000).mean())
    held: dict[str, list[float]] = {"percentile": [], "t": [], "ours": []}
    for _ in range(simulations):
        values, groups = _test_set(draw, size, mean, rng)
        found = mean_interval(values, groups=groups, resamples=resamples)
        half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        limits: dict[str, Limits] = {
            "percentile": _percentile(values, resamples, rng),
            "t": (values.mean() - half, values.mean() + half),
            "ours": None if found.low is None or found.high is None else (found.low, found.high),
        }
        for method, ends in limits.items():
            if ends is not None:
                held[method].append(ends[0] <= mean <= ends[1])
    few = simulations / 2  # as when all values are equal; a method that mostly gives none has no coverage
    return {method: float(np.mean(hits)) if len(hits) > few else np.nan for method, hits in held.items()}


def _test_set(
    draw: Draw, size: int | str, mean: float, rng: np.random.Generator
) -> tuple[np.ndarray, Sequence[str] | None]:
    if isinstance(size, int):
        return draw(rng, size), None
    of_line = np.repeat(np.arange(len(LINES)), LINES)
    lines, own = draw(rng, len(LINES)) - mean, draw(rng, len(of_line)) - mean
    return mean + np.sqrt(BETWEEN) * lines[of_line] + np.sqrt(1 - BETWEEN) * own, [f"line {i}" for i in of_line]


def _percentile(values: np.ndarray, resamples: int, rng: np.random.Generator) -> tuple[float, float]:
    means = values[rng.integers(len(values), size=(resamples, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def coverage_table(frame: pd.DataFrame) -> str:
    """Render the coverage by number of scenes: the lowest over the laws, and that of one real law."""
    rows = []
    for size, part in frame.groupby("scenes", sort=False):
        real = part[part.law == "fusion C less RX"].iloc[0]
        lowest = part[["percentile", "t", "ours"]].min(skipna=False)
        cells = [lowest.percentile, real.percentile, lowest.t, real.t, lowest.ours, real.ours]
        name = "HAD100's 10 lines" if size == "lines" else size
        rows.append([str(name), *("too few scenes" if pd.isna(cell) else f"{cell:.2f}" for cell in cells)])
    head = [
        f"{method}, {of}" for method in ("percentile", "Student's t", "ours") for of in ("lowest", "fusion C less RX")
    ]
    return markdown(["scenes", *head], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = Parser(prog="python -m experiments.coverage", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--simulations", type=positive, default=500, help="test sets of each law and size")
    parser.add_argument("--resamples", type=positive, default=1000, help="bootstrap samples of each test set")
    options = parser.parse_args(arguments)
    return run(lambda: _write(options.simulations, options.resamples))


def _write(simulations: int, resamples: int) -> None:
    about = {"simulations": simulations, "resamples": resamples}
    rows = [
        {"law": law, "scenes": size, **coverage(draw, size, simulations, resamples), **about}
        for size in SIZES
        for law, draw in laws().items()
    ]
    path = RESULTS / "coverage.csv"
    write_whole(path, pd.DataFrame(rows).to_csv(index=False, float_format="%.3f", lineterminator="\n").encode())
    print(path)


if __name__ == "__main__":
    sys.exit(main())
