"""Cost of each kind of step of ``reproduce.py``, measured on a few patches and one scene of 64 x 64 px.

    python -m experiments.costs          writes experiments/results/costs.csv, from which ``reproduce.py --plan`` reckons

A training is reckoned by the patch that goes through one step; a scoring by the scene. Seconds are CPU seconds of one
thread. Seconds on a GPU of the paper's class are an estimate. Scoring's are the paper's own times. Training's are its
operations at a quarter of an RTX 3090 Ti's 40 TFLOP/s in float32, as no such GPU was at hand.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from baselines.train import BASELINES
from experiments import RESULTS
from experiments.rows import SEEN, TABLE1, TABLE2, UNTRAINED
from experiments.tables import ABU_BANDS
from fers.detectors import find_detector, make_detector
from fers.evaluation.published import published_numbers
from fers.fast.deploy import deploy
from fers.fast.process import prepare_process
from fers.fast.training import fold_batch_norms
from fers.networks import SpaFEN, SpeFEN
from fers.networks.aetnet import AETNet
from fers.networks.checkpoint import git_revision
from fers.networks.rd4ad import READINGS
from fers.scoring.networks import Networks
from fers.scoring.pipeline import DetectConfig, Pipeline
from fers.training.stage import Stage
from fers.util.commandline import list_of, run
from fers.util.files import atomic_path
from fers.util.machine import PeakMemory, processor
from train_FERD.network import FERD
from train_FERD.stage import Stage1
from train_FERS.network import FRN
from train_FERS.stage import Stage2

SIDE = 64  # px, of patches and scenes
BANDS = (50, 100, 200)
TRAININGS = ("stage1", "stage2", *BASELINES)
SUSTAINED = 10.0  # TFLOP/s, a quarter of an RTX 3090 Ti's in float32
FILE = RESULTS / "costs.csv"
_FEW = {
    "AE": ("iterations", 10),
    "Auto-AD": ("iterations", 10),
    "LREN": ("epochs", 1),
}  # what is measured of the slow ones, and twice as much
_RX_ROWS = [{"features": name} for name in ("original", "untrained", "spatial")] + [
    {"features": "fused", "fusion": fusion} for fusion in "AB"
]


@dataclass(frozen=True)
class Cost:
    """A row of the file: one kind of step at one number of bands."""

    kind: str  # a training, or a detector and a setting
    bands: int
    cpu_s: float  # a patch in a step, or a scene, without its iterations
    iterations: int = 0  # of the detector by default
    cpu_s_per_iteration: float = 0.0
    memory_mb: float = 0.0  # peak above what the process has before, for one patch or scene
    memory_mb_per_patch: float = 0.0  # for each patch more in a batch
    kept_mb: float = 0.0  # on the disk in the end
    temporary_mb: float = 0.0  # on the disk meanwhile
    gpu_s: float = float("nan")  # on a GPU of the paper's class
    machine: str = ""
    revision: str = ""
    date: str = ""


def kind_of(config: DetectConfig) -> str:
    """Name the kind of a scoring: the detector and the setting."""
    return f"{config.detect_name}, {config.setting_name}"


def measure(kinds: Sequence[str], bands: Sequence[int]) -> Iterator[Cost]:
    """Measure the trainings among ``kinds``, and all scorings where ``scoring`` is among them."""
    for c in bands:
        yield from (_training(kind, c) for kind in TRAININGS if kind in kinds)
        if "scoring" in kinds:
            rows = [*_RX_ROWS, *(dict(row.config) for row in TABLE1)]
            if c == ABU_BANDS:
                rows += [
                    {**config, **seen}
                    for config, _ in TABLE2.values()
                    for seen in (SEEN["enhanced"][0], UNTRAINED.config)
                ]
            configs = [
                DetectConfig(bands=c, device="cpu", **{k: v for k, v in row.items() if k not in ("select", "options")})
                for row in rows
            ]
            yield from (_scoring(config) for config in {kind_of(config): config for config in configs}.values())


def _stage(kind: str, bands: int) -> Stage:
    if kind == "stage1":
        return Stage1(FERD(bands, "random", 0))
    if kind == "stage2":
        return Stage2(SpaFEN(bands, "random", 0), FRN(bands, 0))
    options = BASELINES[kind][2](input_channel=bands, backbone="random")
    return options.make().stage


def _training(kind: str, bands: int) -> Cost:
    peaks = []
    for batch in (1, 2):
        meter = PeakMemory()
        stage = _stage(kind, bands)
        for layers in stage.fixed_layers():
            if any(isinstance(module, nn.BatchNorm2d) for module in layers.modules()):
                fold_batch_norms(layers)
        stage.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        trained = [parameter for parameter in stage.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, 1e-4, fused=True)
        stage.train()
        shape = (2 if kind == "stage2" else 1, batch, bands, SIDE, SIDE)
        patches = (0.1 * torch.rand(shape)).unbind()
        counter = FlopCounterMode(display=False)
        with counter:
            _step(stage, optimizer, patches)
        tflop = counter.get_total_flops() / 1e12 / batch
        of_a_step = PeakMemory()  # it sets the kernel's mark back
        steady = meter.megabytes() or 0.0  # networks, gradients and moments
        began = time.process_time()
        _step(stage, optimizer, patches)
        seconds = (time.process_time() - began) / batch
        peaks.append(of_a_step.megabytes() or 0.0)
        kept = sum(tensor.numel() for tensor in stage.branch.trained_state().values())
        state = sum(tensor.numel() for tensor in stage.resume_state().values())
        moments = 2 * sum(parameter.numel() for parameter in trained)
        del stage, optimizer, trained  # the next one is to start from nothing
    return Cost(
        *(kind, bands, seconds),
        memory_mb=steady + peaks[0],
        memory_mb_per_patch=max(0.0, peaks[1] - peaks[0]),
        kept_mb=4 * kept / 1e6,
        temporary_mb=4 * (state + moments) / 1e6,
        gpu_s=tflop / SUSTAINED,
    )


def _step(stage: Stage, optimizer: torch.optim.Optimizer, patches: Sequence[torch.Tensor]) -> None:
    total, _ = stage(*(x.contiguous(memory_format=torch.channels_last) for x in patches))
    optimizer.zero_grad()
    total.backward()
    optimizer.step()


def _scoring(config: DetectConfig) -> Cost:
    name = config.detect_name
    needs = config.setting.needs
    network = {"RD4AD": READINGS["B"], "AETNet": AETNet}.get(name)
    with torch.no_grad():
        networks = Networks(
            deploy(SpeFEN(config.bands, "random")) if "spe_fen" in needs else None,
            deploy(SpaFEN(config.bands, "random")) if "spa_fen" in needs else None,
            None if network is None else network(config.bands, "random").eval(),
        )
    h = np.random.default_rng(0).uniform(-0.1, 0.1, (SIDE, SIDE, config.bands)).astype(np.float32)
    option, few = _FEW.get(name, ("", 0))
    spent, peak = [], 0.0
    for times in (1, 2) if few else (1,):
        options = {option: str(few * times)} if few else {}
        pipeline = Pipeline(config, networks, make_detector(config.detect, 0, options, networks.detector))
        pipeline.score(h)  # the first takes longer
        meter = PeakMemory()
        began = time.process_time()
        pipeline.score(h)
        spent.append(time.process_time() - began)
        peak = max(peak, meter.megabytes() or 0.0)
    each = max(0.0, spent[-1] - spent[0]) / few if few else 0.0
    return Cost(
        *(kind_of(config), config.bands, spent[0] - few * each),
        iterations=int(getattr(find_detector(name).load()(), option)) if few else 0,
        cpu_s_per_iteration=each,
        memory_mb=peak,
        kept_mb=8 * SIDE**2 / 1e6,
        gpu_s=_papers_seconds(config),
    )


def _papers_seconds(config: DetectConfig) -> float:
    """The paper's time: the detector's on the cube, and what RX takes longer in this setting."""

    def seconds(source: str, method: str, features: str) -> float:
        found = published_numbers(("seconds",), method, features, config.bands, dataset="HAD100", source=source)
        return found.get("mean", float("nan"))

    more = seconds("Table III", "RX", config.setting_name) - seconds("Table III", "RX", "original")
    return seconds("Table I", config.detect_name, "original") + more


def write(costs: Sequence[Cost], path: Path = FILE) -> Path:
    """Write the file; rows of other kinds that are there already stay."""
    rows = pd.DataFrame([asdict(cost) for cost in costs])
    if path.is_file():
        kept = pd.read_csv(path)
        measured = set(zip(rows.kind, rows.bands, strict=True))
        rows = pd.concat([kept[[pair not in measured for pair in zip(kept.kind, kept.bands, strict=True)]], rows])
    with atomic_path(path) as temporary:
        rows.sort_values(["bands", "kind"]).to_csv(temporary, index=False, float_format="%.4g", lineterminator="\n")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m experiments.costs", description=__doc__, formatter_class=raw)
    every = (*TRAININGS, "scoring")
    parser.add_argument("--kinds", type=list_of(every), default=every, help=f"of {', '.join(every)} (default: all)")
    bands = list_of(map(str, BANDS))
    parser.add_argument("--bands", type=bands, default=tuple(map(str, BANDS)), help="of 50, 100, 200 (default: all)")
    parser.add_argument("--out", type=Path, default=FILE, help="the file (default: experiments/results/costs.csv)")
    given = parser.parse_args(arguments)

    def work() -> None:
        prepare_process()
        torch.set_num_threads(1)
        about = {"machine": processor(), "revision": git_revision()[:12]}
        about["date"] = datetime.now(timezone.utc).date().isoformat()
        found = []
        for cost in tqdm(measure(given.kinds, [int(c) for c in given.bands]), unit="kind", disable=None, leave=False):
            found.append(Cost(**{**asdict(cost), **about}))
            print(f"{cost.kind}, {cost.bands} bands: {cost.cpu_s:.3g} CPU s", flush=True)
            write(found, given.out)
        print(f"wrote {given.out}")

    return run(work, how_to_resume="the kinds that are left, by --kinds")


if __name__ == "__main__":
    sys.exit(main())
