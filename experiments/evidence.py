"""Summaries for the documents, of several tables in ``experiments/results``: the paper's statements in section IV, by numbers.

Each function renders one table of docs/. docs/results.md has the commands that make its CSVs.
"""

from __future__ import annotations

import pandas as pd

from experiments import RESULTS
from experiments.cells import read_cells
from experiments.leaderboard import JUDGED
from experiments.rows import SEEN
from fers.evaluation.metrics import MEASURES
from fers.evaluation.published import published_aucs
from fers.evaluation.tables import markdown

DISTANCES = ("Mahalanobis distance", "Bhattacharyya distance", "skewness (1 is Gaussian)")
AE = "AE, oracle"  # as the paper's AE numbers
SETTINGS_SHOWN = {  # label of the comparison in features.csv: how README.md calls it
    "RX": "RX on the cube",
    "RX untrained": "RX on H + F_spe, never trained",
    "RX spectral": "RX on H + F_spe, the authors' weights",
    "RX untrained-C": "fusion C, never trained",
    "RX spectral-C": "fusion C, the authors' weights",
    "RX untrained-D": "fusion D, never trained",
    "RX spectral-D": "fusion D, the authors' weights",
}


def table2() -> str:
    """Render Table II: AUC on each scene with the paper's in brackets, and the means with AP and Pd."""
    frame = read_cells(RESULTS / "table2.csv")
    means = frame[frame.scenes > 1]
    lines = []
    for row, group in frame[frame.scenes == 1].groupby("row", sort=False):
        cells = [_beside(cell.value, cell.paper) for cell in group.itertuples()]
        for mean in means[means.row == row].itertuples():
            cells += [_beside(mean.value, mean.paper), f"{mean.ap:.3f}", f"{mean.pd_1e3:.3f}", f"{mean.pd_1e2:.3f}"]
        lines.append([row, *cells])
    scenes = frame[frame.scenes == 1].column.str.replace(" (a cut of the paper's)", ", cut", regex=False).unique()
    beside = [text for mean in means.column.unique() for text in (mean, "AP", "Pd@0.001", "Pd@0.01")]
    return markdown(["AUC (the paper's)", *scenes, *beside], lines)


def _beside(value: float, paper: float) -> str:
    return f"{value:.4f}" if pd.isna(paper) else f"{value:.4f} ({paper:.4f})"


def gaussianity() -> str:
    """Render medians over scenes of each measure by what the detector sees, and how their changes go with the AUCs'."""
    cells = _gaussianity()
    changes = cells.index.str.startswith("rank correlation")
    scenes, ranks, kinds = cells[~changes], cells[changes], _kinds(cells)
    lines = []
    for measure in dict.fromkeys(column.rpartition(": ")[0] for column in cells):
        digits = 4 if measure.startswith("AUC") else 2
        original = scenes[f"{measure}: original"]
        line = [measure.replace("oracle", "best iteration"), f"{original.median():.{digits}f}"]
        for seen in kinds[1:]:
            values = scenes[f"{measure}: {seen}"]
            line.append(f"{values.median():.{digits}f} ({int((values > original).sum())})")
        for row in ranks.index:
            values = ranks.loc[row].reindex([f"{measure}: {seen}" for seen in kinds[1:]])
            line.append("-" if values.isna().all() else ", ".join(f"{value:+.2f}" for value in values))
        lines.append(line)
    detectors = [row.partition("that of ")[2].replace("oracle", "best") for row in ranks.index]
    goes = [f"goes with {detector}: {', '.join(kinds[1:])}" for detector in detectors]
    return markdown([f"median of {len(scenes)} scenes (scenes above the original)", *kinds, *goes], lines)


def statements() -> str:
    """Render scene by scene what the spectral branch changes, and what AE gains by each kind of features."""
    cells, aucs = _gaussianity(), read_cells(RESULTS / "table2.csv")
    kinds = _kinds(cells)
    paper = {seen: published_aucs("ABU", "AE", SEEN[seen][2], 200) for seen in ("original", "enhanced")}
    lines = []
    for scene in [row for row in cells.index if not row.startswith("rank")]:
        measure = cells.loc[scene]
        line = [scene, *(f"{measure[f'{key}: spectral'] / measure[f'{key}: original']:.2f}" for key in DISTANCES)]
        of_scene = aucs[aucs.column.str.partition(" ")[0] == scene].set_index("row").value
        for detector in (AE, "AE, last"):
            gains = (of_scene[f"{detector}: {seen}"] - of_scene[f"{detector}: original"] for seen in kinds[1:])
            line.append(", ".join(f"{gain:+.3f}" for gain in gains))
        lines.append([*line, f"{paper['enhanced'][scene] - paper['original'][scene]:+.3f}"])
    factors = [f"{key.partition(' (')[0]}, x" for key in DISTANCES]
    features = ", ".join(kinds[1:])
    return markdown(["scene", *factors, f"AE, best: {features}", f"AE, last: {features}", "AE, the paper's"], lines)


def _kinds(cells: pd.DataFrame) -> list[str]:
    """List what detectors see, in the order of the columns."""
    return list(dict.fromkeys(column.rpartition(": ")[2] for column in cells))


def _gaussianity() -> pd.DataFrame:
    """The cells of gaussianity.csv: a line for each scene and each rank correlation, a column for each measure and cube."""
    frame = read_cells(RESULTS / "gaussianity.csv")
    wide = frame.pivot(index="row", columns="column", values="value")
    return wide.loc[frame.row.unique(), frame.column.unique()]


def auto_ad() -> str:
    """Render Auto-AD's spread over seeds by scene and features."""
    frame = pd.read_csv(RESULTS / "auto_ad.csv")
    lines = []
    for (scene, features), group in frame.groupby(["scene", "features"]):
        each = ", ".join(f"{value:.4f}" for value in group.auc)
        others = (f"{group[key].mean():.3f}" for key in JUDGED[1:])
        mean = f"{group.auc.mean():.4f}" + (f" ± {group.auc.std():.4f}" if len(group) > 1 else "")
        lines.append([f"{scene}, cut", features, each, mean, *others])
    return markdown(["scene", "features", "AUC by seed", "mean", *(MEASURES[key].title for key in JUDGED[1:])], lines)


def features_means() -> str:
    """Render the means of AUC, AP and Pd over the scenes of features.csv by setting."""
    frame = pd.read_csv(RESULTS / "features.csv", keep_default_na=False).set_index("label")
    means = frame[list(JUDGED)].astype(float).groupby("label").mean()
    head = [f"means of {frame.scene.nunique()} scenes", *(MEASURES[key].title for key in JUDGED)]
    return markdown(head, [[title, *(f"{v:.4f}" for v in means.loc[label])] for label, title in SETTINGS_SHOWN.items()])
