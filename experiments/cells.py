"""A table as a data frame of cells, and its three forms: CSV, Markdown, LaTeX. The CSV holds all that the others show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from experiments.workspace import Workspace
from fers.evaluation.tables import latex, latex_text, markdown
from fers.util.cite import citation, this_command
from fers.util.errors import FersError
from fers.util.files import atomic_path, plain_cell, write_whole

DEFAULTS = {
    "table": "",
    "dataset": "",  # what it was measured on
    "row": "",
    "column": "",
    "value": None,  # ours; mean over seeds and scenes
    "spread": None,  # standard deviation over seeds; None for one seed
    "low": None,  # 95 % interval of the mean over scenes; None where they are too few
    "high": None,
    "seeds": 1,
    "scenes": 1,
    "paper": None,  # the published value; None where there is none that may stand beside ours
    "ap": None,  # mean over seeds and scenes of what stands beside the AUC: average precision, Pd at two rates
    "pd_1e3": None,
    "pd_1e2": None,
    "seconds": None,  # mean time per scene
    "paper_seconds": None,
    "best": False,  # better than every other one of its column, or than its pair, by a test
    "mark": "",  # what a reader must know about this row
    "digits": 4,  # that are shown
}
NUMBERS = ("value", "spread", "low", "high", "paper", "ap", "pd_1e3", "pd_1e2", "seconds", "paper_seconds")
HEADS = {
    **{"value": "", "paper": "paper", "difference": "ours - paper", "ap": "AP", "pd_1e3": "Pd@0.001"},
    **{"pd_1e2": "Pd@0.01", "seconds": "s", "paper_seconds": "paper: s"},
}
_DOCUMENT = r"""\documentclass{article}
\usepackage[a4paper,landscape,margin=1.5cm]{geometry}
\usepackage{booktabs,graphicx}
\begin{document}
INPUTS\end{document}
"""


def frame_of(cells: Sequence[dict]) -> pd.DataFrame:
    """Cells as a frame with the columns of ``DEFAULTS``, and with ours less the paper's."""
    frame = pd.DataFrame([{**DEFAULTS, **cell} for cell in cells]).astype(dict.fromkeys(NUMBERS, float))
    frame["difference"] = frame.value - frame.paper
    return frame


def write_cells(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame, whole or not at all."""
    with atomic_path(path) as temporary:
        frame.astype({"best": int}).map(plain_cell).to_csv(
            temporary, index=False, float_format="%.6g", lineterminator="\n"
        )


def read_cells(path: Path) -> pd.DataFrame:
    """The cells of a table's CSV.

    Raises:
        FersError: It is missing, empty, or no table's.
    """
    try:
        frame = pd.read_csv(path, dtype={"mark": str}).fillna({"mark": ""})
        frame = frame.astype({"best": bool, **dict.fromkeys(NUMBERS, float)})
    except (OSError, KeyError, ValueError) as error:
        raise FersError(f"{path}: cannot be read as a table ({error}). Make it with reproduce.py.") from error
    if frame.empty:
        raise FersError(f"{path}: holds no rows. Make it with reproduce.py.")
    return frame


def cells_markdown(frame: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """A table of cells in Markdown, its marks and notes below."""
    shown, below = _shown(frame)
    below = [f"- {text}\n" for text in (*below, *notes)]
    return "".join([markdown(list(shown), shown.to_numpy().tolist()), *(["\n", *below] if below else [])])


def cells_latex(frame: pd.DataFrame, caption: str, label: str, notes: Sequence[str] = ()) -> str:
    """A table of cells in LaTeX for any class; it needs the packages ``booktabs`` and ``graphicx``."""
    shown, below = _shown(frame)
    return latex(list(shown), shown.to_numpy().tolist(), caption, label, (*below, *notes), _tex)


def save(workspace: Workspace, name: str, cells: Iterable[dict], title: str, notes: Sequence[str]) -> list[Path]:
    """Write a table as Markdown, CSV and LaTeX, and a LaTeX document of all the tables; returns the table's files.

    Raises:
        FersError: It has no rows.
    """
    found = [{"table": name, "dataset": workspace.title, **cell} for cell in cells]
    if not found:
        raise FersError(f"{name}: none of its rows was asked for. Leave out --rows, or leave out {name}.")
    frame = frame_of(found)
    notes = [*notes, citation(this_command(), workspace.data_hash)]
    title = f"{title} (synthetic scenes, not those of the paper)" if workspace.synthetic else title
    folder = workspace.folder / "tables"
    write_cells(frame, folder / f"{name}.csv")
    write_whole(folder / f"{name}.md", f"## {title}\n\n{cells_markdown(frame, notes)}".encode())
    write_whole(folder / f"{name}.tex", cells_latex(frame, title, name, notes).encode())
    tables = sorted(path.stem for path in folder.glob("*.tex") if path.stem != "all")
    inputs = "".join(f"\\input{{{table}}}\n\\clearpage\n" for table in tables)
    write_whole(folder / "all.tex", _DOCUMENT.replace("INPUTS", inputs).encode())
    return [folder / f"{name}{suffix}" for suffix in (".md", ".csv", ".tex")]


def _shown(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The table as text, a line each row, and its numbered marks; columns that no row fills are left out."""
    numbers = {text: f"<sup>{number}</sup>" for number, text in enumerate(filter(None, frame.mark.unique()), 1)}
    # a mark that all cells of a column share belongs to the column's name
    marked = "row" if frame.row.nunique() == 1 or (frame.groupby("column").mark.nunique() > 1).any() else "column"
    signs = frame.groupby(marked).mark.agg(lambda marks: "".join(numbers[text] for text in numbers if text in {*marks}))
    signs = signs.str.replace("</sup><sup>", ",")
    frame = frame.assign(**{marked: frame[marked] + frame[marked].map(signs)})
    text = pd.DataFrame({part: [_text(cell, part) for cell in frame.itertuples()] for part in HEADS})
    wide = text.set_index([frame.row, frame.column]).unstack(fill_value="-")
    every = [(part, column) for column in frame.column.unique() for part in HEADS]
    kept = [key for key in every if key[0] == "value" or (wide[key] != "-").any()]
    wide = wide.loc[frame.row.unique(), kept]
    wide.columns = [HEADS[part] or column for part, column in kept]
    return wide.reset_index(names=""), [f"{sign} {text}" for text, sign in numbers.items()]


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
    parts = re.split(r"\*\*(.*?)\*\*|<sup>(.*?)</sup>", text)
    marks = (("", ""), (r"\textbf{", "}"), (r"\textsuperscript{", "}"))
    return "".join(
        marks[i % 3][0] + latex_text(part) + marks[i % 3][1] for i, part in enumerate(parts) if part is not None
    )
