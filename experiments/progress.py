"""Do jobs in order, each once, with progress and the time that is left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from experiments.jobs import Job, Machine, Score, Training
from fers.util.errors import FersError


def run_all(jobs: Sequence[Job], machine: Machine, log: Path) -> None:
    """Do what is not done yet, each job after those that it needs; show progress and the time that is left.

    Args:
        jobs: What tables and figures need; the same job may occur more than once.
        machine: How.
        log: What the jobs print goes there.

    Raises:
        FersError: A job cannot be done. The message names it; what was done before it is kept.
    """
    ordered = _in_order(jobs)
    waiting = [job for job in ordered if not job.done()]
    if len(waiting) < len(ordered):
        tqdm.write(f"{len(ordered) - len(waiting)} of {len(ordered)} steps are done already.")
    log.parent.mkdir(parents=True, exist_ok=True)
    took: dict[str, list[float]] = {}
    with log.open("a", encoding="utf-8") as output, tqdm(total=len(waiting), unit="step", disable=None) as bar:
        for index, job in enumerate(waiting):
            tqdm.write(f"[{index + 1}/{len(waiting)}] {job.label}{_time_left(waiting[index:], took)}")
            began = time.perf_counter()
            try:
                with contextlib.redirect_stdout(output):
                    job.run(machine)
            except ValueError as error:
                raise FersError(f"{job.label}: {error}") from error
            took.setdefault(job.kind, []).append(time.perf_counter() - began)
            bar.update()


def _in_order(jobs: Sequence[Job]) -> list[Job]:
    """Each job once, after those it needs."""
    found: dict[tuple[str, str, str], Job] = {}

    def add(job: Job) -> None:
        for needed in job.after:
            add(needed)
        place = str(job.folder if isinstance(job, Training | Score) else job.checkpoints)
        found.setdefault((job.kind, job.key, place), job)

    for job in jobs:
        add(job)
    return list(found.values())


def _time_left(waiting: Sequence[Job], took: dict[str, list[float]]) -> str:
    """From the mean of what jobs of the same kind took; kinds not met yet take the mean of all."""
    every = [seconds for times in took.values() for seconds in times]
    if not every:
        return ""
    mean = sum(every) / len(every)
    left = sum(sum(took[job.kind]) / len(took[job.kind]) if job.kind in took else mean for job in waiting)
    return f" (about {left / 60:.0f} min left)"
