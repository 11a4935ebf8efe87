"""The benchmark compares equals: its plain reference computes what the product computes. Nothing is timed to be judged."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from conftest import ROOT

from benchmarks import bench, gpu
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


def test_both_sides_take_turns_and_ratios_are_of_medians(monkeypatch):
    calls = []
    pair = bench.Pair("x", 3, 1, lambda: calls.append("a"), lambda: calls.append("b"))
    times = iter([3.0, 1.0, 9.0, 4.0, 6.0, 2.0])

    class Timer:
        def __init__(self, statement, globals, num_threads):
            self.work = globals["work"]

        def timeit(self, number):
            self.work()
            return type("Measurement", (), {"median": next(times)})

    monkeypatch.setattr(bench, "Timer", Timer)
    options = bench.parser().parse_args(["--rounds", "3"])
    row = bench.compare(pair, options, torch.device("cpu"))
    assert calls == list("ab" + "aabb" * 3)  # the first round does not count; then wall time and CPU time
    assert (row["reference_ms"], row["product_ms"], row["ratio"], row["rounds"]) == (6000.0, 2000.0, 3.0, 3)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_the_tool_prints_and_writes_every_number_and_where_it_was_measured(tmp_path, capsys, suffix):
    out = tmp_path / f"performance{suffix}"
    options = ["--bands", "10", "--cases", "Spe-FEN,Spa-FEN,RX,end to end", "--rounds", "1", "--threads", "1"]
    assert bench.main([*options, "--out", str(out)]) == 0
    assert "Spe-FEN, 10 bands" in capsys.readouterr().out
    rows = json.loads(out.read_text()) if suffix == ".json" else list(csv.DictReader(out.open()))
    assert [row["case"] for row in rows] == ["Spe-FEN", "Spa-FEN", "RX", "end to end"]
    assert all(float(row["difference"]) < 1e-3 and row["machine"] and row["date"] for row in rows)


@pytest.mark.slow
def test_a_training_step_is_measured_on_both_sides():
    options = bench.parser().parse_args(["--rounds", "1", "--batch", "2"])
    row = bench.compare(bench.training_step(2, 10, options, torch.device("cpu")), options, torch.device("cpu"))
    assert row["case"] == "Stage 2 step" and row["batch"] == 2 and row["product_ms"] > 0 and row["difference"] == ""


def test_wrong_input_is_one_message_and_code_2(tmp_path, capsys):
    for options in (["--spe_fen", str(tmp_path / "no.safetensors")], ["--backbone", "no.pth"], ["--device", "abacus"]):
        assert bench.main(["--quick", "--cases", "Spe-FEN", "--out", str(tmp_path / "x.csv"), *options]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--cases", "speed"])


def test_make_bench_is_there():
    assert "\nbench: setup\n\t$(BIN)/python -m benchmarks.bench" in (ROOT / "Makefile").read_text()


@pytest.mark.slow
def test_the_dry_run_of_a_gpu_goes_through_every_case_and_names_what_differs(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "SCENE_SIDE", 32)
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
