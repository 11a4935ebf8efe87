"""Detect anomalies in a scene of one's own: from a file or an array to a score map and a list of targets."""

from __future__ import annotations

import os
import platform
import tempfile
from concurrent.futures import Executor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from affine import Affine

from data.bands import choose_bands
from data.errors import FersError
from data.readers import Reader
from data.readers.emit import mask_file_of
from detection.blocks import Plan, PlanError, make_plan, parse_size
from detection.executors import thread_pool
from detection.inputs import open_source, shown_bands, trained_on, used_wavelengths
from detection.maps import METHODS, Job, Network, networks
from detection.masks import read_left_out
from detection.networks import choose_device
from detection.options import DetectOptions
from detection.products.place import Place
from detection.records import make_records, read_surroundings
from detection.result import DetectResult
from detection.spatial import MODES, WITHOUT_ASKING
from detection.store import Statistics, Store
from detection.streaming import Stream, combine_maps, robust_keep, without_network
from detection.targets import find_targets, threshold_for_count
from detection.thresholds import Tail, choose_threshold
from detection.views import VIEWS

_SHOWN_PIXELS, _SHOWN_SIDE = 1.5e6, 8000  # of the picture in the report
VERSION = 1  # of what a work folder holds


def detect(
    source: str | Path | np.ndarray,
    out: str | Path | None = None,
    *,
    wavelengths: np.ndarray | None = None,
    transform: Affine | None = None,
    crs: str | None = None,
    progress: bool = False,
    **options: Any,
) -> DetectResult:
    """Detect anomalies in one scene.

    Args:
        source: A file of any format that ``data.readers.open_scene`` knows, or an array ``(H, W, B)``.
        out: Folder for the products; None writes nothing.
        wavelengths: ``(B,)`` band centres in nm, of an array.
        transform: From column and row to map coordinates, of an array.
        crs: WKT or such as ``EPSG:32632``, of an array.
        progress: Show bars with the time left.
        **options: See ``DetectOptions``.

    Returns:
        The score map and the detections; in a notebook it shows itself.

    Raises:
        FersError: The scene or an option cannot be used.

    Example:
        >>> cube = np.random.RandomState(0).normal(size=(40, 30, 8)).astype(np.float32)
        >>> cube[12, 7] += 9
        >>> result = detect(cube, method="rx", far=1e-3)
        >>> result.detections[0]["row"], result.detections[0]["column"]
        (12, 7)
    """
    reader = (
        source
        if isinstance(source, Reader)
        else open_source(source, wavelengths, transform, crs, options.get("variable"))
    )
    run = SceneRun(reader, DetectOptions(**options))
    with tempfile.TemporaryDirectory() as temporary, thread_pool(run.plan.workers) as pool:
        result = run.detect(pool, Path(temporary if out is None else out) / ".work", progress)
        if out is not None:
            result.write(out)
            run.clear(Path(out) / ".work")
    return result


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
            colours=shown_bands(self.wavelengths, self.bands.count),
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
        return self._result(stream, job, score, colours, statistics, left_out)

    def ranged(self, stream: Stream) -> Job:
        """The job with the range of the values, which only a network needs."""
        if self.network is None:
            return without_network(self.job)
        job = stream.range()
        if self.options.value_range is not None:
            assert job.fill is not None
            job = job.with_range(*self.options.value_range, job.fill)
        return job if self.spatial_mode is None else stream.spatial(job, self.spatial_mode)

    def _result(
        self, stream: Stream, job: Job, score: np.ndarray, colours: np.ndarray, statistics: Statistics, robust: int
    ) -> DetectResult:
        options = self.options
        bounds: dict[str, Any] = {"min_area": options.min_area, "max_area": options.max_area}
        if self.place.known:
            bounds["pixel_area"] = self.place.pixel_area
        tail = Tail.fit(score)
        if options.top is not None:
            threshold = replace(
                choose_threshold(tail, score=threshold_for_count(score, options.top, **bounds)),
                rule=f"top {options.top}",
            )
        else:
            rank = statistics.backgrounds[self.job.views[0]][0].rank() if options.chi2 is not None else None
            rules = {name: getattr(options, name) for name in ("far", "quantile", "score", "chi2")}
            threshold = choose_threshold(tail, **rules, rank=rank)
        targets, labels = find_targets(score, threshold.value, **bounds)
        if options.top is not None:
            labels[~np.isin(labels, [target.label for target in targets[: options.top]])] = 0
            targets = targets[: options.top]
        surroundings = read_surroundings(job, targets, labels)
        originals = statistics.backgrounds["original"]
        centres = self.plan.segment_centres
        source, own = str(self.reader.path), self.bands.count - self.bands.padded
        records = make_records(
            targets, surroundings, tail, self.place, originals, centres, self.wavelengths, own, source
        )
        masked = 0 if self.left_out is None else int(self.left_out.sum())
        scored = len(tail.scores)
        counts = {
            "pixels": score.size,
            "scored": scored,
            "masked": masked,
            "without_data": score.size - scored - (0 if options.score_masked else masked),
            "left_out_of_robust_background": robust,
            "background": [moments.count for moments in originals],
        }
        about = {
            **self.identity,
            "options": asdict(options),
            "shape": list(self.reader.shape),
            "spatial_mode": self.spatial_mode,
            "sensor": self.reader.sensor,
            "notes": list(self.reader.notes),
            "bands_described": self.bands.describe(),
            "wavelengths_nm": None if self.wavelengths is None else [round(float(w), 3) for w in self.wavelengths],
            "range": None if self.network is None else [statistics.low, statistics.high],
            "counts": counts,
            "threshold": asdict(threshold),
            "threshold_described": threshold.sentence,
            "targets": len(targets),
            "caveats": [] if self.network is None else networks(self.network).caveats,
            "seconds": asdict(stream.timing),
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        }
        return DetectResult(
            self.name,
            score,
            threshold,
            targets,
            labels,
            records,
            tail,
            colours,
            job.thinning,
            self.place,
            statistics,
            self.plan,
            about,
        )

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
