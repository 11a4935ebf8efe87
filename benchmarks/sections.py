"""What ``benchmarks.bench`` measures: each section is a list of cases, each case gives rows of its table."""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import spectral
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset

from benchmarks import measure
from benchmarks.measure import Timing, alternate
from benchmarks.subjects import Subjects
from detection.pipeline import PRECISIONS, Pipeline, Settings
from detection.views import FUSION_A_BANDS, fusion_a, fusion_b
from detectors import rx
from evaluation.metrics import auc
from models import SpeFEN
from tests import reference
from train_FERD.network import FERD
from train_FERD.train import Stage1
from train_FERS.network import FRN
from train_FERS.train import Stage2, cache_features
from training.config import TrainConfig
from training.device import make_accelerator
from training.log import LOG_FILE
from training.loop import Patches, Trainer
from training.stage import Stage

SIDE = 64  # px: HAD100's scenes
BANDS = (50, 100, 200)
SCALING_SIDES = (64, 128, 256, 512, 1024)
SCALING_BANDS = (25, 50, 100, 150, 200)
DETECTION_BATCH = 8  # as many as test.py takes together on a CPU
TRAINING_BATCH = 16
_PRODUCT_COPIES = 8  # of the float32 cube: memory that scoring takes, a bound found by trying
_REFERENCE_CHANNELS = 3000  # float32 values that the reference keeps for a pixel, likewise
_MEMORY_SHARE = 0.6  # of what is free
_FULL_TRAINING_STEPS = 60 * (1040 // TRAINING_BATCH)  # SPEC 5 on HAD100's 1,040 patches
_SETTLING_EPOCHS = 3  # the memory given back in the other side's turn must come again: until then steps are slower


@dataclass(frozen=True)
class Options:
    """How much to measure.

    Attributes:
        devices: In turn.
        precisions: Of the product.
        repeats: Rounds of each case.
        budget: Seconds for each case, see ``measure.alternate``.
        bands: Of the stages.
        patch: Side of training patches in px.
        largest: Side of the largest scene.
        compiled: The product's networks of the first section with ``torch.compile``.
    """

    devices: list[torch.device]
    precisions: tuple[str, ...]
    repeats: int
    budget: float
    bands: tuple[int, ...]
    patch: int
    largest: int
    compiled: bool = False


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: What was timed.
        product: The product's time.
        reference: The plain reference's time for the same; None where it was not run.
        device: Where.
        precision: Of the product's networks; the reference is float32, RX always float64.
        extra: Further columns, numbers or text.
    """

    what: str
    product: Timing
    reference: Timing | None = None
    device: str = "cpu"
    precision: str = "fp32"
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times faster the product is: of the medians."""
        return None if self.reference is None else self.reference.median / self.product.median

    def as_json(self) -> dict:
        """Every number."""
        return {
            "what": self.what,
            "device": self.device,
            "precision": self.precision,
            "ratio": self.ratio,
            "product": self.product.as_json(),
            "reference": None if self.reference is None else self.reference.as_json(),
            **self.extra,
        }


@dataclass(frozen=True)
class Case:
    """Some rows that are measured together.

    Attributes:
        name: For the progress bar.
        run: Measures.
    """

    name: str
    run: Callable[[], list[Row]]


class Product:
    """The product's side: a ``Pipeline`` as ``test.py`` makes it, and its networks on their own.

    Args:
        subjects: Scene and networks.
        bands: C.
        device: Where.
        precision: Of the networks.
        fusion: ``A`` or ``B``; None for the default of ``bands``.
        compiled: With ``torch.compile``.
    """

    def __init__(
        self,
        subjects: Subjects,
        bands: int,
        device: torch.device,
        precision: str = "fp32",
        fusion: str | None = None,
        compiled: bool = False,
    ):
        settings = Settings(
            bands=bands,
            sensor="benchmark",
            fusion=fusion,
            checkpoint_dir=subjects.checkpoints(bands),
            device=str(device),
            precision=precision,
            compile=compiled,
        )
        self.pipeline = Pipeline(settings)
        self.score, self.score_batch = self.pipeline.score, self.pipeline.score_batch
        self.spe_fen, self.spa_fen = self.pipeline.spe_fen, self.pipeline.spa_fen

    def tensor(self, h: np.ndarray) -> torch.Tensor:
        """A scene as the pipeline gives it to the networks."""
        cube = torch.from_numpy(h)[None].to(self.pipeline.device).permute(0, 3, 1, 2)
        return cube.to(PRECISIONS[self.pipeline.settings.precision])


# ---- 1. the stages of detection, and end to end


def stages(subjects: Subjects, options: Options) -> Iterator[Case]:
    """Each stage and end to end, one 64 x 64 scene, default fusion: A at 50 bands, B above."""
    for device in options.devices:
        for bands in options.bands:
            for precision in _precisions(options, device, bands):
                name = f"{device.type} {bands} bands {precision}"
                yield Case(name, partial(_stages, subjects, options, device, bands, precision))


def _precisions(options: Options, device: torch.device, bands: int) -> tuple[str, ...]:
    """Without bf16 instructions bf16 is so slow that one number of bands is enough to show it."""
    emulated = device.type == "cpu" and not measure.has_bf16()
    if emulated and "fp32" in options.precisions and bands != max(options.bands):
        return ("fp32",)
    return options.precisions


@torch.no_grad()
def _stages(subjects: Subjects, options: Options, device: torch.device, bands: int, precision: str) -> list[Row]:
    h, mask = subjects.scene(bands, SIDE)
    fusion = "A" if bands <= FUSION_A_BANDS else "B"
    plain_spe, plain_spa = (copy.deepcopy(network).to(device) for network in subjects.networks(bands))
    product = Product(subjects, bands, device, precision, compiled=options.compiled)
    cube, fast_cube = reference.to_tensor(h, device), product.tensor(h)
    f_spe, f_spa = reference.spe_fen(plain_spe, cube), reference.spa_fen(plain_spa, cube)
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "Spe-FEN": (lambda: reference.spe_fen(plain_spe, cube), lambda: product.spe_fen(fast_cube).float()),
        "Spa-FEN": (lambda: reference.spa_fen(plain_spa, cube), lambda: product.spa_fen(fast_cube).float()),
    }
    if precision == "fp32":  # the rest is the same in any precision
        fuse = fusion_a if fusion == "A" else fusion_b
        plain_fuse = reference.FUSIONS[fusion]
        fast_h, fast_spe, fast_spa = fast_cube, product.spe_fen(fast_cube), product.spa_fen(fast_cube)
        summed = fast_h + fast_spa + fast_spe
        same = summed.contiguous()
        scores = rx(summed)
        pairs["RX"] = (lambda: reference.rx(same), lambda: rx(summed))
        pairs[f"fusion {fusion} but RX"] = (
            lambda: plain_fuse(cube, f_spe, f_spa, lambda _: scores),
            lambda: fuse(lambda _: scores, fast_h, fast_spe, fast_spa),
        )
    rows = []
    for what, (plain, fast) in pairs.items():
        timing = alternate({"reference": plain, "product": fast}, options.repeats, options.budget, device)
        difference = _difference(plain(), fast()) if what.startswith("Sp") or what == "RX" else None
        rows.append(_row(what, timing, device, precision, {"bands": bands, "difference": difference}))

    scenes = np.stack([h] * DETECTION_BATCH)
    sides = {
        "reference": lambda: reference.score(plain_spe, plain_spa, h, fusion, device),
        "product": lambda: product.score(h),
    }
    if options.compiled:  # each shape is compiled at its first use, which is not to be timed
        product.score(h), product.score_batch(scenes)
    single = alternate(sides, options.repeats, options.budget, device)
    if precision == "fp32" or device.type == "cuda":
        sides["batch"] = lambda: product.score_batch(scenes)
        single = alternate(sides, options.repeats, options.budget, device)
    expected, found = sides["reference"](), sides["product"]()
    extra = {"bands": bands, "difference": _difference(expected, found)}
    if mask.any() and not mask.all():
        extra |= {"auc_reference": auc(expected, mask), "auc_product": auc(found, mask)}
    rows.append(_row(f"end to end, fusion {fusion}", single, device, precision, extra))
    if "batch" in single:
        batch = Timing(tuple(value / DETECTION_BATCH for value in single["batch"].seconds), single["batch"].warm)
        what = f"end to end, fusion {fusion}, product in batches of {DETECTION_BATCH}"
        rows.append(_row(what, {**single, "product": batch}, device, precision, {"bands": bands}))
    return rows


