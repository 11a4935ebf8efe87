"""Jobs are done once, each is told apart from every other, and the README's table has a row for each of its scores."""

from __future__ import annotations

import re

import pandas as pd
import pytest
from conftest import write_had100
from scipy.io import savemat

from experiments import render
from experiments.jobs import Score, given
from experiments.plan import make_missing, plan_lines, read_rates
from experiments.workspace import Workspace
from fers.util.errors import FersError


@pytest.fixture
def workspace(tmp_path):
    return Workspace("HAD100", write_had100(tmp_path / "data", shape=(12, 11, 9)), tmp_path / "out", "all")


def test_a_job_changes_its_folder_with_data_seed_and_options(workspace, tmp_path):
    other = Workspace("HAD100", write_had100(tmp_path / "other", shape=(12, 11, 10)), tmp_path / "out", "all")
    config = {"features": "original", "detect": "AE"}
    jobs = [
        Score(workspace, "x", 8, 0, config),
        Score(workspace, "x", 8, 1, config),
        Score(workspace, "x", 7, 0, config),
        Score(workspace, "x", 8, 0, {**config, "options": {"iterations": "2"}}),
        Score(other, "x", 8, 0, config),
    ]
    assert len({job.folder for job in jobs}) == len(jobs)
    assert Score(workspace, "another name", 8, 0, config).folder == jobs[0].folder


def test_a_job_that_fails_is_named_and_what_was_done_before_is_kept(workspace, tmp_path, capsys):
    good = Score(workspace, "good", 8, 0, {"features": "original"})
    bad = Score(workspace, "bad", 8, 0, {"features": "original", "options": {"nothing": "1"}})
    with pytest.raises(FersError, match=r"own scenes in HAD100.s layout: bad, 8 bands, seed 0: .*nothing"):
        make_missing([good, bad, good], "cpu", tmp_path / "log.txt")
    assert good.done() and not bad.done()
    assert "mean of 2" in (tmp_path / "log.txt").read_text()
    lines = plan_lines([good, bad], read_rates("cpu"))
    assert lines[0] == "1 of 2 steps are done already."
    assert any(re.match(r" *done .*: good, 8 bands", line) for line in lines)
    assert any(re.match(r" *to do .*: bad, 8 bands", line) for line in lines)


def test_given_weights_are_put_together_with_their_frozen_layers(workspace, tmp_path):
    files = tmp_path / "a" / "spe_fen.safetensors", tmp_path / "b" / "spa_fen.safetensors"
    for file in (*files, files[0].with_name("backbone.safetensors")):
        file.parent.mkdir(exist_ok=True)
        file.write_text(file.name)
    weights = given(files, tmp_path / "weights")
    make_missing([weights], "cpu", tmp_path / "log.txt")
    assert sorted(path.name for path in weights.checkpoints.iterdir()) == [
        *("backbone.safetensors", "spa_fen.safetensors", "spe_fen.safetensors")
    ]
    files[1].write_text("other weights")
    assert given(files, tmp_path / "weights").checkpoints != weights.checkpoints
    files[1].unlink()
    with pytest.raises(FersError, match=r"spa_fen\.safetensors: not there"):
        given(files, tmp_path / "weights")


@pytest.fixture
def abu(tmp_path, monkeypatch):
    """A folder with one scene by ABU's layout, and the README's table of two settings."""
    made = Workspace("HAD100", write_had100(tmp_path / "had100", shape=(12, 11, 9)), tmp_path, "all").scenes[0]
    scene, truth = made.load()
    (tmp_path / "abu").mkdir()
    savemat(tmp_path / "abu" / "abu-airport-1.mat", {"data": scene.cube, "map": truth.astype("uint8")})
    monkeypatch.setattr(render, "RESULTS", tmp_path)
    monkeypatch.setattr(render, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(render, "ABU_BANDS", 8)
    ae = {"features": "original", "detect": "AE", "options": {"iterations": "2"}}
    monkeypatch.setattr(render, "ABU_SETTINGS", [("RX", {"features": "original"}, (0,), ""), ("AE", ae, (0, 1), "")])
    return tmp_path / "abu"


def test_the_readmes_table_has_a_row_for_each_setting_seed_and_scene(abu):
    rows = pd.read_csv(render.abu_table(abu, "cpu"))
    assert list(zip(rows.setting, rows.seed, strict=True)) == [("RX", 0), ("AE", 0), ("AE", 1)]
    assert rows.auc.between(0, 1).all() and (rows.bands == 8).all() and (rows.scene == "airport-1").all()
    again = pd.read_csv(render.abu_table(abu, "cpu"))
    assert (again.seconds == rows.seconds).all()  # not measured again


def test_a_setting_that_cannot_run_keeps_its_earlier_rows(abu, monkeypatch, capsys):
    before = pd.read_csv(render.abu_table(abu, "cpu"))
    name, config, seeds, _ = render.ABU_SETTINGS[1]
    monkeypatch.setattr(render, "ABU_SETTINGS", [render.ABU_SETTINGS[0], (name, config, seeds, "nowhere")])
    after = pd.read_csv(render.abu_table(abu, "cpu"))
    assert "left out: AE" in capsys.readouterr().out
    assert (after.auc == before.auc).all() and len(after) == len(before)
