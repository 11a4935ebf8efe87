"""One cell of a comparison, a detector in a setting on a scene with a seed: scored, or as an earlier run kept it.

A kept cell holds the score map and what it took. It counts as long as the scene, the setting, the weights, the detector's
code and the code around it are the same. Measures are computed from the map each time.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from fers.comparison.contenders import Contender
from fers.comparison.maps import ready_map
from fers.comparison.places import FoundScene
from fers.comparison.result import COSTS
from fers.detectors.table import DETECTORS
from fers.evaluation.metrics import MEASURES, as_truth, scene_measures
from fers.scoring.config import DetectConfig
from fers.scoring.settings import parse_setting
from fers.util.errors import FersError
from fers.util.files import sha256_of, write_whole
from fers.util.machine import PeakMemory, other_load
from fers.util.paths import PACKAGE

if TYPE_CHECKING:
    from fers.scoring.pipeline import Pipeline

_CACHE_BYTES = 1 << 30  # of normalised cubes that a process keeps
_SHARED_CODE = (
    "scenes/normalise.py",
    "networks",
    "detectors",
    "fast",
    "scoring",
)  # what scores besides a detector's file


@dataclass(frozen=True)
class Protocol:
    """Options that all cells share.

    Attributes:
        method: Options of ``DetectConfig``.
        bands: C, the bands of each scene that are used; None for all.
        repeat: Timings of each cell, of which the least counts.
        jobs: Processes.
        threads: Threads of each; None for the library's choice, or with several jobs a share of the cores.
        skip_slower_than: Seconds; a cell that is estimated to take more is left out. None leaves none out.
        folder: Folder of kept cells; None keeps none.
    """

    method: dict[str, Any] = field(default_factory=dict)
    bands: int | None = None
    repeat: int = 1
    jobs: int = 1
    threads: int | None = None
    skip_slower_than: float | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Cell:
    """A cell that is to be made.

    Attributes:
        number: Its place in the table.
        label: Detector, or detector and setting.
        fingerprint: That of the scene.
        estimate: Seconds that it may take.
        estimated_from: Where the estimate comes from.
    """

    number: int
    contender: Contender
    setting: str
    label: str
    scene: FoundScene
    fingerprint: str
    seed: int
    estimate: float = 0.0
    estimated_from: str = ""


@dataclass(frozen=True)
class Outcome:
    """Result of a cell: its measures and costs, the note, and the score map, None where there is none."""

    values: dict[str, Any]
    note: str
    score: np.ndarray | None = None
    caveats: tuple[str, ...] = ()
    loaded: bool = False
    kept: bool = False


class Scorer:
    """A process's way to make cells. It keeps the pipelines of the latest detector, and the cubes of the latest scenes."""

    def __init__(self, protocol: Protocol):
        self.protocol = protocol
        self.pipelines: dict[int, tuple[Pipeline, dict]] = {}
        self.pipelines_of: tuple = ()
        self.cubes: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
        self.truths: dict[str, tuple[np.ndarray, int, tuple[str, ...]]] = {}

    def outcome(self, cell: Cell) -> Outcome:
        """Make a cell; what refuses or fails has its reason in the note."""
        try:
            return self._ready(cell) if cell.contender.maps is not None else self._scored(cell)
        except ValueError as error:  # refused, by a message that names the remedy
            reason = str(error)
        except Exception as error:  # a detector's mistake ends its cell, not the comparison
            reason = f"{type(error).__name__}: {error}"
        return Outcome(dict.fromkeys([*MEASURES, *COSTS]), " ".join(reason.split()))

    def _ready(self, cell: Cell) -> Outcome:
        truth, _, _ = self._truth(cell)
        assert cell.contender.maps is not None
        score = ready_map(cell.contender.maps, cell.scene, (truth.shape[0], truth.shape[1]))
        left_out = self._normalised(cell)[1] if self.protocol.method.get("nodata") == "mask" else None
        lacking = ~np.isfinite(score) if left_out is None else ~np.isfinite(score) & ~left_out
        if lacking.any():
            raise FersError(f"the map has NaN or infinity at {int(lacking.sum())} pixels that count.")
        return _outcome(score, truth, left_out, ("a ready map",), {}, ())

    def _scored(self, cell: Cell) -> Outcome:
        truth, bands, notes = self._truth(cell)
        pipeline, config = self._pipeline(cell, self.protocol.bands or bands)
        path = self._path(cell, config)
        if path is not None and (kept := _read_cell(path, self.protocol.repeat)) is not None:
            score, left_out, took = kept
            return _outcome(score, truth, left_out, notes, took, tuple(pipeline.caveats), kept=True)
        limit = self.protocol.skip_slower_than
        if limit is not None and cell.estimate > limit:
            raise FersError(
                f"skipped: about {cell.estimate:.2g} s, {cell.estimated_from} (--skip-slower-than {limit:g})."
            )
        h, left_out = self._normalised(cell)
        walls, cpus, peaks, loaded = [], [], [], self.protocol.jobs > 1
        for number in range(self.protocol.repeat):
            memory = PeakMemory() if number == 0 and pipeline.device.type == "cpu" else None
            loaded |= other_load(_threads())
            wall, cpu = time.perf_counter(), time.process_time()
            made = pipeline.score(h, left_out)
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
            if number == 0:
                score = made if left_out is None else np.where(left_out, np.nan, made)
                peaks.append(memory.megabytes() if memory else None)
        took = {"seconds": min(walls), "cpu_seconds": min(cpus), "peak_mb": peaks[0], "loaded": loaded}
        if path is not None:
            buffer = io.BytesIO()
            out = np.zeros(0, bool) if left_out is None else left_out
            np.savez(buffer, score=score, left_out=out, took=json.dumps({**took, "repeat": self.protocol.repeat}))
            write_whole(path, buffer.getvalue())
        return _outcome(score, truth, left_out, notes, took, tuple(pipeline.caveats))

    def _truth(self, cell: Cell) -> tuple[np.ndarray, int, tuple[str, ...]]:
        """Truth of a scene, its number of bands, and its notes."""
        name = cell.scene.labelled.name
        if name not in self.truths:
            scene, truth = cell.scene.labelled.load()
            self.truths[name] = as_truth(truth), scene.bands, scene.notes
        return self.truths[name]

    def _normalised(self, cell: Cell) -> tuple[np.ndarray, np.ndarray | None]:
        """H of a scene, and the pixels left out; None for none."""
        from fers.scoring.pipeline import read_h

        name = cell.scene.labelled.name
        if name not in self.cubes:
            scene, _ = cell.scene.labelled.load()
            method = {"sensor": "unknown", **self.protocol.method}
            h, left_out = read_h(DetectConfig(self.protocol.bands or scene.bands, **method), scene)
            while self.cubes and sum(cube.nbytes for cube, _ in self.cubes.values()) + h.nbytes > _CACHE_BYTES:
                self.cubes.pop(next(iter(self.cubes)))
            self.cubes[name] = h, left_out if left_out is not None and left_out.any() else None
        return self.cubes[name]

    def _pipeline(self, cell: Cell, bands: int) -> tuple[Pipeline, dict]:
        from fers.evaluation.results import full_config
        from fers.scoring.pipeline import Pipeline

        config = detect_config(cell, self.protocol, bands)
        these = cell.contender.name, cell.setting, cell.seed, config.sensor
        if these != self.pipelines_of:
            self.pipelines_of, self.pipelines = these, {}
        if bands not in self.pipelines:
            pipeline = Pipeline(config)
            self.pipelines[bands] = pipeline, full_config(pipeline)
        return self.pipelines[bands]

    def _path(self, cell: Cell, config: dict) -> Path | None:
        """Place of a kept cell; None where none is kept, or the detector's code cannot be told."""
        from fers.evaluation.results import config_hash

        if self.protocol.folder is None or not config["code"]:
            return None
        digits = config_hash({**config, "scene": cell.fingerprint, "shared_code": _shared_code()})
        name = f"{cell.label}_{cell.scene.labelled.name}_{cell.seed}_{digits}.npz"
        return self.protocol.folder / re.sub(r"[^\w.-]", "-", name)


