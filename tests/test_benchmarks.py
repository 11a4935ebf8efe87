"""The benchmark compares equals: its plain reference computes what the product computes. Nothing is timed here."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import ROOT

from benchmarks import bench, measure
from benchmarks.sections import Row
from detection.pipeline import Pipeline, Settings
from detectors import rx
from models import SpaFEN, SpeFEN, load_checkpoint
from tests import reference
from train_FERD.network import FERD
from train_FERD.train import Stage1
from train_FERS.network import FRN
from train_FERS.train import Stage2

BANDS = 10


def cube(side: int = 24, count: int = 1) -> torch.Tensor:
    return torch.rand(count, BANDS, side, side, generator=torch.Generator().manual_seed(0)) * 0.2 - 0.1


@torch.no_grad()
def test_networks_of_the_reference_are_the_products():
    h = cube()
    for network, plain in ((SpeFEN(BANDS, "random"), reference.spe_fen), (SpaFEN(BANDS, "random"), reference.spa_fen)):
        torch.testing.assert_close(plain(network.eval(), h), network(h))


def test_rx_of_the_reference_is_the_products():
    torch.testing.assert_close(reference.rx(cube()), rx(cube()), rtol=1e-9, atol=0)


@pytest.mark.parametrize("fusion", ["A", "B"])
def test_scores_of_the_reference_are_the_products(checkpoints, fusion):
    h = np.ascontiguousarray(cube()[0].permute(1, 2, 0).numpy())
    networks = [load_checkpoint(checkpoints / f"{branch}.safetensors")[0] for branch in ("spe_fen", "spa_fen")]
    expected = reference.score(*networks, h, fusion, torch.device("cpu"))
    pipeline = Pipeline(Settings(BANDS, "aviris_ng", fusion=fusion, checkpoint_dir=checkpoints, device="cpu"))
    np.testing.assert_allclose(pipeline.score(h), expected, rtol=1e-3, atol=1e-3 * expected.max())


def test_training_losses_of_the_reference_are_the_products():
    h = cube(16, count=2)
    ferd = FERD(BANDS, "random").train()
    task = Stage1(ferd)
    assert reference.stage1_loss(ferd, h).item() == pytest.approx(total(task, h), rel=1e-5)

    h = cube(32, count=2)  # at 16 px F_spa comes from a single pixel, and L_cc divides by the spread of a constant
    teacher, student, frn = SpeFEN(BANDS, "random").eval(), SpaFEN(BANDS, "random").train(), FRN(BANDS).train()
    with torch.no_grad():
        f_spe = teacher(h)
    task = Stage2(student, frn)
    assert reference.stage2_loss(teacher, student, frn, h).item() == pytest.approx(total(task, h, f_spe), rel=1e-5)


def total(task: torch.nn.Module, *batch: torch.Tensor) -> float:
    with torch.no_grad():
        return task(*batch)[0].item()


def test_both_sides_take_turns(monkeypatch):
    monkeypatch.setattr(measure, "_SETTLE", 0.0)
    calls = []
    sides = {name: lambda name=name: calls.append(name) for name in "ab"}
    timing = measure.alternate(sides, repeats=3, budget=60, device=torch.device("cpu"))
    assert calls == list("ab" * 4)  # the first round does not count
    assert [len(timing[name].seconds) for name in "ab"] == [3, 3]


def test_ratios_are_of_medians():
    row = Row("x", measure.Timing((1.0, 9.0, 2.0)), measure.Timing((8.0, 6.0, 5.0)))
    assert row.ratio == 3.0 and row.as_json()["ratio"] == 3.0
    assert bench.table([row], bench.COLUMNS["scaling"]).splitlines()[2].split() == (
        ["|", "cpu", "|", "x", "|", "6000.0", "|", "2000.0", "|", "3.00", "|", "3", "|", "-", "|"]
    )


def test_the_tool_prints_a_table_and_writes_every_number(tmp_path, capsys):
    out = tmp_path / "bench.json"
    options = ["--quick", "--sections", "rx", "--backbone", "random", "--device", "cpu", "--repeats", "1"]
    assert bench.main([*options, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "RX against spectral.rx" in printed and "layer1 is RANDOM" in printed and "no GPU was measured" in printed
    written = json.loads(out.read_text())
    assert written["environment"]["threads"] == torch.get_num_threads()
    rows = written["sections"]["rx"]
    assert len(rows) == 6 and all(row["difference"] < 1e-6 for row in rows)


def test_wrong_input_is_one_message_and_code_2(tmp_path, capsys):
    for options in (["--data_path", str(tmp_path)], ["--checkpoint_dir", str(tmp_path / "no")], ["--device", "abacus"]):
        assert bench.main(["--quick", "--sections", "rx", *options]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises(SystemExit, match="2"):
        bench.main(["--sections", "speed"])


def test_make_bench_is_there():
    assert "\nbench: setup\n\t$(BIN)/python -m benchmarks.bench" in (ROOT / "Makefile").read_text()
