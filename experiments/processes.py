"""Run Python in a process of its own, and measure what it takes: by the clock, of the CPU, and of memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments import ROOT
from fers.util.errors import FersError


@dataclass(frozen=True)
class Spent:
    """The time and memory that a process took.

    Attributes:
        wall_s: Seconds by the clock.
        cpu_s: CPU seconds, user and system, of it and of all that it waited for.
        peak_mb: Resident memory at its peak, MiB; never below what the process had that started it.
        printed: Its standard output, if it was not shown.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    printed: str = ""


def run_python(
    arguments: Sequence[object], checkout: Path = ROOT, more: Mapping[str, str] | None = None, shown: bool = True
) -> Spent:
    """Run Python in a checkout, whose modules come first.

    Args:
        arguments: Arguments of the interpreter, such as ``["train.py", "--help"]``.
        checkout: Folder of the checkout.
        more: Further variables of the environment.
        shown: Show what it prints; else keep it.

    Raises:
        FersError: It failed.
    """
    paths = os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        environment = os.environ | {"PYTHONPATH": paths, **(more or {})}
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=checkout, env=environment, stdout=None if shown else out, stderr=None if shown else errors
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            told = "Its message stands above." if shown else errors.read().strip()[-500:]
            raise FersError(f"{checkout}: python {' '.join(command[1:])}: ended with code {process.returncode}. {told}")
        return Spent(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, out.read())
