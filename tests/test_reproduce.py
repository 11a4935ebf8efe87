"""reproduce.py: tables, figures, other people's score maps, bad input, and going on after a kill."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, write_had100
from pandas.testing import assert_frame_equal
from scipy.io import savemat

import reproduce
from experiments import cells as forms
from experiments import staleness
from experiments.explain import decorrelation_figure, own_components, pca_figure, relate
from experiments.jobs import training
from experiments.rows import (
    ORACLE,
    ROW_NAMES,
    SEEN,
    TABLE1,
    TABLE2,
    TABLE3,
    TABLE4,
    TABLE5,
    Request,
    TableRow,
    row_names,
    table2_row,
)
from experiments.tables import published, winner
from experiments.workspace import Workspace
from fers.datasets.synthetic.benchmark import write_benchmark
from fers.scenes import SceneError


def run(folder: Path, name: str, *arguments: str, code: int = 0, data: Path | None = None) -> Path:
    fixed = ["--data", str(data or folder / "data"), "--out", str(folder / "out"), "--bands", "10", "--device", "cpu"]
    assert reproduce.main([name, *fixed, "--option", "AE.iterations=2", *arguments]) == code
    return folder / "out" / "own-scenes-in-HAD100s-layout"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_table_has_its_rows_in_three_forms_and_is_not_computed_twice(dataset, tmp_path, capsys):
    out = run(tmp_path, "table1", "--rows", "RX,AE", "--seeds", "0,1")
    found = {row["row"]: row for row in rows(out / "tables" / "table1.csv")}
    assert list(found) == ["RX", "AE, last iteration", "AE, oracle iteration"]
    assert found["RX"]["seeds"] == "1" and found["AE, last iteration"]["seeds"] == "2"  # RX has nothing random
    assert found["RX"]["scenes"] == "3" and 0 <= float(found["RX"]["value"]) <= 1
    text = (out / "tables" / "table1.md").read_text()
    assert "AE, oracle iteration<sup>" in text and "ground truth of each test scene" in text
    assert (out / "tables" / "table1.tex").is_file() and (out / "figures" / "ranks_10.pdf").is_file() is False
    assert {row["row"] for row in rows(out / "tables" / "metrics.csv")} == set(found)
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/results.json")}
    capsys.readouterr()
    run(tmp_path, "table1", "--rows", "RX,AE", "--seeds", "0,1")
    assert f"{len(before)} of {len(before)} steps are done already" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in out.glob("runs/*/results.json")}


def test_score_maps_of_others_become_a_row(dataset, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    truths = Workspace("HAD100", dataset, tmp_path, "all").truths
    np.save(folder / "a.npy", truths["a"].astype(np.float32))
    np.save(folder / "b.npy", 1 - truths["b"].astype(np.float32))
    savemat(folder / "c.mat", {"map": truths["c"].astype(np.float64)})
    out = run(tmp_path, "table1", "--rows", "RX", "--scores", f"Mine={folder}")
    mine = next(row for row in rows(out / "tables" / "table1.csv") if row["row"] == "Mine")
    assert float(mine["value"]) == pytest.approx(2 / 3, abs=1e-6)  # right, upside down, right


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: np.save(folder / "b.npy", np.zeros((5, 5))), r"b.*\(5, 5\).*\(20, 24\)"),
        (lambda folder: np.save(folder / "b.npy", np.full((20, 24), np.nan)), r"b.*NaN"),
        (lambda folder: (folder / "b.npy").unlink(), r"no b\.npy and no b\.mat"),
        (lambda folder: (folder / "b.npy").write_bytes(b"no array"), r"b\.npy.*cannot be read"),
        (lambda folder: np.save(folder / "b.npy", np.zeros((20, 24, 2))), r"b\.npy.*\(20, 24, 2\)"),
    ],
)
def test_score_maps_that_cannot_be_used_are_refused_by_name(dataset, tmp_path, capsys, spoil, says):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in "abc":
        np.save(folder / f"{name}.npy", np.random.RandomState(0).uniform(size=(20, 24)))
    spoil(folder)
    run(tmp_path, "table1", "--rows", "RX", "--scores", f"Mine={folder}", code=2)
    error = capsys.readouterr().err
    assert re.search(says, error, re.DOTALL) and "Mine" in error


def test_a_detector_of_ones_own_becomes_a_row_of_the_code_that_ran(dataset, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    aucs = []
    for sign in ("", "-"):
        (tmp_path / "mine.py").write_text(f"def brightness(cube):\n    return {sign}cube.mean(2)\n")
        sys.modules.pop("mine", None)  # as in another process
        staleness.code_hash.cache_clear()
        staleness._tree.cache_clear()
        out = run(tmp_path, "table1", "--rows", "RX", "--detect", "mine:brightness")
        found = rows(out / "tables" / "table1.csv")
        assert [row["row"] for row in found] == ["RX", "mine:brightness"] and {row["paper"] for row in found} == {""}
        aucs.append(float(found[1]["value"]))
    assert aucs[0] == pytest.approx(1 - aucs[1], abs=1e-5) and aucs[0] != aucs[1]


def test_bad_requests_are_refused_by_name(dataset, tmp_path, capsys):
    run(tmp_path, "table1", "--rows", "RX,Auto-DA", code=2)
    assert "Auto-DA: no table has such a row. Did you mean Auto-AD?" in capsys.readouterr().err
    run(tmp_path, "table1", "--rows", "Auto-AD", code=2)  # 20 x 24 px
    error = capsys.readouterr().err
    assert "Auto-AD" in error and "a.npy" in error and "33" in error
    run(tmp_path, "table1", "--rows", "FERD", code=2)
    assert "no training patches" in capsys.readouterr().err
    run(tmp_path, "table4", "--rows", "RX", code=2)
    assert "table4: none of their rows" in capsys.readouterr().err
    run(tmp_path, "table1", "--rows", "FERD", "--weights", "released", "--released", str(tmp_path), code=2)
    assert "spe_fen.safetensors: not there" in capsys.readouterr().err
    run(tmp_path, "table1", "--scores", f"RX={tmp_path}", code=2)
    assert "--scores RX: the table has a row of this name" in capsys.readouterr().err
    run(tmp_path, "table1", "--detect", "mine:nothing", code=2)
    assert "--detect mine:nothing: cannot be imported" in capsys.readouterr().err
    run(tmp_path, "table1", "--option", "iterations=3", code=2)
    assert "expected DETECTOR.NAME=VALUE" in capsys.readouterr().err


def test_the_commas_in_the_name_of_a_row_do_not_split_it(dataset, tmp_path):
    asked = "RX,fusion A, equations, untrained control"
    assert row_names(asked) == ("RX", "fusion A, equations", "untrained control")
    chosen = Request(names=row_names(asked)).chosen(TABLE3, 200)
    assert [row.name for row in chosen] == ["RX", "untrained control", "fusion A, equations"]
    assert row_names("AE, oracle iteration,FERD, released recipe") == ("AE, oracle iteration", "FERD, released recipe")
    out = run(tmp_path, "table1", "--rows", "RX,AE, last iteration")
    assert [row["row"] for row in rows(out / "tables" / "table1.csv")] == ["RX", "AE, last iteration"]
    for row in ROW_NAMES:
        assert row_names(f"{row},{row}") == (row, row)


def test_options_of_every_training_reach_it(dataset, background, tmp_path):
    given = ["table1", "--data", str(background), "--training", "lr=0.01", "--nodata", "keep", "--epochs", "2"]
    asked = reproduce._request(reproduce.parser().parse_args([*given, "--out", str(tmp_path)]))
    assert asked.training == ("--epochs", "2", "--nodata", "keep", "--lr", "0.01")
    made = training(asked.first, "stage1", 10, 0, asked.training)
    assert "--lr 0.01" in made.label and "--nodata keep" in made.label
    assert made.key != training(asked.first, "stage1", 10, 0, ("--epochs", "2")).key
    assert "lr=0.01" in asked.facts[0] and "pixels without data: keep" in asked.facts[0]


def test_patches_without_data_are_named_below_the_tables(dataset, background, tmp_path):
    path = background / "train" / "aviris_ng" / "scene0_1.npy"
    cube = np.load(path)
    cube[0, 0, :3] = -9999
    np.save(path, cube)
    workspace = Workspace("HAD100", background, tmp_path)
    masked = training(workspace, "stage1", 10, 0, ())
    assert masked.patches == 11 and masked.caveat == "Training: 1 patches are left out: no data."
    kept = training(workspace, "stage1", 10, 0, ("--nodata", "keep"))
    assert kept.patches == 12 and kept.key != masked.key and "1 patches with no-data pixels are used" in kept.caveat
    with pytest.raises(SceneError, match="--nodata mask leaves these patches out"):
        training(workspace, "stage1", 10, 0, ("--nodata", "refuse"))


def test_results_of_other_data_are_not_mixed_in(dataset, tmp_path, capsys):
    run(tmp_path, "table1", "--rows", "RX")
    other = write_had100(tmp_path / "other", names=("a", "b"), shape=(20, 24, 30))
    run(tmp_path, "table1", "--rows", "RX", data=other, code=2)
    assert "holds results of other data" in capsys.readouterr().err


def test_synthetic_scenes_are_headed_so_and_have_no_number_of_the_paper_beside_them(tmp_path):
    write_benchmark(tmp_path / "data", n_train=0, n_test=2, size=32)
    run(tmp_path, "table3", "--rows", "RX", "--bands", "50")
    tables = tmp_path / "out" / "synthetic-HAD100" / "tables"
    assert "(synthetic scenes, not those of the paper)" in (tables / "table3.md").read_text()
    assert [row["paper"] for row in rows(tables / "table3.csv")] == [""]


def test_every_row_of_the_paper_finds_its_number(tmp_path):
    workspace = Workspace("HAD100", tmp_path, tmp_path, "all")
    workspace.__dict__["published"] = {"mean"}
    for source, table in (("Table I", TABLE1), ("Table III", TABLE3), ("Table IV", TABLE4), ("Table V", TABLE5)):
        for row in table:
            value = published(workspace, source, row, "mean", 50, "mAUC")
            assert (value is None) == (row.name in ("untrained control", "AE, last iteration")), row.name
    ferd = next(row for row in TABLE1 if row.name == "FERD")
    assert published(workspace, "Table I", ferd, "mean", 50, "mAUC") == 0.9941
    assert published(workspace, "Table V", TABLE5[2], "mean", 50, "mAUC") == 0.9947  # L_recon


def test_table_two_has_an_untrained_control_for_every_detector_and_the_papers_numbers_only_beside_its_own_rule(
    tmp_path,
):
    workspace = Workspace("ABU", tmp_path, tmp_path, "paper")
    workspace.__dict__["published"] = {"airport-3"}
    rows = {(detector, seen): table2_row(detector, seen) for detector in TABLE2 for seen in SEEN}
    known = {key: published(workspace, "Table II", row, "airport-3", 200, "AUC") for key, row in rows.items()}
    assert known["AE, oracle", "enhanced"] == 0.9596 and known["Auto-AD", "original"] == 0.9210
    beside = {(detector, seen) for detector in ("RX", "AE, oracle", "Auto-AD") for seen in ("original", "enhanced")}
    assert {key for key, value in known.items() if value is not None} == beside
    assert all(rows[detector, "untrained control"].config["features"] == "untrained" for detector in TABLE2)
    assert all(("never trained" in row.mark) == (seen == "untrained control") for (_, seen), row in rows.items())
    assert all((ORACLE in row.mark) == row.oracle == (detector == "AE, oracle") for (detector, _), row in rows.items())


@pytest.mark.slow
def test_table_two_and_the_gaussianity_do_without_a_spa_fen(tmp_path, capsys):
    write_benchmark(tmp_path / "abu", n_train=0, n_test=2, size=32, sensor="aviris")
    fixed = ["--abu", str(tmp_path / "abu"), "--out", str(tmp_path), "--backbone", "random", "--device", "cpu"]
    fixed += ["--option", "AE.iterations=2"]
    assert reproduce.main(["table2", *fixed, "--rows", "RX,AE"]) == 0
    [path] = tmp_path.glob("*/tables/table2.csv")
    found = rows(path)
    kinds = ("original", "untrained control", "spectral")
    names = [f"{detector}: {seen}" for detector in ("RX", "AE, last", "AE, oracle") for seen in kinds]
    assert list(dict.fromkeys(row["row"] for row in found)) == names
    assert {row["column"] for row in found if row["ap"]} == {"mean of 2"}
    assert all(0 <= float(row[key]) <= 1 for row in found if row["ap"] for key in ("ap", "pd_1e3", "pd_1e2"))
    assert reproduce.main(["table3", *fixed]) == 0
    table = path.with_name("table3.md").read_text()
    assert "Rows of both branches are left out" in table
    assert {row["row"] for row in rows(path.with_name("table3.csv"))} == {"RX", "untrained control", "spectral"}
    assert reproduce.main(["gaussianity", *fixed]) == 0
    columns = {row["column"] for row in rows(path.with_name("gaussianity.csv"))}
    assert {f"AUC of AE, oracle: {seen}" for seen in kinds} | {
        f"Mahalanobis distance: {seen}" for seen in kinds
    } <= columns
    assert reproduce.main(["fig8", *fixed, "--rows", "AE"]) == 0
    assert reproduce.main(["decorrelation", *fixed]) == 2 and "no Spa-FEN" in capsys.readouterr().err


def test_all_can_be_planned_where_abu_has_no_patches_as_make_paper_demo_asks(tmp_path, capsys):
    write_benchmark(tmp_path / "had100", n_train=2, n_test=2, size=48)
    write_benchmark(tmp_path / "abu", n_train=0, n_test=2, size=48, sensor="aviris")
    folders = ["--data", str(tmp_path / "had100"), "--abu", str(tmp_path / "abu"), "--out", str(tmp_path / "out")]
    assert reproduce.main(["all", *folders, "--backbone", "random", "--device", "cpu", "--plan"]) == 0
    assert "no training patches" not in "".join(capsys.readouterr())


def test_table_one_has_the_fusion_of_each_number_of_bands():
    names = {bands: [row.name for row in Request().chosen(TABLE1, bands)] for bands in (50, 100)}
    assert "FERS, fusion A as released" in names[50] and "FERS, fusion A as released" not in names[100]
    both = Request(recipes=("paper", "released")).chosen([TableRow("FERD", network="spectral"), TableRow("RX")], 50)
    assert [row.name for row in both] == ["FERD", "FERD, released recipe", "RX"]


def test_bold_needs_a_test_that_supports_it():
    rng = np.random.default_rng(0)
    low = rng.uniform(0.5, 0.9, 20)
    assert winner({"a": low + 0.05, "b": low}) == "a"
    assert winner({"a": low[:4] + 0.05, "b": low[:4]}) == ""  # four scenes cannot reach p < 0.05
    assert winner({"a": low + 0.05, "b": low, "c": low + 0.05 + 1e-3 * rng.standard_normal(20)}) == ""
    assert winner({"a": low}) == ""


def test_cells_survive_their_csv_and_show_what_they_hold(tmp_path):
    numbers = {"value": 0.98765, "spread": 0.001, "low": 0.9, "high": 0.99, "paper": 0.9, "seconds": 0.5}
    marked = {"row": "L_x & y", "column": "50 %", "paper_seconds": 0.25, "best": True, "mark": "A mark.", "digits": 3}
    cells = forms.frame_of([{**numbers, **marked}, {"row": "z", "column": "50 %", "value": 0.5}])
    forms.write_cells(cells, tmp_path / "t.csv")
    assert_frame_equal(forms.read_cells(tmp_path / "t.csv")[["row", *forms.NUMBERS]], cells[["row", *forms.NUMBERS]])
    text = forms.cells_markdown(cells, ["A note."])
    assert "| L_x & y<sup>1</sup> | **0.988** ± 0.001 [0.9000, 0.9900] | 0.900 | +0.088 | 0.500 | 0.250 |" in text
    assert "| z | 0.5000 | - | - | - | - |" in text and "- <sup>1</sup> A mark." in text and "- A note." in text
    tex = forms.cells_latex(cells, "100 %", "t")
    assert r"L\_x \& y\textsuperscript{1} & \textbf{0.988} $\pm$ 0.001" in tex and r"100 \%" in tex


def test_own_components_keep_distances_and_point_along_the_spread(tmp_path):
    rng = np.random.default_rng(1)
    pixels = rng.standard_normal((200, 6)) * [5, 3, 2, 0, 0, 0] + 7
    found = own_components(pixels, pixels.mean(0))
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.linalg.norm(pixels - pixels.mean(0), axis=1))
    assert (np.diff(found.std(0)) < 0).all()
    assert own_components(pixels[:1], pixels.mean(0)).shape == (1, 3)  # one anomaly has no spread
    cube, truth = pixels.reshape(20, 10, 6), np.arange(200).reshape(20, 10) < 3
    assert pca_figure([("scene", {"before": cube, "after": cube}, truth)], tmp_path / "a.pdf").stat().st_size > 1000


def test_decorrelation_of_known_features(tmp_path):
    spe = np.random.default_rng(2).uniform(size=(50, 3))
    cosine, correlation = relate(spe, 2 * spe)
    assert cosine == pytest.approx(np.ones(50)) and np.diag(correlation) == pytest.approx(np.ones(3))
    assert np.isnan(relate(spe, np.ones((50, 3)))[1]).all()
    curves = [{"epoch": 1, "terms": {"cc": 2.0}}, {"epoch": 2, "terms": {"cc": 1.0}}]
    assert decorrelation_figure(spe, np.ones((50, 3)), curves, tmp_path / "d.png").stat().st_size > 1000


def _command(folder: Path, out: str) -> list[str]:
    return [
        *(sys.executable, "reproduce.py", "all", "--data", str(folder / "data"), "--abu", str(folder / "abu")),
        *("--out", str(folder / out), "--bands", "12", "--rows", "RX,AE,FERS,L_recon", "--device", "cpu"),
        *("--backbone", "random", "--epochs", "1", "--batch_size", "4", "--option", "AE.iterations=3"),
    ]


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_and_the_tables_are_those_of_an_undisturbed_run(tmp_path):
    write_benchmark(tmp_path / "data", n_train=4, n_test=3, size=32)
    write_benchmark(tmp_path / "abu", n_train=0, n_test=2, size=32, sensor="aviris")
    settings = {"cwd": ROOT, "env": {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}}
    killed = subprocess.Popen(
        _command(tmp_path, "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **settings
    )
    out = tmp_path / "killed"
    deadline = time.monotonic() + 300
    while not list(out.glob("*/training/stage1*/stage1/log.jsonl")):  # in the middle of a training
        assert killed.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = {p: p.stat().st_mtime_ns for p in out.glob("*/runs/*/results.json") if '"complete": true' in p.read_text()}
    assert done
    for name in ("killed", "undisturbed"):
        subprocess.run(_command(tmp_path, name), check=True, stdout=subprocess.DEVNULL, **settings)
    assert done == {path: path.stat().st_mtime_ns for path in done}  # nothing is computed twice
    tables = sorted(path.relative_to(out) for path in out.glob("*/tables/*.csv") if path.stem != "timing")
    assert len(tables) >= 6

    def timeless(path: Path) -> list[dict[str, str]]:
        return [{key: value for key, value in row.items() if "seconds" not in key} for row in rows(path)]

    for table in tables:
        assert timeless(out / table) == timeless(tmp_path / "undisturbed" / table), table
