"""How every command ends: signals, pipes, memory, names that are no text."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fers.util.commandline import run

ROOT = Path(__file__).resolve().parents[1]


def test_sigterm_ends_the_work_as_ctrl_c_does_and_only_the_work(capsys):
    before = signal.getsignal(signal.SIGTERM)
    cleaned = []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(True)

    assert run(work, how_to_resume="run it again") == 130
    assert cleaned and capsys.readouterr().err == "\nstopped. To go on: run it again.\n"
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("words", ["[enforce fail] DefaultCPUAllocator: can't allocate memory", "CUDA out of memory."])
def test_memory_that_pytorch_cannot_get_is_said_as_such(words, capsys):
    def work() -> None:
        raise RuntimeError(f"{words}\nand a stack of C++")

    assert run(work) == 2
    assert capsys.readouterr().err.startswith(f"error: not enough memory ({words})")


def command(code: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; from fers.util.commandline import run; sys.exit(run(lambda: {code}))"]


def test_a_pipe_that_nobody_reads_ends_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(command("print('x')"), cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (2, "")


def test_a_name_that_is_no_text_can_be_printed():
    ended = subprocess.run(command("print('a\\udcff')"), cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "a\\udcff\n")


def test_a_package_of_an_extra_is_named_with_the_extra_and_any_other_is_a_bug(capsys):
    def needs(name: str):
        def work() -> None:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

        return work

    assert run(needs("pytorch_msssim")) == 2 and f"pip install -e '{ROOT}[train]'" in capsys.readouterr().err
    assert run(needs("pyogrio.raw")) == 2 and f"pip install -e '{ROOT}[gpkg]'" in capsys.readouterr().err
    assert run(needs("fers.nothing")) == 1 and "This is a bug in FERS" in capsys.readouterr().err


def test_a_thread_of_a_library_that_meets_a_full_disk_gets_one_line(capsys):
    def work() -> None:
        thread = threading.Thread(target=lambda: os.stat("/nowhere"))
        thread.start()
        thread.join()

    assert run(work) == 0
    assert capsys.readouterr().err.startswith("note: a background thread has ended (FileNotFoundError: ")
