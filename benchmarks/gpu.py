"""Measure a GPU in under four minutes, and compare its results with those of the CPU.

    python -m benchmarks.gpu              all cases, to gpu.csv
    python -m benchmarks.gpu --dry_run    every line of this on the CPU, with tiny sizes; its figures mean nothing

The networks are untrained on random frozen layers, the scenes synthetic. A case that differs from the CPU by more than
1e-5 of the largest value, or in AUC by more than 1e-4, is named at the end and fails the command.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.benchmark import Timer
from tqdm import tqdm

from benchmarks.bench import steps, tensor
from experiments import RESULTS
from experiments.jobs import machine
from fers.detection.detect import detect
from fers.detectors.rx import rx
from fers.evaluation.metrics import auc
from fers.fast.deploy import deploy
from fers.fast.process import prepare_process
from fers.networks import SpaFEN, SpeFEN
from fers.networks.checkpoint import git_revision
from fers.scoring.config import DetectConfig
from fers.scoring.networks import Networks, choose_device
from fers.scoring.pipeline import Pipeline
from fers.scoring.settings import default_fusion
from fers.util.commandline import run
from fers.util.errors import FersError
from fers.util.files import atomic_path

DIFFERENCE, AUC_DIFFERENCE = 1e-5, 1e-4  # that are allowed, of the largest value and of AUC


@dataclass(frozen=True)
class Sizes:
    """Sizes of the cases.

    Attributes:
        bands: Bands of the deployed path and of the training steps.
        batches: Scenes at a time.
        patches: Patches in a training step.
        line: Rows, columns and bands of the scene of ``fers detect``.
        cut: Rows and columns of it that are compared with the CPU.
        seconds: How long a case is repeated; 0 for once.
    """

    bands: tuple[int, ...] = (50, 200)
    batches: tuple[int, ...] = (1, 64)
    patches: int = 16
    line: tuple[int, int, int] = (4000, 1000, 200)
    cut: tuple[int, int] = (256, 256)
    seconds: float = 4.0


TINY = Sizes((8, 52), (1, 2), 1, (48, 40, 12), (40, 36), 0.0)


@dataclass(frozen=True)
class Case:
    """A piece of work: ``amount`` of ``unit`` each time.

    Attributes:
        compare: Computes the difference from the CPU and the difference that is allowed; None compares nothing.
        repeat: Whether it is repeated, and the first time does not count; else it is run once.
    """

    name: str
    bands: int
    batch: int
    unit: str
    amount: float
    work: Callable[[], object]
    compare: Callable[[], tuple[float, float]] | None = None
    repeat: bool = True


def cases(sizes: Sizes, device: torch.device, folder: Path) -> Iterator[Case]:
    """Yield the cases, each made when its turn comes."""
    for bands in sizes.bands:
        yield from deployed(bands, sizes, device)
        for step in steps(bands, sizes.patches, str(device)):
            yield Case(step.case, bands, sizes.patches, "steps", 1, step.product)
    rows, columns, bands = sizes.line
    cube = line(rows, columns, bands)
    h = torch.from_numpy(cube[: sizes.cut[0], : sizes.cut[1]].astype(np.float32)).permute(2, 0, 1)[None]
    there = h.to(device)
    megapixels = h.shape[2] * h.shape[3] / 1e6
    yield Case("RX in float64", bands, 1, "MP", megapixels, lambda: rx(there), lambda: _apart(rx(there), rx(h)))
    path = folder / "line.npy"
    np.save(path, cube)
    for name, source in (("fers detect, from memory", cube), ("fers detect, from disk", path)):
        work = _detecting(source, device)
        same = _same_auc(cube[: sizes.cut[0], : sizes.cut[1]], device)
        yield Case(name, bands, 1, "MP", rows * columns / 1e6, work, same, repeat=False)


def deployed(bands: int, sizes: Sizes, device: torch.device) -> Iterator[Case]:
    """Yield the deployed path, from normalised cubes to score maps, for each batch."""
    branches = deploy(SpeFEN(bands, "random").eval()), deploy(SpaFEN(bands, "random").eval())
    one = tensor(bands)
    here = [branch(one) for branch in branches]
    spe, spa = (branch.to(device) for branch in branches)
    config = DetectConfig(bands, features="fused", fusion=default_fusion("by bands", bands), device=str(device))
    pipeline = Pipeline(config, Networks(spe=spe, spa=spa))

    def compare() -> tuple[float, float]:
        there = [branch(one.to(device)) for branch in (spe, spa)]
        return max(_apart(a, b) for a, b in zip(there, here, strict=True))

    for batch in sizes.batches:
        h = one[0].permute(1, 2, 0).expand(batch, -1, -1, -1).contiguous().numpy()
        yield Case("deployed path", bands, batch, "scenes", batch, partial(pipeline.score, h), compare)


def line(rows: int, columns: int, bands: int) -> np.ndarray:
    """Make a flight line ``(rows, columns, B)`` uint16: mixtures of a few spectra, noise, and a target in each corner of a grid."""
    rng = np.random.default_rng(0)
    spectra = rng.uniform(300, 4000, (6, bands)).astype(np.float32)
    cube = np.empty((rows, columns, bands), np.uint16)
    for row in cube:
        shares = rng.dirichlet(np.full(6, 0.6), columns).astype(np.float32)
        row[:] = shares @ spectra + rng.normal(60, 15, (columns, bands))
    cube[10::16, 10::16] += 60
    return cube


def _detecting(source: np.ndarray | Path, device: torch.device) -> Callable[[], np.ndarray]:
    return lambda: detect(source, backbone="random", bands="all", device=str(device)).score


def _same_auc(cube: np.ndarray, device: torch.device) -> Callable[[], tuple[float, float]]:
    """Compare AUC on the targets of ``line`` with the CPU's."""
    truth = np.zeros(cube.shape[:2], bool)
    truth[10::16, 10::16] = True

    def compare() -> tuple[float, float]:
        there, here = (auc(_detecting(cube, each)(), truth) for each in (device, torch.device("cpu")))
        assert there is not None and here is not None
        return abs(there - here), AUC_DIFFERENCE

    return compare


