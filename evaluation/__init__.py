"""Settings, protocol, metrics, tables and figures of the experiments."""

from detection.pipeline import Pipeline, Settings
from evaluation.evaluate import Results, evaluate
from evaluation.metrics import auc, roc

__all__ = ["Pipeline", "Results", "Settings", "auc", "evaluate", "roc"]
