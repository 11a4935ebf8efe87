"""Render the tables of the documents from CSVs: nothing between the markers is typed.

    python -m experiments.render            rewrite README.md and docs/*.md
    python -m experiments.render --check    say which document differs from its data; exit code 2

In a document a table stands between ``<!-- table NAME: begin -->`` and ``<!-- table NAME: end -->``. NAME is a key of
``TABLES``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from experiments import ROOT, beyond_tables, cells
from experiments.markdown import markdown, rows_of, spread
from experiments.runner import RESULTS
from fers.evaluation.published import published_aucs
from fers.util.commandline import run as run_command
from fers.util.errors import FersError
from fers.util.files import atomic_path

FIVE = ("airport-1", "airport-2", "airport-3", "airport-4", "urban-3")  # the paper's scenes whose files are whole here
_BLOCK = re.compile(r"(<!-- table (\S+): begin -->\n).*?(<!-- table \2: end -->)", re.DOTALL)


def abu() -> str:
    """The README's table: scenes by settings, the paper's fusion B beside them."""
    rows = rows_of("abu")
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    paper = published_aucs("ABU", "RX", "fused-B", 200)

    def values(setting: str, scenes: Sequence[str]) -> list[float]:
        """The mean over the scenes, seed by seed."""
        mine = [row for row in rows if row["setting"] == setting and row["scene"] in scenes]
        seeds = sorted({row["seed"] for row in mine})
        return [fmean(float(row["auc"]) for row in mine if row["seed"] == seed) for seed in seeds]

    def line(name: str, scenes: Sequence[str]) -> list[str]:
        known = [paper[scene] for scene in scenes if scene in paper]
        published = f"{fmean(known):.4f}" if len(known) == len(scenes) else "-"
        return [name, *(spread(values(setting, scenes)) for setting in settings), published]

    every = sorted({row["scene"] for row in rows})
    table = [line(scene, [scene]) for scene in FIVE]
    table += [line("**mean of these five**", FIVE), line(f"mean of all {len(every)} ABU scenes", every)]
    return markdown(["scene", *settings, "paper: both branches"], table)


def training_stage1() -> str:
    """Means of Stage 1's runs, one a line."""
    rows = [row for row in rows_of("training_stage1") if row["scene"] == "mean"]

    def value(row: dict) -> str:
        return f"{row['auc']} ± {row['standard_deviation']}" if row["standard_deviation"] else row["auc"]

    return markdown(
        ["run", "background", "seeds", "mean AUC"],
        [[row["run"], row["background"] or "-", row["seeds"] or "-", value(row)] for row in rows],
    )


def training_stage2() -> str:
    """Means of Stage 2's runs by what RX sees, over the seeds of a run."""
    rows = rows_of("training_stage2")
    views = list(dict.fromkeys(row["view"] for row in rows))
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        run = re.sub(r", seed \d", "", row["run"].partition(";")[0]).replace("on the ", "", 1)
        found.setdefault(run, {}).setdefault(row["view"], []).append(float(row["auc"]))
    return markdown(
        ["the Spe-FEN that teaches", *views],
        [[run, *(spread(values[view]) for view in views)] for run, values in found.items()],
    )


def performance() -> str:
    """What ``make bench`` measured: both sides, and where."""
    head = (
        "case",
        "bands",
        "threads",
        "reference ms",
        "product ms",
        "ratio",
        "reference CPU ms",
        "product CPU ms",
        "rounds",
    )
    columns = (
        "bands",
        "threads",
        "reference_ms",
        "product_ms",
        "ratio",
        "reference_cpu_ms",
        "product_cpu_ms",
        "rounds",
    )
    rows = rows_of("performance")
    where = sorted({f"{row['machine']}, {row['revision']}, {row['date']}" for row in rows})
    return (
        markdown(head, [[row["case"], *(row[c] for c in columns)] for row in rows])
        + f"\nMeasured on {'; '.join(where)}.\n"
    )


def paper_table(name: str) -> str:
    """A table that ``reproduce.py`` made, from its CSV."""
    return cells.markdown(cells.read_csv(RESULTS / f"{name}.csv"))


TABLES: dict[str, Callable[[], str]] = {
    "abu": abu,
    "gaussianity": lambda: paper_table("gaussianity"),
    "performance": performance,
    "table2": lambda: paper_table("table2"),
    "table3_abu": lambda: paper_table("table3_abu"),
    "training_stage1": training_stage1,
    "training_stage2": training_stage2,
    **beyond_tables.TABLES,
}


def rendered(text: str) -> str:
    """A document's text with every table renewed.

    Raises:
        FersError: A table is unknown, or has no data.
    """

    def renew(match: re.Match[str]) -> str:
        name = match.group(2)
        if name not in TABLES:
            raise FersError(f"<!-- table {name} -->: unknown; choose among {', '.join(TABLES)}.")
        return f"{match.group(1)}{TABLES[name]()}{match.group(3)}"

    return _BLOCK.sub(renew, text)


def documents() -> list[Path]:
    """The documents that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.render", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say which documents differ from their data")
    options = parser.parse_args(arguments)

    def work() -> None:
        stale = []
        for path in documents():
            text = path.read_text(encoding="utf-8")
            new = rendered(text)
            if new != text and options.check:
                stale.append(str(path.relative_to(ROOT)))
            elif new != text:
                with atomic_path(path) as temporary:
                    temporary.write_text(new, encoding="utf-8")
                print(f"rendered {path.relative_to(ROOT)}")
        if stale:
            raise FersError(f"{', '.join(stale)}: tables differ from their data. Run make docs.")

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
