"""A table as a data frame of cells, and its three forms: CSV, Markdown, LaTeX. The CSV holds all that the others show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.workspace import Workspace
from fers.util.errors import FersError
from fers.util.files import atomic_path, write_whole

TIME = "mean time (s)"  # a row of times, which other machines do not share
DEFAULTS = {
    "table": "",
    "dataset": "",  # what it was measured on
    "row": "",
    "column": "",
    "value": None,  # ours; mean over seeds and scenes
    "spread": None,  # standard deviation over seeds; None for one seed
    "low": None,  # 95 % interval of the mean over scenes; None where it is one scene
    "high": None,
    "seeds": 1,
    "scenes": 1,
    "paper": None,  # the published value; None where there is none that may stand beside ours
    "seconds": None,  # mean time per scene
    "paper_seconds": None,
    "best": False,  # better than every other one of its column, or than its pair, by a test
    "mark": "",  # what a reader must know about this row
    "digits": 4,  # that are shown
}
NUMBERS = ("value", "spread", "low", "high", "paper", "seconds", "paper_seconds")
HEADS = {"paper": "paper", "difference": "ours - paper", "seconds": "s", "paper_seconds": "paper: s"}
_DOCUMENT = r"""\documentclass{article}
\usepackage[a4paper,landscape,margin=1.5cm]{geometry}
\usepackage{graphicx}
\begin{document}
INPUTS\end{document}
"""
_TABLE = r"""\begin{table*}[t]
\centering
\caption{CAPTION}
\label{tab:LABEL}
\resizebox{\textwidth}{!}{%
\begin{tabular}{COLUMNS}
\hline
HEAD
\hline
LINES
\hline
\end{tabular}}
\par\smallskip\raggedright\footnotesize NOTES
\end{table*}
"""


def frame_of(cells: Sequence[dict]) -> pd.DataFrame:
    """Cells as a frame with the columns of ``DEFAULTS``, and with ours less the paper's."""
    frame = pd.DataFrame([{**DEFAULTS, **cell} for cell in cells]).astype(dict.fromkeys(NUMBERS, float))
    frame["difference"] = (frame.value - frame.paper).where(frame.row != TIME)
    return frame


