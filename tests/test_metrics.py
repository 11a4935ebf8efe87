"""The measures against scikit-learn, closed forms, and the 3-D ROC curve by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import trapezoid
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_curve

from fers.evaluation.metrics import as_truth, asnpr, auc, average_precision, measures, partial_auc, pd_at, roc, roc_3d
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
    }
    assert roc_3d(score, truth) == pytest.approx(expected)


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
    assert len(found) == 13 and all(type(value) is float and np.isfinite(value) for value in found.values())


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
    assert measures(score, truth, left_out) == expected != measures(score, truth)
    holes = np.where(left_out, np.nan, score)
    assert measures(holes, truth, left_out) == measures(holes, truth, np.zeros_like(left_out)) == expected
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
