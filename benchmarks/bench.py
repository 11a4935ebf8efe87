"""Measure how fast the product is, against a plain reference in the same run.

    python -m benchmarks.bench                          every case, some minutes
    python -m benchmarks.bench --quick --cases RX       a first look
    python -m benchmarks.bench --spe_fen checkpoints/aviris_200_imagenet/spe_fen.safetensors

The reference (tests/reference.py) is the paper's equations as one would first write them. Both sides take turns, so drift
affects both alike. Medians are compared: the ratio counts, a time belongs to its machine. CPU time is that of the
process; other programs disturb it less. The scene is synthetic, 64 x 64 px.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from torch.utils.benchmark import Timer
from tqdm import tqdm

from experiments import RESULTS, ROOT
from experiments.jobs import machine
from fers.detectors.rx import rx
from fers.fast.deploy import deploy
from fers.fast.process import prepare_process
from fers.fast.training import fold_batch_norms
from fers.networks import SpaFEN, SpeFEN, load_checkpoint
from fers.networks.checkpoint import git_revision
from fers.scoring.config import DetectConfig
from fers.scoring.networks import Networks, choose_device
from fers.scoring.pipeline import Pipeline
from fers.scoring.settings import FUSION_A_BANDS
from fers.util.commandline import list_of, positive, run
from fers.util.files import atomic_path
from tests import reference
from train_FERD.network import FERD
from train_FERD.stage import Stage1
from train_FERS.network import FRN
from train_FERS.stage import Stage2

SCENE_SIDE = 64  # px, of scenes and patches
CASES = ("Spe-FEN", "Spa-FEN", "RX", "end to end", "Stage 1 step", "Stage 2 step", "start-up")
STARTED = ("test.py", "FERS_ABU/test.py", "train.py")
Work = Callable[[], object]


@dataclass(frozen=True)
class Pair:
    """The two sides of a case. Where both return tensors, these are compared."""

    case: str
    bands: int
    batch: int
    reference: Work
    product: Work


def scene(bands: int, device: torch.device) -> torch.Tensor:
    """Make a normalised cube, ``(1, C, 64, 64)``: smooth mixtures of a few spectra and noise."""
    generator = torch.Generator().manual_seed(0)
    spectra = torch.rand(6, bands, generator=generator).cumsum(1)
    abundance = torch.nn.functional.interpolate(
        torch.rand(1, 6, 8, 8, generator=generator), (SCENE_SIDE, SCENE_SIDE), mode="bicubic"
    )
    cube = torch.einsum("nkhw,kc->nchw", abundance, spectra / spectra.amax())
    cube = cube + 0.01 * torch.randn(cube.shape, generator=generator)
    low, high = cube.amin(), cube.amax()
    return (0.1 * (2 * (cube - low) / (high - low) - 1)).to(device)


def detection(bands: int, options: argparse.Namespace, device: torch.device) -> Iterator[Pair]:
    """Yield the cases of detection: both branches, RX, and all of it."""
    spe, spa = SpeFEN(bands, options.backbone), SpaFEN(bands, options.backbone)
    if options.spe_fen is not None:
        spe = load_checkpoint(options.spe_fen, bands)[0]  # type: ignore[assignment]
    spe, spa = spe.eval().to(device), spa.eval().to(device)
    fast_spe, fast_spa = deploy(spe), deploy(spa)
    h = scene(bands, device)
    last = h.to(memory_format=torch.channels_last)
    fused = "A" if bands <= FUSION_A_BANDS else "B"
    cube = h + reference.spa_fen(spa, h) + reference.spe_fen(spe, h)
    array = h[0].permute(1, 2, 0).cpu().numpy()
    config = DetectConfig(bands, features="fused", fusion=fused, device=str(device))
    pipeline = Pipeline(config, Networks(spe=fast_spe, spa=fast_spa))
    yield Pair("Spe-FEN", bands, 1, lambda: reference.spe_fen(spe, h), lambda: fast_spe(last))
    yield Pair("Spa-FEN", bands, 1, lambda: reference.spa_fen(spa, h), lambda: fast_spa(last))
    yield Pair("RX", bands, 1, lambda: reference.rx(cube), lambda: rx(cube))
    plain, whole = partial(reference.score, spe, spa, array, fused, device), partial(pipeline.score, array)
    yield Pair("end to end", bands, 1, lambda: torch.from_numpy(plain()), lambda: torch.from_numpy(whole()))


def training_step(stage: int, bands: int, options: argparse.Namespace, device: torch.device) -> Pair:
    """Make the case of a training step; Stage 2's product has its teacher's features from a cache."""
    h = scene(bands, device).repeat(options.batch, 1, 1, 1)
    h += 0.001 * torch.randn(h.shape, generator=torch.Generator().manual_seed(1)).to(device)
    task: Stage1 | Stage2
    batch: tuple[torch.Tensor, ...]
    if stage == 1:
        network = FERD(bands, options.backbone).train().to(device)
        plain = copy.deepcopy(network)
        for layers in (network.spe_fen.layer1, network.layer2_3):
            fold_batch_norms(layers)
        task, batch, parameters = Stage1(network), (h,), list(plain.parameters())

        loss = partial(reference.stage1_loss, plain, h)
    else:
        teacher = SpeFEN(bands, options.backbone).eval().to(device)
        student, decoder = SpaFEN(bands, options.backbone).train().to(device), FRN(bands).train().to(device)
        pupil, frn = copy.deepcopy(student), copy.deepcopy(decoder)
        fold_batch_norms(student.backbone)
        task, batch = Stage2(student, decoder), (h, teacher(h).detach())
        parameters = [*pupil.parameters(), *frn.parameters()]

        loss = partial(reference.stage2_loss, teacher, pupil, frn, h)

    optimizer = reference.adam(parameters)
    task.train().to(memory_format=torch.channels_last)
    trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
    ours = torch.optim.Adam(trained, 0.005, (0.9, 0.95), fused=device.type in ("cpu", "cuda"))
    batch = tuple(x.contiguous(memory_format=torch.channels_last) for x in batch)

    def step() -> None:
        loss_of_ours, _ = task(*batch)
        ours.zero_grad()
        loss_of_ours.backward()
        ours.step()

    return Pair(f"Stage {stage} step", bands, options.batch, lambda: reference.train_step(loss, optimizer), step)


def start_up(command: str) -> Pair:
    """Make the case of a command's --help, against a Python that only imports torch."""

    def python(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=True)

    return Pair(f"start-up of {command}", 0, 0, lambda: python("-c", "import torch"), lambda: python(command, "--help"))


