"""Thresholds with a stated rate that anomalies do not lift, and targets and candidates cut from a map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import logit

from experiments.thresholds import LAWS, Map, after, before, planted, with_objects
from fers.detection.detect import detect
from fers.detection.findings import Findings, no_spectra
from fers.detection.options import DetectOptions
from fers.detection.targets import background_ring, find_candidates, find_targets, threshold_for_count
from fers.detection.thresholds import ACCEPTED, Tail, choose_threshold
from fers.util.errors import FersError

RANKS = (np.arange(1, 10_001) - 0.5) / 10_000
LOGISTIC = logit(RANKS)  # quantiles of a logistic law, which a score exceeds by the rate f above logit(1 - f)


def contaminated(share: float = 0.02) -> np.ndarray:
    """A share of the values, evenly over their ranks, raised far above all others."""
    values = LOGISTIC.copy()
    values[:: round(1 / share)] += 12
    return values


def test_without_anomalies_the_fit_is_the_plain_one():
    tail = Tail.fit(LOGISTIC, signed=True)
    assert not tail.contaminated and tail.notes == [] and tail.share == pytest.approx(0.05)
    assert (tail.start, tail.shape, tail.scale) == pytest.approx((2.9435, -0.0187, 1.0453), abs=2e-4)
    assert tail.threshold(1e-4) == pytest.approx(9.0767, rel=1e-4)
    assert tail.threshold(1e-4) == pytest.approx(before(LOGISTIC, True, 1e-4), rel=1e-9)
    assert tail.threshold(1e-3) == pytest.approx(6.8869, rel=1e-4)


def test_anomalies_do_not_lift_the_threshold():
    tail = Tail.fit(contaminated(), signed=True)
    assert tail.contaminated and (tail.above, tail.expected) == (209, 10) and "209 pixels" in tail.notes[0]
    assert abs(tail.threshold(1e-4) - logit(1 - 1e-4)) < 0.4 and abs(tail.threshold(1e-3) - logit(1 - 1e-3)) < 0.1
    assert before(contaminated(), True, 1e-4) > 18  # what a plain fit makes of them
    assert tail.realised(tail.threshold(1e-4)) == pytest.approx(0.0192, abs=2e-4)


def test_more_anomalies_than_allowed_for_lift_it_unless_told():
    many = contaminated(0.05)
    assert Tail.fit(many, signed=True).threshold(1e-4) > 15
    told = Tail.fit(many, signed=True, anomalies_at_most=0.07)
    assert abs(told.threshold(1e-4) - logit(1 - 1e-4)) < 1 and told.contaminated


@pytest.mark.parametrize("name", ["planted_7_px_fused-C", "pure_fused-C", "abu-beach-4_fused-C", "abu-urban-1_fused-C", "abu-urban-2_log_rx"])  # fmt: skip
def test_the_rule_agrees_with_an_independent_one(golden, name):
    values = golden("threshold")
    tail = Tail.fit(values[f"{name}/y"], signed=True)
    assert (tail.contaminated, tail.above) == (values[f"{name}/contaminated"], values[f"{name}/above"])
    for mine, theirs in (("shape", "k"), ("scale", "s"), ("share", "share"), ("start", "u")):
        assert getattr(tail, mine) == pytest.approx(float(values[f"{name}/{theirs}"]), abs=1e-4)
    for rate, key in ((1e-4, "threshold_1e_4"), (1e-3, "threshold_1e_3")):
        assert tail.threshold(rate) == pytest.approx(float(values[f"{name}/{key}"]), rel=1e-5)


@pytest.mark.parametrize("law", LAWS)
def test_the_rate_is_met_on_backgrounds_of_a_known_law(law):
    """A million draws, and of these a sample without chance: every fiftieth in their order."""
    draw, signed = LAWS[law]
    known = np.sort(draw(np.random.RandomState(1), 1_000_000))
    for rate in (1e-3, 1e-4):
        assert rate / 2 < np.mean(known >= after(known[25::50], signed, rate)) < rate * 2


def test_positive_scores_are_taken_by_their_logarithm():
    positive, signed = Tail.fit(np.exp(contaminated())), Tail.fit(contaminated(), signed=True)
    assert positive.shape == pytest.approx(signed.shape, abs=1e-6)
    assert np.log(positive.threshold(1e-4)) == pytest.approx(signed.threshold(1e-4), rel=1e-6)
    np.testing.assert_allclose(positive.probability(np.exp([4.0, 8.0])), signed.probability(np.array([4.0, 8.0])))


def test_negative_scores_have_no_logarithm_and_it_is_told():
    tail = Tail.fit(LOGISTIC)
    assert tail.signed and tail.negative and "signed = True" in tail.notes[0]
    assert tail.threshold(1e-4) == Tail.fit(LOGISTIC, signed=True).threshold(1e-4)


def test_probabilities_fall_with_the_score_and_keep_nan():
    tail = Tail.fit(np.append(np.random.RandomState(0).gamma(3, size=20_000), np.nan))
    score = np.linspace(0, 40, 2000)
    probability = tail.probability(score)
    assert (np.diff(probability) <= 1e-4).all() and probability[0] == 1 and probability[-1] >= 1e-12
    assert np.isnan(tail.probability(np.array([[np.nan]]))).all()
    assert tail.count == 20_000
    value = tail.threshold(1e-3)
    assert tail.probability(value) == pytest.approx(1e-3, rel=1e-6)
    assert tail.realised(value) == np.mean(tail.scores >= value)


def test_few_scores_have_counted_quantiles():
    scores = np.arange(1000.0)
    tail = Tail.fit(scores)
    assert tail.shape is None and tail.threshold(0.01) == np.quantile(scores, 0.99)
    assert choose_threshold(tail, far=0.01).rule == "counted quantile" and "too few" in tail.notes[0]
    assert tail.probability(2000.0) == 0.5 / 1000
    assert Tail.fit(LOGISTIC[:3100], signed=True).shape is not None  # 62 scores between both quantiles


def test_a_constant_map_has_a_tail_too():
    tail = Tail.fit(np.ones(10_000))
    assert tail.threshold(1e-3) == 1 and tail.shape is None
    assert Tail.fit(np.zeros(10_000)).threshold(1e-3) == 0


def test_a_tail_at_its_limits_says_so():
    tail = replace(Tail.fit(LOGISTIC, signed=True), shape=-0.4, settled=False)
    assert ["limit" in tail.notes[0], "did not settle" in tail.notes[1]] == [True, True]


def test_a_growing_fit_that_takes_the_anomalies_in_is_no_plain_tail():
    """A shoulder and a plateau, as a large patch leaves them: the plain fit's shape is beyond the limit."""
    values = np.interp(RANKS, [0, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 1], [5, 6, 6.17, 6.32, 6.49, 7.25, 8.03, 60])
    tail = Tail.fit(values, signed=True)
    assert tail.contaminated and abs(tail.shape) <= 0.4 and tail.threshold(1e-4) < before(values, True, 1e-4)


