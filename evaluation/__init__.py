"""Settings, protocol, metrics, tables and figures of the experiments."""

from evaluation.metrics import auc, roc
from evaluation.pipeline import Pipeline, Settings
from evaluation.protocol import Results, evaluate

__all__ = ["Pipeline", "Results", "Settings", "auc", "evaluate", "roc"]
