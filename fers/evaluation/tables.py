"""Tables as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """Line of the mean over ``scenes``; the paper's is its own ``mean``, or that of its numbers if it has every one of them."""
    names = ["mean"] if published and "mean" in published else list(scenes)
    value = "-" if mean is None else f"{mean:.4f}"
    time = "" if seconds is None else f"{seconds:>10.3f}"
    return f"{name:<{_NAME + _SIZE}}{value:>8}{_published(published, names)}{time}"


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


def _published(published: dict[str, float] | None, names: list[str]) -> str:
    if published is None:
        return ""
    known = [published[name] for name in names if name in published]
    return f"{np.mean(known):>9.4f}" if known and len(known) == len(names) else f"{'-':>9}"
