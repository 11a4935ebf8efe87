"""A run's folder: resuming to the last bit, and nothing lost, overwritten or taken from a damaged file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from small_training import log, options, run_line

import train_FERS.train as stage2
from fers.training.log import read_log
from fers.training.options import TrainingError
from fers.training.resume import FINISHED_FILE, RESUME_FILE
from fers.util.files import temporary_prefix


@pytest.fixture(autouse=True)
def no_checkpoint(monkeypatch):
    """Lines have no branch to write."""
    monkeypatch.setattr("fers.training.loop.save_checkpoint", lambda *_: None)


def timeless(folder):
    return [{k: v for k, v in entry.items() if "second" not in k} for entry in log(folder)]


def test_a_resumed_run_is_the_run_that_was_not_interrupted(tmp_path):
    whole = run_line(tmp_path / "whole", 4)
    run_line(tmp_path / "parts", 2)
    torch.rand(7)  # whatever else happened in between
    parts = run_line(tmp_path / "parts", 4, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True))
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "parts")


def test_resuming_another_run_is_refused(tmp_path):
    run_line(tmp_path, 1)
    with pytest.raises(TrainingError, match=r"belongs to another run \(lr was 0.005, is 0.1\)"):
        run_line(tmp_path, 2, lr=0.1, resume=True)


def test_a_run_is_not_overwritten_unless_that_is_asked_for_and_then_when_an_epoch_is_done(tmp_path, monkeypatch):
    run_line(tmp_path, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TrainingError, match=r"holds a run already \(2 epochs in its log\).*--resume.*--overwrite"):
        run_line(tmp_path, 1)

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("fers.training.loop.Trainer._train_epoch", stopped)
        run_line(tmp_path, 1, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    run_line(tmp_path, 1, overwrite=True, lr=0.1)
    assert [entry["lr"] for entry in log(tmp_path)] == [0.1]
    assert len(list(tmp_path.glob("events.out.tfevents*"))) == 1
    assert torch.load(tmp_path / RESUME_FILE, weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("cut", ['{"epoch": 3, "lo', "[]", "null", '{"epoch": "3"}', "\x00\x00"])
def test_a_log_line_that_was_cut_short_is_dropped_with_a_note(tmp_path, capsys, cut):
    run_line(tmp_path, 2)
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write(cut)
    assert [entry["epoch"] for entry in read_log(tmp_path / "log.jsonl")[0]] == [1, 2]
    run_line(tmp_path, 3, resume=True)
    assert [entry["epoch"] for entry in log(tmp_path)] == [1, 2, 3]
    assert "log.jsonl: 1 incomplete line(s) are dropped" in capsys.readouterr().out


def damaged(change):
    def damage(path):
        state = torch.load(path, weights_only=True)
        change(state)
        torch.save(state, path)

    return damage


KEY = "layers.0.weight"
DAMAGE = {
    "half a file": (lambda path: path.write_bytes(path.read_bytes()[:500]), "cannot be read as a run to resume"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read as a run to resume"),
    "no dict": (lambda path: torch.save([1, 2], path), "lacks parts"),
    "a part missing": (damaged(lambda s: s.pop("optimizer")), "lacks parts"),
    "epoch": (damaged(lambda s: s.update(epoch=10**9)), "it is at epoch 1000000000, --epochs is 3"),
    "epoch's type": (damaged(lambda s: s.update(epoch=1.0)), "epoch 1.0"),
    "best": (damaged(lambda s: s.update(best=float("nan"))), "best nan"),
    "tensor missing": (damaged(lambda s: s["stage"].pop(KEY)), f"lacks {KEY}"),
    "tensor extra": (damaged(lambda s: s["stage"].update(odd=torch.zeros(1))), "has an extra odd"),
    "shape": (damaged(lambda s: s["stage"].update({KEY: torch.zeros(2)})), r"is \(2,\)"),
    "type": (damaged(lambda s: s["stage"].update({KEY: torch.zeros(4, 4, dtype=torch.int64)})), "int64"),
    "NaN": (damaged(lambda s: s["stage"][KEY].fill_(float("nan"))), "not finite"),
    "no tensor": (damaged(lambda s: s["stage"].update({KEY: "x"})), "does not fit"),
    "moments": (damaged(lambda s: s["optimizer"]["state"].pop(0)), "optimiser, tensor 0: lacks exp_avg"),
    "lr": (damaged(lambda s: s["optimizer"]["param_groups"][0].update(lr=1e30)), "optimiser has other settings"),
    "generators": (damaged(lambda s: s.update(generators=[torch.zeros(3)])), "does not fit"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_resume_file_is_refused_and_stays(tmp_path, name):
    damage, message = DAMAGE[name]
    run_line(tmp_path, 2)
    damage(tmp_path / RESUME_FILE)
    before = (tmp_path / RESUME_FILE).read_bytes()
    with pytest.raises(TrainingError, match=rf"last\.pt: .*{message}.* Start again with --overwrite"):
        run_line(tmp_path, 3, resume=True)
    assert (tmp_path / RESUME_FILE).read_bytes() == before and len(log(tmp_path)) == 2


def test_the_optimisers_settings_are_those_of_the_run_and_never_of_the_file(tmp_path):
    run_line(tmp_path / "whole", 3)
    run_line(tmp_path / "parts", 2)
    damaged(lambda s: s["optimizer"]["param_groups"][0].update(maximize={}, eps=1e9))(tmp_path / "parts" / RESUME_FILE)
    run_line(tmp_path / "parts", 3, resume=True)
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "parts")


def test_a_disk_that_fills_up_names_the_file_and_the_last_good_one_stays(tmp_path, monkeypatch):
    run_line(tmp_path, 1)
    before = (tmp_path / RESUME_FILE).read_bytes()

    def full(state, path):
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file: 10000 requested and 2544 written")

    monkeypatch.setattr("fers.training.resume.torch.save", full)
    with pytest.raises(OSError, match=r"last\.pt: cannot be written \(.*2544 written\)"):
        run_line(tmp_path, 2, resume=True)
    assert (tmp_path / RESUME_FILE).read_bytes() == before and not list(tmp_path.glob(".*"))


def test_temporary_files_of_dead_processes_are_swept_and_others_stay(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine = temporary_prefix()
    theirs = f"{mine.rpartition('-')[0]}-{dead.pid}"
    stays = [f"{mine}-1.pt", ".hidden", ".tmp-elsewhere-1-1.pt", ".tmp-x.pt"]
    for name in (*stays, f"{theirs}-1.pt", f"{theirs}-2.npy"):
        (tmp_path / name).touch()
    run_line(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == sorted(stays)


KILLED = """
import os, signal, sys
import train_FERS.train as stage2
from train_FERS.stage import Stage2

