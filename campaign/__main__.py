"""Damage inputs, kill commands, break the machine around them, and count how each case ends.

    python -m campaign --seed 1 --cases 3000 --kills 100

Every case runs in its own process, with limits of memory and time. The table counts for each class the cases that were
tried, that ended well, and that failed. A case ends well with a sound result, or with exit code 2 and a message that names
a file. The exit code is 1 if any case failed. --only CLASS --first NUMBER --cases 1 runs a failed case again. With fewer
cases or kills than classes, the seed draws the classes.
"""

from __future__ import annotations

import argparse
import csv
import encodings.cp437  # noqa: F401  (zipfile imports it late, and another user cannot)
import importlib
import os
import pkgutil
import random
import shutil
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process that has threads cannot be forked

import matplotlib

matplotlib.use("Agg")

import fers
from campaign import inputs, runs
from campaign.child import NONSENSE, leftovers, problem_of, run, settle
from fers.util.files import atomic_path

for module in pkgutil.walk_packages(fers.__path__, "fers."):  # commands import late, and another user cannot
    importlib.import_module(module.name)

SHOWN = 1200  # characters of a failed case's output


class Table:
    """Count cases by class: tried, clean, failed. Print each that failed; keep a CSV of what is known so far."""

    def __init__(self, path: Path | None = None) -> None:
        self.rows: dict[str, list[int]] = {}
        self.path, self.began = path, time.monotonic()

    def add(self, name: str, problem: str, case: str) -> None:
        """Count a case; print it if it failed."""
        row = self.rows.setdefault(name, [0, 0, 0])
        row[0] += 1
        row[2 if problem else 1] += 1
        if problem:
            print(f"FAILED {name}, {case}: {problem}\n", file=sys.stderr, flush=True)

    def note(self, done: str) -> None:
        """Tell that something is done, and write the CSV."""
        print(f"{time.monotonic() - self.began:6.0f} s  {done}", file=sys.stderr, flush=True)
        if self.path is not None:
            rows = [("class", "tried", "clean", "failed"), *((name, *row) for name, row in self.rows.items())]
            with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
                csv.writer(file).writerows(rows)

    @property
    def failed(self) -> int:
        """Number of failed cases, over all classes."""
        return sum(row[2] for row in self.rows.values())

    def __str__(self) -> str:
        total = [sum(column) for column in zip(*self.rows.values(), strict=True)]
        lines = ["| class | tried | clean | failed |", "| --- | ---: | ---: | ---: |"]
        lines += [f"| {name} | {' | '.join(map(str, row))} |" for name, row in [*self.rows.items(), ("all", total)]]
        return "\n".join(lines)


def damaged(kind: inputs.Kind, place: Path, seed: int, first: int, cases: int, table: Table) -> None:
    """Run the cases of one class of input, from number ``first`` on."""
    base, folder = place / "base", place / "case"
    folder.mkdir(parents=True)

    def make() -> int:
        kind.make(folder)
        return 0

    ended = run(make)
    if ended.code:
        raise RuntimeError(f"{kind.name}: {ended}")
    shutil.copytree(folder, base)
    ended = run(lambda: kind.work(folder, random.Random(f"{seed} {kind.name} good"))) if kind.victims else ended
    if ended.code:
        raise RuntimeError(f"{kind.name}, undamaged: {ended}")
    for number in range(first, first + cases):
        shutil.rmtree(folder)
        shutil.copytree(base, folder)
        rng = random.Random(f"{seed} {kind.name} {number}")
        victim = None
        if kind.victims:
            victim = rng.choice(sorted({p for g in kind.victims for p in folder.glob(g) if p.is_file()}))
            content = victim.read_bytes()
            while (new := kind.damage(content, rng)) == content:
                pass
            times = victim.stat()
            victim.write_bytes(new)
            os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))  # damage does not change a file's date
        before = inputs.tree(folder)
        ended = run(partial(_judged, kind, folder, rng))
        problem = problem_of(ended, folder)
        if not problem and (left := leftovers(folder)):
            problem = f"left over: {left}"
        if not problem:
            after = inputs.tree(folder)
            written = [f for f in after if after[f] != before.get(f) and not f.startswith(kind.writes or ("//",))]
            lost = [f for f in before if f not in after and not f.startswith(kind.writes or ("//",))]
            problem = f"wrote or removed {written + lost}" if written or lost else ""
        name = f"case {number}" + (f", {victim.relative_to(folder)}" if victim else "")
        table.add(kind.name, problem and f"{problem}\n{ended.output[-SHOWN:]}", name)