# ---- 2. RX


def rx_cases(subjects: Subjects, options: Options) -> Iterator[Case]:
    """RX on 64 x 64 x 200 cubes against the per-pixel loop and against SPy."""
    for device in options.devices:
        for kind in ("H", "H + F_spe", "H + F_spe + F_spa"):
            yield Case(f"{device.type} RX {kind}", partial(_rx, subjects, options, device, kind))


@torch.no_grad()
def _rx(subjects: Subjects, options: Options, device: torch.device, kind: str) -> list[Row]:
    bands = max(BANDS)
    h, _ = subjects.scene(bands, SIDE)
    cube = reference.to_tensor(h, torch.device("cpu"))
    if kind != "H":
        plain_spe, plain_spa = subjects.networks(bands)
        f_spe, f_spa = reference.spe_fen(plain_spe, cube), reference.spa_fen(plain_spa, cube)
        cube = cube + f_spe if kind == "H + F_spe" else cube + f_spe + f_spa
    array = np.ascontiguousarray(cube[0].permute(1, 2, 0).numpy())
    # SPy computes in the type it is given, and float32 is not enough
    wide = array.astype(np.float64)
    cube = cube.to(device)
    sides = {
        "per-pixel loop": lambda: reference.rx(cube),
        "spectral.rx": lambda: spectral.rx(wide),
        "product": lambda: rx(cube),
    }
    timing = alternate(sides, options.repeats, options.budget, device)
    score = sides["product"]()[0].cpu().numpy()
    rows = []
    for name in ("per-pixel loop", "spectral.rx"):
        theirs = np.asarray(sides[name]()).reshape(score.shape)
        extra = {"cube": kind, "difference": float(np.max(np.abs(theirs - score) / theirs))}
        rows.append(_row(f"RX against {name}", {**timing, "reference": timing[name]}, device, "fp64", extra))
    return rows


