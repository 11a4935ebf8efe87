"""Timing two sides in turn, the machine's peak, and what a number is worth without: the machine and its software."""

from __future__ import annotations

import ctypes
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from fast.process import keep_freed_memory
from models.checkpoint import git_revision

PRODUCT = ("product", "batch")
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "spectral", "accelerate", "pytorch-msssim")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4  # malloc.h
_SETTLE = 0.12  # seconds
_LONG = 1.0  # seconds: what takes longer needs no settling
_PEAK_SECONDS = 0.05  # a matrix product is made larger until it takes this long
_LARGEST_PRODUCT = 8192


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one thing.

    Attributes:
        seconds: One for each repetition.
        warm: Whether an untimed repetition came before; without, there is a single one, which took the whole budget.
    """

    seconds: tuple[float, ...]
    warm: bool = True

    @property
    def median(self) -> float:
        """In seconds."""
        return statistics.median(self.seconds)

    def as_json(self) -> dict:
        """Every number, in seconds."""
        return {"median": self.median, "seconds": list(self.seconds), "warm": self.warm}


def alternate(
    sides: Mapping[str, Callable[[], object]], repeats: int, budget: float, device: torch.device
) -> dict[str, Timing]:
    """Time things in turn, so that whatever drifts (clock, heat, neighbours) meets all of them alike; see ``settle``.

    Args:
        sides: What to time, by name. Those of ``PRODUCT`` have the product's allocation of memory, others the default.
        repeats: Rounds, each side once in a round, after a round that does not count.
        budget: Seconds: no round is begun that would go beyond it, but for the first. If the uncounted round already did,
            it is the measurement.
        device: Where they run; it is waited for.

    Returns:
        A timing for each name.
    """
    began = time.perf_counter()
    first = {}
    for name, work in sides.items():
        with _allocation(name):
            first[name] = seconds(work, device)
    if time.perf_counter() - began > budget:
        return {name: Timing((value,), warm=False) for name, value in first.items()}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for index in range(repeats):
        started = time.perf_counter()
        for name, work in sides.items():
            with _allocation(name):
                if first[name] < _LONG:
                    settle(work, device)
                found[name].append(seconds(work, device))
        now = time.perf_counter()
        if index + 1 < repeats and now - began + (now - started) > budget:
            break
    return {name: Timing(tuple(values)) for name, values in found.items()}


def settle(work: Callable[[], object], device: torch.device) -> None:
    """Repeat ``work`` until it has the machine for itself, and its own data in the cache.

    numpy's OpenBLAS keeps a core busy for up to a tenth of a second after its last call, which would double the time of
    what comes next; just waiting would let the cores fall asleep.
    """
    began = time.perf_counter()
    while time.perf_counter() - began < _SETTLE:
        work()
    synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long ``work`` takes, the device waited for before and after."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Neighbours:
    """How much of the machine's cores others take while a block runs, the hypervisor's other guests included.

    Attributes:
        share: 0 to 1, once the block has ended; 0 where the system does not tell (only Linux does).
    """

    def __enter__(self) -> Neighbours:
        self.share = 0.0
        self._before = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        others, everything = (after - before for after, before in zip(self._read(), self._before, strict=True))
        self.share = max(0.0, others / everything) if everything else 0.0

    def _read(self) -> tuple[float, float]:
        """Seconds of all cores that others worked, and all seconds of all cores."""
        try:
            ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
            own = os.times()
            everything, idle = sum(ticks) / os.sysconf("SC_CLK_TCK"), sum(ticks[3:5]) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError):
            return 0.0, 0.0
        return everything - idle - sum(own[:4]), everything


@contextmanager
def default_allocation() -> Iterator[None]:
    """glibc's way with freed memory as it is by default, where the product has changed it for the process.

    Its limits are those that its own adjustment arrives at with tensors of this size; ``keep_freed_memory`` is in force
    again at the end.
    """
    glibc = ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
    if glibc:
        glibc.malloc_trim(0)  # or both sides' memory would be held at once
        glibc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        glibc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)
        glibc.mallopt(_M_MMAP_MAX, 65536)
    yield
    if glibc:
        keep_freed_memory()


def _allocation(name: str) -> AbstractContextManager:
    return nullcontext() if name in PRODUCT else default_allocation()


def matrix_product(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], torch.Tensor], float]:
    """A square matrix product large enough to show the machine's rate in a type.

    Returns:
        The product to time, and its FLOPs (2 n^3).
    """
    side, taken = 64, 0.0
    while side < _LARGEST_PRODUCT and taken < _PEAK_SECONDS:
        side *= 2
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        product = partial(torch.mm, a, b)
        product()
        taken = seconds(product, device)
    return product, 2.0 * side**3


def copy(device: torch.device, size: int = 1 << 28) -> tuple[Callable[[], torch.Tensor], float]:
    """A copy in memory of ``size`` bytes, far more than caches hold; with the bytes it moves (read and written)."""
    source = torch.zeros(size // 4, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source), 2.0 * size


def flops(work: Callable[[], object]) -> float:
    """FLOPs of the convolutions and matrix products in ``work``, a multiplication and an addition counting 2."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def has_bf16() -> bool:
    """Whether this CPU has instructions for bf16, as far as PyTorch's library for convolutions knows."""
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def free_memory(device: torch.device) -> float:
    """Bytes that can still be had, as far as this system tells."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        return 8e9


def environment(devices: list[torch.device]) -> dict:
    """The machine and its software."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": " ".join(["python -m benchmarks.bench", *sys.argv[1:]]),
        "git_revision": git_revision(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16_instructions": has_bf16(),
        "memory_free_bytes": free_memory(torch.device("cpu")),
        "gpus": [torch.cuda.get_device_name(device) for device in devices if device.type == "cuda"],
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in LIBRARIES},
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not Linux
        return platform.processor() or platform.machine()
