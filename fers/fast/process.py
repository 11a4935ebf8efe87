"""Settings of the whole process. Only commands make them, before PyTorch is imported; no class or function of the library does."""

from __future__ import annotations

import ctypes
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def prepare() -> None:
    """Make this process ready for tensors on a CPU; call it once, first thing in a command, before PyTorch is imported."""
    wait_asleep()
    keep_freed_memory()


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait, unless the environment says otherwise. OpenMP reads it when it starts.

    By default they spin. That takes the time of whatever else wants the processor (docs/notebook/2026-11-first-minute.md).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def keep_freed_memory() -> None:
    """Let glibc reuse freed tensors. By default it gives each large one back to the system, which must zero its pages again."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