def pairs(options: argparse.Namespace, device: torch.device) -> Iterator[Pair]:
    """Yield the cases asked for, each made when its turn comes."""
    for bands in options.bands:
        with torch.no_grad():
            yield from (pair for pair in detection(bands, options, device) if pair.case in options.cases)
        for stage in (2, 1):
            if f"Stage {stage} step" in options.cases:
                yield training_step(stage, bands, options, device)
    if "start-up" in options.cases:
        yield from map(start_up, STARTED)


def compare(pair: Pair, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Time both sides in turn, after a round that does not count; returns a line of the results.

    Times are medians; CPU times are of all cores, 0 where another process works. ``difference`` is the largest one of the
    results, as a share of the largest value; empty where none is compared.
    """
    with torch.set_grad_enabled(pair.case.startswith("Stage")):
        expected, found = pair.reference(), pair.product()
        difference = ""
        if isinstance(expected, torch.Tensor) and isinstance(found, torch.Tensor):
            a, b = expected.double().cpu().flatten(), found.double().cpu().flatten()
            difference = f"{float((a - b).abs().max() / a.abs().max()):.0e}"
        sides = {"reference": pair.reference, "product": pair.product}
        wall: dict[str, list[float]] = {name: [] for name in sides}
        cpu: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, work in sides.items():
                timer = Timer("work()", globals={"work": work}, num_threads=options.threads)  # waits for a GPU
                wall[name].append(1000 * timer.timeit(1).median)  # runs it before, too, and does not count that
                before = time.process_time()
                work()
                cpu[name].append(1000 * (time.process_time() - before))
    reference_ms, product_ms = (median(wall[name]) for name in sides)
    used = [0.0 if pair.case.startswith("start-up") else round(median(cpu[name]), 2) for name in sides]
    return {
        **{"case": pair.case, "bands": pair.bands, "batch": pair.batch, "device": device.type},
        **{"threads": options.threads, "reference_ms": round(reference_ms, 2), "product_ms": round(product_ms, 2)},
        **{"ratio": round(reference_ms / product_ms, 2), "reference_cpu_ms": used[0], "product_cpu_ms": used[1]},
        **{"difference": difference, "rounds": options.rounds, "machine": machine()},
        **{"revision": git_revision()[:12], "date": datetime.now(timezone.utc).date().isoformat()},
    }


def bench(options: argparse.Namespace) -> None:
    """Measure, print, and write the results."""
    prepare_process()
    torch.set_num_threads(options.threads)
    device = choose_device(options.device)
    rows = []
    for pair in tqdm(pairs(options, device), unit="case", disable=None):
        row = compare(pair, options, device)
        rows.append(row)
        shown = "{case}, {bands} bands: {reference_ms} / {product_ms} ms = {ratio}"
        print(shown.format(**row), flush=True)
    frame = pd.DataFrame(rows)
    with atomic_path(options.out) as temporary:
        if options.out.suffix == ".json":
            frame.to_json(temporary, orient="records", indent=1)
        else:
            frame.to_csv(temporary, index=False, lineterminator="\n")
    print(f"wrote {options.out}")


def parser() -> argparse.ArgumentParser:
    """Make the parser of the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cases", type=list_of(CASES), default=CASES, help=f"cases to measure, among {', '.join(CASES)}"
    )
    parser.add_argument("--bands", type=lambda text: [positive(part) for part in text.split(",")], default=[50, 200])
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument(
        "--rounds", type=positive, default=9, help="how often each side is timed (default: %(default)s)"
    )
    parser.add_argument("--batch", type=positive, default=4, help="patches in a training step (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="200 bands, 3 rounds")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, auto (default: %(default)s)")
    parser.add_argument("--backbone", default="random", help="frozen layers: imagenet, random[:SEED] or a path")
    parser.add_argument("--spe_fen", type=Path, help="a checkpoint (default: an untrained network)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "performance.csv", help=".csv or .json (default: %(default)s)"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    options = parser().parse_args(arguments)
    if options.quick:
        options.bands, options.rounds = [200], min(options.rounds, 3)
    return run(lambda: bench(options))


if __name__ == "__main__":
    sys.exit(main())