def _apart(there: torch.Tensor, here: torch.Tensor) -> tuple[float, float]:
    """Largest difference as a share of the largest value, and the one that is allowed."""
    return float((there.cpu() - here).abs().max() / here.abs().max()), DIFFERENCE


def measure(case: Case, sizes: Sizes) -> dict[str, Any]:
    """Run a case; return a line of the results."""
    with torch.set_grad_enabled(case.name.startswith("Stage")):
        if case.repeat and sizes.seconds:
            timer = Timer("work()", globals={"work": case.work})  # waits for a GPU
            seconds = timer.blocked_autorange(min_run_time=sizes.seconds).median
        else:
            began = time.perf_counter()
            case.work()
            seconds = time.perf_counter() - began
        difference, allowed = (None, None) if case.compare is None else case.compare()
    return {
        **{"case": case.name, "bands": case.bands, "batch": case.batch, "unit": f"{case.unit}/s"},
        **{"rate": float(f"{case.amount / seconds:.4g}"), "difference": difference, "allowed": allowed},
    }


def bench_gpu(options: argparse.Namespace) -> None:
    """Measure, print and write the results.

    Raises:
        FersError: A result differs from the CPU's by more than is allowed.
    """
    prepare_process()
    sizes = TINY if options.dry_run else Sizes()
    device = choose_device("cpu" if options.dry_run else options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in tqdm(cases(sizes, device, Path(folder)), unit="case", disable=None):
            rows.append(row := measure(case, sizes))
            print(
                "{case}, {bands} bands, batch {batch}: {rate} {unit}, {difference} from the CPU".format(**row),
                flush=True,
            )
    about = {"device": name, "machine": machine(), "revision": git_revision()[:12]}
    about["date"] = datetime.now(timezone.utc).date().isoformat()
    frame = pd.DataFrame([row | about for row in rows])
    with atomic_path(options.out) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")
    print(f"wrote {options.out}")
    if len(wrong := frame[frame["difference"] > frame["allowed"]]):
        raise FersError(
            f"{name}: other results than on the CPU: {', '.join(wrong['case'].unique())}. See {options.out}."
        )


def parser() -> argparse.ArgumentParser:
    """Make the parser of the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="gpu", help="gpu, cuda:1, mps, cpu (default: %(default)s)")
    parser.add_argument("--dry_run", action="store_true", help="tiny sizes, on the CPU")
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.csv", help="(default: %(default)s)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parser().parse_args(arguments)
    return run(lambda: bench_gpu(options))


if __name__ == "__main__":
    sys.exit(main())
