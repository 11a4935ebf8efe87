"""How this process treats memory that tensors no longer use."""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Let glibc reuse freed tensors; else it gives each large one back to the system, which must zero its pages anew."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def prepare() -> None:
    """What a command does first, for its whole process."""
    keep_freed_memory()
