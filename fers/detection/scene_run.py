"""One run over one scene: bands, weights, cut, passes."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from fers.detection.blocks import Plan, PlanError, make_plan, parse_size
from fers.detection.findings import Scored
from fers.detection.inputs import trained_on, used_wavelengths
from fers.detection.job import Job
from fers.detection.known import read_known
from fers.detection.masks import read_left_out
from fers.detection.options import DetectOptions
from fers.detection.products.place import Place
from fers.detection.records import read_spectra
from fers.detection.result import DetectResult
from fers.detection.store import BackgroundStatistics, Store
from fers.detection.streaming import Stream, without_highest
from fers.detectors.base import halo_of
from fers.scenes.bands import choose_bands
from fers.scenes.readers import Reader
from fers.scenes.readers.products import mask_file_of
from fers.scoring.settings import SPATIAL_MODES
from fers.scoring.spatial import WITHOUT_ASKING
from fers.util.errors import FersError
from fers.util.files import fingerprint_of
from fers.util.pictures import rgb_bands

_SHOWN_PIXELS, _SHOWN_SIDE = 1.5e6, 8000  # of the picture in the report
_GPU_WORKERS = 4  # blocks at a time: one is computed while others are read
VERSION = 4  # of a work folder's contents


class SceneRun:
    """One scene, ready to be computed.

    Args:
        reader: The scene.
        options: Options of the detection.
        cluster_workers: Blocks that a cluster computes at a time; None for threads of this process.

    Attributes:
        job: Everything that a block function needs.
        plan: How the scene is cut.
        left_out: Pixels that the user leaves out, ``(H, W)`` bool; None for none.

    Raises:
        FersError: The scene, a file of pixels to leave out or the weights do not fit, or the memory is too small.
    """

    def __init__(self, reader: Reader, options: DetectOptions, cluster_workers: int | None = None):
        self.reader, self.options = reader, options
        self._range_note = ""
        self.files = self._fingerprints()  # before anything is read
        height, width, _ = reader.shape
        centres, count = trained_on(options)
        self.bands = choose_bands(reader, options.bands, count, centres)
        if self.bands.count < 3:
            raise FersError(
                f"{reader.path}: {self.bands.count} band(s) are left. RX on features needs 3 or more; widen --bands."
            )
        self.wavelengths = used_wavelengths(reader, self.bands)
        thinning = max((height * width / _SHOWN_PIXELS) ** 0.5, max(height, width) / _SHOWN_SIDE, 1)
        self.job = Job(
            reader,
            self.bands,
            options.config(self.bands.count),
            score_left_out=options.score_left_out or "statistics" in options.known_from,
            colours=rgb_bands(self.wavelengths, self.bands.count),
            thinning=int(np.ceil(thinning)),
        )
        self.pipeline = self.job.pipeline  # here, so that missing weights are reported before anything is read
        self.spatial_mode = self._spatial_mode(max(height, width)) if "spa_fen" in self.pipeline.setting.needs else None
        self.plan = self._plan(cluster_workers)
        self.place = Place(reader.geometry, (height, width))
        marked = self.left_out_file
        self.left_out = None if marked is None else read_left_out(marked, (height, width), self.place.geometry)
        self.known, self.known_described = None, ""
        if options.known is not None:
            self.known, found = read_known(options.known, self.place, (height, width))
            self.known_described = f"{found}, left out of {' and '.join(options.known_from)}"

    @property
    def name(self) -> str:
        """Name of the scene."""
        return Path(self.reader.path).stem

    @property
    def notes(self) -> list[str]:
        """Notes for the user on the file, its bands and its place, and on the range once it is known."""
        others = [note for note in (self._range_note, self.known_described) if note]
        return [*self.reader.notes, *self.bands.notes, *self.place.notes, *others]

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything the blocks depend on: a run that was stopped goes on only where this agrees."""
        plan = self.plan
        return {
            "version": VERSION,
            "source": str(self.reader.path),
            "files": self.files,
            "options": self.options.identity,
            "bands": self.bands.record(),
            "networks": self.pipeline.provenance,
            "plan": [
                plan.strip_rows,
                plan.segment_strips,
                plan.block_strips,
                plan.background_rows,
                plan.background_every,
            ],
        }

    def check_unchanged(self) -> None:
        """Refuse to go on if a file changed since the run began.

        Raises:
            FersError: One changed, so what was computed mixes both versions.
        """
        now = self._fingerprints()
        for path, before in self.files.items():
            if now.get(path) != before:
                raise FersError(f"{path}: changed while it was read; nothing is written. Run the same command again.")

    def rows_left_out(self, rows: slice) -> np.ndarray:
        """Return the pixels that do not count in range and statistics, ``(rows, W)`` bool."""
        out = np.zeros((rows.stop - rows.start, self.plan.width), bool)
        if self.left_out is not None:
            out |= self.left_out[rows]
        if self._known_do_not_count:
            assert self.known is not None
            out |= self.known[rows] > 0
        return out

    @property
    def _known_do_not_count(self) -> bool:
        return self.known is not None and "statistics" in self.options.known_from

    def stream(self, pool: Executor, work: Path, progress: bool) -> Stream:
        """Make the passes over this scene, with their finished blocks in a folder."""
        return Stream(self.job, self.plan, pool, Store(work, self.identity), self.rows_left_out, progress)

    def clear(self, work: Path) -> None:
        """Remove the folder of finished blocks."""
        Store(work, self.identity).clear()

    def detect(
        self, pool: Executor, work: Path, progress: bool = False, common: BackgroundStatistics | None = None
    ) -> DetectResult:
        """Compute the score map and find the targets.

        Args:
            pool: Executor that computes the blocks.
            work: Folder for finished blocks.
            progress: Show bars with the time left.
            common: Range and background of several scenes, instead of this one's.
        """
        stream, options, robust = self.stream(pool, work, progress), self.options, 0
        statistics = common
        if options.background_file is not None:
            statistics = self._given(options.background_file)
        if statistics is None:
            job = self.ranged(stream)
            statistics = stream.statistics(job)
        else:
            job = self._spatial(stream, self.job.with_range(statistics.low, statistics.high, statistics.fill))
        score, colours = stream.scores(job, statistics)
        if options.robust_share is not None:
            fewer, robust = without_highest(self.rows_left_out, score, options.robust_share)
            statistics = stream.statistics(job, "robust statistics", fewer)
            score, colours = stream.scores(job, statistics, "robust scores")
        self.check_unchanged()
        if self._known_do_not_count and self.left_out is not None and not options.score_left_out:
            score[self.left_out] = np.nan  # known places are scored, so these were too
        score[...] = score.astype(np.float32)  # as the file keeps them: another threshold lists the same numbers

        return self._result(job, score, colours, statistics, robust, stream)

    def ranged(self, stream: Stream) -> Job:
        """Return the job with the range of the values and the state of F_spa."""
        job, note = stream.range()
        if self.options.value_range is not None:
            assert job.fill is not None
            note, job = "", replace(job.with_range(*self.options.value_range, job.fill), hot_pixels=False)
        self._range_note = note
        return self._spatial(stream, job)

    def _spatial(self, stream: Stream, job: Job) -> Job:
        return job if self.spatial_mode is None else stream.spatial(job, self.spatial_mode)

    def _result(
        self,
        job: Job,
        score: np.ndarray,
        colours: np.ndarray,
        statistics: BackgroundStatistics,
        robust: int,
        stream: Stream,
    ) -> DetectResult:
        """Find the targets in the score map; ``robust`` is how many pixels a robust background left out."""
        backgrounds = [statistics.background(segment) for segment in range(len(statistics.segments))]
        rank = None
        if self.options.follows_chi2:
            [state] = self.pipeline.fit(statistics.segments[0], self.plan.height)
            rank = int(state.rank)
        local = self.pipeline.local
        return DetectResult.of(
            Scored(
                self.name,
                self.options,
                self.place,
                score,
                self.pipeline.signed,
                colours,
                job.thinning,
                self._about(stream, statistics)
                | {"counts": self._counts(score, statistics, robust), "rank": rank, "local": local},
                local,
                rank,
                statistics,
                partial(
                    read_spectra,
                    job=job,
                    backgrounds=(backgrounds, self.plan.segment_centres),
                    wavelengths=self.wavelengths,
                ),
                self.known,
                self.left_out,
                lambda: job,
            )
        )

    def _counts(self, score: np.ndarray, statistics: BackgroundStatistics, robust: int) -> dict[str, Any]:
        scored, left_out = int(np.isfinite(score).sum()), 0 if self.left_out is None else int(self.left_out.sum())
        return {
            "pixels": score.size,
            "scored": scored,
            "left_out": left_out,
            "without_data": score.size - scored - (0 if self.options.score_left_out else left_out),
            "left_out_of_robust_background": robust,
            "background": statistics.counts,
        }

    def _about(self, stream: Stream, statistics: BackgroundStatistics) -> dict[str, Any]:
        return {
            **self.identity,
            "options": self.options.record(),
            "method": self.job.config.title,
            "shape": list(self.reader.shape),
            "spatial_mode": self.spatial_mode,
            "sensor": self.reader.sensor,
            "notes": self.notes,
            "known": self.known_described,
            "colours": list(self.job.colours),
            "bands_described": self.bands.describe(),
            "wavelengths_nm": None if self.wavelengths is None else [round(float(w), 3) for w in self.wavelengths],
            "range": [statistics.low, statistics.high],
            "caveats": self.pipeline.caveats,
            "seconds": asdict(stream.timing),
        }

    def _plan(self, cluster_workers: int | None) -> Plan:
        options, reader, pipeline = self.options, self.reader, self.pipeline
        read_bytes = len(self.bands.used) * max(reader.dtype.itemsize, 4)
        most = 1 if cluster_workers is not None else os.cpu_count() or 1
        if pipeline.device.type != "cpu":
            most = min(most, _GPU_WORKERS)
        wanted = [options.workers] if options.workers and cluster_workers is None else list(range(most, 0, -1))
        for workers in wanted:
            try:
                plan = make_plan(
                    (*reader.shape[:2], self.bands.count),
                    read_bytes,
                    parse_size(options.memory),
                    workers,
                    reader.native_chunks[0],
                    options.segment_rows,
                    2 * len(pipeline.cubes) + 2 * (self.spatial_mode is not None),  # the false RGB and layer3's map
                    pipeline.halo,
                    copies=11 if halo_of(pipeline.detector) != 0 else 5,  # windowed detectors compute in float64
                    whole=not pipeline.streams,
                    background_pixels=(options.background_pixels or None) if pipeline.samples else None,
                )
            except PlanError as error:
                if workers == wanted[-1]:
                    raise PlanError(f"{reader.path}: {error}") from error
            else:
                break
        return replace(plan, workers=cluster_workers or plan.workers)

    def _spatial_mode(self, side: int) -> str:
        """Choose how Spa-FEN sees the scene.

        Raises:
            FersError: The scene is larger than those it was made for, and no mode was asked for by name.
        """
        if self.options.spatial is None and side > WITHOUT_ASKING:
            raise FersError(
                f"{self.reader.path}: {side} px on the longer side. On a scene this large the features of the spatial branch fade to a constant. "
                "Ask for it with --spatial scene or window, or use --features spectral."
            )
        return self.options.spatial or SPATIAL_MODES[0]

    def _fingerprints(self) -> dict[str, list[int | str]]:
        """Fingerprint every file that a run reads, by its path. Those of the weights are in ``networks``."""
        others = (self.left_out_file, self.options.background_file, self.options.known)
        paths = [*self.reader.files, *(Path(path) for path in others if path is not None)]
        return {str(path): fingerprint_of(path) for path in paths if path.is_file()}

    @property
    def left_out_file(self) -> str | None:
        """File of the pixels to leave out."""
        if self.options.left_out != "auto":
            return self.options.left_out
        found = mask_file_of(self.reader.path)
        if found is None:
            raise FersError(f"{self.reader.path}: --left_out auto found no EMIT mask file next to it. Name a file.")
        return str(found)

    def _given(self, path: Path) -> BackgroundStatistics:
        """Load a background of another run, and check that it is of the same kind."""
        statistics, about = BackgroundStatistics.load(path, self.pipeline.statistics)
        here = self.options.identity
        for option in ("detect", "options", "features", "fusion", "checkpoint_dir", "backbone", "seed"):
            before = about["options"].get(option)
            if before != (list(map(list, here[option])) if option == "options" else here[option]):
                raise FersError(f"{path}: made with {option} {before}, not {here[option]}. Use the same.")
        if len(statistics.fill) != self.bands.count:
            raise FersError(
                f"{path}: has {len(statistics.fill)} bands; {self.bands.count} are used here. Use the same."
            )
        if len(statistics.segments) > 1:
            raise FersError(
                f"{path}: a background of segments fits only its own scene. Give one of --background scene."
            )
        return statistics