def detect_config(cell: Cell, protocol: Protocol, bands: int) -> DetectConfig:
    """Make the configuration of a cell. An untrained network has random frozen layers unless others are asked for."""
    features, fusion = parse_setting(cell.setting)
    method = {"sensor": cell.scene.sensor.lower().replace("-", "_") or "unknown", **protocol.method}
    if features == "untrained" and method.get("backbone") is None:
        method["backbone"] = "random"
    chosen = {"detect": cell.contender.detect, "options": cell.contender.options, "seed": cell.seed}
    return DetectConfig(bands, features=features, fusion=fusion, **chosen, **method)


def run_cells(protocol: Protocol, cells: Iterator[Cell]) -> Iterator[tuple[Cell, Outcome]]:
    """Make cells, each taken from ``cells`` when its turn comes, and give each with what became of it.

    With several jobs they end in any order. Processes end when the caller stops.
    """
    if protocol.jobs == 1:
        scorer = Scorer(protocol)
        for cell in cells:
            yield cell, scorer.outcome(cell)
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(protocol.jobs, context, _start_worker, (protocol,)) as pool:
        waiting: dict[Any, Cell] = {}
        try:
            while True:
                for cell in islice(cells, protocol.jobs - len(waiting)):
                    waiting[pool.submit(_in_worker, cell)] = cell
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        except BaseException as error:
            for child in set(multiprocessing.active_children()) - before:
                child.terminate()
            if isinstance(error, BrokenProcessPool):
                raise FersError("--jobs: a process ended, perhaps for lack of memory. Give fewer jobs.") from error
            raise


