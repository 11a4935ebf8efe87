"""Tables as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

_NAME, _SIZE = 30, 15
_COLUMN_WIDTHS = {"auc": 8, "ap": 8, "pd@1e-3": 10, "pd@1e-2": 9}  # of the columns of measures
SECONDS_NOTE = "* of features and detector, without reading. Scenes that are scored together share their time equally."


def header_line(with_published: bool) -> str:
    """Head of a table of scenes."""
    titles = {"auc": "AUC", "ap": "AP", "pd@1e-3": "Pd@0.001", "pd@1e-2": "Pd@0.01"}
    head = [f"{titles[key]:>{width}}" for key, width in _COLUMN_WIDTHS.items()]
    published = [f"{'paper':>9}"] if with_published else []
    return "".join([f"{'scene':<{_NAME}}{'H x W x B':<{_SIZE}}", head[0], *published, *head[1:], f"{'seconds*':>10}"])


def scene_line(name: str, scene: dict, published: dict[str, float] | None = None) -> str:
    """Line of one scene; ``scene`` as ``fers.evaluation.results.Results`` has it."""
    size = f"{scene['height']}x{scene['width']}x{scene['bands']}"
    note = f"   {scene['note']}" if scene["note"] else ""
    paper = (published or {}).get(name)
    return f"{name:<{_NAME}}{size:<{_SIZE}}{_measure_cells(scene, published, paper)}{scene['seconds']:>10.3f}{note}"


def mean_line(
    name: str, scenes: Mapping[str, dict], seconds: float | None, published: dict[str, float] | None = None
) -> str:
    """Line of the mean over ``scenes`` with an AUC; the paper's is shown where it has all of these, or only their ``mean``."""
    paper = published or {}
    known = [paper[scene] for scene in scenes if scene in paper]
    whole = float(np.mean(known)) if known and len(known) == len(scenes) else paper.get("mean")
    means = {
        key: float(np.mean([scene[key] for scene in scenes.values()])) if scenes else None for key in _COLUMN_WIDTHS
    }
    time = "" if seconds is None else f"{seconds:>10.3f}"
    return f"{name:<{_NAME + _SIZE}}{_measure_cells(means, published, whole)}{time}"


def _measure_cells(values: Mapping[str, float | None], published: dict[str, float] | None, paper: float | None) -> str:
    """The measures, and the paper's AUC in a column of its own if the table has one."""
    cells = [f"{_digits_of(values[key]):>{width}}" for key, width in _COLUMN_WIDTHS.items()]
    return "".join([cells[0], *([] if published is None else [f"{_digits_of(paper):>9}"]), *cells[1:]])


def _digits_of(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool] | None = None) -> str:
    """Write a table in Markdown; ``right`` says which columns are to the right, all but the first by default."""
    right = [column > 0 for column in range(len(head))] if right is None else right
    rule = ["---:" if number else "---" for number in right]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *rows))


_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", '"': "''"},
    **{sign: f"${sign}$" for sign in "<>|"},
    "[": "{[}",  # not an argument of the line break before it
    **{"±": r"$\pm$", "×": r"$\times$", "≤": r"$\le$", "∞": r"$\infty$", "Δ": r"$\Delta$", "τ": r"$\tau$"},
}


def latex_text(text: str) -> str:
    r"""Write a text so that LaTeX prints it to the letter, in any font encoding.

    Example:
        >>> print(latex_text("p < 0.05 of A_1 & B"))
        p $<$ 0.05 of A\_1 \& B
    """
    return "".join(_LATEX.get(sign, sign) for sign in text)


def latex(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    label: str,
    notes: Sequence[str] = (),
    text: Callable[[str], str] = latex_text,
) -> str:
    """Write a table in LaTeX for any class; it needs the packages ``booktabs`` and ``graphicx``.

    It has its natural width, and is made smaller only where it is wider than the page.

    Args:
        head: Titles of the columns; the first is to the left, the others to the right.
        rows: The cells as text.
        caption: The caption.
        label: The table's label, after ``tab:``.
        notes: Sentences under the table.
        text: How caption, notes and cells become LaTeX.
    """
    lines = [" & ".join(text("--" if cell == "-" else cell) for cell in line) + r" \\" for line in (head, *rows)]
    tabular = [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", lines[0], r"\midrule", *lines[1:]]
    width = r"\ifdim\width>\textwidth\textwidth\else\width\fi"
    return "\n".join([
        rf"\begin{{table*}}[t]\centering\caption{{{text(caption)}}}\label{{tab:{label}}}",
        rf"\resizebox{{{width}}}{{!}}{{%",
        *tabular,
        r"\bottomrule",
        r"\end{tabular}}",
        *([rf"\par\smallskip\raggedright\footnotesize {' '.join(map(text, notes))}"] if notes else []),
        r"\end{table*}",
        "",
    ])  # fmt: skip


def markdown_table(frame: pd.DataFrame) -> str:
    """Write a frame in Markdown: numbers with four digits, to the right; ``-`` for what is missing."""
    numbers = [kind.kind == "f" for kind in frame.dtypes]
    text = frame.apply(lambda column: column.map(_cell)).to_numpy().tolist()
    return markdown(list(frame), text, numbers)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if value == value else "-"
    return str(value).replace("|", "\\|")
