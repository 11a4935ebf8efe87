"""What changes the whole process. Only commands call it, before they load anything: never a class or a function of the library.

OpenMP reads how its threads wait when it starts, so that is the environment's business: set OMP_WAIT_POLICY=PASSIVE where
other programs share the processor.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def prepare() -> None:
    """Make this process ready for tensors on a CPU; call it once, first thing in a command."""
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Let glibc reuse freed tensors. By default it gives each large one back to the system, which must zero its pages anew."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
