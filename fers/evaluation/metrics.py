"""How well a score map tells anomalies from background: AUC, Chang's 3-D ROC, and measures at few false alarms.

Every function takes a score map ``(H, W)``, higher is more anomalous, and a mask ``(H, W)`` bool, True at anomalies.
``D`` stands for the detection probability Pd (the share of anomalous pixels at or above a threshold tau), ``F`` for
the false-alarm probability Pf (the same share of background pixels). Scores are scaled to [0, 1] by the map's minimum
and maximum before a threshold is compared between maps.
"""

from __future__ import annotations

import numpy as np

FALSE_ALARMS = (1e-3, 1e-2)  # the rates that the tables show


def has_both_classes(mask: np.ndarray) -> bool:
    """Whether a mask has anomalies and background; without both there is no AUC."""
    return bool(mask.any() and not mask.all())


def auc(score: np.ndarray, mask: np.ndarray) -> float | None:
    """Area under the ROC curve: the chance that an anomalous pixel scores higher than one of the background.

    From ranks: ``(sum of the n anomalies' ranks - n (n + 1) / 2) / (n m)``, with m background pixels and ties at their
    mean rank.

    Args:
        score: ``(H, W)``, higher is more anomalous.
        mask: ``(H, W)`` bool, True at anomalies.

    Returns:
        In [0, 1]; ties count half. None where the mask lacks a class.

    Raises:
        ValueError: The score map holds NaN or infinite values, or is of another shape.

    Example:
        >>> auc(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[False, True], [False, True]]))
        0.75
    """
    check(score, mask)
    if not has_both_classes(mask):
        return None
    n = int(mask.sum())
    ranks = rank(score)[mask]
    return float((ranks.sum() - n * (n + 1) / 2) / (n * (mask.size - n)))


