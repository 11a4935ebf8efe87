"""The measures against scikit-learn, closed forms, and the 3-D ROC curve by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import trapezoid
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_curve

from fers.evaluation.metrics import (
    MEASURES,
    as_truth,
    asnpr,
    auc,
    average_precision,
    chance_levels,
    measures,
    objects_found,
    objects_of,
    partial_auc,
    pd_at,
    roc,
    roc_3d,
    roc_3d_curve,
    scene_measures,
)
from fers.util.errors import FersError


def random_map(seed=0, shape=(40, 50), levels=None, anomalies=0.05):
    rng = np.random.RandomState(seed)
    truth = rng.uniform(size=shape) < anomalies
    score = rng.gamma(1.0, size=shape) + 2.5 * truth
    return (np.floor(score * levels) if levels else score), truth


@pytest.mark.parametrize("levels", [None, 3])  # 3: many ties
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32])
def test_auc_is_that_of_scikit_learn(levels, dtype):
    score, truth = random_map(levels=levels)
    score = (score * 8).astype(dtype)
    assert auc(score, truth) == pytest.approx(roc_auc_score(truth.ravel(), score.ravel()), rel=1e-12)


@pytest.mark.parametrize("levels", [None, 3])
def test_roc_is_the_corners_of_scikit_learns_curve(levels):
    score, truth = random_map(levels=levels)
    false_positive, true_positive = roc(score, truth)
    points = set(zip(*sklearn_curve(truth.ravel(), score.ravel(), drop_intermediate=False)[:2], strict=True))
    assert set(zip(false_positive, true_positive, strict=True)) <= points and len(false_positive) < len(points)
    assert (false_positive[0], true_positive[0], false_positive[-1], true_positive[-1]) == (0, 0, 1, 1)
    assert trapezoid(true_positive, false_positive) == pytest.approx(auc(score, truth), rel=1e-12)


def areas_over_threshold(score, truth, steps=20001):
    """Both integrals over tau by their definition, on a fine grid."""
    scaled = (score - score.min()) / (score.max() - score.min())
    grid = (np.arange(steps) + 0.5) / steps
    return [1 - np.searchsorted(np.sort(scaled[of]), grid).mean() / of.sum() for of in (truth, ~truth)]


@pytest.mark.parametrize("levels", [None, 3])
def test_3d_roc_areas_are_the_integrals_over_the_threshold(levels):
    score, truth = random_map(levels=levels)
    found = roc_3d(score, truth)
    assert [found["AUC(D,tau)"], found["AUC(F,tau)"]] == pytest.approx(areas_over_threshold(score, truth), abs=1e-4)


def test_3d_roc_measures_of_a_map_worked_out_by_hand():
    """Anomalies at 0.8 and 0.4; background at 0, 0.2, 0.6 and 1.0 after scaling."""
    score = np.array([[8.0, 4.0, 0.0], [2.0, 6.0, 10.0]]) * 3 + 7
    truth = np.array([[True, True, False], [False, False, False]])
    expected = {
        "AUC(D,F)": (3 + 2) / 8,
        "AUC(D,tau)": 0.6,
        "AUC(F,tau)": 0.45,
        "AUC_TD": 1.225,
        "AUC_BS": 0.175,
        "AUC_SNPR": 4 / 3,
        "AUC_TDBS": 0.15,
        "AUC_ODP": 1.15,
        "AUC_OD": 0.775,
    }
    assert roc_3d(score, truth) == pytest.approx(expected)


def test_3d_roc_measures_are_those_of_the_field_notes_worked_example():
    """Background 0 1 1 2 3 5, anomalies 2 6 8 10: values by hand, and MATLAB-style trapezoids beside the exact means."""
    score = np.array([[0, 1, 1, 2, 3], [5, 2, 6, 8, 10]])
    truth = np.array([[0] * 5, [0, 255, 255, 255, 255]], np.uint8)
    names = ("AUC(D,F)", "AUC(D,tau)", "AUC(F,tau)", "AUC_TD", "AUC_BS", "AUC_SNPR", "AUC_TDBS", "AUC_ODP", "AUC_OD")
    by_hand = (0.895833, 0.65, 0.2, 1.545833, 0.695833, 3.25, 0.45, 1.45, 1.345833)
    assert roc_3d(score, truth) == pytest.approx(dict(zip(names, by_hand, strict=True)), abs=1e-6)
    tau, pf, pd = roc_3d_curve(score, truth)
    trapezoids = [-trapezoid([*shares], tau) for shares in (pd, pf)]
    assert trapezoids == pytest.approx([0.7125, 0.258333], abs=1e-6)
    heights = -np.diff(np.append(tau, 0.0))
    assert [heights @ pd, heights @ pf] == pytest.approx([0.65, 0.2])  # steps, not trapezoids: exact


def test_perfect_and_constant_maps_have_the_ends_of_each_scale():
    truth = np.zeros((6, 6), bool)
    truth[2, 3] = True
    perfect = measures(truth.astype(float), truth)
    assert perfect["AUC_SNPR"] == perfect["ASNPR"] == np.inf and perfect["AUC_ODP"] == perfect["AUC_TD"] == 2
    assert perfect["AP"] == perfect["pAUC@0.001"] == perfect["Pd@0.001"] == perfect["AUC_BS"] == 1
    constant = measures(np.full((6, 6), 3.0), truth)
    assert constant["AUC(D,F)"] == 0.5 and constant["AUC_SNPR"] == 1 and constant["ASNPR"] == 0
    assert constant["Pd@0.01"] == 0 and constant["pAUC@0.001"] == pytest.approx(0.0005)
    worst = measures(1.0 - truth, truth)
    assert worst["AUC(D,F)"] == worst["AUC_SNPR"] == 0 and worst["AUC_TDBS"] == -1 and worst["ASNPR"] == 0


def trapezoidal_asnpr(score, truth):
    """Area by the trapezoidal rule over the scores that occur, as published programs compute it."""
    cut = np.minimum(score, np.median(score[truth]))
    cut = (cut - cut.min()) / (cut.max() - cut.min())
    thresholds = np.unique(cut)
    areas = [trapezoid([(cut[of] >= t).mean() for t in thresholds], thresholds) for of in (truth, ~truth)]
    return 10 * np.log10(areas[0] / areas[1])


def test_asnpr_is_the_ratio_in_decibels_after_the_cut_at_the_anomalies_median():
    score, truth = random_map()
    assert asnpr(score, truth) == pytest.approx(trapezoidal_asnpr(score, truth), abs=0.01)
    by_hand = np.array([[9.0, 4.0, 5.0], [0.0, 1.0, 2.0]])  # median 5: anomalies 5, 4, 5 and background 0, 1, 2, of 5
    first_row = np.array([[True] * 3, [False] * 3])
    assert asnpr(by_hand, first_row) == pytest.approx(10 * np.log10((14 / 15) / (3 / 15)))


def test_asnpr_does_not_change_with_one_bright_pixel_and_snpr_does():
    score, truth = random_map()
    brighter = score.copy()
    brighter[np.unravel_index(score.argmax(), score.shape)] *= 100
    assert asnpr(brighter, truth) == pytest.approx(asnpr(score, truth), rel=1e-12)
    assert roc_3d(brighter, truth)["AUC(D,tau)"] < 0.1 * roc_3d(score, truth)["AUC(D,tau)"]


@pytest.mark.parametrize("pf", [1e-3, 1e-2, 0.2, 1.0])
@pytest.mark.parametrize("levels", [None, 3])
def test_partial_auc_agrees_with_scikit_learns_standardised_form(pf, levels):
    score, truth = random_map(levels=levels)
    area = partial_auc(score, truth, pf) * pf
    lowest, highest = pf**2 / 2, pf
    standardised = 0.5 * (1 + (area - lowest) / (highest - lowest))
    expected = roc_auc_score(truth.ravel(), score.ravel(), max_fpr=pf)
    assert standardised == pytest.approx(expected, rel=1e-9)


def test_pd_at_a_false_alarm_rate_is_that_of_the_lowest_threshold_allowed():
    score, truth = random_map(levels=20)
    for pf in (1e-3, 1e-2, 0.1):
        allowed = [(score[truth] >= t).mean() for t in np.unique(score) if (score[~truth] >= t).mean() <= pf]
        assert pd_at(score, truth, pf) == max(allowed)
    false_positive, true_positive, _ = sklearn_curve(truth.ravel(), score.ravel(), drop_intermediate=False)
    assert pd_at(score, truth, false_positive[5]) == true_positive[false_positive == false_positive[5]].max()


def test_average_precision_is_that_of_scikit_learn_and_all_are_finite_numbers():
    score, truth = random_map()
    found = measures(score, truth)
    assert found["AP"] == pytest.approx(average_precision_score(truth.ravel(), score.ravel()), rel=1e-12)
    assert list(found) == [m.title for m in MEASURES.values()] and all(
        type(value) is float and np.isfinite(value) for value in found.values()
    )


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float64])
@pytest.mark.parametrize("of_anomalies", [1, 255])
def test_a_truth_may_be_of_any_type_with_two_values(kind, of_anomalies):
    score, truth = random_map()
    other = (truth * of_anomalies).astype(kind)
    assert measures(score, other) == measures(score, truth)
    for measure in (auc, asnpr, average_precision, partial_auc):
        assert measure(score, other) == measure(score, truth)
    assert np.array_equal(as_truth(other), truth) and roc_3d(score, other) == roc_3d(score, truth)
    assert pd_at(score, other, 0.01) == pd_at(score, truth, 0.01)
    assert np.array_equal(roc(score, other), roc(score, truth))


@pytest.mark.parametrize("truth", [[[0, 1], [2, 0]], [[0.0, np.nan], [1, 0]], [["a", "b"], ["", "a"]]])
def test_a_truth_of_other_values_is_refused(truth):
    with pytest.raises(FersError, match="0 for background and one other number"):
        auc(np.zeros((2, 2)), np.array(truth))


def test_pixels_left_out_have_no_part_in_any_measure():
    score, truth = random_map()
    left_out = np.random.RandomState(1).uniform(size=truth.shape) < 0.3
    expected = measures(score[~left_out][None], truth[~left_out][None])
    found = measures(score, truth, left_out)
    assert {k: v for k, v in found.items() if "objects" not in k} == {
        k: v for k, v in expected.items() if "objects" not in k
    }
    assert found != measures(score, truth)
    holes = np.where(left_out, np.nan, score)
    assert measures(holes, truth, left_out) == measures(holes, truth, np.zeros_like(left_out)) == found
    assert scene_measures(score, truth, left_out) == scene_measures(score, truth, left_out.astype(np.uint8) * 255)
    assert (
        auc(holes, truth, left_out) == expected["AUC(D,F)"]
        and pd_at(holes, truth, 1e-2, left_out) == expected["Pd@0.01"]
    )
    with pytest.raises(FersError, match=r"left_out \(40, 49\)"):
        auc(score, truth, left_out[:, 1:])


def test_what_has_no_metrics_is_refused():
    score, truth = random_map()
    for measure in (measures, roc_3d, roc, asnpr, average_precision, partial_auc):
        with pytest.raises(FersError, match="lacks anomalies or background"):
            measure(score, np.zeros_like(truth))
    with pytest.raises(FersError, match="lacks anomalies or background"):
        measures(score, truth, left_out=truth)
    with pytest.raises(FersError, match=r"score map is \(40, 49\), the truth \(40, 50\).*one scene"):
        measures(score[:, 1:], truth)
    with pytest.raises(FersError, match=r"NaN or infinite values\. Fix the detector"):
        asnpr(np.where(truth, np.nan, score), truth)
    with pytest.raises(FersError, match="NaN or infinite"):
        auc(np.where(truth, np.inf, score), truth, np.zeros_like(truth))


def flooded(truth):
    """Objects of a truth as sets of pixels, by a plain flood fill over eight neighbours."""
    left, objects = set(zip(*np.nonzero(truth), strict=True)), []
    while left:
        stack, one = [left.pop()], set()
        while stack:
            r, c = stack.pop()
            one.add((r, c))
            near = {(r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            stack += near
        objects.append(one)
    return objects


@pytest.mark.parametrize("levels", [None, 4])  # 4: many ties
@pytest.mark.parametrize("rate", [0, 100, 1000, 30_000, 1_000_000])
def test_objects_found_are_those_of_plain_loops(levels, rate):
    score, truth = random_map(seed=3, levels=levels)
    left_out = np.random.RandomState(1).uniform(size=truth.shape) < 0.2
    objects = [[p for p in one if not left_out[p]] for one in flooded(truth)]
    objects = [one for one in objects if one]
    background = [score[p] for p in np.ndindex(truth.shape) if not truth[p] and not left_out[p]]
    allowed = rate * int((~left_out).sum()) // 1_000_000
    best = 0
    for threshold in np.unique(score):
        if sum(value >= threshold for value in background) <= allowed:
            best = max(best, sum(any(score[p] >= threshold for p in one) for one in objects))
    assert objects_found(score, truth, rate, left_out) == best
    assert scene_measures(score, truth, left_out)["objects"] == len(objects)


def test_objects_touch_at_corners_and_one_that_is_left_out_is_none():
    truth = np.zeros((6, 6), np.uint8)
    truth[[0, 1, 4, 4], [0, 1, 4, 5]] = 255
    numbers, count = objects_of(truth)
    assert count == 2 and numbers[0, 0] == numbers[1, 1] != numbers[4, 4] == numbers[4, 5]
    score = np.arange(36.0).reshape(6, 6)
    assert objects_found(score, truth, 1e6 * 6 / 36) == 1 and objects_found(score, truth, 0) == 0
    assert scene_measures(score, truth, numbers == 1)["objects"] == 1
    assert scene_measures(score, truth, truth)["objects"] is None


def test_chance_levels_are_what_random_maps_have_in_the_mean():
    rng = np.random.RandomState(0)
    truth = rng.uniform(size=(100, 100)) < 0.05
    found = [scene_measures(rng.uniform(size=truth.shape), truth) for _ in range(60)]
    levels = chance_levels(truth)
    assert set(levels) < set(MEASURES) and levels["ap"] == truth.mean()
    for key, level in levels.items():
        values = np.array([one[key] for one in found])
        assert values.mean() == pytest.approx(level, abs=4 * values.std() / np.sqrt(60) + 3e-4 + 0.02 * level), key


def test_every_measure_is_none_where_a_class_is_missing():
    score, truth = random_map()
    assert scene_measures(score, np.zeros_like(truth)) == dict.fromkeys(MEASURES)
