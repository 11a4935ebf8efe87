"""The result of a comparison, with its tables, figures and page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fers.comparison.compared import COSTS, KEYS, Compared, ComparedScene
from fers.util.files import json_text, plain_cell, write_whole
from fers.util.lock import locked

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COSTS", "KEYS", "CompareResult", "ComparedScene"]


@dataclass(frozen=True)
class CompareResult(Compared):
    """The result of a comparison: what it found, and the files that show it."""

    def summary(self) -> pd.DataFrame:
        """One row for each label: means, the worst scene, ranks, intervals; see ``fers.comparison.summary``."""
        from fers.comparison.summary import summary

        return summary(self)

    def figures(self, folder: str | Path | None = None) -> list[Path]:
        """Draw the figures as PNG and PDF into a folder, by default ``figures`` in the current one; return their paths."""
        from fers.comparison.figures import write_figures

        return write_figures(self, Path("figures" if folder is None else folder))

    def write(self, folder: str | Path) -> list[Path]:
        """Write tables (``compare.csv``, ``.md``, ``.tex``, ``cells.csv``), figures, the page and ``provenance.json``.

        ``compare.csv`` is ``long()``, and ``cells.csv`` is ``table()``. Returns the paths of all files.
        """
        from fers.comparison.page import write_compare_page
        from fers.comparison.summary import summary_latex, summary_markdown

        folder = Path(folder)
        texts = {
            "compare.csv": self.long().map(plain_cell).to_csv(index=False),
            "cells.csv": self.table().map(plain_cell).to_csv(index=False),
            "compare.md": summary_markdown(self),
            "compare.tex": summary_latex(self),
            "provenance.json": json_text(
                folder / "provenance.json", {**self.provenance, "caveats": self.caveats}, indent=2
            )
            + "\n",
        }
        with locked(folder):
            for name, text in texts.items():
                write_whole(folder / name, text.encode())
            figures = self.figures(folder / "figures")
            return [*(folder / name for name in texts), *figures, write_compare_page(self, folder)]
