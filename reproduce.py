"""Reproduce the paper: each table and figure by its name, or all of them.

    python reproduce.py table1 --data data/HAD100Dataset               trains what is missing, scores, writes the table
    python reproduce.py table2 --abu data/ABU --weights released       the authors' Spe-FEN instead of one trained here
    python reproduce.py all --data data/HAD100Dataset --abu data/ABU   the whole paper

Work that was done with the same code, configuration, weights and data is not repeated. Give the same command again to
go on with an interrupted run. Everything goes to results/reproduce/<data set>/: tables as Markdown, CSV and LaTeX, figures
as PNG and PDF. docs/reproduce.md says what each target needs.

    python reproduce.py abu --data data/ABU      the README's table, into experiments/results/abu.csv
    python reproduce.py picture --data data/ABU  the README's picture
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import ROOT
from fers.datasets.benchmarks import BENCHMARKS
from fers.datasets.patches import NODATA_CHOICES
from fers.util.commandline import list_of, natural, positive, run
from fers.util.errors import FersError
from fers.util.lock import locked

if TYPE_CHECKING:
    from experiments.rows import Request

IN_PAPER = (
    *("table1", "table2", "table3", "table4", "table5", "fig7", "fig8", "fig9"),
    *("decorrelation", "gaussianity", "timing", "all"),
)


def parser() -> argparse.ArgumentParser:
    """Make the parser of the options."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("name", choices=(*IN_PAPER, *WORK), help="the table or figure to make")
    bands, positions = (50, 100, 200), (58, 76, 87, 90)
    add = found.add_argument_group("data").add_argument
    had100 = "HAD100 or a folder in its layout (default: data/HAD100Dataset)"
    add("--data", "--data_path", type=Path, help=had100)
    add("--abu", type=Path, help="the ABU scenes (default: data/ABU)")
    columns = "columns of the tables (default: 50,100,200)"
    add("--bands", "--input_channel", type=_numbers(positive), default=bands, help=columns)
    add("--scenes", default="all", help="scenes of --data: all, or names separated by commas (default: all)")
    nodata = (
        "pixels without data, in training patches and test scenes: refuse them, keep their values, or mask them "
        "(default: such patches are left out, such scenes refused)"
    )
    add("--nodata", choices=NODATA_CHOICES, help=nodata)
    add = found.add_argument_group("method").add_argument
    weights = "train both stages, or take the authors' (default: own)"
    add("--weights", choices=("own", "released"), default="own", help=weights)
    released = "where fers weights download put the authors' weights (default: checkpoints)"
    add("--released", type=Path, default=ROOT / "checkpoints", help=released)
    add("--seeds", type=_numbers(natural), default=(0,), help="seeds of training and of random detectors (default: 0)")
    recipes = list_of(("paper", "released"))
    add("--recipes", type=recipes, default=("paper",), help="recipes of both stages (default: paper)")
    add("--epochs", type=positive, help="epochs of every training (default: 60, and 200 for RD4AD and AETNet)")
    add("--batch_size", type=positive, help="patches in a step of every training (default: 16)")
    training = "a further option of every training, such as lr=0.001, as often as needed"
    add("--training", metavar="NAME=VALUE", action="append", default=[], help=training)
    backbone = "frozen layers of trained networks and of the untrained control (default: imagenet)"
    add("--backbone", default="imagenet", help=backbone)
    rows = "only these rows, such as RX,AE,FERS or 'fusion A, equations' (default: all)"
    add("--rows", default="", help=rows)
    many = partial(add, action="append", default=[])
    many(
        "--option",
        metavar="DETECTOR.NAME=VALUE",
        help="an option of a detector, such as Auto-AD.iterations=101, as often as needed",
    )
    own = "a detector of your own, as a row of Table I and Fig. 7, named as for test.py --detect"
    many("--detect", metavar="MODULE:NAME", help=own)
    scores = "score maps of another method, <scene>.npy or .mat, as rows of Table I and Fig. 7"
    many("--scores", metavar="NAME=FOLDER", help=scores)
    shown = "scenes of Fig. 7, counted from 1 (default: 58,76,87,90)"
    add("--positions", type=_numbers(positive), default=positions, help=shown)
    add = found.add_argument_group("run").add_argument
    add(
        "--out",
        type=Path,
        default=ROOT / "results" / "reproduce",
        help="folder of results (default: results/reproduce)",
    )
    add("--device", default="auto", help="device: auto, cpu, cuda, cuda:1, mps (default: auto)")
    plan = "only print each step: whether it is done, and what it takes of time, memory and disk"
    add("--plan", action="store_true", help=plan)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parser().parse_args(arguments)
    return run(lambda: WORK.get(options.name, _paper)(options), how_to_resume="run the same command again")


