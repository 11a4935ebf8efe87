"""Tests of whether a difference of AUCs is chance: over scenes, and between two methods on one scene.

Scenes of one flight line resemble each other, and so do neighbouring pixels. Every test here takes its units, scenes or
pixels, as independent (the bootstrap does so within a flight line), so intervals are too narrow and p-values too small
by an amount that nobody knows.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fers.evaluation.metrics import counted
from fers.util.errors import FersError


@dataclass(frozen=True)
class Interval:
    """A mean, and the ends of the interval that it may lie in."""

    mean: float
    low: float
    high: float


def flight_line(name: str) -> str:
    """Flight line in the name of an AVIRIS-NG scene, ``ang20170821t183707`` of ``ang20170821t183707_102``; else empty."""
    found = re.fullmatch(r"(ang\d{8}t\d{6})_\d+", name)
    return found.group(1) if found else ""


def bootstrap_mean(
    values: Sequence[float] | np.ndarray,
    names: Sequence[str] | None = None,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a mean over scenes, such as mAUC, or of a mean difference of two methods.

    Scenes are drawn with replacement within each flight line, as many as it has, so the interval is for these flight
    lines. A flight line of one scene adds no spread. Scenes whose names tell no flight line form one group.

    Args:
        values: ``(S,)``, one a scene, finite; for a difference, the differences scene by scene.
        names: The S scenes' names, for their flight lines; None takes all scenes as one group.
        level: Coverage asked for, between 0 and 1.
        resamples: Number of bootstrap samples.
        seed: For the draws.

    Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise FersError(
            f"the bootstrap takes a list of finite numbers, one a scene; got {values.shape}. Leave NaN out."
        )
    if names is not None and len(names) != len(values):
        raise FersError(f"there are {len(names)} names for {len(values)} values. Give each scene's name.")
    if not 0 < level < 1:
        raise FersError(f"the level is {level:g}. Give one between 0 and 1, such as 0.95.")
    lines = np.array([flight_line(name) for name in names] if names is not None else [""] * len(values))
    rng = np.random.default_rng(seed)
    total = np.zeros(resamples)
    for line in np.unique(lines):
        group = values[lines == line]
        total += group[rng.integers(len(group), size=(resamples, len(group)))].sum(1)
    low, high = np.quantile(total / len(values), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), float(low), float(high))


@dataclass(frozen=True)
class DeLong:
    """Two methods' AUCs on one scene."""

    auc: tuple[float, float]
    covariance: np.ndarray  # (2, 2), of both estimates
    z: float  # first less second, over its standard error; 0 where both maps rank all pairs alike
    p: float  # two-sided, of equal AUCs


def delong(first: np.ndarray, second: np.ndarray, truth: np.ndarray) -> DeLong:
    """Test two correlated AUCs for a difference, by DeLong.

    With ranks, as X. Sun and W. Xu (IEEE Signal Processing Letters 21(11), 2014): n log n for n pixels. It takes pixels
    as independent; those of one object are not, so read a small p with care.

    Args:
        first, second: ``(H, W)`` score maps of the same scene, finite; higher is more anomalous.
        truth: ``(H, W)``, bool or 0 and one other number; at least two pixels of each class.

    Source: E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 44(3), 1988.
    """
    scores = [counted(score, truth)[0] for score in (first, second)]
    anomalous = counted(first, truth)[1]
    n, m = int(anomalous.sum()), int((~anomalous).sum())
    if min(n, m) < 2:
        raise FersError(f"{n} anomalous and {m} background pixels; a variance needs two of each. Leave this scene out.")
    of_anomalies, of_background = [], []  # each pixel's share of the other class that it ranks on the right side of
    for score in scores:
        ranks = stats.rankdata(score)
        of_anomalies.append((ranks[anomalous] - stats.rankdata(score[anomalous])) / m)
        of_background.append(1 - (ranks[~anomalous] - stats.rankdata(score[~anomalous])) / n)
    a, b = (float(shares.mean()) for shares in of_anomalies)
    covariance = np.cov(of_anomalies) / n + np.cov(of_background) / m
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    if variance <= np.finfo(float).eps:
        z = 0.0 if a == b else float(np.copysign(np.inf, a - b))
    else:
        z = float((a - b) / np.sqrt(variance))
    return DeLong((a, b), covariance, z, float(2 * stats.norm.sf(abs(z))))


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Adjust p-values by Holm, in the order given: each may be compared with the level as it is.

    Of K sorted p-values, each becomes the largest ``(K - j) p_(j)`` up to its place j = 0, 1, ..., at most 1.

    Source: S. Holm, Scandinavian Journal of Statistics 6(2), 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]), 1)
    return adjusted


