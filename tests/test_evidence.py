"""Summaries for the documents: medians, counts and gains from the cells of tables made up here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments import evidence
from experiments.auto_ad import cut
from experiments.cells import frame_of, write_cells
from fers.scenes.scene import LabelledScene, Scene

KINDS = ("original", "untrained control", "spectral")


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "RESULTS", tmp_path)
    return tmp_path


def lines(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()]


def made_up(results) -> None:
    """Two scenes: training lowers airport-1's skewness and raises airport-2's; AE gains on the first only."""
    values = {"airport-1": (4, 8, 2), "airport-2": (2, 4, 6)}
    cells = []
    for scene, numbers in values.items():
        for seen, number in zip(KINDS, numbers, strict=True):
            for title in (*evidence.DISTANCES, "AUC of RX"):
                cells.append(
                    {"row": scene, "column": f"{title}: {seen}", "value": number / (10 if "AUC" in title else 1)}
                )
    for seen, value in zip(KINDS[1:], (-1.0, 0.5), strict=True):
        row = "rank correlation of the change with that of RX's AUC"
        cells.append({"row": row, "column": f"Mahalanobis distance: {seen}", "value": value})
    write_cells(frame_of(cells), results / "gaussianity.csv")
    aucs = []
    for detector in ("AE, oracle", "AE, last"):
        for seen, gain in zip(KINDS, (0, 0.125, 0.25), strict=True):
            for scene, sign in (("airport-1", 1), ("airport-2", -1)):
                aucs.append({"row": f"{detector}: {seen}", "column": scene, "value": 0.5 + sign * gain, "paper": 0.75})
            mean = {"column": "mean of 2", "value": 0.5, "scenes": 2, "ap": 0.25, "pd_1e3": 0.125, "pd_1e2": 0.375}
            aucs.append({"row": f"{detector}: {seen}", **mean})
    write_cells(frame_of(aucs), results / "table2.csv")


def test_medians_counts_and_rank_correlations(results):
    made_up(results)
    head, _, first, *_ = lines(evidence.gaussianity())
    assert head[1:4] == list(KINDS) and head[4] == "goes with RX's AUC: untrained control, spectral"
    assert first == ["Mahalanobis distance", "3.00", "6.00 (2)", "4.00 (1)", "-1.00, +0.50"]


def test_gains_scene_by_scene_beside_the_papers(results):
    made_up(results)
    _, _, first, second = lines(evidence.statements())
    assert first == ["airport-1", "0.50", "0.50", "0.50", "+0.125, +0.250", "+0.125, +0.250", "+0.024"]
    assert second[1] == "3.00" and second[4] == "-0.125, -0.250" and second[6] == "+0.061"


def test_table_two_has_ap_and_pd_beside_its_means(results):
    made_up(results)
    head, _, first, *rest = lines(evidence.table2())
    assert head == ["AUC (the paper's)", "airport-1", "airport-2", "mean of 2", "AP", "Pd@0.001", "Pd@0.01"]
    assert first == ["AE, oracle: original", "0.5000 (0.7500)", "0.5000 (0.7500)", "0.5000", "0.250", "0.125", "0.375"]
    assert len(rest) == 5


def test_auto_ads_spread_is_over_seeds(results):
    rows = [
        {"scene": "airport-4", "features": features, "seed": seed, "auc": 0.5 + 0.1 * seed, "ap": 0.25}
        | {"pd@1e-3": 0.5, "pd@1e-2": 1}
        for features in ("original", "spectral")
        for seed in (0, 1, 2)
    ]
    pd.DataFrame(rows).to_csv(results / "auto_ad.csv", index=False)
    _, _, first, second = lines(evidence.auto_ad())
    assert first[2:] == ["0.5000, 0.6000, 0.7000", "0.6000 ± 0.1000", "0.250", "0.500", "1.000"]
    assert second[:2] == ["airport-4, cut", "spectral"]


def test_a_cut_holds_the_window_with_the_most_anomalies():
    truth = np.zeros((100, 90), bool)
    truth[3, 5] = truth[70, 45] = truth[99, 89] = truth[60, 60] = True
    cube = np.arange(truth.size * 2, dtype=float).reshape(*truth.shape, 2)
    scene = LabelledScene("a", Path("a"), lambda: (Scene("a", cube, Path("a")), truth))
    found, marked = cut(scene)
    assert found.cube.shape == (48, 48, 2) and marked.sum() == 3
    assert np.array_equal(found.cube, cube[52:, 42:]) and np.array_equal(marked, truth[52:, 42:])
