"""The campaign of damaged inputs, kills and faults in small; ``make fuzz`` is the same for longer."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT


def python(*arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_a_small_campaign_finds_nothing():
    ended = python(
        "-m", "campaign", "--seed", "2026", "--cases", "12", "--kills", "2", "--faults", "0", "--skip", "stage"
    )
    assert ended.returncode == 0, ended.stderr[-8000:]
    name, tried, clean, failed = (cell.strip() for cell in ended.stdout.splitlines()[-3].strip("|").split("|"))
    assert name == "all" and int(tried) == int(clean) == 14 and failed == "0"


FAILURES = """
import os, signal, sys, time
from pathlib import Path
from campaign.child import Limits, problem_of, run

def says(text, code):
    print(text)
    return code

for work in (
    lambda: 0,
    lambda: says("error: /folder/a.npy: damaged.", 2),
    lambda: says("argument --size: 'x'; error: no number", 2),
    lambda: says("error: damaged.", 2),
    lambda: says("/folder", 2),
    lambda: 1,
    lambda: 98,
    lambda: 130,
    lambda: [] [0],
    lambda: os.kill(os.getpid(), signal.SIGSEGV),
    lambda: bytearray(3 << 30) and 0,
    lambda: max(iter(int, 1)),
    lambda: time.sleep(60),
):
    print(problem_of(run(work, Limits(seconds=1)), Path("/folder")) or "clean")
"""


def test_a_hang_a_crash_a_traceback_and_an_error_without_a_name_are_failed_cases():
    ended = python("-c", FAILURES)
    assert ended.stdout.splitlines() == [
        "clean",
        "clean",
        "clean",
        "an error that names nothing",
        "an error that names nothing",
        "traceback",
        "wrong without a word",
        "exit code 130",
        "traceback",
        "crash (signal 11)",
        "traceback",
        "hang",
        "hang",
    ], ended.stderr
