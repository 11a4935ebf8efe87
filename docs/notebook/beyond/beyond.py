"""Beyond the paper: fusion C on scenes that nobody tuned it for. Every number of docs/beyond.md comes from here.

Frozen record: it ran at commit 0347444, whose tree it needs.

    python reproduce.py beyond --data FOLDER

FOLDER holds scenes as .mat files with their masks: ABU's 13, and any others. The synthetic benchmark is made on the
way. Released weights are used where ``python -m models.download_released`` puts them. One row a setting, scene, bands and seed goes
to four files; rows that are there are not measured again, so an interrupted run goes on.

    beyond_scenes.csv    what each setting reaches
    beyond_choices.csv   fusion C with other ranks, windows and weights, for a choice that leaves the scene out
    beyond_why.csv       where in the spectrum and in space the anomalies stand out
    beyond_cost.csv      CPU time beside fusion B's
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from experiments.runner import RESULTS, machine, read_rows, write_rows
from scipy import ndimage

from experiments import ROOT
from fers.datasets.synthetic.benchmark import make_scene
from fers.detectors import LRXPC, RX, Detector, minmax
from fers.evaluation.metrics import auc
from fers.fast.deploy import deploy
from fers.networks import SpaFEN, SpeFEN, load_checkpoint
from fers.networks.checkpoint import git_revision
from fers.scenes.normalise import normalise
from fers.scenes.scene import Scene, read_mask, read_scene
from fers.scoring.fusion_c import LOCAL_RANK, WINDOWS, Components, fusion_c, global_log_distance, local_log_distance

BANDS = (200, 100, 50)
SEEDS = (0, 1, 2)
SYNTHETIC_SEEDS, SYNTHETIC_SCENES, SYNTHETIC_SIZE = range(5), 12, 64
KEYS = ("setting", "dataset", "bands", "seed", "scene")
COLUMNS = (*KEYS, "auc", "revision", "machine")
WHY = ("dataset", "bands", "scene", "what", "value", "revision", "machine")
COST = ("setting", "bands", "side", "milliseconds", "revision", "machine")
RELEASED = {200: "checkpoints/aviris_200_released", 100: "checkpoints/aviris_ng_100", 50: "checkpoints/aviris_ng_50"}
OWN = {"own weights": "checkpoints/aviris_200", "three land scenes": "checkpoints/three_land_scenes"}
CHOICES = {  # name: local rank, windows, share of the local term, ranks of the global one
    f"{rank} {windows} {weight}": (rank, pairs, weight)
    for rank, (windows, pairs), weight in itertools.product(
        (4, 8, 12, 16, 20),
        {
            "5-15-35": WINDOWS,
            "3-11-27": ((3, 11), (11, 27)),
            "7-19-43": ((7, 19), (19, 43)),
            "9-21": ((9, 21),),
            "11-27": ((11, 27),),
            "15-35": ((15, 35),),
            "3-11, 7-19, 15-35": ((3, 11), (7, 19), (15, 35)),
        }.items(),
        (0.5, 1.0, 2.0),
    )
}

rx, rx_released = RX(), RX(solver="released")
Map = Callable[[], torch.Tensor]


@dataclass
class Table:
    """A CSV that grows: rows that it has are not measured again."""

    path: Path
    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        self.rows = read_rows(self.path)
        self.known = {self._key(row) for row in self.rows}

    def _key(self, row: dict) -> tuple[str, ...]:
        return tuple(
            str(row[c]) for c in self.columns if c not in ("auc", "value", "milliseconds", "revision", "machine")
        )

    def has(self, **row: object) -> bool:
        """Tell whether a row of these keys is there."""
        return self._key(row) in self.known

    def add(self, **row: object) -> None:
        """Append a row, with the revision and the machine."""
        self.rows.append({**row, "revision": git_revision()[:12], "machine": machine()})
        self.known.add(self._key(row))

    def save(self) -> None:
        """Write the whole file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_rows(self.path, self.rows, self.columns)


def scenes(data: Path, datasets: Sequence[str]) -> Iterator[tuple[str, str, Scene, np.ndarray]]:
    """Dataset, name, scene and mask: the real scenes first, then the synthetic ones."""
    for path in sorted(data.glob("*.mat")) if "real" in datasets else ():
        scene = read_scene(path, name=path.stem.removeprefix("abu-"))
        yield "real", scene.name, scene, read_mask(path, shape=scene.cube.shape[:2])
    seeds = SYNTHETIC_SEEDS if "synthetic" in datasets else ()
    for seed, index in itertools.product(seeds, range(SYNTHETIC_SCENES)):
        made = make_scene(seed, index, size=SYNTHETIC_SIZE)
        name = f"{seed}-{index}"
        yield "synthetic", name, Scene(name, made.cube, Path(name)), made.mask


