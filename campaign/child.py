"""Run one case in its own process, with limits of time and memory. The parent has imported everything already."""

from __future__ import annotations

import fcntl
import gc
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MEMORY = 2 << 30  # bytes, in addition to those of the imports
BROKEN = 99  # exit code of a case that raised
NONSENSE = 98  # exit code of a command that said nothing and did something wrong
NOBODY = 65534  # the user that cannot write everywhere


@dataclass(frozen=True)
class Ended:
    """End of a case.

    Attributes:
        code: Its exit code; if negative, the signal that ended it.
        output: Its stdout and stderr.
        seconds: Its duration.
    """

    code: int
    output: str
    seconds: float


@dataclass(frozen=True)
class Limits:
    """Limits of a case.

    Attributes:
        seconds: CPU time; a case that takes more hangs.
        memory: Bytes of address space beyond what the imports take.
        file_size: Bytes that a file may have; None for any.
        user: The user it runs as; None for the present one.
        closed_pipe: Whether stdout is a pipe that nobody reads.
    """

    seconds: int = 20
    memory: int = MEMORY
    file_size: int | None = None
    user: int | None = None
    closed_pipe: bool = False


class Case:
    """A function that runs in a forked process.

    Args:
        work: Returns the exit code. An exception is a failure of the case.
        limits: Limits of the case.
    """

    def __init__(self, work: Callable[[], int], limits: Limits | None = None):
        self.limits, self.began = limits or Limits(), time.monotonic()
        self._output, output = os.pipe()  # no file: those have limits too
        fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, 1 << 20)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(work, output)
        os.close(output)
        self._handle = os.pidfd_open(self.pid)

    def send(self, number: int) -> None:
        """Send a signal to the process."""
        signal.pidfd_send_signal(self._handle, number)

    def wait(self, seconds: float) -> bool:
        """Wait up to some seconds; return whether it has ended."""
        return bool(select.select([self._handle], [], [], seconds)[0])

    def end(self) -> Ended:
        """Wait until it ends, and kill it when its time is over."""
        if not self.wait(6 * self.limits.seconds):  # a deadlock uses no CPU time; the machine may be busy
            self.send(signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with open(self._output, "rb") as output:
            text = output.read().decode(errors="replace")
        os.close(self._handle)
        return Ended(code, text, time.monotonic() - self.began)

    def _run(self, work: Callable[[], int], output: int) -> None:
        code = BROKEN
        try:
            os.dup2(output, 2)
            if self.limits.closed_pipe:
                reader, output = os.pipe()
                os.close(reader)
            os.dup2(output, 1)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  (it stays open)
            sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
            _limit(self.limits)
            code = work()
        except SystemExit as error:  # argparse
            code = error.code if isinstance(error.code, int) else BROKEN
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except BrokenPipeError:
                    code = BROKEN
            os._exit(code)


def _limit(limits: Limits) -> None:
    if limits.user is not None:
        os.setgid(limits.user)
        os.setuid(limits.user)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + limits.memory,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_size,) * 2)


def run(work: Callable[[], int], limits: Limits | None = None) -> Ended:
    """Run a case to its end."""
    return Case(work, limits).end()


def settle() -> None:
    """Prepare for the first fork: keep the garbage collector away from the memory that all cases share."""
    gc.collect()
    gc.freeze()


def problem_of(ended: Ended, folder: Path) -> str:
    """Say what is wrong with how a command ended. Empty for success and for an error that names a file or option."""
    if ended.code == -signal.SIGXCPU or ended.code == -signal.SIGKILL:
        return "hang"
    if ended.code < 0:
        return f"crash (signal {-ended.code})"
    if "Traceback" in ended.output or "Exception ignored" in ended.output or ended.code in (1, BROKEN):
        return "traceback"
    if ended.code == 2 and any(words in ended.output for words in ("not enough memory", "allocate memory")):
        return "memory"
    named = (str(folder), "argument -", "--")  # a file or an option
    if ended.code == 2 and ("error:" not in ended.output or not any(name in ended.output for name in named)):
        return "an error that names nothing"
    if ended.code == NONSENSE:
        return "wrong without a word"
    if ended.code not in (0, 2):
        return f"exit code {ended.code}"
    return ""


def leftovers(folder: Path) -> list[str]:
    """List the temporary files that are still there."""
    return [str(path) for path in folder.rglob(".*") if path.name.startswith((".tmp-", ".running"))]
