"""Measure how fast the product is.

    python -m benchmarks.bench                           every part, some 20 minutes
    python -m benchmarks.bench --only networks,start     some parts; the rows of the others stay
    python -m benchmarks.bench --only networks --weights DIR      trained networks too: DIR/<bands>bands, released
    python -m benchmarks.bench --only windows,detect --before DIR      beside another checkout of this project
    python -m benchmarks.bench --only whole --gigabytes 4.3            a line of that size, with all cores

Every time is CPU time of the process, user and system, which other programs disturb less than wall time. A reference and
the product take turns, and the ratio is the median of the ratios of the turns: ratios travel, times belong to a machine.
The reference of networks and training steps is tests/reference.py, the paper's equations as one would first write them.
Scenes are synthetic.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from experiments import RESULTS, ROOT
from experiments.processes import Spent, run_python
from fers.fast.process import prepare_process
from fers.util.commandline import Parser, list_of, positive, run
from fers.util.errors import FersError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

SIDE = 64  # px, of scenes and patches
BANDS = (50, 100, 200)
SLOWEST = 20  # s that a detector may take by its table's row; fers compare measures the others
WINDOWED = ("LRX", "2S-GLRT", "CRD")
LINES = (200, 800)  # rows of 256 px
COMMANDS = (
    "-m fers detect --help",
    "train.py --help",
    "reproduce.py --help",
    "-m benchmarks.bench --help",
    "-c import~fers",
)
SCORE = """import sys, time, numpy as np, fers
cube = np.load(sys.argv[1]); began = time.process_time(); fers.score(cube, detect=sys.argv[2], features="original")
print(time.process_time() - began)"""
Work = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """Work to measure: the product, and what it is compared with."""

    part: str
    case: str
    product: Work
    reference: Work | None = None
    against: str = ""
    network: str = ""
    bands: int = 0
    pixels: int = 0
    batch: int = 1
    rounds: int | None = None
    told: bool = False  # the work returns its CPU seconds, or ``Spent``: they are not those of this process


def scene(bands: int, rows: int = SIDE, columns: int = SIDE) -> np.ndarray:
    """Make a scene ``(H, W, C)``, float32: a synthetic one of 64 x 64 px, repeated, with noise."""
    import numpy as np

    from fers.datasets.synthetic.benchmark import make_scene

    cube = make_scene(0, size=SIDE).cube[:, :, :bands]
    cube = np.tile(cube, (-(-rows // SIDE), -(-columns // SIDE), 1))[:rows, :columns]
    return cube + 0.001 * cube.max() * np.random.default_rng(0).standard_normal(cube.shape, np.float32)


def tensor(bands: int, batch: int = 1) -> torch.Tensor:
    """Make normalised patches, ``(N, C, H, W)``."""
    import torch

    cube = torch.from_numpy(scene(bands)).permute(2, 0, 1)[None]
    h = 0.1 * (2 * (cube - cube.amin()) / (cube.amax() - cube.amin()) - 1)
    return h + 0.001 * torch.randn(batch, *h.shape[1:], generator=torch.Generator().manual_seed(1))


def networks(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the deployed path with untrained networks, and with the released Spe-FEN if its weights are there."""
    from fers.networks import SpeFEN, load_checkpoint
    from fers.networks.import_released import import_released

    for bands in options.bands:
        yield from deployed(bands, "untrained", SpeFEN(bands, "random"))
        if options.weights is not None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "spe_fen.safetensors"
                import_released(options.weights / f"{bands}bands", path)
                yield from deployed(bands, "released", load_checkpoint(path, bands)[0])


