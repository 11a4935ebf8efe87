"""What steps take is reckoned from the file of costs at first, and from finished steps of the same kind later."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from conftest import write_had100

from experiments import costs, plan
from experiments.costs import Cost
from experiments.jobs import Score, Weights
from experiments.plan import START, Amount, Rates, amount_of, plan_lines, read_rates, time_left
from experiments.rows import TABLE1, TABLE2, TABLE3, Request
from experiments.tables import ABU_BANDS
from experiments.workspace import Workspace
from fers.scoring.pipeline import DetectConfig

ROWS = [
    Cost("stage1", 50, 3.0, memory_mb=2000, memory_mb_per_patch=100, kept_mb=1, temporary_mb=1000, gpu_s=0.02),
    Cost("stage1", 200, 4.0, gpu_s=0.03),
    Cost("stage2", 200, 0.5, gpu_s=0.01),
    Cost("RX, original", 50, 0.01, kept_mb=0.03, gpu_s=0.017),
    Cost("Auto-AD, original", 50, 0.5, iterations=1000, cpu_s_per_iteration=0.1, gpu_s=7.0),
]


def rates(threads: int = 2, **more) -> Rates:
    return Rates(pd.DataFrame([vars(row) for row in ROWS]), threads, **more)


def test_at_first_the_file_of_costs_counts():
    found = rates().reckon(Amount("stage1", 50, 1000, 400, batch=16, patches=100))
    assert found.seconds == pytest.approx(START + 400 * 3.0 / 2) and found.gpu == pytest.approx(400 * 0.02)
    assert found.memory_mb == 2000 + 15 * 100 and (found.kept_mb, found.temporary_mb) == (1, 1000)
    scored = rates().reckon(Amount("RX, original", 50, 100, 100))
    assert scored.kept_mb == pytest.approx(3) and not scored.here


def test_stage_two_keeps_cubes_and_features_of_all_patches_meanwhile():
    found = rates().reckon(Amount("stage2", 200, 1, 1, patches=1040))
    assert found.temporary_mb == pytest.approx(2 * 4 * 1040 * 200 * 64 * 64 / 1e6)


def test_fewer_iterations_take_less():
    found = rates(1).reckon(Amount("Auto-AD, original", 50, 10, 10, iterations=100))
    assert found.seconds == pytest.approx(START + 10 * (0.5 + 100 * 0.1)) and found.gpu == pytest.approx(7.0)


def test_on_a_gpu_its_own_times_count():
    assert rates(on_gpu=True).reckon(Amount("stage1", 50, 1, 100)).seconds == pytest.approx(START + 100 * 0.02)


def test_a_kind_that_nobody_measured_is_unknown_until_it_was_done():
    own, known = Amount("mine:D, original", 50, 100, 100), rates()
    assert known.reckon(own).seconds is None
    known.learn(own, 50, 102)
    assert known.reckon(own).seconds == pytest.approx(START + 100 * 2) and known.reckon(own).here


def test_the_time_left_is_not_off_by_ten_on_a_machine_that_is_slower_than_the_files():
    """Ten short steps, whose start-up is all of their time, then trainings that take 6 times as long as listed."""
    true, found = 6.0, rates(1)
    short, long = Amount("RX, original", 50, 3, 3), Amount("stage1", 50, 500, 500)
    other = Amount("stage1", 200, 500, 500)
    left = START + 500 * 3.0 * true
    for _ in range(10):
        found.learn(short, 3, 2.2)
        assert left / 10 < found.reckon(long).seconds < left * 10
    found.learn(long, 500, left)
    assert found.reckon(long).seconds == pytest.approx(left, rel=0.01)
    assert found.reckon(other).seconds == pytest.approx(
        START + 500 * 4.0 * true, rel=0.01
    )  # the same kind, other bands
    assert found.reckon(Amount("Auto-AD, original", 50, 1, 1)).seconds > 100 * true * 0.9  # no other is known
    found.learn(long, 500, left / 3)  # the machine is free again: the latest step counts
    assert found.reckon(long).seconds == pytest.approx(left / 3, rel=0.01)


def test_other_programs_count_until_a_step_has_shown_what_it_takes():
    long, found = Amount("stage1", 50, 100, 100), rates(1, slowdown=7.0)
    assert found.reckon(long).seconds == pytest.approx(START + 100 * 3.0 * 7)
    found.learn(long, 100, 600)
    assert found.reckon(long).seconds == pytest.approx(600)


def test_what_is_left_of_a_step_counts(tmp_path):
    log = tmp_path / "stage1" / "log.jsonl"
    made = Weights(
        "train", "k", tmp_path, tmp_path, (tmp_path / "end",), print, None, log, "stage1", 50, 33, 64 * 64, 16, 4
    )
    assert amount_of(made)[2:4] == (128, 128)  # two steps of 16 in each of 4 epochs
    log.parent.mkdir()
    entry = '{"epoch": %d, "loss": 1, "terms": {}, "held_out": null, "seconds": 90.0, "patches_per_second": 1.0}\n'
    log.write_text(entry % 1 + entry % 2)
    assert amount_of(made)[2:4] == (128, 64) and made.seconds_taken == 180
    lines = plan_lines([made], rates(1))
    assert "3.0 min" in lines[2]  # the second half takes as long as the first
    (tmp_path / "end").touch()
    assert amount_of(made).left == 0 and plan_lines([made], rates())[2].split()[0] == "done"


def test_a_plan_names_every_step_and_whether_it_is_done(tmp_path):
    workspace = Workspace("HAD100", write_had100(tmp_path / "data", shape=(12, 11, 9)), tmp_path / "out", "all")
    score = Score(workspace, "RX", 8, 0, {"features": "original"})
    own = replace(score, config={"features": "original", "detect": "KRX"})
    lines = plan_lines([score, own, score], rates())
    assert lines[0] == "0 of 2 steps are done already." and len([line for line in lines if "to do" in line]) == 2
    assert any("nobody has measured" in line for line in lines) and any(line.startswith("in all") for line in lines)
    assert time_left(rates(), [own]) == "nobody knows how long"
    assert time_left(rates(), [score, own]) == "about 2 s and 1 steps of unknown length"


def test_every_step_of_the_paper_has_a_row_in_the_file():
    known = set(read_rates("cpu").costs.kind)
    assert set(costs.TRAININGS) <= known
    asked = [(row.config, bands) for row in (*TABLE1, *TABLE3) for bands in Request().bands]
    seen = ({"features": "original"}, {"features": "untrained"}, {"features": "fused"})
    asked += [({**config, **features}, ABU_BANDS) for config, _ in TABLE2.values() for features in seen]
    for config, bands in asked:
        fields = {key: value for key, value in config.items() if key != "options"}
        assert costs.kind_of(DetectConfig(bands=bands, **fields)) in known, config
    assert plan.duration(90) == "1.5 min"


def test_a_cost_is_measured_and_rows_of_other_kinds_stay(tmp_path):
    path = tmp_path / "costs.csv"
    costs.write([Cost("mine", 50, 1.0)], path)
    costs.write([costs._scoring(DetectConfig(bands=10, features="original"))], path)
    found = pd.read_csv(path)
    assert list(found.kind) == ["RX, original", "mine"] and 0 < found.cpu_s[0] < 1
