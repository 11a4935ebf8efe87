"""A table as cells, and its three forms: CSV, Markdown, LaTeX. The CSV holds all that the other two show."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fers.util.errors import FersError
from fers.util.files import atomic_path

TIME = "mean time (s)"  # a row of times, which other machines do not share


@dataclass(frozen=True)
class Cell:
    """A number of a table, beside the paper's.

    Attributes:
        table: Name of the table.
        dataset: What it was measured on.
        row, column: Its place.
        value: Ours; mean over seeds and scenes.
        spread: Standard deviation over seeds; None for one seed.
        low, high: 95 % interval of the mean over scenes; None where it is one scene.
        seeds, scenes: How many.
        paper: The published value; None where there is none that may stand beside ours.
        seconds, paper_seconds: Mean time per scene.
        best: Whether it is better than every other one of its column, or than its pair, by a test.
        mark: What a reader must know about this row.
        digits: That are shown.
    """

    table: str
    dataset: str
    row: str
    column: str
    value: float
    spread: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int = 1
    scenes: int = 1
    paper: float | None = None
    seconds: float | None = None
    paper_seconds: float | None = None
    best: bool = False
    mark: str = ""
    digits: int = 4

    @property
    def difference(self) -> float | None:
        """Ours less the paper's."""
        return None if self.paper is None or self.row == TIME else self.value - self.paper


COLUMNS = (*(field.name for field in fields(Cell)), "difference")


def write_csv(cells: Sequence[Cell], path: Path) -> None:
    """Write a table's cells, whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for cell in cells:
            writer.writerow({name: _text(getattr(cell, name)) for name in COLUMNS})


def read_csv(path: Path) -> list[Cell]:
    """The cells of a CSV.

    Raises:
        FersError: It is missing, empty, or no table's.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        cells = [_cell(row) for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise FersError(f"{path}: cannot be read as a table ({error}). Make it with reproduce.py.") from error
    if not cells:
        raise FersError(f"{path}: holds no rows. Make it with reproduce.py.")
    return cells


def markdown(cells: Sequence[Cell], notes: Sequence[str] = ()) -> str:
    """A table in Markdown, its marks and notes below."""
    head, lines, marks = _grid(cells, bold="**{}**", plus_minus="±", mark="<sup>{}</sup>", missing="-")
    out = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    out += ["| " + " | ".join(line) + " |" for line in lines]
    below = [f"<sup>{number}</sup> {text}" for text, number in marks.items()] + list(notes)
    return "\n".join([*out, *(["", *(f"- {text}" for text in below)] if below else [])]) + "\n"


def latex(cells: Sequence[Cell], caption: str, label: str, notes: Sequence[str] = ()) -> str:
    """A table in LaTeX for any class; it needs the package ``graphicx``, which fits it to the page."""
    head, lines, marks = _grid(
        [_escaped(cell) for cell in cells],
        bold=r"\textbf{{{}}}",
        plus_minus=r"$\pm$",
        mark="\\textsuperscript{{{}}}",
        missing="--",
    )
    body = "\n".join(" & ".join(line) + r" \\" for line in lines)
    below = [rf"\textsuperscript{{{number}}} {text}" for text, number in marks.items()] + [_tex(n) for n in notes]
    return (
        "\\begin{table*}[t]\n\\centering\n"
        f"\\caption{{{_tex(caption)}}}\n\\label{{tab:{label}}}\n"
        f"\\resizebox{{\\textwidth}}{{!}}{{%\n\\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}\n\\hline\n"
        f"{' & '.join(head)} \\\\\n\\hline\n{body}\n\\hline\n\\end{{tabular}}}}\n"
        f"\\par\\smallskip\\raggedright\\footnotesize {' '.join(below)}\n\\end{{table*}}\n"
    )


def _grid(
    cells: Sequence[Cell], bold: str, plus_minus: str, mark: str, missing: str
) -> tuple[list[str], list[list[str]], dict[str, int]]:
    """Head, lines, and the marks by number; columns that no row fills are left out."""
    rows = list(dict.fromkeys(cell.row for cell in cells))
    columns = list(dict.fromkeys(cell.column for cell in cells))
    marks: dict[str, int] = {}
    for cell in cells:
        if cell.mark:
            marks.setdefault(cell.mark, len(marks) + 1)
    # a mark that all cells of a column share belongs to the column's name
    by_column = len(rows) > 1 and all(len({cell.mark for cell in cells if cell.column == c}) == 1 for c in columns)
    by_place = {(cell.row, cell.column): cell for cell in cells}

    def marked(name: str, mine: list[Cell]) -> str:
        numbers = sorted({marks[cell.mark] for cell in mine if cell.mark})
        return name + (mark.format(",".join(map(str, numbers))) if numbers else "")

    head, parts = [""], []
    for column in columns:
        mine = [cell for cell in cells if cell.column == column]
        shown = ["value"]
        shown += ["paper", "difference"] if any(cell.paper is not None for cell in mine) else []
        shown += ["seconds"] if any(cell.seconds is not None for cell in mine) else []
        shown += ["paper_seconds"] if any(cell.paper_seconds is not None for cell in mine) else []
        names = {"value": marked(column, mine) if by_column else column, "paper": "paper", "difference": "ours - paper"}
        names |= {"seconds": "s", "paper_seconds": "paper: s"}
        head += [names[part] for part in shown]
        parts += [(column, part) for part in shown]

    def text(cell: Cell | None, part: str) -> str:
        number = None if cell is None else getattr(cell, part)
        if cell is None or number is None:
            return missing
        if part == "difference":
            return f"{round(number, cell.digits) + 0.0:+.{cell.digits}f}"  # + 0.0: no minus before zero
        if part != "value":
            return f"{number:.{3 if 'seconds' in part else cell.digits}f}"
        shown = f"{number:.{cell.digits}f}"
        shown = bold.format(shown) if cell.best else shown
        shown += f" {plus_minus} {cell.spread:.{cell.digits}f}" if cell.spread is not None else ""
        return shown + (f" [{cell.low:.4f}, {cell.high:.4f}]" if cell.low is not None and cell.high is not None else "")

    def name(row: str) -> str:
        return row if by_column else marked(row, [cell for cell in cells if cell.row == row])

    return head, [[name(row), *(text(by_place.get((row, c)), part) for c, part in parts)] for row in rows], marks


def _escaped(cell: Cell) -> Cell:
    return Cell(**{**vars(cell), "row": _tex(cell.row), "column": _tex(cell.column), "mark": _tex(cell.mark)})


def _tex(text: str) -> str:
    for character in "&%_#":
        text = text.replace(character, "\\" + character)
    return text.replace("±", r"$\pm$").replace("Δ", r"$\Delta$").replace("τ", r"$\tau$").replace("^", r"\^{}")


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _cell(row: dict[str, str]) -> Cell:
    def number(name: str) -> float | None:
        return float(row[name]) if row[name] else None

    values: dict[str, Any] = {name: row[name] for name in ("table", "dataset", "row", "column", "mark")}
    values |= {name: number(name) for name in ("spread", "low", "high", "paper", "seconds", "paper_seconds")}
    values |= {name: int(row[name]) for name in ("seeds", "scenes", "digits")}
    return Cell(**values, value=float(row["value"]), best=row["best"] == "1")
