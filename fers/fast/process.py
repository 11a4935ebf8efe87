"""Settings of the whole process. Only commands make them, before PyTorch is imported; the library never does."""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def prepare_process() -> None:
    """Make this process ready for tensors on a CPU; a command calls it once, before PyTorch is imported."""
    wait_asleep()
    keep_freed_memory()


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait, unless the environment says otherwise.

    OpenMP reads the setting when it starts. By default its threads spin, which takes time from other work on the
    processor (docs/notebook/2026-11-first-minute.md).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_freed_memory() -> None:
    """Let glibc reuse freed tensors; by default the system takes back each large one and must zero its pages again."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
