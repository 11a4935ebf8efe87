"""Published numbers: of the paper's tables (``published.csv``), and of others by scene (``published_per_scene.csv``)."""

from __future__ import annotations

import csv
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fers.scoring.config import DetectConfig


@cache
def _table(name: str) -> list[dict[str, str]]:
    """Rows of a table of this folder."""
    with Path(__file__).with_name(name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def published_numbers(
    metrics: Collection[str], method: str, features: str, bands: int, **columns: str
) -> dict[str, float]:
    """Read published numbers by scene, or ``mean``; empty where there is no such setting.

    Args:
        metrics: ``AUC`` of a scene, ``mAUC``, ``seconds``.
        method: As the paper names the detector.
        features: A key of ``fers.scoring.settings.SETTINGS``.
        bands: C.
        **columns: Values of ``source``, ``dataset``, ``losses``.
    """
    wanted = {"method": method, "features": features, "bands": str(bands), **columns}
    rows = [
        row
        for row in _table("published.csv")
        if row["metric"] in metrics and all(row[k] == v for k, v in wanted.items())
    ]
    return {row["scene"]: float(row["value"]) for row in reversed(rows)}  # the paper's own stand first


def published_aucs(dataset: str, method: str, features: str, bands: int) -> dict[str, float]:
    """Read AUC by scene of ``HAD100`` or ``ABU``; ``mean`` is the only one for HAD100.

    Example:
        >>> published_aucs("ABU", "RX", "fused-B", 200)["airport-2"]
        0.9871
    """
    return published_numbers(("AUC", "mAUC"), method, features, bands, dataset=dataset, losses="")


def why_not_beside(config: DetectConfig) -> str:
    """Say why the paper's number of a setting cannot stand beside a run of this configuration; empty where it can."""
    options = dict(config.options)
    fusion_a = config.detect == "RX" and config.chosen_fusion == "A"
    if config.detect == "AE" and config.select != "oracle":
        return "The paper's AE numbers choose the iteration by the ground truth: --select oracle stands beside them."
    if fusion_a and options.pop("solver", "") != "released":
        return "The paper's fusion A numbers come from the RX of the authors' code: --rx released stands beside them."
    return "The paper has no such setting." if config.start_band or options or config.features == "untrained" else ""


def published_per_scene() -> list[dict]:
    """Read the AUCs of single scenes that others have published.

    Returns:
        A row for each number, with ``source``, ``year`` (int), ``url``, ``scene``, ``method``, ``auc`` (float), ``protocol``
        (how the method was set and trained) and ``note``. ``scene`` is a name of ``fers.datasets.catalogue`` where cube
        and truth are the same file; else it is empty, and ``note`` says which scene it was.

    Example:
        >>> rows = [row for row in published_per_scene() if row["scene"] == "airport-1" and row["method"] == "SM-HAD"]
        >>> rows[0]["auc"], rows[0]["protocol"]
        (0.9793, 'best of three seeds; trained on the test scene')
    """
    return [row | {"year": int(row["year"]), "auc": float(row["auc"])} for row in _table("published_per_scene.csv")]
