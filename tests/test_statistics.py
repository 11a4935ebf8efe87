"""Intervals and tests against SciPy, enumeration, published tables and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import RESULTS
from experiments.coverage import LINES, SIZES, coverage, laws
from fers.evaluation.figures import critical_difference_figure
from fers.evaluation.metrics import auc
from fers.evaluation.statistics import (
    Interval,
    _mean_and_error,
    compare_methods,
    delong,
    flight_line,
    holm,
    least_p,
    mean_interval,
    rank_methods,
    signed_rank_p,
)


def test_flight_line_is_told_by_had100s_names_only():
    assert flight_line("ang20170821t183707_102") == "ang20170821t183707"
    assert flight_line("airport-1") == flight_line("ang20170821_1") == ""


def test_interval_is_the_bootstrap_t_of_plain_loops():
    values = np.random.RandomState(0).beta(8, 1, size=12)
    found = mean_interval(values, resamples=1500)
    rng, error = np.random.default_rng(0), stats.sem(values)
    distances = []
    for row in rng.integers(12, size=(1500, 12)):
        distances.append((values[row].mean() - values.mean()) / stats.sem(values[row]))
    distances.sort()
    low, high = distances[int(np.ceil(0.005 * 1500)) - 1], distances[int(np.ceil(0.995 * 1500)) - 1]
    assert found.mean == pytest.approx(values.mean())
    assert [found.low, found.high] == pytest.approx([found.mean - high * error, found.mean - low * error])
    assert found == mean_interval(values, resamples=1500) != mean_interval(values, resamples=1500, seed=1)


def test_flight_lines_are_resampled_as_lines_and_not_as_scenes():
    """Scenes of a line that are all alike count as one: the interval is that of the lines."""
    lines = np.random.RandomState(0).normal(size=12)
    names = [f"ang201708{line + 10}t183707_{i}" for line in range(12) for i in range(7)]
    found = mean_interval(np.repeat(lines, 7), names)
    of_lines = mean_interval(lines)
    assert [found.low, found.high] == pytest.approx([of_lines.low, of_lines.high])
    assert found == mean_interval(np.repeat(lines, 7), groups=[name[:18] for name in names])
    pooled = mean_interval(np.repeat(lines, 7))
    assert pooled.high - pooled.low < 0.6 * (found.high - found.low)


def test_standard_error_of_unequal_groups_is_unbiased_where_their_means_spread_alike():
    rng = np.random.default_rng(0)
    counts = np.array(LINES)
    sums = rng.normal(0.3, 1, size=(20_000, len(counts))) * counts
    means, errors = _mean_and_error(sums, np.broadcast_to(counts, sums.shape))
    assert (errors**2).mean() == pytest.approx(means.var(), rel=0.03)
    values = rng.normal(size=9)
    assert _mean_and_error(values, np.ones(9))[1] == pytest.approx(stats.sem(values))


def test_an_interval_ends_where_its_measure_does():
    values = 1 - np.random.default_rng(1).exponential(0.01, 12)
    values[0] = 0.8
    free, bounded = mean_interval(values), mean_interval(values, bounds=(0, 1))
    assert free.high > 1 and bounded.high == 1 and bounded.low == free.low and bounded.mean == free.mean


def test_where_no_interval_holds_there_is_none():
    assert str(mean_interval([0.9, 0.8, 0.95, 0.7, 0.99])) == "too few scenes"
    assert mean_interval(np.arange(9.0)).low is None and mean_interval(np.arange(10.0)).low is not None
    shared = mean_interval(np.arange(10.0), groups=["", "a", "", "", "", "", "a", "", "", ""])
    assert shared == Interval(4.5, None, None)
    assert mean_interval(np.full(40, 0.9)) == Interval(pytest.approx(0.9), None, None)  # no spread to learn from


@pytest.mark.parametrize("size, at_least", [(13, 0.9), (100, 0.92), ("lines", 0.88)])
def test_interval_covers_what_the_percentile_bootstrap_does_not(size, at_least):
    found = coverage(laws()["fusion C less RX"], size, simulations=150, resamples=600)
    assert found["ours"] >= at_least - 0.03 and found["ours"] > found["percentile"] - 0.02
    assert found["percentile"] < 0.88 or size == 100


def test_five_scenes_have_no_interval_that_holds():
    found = coverage(laws()["fusion C less RX"], 5, simulations=150, resamples=300)
    assert np.isnan(found["ours"]) and found["percentile"] < 0.8 and found["t"] < 0.9


def test_coverage_in_the_documents_holds():
    """experiments.coverage wrote it; docs/measures.md says what is asserted here."""
    frame = pd.read_csv(RESULTS / "coverage.csv").set_index("scenes")
    assert frame.loc["5", "ours"].isna().all() and set(frame.index) == {str(size) for size in SIZES}
    assert frame.loc[["10", "lines"], "ours"].min() >= 0.87 and frame.loc[["13", "20"], "ours"].min() >= 0.9
    assert frame.loc[["30", "50", "100"], "ours"].min() >= 0.93


def placements(score, truth):
    """For each anomaly, the share of the background below it; for each background pixel, of anomalies above it."""
    wins = (score[truth][:, None] > score[~truth]) + 0.5 * (score[truth][:, None] == score[~truth])
    return wins.mean(1), wins.mean(0)


@pytest.mark.parametrize("levels", [1000, 4])  # 4: many ties
def test_delong_is_its_definition(levels):
    rng = np.random.RandomState(0)
    truth = rng.uniform(size=(15, 16)) < 0.15
    common = rng.normal(size=truth.shape) + truth
    maps = [np.round((common + 0.7 * rng.normal(size=truth.shape)) * levels) for _ in range(2)]
    found = delong(*maps, truth)
    (a1, b1), (a2, b2) = (placements(score, truth) for score in maps)
    covariance = np.cov(a1, a2) / len(a1) + np.cov(b1, b2) / len(b1)
    assert found.auc == pytest.approx([auc(score, truth) for score in maps])
    assert found.covariance == pytest.approx(covariance)
    z = (a1.mean() - a2.mean()) / np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert found.z == pytest.approx(z) and found.p == pytest.approx(2 * (1 - stats.norm.cdf(abs(z))))
    assert delong(maps[1], maps[0], truth).z == pytest.approx(-z)


def test_delong_rejects_a_true_null_as_often_as_its_level_says():
    """400 scenes of two maps that are equally good: p below 0.1 in about a tenth (within three standard errors)."""
    rng = np.random.RandomState(1)
    truth = np.zeros((20, 20), bool)
    truth[:3] = True
    rejected = 0
    for _ in range(400):
        common = rng.normal(size=truth.shape) + 1.5 * truth
        rejected += delong(*(common + rng.normal(size=(2, *truth.shape))), truth).p < 0.1
    assert abs(rejected / 400 - 0.1) < 3 * np.sqrt(0.1 * 0.9 / 400)


def test_delong_of_the_same_ranking_finds_no_difference():
    rng = np.random.RandomState(0)
    score, truth = rng.normal(size=(9, 9)), rng.uniform(size=(9, 9)) < 0.3
    found = delong(score, np.exp(score), truth)
    assert found.z == 0 and found.p == 1
    with pytest.raises(ValueError, match="1 anomalous and 80 background pixels"):
        delong(score, score, np.arange(81).reshape(9, 9) == 3)


def test_wilcoxon_p_is_that_of_all_signs_enumerated():
    rng = np.random.RandomState(0)
    difference = rng.normal(0.4, 1, size=9)
    (found,) = compare_methods({"a": difference + 5, "b": np.full(9, 5.0)})
    ranks = stats.rankdata(np.abs(difference))
    sums = [np.dot(ranks, signs) for signs in itertools.product((0, 1), repeat=9)]
    observed = ranks[difference > 0].sum()
    tail = min(np.mean(np.array(sums) >= observed), np.mean(np.array(sums) <= observed))
    assert found.p == found.p_holm == pytest.approx(min(1, 2 * tail))
    assert (found.wins, found.losses) == ((difference > 0).sum(), (difference < 0).sum())
    assert found.difference == pytest.approx(difference.mean())


@pytest.mark.parametrize("seed", range(6))
def test_signed_rank_p_is_that_of_all_signs_with_ties_and_zeros(seed):
    difference = np.random.RandomState(seed).randint(-2, 5, size=10) / 7
    size, signs = np.abs(difference), np.sign(difference)
    ranks = stats.rankdata(size)
    ranks[signs == 0] = 0
    sums = np.array([np.dot(ranks, on) for on in itertools.product(*[(0, 1) if s else (0,) for s in signs])])
    observed = ranks[signs > 0].sum()
    expected = min(1, 2 * min((sums >= observed - 1e-9).mean(), (sums <= observed + 1e-9).mean()))
    assert signed_rank_p(difference) == pytest.approx(expected)


def test_signed_rank_p_of_many_scenes_is_that_of_scipy():
    difference = np.random.RandomState(0).normal(0.1, 1, size=60)
    assert signed_rank_p(difference) == pytest.approx(stats.wilcoxon(difference, method="exact").pvalue)
    assert signed_rank_p(np.zeros(7)) == 1


def test_five_scenes_can_never_be_significant():
    assert signed_rank_p(np.arange(1.0, 6)) == least_p(5) == 0.0625
    assert signed_rank_p(np.arange(1.0, 9)) == least_p(8)
    many = compare_methods({"RX": np.zeros(6), **{f"{i}": np.arange(1.0, 7) for i in range(20)}}, "RX")
    assert {pair.p_holm for pair in many} == {least_p(6, 20)} == {20 / 32}


def test_holm_is_its_step_down_rule():
    """Adjusted p-values below a level are those that the rule rejects: stop at the first p over level / (K - j)."""
    rng = np.random.RandomState(0)
    for _ in range(20):
        p = rng.uniform(0, 0.08, size=6)
        for level in (0.05, 0.1, 0.2):
            rejected = np.zeros(6, bool)
            for step, index in enumerate(np.argsort(p)):
                if p[index] > level / (6 - step):
                    break
                rejected[index] = True
            assert ((holm(p) <= level) == rejected).all()


def test_methods_are_compared_in_pairs_or_with_one():
    rng = np.random.RandomState(0)
    base = rng.uniform(size=30)
    results = {"a": base + 0.2 + 0.05 * rng.normal(size=30), "b": base, "c": base}
    pairs = compare_methods(results)
    assert [(c.first, c.second) for c in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs[0].p_holm == pytest.approx(3 * pairs[0].p) and pairs[0].p_holm < 1e-4
    assert pairs[2].p == pairs[2].p_holm == 1 and pairs[2].wins == pairs[2].losses == 0
    assert [(c.first, c.second) for c in compare_methods(results, reference="b")] == [("a", "b"), ("b", "c")]


@pytest.mark.parametrize("k, q", [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_difference_has_the_published_quantiles(k, q):
    """Table 5 (a) of Demsar (2006), level 0.05."""
    results = {str(i): np.arange(12.0) + i for i in range(k)}
    expected = q * np.sqrt(k * (k + 1) / (6 * 12))
    assert rank_methods(results).critical_difference == pytest.approx(expected, abs=1e-3)


def test_ranks_and_friedmans_p_are_those_of_the_formula():
    rng = np.random.RandomState(0)
    scores = rng.normal((0, 0.5, 1, 1), size=(20, 4))
    found = rank_methods(dict(zip("abcd", scores.T, strict=True)))
    mean_ranks = np.array([[1 + (row > value).sum() for value in row] for row in scores]).mean(0)
    assert found.names == [list("abcd")[i] for i in np.argsort(mean_ranks)]
    assert found.mean_ranks == pytest.approx(np.sort(mean_ranks))
    chi_square = 12 * 20 / (4 * 5) * ((mean_ranks - 2.5) ** 2).sum()
    assert found.p == pytest.approx(stats.chi2.sf(chi_square, 3))
    assert rank_methods({"a": [1.0, 1.0], "b": [1.0, 1.0], "c": [1.0, 1.0]}).p == 1


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_critical_difference_figure_is_written(tmp_path, suffix):
    rng = np.random.RandomState(0)
    ranks = rank_methods({name: rng.normal(i, 2, size=25) for i, name in enumerate(("RX", "CRD", "FERS", "LREN"))})
    path = critical_difference_figure(ranks, tmp_path / f"cd.{suffix}")
    assert path.stat().st_size > 3000 and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"found a: 2, b: 3\. Keep"):
        compare_methods({"a": [1, 2], "b": [1, 2, 3]})
    with pytest.raises(ValueError, match="two methods or more"):
        rank_methods({"a": [1.0]})
    with pytest.raises(ValueError, match="NaN"):
        rank_methods({"a": [1.0, np.nan], "b": [1.0, 2.0]})
    with pytest.raises(ValueError, match="no method z; found a, b"):
        compare_methods({"a": [1.0], "b": [2.0]}, reference="z")
    with pytest.raises(ValueError, match="finite numbers"):
        mean_interval([0.9, np.nan])
    with pytest.raises(ValueError, match="1 names for 2 values"):
        mean_interval([0.9, 0.8], ["a"])
