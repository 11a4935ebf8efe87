"""Plan of ``reproduce.py``: what each step takes of time, memory and disk; and the loop that does what is missing.

Reckoned from ``experiments/results/costs.csv`` (``python -m experiments.costs``), and from finished steps of the same kind
once there are some. So the time that is left follows this machine, kind by kind.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from experiments.costs import FILE, SIDE, kind_of
from experiments.jobs import Step, Weights, in_order, machine
from fers.util.errors import FersError

START = 2.0  # s, what a step takes before its first scene or patch
_ABOVE = "what PyTorch itself takes, about 0.5 GB"
_HEAD = ("", "this machine", "paper's GPU", "memory", "disk", "meanwhile", "")


class Amount(NamedTuple):
    """Amount of work of one kind that a step is."""

    kind: str  # of a row of costs.csv
    bands: int
    units: float  # patches in a step, or scenes, of 64 x 64 px
    left: float  # of the units, not done yet
    iterations: int = 0  # of the detector, where they are not the default
    batch: int = 1
    patches: int = 0


class Reckoned(NamedTuple):
    """Time, memory and disk of what is left of a step; None where nobody knows."""

    seconds: float | None = None  # on this machine
    gpu: float | None = None  # on a GPU of the paper's class
    memory_mb: float | None = None  # peak
    kept_mb: float = 0.0
    temporary_mb: float = 0.0
    here: bool = False  # by what was measured on this machine


@dataclass
class Rates:
    """Seconds of each kind of work: by the file of costs, and by the steps that were done here.

    Attributes:
        costs: The file, by kind and bands.
        threads: Threads of this process; CPU seconds are shared between them.
        on_gpu: Whether the GPU's seconds count.
        slowdown: By other programs on this machine, until a step has shown it.
        measured: Seconds and units of the latest step that was done here, by kind and bands.
    """

    costs: pd.DataFrame
    threads: int = 1
    on_gpu: bool = False
    slowdown: float = 1.0
    measured: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)

    def learn(self, amount: Amount, units: float, seconds: float) -> None:
        """Take note of what so many units of a kind took here."""
        if units > 0 and seconds > 0 and amount.kind:
            self.measured[amount.kind, amount.bands] = seconds, units

    def reckon(self, amount: Amount) -> Reckoned:
        """Reckon what is left of a step; nothing where its kind is unknown."""
        cost = self._cost(amount)
        seconds, units = self.measured.get((amount.kind, amount.bands), (0.0, 0.0))
        known = max(seconds - START, seconds / 10) / units if units else None
        if cost is None:
            return Reckoned(None if known is None else START + known * amount.left, here=known is not None)
        each = self._listed(cost, amount) * self._ratio(amount.kind) if known is None else known
        f_spe = 8e-6 * amount.patches * amount.bands * SIDE**2 if amount.kind == "stage2" else 0.0
        return Reckoned(
            START + each * amount.left,
            float(cost.gpu_s) * self._share(cost, amount) * amount.left,
            float(cost.memory_mb + cost.memory_mb_per_patch * (amount.batch - 1)),
            float(cost.kept_mb) * (amount.units if not amount.patches else 1),
            float(cost.temporary_mb) + f_spe,
            known is not None,
        )

    def _cost(self, amount: Amount) -> pd.Series | None:
        rows = self.costs[self.costs.kind == amount.kind]
        return None if rows.empty else rows.iloc[(rows.bands - amount.bands).abs().argmin()]

    def _listed(self, cost: pd.Series, amount: Amount) -> float:
        """Seconds of a unit by the file."""
        if self.on_gpu and pd.notna(cost.gpu_s):
            return float(cost.gpu_s) * self._share(cost, amount)
        iterations = amount.iterations or cost.iterations
        return float(cost.cpu_s + cost.cpu_s_per_iteration * iterations) / self.threads

    @staticmethod
    def _share(cost: pd.Series, amount: Amount) -> float:
        """The share of its default iterations that a detector makes."""
        return amount.iterations / cost.iterations if amount.iterations and cost.iterations else 1.0

    def _ratio(self, kind: str) -> float:
        """Compute how much longer than listed this machine takes: for the same kind at other bands, else for all kinds together."""
        pairs = []
        for (name, bands), (seconds, units) in self.measured.items():
            amount = Amount(name, bands, units, units)
            cost = self._cost(amount)
            if cost is not None:
                pairs.append((name == kind, seconds, START + self._listed(cost, amount) * units))
        pairs = [pair for pair in pairs if pair[0]] or pairs
        return sum(pair[1] for pair in pairs) / sum(pair[2] for pair in pairs) if pairs else self.slowdown


def read_rates(device: str, file: Path = FILE) -> Rates:
    """Read the file of costs, for this machine's threads or its GPU."""
    on_gpu = device not in ("cpu", "mps") and torch.cuda.is_available()
    return Rates(pd.read_csv(file), torch.get_num_threads(), on_gpu)