_scorer: Scorer | None = None  # of a process that run_cells has started


def _start_worker(protocol: Protocol) -> None:
    global _scorer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends this one
    from fers.fast.process import prepare_process

    prepare_process()
    import torch

    torch.set_num_threads(protocol.threads or max(1, (os.cpu_count() or 1) // protocol.jobs))
    _scorer = Scorer(protocol)


def _in_worker(cell: Cell) -> Outcome:
    assert _scorer is not None
    return _scorer.outcome(cell)


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _outcome(
    score: np.ndarray,
    truth: np.ndarray,
    left_out: np.ndarray | None,
    notes: tuple[str, ...],
    took: dict[str, Any],
    caveats: tuple[str, ...],
    kept: bool = False,
) -> Outcome:
    if left_out is not None:
        score = np.where(left_out, np.nan, score)
        notes = (*notes, f"{int(left_out.sum())} pixels left out")
    values: dict[str, Any] = scene_measures(score, truth, left_out)
    if values["auc"] is None:
        notes = (*notes, "no AUC: the truth lacks anomalies or background")
    values |= {key: took.get(key) for key in COSTS}
    return Outcome(values, "; ".join(notes), score, caveats, bool(took.get("loaded")), kept)


def _read_cell(path: Path, repeat: int) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]] | None:
    """Cell of an earlier run that was timed as often; None where there is none, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            took = json.loads(str(archive["took"]))
            left_out = archive["left_out"]
            found = archive["score"], left_out if left_out.size else None, took
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return found if took.get("repeat", 0) >= repeat else None


@cache
def _shared_code() -> str:
    """Fingerprint of the code that scores, without the files that hold one detector each."""
    own = {entry.place.partition(":")[0].rpartition(".")[2] for entry in DETECTORS.values()} | {"table"}
    digest = hashlib.sha256()
    for place in _SHARED_CODE:
        path = PACKAGE / place
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            if place != "detectors" or file.stem not in own:
                digest.update(sha256_of(file).encode())
    return digest.hexdigest()
