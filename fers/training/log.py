"""The curves of a run: one entry for each epoch, in ``log.jsonl``, TensorBoard and the terminal."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from pathlib import Path
from statistics import median

from fers.util.duration import roughly
from fers.util.files import atomic_path, json_text

LOG_FILE = "log.jsonl"
TEST_CHOICE = "chosen by the test set's ground truth"


def read_log(path: Path) -> tuple[list[dict], int]:
    """Read a run's log.

    Args:
        path: A ``log.jsonl``; it need not exist.

    Returns:
        The entries, and the number of incomplete lines left out, such as after a power cut.
    """
    entries: list[dict] = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    for line in lines:
        try:
            entry = json.loads(line)
            if _is_log_entry(entry, (entries or [entry])[0]["terms"]):
                entries.append(entry)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return entries, len(lines) - len(entries)


def _is_log_entry(entry: dict, terms: dict) -> bool:
    """Tell whether a line has all that curves are drawn from, with these terms of the loss."""
    losses = [entry, entry["held_out"]] if entry["held_out"] else [entry]
    numbers = [entry["epoch"], entry["seconds"], entry["patches_per_second"]]
    numbers += [value for each in losses for value in (each["loss"], *each["terms"].values())]
    return (
        type(entry["epoch"]) is int
        and all(type(n) is float or (type(n) is int and abs(n) < 2**53) for n in numbers)
        and all(each["terms"].keys() == terms.keys() for each in losses)
    )


class Log:
    """Log of a run that starts or goes on.

    Args:
        folder: The run's folder; entries of epochs after ``done`` are dropped.
        done: Epochs that the resume file has seen: a run killed after it wrote an entry repeats that epoch.
        epochs: Epochs of the whole run.
    """

    def __init__(self, folder: Path, done: int, epochs: int):
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and readers of logs need none of it

        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.epochs = folder / LOG_FILE, epochs
        entries, dropped = read_log(self.path) if done else ([], 0)
        if dropped:
            print(f"note: {self.path}: {dropped} incomplete line(s) are dropped.", flush=True)
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries if entry["epoch"] <= done))
        self._board = SummaryWriter(folder, purge_step=done + 1)
        self._ended = 0.0  # when the last epoch was written
        self._recent: deque[float] = deque(maxlen=3)  # seconds of whole epochs, with held-out loss and files

    def write(self, entry: dict) -> None:
        """Write an epoch's entry everywhere."""
        with self.path.open("a") as file:
            file.write(json_text(self.path, entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        scalars = {"loss/train": entry["loss"], "lr": entry["lr"], "patches_per_second": entry["patches_per_second"]}
        scalars |= {f"train/{name}": value for name, value in entry["terms"].items()}
        terms = " ".join(f"{name} {value:.4g}" for name, value in entry["terms"].items())
        line = f"epoch {entry['epoch']}/{self.epochs}  loss {entry['loss']:.4f} ({terms})"
        if entry["held_out"]:
            scalars["loss/held_out"] = entry["held_out"]["loss"]
            scalars |= {f"held_out/{name}": value for name, value in entry["held_out"]["terms"].items()}
            line += f"  held-out {entry['held_out']['loss']:.5g}"
        if "test_auc" in entry:
            scalars["test_auc"] = entry["test_auc"]
            line += f"  test AUC {entry['test_auc']:.4f} ({TEST_CHOICE})"
        for name, value in scalars.items():
            self._board.add_scalar(name, value, entry["epoch"])
        self._board.flush()
        line += f"  lr {entry['lr']:g}  {entry['seconds']:.1f} s  {entry['patches_per_second']:.1f} patches/s"
        now = time.perf_counter()
        self._recent.append(now - self._ended if self._ended else entry["seconds"])
        self._ended = now
        if left := self.epochs - entry["epoch"]:
            line += f"  about {roughly(left * median(self._recent))} left to epoch {self.epochs}"
        print(line, flush=True)

    def close(self) -> None:
        """Close TensorBoard's file."""
        self._board.close()
