"""The benchmark compares equals: its plain reference computes what the product computes. Nothing is timed to be judged."""

from __future__ import annotations

import csv
import time

import numpy as np
import pytest
import torch
from conftest import ROOT

from benchmarks import bench, gpu
from experiments import RESULTS
from fers.networks import SpaFEN, SpeFEN
from tests import reference
from train_FERD.network import FERD
from train_FERD.stage import Stage1
from train_FERS.network import FRN
from train_FERS.stage import Stage2

BANDS = 10


def cube(side: int, count: int) -> torch.Tensor:
    return torch.rand(count, BANDS, side, side, generator=torch.Generator().manual_seed(0)) * 0.2 - 0.1


def total(task: torch.nn.Module, *batch: torch.Tensor) -> float:
    with torch.no_grad():
        return task(*batch)[0].item()


@pytest.mark.slow
def test_training_losses_of_the_reference_are_the_products():
    h = cube(16, count=2)
    ferd = FERD(BANDS, "random").train()
    assert reference.stage1_loss(ferd, h).item() == pytest.approx(total(Stage1(ferd), h), rel=1e-5)

    h = cube(32, count=2)  # at 16 px F_spa comes from a single pixel, and L_cc divides by the spread of a constant
    teacher, student, frn = SpeFEN(BANDS, "random").eval(), SpaFEN(BANDS, "random").train(), FRN(BANDS).train()
    with torch.no_grad():
        f_spe = teacher(h)
    expected = total(Stage2(student, frn), h, f_spe)
    assert reference.stage2_loss(teacher, student, frn, h).item() == pytest.approx(expected, rel=1e-5)


def options(*more: str):
    return bench.parser().parse_args(["--bands", "10", "--rounds", "3", *more])


def test_both_sides_take_turns_and_the_ratio_is_the_median_of_the_turns():
    calls: list[str] = []
    times = {"plain": iter([9.0, 3.0, 8.0, 9.0]), "product": iter([9.0, 1.0, 2.0, 9.0])}  # the first does not count

    def side(name: str) -> float:
        calls.append(name)
        return next(times[name])

    case = bench.Case("start", "x", lambda: side("product"), lambda: side("plain"), "plain", bands=3, told=True)
    row = bench.measure(case, options())
    assert calls == ["plain", "product"] * 4
    assert [row[key] for key in ("reference", "reference_cpu_s", "cpu_s", "ratio", "rounds")] == [
        "plain",
        "8",
        "2",
        "3.00",
        3,
    ]


def test_time_is_the_cpu_time_of_the_process_where_the_work_tells_none():
    row = bench.measure(bench.Case("start", "sleep", lambda: time.sleep(0.3), rounds=1), options())
    assert float(row["cpu_s"]) < 0.2 and (row["reference"], row["ratio"]) == ("", "")


def test_a_part_that_is_measured_again_replaces_its_own_rows_only(tmp_path, monkeypatch, capsys):
    out, found = tmp_path / "performance.csv", iter([1.0, 2.0, 3.0])
    names = {"start": "a", "detect": "b"}
    for part, name in names.items():
        made = lambda _, part=part, name=name: [bench.Case(part, name, lambda: next(found), rounds=1, told=True)]  # noqa: E731
        monkeypatch.setitem(bench.PARTS, part, made)
    for part in ("start", "detect", "start"):
        assert bench.main(["--only", part, "--out", str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    assert [(row["case"], row["cpu_s"]) for row in rows] == [("b", "2"), ("a", "3")]
    assert all(row["machine"] and row["revision"] and row["date"] for row in rows)
    assert list(rows[0]) == list(csv.DictReader((RESULTS / "performance.csv").open()).fieldnames or ())


@pytest.mark.slow
def test_what_is_timed_computes_the_same_on_both_sides():
    cases = {case.case: case for case in bench.networks(options())}
    assert list(cases) == ["fusion A", "fusion B", "fusion C", "Spe-FEN", "Spa-FEN", "RX"]
    with torch.no_grad():
        for case in cases.values():
            if case.reference is not None:
                plain, product = (np.asarray(work()).squeeze() for work in (case.reference, case.product))
                assert np.abs(plain - product).max() < 1e-3 * np.abs(plain).max(), case.case


@pytest.mark.slow
def test_a_training_step_is_measured_on_both_sides():
    stage2, stage1 = (bench.measure(case, options("--rounds", "1")) for case in bench.training(options()))
    assert (stage2["case"], stage1["case"], stage2["batch"]) == ("Stage 2 step", "Stage 1 step", 2)
    assert float(stage2["ratio"]) > 0 and float(stage1["ratio"]) > 0


def test_wrong_input_is_one_message_and_code_2(tmp_path, capsys):
    there = ["--bands", "10", "--out", str(tmp_path / "x.csv")]
    assert bench.main(["--only", "windows", "--before", str(tmp_path / "none"), *there]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--only", "speed"])


def test_make_bench_is_there():
    assert "\nbench: setup\n\t$(BIN)/python -m benchmarks.bench" in (ROOT / "Makefile").read_text()


@pytest.mark.slow
def test_the_dry_run_of_a_gpu_goes_through_every_case_and_names_what_differs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "SIDE", 32)
    arguments = ["--dry_run", "--out", str(tmp_path / "gpu.csv")]
    assert gpu.main(arguments) == 0
    with (tmp_path / "gpu.csv").open() as file:
        rows = list(csv.DictReader(file))
    units = {row["case"]: row["unit"] for row in rows}
    assert units == {
        **{"deployed path": "scenes/s", "Stage 1 step": "steps/s", "Stage 2 step": "steps/s", "RX in float64": "MP/s"},
        **{"fers detect, from memory": "MP/s", "fers detect, from disk": "MP/s"},
    }
    assert {(row["bands"], row["batch"]) for row in rows if row["case"] == "deployed path"} == {
        *(("8", "1"), ("8", "2"), ("52", "1"), ("52", "2"))
    }
    assert all(float(row["rate"]) > 0 for row in rows)
    assert all(float(row["difference"]) == 0 for row in rows if "step" not in row["case"])  # the CPU against itself

    case = gpu.Case("RX in float64", 8, 1, "MP", 1, lambda: None, lambda: (2e-5, gpu.DIFFERENCE))
    monkeypatch.setattr(gpu, "cases", lambda *_: [case])
    assert gpu.main(arguments) == 2
    assert "cpu: other results than on the CPU: RX in float64" in capsys.readouterr().err
