"""Render the tables of the documents from CSVs: nothing between the markers is typed.

    python -m experiments.render            rewrite README.md and docs/*.md
    python -m experiments.render --check    say which document differs from its data; exit code 2

In a document a table stands between ``<!-- table NAME: begin -->`` and ``<!-- table NAME: end -->``. NAME is a key of
``RENDERED``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from experiments import RESULTS, ROOT
from experiments.cells import cells_markdown, markdown, read_cells
from experiments.tables import FIVE
from fers.evaluation.published import published_aucs
from fers.util.commandline import run
from fers.util.errors import FersError
from fers.util.files import write_whole

FROZEN = ROOT / "docs" / "notebook" / "beyond" / "tables"  # made once, by docs/notebook/beyond/beyond_tables.py
_MARKED = re.compile(r"(<!-- table (\S+): begin -->\n).*?(<!-- table \2: end -->)", re.DOTALL)


def _csv(name: str, **options) -> pd.DataFrame:
    path = RESULTS / f"{name}.csv"
    if not path.is_file():
        raise FersError(f"{path}: no results. Make them as docs/ says above the table.")
    return pd.read_csv(path, **options)


def _as_it_is(path: Path) -> str:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    return markdown(list(frame), frame.to_numpy().tolist())


def _paper_table(name: str) -> str:
    return cells_markdown(read_cells(RESULTS / f"{name}.csv"))


def spread(values: pd.Series) -> str:
    """A mean to four digits, with the standard deviation over seeds where there are several.

    Example:
        >>> spread(pd.Series([0.95])), spread(pd.Series([0.95, 0.97]))
        ('0.9500', '0.9600 ± 0.0141')
    """
    return f"{values.mean():.4f}" + (f" ± {values.std():.4f}" if len(values) > 1 else "")


def abu() -> str:
    """The README's table: scenes by settings, the paper's fusion B at the end."""
    frame = _csv("abu")
    paper = published_aucs("ABU", "RX", "fused-B", 200)
    every = sorted(frame.scene.unique())
    groups = {scene: [scene] for scene in FIVE}
    groups |= {"**mean of these five**": list(FIVE), f"mean of all {len(every)} ABU scenes": every}
    lines = []
    for name, scenes in groups.items():
        means = frame[frame.scene.isin(scenes)].groupby(["setting", "seed"], sort=False).auc.mean()
        published = pd.Series([paper.get(scene) for scene in scenes], dtype=float).mean(skipna=False)
        shown = [spread(seeds) for _, seeds in means.groupby("setting", sort=False)]
        lines.append([name, *shown, "-" if pd.isna(published) else f"{published:.4f}"])
    return markdown(["scene", *frame.setting.unique(), "paper: both branches"], lines)


def training_stage1() -> str:
    """Means of Stage 1's runs, one a line."""
    frame = _csv("training_stage1", dtype=str, keep_default_na=False).query("scene == 'mean'")
    frame = (
        frame[["run", "background", "seeds", "auc"]]
        .replace("", "-")
        .assign(auc=frame.auc.where(frame.standard_deviation == "", frame.auc + " ± " + frame.standard_deviation))
    )
    return markdown(["run", "background", "seeds", "mean AUC"], frame.to_numpy().tolist())


def training_stage2() -> str:
    """Means of Stage 2's runs by what RX sees, over the seeds of a run."""
    frame = _csv("training_stage2")
    run = frame.run.str.partition(";")[0].str.replace(r", seed \d", "", regex=True).str.replace("on the ", "", n=1)
    table = frame.auc.groupby([run, frame["view"]], sort=False).agg(spread).unstack(sort=False)
    return markdown(["the Spe-FEN that teaches", *table], table.reset_index().to_numpy().tolist())


def performance() -> str:
    """What ``make bench`` measured: both sides, and where."""
    frame = _csv("performance", dtype=str)
    columns = ["case", "bands", "threads", "reference_ms", "product_ms", "ratio", "reference_cpu_ms", "product_cpu_ms"]
    head = [name.replace("_cpu_", " CPU ").replace("_", " ") for name in (*columns, "rounds")]
    where = sorted(set(frame.machine + ", " + frame.revision + ", " + frame.date))
    return markdown(head, frame[[*columns, "rounds"]].to_numpy().tolist()) + f"\nMeasured on {'; '.join(where)}.\n"


RENDERED: dict[str, Callable[[], str]] = {
    "abu": abu,
    "training_stage1": training_stage1,
    "training_stage2": training_stage2,
    "performance": performance,
    **{name: partial(_paper_table, name) for name in ("gaussianity", "table2", "table3_abu")},
    **{path.stem: partial(_as_it_is, path) for path in sorted(FROZEN.glob("*.csv"))},
}


def rendered(text: str) -> str:
    """A document's text with every table rendered again.

    Raises:
        FersError: A table is unknown, or has no data.
    """

    def table(match: re.Match[str]) -> str:
        name = match.group(2)
        if name not in RENDERED:
            raise FersError(f"<!-- table {name} -->: unknown; choose among {', '.join(RENDERED)}.")
        return f"{match.group(1)}{RENDERED[name]()}{match.group(3)}"

    return _MARKED.sub(table, text)


def documents() -> list[Path]:
    """The documents that may hold tables."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def render(check: bool) -> None:
    """Rewrite the documents whose tables differ from their data; with ``check``, only say which.

    Raises:
        FersError: Some differ, with ``check``.
    """
    stale = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        new = rendered(text)
        if new != text and not check:
            write_whole(path, new.encode())
            print(f"rendered {path.relative_to(ROOT)}")
        elif new != text:
            stale.append(str(path.relative_to(ROOT)))
    if stale:
        raise FersError(f"{', '.join(stale)}: tables differ from their data. Run make docs.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.render", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say which documents differ from their data")
    options = parser.parse_args(arguments)
    return run(lambda: render(options.check))


if __name__ == "__main__":
    sys.exit(main())
