"""Thresholds with a stated rate, and targets cut from a map."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fers.detection.targets import background_ring, find_targets, threshold_for_count
from fers.detection.thresholds import Tail, choose_threshold
from fers.util.errors import FersError


def test_a_rate_far_in_the_tail_of_a_known_law_is_met():
    """A Pareto-tailed law: the scores above x have a probability of (1 + x / 2) ** -4."""
    sample = stats.genpareto.rvs(0.25, scale=0.5, size=200_000, random_state=0)
    tail = Tail.fit(sample)
    for rate in (1e-2, 1e-3, 1e-4):
        assert stats.genpareto.sf(tail.threshold(rate), 0.25, scale=0.5) == pytest.approx(rate, rel=0.15)
    value = tail.threshold(1e-3)
    assert tail.probability(np.array([value]))[0] == pytest.approx(1e-3, rel=1e-6)
    assert tail.realised(value) == np.mean(sample >= value)


def test_probabilities_fall_with_the_score_and_keep_nan():
    tail = Tail.fit(np.append(np.random.RandomState(0).gamma(3, size=20_000), np.nan))
    score = np.linspace(0, 40, 2000)
    probability = tail.probability(score)
    assert (np.diff(probability) <= 1e-4).all() and probability[0] == 1 and probability[-1] >= 1e-12
    assert np.isnan(tail.probability(np.array([[np.nan]]))).all()
    assert len(tail.scores) == 20_000


def test_few_scores_have_empirical_quantiles():
    scores = np.arange(1000.0)
    tail = Tail.fit(scores)
    assert tail.shape is None and tail.threshold(0.01) == np.quantile(scores, 0.99)
    assert choose_threshold(tail, far=0.01).rule == "empirical quantile"
    assert tail.probability(np.array([2000.0]))[0] == 0.5 / 1000


def test_a_constant_map_has_a_tail_too():
    assert Tail.fit(np.ones(10_000)).threshold(1e-3) == 1


def test_each_rule_says_what_it_is():
    tail = Tail.fit(np.random.RandomState(0).chisquare(50, size=50_000))
    nominal = choose_threshold(tail, chi2=1e-3, rank=50)
    assert nominal.value == pytest.approx(stats.chi2.isf(1e-3, 50)) and "nominal only" in nominal.sentence
    assert choose_threshold(tail, quantile=0.9).realised == pytest.approx(0.1, abs=1e-4)
    assert choose_threshold(tail, score=60.0).nominal is None
    far = choose_threshold(tail, far=1e-3)
    assert "realised" in far.sentence and "50 expected" in far.sentence and far.rule == "generalised Pareto tail"


def test_no_score_is_no_tail():
    with pytest.raises(FersError, match="no pixel has a score"):
        Tail.fit(np.array([np.nan]))


def score_map() -> np.ndarray:
    score = np.zeros((20, 30))
    score[2, 3], score[3, 4] = 5, 9  # they touch at a corner
    score[10:13, 10:14] = 6
    score[18, 29] = 7
    score[0, 0] = np.nan
    return score


def test_targets_are_connected_pixels_ranked_by_their_highest_score():
    targets, labels = find_targets(score_map(), 4)
    assert [(t.rank, t.row, t.column, t.pixels) for t in targets] == [(1, 3, 4, 2), (2, 18, 29, 1), (3, 10, 10, 12)]
    assert targets[0].total == 14 and targets[0].area is None and targets[2].bounds == (10, 10, 13, 14)
    assert (labels > 0).sum() == 15 and labels[3, 4] == targets[0].label


def test_areas_bound_the_targets():
    targets, labels = find_targets(score_map(), 4, min_area=2, max_area=5)
    assert [t.pixels for t in targets] == [2] and (labels > 0).sum() == 2
    targets, _ = find_targets(score_map(), 4, min_area=100, pixel_area=lambda row, column: 25.0)
    assert [t.area for t in targets] == [300.0]


def test_a_threshold_is_lowered_until_there_are_enough_targets():
    score = np.random.RandomState(0).gamma(2, size=(40, 40))
    threshold = threshold_for_count(score, 10)
    assert len(find_targets(score, threshold)[0]) >= 10
    assert threshold_for_count(score_map(), 1) == 9


def test_a_ring_is_cut_at_the_border():
    rows, columns, ring = background_ring((50, 60), 3, 30)
    assert (rows, columns) == (slice(0, 16), slice(18, 43)) and ring.shape == (16, 25)
    assert not ring[3, 12] and not ring[8, 17] and ring[9, 12]