loss, calls = Stage2.loss, 0

def dies(self, *batch):
    global calls
    calls += self.training
    if calls == 4:  # two steps in each epoch: in the middle of the second
        os.kill(os.getpid(), signal.SIGKILL)
    return loss(self, *batch)

Stage2.loss = dies
stage2.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_killed_in_mid_epoch_and_resumed_the_weights_are_the_same_to_the_last_bit_and_a_finished_run_says_so(
    background,
    teacher,
    tmp_path,
    capsys,
    monkeypatch,
):
    monkeypatch.undo()
    whole = options(background, teacher, tmp_path / "whole", "--recipe", "released")
    assert stage2.main(whole) == 0
    expected = load_file(teacher / "spa_fen.safetensors")
    (teacher / "spa_fen.safetensors").unlink()

    folder = tmp_path / "killed" / "stage2"
    arguments = options(background, teacher, tmp_path / "killed", "--recipe", "released")
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    died = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, capture_output=True, timeout=300)
    assert died.returncode == -signal.SIGKILL
    assert len(log(folder)) == 1 and not (teacher / "spa_fen.safetensors").exists()
    assert stage2.main([*arguments, "--resume"]) == 0
    found = load_file(teacher / "spa_fen.safetensors")
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)

    assert not (folder / RESUME_FILE).exists() and json.loads((folder / FINISHED_FILE).read_text())["epochs"] == 3
    capsys.readouterr()
    assert stage2.main([*arguments, "--resume"]) == 0
    assert "this run is finished; its weights are in" in capsys.readouterr().out
    assert stage2.main([*arguments, "--resume", "--epochs", "5"]) == 2
    assert "finished after 3 epochs and no longer has a resume file" in capsys.readouterr().err
    assert stage2.main([*arguments, "--resume", "--lr", "0.1"]) == 2
    assert "finished.json: belongs to another run (lr was 0.005, is 0.1)" in capsys.readouterr().err