@dataclass(frozen=True)
class Comparison:
    """Two methods over the same scenes."""

    first: str
    second: str
    difference: float  # mean of first less second
    wins: int  # scenes on which the first is higher
    losses: int
    p: float  # two-sided, of Wilcoxon's signed-rank test
    p_holm: float  # the same, adjusted for all pairs compared


def compare_methods(
    results: Mapping[str, Sequence[float] | np.ndarray], reference: str | None = None
) -> list[Comparison]:
    """Test each pair of methods over scenes by Wilcoxon's signed ranks, with Holm's adjustment.

    The ranks of scenes without a difference are split between the sides. The p-value is exact where SciPy has it so,
    for few scenes whose differences are distinct and not zero; else it is a normal approximation.

    Args:
        results: For each of two methods or more, one finite value a scene, the scenes in the same order.
        reference: Compare only this method with each of the others; None compares all pairs.

    Source: F. Wilcoxon, Biometrics Bulletin 1(6), 1945; J. Demsar, JMLR 7, 2006, for its use over data sets.
    """
    scores = _matrix(results)
    names = list(results)
    if reference is not None and reference not in results:
        raise FersError(f"there is no method {reference}; found {', '.join(names)}. Choose among these.")
    found = []
    for (first, a), (second, b) in itertools.combinations(zip(names, scores.T, strict=True), 2):
        if reference in (None, first, second):
            difference = a - b
            p = float(stats.wilcoxon(difference, zero_method="zsplit").pvalue) if difference.any() else 1.0
            higher, lower = int((difference > 0).sum()), int((difference < 0).sum())
            found.append((first, second, float(difference.mean()), higher, lower, p))
    return [Comparison(*row, p_holm=float(p)) for row, p in zip(found, holm([row[-1] for row in found]), strict=True)]


@dataclass(frozen=True)
class Ranks:
    """Several methods ranked over scenes."""

    names: list[str]  # best mean rank first
    mean_ranks: np.ndarray  # 1 is best; ties share theirs
    p: float  # Friedman's, of no difference at all; 1 for two methods or fewer
    critical_difference: float  # Nemenyi's: methods whose mean ranks are nearer are not told apart
    level: float  # of the critical difference, such as 0.05


def rank_methods(results: Mapping[str, Sequence[float] | np.ndarray], level: float = 0.05) -> Ranks:
    """Rank methods over scenes: Friedman's test and Nemenyi's critical difference.

    ``CD = q sqrt(k (k + 1) / (6 S))`` for k methods on S scenes; q is the quantile ``1 - level`` of the studentised
    range of k with infinitely many degrees of freedom, over the square root of 2.

    Higher values are better; ``results`` as ``compare_methods`` takes them.

    Source: J. Demsar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 2006.
    """
    scores = _matrix(results)
    scenes, k = scores.shape
    mean_ranks = stats.rankdata(-scores, axis=1).mean(0)
    same = (scores == scores[:, :1]).all()
    p = float(stats.friedmanchisquare(*scores.T).pvalue) if k > 2 and not same else 1.0
    q = stats.studentized_range.ppf(1 - level, k, np.inf) / np.sqrt(2)
    order = np.argsort(mean_ranks, kind="stable")
    names = [list(results)[i] for i in order]
    return Ranks(names, mean_ranks[order], p, float(q * np.sqrt(k * (k + 1) / (6 * scenes))), level)


def indistinguishable(ranks: Ranks) -> list[tuple[int, int]]:
    """Find the largest groups of two methods or more within one critical difference, as (first, last) index."""
    means = ranks.mean_ranks
    last = [int(end) - 1 for end in np.searchsorted(means, means + ranks.critical_difference)]
    return [(i, end) for i, end in enumerate(last) if end > i and (i == 0 or end > last[i - 1])]


def _matrix(results: Mapping[str, Sequence[float] | np.ndarray]) -> np.ndarray:
    """Values ``(scenes, methods)``, checked."""
    lengths = {name: len(values) for name, values in results.items()}
    if len(lengths) < 2 or len(set(lengths.values())) != 1 or not all(lengths.values()):
        found = ", ".join(f"{name}: {length}" for name, length in lengths.items()) or "nothing"
        raise FersError(
            f"a comparison takes two methods or more with a value for each scene; found {found}. "
            "Keep only scenes that every method has."
        )
    scores = np.array([results[name] for name in results], dtype=np.float64).T
    if not np.isfinite(scores).all():
        raise FersError("a value is NaN or infinite. Leave that scene out for every method.")
    return scores