def roc(score: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The corners of the ROC curve: false and true positive rates, each rising from 0 to 1.

    Arguments as ``auc``; the mask has both classes.
    """
    false_positives, true_positives = _counts_above(score, mask)
    bends = (np.diff(false_positives, 2) != 0) | (np.diff(true_positives, 2) != 0)
    corners = np.flatnonzero([True, *bends, True])
    return false_positives[corners] / false_positives[-1], true_positives[corners] / true_positives[-1]


def pd_at(score: np.ndarray, mask: np.ndarray, pf: float) -> float:
    """The highest detection probability of a threshold whose false-alarm probability is at most ``pf``.

    Nothing is interpolated, so in a scene of fewer than ``1 / pf`` background pixels it is Pd without a false alarm.
    Arguments as ``auc``; the mask has both classes.
    """
    false_positives, true_positives = _counts_above(score, mask)
    allowed = false_positives / false_positives[-1] <= pf
    return float(true_positives[allowed][-1] / true_positives[-1])


def average_precision(score: np.ndarray, mask: np.ndarray) -> float:
    """The mean over the anomalies of the precision at the threshold that just detects them: area under precision and recall.

    Arguments as ``auc``; the mask has both classes.
    """
    false_positives, true_positives = _counts_above(score, mask)
    precision = true_positives[1:] / (true_positives[1:] + false_positives[1:])
    return float(np.diff(true_positives) @ precision / true_positives[-1])


def partial_auc(score: np.ndarray, mask: np.ndarray, pf: float = FALSE_ALARMS[0]) -> float:
    """The mean of Pd over false-alarm probabilities from 0 to ``pf``: the area there, divided by ``pf``.

    1 is perfect; chance is ``pf / 2``. The curve is linear between thresholds, as for the AUC. Arguments as ``auc``;
    the mask has both classes.
    """
    false_positive, true_positive = roc(score, mask)
    inside = false_positive <= pf
    rates = np.append(false_positive[inside], pf)
    detections = np.append(true_positive[inside], np.interp(pf, false_positive, true_positive))
    return float(np.diff(rates) @ (detections[1:] + detections[:-1]) / 2 / pf)


def roc_3d(score: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """The measures of Chang's 3-D ROC curve (Pd, Pf, tau).

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
    ============  ==================================  ================================================

    The integrals are exact. A trapezoidal sum over the scores that occur, which some programs take, is larger by at
    most 1 / (2 n) for a class of n pixels. For AUC(F,tau) lower is better, for all others higher.
    Some papers print AUC(D,F) + AUC(D,tau) - AUC(F,tau) under the name of AUC_ODP; Chang calls that overall detection.
    A map's brightest pixel sets its scale, so all but AUC(D,F) change with any monotonic rescaling of the scores:
    compare them between maps of one kind only.

    Arguments as ``auc``; the mask has both classes.

    Source: C.-I Chang, An Effective Evaluation Tool for Hyperspectral Target Detection: 3D Receiver Operating
    Characteristic Curve Analysis, IEEE TGRS 59(6), 2021.

    Example:
        >>> measures = roc_3d(np.array([[0.0, 1.0], [2.0, 4.0]]), np.array([[False, False], [False, True]]))
        >>> measures["AUC(D,tau)"], measures["AUC(F,tau)"], measures["AUC_SNPR"]
        (1.0, 0.25, 4.0)
    """
    d_f = auc(score, mask)
    if d_f is None:
        raise ValueError("the mask lacks anomalies or background. Leave this scene out, or mend its mask.")
    d_tau, f_tau = _class_means(score, mask)
    return {
        "AUC(D,F)": d_f,
        "AUC(D,tau)": d_tau,
        "AUC(F,tau)": f_tau,
        "AUC_TD": d_f + d_tau,
        "AUC_BS": d_f - f_tau,
        "AUC_SNPR": _ratio(d_tau, f_tau),
        "AUC_TDBS": d_tau - f_tau,
        "AUC_ODP": d_tau + 1 - f_tau,
    }


def asnpr(score: np.ndarray, mask: np.ndarray) -> float:
    """Adaptive signal-to-noise probability ratio in decibels; its mean over HAD100's scenes is that table's mASNPR.

    ``10 log10(AUC(D,tau) / AUC(F,tau))`` of the map whose scores above the median score of the anomalous pixels are
    first set to that median. So one bright pixel does not set the scale, as it does for AUC_SNPR. A map that is
    constant after that has 0 dB; a background that is zero everywhere has infinitely many.

    That this is the table's formula rests on the program that HAD100's authors publish for it ("adaptive signal-to-noise
    probability ratio ... truncated on the median value of predicted scores on the target", in dB). The table itself has
    no column to check it with. The program sums trapezoids over the scores that occur; here both areas are exact. The
    mean is taken of decibels, scene by scene: that is an assumption.

    Arguments as ``auc``; the mask has both classes.

    Source: Z. Li et al., You Only Train Once: Learning a General Anomaly Enhancement Network with Random Masks for
    Hyperspectral Anomaly Detection, IEEE TGRS 61, 2023.
    """
    check(score, mask)
    ratio = _ratio(*_class_means(np.minimum(score, np.median(score[mask])), mask))
    return float(10 * np.log10(ratio)) if ratio > 0 else -np.inf


def all_metrics(score: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Every measure of this module by the name that tables print.

    Args:
        score: ``(H, W)``, higher is more anomalous.
        mask: ``(H, W)`` bool, True at anomalies.

    Returns:
        Those of ``roc_3d``; ``ASNPR`` in dB; ``AP``, average precision; ``pAUC@0.001``, the partial AUC; ``Pd@0.001``
        and ``Pd@0.01``.

    Raises:
        ValueError: The score map holds NaN or infinite values, or is of another shape, or the mask lacks a class.
    """
    return {
        **roc_3d(score, mask),
        "ASNPR": asnpr(score, mask),
        "AP": average_precision(score, mask),
        f"pAUC@{FALSE_ALARMS[0]:g}": partial_auc(score, mask),
        **{f"Pd@{pf:g}": pd_at(score, mask, pf) for pf in FALSE_ALARMS},
    }


def rank(score: np.ndarray) -> np.ndarray:
    """Each pixel's rank among all, from 1 up, in ``score``'s shape; ties have their mean rank."""
    _, group, counts = np.unique(score, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[group].reshape(score.shape)


def check(score: np.ndarray, mask: np.ndarray) -> None:
    """Raise ValueError for a score map that is not finite, or of another shape than its mask."""
    if score.shape != mask.shape:
        raise ValueError(
            f"the score map is {score.shape}, the mask {mask.shape}. Both must be of the same scene, rows first."
        )
    if not np.isfinite(score).all():
        raise ValueError("the score map holds NaN or infinite values. Mend what made it: each pixel needs a score.")


def _counts_above(score: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many background and anomalous pixels score at least each score that occurs, the highest first; starts with 0."""
    order = np.argsort(score, axis=None, kind="stable")[::-1]
    values, detected = score.ravel()[order], np.cumsum(mask.ravel()[order])
    last = np.append(np.flatnonzero(np.diff(values)), score.size - 1)  # of the pixels of one score
    true_positives = np.append(0, detected[last])
    return np.append(0, last + 1) - true_positives, true_positives


def _class_means(score: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """The mean of the scores, scaled to [0, 1], over the anomalies and over the background."""
    low, high = float(score.min()), float(score.max())
    scaled = (score.astype(np.float64) - low) / (high - low) if high > low else np.zeros(score.shape)
    return float(scaled[mask].mean()), float(scaled[~mask].mean())


def _ratio(d_tau: float, f_tau: float) -> float:
    return d_tau / f_tau if f_tau > 0 else (np.inf if d_tau > 0 else 1.0)
