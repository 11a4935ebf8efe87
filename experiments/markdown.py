"""What tables are made of: rows of a CSV, numbers with their spread, Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev

from experiments.runner import RESULTS, read_rows
from fers.util.errors import FersError


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def spread(values: Sequence[float], digits: int = 4) -> str:
    """A mean, with the standard deviation over seeds where there are several.

    Example:
        >>> spread([0.95]), spread([0.95, 0.97])
        ('0.9500', '0.9600 ± 0.0141')
    """
    if not values:
        return "-"
    text = f"{fmean(values):.{digits}f}"
    return f"{text} ± {stdev(values):.{digits}f}" if len(values) > 1 else text


def rows_of(name: str) -> list[dict]:
    """The rows of ``experiments/results/<name>.csv``.

    Raises:
        FersError: There are none.
    """
    rows = read_rows(RESULTS / f"{name}.csv")
    if not rows:
        raise FersError(f"{RESULTS / f'{name}.csv'}: no results. Make them: python reproduce.py {name}")
    return rows