def _judged(kind: inputs.Kind, folder: Path, rng: random.Random) -> int:
    """Run a case; a success counts only if the class's own check agrees."""
    code = kind.work(folder, rng)
    if code == 0 and (problem := kind.judge(folder)):
        print(problem)
        return NONSENSE
    return code


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m campaign", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=3000, help="damaged inputs, over all classes (default: 3000)")
    parser.add_argument("--kills", type=int, default=100, help="number of kill -9, over all commands (default: 100)")
    parser.add_argument("--faults", type=int, default=1, help="faults of each kind for each command (default: 1)")
    parser.add_argument("--only", default="", help="run only classes whose names hold this text")
    parser.add_argument("--skip", default="", help="leave out classes whose names hold this text")
    parser.add_argument("--csv", type=Path, help="file that gets the table")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of a class")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    settle()
    table, draw = Table(options.csv), random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="campaign-") as top:
        os.chmod(top, 0o755)
        place = Path(top)

        def wanted(name: str) -> bool:
            return options.only in name and not (options.skip and options.skip in name)

        kinds = [kind for kind in inputs.kinds() if wanted(kind.name)]
        kinds = draw.sample(kinds, options.cases) if options.cases < len(kinds) else kinds
        shares = [kind.cost**-0.5 for kind in kinds]  # more cases of quick classes, and some of every class
        for index, (kind, share) in enumerate(zip(kinds, shares, strict=True)):
            cases = max(1, round(options.cases * share / sum(shares)))
            damaged(kind, place / f"input{index}", options.seed, options.first, cases, table)
            shutil.rmtree(place / f"input{index}")
            table.note(f"{kind.name}: {table.rows[kind.name]}")
        faults = runs.faults(os.geteuid() == 0 and runs.can_mount(place / "mount"))
        commands = [command for command in runs.commands() if not options.skip or options.skip not in command.name]
        killed = draw.sample(commands, options.kills) if options.kills < len(commands) else commands
        if any("stage" in command.name for command in commands):
            from torch.utils.tensorboard import SummaryWriter  # noqa: F401  (training imports both late)
        for index, command in enumerate(commands):
            names = [f"killed: {command.name}", *(f"{fault}: {command.name}" for fault in faults)]
            if not any(map(wanted, names)) or not (command in killed or options.faults):
                continue
            disturbed = runs.Disturbed(command, place / f"run{index}")
            share = command.kills / sum(each.kills for each in commands)
            kills = max(1, round(options.kills * share)) if command in killed else 0
            for number in range(kills if wanted(names[0]) else 0):
                rng = random.Random(f"{options.seed} {names[0]} {number}")
                table.add(names[0], disturbed.killed(rng), f"kill {number}")
            for name, fault in zip(names[1:], faults.values(), strict=True):
                for number in range(options.faults if wanted(name) else 0):
                    rng = random.Random(f"{options.seed} {name} {number}")
                    table.add(name, fault(disturbed, rng), f"fault {number}")
            table.note(f"{command.name}: {disturbed.seconds:.1f} s undisturbed")
            shutil.rmtree(place / f"run{index}")
    print(table)
    print(f"\nseed {options.seed}; {time.monotonic() - table.began:.0f} s; {table.failed} failed")
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
