"""Numbers of the paper's tables, from ``published.csv`` in this folder."""

from __future__ import annotations

import csv
from collections.abc import Collection
from functools import cache
from pathlib import Path

PUBLISHED = Path(__file__).with_name("published.csv")


@cache
def _published_rows() -> list[dict[str, str]]:
    """Every published number; none where the file is not installed."""
    if not PUBLISHED.is_file():
        return []
    with PUBLISHED.open(encoding="utf-8", newline="") as file:
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
        row for row in _published_rows() if row["metric"] in metrics and all(row[k] == v for k, v in wanted.items())
    ]
    return {row["scene"]: float(row["value"]) for row in rows}


def published_aucs(dataset: str, method: str, features: str, bands: int) -> dict[str, float]:
    """Read AUC by scene of ``HAD100`` or ``ABU``; ``mean`` is the only one for HAD100.

    Example:
        >>> published_aucs("ABU", "RX", "fused-B", 200)["airport-2"]
        0.9871
    """
    return published_numbers(("AUC", "mAUC"), method, features, bands, dataset=dataset, losses="")
