"""Measures of how well a score map tells anomalies from background: AUC, Chang's 3-D ROC, and measures at few false alarms.

``MEASURES`` lists them all: how tables call each, which way is better, and what chance gives.

Every function takes a score map ``(H, W)``, higher is more anomalous, and the truth ``(H, W)``: bool, or 0 and one other
number, such as 0/1 or 0/255. ``left_out`` ``(H, W)`` bool, True = out, names pixels that do not count; where it is
given, pixels whose score is NaN do not count either. ``D`` stands for the detection probability Pd (the share of
anomalous pixels at or above a threshold tau), ``F`` for the false-alarm probability Pf (the same share of background
pixels). Scores are scaled to [0, 1] by the map's minimum and maximum before a threshold is compared between maps.

scikit-learn has some of these. Importing ``sklearn.metrics`` costs 1.1 s of CPU time, so only the tests use it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fers.util.errors import FersError

FALSE_ALARMS = (1e-3, 1e-2)  # the rates that the tables show
ALARMS_PER_MEGAPIXEL = (100, 1000)  # false-alarm pixels, for the objects found


class Measure(NamedTuple):
    """One measure of a score map."""

    title: str  # head of its column
    higher_is_better: bool = True
    chance: Callable[[float], float] | None = None  # value of random scores, from the anomalies' share of the pixels
    bounds: tuple[float, float] = (0.0, 1.0)  # its lowest and its highest value


MEASURES: dict[str, Measure] = {
    "auc": Measure("AUC(D,F)", chance=lambda share: 0.5),
    "ap": Measure("AP", chance=lambda share: share),
    "pd@1e-3": Measure("Pd@0.001", chance=lambda share: 1e-3),
    "pd@1e-2": Measure("Pd@0.01", chance=lambda share: 1e-2),
    "pauc@1e-3": Measure("pAUC@0.001", chance=lambda share: 1e-3 / 2),
    "pauc@1e-2": Measure("pAUC@0.01", chance=lambda share: 1e-2 / 2),
    "objects@100": Measure("objects@100", bounds=(0, np.inf)),
    "objects@1000": Measure("objects@1000", bounds=(0, np.inf)),
    "objects": Measure("objects", bounds=(0, np.inf)),  # that there are
    "auc_d_tau": Measure("AUC(D,tau)"),
    "auc_f_tau": Measure("AUC(F,tau)", higher_is_better=False),
    "auc_td": Measure("AUC_TD", bounds=(0, 2)),
    "auc_bs": Measure("AUC_BS", bounds=(-1, 1)),
    "auc_snpr": Measure("AUC_SNPR", chance=lambda share: 1.0, bounds=(0, np.inf)),
    "auc_tdbs": Measure("AUC_TDBS", chance=lambda share: 0.0, bounds=(-1, 1)),
    "auc_odp": Measure("AUC_ODP", chance=lambda share: 1.0, bounds=(0, 2)),
    "auc_od": Measure("AUC_OD", chance=lambda share: 0.5, bounds=(-1, 2)),
    "asnpr": Measure("ASNPR", chance=lambda share: 0.0, bounds=(-np.inf, np.inf)),
}
SCENE_MEASURES = ("auc", "ap", "pd@1e-3", "pd@1e-2")  # that results.json keeps of each scene


def as_truth(truth: np.ndarray) -> np.ndarray:
    """Convert a truth, bool or 0 and one other number, to bool, True at anomalies; refuse other values.

    Example:
        >>> as_truth(np.array([[0, 255]], np.uint8)).tolist()
        [[False, True]]
    """
    truth = np.asarray(truth)
    if truth.dtype == bool:
        return truth
    values = np.unique(truth) if truth.dtype.kind in "iuf" else truth.ravel()
    if truth.dtype.kind not in "iuf" or not np.isfinite(values).all() or np.count_nonzero(values) > 1:
        shown = ", ".join(f"{value}" for value in values[:5])
        raise FersError(
            f"the truth is {truth.dtype} and holds {shown}{', ...' if len(values) > 5 else ''}. "
            "Give bool, or 0 for background and one other number for anomalies."
        )
    return truth != 0


def has_both_classes(truth: np.ndarray) -> bool:
    """Tell whether there are anomalies and background; without both there is no AUC."""
    truth = as_truth(truth)
    return bool(truth.any() and not truth.all())


def counted(score: np.ndarray, truth: np.ndarray, left_out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Take scores ``(P,)`` and truth ``(P,)`` bool of the P pixels that count.

    Raises:
        FersError: The shapes differ, a score that counts is not finite, or the truth has other values.
    """
    score, truth = np.asarray(score), as_truth(truth)
    for name, shape in (("truth", truth.shape), ("left_out", score.shape if left_out is None else left_out.shape)):
        if shape != score.shape:
            raise FersError(f"the score map is {score.shape}, the {name} {shape}. Give both of one scene, rows first.")
    used = _used(score, left_out)
    score, truth = score[used], truth[used]
    if not np.isfinite(score).all():
        raise FersError(
            "the score map holds NaN or infinite values. Fix the detector: every pixel needs a finite score."
        )
    return score, truth


