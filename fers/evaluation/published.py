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
    return {row["scene"]: float(row["value"]) for row in rows}


def published_aucs(dataset: str, method: str, features: str, bands: int) -> dict[str, float]:
    """Read AUC by scene of ``HAD100`` or ``ABU``; ``mean`` is the only one for HAD100.

    Example:
        >>> published_aucs("ABU", "RX", "fused-B", 200)["airport-2"]
        0.9871
    """
    return published_numbers(("AUC", "mAUC"), method, features, bands, dataset=dataset, losses="")


def published_by_rule(dataset: str, config: DetectConfig) -> tuple[dict[str, float], str]:
    """Choose the paper's AUCs that a run may have beside it: those of the same rule.

    Args:
        dataset: ``HAD100`` or ``ABU``.
        config: Configuration of the run.

    Returns:
        AUC by scene, or ``mean``; and why there is none although the paper has such a row, else empty.
    """
    released = config.setting_name == "fused-A" and dict(config.options) == {"solver": "released"}
    if config.start_band or config.features == "untrained" or (config.options and not released):
        return {}, ""
    found = published_aucs(dataset, config.detect, config.setting_name, config.bands)
    if found and config.detect == "AE" and config.select != "oracle":
        return {}, "The paper chooses AE's iteration by the truth. Its numbers stand beside --select oracle only."
    if found and config.setting_name == "fused-A" and not released:
        return {}, "The paper's fusion A has the RX of its authors' code. Its numbers stand beside --rx released only."
    return found, ""


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
