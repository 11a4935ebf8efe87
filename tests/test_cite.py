"""What a number is cited by, and what a report of a fault holds."""

from __future__ import annotations

import json
import sys

import pytest
from conftest import run_had100

from fers.cli import main
from fers.util import cite


@pytest.mark.parametrize(
    "called, shown",
    [
        (["/venv/bin/python", "/venv/bin/fers", "compare", "--scenes", "my data"], "fers compare --scenes 'my data'"),
        (["/usr/bin/python3.12", "test.py", "--no_maps"], "python test.py --no_maps"),
        (["python", "-m", "experiments.render", "--check"], "python -m experiments.render --check"),
        (["C:/venv/Scripts/fers.exe", "test", "ABU"], "fers test ABU"),
    ],
)
def test_a_command_is_cited_as_it_was_given_but_for_the_folder_of_the_program(called, shown, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", called)
    assert cite.this_command() == shown


def test_data_are_known_in_any_order_and_by_each_scene():
    assert cite.data_hash(["a", "b"]) == cite.data_hash(["b", "a"]) != cite.data_hash(["a", "c"])


def test_a_table_ends_with_version_command_and_data_and_keeps_them(dataset, tmp_path, capsys):
    assert run_had100(dataset, tmp_path / "out", "--features", "original", "--scenes", "a,b") == 0
    kept = json.loads((tmp_path / "out" / "results.json").read_text())
    marks = [scene["fingerprint"] for scene in kept["scenes"].values()]
    line = cite.citation(kept["command"], cite.data_hash(marks), kept["release"])
    assert f"To cite: {line}\n" in capsys.readouterr().out
    assert line.startswith(f"FERS {cite.release()}; command: ") and len(set(marks)) == 2


def test_info_names_what_a_report_of_a_fault_needs(capsys):
    import torch

    assert main(["info"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (
        lines["FERS"].startswith(cite.release())
        and f"torch {torch.__version__.partition('+')[0]}" in lines["libraries"]
    )
    assert lines["devices"].startswith("cpu") and f"PyTorch {torch.get_num_threads()}" in lines["threads"]
    assert not {"pytest", "mkdocs"} & set(lines["libraries"].replace(",", "").split())
