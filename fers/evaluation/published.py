"""Numbers of the paper's tables, from ``published.csv`` in this folder."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

PUBLISHED = Path(__file__).with_name("published.csv")


@cache
def published_rows(path: Path = PUBLISHED) -> list[dict[str, str]]:
    """Every published number; none where the file is not installed.

    Returns:
        Rows with ``source``, ``method``, ``features`` (a key of ``fers.scoring.settings.SETTINGS``), ``dataset``, ``scene``
        (or mean), ``bands``, ``losses``, ``metric``, ``value``.
    """
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def published_aucs(dataset: str, method: str, features: str, bands: int) -> dict[str, float]:
    """AUC by scene as the paper's tables have it.

    Args:
        dataset: ``HAD100`` or ``ABU``.
        method: As the paper names the detector.
        features: A key of ``fers.scoring.settings.SETTINGS``.
        bands: C.

    Returns:
        By scene; ``mean`` is the only one for HAD100. Empty where the paper has no such setting.

    Example:
        >>> published_aucs("ABU", "RX", "fused-B", 200)["airport-2"]
        0.9871
    """
    wanted = {"dataset": dataset, "method": method, "features": features, "bands": str(bands), "losses": ""}
    return {
        row["scene"]: float(row["value"])
        for row in published_rows()
        if row["metric"] in ("AUC", "mAUC")
        and row["source"].startswith("Table ")
        and all(row[k] == v for k, v in wanted.items())
    }
