"""Thresholds with a stated false-alarm rate, from the upper tail of the scores themselves.

A generalised Pareto distribution is fitted to the highest scores. On real scenes the textbook's chi-square law is off by a
factor of 8 to 140, so it is offered by name only, and its rate is called nominal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from fers.util.errors import FersError

TAIL_SHARE = 0.05  # of the scores, to which the tail is fitted
ENOUGH = 200  # exceedances; with fewer, empirical quantiles are used
MAX_FITTED = 20_000  # exceedances, evenly over their ranks: more change the fit in its third digit
LEAST = 1e-12  # the lowest probability that is reported


@dataclass(frozen=True, eq=False)
class Tail:
    """Upper tail of the background's scores, which tells how often they exceed a value.

    The anomalies themselves count among the scores. So with many anomalies a rate errs on the side of few detections.

    Attributes:
        scores: All scores, sorted.
        start: Where the fitted tail begins.
        shape, scale: Parameters of the generalised Pareto distribution; None where there were too few scores.
    """

    scores: np.ndarray
    start: float
    shape: float | None
    scale: float | None

    @classmethod
    def fit(cls, scores: np.ndarray) -> Tail:
        """Fit the tail to the scores of a scene.

        Args:
            scores: Scores of any shape; NaN is left out.

        Raises:
            FersError: No score is left.

        Source: J. Pickands, Annals of Statistics 3(1), 1975.
        """
        ordered = np.sort(scores[np.isfinite(scores)], axis=None)
        if not len(ordered):
            raise FersError("no pixel has a score. All lack data or are left out; check --left_out and no-data.")
        start = float(np.quantile(ordered, 1 - TAIL_SHARE))
        excesses = ordered[np.searchsorted(ordered, start, side="right") :] - start
        if len(excesses) < ENOUGH or not excesses[-1] > excesses[0]:
            return cls(ordered, start, None, None)
        chosen = excesses[np.linspace(0, len(excesses) - 1, min(len(excesses), MAX_FITTED)).round().astype(int)]
        unit = chosen.mean()
        shape, _, scale = stats.genpareto.fit(chosen / unit, floc=0)
        return cls(ordered, start, float(shape), float(scale * unit))

    @property
    def share(self) -> float:
        """Share of the scores that lie in the fitted tail."""
        return 1 - np.searchsorted(self.scores, self.start, side="right") / len(self.scores)

    def probability(self, score: np.ndarray | float) -> np.ndarray:
        """Return the probability that a background pixel scores at least this high: 1e-12 or more. NaN stays NaN."""
        score = np.asarray(score, dtype=np.float64)
        count = len(self.scores)
        probability = np.maximum(count - np.searchsorted(self.scores, score, side="left"), 0.5) / count
        if self.shape is not None:
            fitted = self.share * stats.genpareto.sf(score - self.start, self.shape, scale=self.scale)
            probability = np.where(score > self.start, fitted, probability)
        probability = np.maximum(probability, LEAST)
        return np.where(np.isnan(score), np.nan, probability)

    def probabilities(self, score: np.ndarray) -> np.ndarray:
        """``probability`` of a map ``(H, W)``, row by row: it needs several times a row's memory."""
        return np.stack([self.probability(row) for row in score])

    def threshold(self, rate: float) -> float:
        """Return the score that a background pixel exceeds with this probability."""
        if self.shape is None or rate >= self.share:
            return float(np.quantile(self.scores, 1 - rate))
        return self.start + float(stats.genpareto.isf(rate / self.share, self.shape, scale=self.scale))

    def realised(self, threshold: float) -> float:
        """Return the share of all scores at or above a threshold."""
        count = len(self.scores)
        return float((count - np.searchsorted(self.scores, threshold, side="left")) / count)


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
    quantile: float | None = None,
    score: float | None = None,
    chi2: float | None = None,
    rank: int | None = None,
) -> Threshold:
    """Choose a threshold by exactly one rule.

    Args:
        tail: Upper tail of the scores.
        far: False-alarm rate, by the fitted tail.
        quantile: Share of the pixels below the threshold.
        score: The threshold itself.
        chi2: False-alarm rate that would hold if the scores were chi-square distributed.
        rank: Degrees of freedom of that distribution.
    """
    if score is not None:
        value, rule, nominal = score, "score", None
    elif quantile is not None:
        value, rule, nominal = float(np.quantile(tail.scores, quantile)), f"quantile {quantile:g}", None
    elif chi2 is not None:
        assert rank is not None, "chi-square needs the rank"
        value, rule, nominal = float(stats.chi2.isf(chi2, rank)), f"chi-square with {rank} degrees, nominal only", chi2
    else:
        assert far is not None
        fitted = "generalised Pareto tail" if tail.shape is not None and far < tail.share else "empirical quantile"
        value, rule, nominal = tail.threshold(far), fitted, far
    return Threshold(value, rule, nominal, tail.realised(value), len(tail.scores))