def amount_of(step: Step) -> Amount:
    """Tell how much work a step is."""
    if isinstance(step, Weights):
        if not step.kind:
            return Amount("", 0, 0, 0)  # a copy
        units = float(step.patches // step.batch * step.batch * step.epochs * step.pixels / SIDE**2)
        left = 0.0 if step.done() else units * (1 - step.epochs_done / step.epochs)
        return Amount(step.kind, step.bands, units, left, batch=step.batch, patches=step.patches)
    units = sum(truth.size for truth in step.workspace.truths.values()) / SIDE**2
    left = 0.0 if step.done() else units * (1 - step.scenes_done / len(step.workspace.truths))
    config = step.detect_config
    options = dict(config.options)
    chosen = options.get("iterations") or options.get("epochs") or ""
    return Amount(kind_of(config), step.bands, units, left, int(chosen) if chosen.isdigit() else 0)


def learn_from(rates: Rates, steps: Iterable[Step]) -> None:
    """Take the rates of steps that were done before."""
    for step in steps:
        if taken := step.seconds_taken:
            amount = amount_of(step)
            rates.learn(amount, amount.units - amount.left, START + taken)


def make_missing(steps: Sequence[Step], device: str, log: Path, rates: Rates | None = None) -> None:
    """Do what is not done yet, each step after those that it needs, and say how long all that is left takes.

    What the steps print goes to the file ``log``.

    Raises:
        FersError: A step cannot be done. The message names it; what was done before it is kept.
    """
    every = in_order(steps)
    missing = [step for step in every if not step.done()]
    tqdm.write(f"{len(every) - len(missing)} of {len(every)} steps are done already.")
    rates = rates or replace(read_rates(device), slowdown=_busy())
    learn_from(rates, every)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as output, tqdm(total=len(missing), unit="step", disable=None) as bar:
        for number, step in enumerate(missing, 1):
            amount = amount_of(step)
            left = f"{time_left(rates, [step])}; all that is left: {time_left(rates, missing[number - 1 :])}"
            tqdm.write(f"[{number}/{len(missing)}] {step.label}: {left}")
            began = time.perf_counter()
            try:
                with contextlib.redirect_stdout(output):
                    step.make(device)
            except ValueError as error:
                raise FersError(f"{step.label}: {error}") from error
            rates.learn(amount, amount.left, time.perf_counter() - began)
            bar.update()


def _busy() -> float:
    """Compute how many times as long work takes beside what runs on this machine now, by the load of the last minute."""
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    return max(1.0, (os.getloadavg()[0] + threads) / cores) if hasattr(os, "getloadavg") else 1.0


def time_left(rates: Rates, steps: Sequence[Step]) -> str:
    """Write how long steps take, together."""
    amounts = [amount for step in steps if (amount := amount_of(step)).kind]
    found = [rates.reckon(amount).seconds for amount in amounts]
    known = [seconds for seconds in found if seconds is not None]
    if found and not known:
        return "nobody knows how long"
    more = f" and {len(found) - len(known)} steps of unknown length" if len(known) < len(found) else ""
    return f"about {duration(sum(known))}{more}"


def plan_lines(steps: Sequence[Step], rates: Rates) -> list[str]:
    """Write the plan: a line for each step, the sums, and where the figures come from."""
    steps = in_order(steps)
    learn_from(rates, steps)
    left = {step.folder: _reckon_step(rates, step) for step in steps if not step.done()}
    rows = [
        _row("to do", left[step.folder], step.label) if step.folder in left else ("done", *[""] * 5, step.label)
        for step in steps
    ]
    total = Reckoned(
        sum(found.seconds or 0.0 for found in left.values()),
        float(np.nansum([found.gpu or 0.0 for found in left.values()])),
        max([found.memory_mb or 0.0 for found in left.values()], default=0.0),
        sum(found.kept_mb for found in left.values()),
        max([found.temporary_mb for found in left.values()], default=0.0),
        here=True,
    )
    rows = [_HEAD, *rows, _row("in all", total, "")]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    unknown, busy, listed = sum(found.seconds is None for found in left.values()), _busy(), rates.costs.iloc[0]
    notes = {
        f"{unknown} steps are of a kind that nobody has measured; their time is not in the sum.": unknown,
        f"this machine: {machine()}. Without *: by finished steps of its kind in this folder.": True,
        f"*: reckoned from {FILE.name}, a few measured steps on {listed.machine}, {listed.date}, shared by the threads as if "
        "nothing else ran.": True,
        f"Other programs run here now: at this load it takes {busy:.0f} times as long.": busy > 1.5,
        "paper's GPU: an estimate for an RTX 3090 Ti: scoring by the paper's times, training by its operations at 10 TFLOP/s.": True,
        f"memory: peak above {_ABOVE}. meanwhile: resume file and features on the disk, gone when the step is done.": True,
    }
    return [
        f"{len(steps) - len(left)} of {len(steps)} steps are done already.",
        *(
            "  ".join([*(cell.rjust(n) for cell, n in zip(row, widths, strict=False)), row[-1]]).rstrip()
            for row in rows
        ),
        *(note for note, holds in notes.items() if holds),
    ]


def _reckon_step(rates: Rates, step: Step) -> Reckoned:
    amount = amount_of(step)
    return rates.reckon(amount) if amount.kind else Reckoned(0.0, 0.0, 0.0)  # a copy takes nothing


def _row(state: str, found: Reckoned, label: str) -> tuple[str, ...]:
    mark = "" if found.here or not found.seconds else " *"
    sizes = (size(each) for each in (found.memory_mb, found.kept_mb, found.temporary_mb))
    return state, duration(found.seconds) + mark, duration(found.gpu), *sizes, label


def duration(seconds: float | None) -> str:
    """Write a time in two digits or so; ``?`` where it is unknown.

    Example:
        >>> [duration(t) for t in (None, 0.2, 75, 4000, 1e6)]
        ['?', '< 1 s', '1.2 min', '1.1 h', '12 d']
    """
    if seconds is None or seconds != seconds:
        return "?"
    if seconds < 1:
        return "< 1 s" if seconds else "0 s"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            value = seconds / length
            return f"{value:.1f} {unit}" if value < 10 and unit != "s" else f"{value:.0f} {unit}"
    return "?"


def size(megabytes: float | None) -> str:
    """Write a size in two digits or so; ``?`` where it is unknown.

    Example:
        >>> size(0.4), size(34.2), size(6815)
        ('< 1 MB', '34 MB', '6.8 GB')
    """
    if megabytes is None:
        return "?"
    if megabytes < 1:
        return "< 1 MB" if megabytes else "0 MB"
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"