def deployed(bands: int, name: str, spe: nn.Module) -> Iterator[Case]:
    """Yield both branches, RX, and all of it by each fusion."""
    import torch

    from fers.detectors.rx import rx
    from fers.fast.deploy import deploy
    from fers.networks import SpaFEN, SpeFEN
    from fers.scoring.config import DetectConfig
    from fers.scoring.networks import Networks
    from fers.scoring.pipeline import Pipeline
    from tests import reference

    assert isinstance(spe, SpeFEN)
    spe, spa, h = spe.eval(), SpaFEN(bands, "random").eval(), tensor(bands)
    array, last = h[0].permute(1, 2, 0).numpy(), h.to(memory_format=torch.channels_last)
    fast_spe, fast_spa = deploy(spe), deploy(spa)
    config: dict[str, Any] = {"A": {"features": "fused"}, "B": {"features": "fused"}, "C": {"features": "untrained"}}
    pipes = {
        fusion: Pipeline(DetectConfig(bands, fusion=fusion, backbone="random", **more), Networks(fast_spe, fast_spa))  # type: ignore[arg-type]
        for fusion, more in config.items()
    }
    about: Any = {"network": name, "bands": bands, "pixels": SIDE**2}

    def plain(fusion: str) -> Work:
        return lambda: reference.score(spe, spa, array, fusion, h.device)

    yield Case("networks", "fusion A", lambda: pipes["A"].score(array), plain("A"), "plain", **about)
    yield Case("networks", "fusion B", lambda: pipes["B"].score(array), plain("B"), "plain", **about)
    yield Case("networks", "fusion C", lambda: pipes["C"].score(array), **about)
    yield Case("networks", "Spe-FEN", lambda: fast_spe(last), lambda: reference.spe_fen(spe, h), "plain", **about)
    if name == "untrained":
        yield Case("networks", "Spa-FEN", lambda: fast_spa(last), lambda: reference.spa_fen(spa, h), "plain", **about)
        yield Case("networks", "RX", lambda: rx(h), lambda: reference.rx(h), "plain", **about)


def training(options: argparse.Namespace) -> Iterator[Case]:
    """Yield a step of each stage."""
    for bands in options.bands:
        yield from steps(bands, options.batch)


def steps(bands: int, batch: int, device: str = "cpu") -> Iterator[Case]:
    """Yield a step of Stage 2, which has F_spe from its cache, and of Stage 1."""
    import torch

    from fers.fast.training import fold_batch_norms, memory_format
    from fers.networks import SpaFEN, SpeFEN
    from fers.training.stage import Stage
    from tests import reference
    from train_FERD.network import FERD
    from train_FERD.stage import Stage1
    from train_FERS.network import FRN
    from train_FERS.stage import Stage2

    def step(task: Stage, *given: torch.Tensor) -> Work:
        for layers in task.fixed_layers():
            fold_batch_norms(layers)
        layout = memory_format(bands, h.device)
        task.train().to(device, memory_format=layout)  # type: ignore[call-overload]
        trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, 0.005, (0.9, 0.95), fused=True)
        cubes = [x.contiguous(memory_format=layout) for x in given]

        def work() -> None:
            loss, _ = task(*cubes)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return work

    def plain(loss: Callable[[], torch.Tensor], *trained: nn.Module) -> Work:
        optimizer = reference.adam([parameter for network in trained for parameter in network.parameters()])
        return lambda: reference.train_step(loss, optimizer)

    h, teacher = tensor(bands, batch).to(device), SpeFEN(bands, "random").eval().to(device)
    about: Any = {"against": "plain", "bands": bands, "pixels": SIDE**2, "batch": batch}
    with torch.no_grad():
        f_spe = teacher(h)
    pupil, frn = SpaFEN(bands, "random").train().to(device), FRN(bands).train().to(device)
    product = step(Stage2(SpaFEN(bands, "random"), FRN(bands)), h, f_spe)
    compared = plain(lambda: reference.stage2_loss(teacher, pupil, frn, h), pupil, frn)
    yield Case("training", "Stage 2 step", product, compared, **about)
    ferd = FERD(bands, "random").train().to(device)
    product, compared = step(Stage1(FERD(bands, "random")), h), plain(lambda: reference.stage1_loss(ferd, h), ferd)
    yield Case("training", "Stage 1 step", product, compared, **about)


