"""Start-up: what a command imports before its first work, and that the names at hand are those of the tables."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, run_had100

import fers.cli
import fers.datasets.command
import fers.weights

HEAVY = (
    "torch",
    "torchvision",
    "sklearn",
    "scipy.stats",
    "pandas",
    "matplotlib",
    "rasterio",
    "accelerate",
    "tensorboard",
)
SCRIPTS = ("test.py", "FERS_ABU/test.py", "train.py", "train.py --stage 1", "detect.py", "reproduce.py")
MODULES = ("baselines.train", "benchmarks.bench")
# Run each command with its arguments in one process; after each, say which heavy modules are there.
RUN = """
import contextlib, io, json, runpy, sys
heavy, commands = json.loads(sys.argv[1])
found = {}
for command in commands:
    sys.argv = command.split()
    script = sys.argv[0]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        run = runpy.run_path if script.endswith(".py") else runpy.run_module
        run(script, run_name="__main__")
    assert "usage:" in out.getvalue() or "--help" not in command, command
    found[command] = [name for name in heavy if name in sys.modules]
print(json.dumps(found))
"""


def imported_by(commands: list[str]) -> dict[str, list[str]]:
    arguments = [sys.executable, "-c", RUN, json.dumps([HEAVY, commands])]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_help_waits_for_no_large_library():
    """Modules are counted, not seconds: torch alone is two seconds, and a loaded machine makes any of them longer."""
    groups = {"fers": fers.cli, "fers data": fers.datasets.command, "fers weights": fers.weights}
    commands = [f"{group} {name}" for group, module in groups.items() for name in module.COMMANDS]
    # fers train and fers reproduce put a script in the place of their process
    commands = [command for command in commands if command not in ("fers train", "fers reproduce")]
    asked = ["fers", "fers test HAD100", *commands, *SCRIPTS, *MODULES]
    found = imported_by([f"{command} --help" for command in asked])
    assert found == {command: [] for command in found} and len(found) > 20


def test_the_library_loads_its_parts_when_they_are_used():
    code = "import sys, fers; print([name for name in sys.argv[1:] if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_a_file_that_is_refused_does_not_wait_for_pytorch(tmp_path):
    (tmp_path / "text.npy").write_text("not an array")
    np.save(tmp_path / "flat.npy", np.zeros(5))
    files = [tmp_path / name for name in ("none.npy", "text.npy", "flat.npy")]
    found = imported_by([f"fers detect {path} --save_dir {tmp_path / 'out'}" for path in files])
    assert [heavy for heavy in found.values() if "torch" in heavy] == [] and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_scoring_waits_for_no_library_that_it_does_not_use(dataset, checkpoints, tmp_path):
    command = f"test.py --data_path {dataset} --input_channel 10 --checkpoint_dir {checkpoints} --save_dir {tmp_path}"
    found = imported_by([f"{command} --no_maps"])
    assert list(found.values()) == [["torch"]] and (tmp_path / "results.json").is_file()


@pytest.mark.parametrize(
    "script, arguments, answer",
    [
        ("test.py", ["--features", "fusd"], "Did you mean fused? Choose from untrained, fused,"),
        ("test.py", ["--detect", "autoad"], "no detector 'autoad'. Did you mean Auto-AD? Choose from RX, AE,"),
        ("FERS_ABU/test.py", ["--maps", "pgn"], "Did you mean png?"),
        ("FERS_ABU/test.py", ["--device", "gpuu"], "'gpuu' is not auto, gpu, cpu, cuda, cuda:NUMBER or mps"),
        ("train_FERD/train.py", ["--recipe", "papre"], "Did you mean paper? Choose from paper, released."),
        ("train.py", ["--stage", "both"], "Choose from 1, 2, all."),
        ("test.py", ["--option", "x"], "'x': expected NAME=VALUE"),
    ],
)
def test_a_wrong_choice_is_answered_in_one_line_with_the_nearest_right_one(script, arguments, answer, capsys):
    main = runpy.run_path(str(ROOT / script))["main"]
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and answer in error and error.count("\n") == 1


def test_a_scene_that_is_not_there_is_answered_with_the_nearest_name(dataset, capsys):
    (dataset / "test" / "aviris_ng" / "a.npy").rename(dataset / "test" / "aviris_ng" / "airport.npy")
    masks = dataset / "ground_truth" / "aviris_ng"
    (masks / "a.png").rename(masks / "airport.png")
    assert run_had100(dataset, dataset / "out", "--features", "original", "--scenes", "airpot") == 2
    assert "Did you mean airport?" in capsys.readouterr().err
