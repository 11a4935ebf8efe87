"""The command ``fers info``: versions, devices, threads and folders, in one block to paste into a report of a fault."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from fers.util.cite import release
from fers.util.commandline import Parser, run
from fers.util.machine import processor
from fers.util.paths import CHECKOUT, home, shipped_checkpoints

_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "FERS_DEBUG")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = Parser(prog="fers info", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args(arguments)
    return run(lambda: print(system_block()))


def system_block() -> str:
    """Describe package, interpreter, machine, devices, threads, folders and libraries, a line each."""
    import torch  # --help does not wait for it

    from fers.networks.checkpoint import git_revision
    from fers.scenes.readers.base import free_memory

    devices = ["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count()))]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    said = [f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]
    lines = {
        "FERS": ", ".join(filter(None, [release(), git_revision()[:12]])),
        "from": f"checkout {CHECKOUT}" if CHECKOUT else "an installed package",
        "Python": f"{platform.python_version()}, {sys.executable}",
        "system": platform.platform(),
        "processor": f"{processor()}, {os.cpu_count()} cores, {usable} for this process",
        "memory": f"{free_memory() / 1e9:.1f} GB free",
        "devices": ", ".join(devices),
        "threads": " ".join([f"PyTorch {torch.get_num_threads()}", *said]),
        "data": _contents(home() / "data"),
        "weights": _contents(home() / "checkpoints"),
        "shipped": _contents(shipped_checkpoints()),
        "frozen layers": _contents(Path(torch.hub.get_dir()) / "checkpoints"),
        "results": _contents(home() / "results"),
        "libraries": ", ".join(_libraries()),
    }
    return "\n".join(f"{name:<14}{text}" for name, text in lines.items())


def _contents(folder: Path) -> str:
    """A folder, and the names of the folders and weights in it."""
    if not folder.is_dir():
        return f"{folder} (not there)"
    suffixes = (".pth", ".safetensors")
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() or entry.suffix in suffixes)
    names = [name for name in names if not name.startswith((".", "__"))]
    return f"{folder} ({', '.join(names) or 'empty'})"


def _libraries() -> list[str]:
    """Versions of everything that the package or one of its extras can use, where it is installed."""
    try:
        wanted = requires("fers-had") or []
    except PackageNotFoundError:
        return ["the package is not installed"]
    used = [line for line in wanted if not re.search(r"extra == .(dev|docs)", line)]
    found = []
    for name in dict.fromkeys(re.split(r"[^\w.-]", line)[0] for line in used):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return found
