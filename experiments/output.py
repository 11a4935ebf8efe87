"""Write a table as Markdown, CSV and LaTeX, and a LaTeX document of all tables of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments import cells as forms
from experiments.cells import Cell
from experiments.workspace import Workspace
from fers.util.errors import FersError
from fers.util.files import write_whole

_DOCUMENT = r"""\documentclass{article}
\usepackage[a4paper,landscape,margin=1.5cm]{geometry}
\usepackage{graphicx}
\begin{document}
INPUTS\end{document}
"""


def save(workspace: Workspace, name: str, cells: Sequence[Cell], title: str, notes: Sequence[str]) -> list[Path]:
    """Write a table as Markdown, CSV and LaTeX; returns the files.

    Raises:
        FersError: It has no rows.
    """
    if not cells:
        raise FersError(f"{name}: none of its rows was asked for. Leave out --rows, or leave out {name}.")
    title = f"{title} (synthetic scenes, not those of the paper)" if workspace.synthetic else title
    folder = workspace.folder / "tables"
    forms.write_csv(cells, folder / f"{name}.csv")
    write_whole(folder / f"{name}.md", f"## {title}\n\n{forms.markdown(cells, notes)}".encode())
    write_whole(folder / f"{name}.tex", forms.latex(cells, title, name, notes).encode())
    tables = sorted(path.stem for path in folder.glob("*.tex") if path.stem != "all")
    inputs = "".join(f"\\input{{{table}}}\n\\clearpage\n" for table in tables)
    write_whole(folder / "all.tex", _DOCUMENT.replace("INPUTS", inputs).encode())
    return [folder / f"{name}{suffix}" for suffix in (".md", ".csv", ".tex")]
