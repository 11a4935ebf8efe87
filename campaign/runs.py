"""Kills and faults: disturb a command, run it again, and compare with an undisturbed run.

Add a command as a row of ``commands``.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from campaign import commands as small
from campaign.child import NOBODY, Case, Ended, Limits, leftovers, problem_of, run
from tests.conftest import ROOT, write_had100

INTERRUPTED = 130
TRAINING = Limits(seconds=60, memory=8 << 30)  # Stage 1 has a hundred million weights and their moments


@dataclass(frozen=True)
class Command:
    """A command that is disturbed.

    Attributes:
        name: Name in the table.
        make: Writes what it needs to a folder.
        work: Runs it there; returns the exit code. It writes to ``out`` only.
        found: Its results, without times, for a comparison.
        again: Runs it again after it was disturbed.
        kills: Its share of the kills.
    """

    name: str
    make: Callable[[Path], object]
    work: Callable[[Path], int]
    found: Callable[[Path], object]
    again: Callable[[Path], int]
    kills: int = 4


def commands() -> list[Command]:
    """List every command that is disturbed."""
    had100 = partial(write_had100, names=small.SCENES, shape=(40, 40, 12))
    return [
        Command("test.py", lambda f: had100(f / "data"), small.test_had100, small.results_and_maps, small.test_had100),
        Command("stage 1", lambda f: small.patches(f / "data", scenes=6), lambda f: small.train(1, f), small.trained, lambda f: small.train(1, f, "--resume"), 1),
        Command("stage 2", small.teacher, lambda f: small.train(2, f), small.trained, lambda f: small.train(2, f, "--resume"), 2),
        Command("fers data synthetic", lambda f: None, lambda f: small.make_synthetic(f, 9, 4), small.written, lambda f: small.make_synthetic(f, 9, 4)),
        Command("detect.py", lambda f: small.write_scene(f, side=120), lambda f: small.detect(f, "--format", "tif,envi"), small.detected, lambda f: small.detect(f, "--format", "tif,envi")),
        Command("fers data had100 prepare", small.write_archive, small.prepare, small.written, small.prepare),
        Command("fers compare", lambda f: write_had100(f / "data"), small.compare, small.compared, small.compare, 2),
        Command("reproduce.py", lambda f: had100(f / "data"), small.reproduce_table, small.reproduced, small.reproduce_table, 2),
        Command("download", small.write_large, small.download, small.written, small.download),
    ]  # fmt: skip


class Disturbed:
    """A command with its undisturbed run.

    Args:
        command: The command.
        place: An empty folder.
    """

    def __init__(self, command: Command, place: Path):
        self.command, self.good, self._place = command, place / "good", place / "found"
        self.folder = place / "case"
        self.good.mkdir(parents=True)
        os.chmod(place, 0o777)

        def prepared() -> int:
            command.make(self.good)
            return 0

        self._must(run(prepared, TRAINING))
        self._restore()
        ended = self._must(run(lambda: command.work(self.folder), TRAINING))
        self.seconds = ended.seconds
        self.expected = self._found()

    def _must(self, ended: Ended) -> Ended:
        if ended.code:
            raise RuntimeError(f"{self.command.name}, undisturbed: {ended}")
        return ended

    def _restore(self) -> None:
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if path.name == "out":
                shutil.rmtree(path)
        if not self.folder.is_dir():
            shutil.copytree(self.good, self.folder)
        elif (self.good / "out").is_dir():
            shutil.copytree(self.good / "out", self.folder / "out")

    def _found(self) -> str:
        """Read the results in another process, as they may hold tensors."""
        place = self._place

        def look() -> int:
            place.write_text(json.dumps(self.command.found(self.folder), sort_keys=True))
            return 0

        place.unlink(missing_ok=True)
        ended = run(look, TRAINING)
        return place.read_text() if ended.code == 0 else f"nothing: {ended.output[-500:]}"

    def goes_on(self) -> str:
        """Run it again, undisturbed; say what is wrong then."""
        ended = run(lambda: self.command.again(self.folder), TRAINING)
        if ended.code:
            return f"cannot go on: exit code {ended.code}: {ended.output[-1500:]}"
        if left := leftovers(self.folder):
            return f"left over: {left}"
        found = self._found()
        return "" if found == self.expected else f"lost or changed: {found[:1500]} instead of {self.expected[:1500]}"

    def killed(self, rng: random.Random) -> str:
        """Send SIGKILL at a random moment; say what is wrong after the next run."""
        self._restore()
        case = Case(lambda: self.command.work(self.folder), TRAINING)
        case.wait(rng.uniform(0, self.seconds))
        case.send(signal.SIGKILL)
        case.end()
        return self.goes_on()

    def signalled(self, rng: random.Random, number: int) -> str:
        """Send SIGINT or SIGTERM at a random moment: it must end without traceback, and go on when run again."""
        self._restore()
        case = Case(lambda: self.command.work(self.folder), TRAINING)
        finished = case.wait(rng.uniform(0.3, 1) * self.seconds)
        if not finished:
            case.send(number)
        ended = case.end()
        if ended.code not in (0, INTERRUPTED) or "Traceback" in ended.output or "Exception ignored" in ended.output:
            return f"exit code {ended.code}: {ended.output[-1500:]}"
        if ended.code and "stopped." not in ended.output:
            return f"does not say that it stopped: {ended.output[-500:]}"
        if left := leftovers(self.folder):
            return f"left over: {left}"
        return self.goes_on()

    def limited(self, limits: Limits, codes: tuple[int, ...] = (2,)) -> str:
        """Run it under a limit: it must name a file in its error, and go on without the limit."""
        self._restore()
        ended = run(lambda: self.command.work(self.folder), limits)
        return self._refused(ended, codes) or self.goes_on()

    def _refused(self, ended: Ended, codes: tuple[int, ...]) -> str:
        if ended.code not in codes:
            return f"exit code {ended.code}: {ended.output[-1500:]}"
        if ended.code == 2 and (problem := problem_of(ended, self.folder)) not in ("", "memory"):
            return f"{problem}: {ended.output[-1500:]}"
        if left := leftovers(self.folder):
            return f"left over: {left}"
        return ""

    def unread(self) -> str:
        """Give it a stdout that nobody reads: it must end silently."""
        self._restore()
        ended = run(lambda: self.command.work(self.folder), replace(TRAINING, closed_pipe=True))
        if ended.code not in (0, 2) or "Traceback" in ended.output or "Exception ignored" in ended.output:
            return f"exit code {ended.code}: {ended.output[-1500:]}"
        return self.goes_on()

    def full_disk(self, kilobytes: int) -> str:
        """Run it on a file system that is too small, then with enough room."""
        self._restore()
        out = self.folder / "out"
        before = shutil.move(out, self.folder / "kept") if out.is_dir() else None
        out.mkdir()
        with _mounted(out, f"size={kilobytes}k"):
            if before:
                shutil.copytree(before, out, dirs_exist_ok=True)
            ended = run(lambda: self.command.work(self.folder), TRAINING)
            problem = self._refused(ended, (0, 2))
            subprocess.run(["mount", "-o", "remount,size=4g", str(out)], check=True)
            problem = problem or self.goes_on()
        shutil.rmtree(self.folder / "kept", ignore_errors=True)
        return problem

    def read_only(self) -> str:
        """Run it as a user who may write nowhere."""
        self._restore()
        (self.folder / "out").mkdir(exist_ok=True)
        os.chmod(self.folder / "out", 0o555)
        ended = run(lambda: self.command.work(self.folder), replace(TRAINING, user=NOBODY))
        problem = self._refused(ended, (2,))
        os.chmod(self.folder / "out", 0o755)
        return problem or self.goes_on()

    def two_at_once(self) -> str:
        """Run it twice at once: each must succeed or refuse, and the results must be right."""
        self._restore()
        cases = [Case(lambda: self.command.work(self.folder), TRAINING) for _ in range(2)]
        for ended in [case.end() for case in cases]:
            if problem := self._refused(ended, (0, 2)):
                return problem
        return self.goes_on()


@contextmanager
def _mounted(place: Path, options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True, capture_output=True)
    try:
        yield
    finally:
        for _ in range(20):
            if subprocess.run(["umount", str(place)], capture_output=True).returncode == 0:
                break
            time.sleep(0.2)


def can_mount(place: Path) -> bool:
    """Tell whether this user may make a small file system."""
    place.mkdir(parents=True, exist_ok=True)
    with suppress(subprocess.CalledProcessError, OSError), _mounted(place, "size=64k"):
        return True
    return False


def faults(root: bool) -> dict[str, Callable[[Disturbed, random.Random], str]]:
    """Map names to faults; those that need root are left out where ``root`` is False."""
    found: dict[str, Callable[[Disturbed, random.Random], str]] = {
        "SIGINT": lambda d, rng: d.signalled(rng, signal.SIGINT),
        "SIGTERM": lambda d, rng: d.signalled(rng, signal.SIGTERM),
        "file size limit": lambda d, rng: d.limited(replace(TRAINING, file_size=rng.choice((100, 1000, 5000)))),
        "closed pipe": lambda d, rng: d.unread(),
        "two at once": lambda d, rng: d.two_at_once(),
        "memory of 48 MB": lambda d, rng: d.limited(replace(TRAINING, memory=48 << 20), (0, 2)),
    }
    if root:
        found["disk full"] = lambda d, rng: d.full_disk(rng.choice((256, 400, 800)))
        if run(lambda: 0 if ROOT.is_dir() and any(ROOT.iterdir()) else 1, Limits(user=NOBODY)).code == 0:
            found["read-only"] = lambda d, rng: d.read_only()
        else:
            print(f"read-only: left out, as other users cannot read {ROOT}", flush=True)
    return found