def detectors(options: argparse.Namespace) -> Iterator[Case]:
    """Yield every detector that needs no weights and is not too slow, once."""
    import fers
    from fers.detectors import DETECTORS

    cube = scene(200)
    for name, entry in DETECTORS.items():
        if not entry.network and entry.cost <= SLOWEST:
            work = partial(fers.score, cube, detect=name, features="original")
            yield Case("detectors", name, work, bands=200, pixels=SIDE**2, rounds=1)


def windows(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the detectors of a window on 100 x 100 px, beside another checkout's if there is one."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        np.save(path := Path(folder) / "cube.npy", scene(200, 100, 100))
        for name in WINDOWED:

            def score(checkout: Path, name: str = name) -> float:
                return float(started(checkout, "-c", SCORE, str(path), name).printed)

            yield beside(options, "windows", name, score, bands=200, pixels=10_000, rounds=1)


def detect(options: argparse.Namespace) -> Iterator[Case]:
    """Yield detect.py on lines of two sizes, with RX and by the default: two points give a slope and a fixed cost."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        for rows in LINES:
            np.save(path := Path(folder) / f"{rows}.npy", (1000 * scene(220, rows, 256)).astype(np.uint16))
            for name, more in {"RX": ["--features", "original"], "by default": []}.items():

                def whole(checkout: Path, more: list[str] = more, path: Path = path) -> float:
                    out = tempfile.mkdtemp(dir=folder)
                    return cpu_of(checkout, "detect.py", str(path), "--save_dir", out, *more)

                yield beside(options, "detect", f"{name}, a line", whole, bands=220, pixels=rows * 256, rounds=1)


def whole(options: argparse.Namespace) -> Iterator[Case]:
    """Yield detect.py by default on one large line of float32, with all cores: its time, and the memory at its peak."""
    import numpy as np

    columns, bands = 600, 425
    rows = max(SIDE, round(options.gigabytes * 1e9 / (4 * columns * bands)))
    half = scene(bands // 2 + 1, SIDE, columns)
    strip = np.concatenate([half, half[::-1]], axis=2)[:, :, :bands]  # a made-up sensor has no more bands
    with tempfile.TemporaryDirectory(dir=options.out.parent) as folder:
        path = Path(folder) / "line.npy"
        with path.open("wb") as file:  # not mapped into memory, which would count as the child's
            head = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns, bands)}
            np.lib.format.write_array_header_1_0(file, head)
            for top in range(0, rows, SIDE):
                file.write(strip[: rows - top].tobytes())
        command = ("detect.py", path, "--bands", "all", "--save_dir", Path(folder) / "out")
        work = partial(started, ROOT, *command)
        yield Case("whole", "by default", work, bands=bands, pixels=rows * columns, rounds=1, told=True)


def start(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the start of commands."""
    for command in COMMANDS:
        arguments = [part.replace("~", " ") for part in command.split()]
        yield Case("start", " ".join(arguments), partial(cpu_of, ROOT, *arguments), told=True)


def beside(options: argparse.Namespace, part: str, case: str, work: Callable[[Path], float], **about: Any) -> Case:
    """Make a case of work in a checkout, beside the same work in the other checkout if there is one."""
    if options.before is None:
        return Case(part, case, lambda: work(ROOT), told=True, **about)
    asked = ["git", "-C", str(options.before), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(asked, capture_output=True, text=True)
    if found.returncode:
        raise FersError(f"--before {options.before}: is no checkout of this project ({found.stderr.strip()}).")
    return Case(part, case, lambda: work(ROOT), lambda: work(options.before), found.stdout.strip(), told=True, **about)


def started(checkout: Path, *arguments: object) -> Spent:
    """Run Python in a checkout, on one thread."""
    return run_python(arguments, checkout, {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}, shown=False)


def cpu_of(checkout: Path, *arguments: object) -> float:
    """Return the CPU seconds, user and system, of Python in a checkout and of all that it starts."""
    return started(checkout, *arguments).cpu_s


def spend(work: Work, told: bool) -> Spent:
    """Do work; return what it took, which it may tell itself."""
    wall, cpu = time.perf_counter(), time.process_time()
    said = work()
    if isinstance(said, Spent):
        return said
    own = time.process_time() - cpu
    return Spent(time.perf_counter() - wall, float(said) if told else own, 0)  # type: ignore[arg-type]


def measure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Time both sides in turn, after a round that does not count where there are several; return a row."""
    rounds = case.rounds or options.rounds
    sides = [work for work in (case.reference, case.product) if work is not None]
    if rounds > 1:
        for work in sides:
            work()
    turns = [[spend(work, case.told) for work in sides] for _ in range(rounds)]
    row: dict[str, Any] = {
        name: getattr(case, name) for name in ("part", "case", "network", "bands", "pixels", "batch")
    }
    row |= {"threads": 1, "reference": case.against}
    row |= dict.fromkeys(("reference_cpu_s", "cpu_s", "ratio", "wall_s", "peak_mb"), "")
    row["cpu_s"] = f"{median(turn[-1].cpu_s for turn in turns):.4g}"
    if case.reference is not None:
        row["reference_cpu_s"] = f"{median(turn[0].cpu_s for turn in turns):.4g}"
        row["ratio"] = f"{median(turn[0].cpu_s / turn[1].cpu_s for turn in turns):.2f}"
    if case.part == "whole":
        row |= {"wall_s": f"{turns[-1][-1].wall_s:.0f}", "peak_mb": f"{turns[-1][-1].peak_mb:.0f}"}
    return row | {"rounds": rounds}


PARTS = {part.__name__: part for part in (networks, training, detectors, windows, detect, whole, start)}


def bench(options: argparse.Namespace) -> None:
    """Measure, print, and write the results; rows of what was not measured stay."""
    prepare_process()
    import pandas as pd
    import torch

    from experiments.jobs import machine
    from fers.networks.checkpoint import git_revision
    from fers.util.files import atomic_path

    torch.set_num_threads(1)
    about = {
        "machine": machine(),
        "revision": git_revision()[:12],
        "date": datetime.now(timezone.utc).date().isoformat(),
    }
    for part in options.only:
        for case in PARTS[part](options):
            with torch.set_grad_enabled(part in ("training", "detectors")):
                row = measure(case, options) | about
            print(json.dumps(row), flush=True)
            frame = pd.DataFrame([row]).astype(str)
            if options.out.is_file():
                earlier = pd.read_csv(options.out, dtype=str, keep_default_na=False)
                same = ["part", "case", "network", "bands", "pixels", "batch"]
                frame = pd.concat([earlier, frame]).drop_duplicates(same, keep="last")[list(row)].fillna("")
            with atomic_path(options.out) as temporary:
                frame.to_csv(temporary, index=False, lineterminator="\n")
    print(f"wrote {options.out}; make docs renders its tables, and experiments.performance.draw its figure")


def parser() -> argparse.ArgumentParser:
    """Make the parser of the options."""
    parser = Parser(
        prog="python -m benchmarks.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", type=list_of(tuple(PARTS)), default=tuple(PARTS), help=f"parts, among {', '.join(PARTS)}")
    add(
        "--bands",
        type=lambda text: [positive(part) for part in text.split(",")],
        default=BANDS,
        help="default: 50,100,200",
    )
    add("--rounds", type=positive, default=5, help="how often each side is timed (default: %(default)s)")
    add("--batch", type=positive, default=2, help="patches in a training step (default: %(default)s)")
    add("--weights", type=Path, help="folder of released weights, such as saved_models: <bands>bands/ in it")
    add("--gigabytes", type=float, default=0.5, help="size of the whole line (default: %(default)s)")
    add("--before", type=Path, help="another checkout of this project to stand beside")
    add("--out", type=Path, default=RESULTS / "performance.csv", help="default: %(default)s")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parser().parse_args(arguments)
    return run(lambda: bench(options))


if __name__ == "__main__":
    sys.exit(main())