# ---- 3. scaling


def scaling(subjects: Subjects, options: Options) -> Iterator[Case]:
    """End to end, fusion B, float32: with the side of a square scene of 200 bands, and with the bands of 64 x 64."""
    for device in options.devices:
        for side in SCALING_SIDES:
            if side <= options.largest:
                name = f"{device.type} {side} x {side}"
                yield Case(name, partial(_scaling, subjects, options, device, side, max(options.bands)))
        for bands in SCALING_BANDS:
            yield Case(f"{device.type} {bands} bands", partial(_scaling, subjects, options, device, SIDE, bands))


def _scaling(subjects: Subjects, options: Options, device: torch.device, side: int, bands: int) -> list[Row]:
    pixels = side * side
    memory = _MEMORY_SHARE * measure.free_memory(device)
    extra: dict[str, object] = {"side": side, "bands": bands}
    if 4 * pixels * bands * _PRODUCT_COPIES > memory:
        return []
    h, _ = subjects.scene(bands, side)
    product = Product(subjects, bands, device, fusion="B")
    sides: dict[str, Callable[[], object]] = {"product": lambda: product.score(h)}
    first = measure.seconds(sides["product"], device)
    # the reference is given three times the product's time, and 4 times its memory, before it is known
    if 4 * pixels * _REFERENCE_CHANNELS < memory and 2 * 4 * first < options.budget:
        plain = [copy.deepcopy(network).to(device) for network in subjects.networks(bands)]
        sides["reference"] = lambda: reference.score(*plain, h, "B", device)
    timing = alternate(sides, options.repeats, options.budget, device)
    extra["megapixels_per_second"] = pixels / timing["product"].median / 1e6
    what = f"{side} x {side} x {bands}"
    return [_row(what, timing, device, "fp32", extra)]


