"""One scene, ready to be computed: its bands, its plan, its passes."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fers.detection.findings import findings
from fers.detection.inputs import trained_on, used_wavelengths
from fers.detection.masks import read_left_out
from fers.detection.options import DetectOptions
from fers.detection.products.place import Place
from fers.detection.result import DetectResult
from fers.detection.store import Statistics, Store
from fers.detection.streaming import Stream, combine_maps, robust_keep, without_network
from fers.scenes.bands import choose_bands
from fers.scenes.readers import Reader
from fers.scenes.readers.emit import mask_file_of
from fers.scoring.blocks import Plan, PlanError, make_plan, parse_size
from fers.scoring.maps import METHODS, Job, Network, networks
from fers.scoring.networks import choose_device
from fers.scoring.spatial import MODES, WITHOUT_ASKING
from fers.scoring.views import VIEWS
from fers.util.errors import FersError
from fers.util.pictures import rgb_bands

_SHOWN_PIXELS, _SHOWN_SIDE = 1.5e6, 8000  # of the picture in the report
VERSION = 1  # of what a work folder holds


class SceneRun:
    """One scene, ready to be computed.

    Args:
        reader: The scene.
        options: What to do.
        cluster_workers: Blocks that a cluster computes at a time; None for threads of this process.

    Attributes:
        job: What a block function must know.
        plan: How the scene is cut.
        left_out: ``(H, W)`` bool, the mask; None without one.

    Raises:
        FersError: The scene, a mask or the weights do not fit, or the memory is too small.
    """

    def __init__(self, reader: Reader, options: DetectOptions, cluster_workers: int | None = None):
        self.reader, self.options = reader, options
        height, width, _ = reader.shape
        views = METHODS[options.method]
        device = str(choose_device(options.device)) if cluster_workers is None else options.device
        centres, count = trained_on(options)
        self.bands = choose_bands(reader, options.bands, count, centres)
        if self.bands.count < 3:
            raise FersError(
                f"{reader.path}: {self.bands.count} band(s) are left. RX on features needs 3 or more; widen --bands."
            )
        self.network = None
        branches = tuple(dict.fromkeys(branch for view in views for branch in VIEWS[view].needs))
        if branches:
            self.network = Network(
                self.bands.count, branches, options.checkpoint, options.backbone, options.seed, device
            )
            networks(self.network)  # here, so that missing weights are told before anything is read
        self.spatial_mode = self._spatial_mode(max(height, width)) if "spa_fen" in branches else None
        self.wavelengths = used_wavelengths(reader, self.bands)
        thinning = max((height * width / _SHOWN_PIXELS) ** 0.5, max(height, width) / _SHOWN_SIDE, 1)
        self.job = Job(
            reader,
            self.bands,
            views,
            network=self.network,
            score_masked=options.score_masked,
            colours=rgb_bands(self.wavelengths, self.bands.count),
            thinning=int(np.ceil(thinning)),
            device=device,
        )
        self.plan = self._plan(cluster_workers, gpu=device not in ("cpu", "auto"))
        self.left_out = self._mask()
        self.place = Place(reader.geometry, (height, width))

    @property
    def name(self) -> str:
        """Of the scene."""
        return Path(self.reader.path).stem

    @property
    def identity(self) -> dict[str, Any]:
        """What the blocks depend on: a run that was stopped goes on only where it agrees."""
        path = Path(self.reader.path)
        stat = path.stat() if path.exists() else None
        return {
            "version": VERSION,
            "source": str(path),
            "bytes": None if stat is None else [stat.st_size, stat.st_mtime_ns],
            "options": self.options.identity,
            "bands": self.bands.record(),
            "networks": {} if self.network is None else networks(self.network).provenance,
            "plan": [self.plan.strip_rows, self.plan.segment_strips, self.plan.block_strips],
        }

    def keep(self, rows: slice) -> np.ndarray:
        """``(rows, W)`` bool, True for pixels that count."""
        if self.left_out is None:
            return np.ones((rows.stop - rows.start, self.plan.width), bool)
        return ~self.left_out[rows]

    def stream(self, pool: Executor, work: Path, progress: bool) -> Stream:
        """The passes over this scene, with their finished blocks in a folder."""
        return Stream(self.job, self.plan, pool, Store(work, self.identity), self.keep, progress)

    def clear(self, work: Path) -> None:
        """Remove the folder of finished blocks."""
        Store(work, self.identity).clear()

    def detect(
        self, pool: Executor, work: Path, progress: bool = False, common: Statistics | None = None
    ) -> DetectResult:
        """Compute everything.

        Args:
            pool: Who computes.
            work: Folder for finished blocks.
            progress: Show bars with the time left.
            common: Range and background of several scenes, instead of this one's.
        """
        stream, options, left_out = self.stream(pool, work, progress), self.options, 0
        statistics = common
        if options.background_file is not None:
            statistics = self._given(options.background_file)
        if statistics is None:
            job = self.ranged(stream)
            statistics = stream.moments(job)
        else:
            job = self.job.with_range(statistics.low, statistics.high, statistics.fill)
            job = job if self.spatial_mode is None else stream.spatial(job, self.spatial_mode)
        maps, colours = stream.scores(job, statistics)
        score = combine_maps(maps)
        if options.robust_share is not None:
            fewer, left_out = robust_keep(self.keep, score, options.robust_share)
            statistics = stream.moments(job, "robust background", fewer)
            maps, colours = stream.scores(job, statistics, "robust scores")
            score = combine_maps(maps)
        return findings(self, stream, job, score, colours, statistics, left_out)

    def ranged(self, stream: Stream) -> Job:
        """The job with the range of the values, which only a network needs."""
        if self.network is None:
            return without_network(self.job)
        job = stream.range()
        if self.options.value_range is not None:
            assert job.fill is not None
            job = job.with_range(*self.options.value_range, job.fill)
        return job if self.spatial_mode is None else stream.spatial(job, self.spatial_mode)

    def _plan(self, cluster_workers: int | None, gpu: bool) -> Plan:
        options, reader = self.options, self.reader
        read_bytes = len(self.bands.used) * max(reader.dtype.itemsize, 4)
        if cluster_workers is not None or gpu:
            wanted = [1]
        else:
            wanted = [options.workers] if options.workers else list(range(os.cpu_count() or 1, 0, -1))
        for workers in wanted:
            try:
                plan = make_plan(
                    (*reader.shape[:2], self.bands.count),
                    read_bytes,
                    parse_size(options.memory),
                    workers,
                    reader.native_chunks[0],
                    options.segment_rows,
                    len(self.job.views) + 2 * (self.spatial_mode is not None),  # the false RGB and layer3's map
                    self.job.halo,
                    copies=11 if "fused-C" in self.job.views else 5,
                )
            except PlanError as error:
                if workers == wanted[-1]:
                    raise PlanError(f"{reader.path}: {error}") from error
            else:
                break
        return replace(plan, workers=cluster_workers or plan.workers)

    def _spatial_mode(self, side: int) -> str:
        """How Spa-FEN sees the scene.

        Raises:
            FersError: The scene is larger than those it was made for, and no mode was asked for.
        """
        if self.options.checkpoint is None:
            raise FersError(
                f"--method {self.options.method}: the spatial branch needs trained weights. Give --checkpoint."
            )
        if self.options.spatial is None and side > WITHOUT_ASKING:
            raise FersError(
                f"{self.reader.path}: {side} px on the longer side. On so large a scene the spatial branch fades to a constant. "
                "Ask for it with --spatial scene or window, or use --method spectral."
            )
        return self.options.spatial or MODES[0]

    def _mask(self) -> np.ndarray | None:
        path = self.options.mask
        if path == "auto":
            found = mask_file_of(self.reader.path)
            if found is None:
                raise FersError(f"{self.reader.path}: --mask auto found no EMIT mask file beside it. Name a file.")
            path = str(found)
        return None if path is None else read_left_out(path, self.reader.shape[:2])

    def _given(self, path: Path) -> Statistics:
        """A background of another run, if it is of the same kind."""
        statistics, about = Statistics.load(path)
        here = self.options.identity
        for option in ("method", "checkpoint", "backbone", "seed"):
            if about["options"][option] != here[option]:
                raise FersError(
                    f"{path}: made with {option} {about['options'][option]}, not {here[option]}. Use the same."
                )
        if len(statistics.fill) != self.bands.count:
            raise FersError(f"{path}: of {len(statistics.fill)} bands; {self.bands.count} are used here. Use the same.")
        if len(statistics.backgrounds["original"]) > 1:
            raise FersError(
                f"{path}: a background of segments fits only its own scene. Give one of --background scene."
            )
        return statistics
