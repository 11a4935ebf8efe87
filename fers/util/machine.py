"""Facts about the machine and this process: the processor, other work on it, and the memory that a piece of work takes."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import re
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
HOW_MEMORY = (
    "peak_mb is the highest resident memory of the process during a cell, less what it had before (Linux: VmHWM, MiB)"
)


def processor() -> str:
    """Name the processor."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def other_load(threads: int) -> bool:
    """Tell whether more runs on the machine than these threads of ours, by the load average of the last minute."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > threads + 0.5


class PeakMemory:
    """Meter of the resident memory that a piece of work takes, from its making on; Linux only.

    Freed memory goes back to the system first, and the kernel's own mark is set back, so earlier work does not count.
    """

    def __init__(self) -> None:
        self._before: float | None = None
        with contextlib.suppress(OSError, AttributeError):
            gc.collect()
            if platform.libc_ver()[0] == "glibc":
                ctypes.CDLL(None).malloc_trim(0)
            _RESET.write_text("5")
            self._before = _status("VmRSS")

    def megabytes(self) -> float | None:
        """Return the highest so far in MiB, above what there was; None where it cannot be had."""
        peak = None if self._before is None else _status("VmHWM")
        return None if peak is None or self._before is None else max(0.0, peak - self._before)


def _status(key: str) -> float | None:
    """One of the kernel's figures of this process, in MiB."""
    try:
        found = re.search(rf"{key}:\s*(\d+) kB", _STATUS.read_text())
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None