def _used(score: np.ndarray, left_out: np.ndarray | None) -> np.ndarray:
    return np.ones(score.shape, bool) if left_out is None else ~(as_truth(left_out) | np.isnan(score))


def auc(score: np.ndarray, truth: np.ndarray, left_out: np.ndarray | None = None) -> float | None:
    """Area under the ROC curve: the chance that an anomalous pixel scores higher than one of the background.

    Returns:
        In [0, 1]; ties count half. None where the truth lacks a class.

    Raises:
        FersError: The score map holds NaN or infinite values, or is of another shape, or the truth has other values.

    Example:
        >>> auc(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0, 1], [0, 1]]))
        0.75
    """
    score, truth = counted(score, truth, left_out)
    if not has_both_classes(truth):
        return None
    false_positives, true_positives = _counts_above(score, truth)
    twice_the_pairs = np.diff(false_positives) @ (true_positives[1:] + true_positives[:-1])  # whole numbers: exact
    return float(twice_the_pairs / 2 / (false_positives[-1] * true_positives[-1]))


def roc(score: np.ndarray, truth: np.ndarray, left_out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the ROC curve: false and true positive rates, each rising from 0 to 1.

    A truth that lacks a class is refused, here and in all that follow.
    """
    false_positives, true_positives = _counts_above(*_both_classes(score, truth, left_out))
    bends = (np.diff(false_positives, 2) != 0) | (np.diff(true_positives, 2) != 0)
    corners = np.flatnonzero([True, *bends, True])
    return false_positives[corners] / false_positives[-1], true_positives[corners] / true_positives[-1]


def pd_at(score: np.ndarray, truth: np.ndarray, pf: float, left_out: np.ndarray | None = None) -> float:
    """Highest detection probability of a threshold whose false-alarm probability is at most ``pf``.

    Nothing is interpolated, so in a scene of fewer than ``1 / pf`` background pixels it is Pd without a false alarm.
    """
    false_positives, true_positives = _counts_above(*_both_classes(score, truth, left_out))
    allowed = false_positives / false_positives[-1] <= pf
    return float(true_positives[allowed][-1] / true_positives[-1])


def average_precision(score: np.ndarray, truth: np.ndarray, left_out: np.ndarray | None = None) -> float:
    """Mean over the anomalies of the precision at the threshold that just detects them: area under precision and recall."""
    false_positives, true_positives = _counts_above(*_both_classes(score, truth, left_out))
    precision = true_positives[1:] / (true_positives[1:] + false_positives[1:])
    return float(np.diff(true_positives) @ precision / true_positives[-1])


def objects_of(truth: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the objects of a truth ``(H, W)``: groups of anomalous pixels that touch, at a corner too.

    Returns:
        ``(H, W)`` int, 0 for background and 1, 2, ... for the objects; and how many there are.
    """
    from scipy.ndimage import label  # what reads an AUC only does not wait for it

    truth = as_truth(truth)
    return label(truth, np.ones((3,) * truth.ndim, int))


def objects_found(
    score: np.ndarray,
    truth: np.ndarray,
    per_megapixel: float = ALARMS_PER_MEGAPIXEL[0],
    left_out: np.ndarray | None = None,
) -> int:
    """Count the objects that a threshold finds which lets at most so many background pixels through.

    An object is found when one of its pixels is at or above the threshold. The threshold is the lowest whose false
    alarms are at most ``per_megapixel`` for each million pixels that count, rounded down: of 100 x 100 pixels, 100
    allows one. Where every threshold has more, nothing is found.

    Args:
        score: ``(H, W)``.
        truth: ``(H, W)``; ``objects_of`` says what an object is. One without a pixel that counts is none.
        per_megapixel: False-alarm pixels for each million pixels.
        left_out: ``(H, W)``; see above.
    """
    scores, of_objects = counted(score, truth, left_out)
    alarms, allowed = np.sort(scores[~of_objects])[::-1], int(per_megapixel * scores.size / 1e6 + 1e-9)
    peaks = _object_peaks(score, truth, left_out)
    return int((peaks > alarms[allowed]).sum()) if allowed < alarms.size else len(peaks)


def _object_peaks(score: np.ndarray, truth: np.ndarray, left_out: np.ndarray | None) -> np.ndarray:
    """Highest score of each object that has a pixel that counts."""
    scores, of_objects = counted(score, truth, left_out)
    _, numbers = np.unique(objects_of(truth)[0][_used(score, left_out)][of_objects], return_inverse=True)
    peaks = np.full(numbers.max(initial=-1) + 1, -np.inf)
    np.maximum.at(peaks, numbers, scores[of_objects])
    return peaks


def partial_auc(
    score: np.ndarray, truth: np.ndarray, pf: float = FALSE_ALARMS[0], left_out: np.ndarray | None = None
) -> float:
    """Mean of Pd over false-alarm probabilities from 0 to ``pf``: the area there, divided by ``pf``.

    1 is perfect; chance is ``pf / 2``. The curve is linear between thresholds, as for the AUC.
    """
    false_positive, true_positive = roc(score, truth, left_out)
    inside = false_positive <= pf
    rates = np.append(false_positive[inside], pf)
    detections = np.append(true_positive[inside], np.interp(pf, false_positive, true_positive))
    return float(np.diff(rates) @ (detections[1:] + detections[:-1]) / 2 / pf)


def roc_3d(score: np.ndarray, truth: np.ndarray, left_out: np.ndarray | None = None) -> dict[str, float]:
    """Measures of Chang's 3-D ROC curve (Pd, Pf, tau).

    With scores s scaled to [0, 1]:

    ============  ==================================  ================================================
    AUC(D,F)      area under Pd against Pf            as ``auc``
    AUC(D,tau)    integral of Pd over tau in [0, 1]   equal to the mean of s over the anomalies
    AUC(F,tau)    integral of Pf over tau in [0, 1]   equal to the mean of s over the background
    AUC_TD        AUC(D,F) + AUC(D,tau)               target detectability, in [0, 2]
    AUC_BS        AUC(D,F) - AUC(F,tau)               background suppressibility, in [-1, 1]
    AUC_SNPR      AUC(D,tau) / AUC(F,tau)             signal-to-noise probability ratio, 0 to infinity
    AUC_TDBS      AUC(D,tau) - AUC(F,tau)             target detection in background, in [-1, 1]
    AUC_ODP       AUC(D,tau) + 1 - AUC(F,tau)         overall detection probability, in [0, 2]
    AUC_OD        AUC_TD - AUC(F,tau)                 overall detection, in [-1, 2]
    ============  ==================================  ================================================

    The integrals are exact. A trapezoidal sum over the scores that occur, which some programs take, is larger by at
    most 1 / (2 n) for a class of n pixels. For AUC(F,tau) lower is better, for all others higher.
    The name ODP is split: many papers print AUC_OD under it, or call AUC_OD "OA". AUC_OD - AUC_ODP is AUC(D,F) - 1.
    A map's brightest pixel sets its scale, so all but AUC(D,F) change with any monotonic rescaling of the scores:
    compare them between maps of one kind only.

    Source: C.-I Chang, An Effective Evaluation Tool for Hyperspectral Target Detection: 3D Receiver Operating
    Characteristic Curve Analysis, IEEE TGRS 59(6), 2021.

    Example:
        >>> found = roc_3d(np.array([[0.0, 1.0], [2.0, 4.0]]), np.array([[0, 0], [0, 1]]))
        >>> found["AUC(D,tau)"], found["AUC(F,tau)"], found["AUC_SNPR"]
        (1.0, 0.25, 4.0)
    """
    score, truth = _both_classes(score, truth, left_out)
    d_f = auc(score, truth)
    assert d_f is not None
    d_tau, f_tau = _class_means(score, truth)
    areas = {"AUC(D,F)": d_f, "AUC(D,tau)": d_tau, "AUC(F,tau)": f_tau}
    joined = {"AUC_TD": d_f + d_tau, "AUC_BS": d_f - f_tau, "AUC_SNPR": _class_ratio(d_tau, f_tau)}
    return {**areas, **joined, "AUC_TDBS": d_tau - f_tau, "AUC_ODP": d_tau + 1 - f_tau, "AUC_OD": d_f + d_tau - f_tau}


def roc_3d_curve(
    score: np.ndarray, truth: np.ndarray, left_out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps of the 3-D ROC curve: tau falling from 1 to 0, and Pf and Pd there, each rising to 1.

    tau runs over the scores that occur, scaled to [0, 1]; Pf and Pd are the shares of pixels at or above it.
    """
    score, truth = _both_classes(score, truth, left_out)
    false_positives, true_positives = _counts_above(score, truth)
    tau = _scaled(np.unique(score))[::-1]
    return tau, false_positives[1:] / false_positives[-1], true_positives[1:] / true_positives[-1]


def asnpr(score: np.ndarray, truth: np.ndarray, left_out: np.ndarray | None = None) -> float:
    """Adaptive signal-to-noise probability ratio in decibels; its mean over HAD100's scenes is that table's mASNPR.

    ``10 log10(AUC(D,tau) / AUC(F,tau))`` of the map whose scores above the median score of the anomalous pixels are
    first set to that median. So one bright pixel does not set the scale, as it does for AUC_SNPR. A map that is
    constant after that has 0 dB; a background that is zero everywhere has infinitely many.

    That this is the table's formula rests on the program that HAD100's authors publish for it ("adaptive signal-to-noise
    probability ratio ... truncated on the median value of predicted scores on the target", in dB). The table itself has
    no column to check it with. The program sums trapezoids over the scores that occur; here both areas are exact. The
    mean is taken of decibels, scene by scene: that is an assumption.

    Source: Z. Li et al., You Only Train Once: Learning a General Anomaly Enhancement Network with Random Masks for
    Hyperspectral Anomaly Detection, IEEE TGRS 61, 2023.
    """
    score, truth = _both_classes(score, truth, left_out)
    ratio = _class_ratio(*_class_means(np.minimum(score, np.median(score[truth])), truth))
    return float(10 * np.log10(ratio)) if ratio > 0 else -np.inf


def measures(score: np.ndarray, truth: np.ndarray, left_out: np.ndarray | None = None) -> dict[str, float]:
    """Every measure of ``MEASURES`` by the name that tables print.

    Those of ``roc_3d``; ``ASNPR`` in dB; ``AP``, average precision; ``pAUC@0.001`` and ``pAUC@0.01``, ``Pd@0.001`` and
    ``Pd@0.01``; ``objects@100`` and ``objects@1000``, the objects found at so many false-alarm pixels per megapixel, of
    ``objects``.
    """
    scores, anomalous = _both_classes(score, truth, left_out)
    found = {
        **roc_3d(scores, anomalous),
        "ASNPR": asnpr(scores, anomalous),
        "AP": average_precision(scores, anomalous),
        **{f"pAUC@{pf:g}": partial_auc(scores, anomalous, pf) for pf in FALSE_ALARMS},
        **{f"Pd@{pf:g}": pd_at(scores, anomalous, pf) for pf in FALSE_ALARMS},
        **{f"objects@{rate}": float(objects_found(score, truth, rate, left_out)) for rate in ALARMS_PER_MEGAPIXEL},
        "objects": float(len(_object_peaks(score, truth, left_out))),
    }
    return {measure.title: found[measure.title] for measure in MEASURES.values()}


def scene_measures(score: np.ndarray, truth: np.ndarray, left_out: np.ndarray | None = None) -> dict[str, float | None]:
    """Every measure by its key in ``MEASURES``; all are None where the pixels that count lack a class."""
    both = has_both_classes(counted(score, truth, left_out)[1])
    found = measures(score, truth, left_out) if both else {}
    return {key: found.get(measure.title) for key, measure in MEASURES.items()}


def chance_levels(truth: np.ndarray, left_out: np.ndarray | None = None) -> dict[str, float]:
    """Values that random scores have in the mean, by the keys of ``MEASURES``; only those that have such a level.

    That of AP is the share of anomalous pixels, which a constant map has exactly; a random order of few pixels has
    slightly more.
    """
    truth = as_truth(truth)
    share = float((truth if left_out is None else truth[~as_truth(left_out)]).mean())
    return {key: measure.chance(share) for key, measure in MEASURES.items() if measure.chance is not None}


def _both_classes(score: np.ndarray, truth: np.ndarray, left_out: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    score, truth = counted(score, truth, left_out)
    if not has_both_classes(truth):
        raise FersError("the truth lacks anomalies or background. Leave this scene out, or correct its truth.")
    return score, truth


def _counts_above(score: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count the background and anomalous pixels at or above each score that occurs, the highest first; starts with 0."""
    order = np.argsort(score, kind="stable")[::-1]
    values, detected = score[order], np.cumsum(truth[order])
    last = np.append(np.flatnonzero(np.diff(values)), score.size - 1)  # of the pixels of one score
    true_positives = np.append(0, detected[last])
    return np.append(0, last + 1) - true_positives, true_positives


def _class_means(score: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Mean of the scores, scaled to [0, 1], over the anomalies and over the background."""
    scaled = _scaled(score)
    return float(scaled[truth].mean()), float(scaled[~truth].mean())


def _scaled(score: np.ndarray) -> np.ndarray:
    """Scores scaled to [0, 1] by their minimum and maximum; 0 where all are the same."""
    low, high = float(score.min()), float(score.max())
    return (score.astype(np.float64) - low) / (high - low) if high > low else np.zeros(score.shape)


def _class_ratio(d_tau: float, f_tau: float) -> float:
    return d_tau / f_tau if f_tau > 0 else (np.inf if d_tau > 0 else 1.0)