def write_cells(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame, whole or not at all."""
    with atomic_path(path) as temporary:
        frame.astype({"best": int}).to_csv(temporary, index=False, float_format="%.6g", lineterminator="\n")


def read_cells(path: Path) -> pd.DataFrame:
    """The cells of a table's CSV.

    Raises:
        FersError: It is missing, empty, or no table's.
    """
    try:
        frame = (
            pd.read_csv(path, dtype={"mark": str})
            .fillna({"mark": ""})
            .astype({"best": bool, **dict.fromkeys(NUMBERS, float)})
        )
    except (OSError, KeyError, ValueError) as error:
        raise FersError(f"{path}: cannot be read as a table ({error}). Make it with reproduce.py.") from error
    if frame.empty:
        raise FersError(f"{path}: holds no rows. Make it with reproduce.py.")
    return frame


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def cells_markdown(frame: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """A table of cells in Markdown, its marks and notes below."""
    head, lines, below = _shown(frame)
    below = [f"- {text}\n" for text in (*below, *notes)]
    return "".join([markdown(head, lines), *(["\n", *below] if below else [])])


def cells_latex(frame: pd.DataFrame, caption: str, label: str, notes: Sequence[str] = ()) -> str:
    """A table of cells in LaTeX for any class; it needs the package ``graphicx``, which fits it to the page."""
    head, lines, below = _shown(frame)
    parts = {
        "CAPTION": _tex(caption),
        "LABEL": label,
        "COLUMNS": "l" + "r" * (len(head) - 1),
        "HEAD": " & ".join(map(_tex, head)) + r" \\",
        "LINES": "\n".join(" & ".join("--" if text == "-" else _tex(text) for text in line) + r" \\" for line in lines),
        "NOTES": " ".join(map(_tex, (*below, *notes))),
    }
    return re.sub("|".join(parts), lambda match: parts[match.group()], _TABLE)


def save(workspace: Workspace, name: str, cells: Sequence[dict], title: str, notes: Sequence[str]) -> list[Path]:
    """Write a table as Markdown, CSV and LaTeX, and a LaTeX document of all tables of the data set.

    Returns:
        The table's files.

    Raises:
        FersError: It has no rows.
    """
    if not cells:
        raise FersError(f"{name}: none of its rows was asked for. Leave out --rows, or leave out {name}.")
    frame = frame_of([{"table": name, "dataset": workspace.title, **cell} for cell in cells])
    title = f"{title} (synthetic scenes, not those of the paper)" if workspace.synthetic else title
    folder = workspace.folder / "tables"
    write_cells(frame, folder / f"{name}.csv")
    write_whole(folder / f"{name}.md", f"## {title}\n\n{cells_markdown(frame, notes)}".encode())
    write_whole(folder / f"{name}.tex", cells_latex(frame, title, name, notes).encode())
    tables = sorted(path.stem for path in folder.glob("*.tex") if path.stem != "all")
    inputs = "".join(f"\\input{{{table}}}\n\\clearpage\n" for table in tables)
    write_whole(folder / "all.tex", _DOCUMENT.replace("INPUTS", inputs).encode())
    return [folder / f"{name}{suffix}" for suffix in (".md", ".csv", ".tex")]


def _shown(frame: pd.DataFrame) -> tuple[list[str], list[list[str]], list[str]]:
    """Head, lines and numbered marks as Markdown has them; columns that no row fills are left out."""
    marks = {text: number for number, text in enumerate(filter(None, frame.mark.unique()), 1)}
    # a mark that all cells of a column share belongs to the column's name
    by_column = frame.row.nunique() > 1 and bool((frame.groupby("column").mark.nunique() == 1).all())

    def named(name: str, kind: str) -> str:
        mine = frame.mark[frame[kind] == name] if by_column == (kind == "column") else []
        numbers = sorted({marks[mark] for mark in mine if mark})
        return name + (f"<sup>{','.join(map(str, numbers))}</sup>" if numbers else "")

    rows = frame.row.unique()
    head, lines = [""], [[named(row, "row")] for row in rows]
    for column in frame.column.unique():
        mine = frame[frame.column == column]
        parts = ["value", *(["paper", "difference"] if mine.paper.notna().any() else [])]
        parts += [part for part in ("seconds", "paper_seconds") if mine[part].notna().any()]
        head += [HEADS.get(part, named(column, "column")) for part in parts]
        by_row = {cell.row: cell for cell in mine.itertuples()}
        for line, row in zip(lines, rows, strict=True):
            line += [_text(by_row[row], part) if row in by_row else "-" for part in parts]
    return head, lines, [f"<sup>{number}</sup> {text}" for text, number in marks.items()]


def _text(cell, part: str) -> str:
    number = getattr(cell, part)
    if pd.isna(number):
        return "-"
    if part == "difference":
        return f"{round(number, cell.digits) + 0.0:+.{cell.digits}f}"  # + 0.0: no minus before zero
    text = f"{number:.{3 if 'seconds' in part else cell.digits}f}"
    if part != "value":
        return text
    text = f"**{text}**" if cell.best else text
    text += "" if pd.isna(cell.spread) else f" ± {cell.spread:.{cell.digits}f}"
    return text if pd.isna(cell.low) else f"{text} [{cell.low:.4f}, {cell.high:.4f}]"


def _tex(text: str) -> str:
    """Markdown as LaTeX."""
    text = re.sub("([&%_#])", r"\\\1", text).replace("^", r"\^{}")
    text = re.sub(r"\*\*(.*?)\*\*", r"\\textbf{\1}", text)
    text = re.sub("<sup>(.*?)</sup>", r"\\textsuperscript{\1}", text)
    return text.replace("±", r"$\pm$").replace("Δ", r"$\Delta$").replace("τ", r"$\tau$")
