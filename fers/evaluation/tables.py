"""Tables as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

_NAME, _SIZE = 30, 15
SECONDS_NOTE = "* of features and detector, without reading. Scenes that are scored together share their time equally."


def header_line(with_published: bool) -> str:
    """Head of a table of scenes."""
    published = f"{'paper':>9}" if with_published else ""
    return f"{'scene':<{_NAME}}{'H x W x B':<{_SIZE}}{'AUC':>8}{published}{'seconds*':>10}"


def scene_line(name: str, scene: dict, published: dict[str, float] | None = None) -> str:
    """Line of one scene; ``scene`` as ``fers.evaluation.results.Results`` has it."""
    size = f"{scene['height']}x{scene['width']}x{scene['bands']}"
    note = f"   {scene['note']}" if scene["note"] else ""
    value = "-" if scene["auc"] is None else f"{scene['auc']:.4f}"
    return f"{name:<{_NAME}}{size:<{_SIZE}}{value:>8}{_published(published, [name])}{scene['seconds']:>10.3f}{note}"


def mean_line(
    name: str, mean: float | None, seconds: float | None, published: dict[str, float] | None, scenes: dict[str, float]
) -> str:
    """Line of the mean over ``scenes``; the paper's is shown where it has every one of them."""
    value = "-" if mean is None else f"{mean:.4f}"
    time = "" if seconds is None else f"{seconds:>10.3f}"
    return f"{name:<{_NAME + _SIZE}}{value:>8}{_published(published, list(scenes))}{time}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool] | None = None) -> str:
    """Write a table in Markdown; ``right`` says which columns are to the right, all but the first by default."""
    right = [column > 0 for column in range(len(head))] if right is None else right
    rule = ["---:" if number else "---" for number in right]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *rows))


def markdown_table(frame: pd.DataFrame) -> str:
    """Write a frame in Markdown: numbers with four digits, to the right; ``-`` for what is missing."""
    numbers = [kind.kind == "f" for kind in frame.dtypes]
    text = frame.apply(lambda column: column.map(_cell)).to_numpy().tolist()
    return markdown(list(frame), text, numbers)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if value == value else "-"
    return str(value).replace("|", "\\|")


def _published(published: dict[str, float] | None, names: list[str]) -> str:
    if published is None:
        return ""
    known = [published[name] for name in names if name in published]
    return f"{np.mean(known):>9.4f}" if known and len(known) == len(names) else f"{'-':>9}"