# ---- 4. share of the machine's peak


def peak(subjects: Subjects, options: Options) -> Iterator[Case]:
    """Rates of a large matrix product in each type, of a copy in memory, and of each stage, all timed in turn."""
    for device in options.devices:
        yield Case(f"{device.type} peak", partial(_peak, subjects, options, device))


@torch.no_grad()
def _peak(subjects: Subjects, options: Options, device: torch.device) -> list[Row]:
    bands = max(options.bands)
    h, _ = subjects.scene(bands, SIDE)
    plain_spe, plain_spa = (copy.deepcopy(network).to(device) for network in subjects.networks(bands))
    product = Product(subjects, bands, device)
    cube, fast_cube = reference.to_tensor(h, device), product.tensor(h)
    both = cube + reference.spe_fen(plain_spe, cube) + reference.spa_fen(plain_spa, cube)
    types = {"fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16}
    work: dict[str, Callable[[], object]] = {}
    amount: dict[str, float] = {}
    for name, dtype in types.items():
        work[name], amount[name] = measure.matrix_product(dtype, device)
    work["copy"], amount["copy"] = measure.copy(device)
    stages_ = {
        "Spe-FEN, plain": ("fp32", lambda: reference.spe_fen(plain_spe, cube)),
        "Spe-FEN, product": ("fp32", lambda: product.spe_fen(fast_cube).float()),
        "Spa-FEN, plain": ("fp32", lambda: reference.spa_fen(plain_spa, cube)),
        "Spa-FEN, product": ("fp32", lambda: product.spa_fen(fast_cube).float()),
        "RX, product": ("fp64", lambda: rx(both)),
    }
    for name, (_, run) in stages_.items():
        work[name], amount[name] = run, measure.flops(run)
    timing = alternate(work, options.repeats, 2 * options.budget, device)
    rows = []
    for name, taken in timing.items():
        rate = amount[name] / taken.median
        extra: dict[str, object] = {"work": amount[name] / 1e9, "rate": rate / 1e9}
        if name in stages_:
            kind = stages_[name][0]
            fastest = amount[kind] / timing[kind].median
            extra |= {"share": rate / fastest, "floor": amount[name] / fastest, "of": kind}
        what = "copy in memory" if name == "copy" else f"matrix product {name}" if name in types else name
        rows.append(Row(what, taken, None, device.type, stages_[name][0] if name in stages_ else name, extra))
    return rows


# ---- 5. training


def training(subjects: Subjects, options: Options) -> Iterator[Case]:
    """A training step at batch 16 on random patches, float32; Stage 2's teacher cached, as ``train.py`` does it."""
    device = options.devices[-1]
    for stage in (2, 1):
        for bands in sorted({min(options.bands), max(options.bands)} if stage == 2 else {max(options.bands)}):
            name = f"{device.type} Stage {stage} {bands} bands"
            yield Case(name, partial(_training, subjects, options, device, stage, bands))


class _Patches(Dataset):
    """Random patches, as many as asked for."""

    def __init__(self, count: int, bands: int, side: int):
        generator = torch.Generator().manual_seed(0)
        self.h = torch.rand(TRAINING_BATCH, bands, side, side, generator=generator) * 0.2 - 0.1
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.h[index % TRAINING_BATCH]


def _training(subjects: Subjects, options: Options, device: torch.device, stage: int, bands: int) -> list[Row]:
    steps = 20 if device.type == "cuda" else 1  # of an epoch: enough that a device's queue shows
    patches = _Patches(TRAINING_BATCH * steps, bands, options.patch)
    networks = _stage1(bands, subjects.frozen_source()) if stage == 1 else _stage2(subjects, bands)
    plain = {name: copy.deepcopy(network).to(device) for name, network in networks.items()}
    optimizer = reference.adam(parameter for network in plain.values() for parameter in network.parameters())
    h = patches.h.to(device)

    def plain_loss() -> torch.Tensor:
        if stage == 1:
            return reference.stage1_loss(plain["network"], h)
        return reference.stage2_loss(plain["teacher"], plain["student"], plain["frn"], h)

    def plain_epoch() -> float:
        def work() -> None:
            for _ in range(steps):
                reference.train_step(plain_loss, optimizer)

        return measure.seconds(work, device)

    # A round is an epoch of the product's own loop, then one of the reference, each after some that do not count
    first = plain_epoch()
    turn = _SETTLING_EPOCHS + 1
    rounds = int(np.clip((options.budget - first) / (2 * turn * first), 1, options.repeats))
    theirs: list[float] = []
    epochs = itertools.count(1)

    def reference_turn() -> float:  # after each epoch of the product's
        if next(epochs) % turn == 0:
            with measure.default_allocation():
                theirs.append([plain_epoch() for _ in range(turn)][-1])
        return 0.0

    extra: dict[str, object] = {"bands": bands, "patch": options.patch}
    folder = subjects.temporary / "training"
    config = TrainConfig(folder, epochs=turn * rounds, batch_size=TRAINING_BATCH)
    accelerator = make_accelerator("fp32", device.type)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        trained, data, teacher = _stage(stage, networks, patches, accelerator, folder)
        Trainer(trained, config, accelerator, score=reference_turn).fit(data)
    if teacher is not None:
        extra["teacher_once"] = teacher / steps
    log = (folder / LOG_FILE).read_text().splitlines()[_SETTLING_EPOCHS::turn]
    ours = [json.loads(line)["seconds"] for line in log]
    shutil.rmtree(folder)
    timing = {
        name: Timing(tuple(value / steps for value in values))
        for name, values in (("reference", theirs), ("product", ours))
    }
    if options.patch == SIDE:
        extra["hours_of_full_training"] = timing["product"].median * _FULL_TRAINING_STEPS / 3600
    return [_row(f"Stage {stage}", timing, device, "fp32", extra)]


def _stage(
    stage: int, networks: dict[str, nn.Module], patches: Patches, accelerator: Accelerator, folder: Path
) -> tuple[Stage, Patches, float | None]:
    """A stage as its ``train.py`` prepares it: the stage, what it trains on, and how long its teacher took, once."""
    if stage == 1:
        return Stage1(networks["network"]), patches, None
    began = time.perf_counter()
    data = cache_features(networks["teacher"], patches, TRAINING_BATCH, accelerator, folder / "f_spe.npy")
    return Stage2(networks["student"], networks["frn"]), data, time.perf_counter() - began


def _stage1(bands: int, source: str) -> dict[str, nn.Module]:
    # layers 2 and 3 have no part in what is dead or alive in layer1; random ones are as fast as ImageNet's
    network = FERD(bands, "random")
    network.spe_fen.load_state_dict(SpeFEN(bands, source).state_dict())
    return {"network": network.train()}


def _stage2(subjects: Subjects, bands: int) -> dict[str, nn.Module]:
    teacher, student = copy.deepcopy(subjects.networks(bands))
    return {"teacher": teacher.requires_grad_(False), "student": student.train(), "frn": FRN(bands).train()}


# ---- what they share


def _row(what: str, timing: dict[str, Timing], device: torch.device, precision: str, extra: dict) -> Row:
    extra = {key: value for key, value in extra.items() if value is not None}
    return Row(what, timing["product"], timing.get("reference"), device.type, precision, extra)


def _difference(expected: object, found: object) -> float:
    """Largest difference, of the largest value."""
    expected, found = (np.asarray(x.cpu().double() if isinstance(x, torch.Tensor) else x) for x in (expected, found))
    return float(np.max(np.abs(expected - found)) / np.max(np.abs(expected)))


SECTIONS: dict[str, Callable[[Subjects, Options], Iterator[Case]]] = {
    "stages": stages,
    "rx": rx_cases,
    "scaling": scaling,
    "peak": peak,
    "training": training,  # last: training keeps the memory it had
}
