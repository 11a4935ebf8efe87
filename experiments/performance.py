"""The tables and the figure of docs/performance.md, from what ``make bench`` and ``fers compare`` measured."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from experiments import RESULTS, ROOT
from fers.evaluation.tables import markdown
from fers.util.errors import FersError

FIGURE = ROOT / "docs" / "performance.png"


def networks() -> str:
    """Render the deployed path beside the paper's equations in plain lines: a case a row, a number of bands a column."""
    rows = _rows("networks")
    rows["shown"] = _ms(rows.cpu_s) + rows.ratio.map(lambda ratio: f" ({ratio})" if ratio else "")
    return _wide(rows, "shown", "{} bands")


def training() -> str:
    """Render a step of each stage beside the same step in plain lines."""
    rows = _rows("training")
    columns = {"case": "step", "bands": "bands", "batch": "patches", "reference_cpu_s": "plain, CPU s"}
    return _table(rows, columns | {"cpu_s": "product, CPU s", "ratio": "ratio"})


def windows() -> str:
    """Render the detectors of a window beside an earlier revision."""
    rows = _rows("windows")
    rows["size"] = "100 x 100 x " + rows.bands
    columns = {"case": "detector", "size": "scene", "reference": "before", "reference_cpu_s": "before, CPU s"}
    return _table(rows, columns | {"cpu_s": "now, CPU s", "ratio": "ratio"})


def detect() -> str:
    """Render what a line costs: the slope and the intercept of two sizes."""
    rows = _rows("detect").astype({"pixels": float, "cpu_s": float})
    if rows.pixels.nunique() < 2:
        return "Not measured yet.\n"
    lines = []
    for (case, bands), two in rows.sort_values("pixels").groupby(["case", "bands"], sort=False):
        (p0, t0), (p1, t1) = two[["pixels", "cpu_s"]].iloc[[0, -1]].to_numpy()
        slope = (t1 - t0) / (p1 - p0)
        before = pd.to_numeric(two.reference_cpu_s.iloc[[0, -1]], errors="coerce").to_numpy()
        earlier = (before[1] - before[0]) / (p1 - p0)
        shown = [f"{1e6 * earlier:.0f}" if earlier == earlier else "-", f"{1e6 * slope:.0f}", f"{t0 - slope * p0:.1f}"]
        lines.append([case, bands, f"{p0 / 1e6:.2f}, {p1 / 1e6:.2f}", *shown])
    return markdown(["case", "bands", "MP", "before, us a pixel", "us a pixel", "fixed, CPU s"], lines)


def whole() -> str:
    """Render what a whole line took."""
    rows = _rows("whole")
    pixels, cpu, wall = (rows[column].astype(float) for column in ("pixels", "cpu_s", "wall_s"))
    rows["MP"], rows["us"] = (pixels / 1e6).map("{:.2f}".format), (1e6 * cpu / pixels).map("{:.1f}".format)
    rows["minutes"] = (wall / 60).map("{:.1f}".format)
    columns = {"case": "case", "bands": "bands", "MP": "MP", "us": "CPU us a pixel", "minutes": "minutes by the clock"}
    return _table(rows, columns | {"peak_mb": "peak MB"})


def start() -> str:
    """Render the start of commands."""
    rows = _rows("start")
    rows["case"] = "`python " + rows.case + "`"
    return _table(rows, {"case": "command", "cpu_s": "CPU s"})


def abu() -> str:
    """Render what every detector of the leaderboard takes for ABU's 13 scenes, the fastest first."""
    rows = pd.read_csv(RESULTS / "leaderboard.csv", keep_default_na=False)
    rows = rows[rows.scene.str.contains(r"airport|beach|urban-\d")]
    assert rows.scene.nunique() == 13
    total = rows.astype({"cpu_seconds": float}).groupby("label").cpu_seconds.sum().sort_values()
    return markdown(["detector", "CPU s, 13 scenes"], [[name, f"{value:.3g}"] for name, value in total.items()])


def where() -> str:
    """Say where and when all of it was measured."""
    rows = _read(RESULTS / "performance.csv")
    found = sorted(
        {", ".join(filter(None, row)) for row in rows[["machine", "revision", "date"]].itertuples(index=False)}
    )
    return f"Measured on {'; '.join(found)}.\n"


def draw(path: Path = FIGURE) -> Path:
    """Draw time against pixels and time against bands; returns the file's path."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    pixels, bands = figure.subplots(1, 2)
    lines = _rows("detect").astype({"pixels": float, "cpu_s": float}).sort_values("pixels")
    for case, rows in lines.groupby("case"):
        pixels.plot(rows.pixels / 1e6, rows.cpu_s, "o-", label=case)
    pixels.set(xlabel="megapixels, 220 bands", ylabel="CPU s of fers detect", xlim=(0, None), ylim=(0, None))
    whole = (
        _rows("networks").query("case == 'fusion B'").astype({"bands": int, "cpu_s": float, "reference_cpu_s": float})
    )
    for name, rows in whole.sort_values("bands").groupby("network"):
        [line] = bands.plot(rows.bands, 1e3 * rows.cpu_s, "o-", label=f"product, {name}")
        bands.plot(rows.bands, 1e3 * rows.reference_cpu_s, "o--", color=line.get_color(), label=f"plain, {name}")
    bands.set(xlabel="bands", ylabel="CPU ms, fusion B, 64 x 64 px", xlim=(0, None), ylim=(0, None))
    for axes in (pixels, bands):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    return path


def _rows(part: str) -> pd.DataFrame:
    frame = _read(RESULTS / "performance.csv")
    return frame[frame.part == part].copy()


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise FersError(f"{path}: no results. Run make bench.")
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _ms(cpu_s: pd.Series) -> pd.Series:
    return (1e3 * cpu_s.astype(float)).map("{:.0f}".format)


def _table(rows: pd.DataFrame, columns: dict[str, str]) -> str:
    if rows.empty:
        return "Not measured yet.\n"
    return markdown(list(columns.values()), rows[list(columns)].replace("", "-").to_numpy().tolist())


def _wide(rows: pd.DataFrame, value: str, title: str) -> str:
    """Bring the numbers of bands side by side."""
    bands = sorted(rows.bands.unique(), key=int)
    lines = []
    for (network, case), group in rows.groupby(["network", "case"], sort=False):
        shown = group.set_index("bands")[value]
        lines.append([network, case, *(shown.get(each, "-") for each in bands)])
    return markdown(["network", "case", *map(title.format, bands)], lines)
