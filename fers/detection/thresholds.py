"""Thresholds with a stated false-alarm rate, from the upper tail of the scores, which anomalies do not lift.

Anomalies are among the scores. A tail fitted to all high scores is fitted to them too, and its threshold hides what it
should find. So the fit begins below the highest scores, and takes in higher ones only as far as it explains them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

from fers.detection.options import ANOMALIES_AT_MOST
from fers.util.errors import FersError

FITTED_SHARE = 0.02  # of the scores: those below the highest ``ANOMALIES_AT_MOST``, to which the first fit is made
ACCEPTED = 1e-3  # probability by the fit up to which a score counts as background
FIT_ERROR = 0.25  # of the number of scores that a fit expects: fits to the tails of known laws err by this much
PRIOR_SHAPE, PRIOR_SPREAD = -0.05, 0.1  # of the tails of labelled backgrounds
LARGEST_SHAPE = 0.4
MOST_ROUNDS = 30
ENOUGH = 60  # scores in the first fit; with fewer, empirical quantiles are used
MAX_FITTED = 20_000  # scores in a fit, evenly over their ranks: more change it in its third digit
_PART = 1 << 20  # scores
LEAST = 1e-12  # the lowest probability that is reported, and the lowest positive score that has a logarithm


@dataclass(frozen=True, eq=False)
class Tail:
    """Upper tail of the background's scores, which tells how often they exceed a value.

    A generalised Pareto distribution describes it on a logarithmic scale. Positive scores are taken by their logarithm;
    scores that are logarithms already, or have a sign, as they are.

    Attributes:
        scores: All scores, sorted.
        signed: Whether the scores are taken as they are.
        negative: Whether they had to be, although they were not said to be ``signed``: some are below 0.
        start: Value on the logarithmic scale where the fitted tail begins.
        shape, scale: Parameters of the distribution; None where there were too few scores.
        share: Share of the scores that are background and lie above ``start``.
        contaminated: Whether more scores are high than the background explains. Where they are not, all are fitted.
        above: How many scores lie where the background has the share ``ACCEPTED``.
        settled: Whether the rounds of fitting came to an end.
    """

    scores: np.ndarray
    signed: bool
    negative: bool
    start: float
    shape: float | None
    scale: float | None
    share: float
    contaminated: bool = False
    above: int = 0
    settled: bool = True

    @classmethod
    def fit(cls, scores: np.ndarray, signed: bool = False, anomalies_at_most: float = ANOMALIES_AT_MOST) -> Tail:
        """Fit the tail to the scores of a scene.

        Args:
            scores: Scores of any shape; NaN is left out.
            signed: Take the scores as they are, because they are logarithms or have a sign. Otherwise their logarithm is
                taken, unless some are negative.
            anomalies_at_most: Share of the scores that the first fit does not look at. Anomalies that are more count as
                background.

        Raises:
            FersError: No score is left.

        Source: this project; no paper. It is made of J. Pickands, Annals of Statistics 3(1), 1975 (the distribution);
        I. B. Aban, M. M. Meerschaert and A. K. Panorska, JASA 101(473), 2006 (the likelihood of a truncated tail);
        S. G. Coles and M. J. Dixon, Extremes 2(1), 1999 (the penalty of the shape); and A. C. Atkinson and M. Riani,
        Robust Diagnostic Regression Analysis, 2000 (the growing fit).
        """
        ordered = np.sort(scores[np.isfinite(scores)], axis=None).astype(np.float64, copy=False)
        if not len(ordered):
            raise FersError("no pixel has a score. All lack data or are left out; check --left_out and no-data.")
        negative = not signed and bool(ordered[0] < 0)
        signed = signed or negative
        values = ordered if signed else np.log(np.maximum(ordered, LEAST))
        share = anomalies_at_most + FITTED_SHARE
        start, first = (float(np.quantile(values, 1 - part)) for part in (share, anomalies_at_most))
        excesses = values[np.searchsorted(values, start, side="right") :] - start
        if np.searchsorted(excesses, first - start, side="right") < ENOUGH or not first > start:
            return cls(ordered, signed, negative, start, None, None, share)
        return cls(ordered, signed, negative, start, *_robust(excesses, first - start, len(ordered), share))

    def on_scale(self, score: np.ndarray | float) -> np.ndarray:
        """Return scores on the logarithmic scale."""
        score = np.asarray(score, dtype=np.float64)
        return score if self.signed else np.log(np.maximum(score, LEAST))

    def as_score(self, value: float) -> float:
        """Return the score that has a value on the logarithmic scale."""
        return value if self.signed else float(np.exp(value))

    @property
    def count(self) -> int:
        """Number of scores."""
        return len(self.scores)

    @property
    def expected(self) -> float:
        """Number of scores that the background has where ``above`` are."""
        return ACCEPTED * self.count

    def probability(self, score: np.ndarray | float) -> np.ndarray:
        """Return the probability that a background pixel scores at least this high: 1e-12 or more. NaN stays NaN."""
        score = np.asarray(score, dtype=np.float64)
        probability = np.maximum(self.count - np.searchsorted(self.scores, score, side="left"), 0.5) / self.count
        if self.shape is not None:
            value = self.on_scale(score)
            fitted = self.share * stats.genpareto.sf(value - self.start, self.shape, scale=self.scale)
            probability = np.where(value > self.start, fitted, probability)
        return np.where(np.isnan(score), np.nan, np.maximum(probability, LEAST))

    def probabilities(self, score: np.ndarray) -> np.ndarray:
        """``probability`` of a map ``(H, W)``, in sorted parts: it needs several times a part's memory, and sorted is faster."""
        flat = score.ravel()
        out = np.empty(flat.shape)
        for start in range(0, len(flat), _PART):
            part = flat[start : start + _PART]
            order = np.argsort(part)
            out[start : start + _PART][order] = self.probability(part[order])
        return out.reshape(score.shape)

    def threshold(self, rate: float) -> float:
        """Return the score that a background pixel exceeds with this probability."""
        if self.shape is None or rate > self.share:
            return float(np.quantile(self.scores, 1 - rate))
        return self.as_score(self.start + _quantile(rate / self.share, self.shape, self.scale))

    def false_share_threshold(self, share: float) -> float:
        """Return the least score above which at most this share of the pixels is expected to be background.

        Where no score is high enough, it is one above all of them.

        Source: Y. Benjamini and Y. Hochberg, J. R. Stat. Soc. B 57(1), 1995.
        """
        highest = self.scores[::-1][: max(1, self.count // 2)]
        passed = np.flatnonzero(self.probability(highest) <= share * np.arange(1, len(highest) + 1) / self.count)
        return float(highest[passed[-1]] if len(passed) else np.nextafter(highest[0], np.inf))

    def realised(self, threshold: float) -> float:
        """Return the share of all scores at or above a threshold."""
        return float((self.count - np.searchsorted(self.scores, threshold, side="left")) / self.count)

    @property
    def notes(self) -> list[str]:
        """Sentences that belong beside every threshold by this tail."""
        told = []
        if self.negative:
            told.append(
                "Some scores are negative, so the tail is fitted to the scores and not to their logarithms. A detector "
                "whose scores have a sign says so by an attribute signed = True."
            )
        if self.shape is None:
            return [
                *told,
                f"{self.count} pixels have too few different scores for a fitted tail; quantiles are counted.",
            ]
        if self.contaminated:
            told.append(
                f"{self.above} pixels score higher than the background explains, where {self.expected:.3g} are expected: "
                "anomalies, or a background with a heavy tail. They were left out of the fit."
            )
        if abs(self.shape) >= LARGEST_SHAPE - 1e-3:
            told.append(f"The shape of the tail, {self.shape:.2g}, is at its limit: take rates with care.")
        if not self.settled:
            told.append(f"The fit of the tail did not settle in {MOST_ROUNDS} rounds: take rates with care.")
        return told

    def record(self) -> dict[str, Any]:
        """Return what run.json keeps."""
        names = ("signed", "start", "shape", "scale", "share", "contaminated", "above", "settled")
        return {name: getattr(self, name) for name in names} | {"expected": self.expected}


@dataclass(frozen=True)
class Threshold:
    """A threshold and its false-alarm rates.

    Attributes:
        value: Scores at or above it are detections.
        rule: How it was chosen, as text.
        nominal: The false-alarm rate that was asked for; None where none was.
        realised: The share of scored pixels at or above it.
        pixels: How many pixels were scored.
    """

    value: float
    rule: str
    nominal: float | None
    realised: float
    pixels: int

    @property
    def sentence(self) -> str:
        """One line that describes the threshold."""
        asked = "" if self.nominal is None else f"nominal false-alarm rate {self.nominal:g}, "
        expected = "" if self.nominal is None else f", {self.nominal * self.pixels:.3g} expected by the nominal rate"
        found = round(self.realised * self.pixels)
        return f"{self.rule}: score >= {self.value:.6g}; {asked}realised {self.realised:.3g} ({found} of {self.pixels} pixels{expected})"


def choose_threshold(
    tail: Tail,
    far: float | None = None,
    fdr: float | None = None,
    quantile: float | None = None,
    score: float | None = None,
    chi2: float | None = None,
    rank: int | None = None,
) -> Threshold:
    """Choose a threshold by exactly one rule.

    Args:
        tail: Upper tail of the scores.
        far: False-alarm rate, by the fitted tail.
        fdr: Share of the detected pixels that is expected to be background, by the fitted tail.
        quantile: Share of the pixels below the threshold.
        score: The threshold itself.
        chi2: False-alarm rate that would hold if the scores were chi-square distributed.
        rank: Degrees of freedom of that distribution.
    """
    fitted = "counted quantile" if tail.shape is None else "fitted tail"
    nominal = None
    if score is not None:
        value, rule = score, "score"
    elif quantile is not None:
        value, rule = float(np.quantile(tail.scores, quantile)), f"quantile {quantile:g}"
    elif chi2 is not None:
        assert rank is not None, "chi-square needs the rank"
        value, rule, nominal = float(stats.chi2.isf(chi2, rank)), f"chi-square with {rank} degrees, nominal only", chi2
    elif fdr is not None:
        value, rule = tail.false_share_threshold(fdr), f"{fitted}, expected share of false pixels {fdr:g}"
    else:
        assert far is not None
        value, rule, nominal = tail.threshold(far), fitted if far <= tail.share else "counted quantile", far
    return Threshold(value, rule, nominal, tail.realised(value), tail.count)


def _robust(excesses: np.ndarray, first: float, count: int, most: float) -> tuple[float, float, float, bool, int, bool]:
    """Fit the part of the tail below a limit, which rises as far as the fit explains what lies above it.

    Args:
        excesses: Values above the tail's start, less it, sorted.
        first: The limit at the beginning.
        count: Number of all scores.
        most: Largest share of the scores in the tail.

    Returns:
        Shape, scale, share, contaminated, above, settled: as in ``Tail``.
    """
    limit, settled = first, False
    for _ in range(MOST_ROUNDS):
        inside = excesses[: np.searchsorted(excesses, limit, side="right")]
        shape, scale = _truncated(_thinned_excesses(inside), limit)
        share = min(len(inside) / count / float(stats.genpareto.cdf(limit, shape, scale=scale)), most)
        explained = _quantile(ACCEPTED / share, shape, scale)
        new = min(max(explained, first), float(excesses[-1]))
        settled = abs(new - limit) < 1e-3 * limit
        if settled:
            break
        limit = (limit + new) / 2
    above = len(excesses) - int(np.searchsorted(excesses, explained, side="left"))
    expected = ACCEPTED * count
    contaminated = above > expected + 2 * np.sqrt(expected + (FIT_ERROR * expected) ** 2)
    if not contaminated:
        chosen = _thinned_excesses(excesses)
        unit = chosen.mean()
        plain, _, spread = stats.genpareto.fit(chosen / unit, floc=0)
        if plain < LARGEST_SHAPE:  # a heavier tail is one of anomalies
            return float(plain), float(spread * unit), len(excesses) / count, False, above, True
    return shape, scale, share, True, above, settled


def _truncated(excesses: np.ndarray, limit: float) -> tuple[float, float]:
    """Fit a generalised Pareto distribution, cut off at a limit, with a prior on its shape; return shape and scale."""
    unit = excesses.mean()
    e, end, n = excesses / unit, limit / unit, len(excesses)

    def cost(log_scale: float, shape: float) -> float:
        scale = np.exp(log_scale)
        if abs(shape) < 1e-6:
            density, survival = n / scale, np.exp(-end / scale)
        else:
            density = (1 / shape + 1) * np.log1p(shape * e / scale).sum()
            survival = np.maximum(1 + shape * end / scale, 0.0) ** (-1 / shape)
        return float(n * log_scale + density + n * np.log1p(-survival))

    def best(shape: float):
        lowest = -4.0 if shape >= 0 else max(-4.0, np.log(-shape * end) + 1e-9)
        return optimize.minimize_scalar(
            cost, bounds=(lowest, 5.0), args=(shape,), method="bounded", options={"xatol": 1e-6}
        )

    def penalised(shape: float) -> float:
        return best(shape).fun + (shape - PRIOR_SHAPE) ** 2 / (2 * PRIOR_SPREAD**2)

    bounds = (-LARGEST_SHAPE, LARGEST_SHAPE)
    shape = float(optimize.minimize_scalar(penalised, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x)
    return shape, float(np.exp(best(shape).x) * unit)


def _thinned_excesses(values: np.ndarray) -> np.ndarray:
    return values[np.linspace(0, len(values) - 1, min(len(values), MAX_FITTED)).round().astype(int)]


def _quantile(probability: float, shape: float | None, scale: float | None) -> float:
    return float(stats.genpareto.isf(probability, shape, scale=scale))