def _paper(options: argparse.Namespace) -> None:
    """Make one of the paper's tables or figures, or all of them."""
    from experiments.plan import make_missing, plan_lines, read_rates
    from experiments.targets import TARGETS
    from fers.fast.process import prepare_process

    prepare_process()
    request = _request(options)
    request.check()
    names = [options.name]
    if options.name == "all":
        names = [name for name, target in TARGETS.items() if all(getattr(request, need) for need in target.needs)]
        if left_out := sorted(set(TARGETS) - set(names)):
            print(f"left out, as their scenes are missing: {', '.join(left_out)}. Give --data and --abu.")
    with ExitStack() as stack:
        for workspace in request.both:
            stack.enter_context(locked(workspace.folder))
            workspace.claim()
        wanted = {name: TARGETS[name].work(request) for name in names}
        if empty := [name for name, work in wanted.items() if not work.steps]:
            why = f"none of their rows is among --rows {options.rows}" if options.rows else "there is no Spa-FEN here"
            message = f"{', '.join(empty)}: {why}."
            if options.name != "all":
                raise FersError(f"{message} Give rows of this table, or data with training patches.")
            print(f"left out: {message}")
        steps = [step for work in wanted.values() for step in work.steps]
        if options.plan:
            print("\n".join(plan_lines(steps, read_rates(options.device))))
            return
        make_missing(steps, options.device, options.out / "log.txt")
        for path in (path for work in wanted.values() if work.steps for path in work.make()):
            print(f"wrote {path}", flush=True)
            if path.suffix == ".md":
                print(path.read_text(encoding="utf-8"))


def _request(options: argparse.Namespace) -> Request:
    """Make the request from the options."""
    from experiments.rows import Request, row_names
    from experiments.targets import TARGETS
    from experiments.workspace import Workspace

    data, abu = options.data, options.abu
    if options.name != "all" and TARGETS[options.name].needs == ("abu",) and abu is None:
        data, abu = None, data  # these targets have no other data
    places: dict[str, Any] = {}
    for name, folder, scenes in (("HAD100", data, options.scenes), ("ABU", abu, "paper")):
        place = folder or BENCHMARKS[name].default_folder()
        places[name.lower()] = Workspace(name, place, options.out, scenes) if folder or place.is_dir() else None
    scores = [_pair("--scores", text, "NAME=FOLDER") for text in options.scores]
    training = [("--epochs", options.epochs), ("--batch_size", options.batch_size), ("--nodata", options.nodata)]
    training += [
        (f"--{name}", value) for name, value in (_pair("--training", t, "NAME=VALUE") for t in options.training)
    ]
    facts = (
        f"Seeds {', '.join(map(str, options.seeds))}; weights: {options.weights}; frozen layers of what was trained here: "
        f"{options.backbone}; {options.epochs or 'the default number of'} epochs; options of the detectors: "
        f"{', '.join(options.option) or 'the defaults'}{_more(options)}."
    )
    return Request(
        **{key: getattr(options, key) for key in ("weights", "seeds", "backbone", "recipes", "released", "bands")},
        **{"positions": options.positions, "device": options.device},
        **places,
        training=tuple(str(part) for pair in training if pair[1] is not None for part in pair),
        options=_options(options.option),
        nodata=options.nodata,
        names=(*row_names(options.rows), *options.detect) if options.rows else (),
        scores=tuple((name, Path(place)) for name, place in scores),
        own=tuple(options.detect),
        facts=(facts,),
    )


def _more(options: argparse.Namespace) -> str:
    """Write what else was asked for, as a part of the sentence below the tables."""
    training = f"; options of the trainings: {', '.join(options.training)}" if options.training else ""
    return training + (f"; pixels without data: {options.nodata}" if options.nodata else "")


def _options(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        name, value = _pair("--option", text, "DETECTOR.NAME=VALUE")
        detector, dot, option = name.rpartition(".")
        if not dot:
            raise FersError(f"--option {text}: expected DETECTOR.NAME=VALUE, such as Auto-AD.iterations=101.")
        found.setdefault(detector, {})[option] = value
    return found


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise FersError(f"{option} {text}: expected {form}.")
    return name, value


def _numbers(kind: Callable[[str], int]) -> Callable[[str], tuple[int, ...]]:
    """Make the type of an option that takes different numbers, separated by commas."""
    return lambda text: tuple(dict.fromkeys(kind(part.strip()) for part in text.split(",")))


def _abu(options: argparse.Namespace) -> None:
    """Make the README's table."""
    from experiments.render import abu, abu_table

    print(f"wrote {abu_table(_scenes(options), options.device)}")
    print(abu())


def _picture(options: argparse.Namespace) -> None:
    """Draw the README's picture."""
    from experiments.render import draw_picture

    print(f"wrote {draw_picture(_scenes(options))}")


def _scenes(options: argparse.Namespace) -> Path:
    return options.data or options.abu or BENCHMARKS["ABU"].default_folder()


WORK = {"abu": _abu, "picture": _picture}  # not the paper's


if __name__ == "__main__":
    sys.exit(main())
