"""The runner of experiments: one CSV row for each setting, seed and scene, and jobs that are done once."""

from __future__ import annotations

import pytest
from conftest import write_had100

from experiments import runner
from experiments.jobs import Machine, Score
from experiments.progress import _time_left, run_all
from experiments.workspace import Workspace
from fers.util.errors import FersError


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    (tmp_path / "experiments" / "results").mkdir(parents=True)
    (tmp_path / "experiments" / "mine.toml").write_text(
        'benchmark = "HAD100"\nbands = 8\nfeatures = "original"\n[[setting]]\nname = "RX"\n'
        '[[setting]]\nname = "AE"\ndetect = "AE"\nseeds = [0, 1]\noptions = {iterations = "2"}\n'
    )
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "experiments" / "results")
    monkeypatch.setattr(runner, "RUNS", tmp_path / "runs")
    return write_had100(tmp_path / "data", shape=(12, 11, 9))


def test_an_experiment_gives_a_row_for_each_setting_seed_and_scene(experiment, tmp_path):
    rows = runner.read_rows(runner.run("mine", experiment, "cpu"))
    assert [(row["setting"], row["seed"], row["scene"]) for row in rows] == [
        *(("RX", "0", scene) for scene in "ab"),
        *(("AE", seed, scene) for seed in "01" for scene in "ab"),
    ]
    assert all(0 <= float(row["auc"]) <= 1 and row["bands"] == "8" for row in rows)
    again = runner.read_rows(runner.run("mine", experiment, "cpu"))
    assert [row["seconds"] for row in again] == [row["seconds"] for row in rows]  # not measured anew


def test_a_setting_that_cannot_run_keeps_its_earlier_rows(experiment, tmp_path, capsys):
    before = runner.read_rows(runner.run("mine", experiment, "cpu"))
    path = tmp_path / "experiments" / "mine.toml"
    path.write_text(
        path.read_text()
        .replace('detect = "AE"', 'detect = "AE"\ncheckpoint_dir = "nowhere"\n')
        .replace('features = "original"', 'features = "spectral"')
        .replace('name = "RX"', 'name = "RX"\nfeatures = "original"')
    )
    after = runner.read_rows(runner.run("mine", experiment, "cpu"))
    assert "left out: AE" in capsys.readouterr().out
    assert [row["auc"] for row in after] == [row["auc"] for row in before]


def test_an_unknown_experiment_is_refused_by_name(experiment):
    with pytest.raises(FersError, match=r"yours\.toml: no such experiment\. Choose among mine"):
        runner.Experiment.read("yours")


def test_a_job_changes_its_key_with_data_seed_and_options(experiment, tmp_path):
    workspace = Workspace("HAD100", experiment, tmp_path / "out", "all")
    other = Workspace("HAD100", write_had100(tmp_path / "other", shape=(12, 11, 10)), tmp_path / "out", "all")
    config = {"features": "original", "detect": "AE"}
    jobs = [
        Score(workspace, "x", 8, 0, config),
        Score(workspace, "x", 8, 1, config),
        Score(workspace, "x", 7, 0, config),
        Score(workspace, "x", 8, 0, {**config, "options": {"iterations": "2"}}),
        Score(other, "x", 8, 0, config),
    ]
    assert len({job.key for job in jobs}) == len(jobs)
    assert Score(workspace, "another name", 8, 0, config).key == jobs[0].key


def test_a_job_that_fails_is_named_and_what_was_done_before_is_kept(experiment, tmp_path):
    workspace = Workspace("HAD100", experiment, tmp_path / "out", "all")
    good = Score(workspace, "good", 8, 0, {"features": "original"})
    bad = Score(workspace, "bad", 8, 0, {"features": "original", "options": {"nothing": "1"}})
    with pytest.raises(FersError, match=r"HAD100: bad, 8 bands, seed 0: .*nothing"):
        run_all([good, bad], Machine("cpu"), tmp_path / "log.txt")
    assert good.done() and not bad.done()
    assert "mean of 2" in (tmp_path / "log.txt").read_text()


def test_the_time_left_is_that_of_jobs_of_the_same_kind(experiment, tmp_path):
    workspace = Workspace("HAD100", experiment, tmp_path / "out", "all")
    rx = [Score(workspace, "x", 8, seed, {"features": "original"}) for seed in range(3)]
    ae = Score(workspace, "x", 8, 0, {"features": "original", "detect": "AE"})
    assert _time_left([*rx, ae], {}) == ""
    assert _time_left([*rx, ae], {rx[0].kind: [50.0, 70.0], ae.kind: [420.0]}) == " (about 10 min left)"
    assert _time_left([ae], {rx[0].kind: [120.0]}) == " (about 2 min left)"  # not met yet: the mean of all
