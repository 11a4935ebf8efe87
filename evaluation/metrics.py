"""ROC AUC of a score map against a ground-truth mask."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve


def has_both_classes(mask: np.ndarray) -> bool:
    """Whether a mask has anomalies and background; without both there is no AUC."""
    return bool(mask.any() and not mask.all())


def auc(score: np.ndarray, mask: np.ndarray) -> float | None:
    """Area under the ROC curve.

    Args:
        score: ``(H, W)``, higher is more anomalous.
        mask: ``(H, W)`` bool, True at anomalies.

    Returns:
        In [0, 1]; ties count half. None where the mask lacks a class.

    Raises:
        ValueError: The score map holds NaN or infinite values, or is of another shape.
    """
    if score.shape != mask.shape:
        raise ValueError(f"the score map is {score.shape}, the mask {mask.shape}.")
    if not np.isfinite(score).all():
        raise ValueError("the score map holds NaN or infinite values.")
    return float(roc_auc_score(mask.ravel(), score.ravel())) if has_both_classes(mask) else None


def roc(score: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve: false and true positive rates, each rising from 0 to 1. Arguments as ``auc``."""
    false_positive, true_positive, _ = roc_curve(mask.ravel(), score.ravel())
    return false_positive, true_positive