class Networks:
    """The networks of a number of bands, deployed; a scene's features are made once, when they are asked for."""

    def __init__(self, bands: int):
        self.spe: dict[tuple[str, int], torch.nn.Module] = {}
        for seed in SEEDS:
            self.spe["untrained", seed] = deploy(SpeFEN(bands, "random", seed).eval())
        self.spe["spectral only", 0] = deploy(_without_neighbours(SpeFEN(bands, "random", 0)).eval())
        for name, folder in {"released": RELEASED[bands], **(OWN if bands == 200 else {})}.items():
            if (path := ROOT / folder / "spe_fen.safetensors").is_file():
                self.spe[name, 0] = deploy(load_checkpoint(path, bands=bands)[0].eval())
        self.spa = {("untrained", seed): deploy(SpaFEN(bands, "random", seed).eval()) for seed in SEEDS}
        if bands == 200:
            self.spa["trained", 0] = deploy(
                load_checkpoint(ROOT / OWN["own weights"] / "spa_fen.safetensors", bands=200)[0]
            )


def _without_neighbours(network: SpeFEN) -> SpeFEN:
    """Keep only the centre of each 3 x 3 kernel: what is left sees one pixel at a time."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
            centre = module.weight[:, :, 1:2, 1:2].clone()
            module.weight.zero_()
            module.weight[:, :, 1:2, 1:2] = centre * 3  # the sum of nine taps has nine times a tap's variance
    return network


def settings(h: torch.Tensor, networks: Networks) -> Iterator[tuple[str, int, Map]]:
    """Name, seed and map of each setting; maps of the same cube are computed once."""
    kept: dict[str, torch.Tensor] = {}

    def once(name: str, make: Map) -> torch.Tensor:
        if name not in kept:
            kept[name] = make()
        return kept[name]

    def f(kind: str, name: str, seed: int) -> torch.Tensor:
        return once(f"f {kind} {name} {seed}", lambda: getattr(networks, kind)[name, seed](h))

    def spectral(name: str, seed: int) -> torch.Tensor:
        return once(f"spectral {name} {seed}", lambda: rx(h + f("spe", name, seed)))

    def z() -> torch.Tensor:
        return once("z", lambda: Components.of(h[0])(h[0]))

    def local() -> torch.Tensor:
        return once("local", lambda: local_log_distance(z()[:LOCAL_RANK], WINDOWS)[None])

    def joint(name: str, seed: int) -> torch.Tensor:
        return fusion_c(rx, h, f("spe", name, seed))

    def without_ranks(name: str, seed: int) -> torch.Tensor:
        return spectral(name, seed).log() + local()

    def with_lrx_pc(name: str, seed: int) -> torch.Tensor:
        return minmax(LRXPC(11, 27)(h)) * minmax(spectral(name, seed))

    trained = "released" if ("released", 0) in networks.spe else "untrained"

    def partner(name: str, seed: int) -> torch.Tensor:
        return h if name == "none" else h + f("spa", name, seed)

    def fusion_a(detector: Detector, name: str, seed: int) -> torch.Tensor:
        other = once(f"A spectral {id(detector)}", lambda: minmax(detector(h + f("spe", trained, 0))))
        return minmax(detector(partner(name, seed))) * other

    def fusion_b(name: str, seed: int) -> torch.Tensor:
        return rx(partner(name, seed) + f("spe", trained, 0))

    yield "raw RX", 0, lambda: rx(h)
    yield "RX, 20 components", 0, lambda: z()[:20].square().sum(0)[None]
    yield "RX, ranks averaged", 0, lambda: global_log_distance(z())[None]
    yield "local term only", 0, local
    yield "LRX-PC 11, 27", 0, lambda: LRXPC(11, 27)(h)
    yield "C without features", 0, lambda: global_log_distance(z())[None] + local()
    for name, seed in networks.spe:
        yield f"spectral, {name}", seed, partial(spectral, name, seed)
        yield f"C, {name}", seed, partial(joint, name, seed)
        yield f"C, {name}, without raw ranks", seed, partial(without_ranks, name, seed)
        yield f"LRX-PC 11, 27 x spectral, {name}", seed, partial(with_lrx_pc, name, seed)
    yield "C, three untrained", 0, lambda: torch.stack([joint("untrained", seed) for seed in SEEDS]).mean(0)
    for name, seed in [("none", 0), *networks.spa]:
        yield f"A, {trained}, spatial {name}, eq. 17", seed, partial(fusion_a, rx, name, seed)
        yield f"A, {trained}, spatial {name}, float32", seed, partial(fusion_a, rx_released, name, seed)
        if name != "none":
            yield f"B, {trained}, spatial {name}", seed, partial(fusion_b, name, seed)


def why(h: torch.Tensor, mask: np.ndarray) -> Iterator[tuple[str, float]]:
    """AUC of parts of the distance, and of the same against the surroundings; what the anomalies are like."""
    pixels = h[0].flatten(1).double()
    centred = pixels - pixels.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh(centred @ centred.T / (pixels.shape[1] - 1))
    sound = int((values > len(values) * torch.finfo(values.dtype).eps * values[-1]).sum())
    z = (vectors.flip(1)[:, :sound] / values.flip(0)[:sound].sqrt()).T @ centred
    z = z.view(sound, *h.shape[-2:])
    anomalies = torch.from_numpy(mask)
    for name, first, last in (("1-5", 0, 5), ("6-20", 5, 20), ("21-80", 20, 80), ("81 and on", 80, sound)):
        if len(part := z[first:last].square()):
            yield f"AUC of components {name}", float(auc(part.sum(0).numpy(), mask) or np.nan)
            yield f"excess of components {name}", float(part[:, anomalies].mean())
    for inner, outer in WINDOWS:
        yield (
            f"AUC of local, {inner}, {outer}",
            float(auc(local_log_distance(z[:LOCAL_RANK], ((inner, outer),)).numpy(), mask) or np.nan),
        )
    objects, count = ndimage.label(mask, np.ones((3, 3)))
    sizes = ndimage.sum_labels(mask, objects, range(1, count + 1))
    yield "objects", float(count)
    yield "largest object, px", float(np.max(sizes))
    yield "share of anomalies, %", float(100 * mask.mean())


def choices(h: torch.Tensor, networks: Networks) -> Iterator[tuple[str, torch.Tensor]]:
    """Fusion C of the untrained network with other numbers."""
    z = Components.of(h[0])(h[0])
    spectral, raw = rx(h + networks.spe["untrained", 0](h))[0].log(), global_log_distance(z)
    local = {}
    for name, (rank, windows, weight) in CHOICES.items():
        if (rank, windows) not in local:
            local[rank, windows] = local_log_distance(z[:rank], windows)
        yield name, (spectral + raw) / 2 + weight * local[rank, windows]


@torch.no_grad()
def run(
    data: Path,
    out: Path = RESULTS,
    bands_chosen: Sequence[int] = BANDS,
    datasets: Sequence[str] = ("real", "synthetic"),
) -> list[Path]:
    """Measure what is missing.

    Args:
        data: The folder of scenes.
        out: Where the CSVs are.
        bands_chosen: Which numbers of bands.
        datasets: ``real``, ``synthetic``, or both.

    Returns:
        Their paths.
    """
    reached = Table(out / "beyond_scenes.csv", COLUMNS)
    chosen = Table(out / "beyond_choices.csv", COLUMNS)
    reasons = Table(out / "beyond_why.csv", WHY)
    for bands in bands_chosen:
        networks = Networks(bands)
        for dataset, name, scene, mask in scenes(data, datasets):
            h = torch.from_numpy(normalise(scene, bands)).permute(2, 0, 1)[None]
            keys = {"dataset": dataset, "bands": bands, "scene": name}
            for setting, seed, make in settings(h, networks):
                if dataset == "synthetic" and seed:
                    continue  # there the scenes have seeds
                if not reached.has(**keys, setting=setting, seed=seed):
                    reached.add(**keys, setting=setting, seed=seed, auc=f"{auc(make()[0].numpy(), mask):.6f}")
            if bands == 200 and dataset == "real":
                if not chosen.has(**keys, setting=next(iter(CHOICES)), seed=0):
                    for setting, score in choices(h, networks):
                        chosen.add(**keys, setting=setting, seed=0, auc=f"{auc(score.numpy(), mask):.6f}")
                if not reasons.has(**keys, what="objects"):
                    for what, value in why(h, mask):
                        reasons.add(**keys, what=what, value=f"{value:.4f}")
            for table in (reached, chosen, reasons):
                table.save()
            print(bands, dataset, name, flush=True)
    return [reached.path, chosen.path, reasons.path, cost(out)]


@torch.no_grad()
def cost(out: Path = RESULTS) -> Path:
    """CPU time of a scene, the least of several runs: fusion B on both branches, fusion C on the spectral one."""
    table = Table(out / "beyond_cost.csv", COST)
    table.rows = []
    for bands, side in itertools.product(BANDS, (64, 100)):
        h = torch.from_numpy(make_scene(0, size=side).cube[:, :, :bands]).permute(2, 0, 1)[None]
        h = 0.2 * (h - h.min()) / (h.max() - h.min()) - 0.1
        h = h.contiguous(memory_format=torch.channels_last)
        spe, spa = deploy(SpeFEN(bands, "random").eval()), deploy(SpaFEN(bands, "random").eval())
        makes: dict[str, Callable[..., torch.Tensor]] = {
            "spectral branch": lambda h, spe, spa: spe(h),
            "fusion B": lambda h, spe, spa: rx(h + spa(h) + spe(h)),
            "fusion C": lambda h, spe, spa: fusion_c(rx, h, spe(h)),
        }
        for setting, make in makes.items():
            times = []
            for _ in range(12):
                start = time.process_time()
                make(h, spe, spa)
                times.append(time.process_time() - start)
            table.add(setting=setting, bands=bands, side=side, milliseconds=f"{1000 * min(times):.1f}")
    table.save()
    return table.path
