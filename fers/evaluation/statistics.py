"""Tests of whether a difference of AUCs is chance: over scenes, and between two methods on one scene.

Scenes of one flight line resemble each other, and so do neighbouring pixels. The interval resamples whole flight lines.
Every test takes its units, scenes or pixels, as independent, so their p-values are too small by an amount that nobody
knows.
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

FEWEST = 10  # groups of which an interval is given: with fewer, none that was tried holds
_MANY = 50
_NOMINAL = {
    False: 0.99,
    True: 0.97,
}  # level of the ends that covers about 95 %: with fewer than _MANY groups, with more
TOO_FEW = "too few scenes"


@dataclass(frozen=True)
class Interval:
    """A mean, and the ends of the 95 % interval that it may lie in; None where none can be given."""

    mean: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None:
            return TOO_FEW
        return f"{self.low:.4f} to {self.high:.4f}"


def flight_line(name: str) -> str:
    """Flight line in the name of an AVIRIS-NG scene, ``ang20170821t183707`` of ``ang20170821t183707_102``; else empty."""
    found = re.fullmatch(r"(ang\d{8}t\d{6})_\d+", name)
    return found.group(1) if found else ""


def mean_interval(
    values: Sequence[float] | np.ndarray,
    names: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    bounds: tuple[float | None, float | None] = (None, None),
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """95 % interval of a mean over scenes, such as mAUC, or of a mean difference of two methods.

    Bootstrap-t over groups of scenes: whole groups are drawn with replacement, and of each draw the mean's distance from
    the mean found is taken in standard errors of that draw. Ends made at 95 % cover less of the skewed laws that AUCs
    have, so they are made at 99 % for fewer than 50 groups and at 97 % for more. With fewer than 10, or where the values
    do not differ, there is none. ``experiments.coverage`` measures how often the interval covers; docs/measures.md has it.

    Args:
        values: ``(S,)``, one a scene, finite; for a difference, the differences scene by scene.
        names: The S scenes' names. Scenes of one flight line by them form a group, any other is its own.
        groups: Groups of the S scenes, such as a place that several share; empty where a scene is its own.
        bounds: Least and greatest value that the mean can have, where the interval ends; None for none.
        resamples: Number of bootstrap samples.
        seed: For the draws.

    Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 12. The standard error of a
    mean of unequal groups: R. M. Bell and D. F. McCaffrey, Survey Methodology 28(2), 2002, for one constant.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
        raise FersError(f"an interval takes a list of finite numbers, one a scene; got {values.shape}. Leave NaN out.")
    for of_scenes in (names, groups):
        if of_scenes is not None and len(of_scenes) != len(values):
            raise FersError(f"there are {len(of_scenes)} names for {len(values)} values. Give each scene's.")
    if groups is None:
        groups = [""] * len(values) if names is None else [flight_line(name) for name in names]
    numbers: dict[str | int, int] = {}  # a scene without a group is its own
    of_group = np.array([numbers.setdefault(group or i, len(numbers)) for i, group in enumerate(groups)])
    counts = np.bincount(of_group)
    sums = np.bincount(of_group, values)
    limits = None
    if len(counts) >= FEWEST:
        limits = _bootstrap_t(sums, counts, _NOMINAL[len(counts) >= _MANY], resamples, seed)
    if limits is not None and bounds != (None, None):
        limits = float(np.clip(limits[0], *bounds)), float(np.clip(limits[1], *bounds))
    return Interval(float(values.mean()), *(limits or (None, None)))


def _bootstrap_t(
    sums: np.ndarray, counts: np.ndarray, level: float, resamples: int, seed: int
) -> tuple[float, float] | None:
    """Ends of the interval from groups' sums and counts ``(G,)``; None where the spread is 0 or the ends infinite."""
    drawn = np.random.default_rng(seed).integers(len(counts), size=(resamples, len(counts)))
    mean, error = _mean_and_error(sums, counts)
    means, errors = _mean_and_error(sums[drawn], counts[drawn])
    if not error > 1e-12 * abs(mean):
        return None
    least = 1e-9 * error  # a draw without spread is infinitely far, or at the mean itself
    away = np.where(means == mean, 0.0, np.copysign(np.inf, means - mean))
    distance = np.where(errors > least, (means - mean) / np.maximum(errors, least), away)
    low, high = np.quantile(distance, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    ends = mean - high * error, mean - low * error
    return (float(ends[0]), float(ends[1])) if np.isfinite(ends).all() else None


def _mean_and_error(sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over all scenes and its standard error, as the groups' means spread; of the last axis.

    With w a group's share of the scenes and e its mean less the mean of all, the variance is the sum of
    ``w^2 e^2 / (1 - 2 w + sum w^2)``, which is unbiased where all groups' means spread alike. Groups of one scene each
    give the usual ``s / sqrt(S)``.
    """
    total = counts.sum(-1, keepdims=True)
    share = counts / total
    mean = sums.sum(-1, keepdims=True) / total
    lost = np.maximum(1 - 2 * share + (share**2).sum(-1, keepdims=True), 1e-12)
    variance = (share**2 * (sums / counts - mean) ** 2 / lost).sum(-1)
    return mean[..., 0], np.sqrt(variance)


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


def signed_rank_p(difference: np.ndarray) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test, exact, whatever ties there are.

    The sums of ranks of all signs are counted. Scenes without a difference are ranked too and have no sign (Pratt).
    Differences are taken as equal to 12 digits after the point.

    Args:
        difference: ``(S,)``, scene by scene, finite.

    Example:
        >>> signed_rank_p(np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
        0.0625
    """
    difference = np.round(difference, 12)
    twice_ranks = (2 * stats.rankdata(np.abs(difference))).astype(int)[difference != 0]  # whole numbers
    law = np.zeros(twice_ranks.sum() + 1)  # of the sum of the ranks of positive differences
    law[0] = 1.0
    for rank in twice_ranks:
        law[rank:], law[:rank] = (law[rank:] + law[: len(law) - rank]) / 2, law[:rank] / 2
    observed = twice_ranks[difference[difference != 0] > 0].sum()
    return float(min(1.0, 2 * min(law[: observed + 1].sum(), law[observed:].sum())))


def least_p(scenes: int, tests: int = 1) -> float:
    """Smallest p-value that Wilcoxon's test of so many scenes can have, after Holm's adjustment for so many tests.

    A comparison whose least p is above the level cannot be significant, however large the difference.

    Example:
        >>> least_p(5), least_p(13, tests=19)
        (0.0625, 0.004638671875)
    """
    return min(1.0, tests * 2.0 ** (1 - scenes))


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
    """Test each pair of methods over scenes by Wilcoxon's signed ranks, with Holm's adjustment; see ``signed_rank_p``.

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
            higher, lower = int((difference > 0).sum()), int((difference < 0).sum())
            found.append((first, second, float(difference.mean()), higher, lower, signed_rank_p(difference)))
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