def test_each_rule_says_what_it_is():
    tail = Tail.fit(np.random.RandomState(0).chisquare(50, size=50_000))
    nominal = choose_threshold(tail, chi2=1e-3, rank=50)
    assert nominal.value == pytest.approx(stats.chi2.isf(1e-3, 50)) and "nominal only" in nominal.sentence
    assert choose_threshold(tail, quantile=0.9).realised == pytest.approx(0.1, abs=1e-4)
    assert choose_threshold(tail, score=60.0).nominal is None
    far = choose_threshold(tail, far=1e-3)
    assert "realised" in far.sentence and "50 expected" in far.sentence and far.rule == "fitted tail"
    assert choose_threshold(tail, far=0.5).rule == "counted quantile"


def test_a_share_of_false_pixels_is_kept_by_benjamini_and_hochberg():
    tail = Tail.fit(contaminated(0.005), signed=True)
    chosen = choose_threshold(tail, fdr=0.1)
    ordered = np.sort(tail.probability(tail.scores))
    passing = np.flatnonzero(ordered <= 0.1 * np.arange(1, 10_001) / 10_000) + 1
    assert round(chosen.realised * 10_000) == passing[-1] and "share of false pixels 0.1" in chosen.sentence
    assert 50 <= passing[-1] <= 60  # the 50 anomalies, and a tenth of false ones
    assert choose_threshold(Tail.fit(LOGISTIC, signed=True), fdr=1e-4).realised == 0
    assert choose_threshold(Tail.fit(np.arange(1000.0)), fdr=0.1).realised == 0


