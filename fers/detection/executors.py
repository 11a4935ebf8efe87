"""Executors that compute the blocks: threads of this process, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from fers.util.errors import FersError
from fers.util.paths import how_to_install

SCHEDULER_TIMEOUT = 20  # seconds to find a scheduler


class SchedulerError(FersError):
    """A cluster that cannot be used."""


@contextmanager
def thread_pool(workers: int) -> Iterator[Executor]:
    """Start threads of this process, each on one core, as PyTorch's own threads would change the last bits.

    Args:
        workers: Number of threads.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)


@contextmanager
def cluster(scheduler: str | None = None, scheduler_file: str | Path | None = None) -> Iterator[tuple[Executor, int]]:
    """Connect to the workers of a Dask cluster that is running.

    Args:
        scheduler: Its address, such as ``tcp://10.0.0.1:8786``.
        scheduler_file: The file, instead of the address, that ``dask scheduler --scheduler-file`` wrote.

    Yields:
        The executor, and how many blocks its workers compute at a time.

    Raises:
        SchedulerError: Dask is not installed, or no scheduler or worker answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise SchedulerError(f"a Dask cluster needs the package distributed: {how_to_install('cluster')}.") from error
    try:
        client = Client(
            scheduler, scheduler_file=None if scheduler_file is None else str(scheduler_file), timeout=SCHEDULER_TIMEOUT
        )
    except (OSError, ValueError, TimeoutError) as error:
        where = scheduler or scheduler_file
        raise SchedulerError(f"{where}: no Dask scheduler answers there ({error}). Is it running?") from error
    try:
        try:
            client.wait_for_workers(1, timeout=60)
        except TimeoutError as error:
            raise SchedulerError(f"{scheduler or scheduler_file}: the Dask cluster has no worker.") from error
        with client.get_executor(pure=False, retries=2) as pool:
            yield pool, sum(client.nthreads().values())
    finally:
        client.close()