def test_no_score_is_no_tail():
    with pytest.raises(FersError, match="no pixel has a score"):
        Tail.fit(np.array([np.nan]))
    assert DetectOptions().far < ACCEPTED


@pytest.mark.parametrize(("heavy", "patch", "seed"), [(False, 0, 0), (False, 7, 6), (True, 5, 5)])
@pytest.mark.parametrize(
    ("setting", "least"), [({"features": "original"}, 5), ({"fusion": "C"}, 5), ({"fusion": "D"}, 4)], ids=str
)
def test_point_targets_are_found_beside_a_saturated_patch(heavy, patch, seed, setting, least):
    cube, truth, inside = planted(heavy, patch, seed)
    result = detect(cube, **setting)
    found = result.score >= result.threshold.value
    assert found[truth & ~inside].sum() >= (4 if heavy else least) and (found & ~truth).sum() <= 0.003 * truth.size
    if patch:
        plain = before(result.score, "fusion" in setting, 1e-4)
        assert (result.score[truth & ~inside] >= plain).sum() < found[truth & ~inside].sum()
        assert result.about["tail"]["contaminated"] and "pixels score higher" in result.about["threshold_notes"][0]
    assert len(result.candidates) == 20 and result.candidates[0]["rank"] == len(result.targets) + 1


def test_another_threshold_needs_the_score_map_only():
    cube, *_ = planted(False, 3, 3)
    first = detect(cube, features="original")
    options = replace(first.scene.options, far=None, fdr=0.2, candidates=5)
    scene = replace(first.scene, options=options, spectra=no_spectra, statistics=None)
    again = Findings.of(scene)
    assert len(again.candidates) == 5 and again.detections[0]["row"] == first.detections[0]["row"]
    assert again.detections[0]["spectrum"] is None and "share of false pixels" in again.threshold.sentence


def test_targets_at_the_border_are_told_where_scores_are_local():
    cube = np.random.RandomState(0).normal(size=(80, 60, 20)).astype(np.float32)
    cube[0, 30] += 40
    assert any("border" in note for note in detect(cube, fusion="C").notes)
    assert not any("border" in note for note in detect(cube, features="original").notes)


def test_the_table_counts_objects_and_false_pixels():
    score, truth = np.zeros((100, 100)), np.zeros((100, 100), bool)
    score[:] = np.random.RandomState(0).permutation(LOGISTIC).reshape(100, 100)
    score[10, 10] = score[50, 50:53] = 40
    truth[10, 10] = truth[50, 50:53] = truth[80, 80] = True
    score[80, 80] = 0
    rows = {(row["far"], row["rule"]): row for row in with_objects("made", "fusion C", [Map(score, truth)])}
    assert rows["0.001", "after"]["objects"] == "2 of 3" and rows["0.001", "after"]["scenes without"] == "0 of 1"
    assert rows["0.0001", "best, by the truth"]["realised / nominal, mean"] == "1.00"


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


def test_candidates_are_the_best_pixels_that_touch_no_target():
    score = score_map()
    targets, labels = find_targets(score, 8)  # one pixel; its neighbour at a corner has 5
    below = find_candidates(score, labels, 2)
    assert len(targets) == 1 and [(t.row, t.column, t.pixels) for t in below] == [(18, 29, 1), (10, 10, 12)]
    assert [labels[t.row, t.column] for t in below] == [t.label for t in below]
    assert len({t.label for t in [*targets, *below]}) == 3 and (labels > 0).sum() == 14
    assert find_candidates(score, labels, 0) == []
    assert find_candidates(np.full((5, 5), np.nan), np.zeros((5, 5), np.int32), 3) == []
    _, everything = find_targets(score, -1)
    assert find_candidates(score, everything, 3) == []
