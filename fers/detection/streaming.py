"""The passes over a scene of any size, block by block: the range, then the statistics, then the scores.

Each pass hands blocks to an executor. Each result is written to a folder at once, so a run that was stopped goes on
where it stopped. The results are the same bits for any memory, any number of workers, and after any interruption.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from fers.detection.blocks import Block, Plan, Rows
from fers.detection.job import BlockValues, Job
from fers.detection.store import Arrays, BackgroundStatistics, Store, packed, unpacked
from fers.detectors.base import Sum
from fers.scoring.pipeline import AROUND
from fers.scoring.spatial import false_rgb, spatial_state
from fers.util.errors import FersError

HOT_SHARE = 1e-4  # of the pixels, at either end of the range
_HOT_AT_LEAST = 4  # pixels that may be hot at either end of a small scene
_HOT_PIXELS = 2048  # kept at either end: more than that share of 20 megapixels

LeftOut = Callable[[slice], np.ndarray]  # rows -> (rows, W) bool: which pixels do not count in range and statistics


@dataclass
class Timing:
    """Seconds of each pass: by the clock, and of all workers together for all work and for reading."""

    wall: dict[str, float] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    reading: dict[str, float] = field(default_factory=dict)


class Stream:
    """The passes over one scene.

    Args:
        job: Job to compute.
        plan: How the scene is cut.
        pool: Executor that computes the blocks.
        store: Folder of finished blocks.
        left_out: Pixels that the user leaves out of range and statistics.
        progress: Show a bar with the time left.
    """

    def __init__(self, job: Job, plan: Plan, pool: Executor, store: Store, left_out: LeftOut, progress: bool = False):
        self.job, self.plan, self.pool, self.store, self.left_out = job, plan, pool, store, left_out
        self.pipeline = job.pipeline
        self.progress = progress
        self.timing = Timing()

    def range(self) -> tuple[Job, str]:
        """Find the range of the values and the mean spectrum, in a first pass.

        Returns:
            The job with them, and a note where the range leaves out a few pixels: see ``without_hot_pixels``.
        """
        count, total = 0, np.zeros(self.job.bands.count)
        lowest, highest = np.empty(0), np.empty(0)
        for _, arrays in self._pass("range", range_block, lambda block: (self.job, self._out(block, 0))):
            count += int(arrays["count"].sum())
            for part in arrays["total"]:  # strip by strip, so that the cut into blocks changes no bit
                total = total + part
            lowest = np.sort(np.append(lowest, arrays["lowest"]))[:_HOT_PIXELS]
            highest = -np.sort(-np.append(highest, arrays["highest"]))[:_HOT_PIXELS]
        if not count:
            raise FersError(
                f"{self.job.reader.path}: no pixel is left. All lack data or are left out; check --left_out and no-data."
            )
        low, high, note = without_hot_pixels(lowest, highest, count)
        hot = low > lowest[0] or high < highest[0]
        return replace(self.job.with_range(low, high, total / count), hot_pixels=hot), note

    def spatial(self, job: Job, mode: str) -> Job:
        """Compute the state of F_spa, before the statistics; return the job with it."""
        rgb = np.empty((3, self.plan.height, self.plan.width), np.float32)
        for block, arrays in self._pass("false RGB", rgb_block, lambda block: (job, self._out(block, AROUND))):
            rgb[:, block.start : block.stop] = arrays["rgb"]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            whole = torch.from_numpy(rgb).to(job.spa_fen.expand.weight)
            return replace(job, spatial=spatial_state(job.spa_fen, whole, mode))
        finally:
            torch.set_num_threads(threads)

    def statistics(self, job: Job, stage: str = "statistics", left_out: LeftOut | None = None) -> BackgroundStatistics:
        """Sum up the statistics of each segment, in a second pass: those of the rows that the plan chose."""
        kinds = self.pipeline.statistics
        sums: list[list[Sum]] = [[Sum() for _ in kinds] for _ in self.plan.segments]

        def arguments(block: Block) -> tuple:
            return job, self._out(block, AROUND, left_out), self.plan.background_strips(block)

        for block, arrays in self._pass(stage, collect_block, arguments):
            for number, rows in enumerate(self.plan.background_strips(block)):
                for place, kind in enumerate(kinds):
                    sums[rows.segment][place].add(unpacked(f"{number}/{place}", kind, arrays))
        assert job.fill is not None
        parts = [[each.total() for each in segment] for segment in sums]
        return BackgroundStatistics(job.low, job.high, job.fill, parts)

    def fit(self, job: Job, statistics: BackgroundStatistics) -> list[list[Any]]:
        """Fit the detectors to each segment.

        Raises:
            FersError: A segment cannot be scored; its rows are named.
        """
        states = []
        for (first, last), parts in zip(self.plan.segments, statistics.segments, strict=True):
            try:
                states.append(self.pipeline.fit(parts, self.plan.height))
            except ValueError as error:
                raise FersError(f"{job.reader.path}: the background of rows {first} to {last}: {error}") from error
        return states

    def scores(
        self, job: Job, statistics: BackgroundStatistics, stage: str = "scores"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute score map and thinned colours in a third pass; the map is ``(H, W)`` float64, NaN where not scored."""
        height, width, step, pipeline = self.plan.height, self.plan.width, job.thinning, self.pipeline
        maps = np.empty((len(pipeline.cubes), height, width))
        colours = np.empty((len(range(0, height, step)), len(range(0, width, step)), 3), np.float32)
        states, centres = self.fit(job, statistics), self.plan.segment_centres

        def arguments(block: Block) -> tuple:
            near = slice(max(block.strips[0].segment - 1, 0), block.strips[-1].segment + 2)
            return job, self._out(block, self.pipeline.halo), states[near], centres[near]

        for block, arrays in self._pass(stage, scores_block, arguments):
            maps[:, block.start : block.stop] = arrays["maps"]
            colours[-(-block.start // step) : -(-block.stop // step)] = arrays["colours"]
        return pipeline.join([each[None] for each in torch.from_numpy(maps)])[0].numpy(), colours

    def _pass(
        self, stage: str, function: Callable, arguments: Callable[[Block], tuple]
    ) -> Iterator[tuple[Block, Arrays]]:
        """Yield the results of all blocks in their order: from the store, or computed and saved."""
        began = time.perf_counter()
        waiting: deque[tuple[Block, Future | None]] = deque()
        bar = tqdm(total=self.plan.height, desc=stage, unit=" rows", disable=not self.progress)
        with bar:
            try:
                for block in [*self.plan.blocks, None]:
                    if block is not None:
                        stored = self.store.holds(stage, block)
                        waiting.append(
                            (block, None if stored else self.pool.submit(function, block, *arguments(block)))
                        )
                    while waiting and (block is None or len(waiting) > self.plan.workers):
                        done, future = waiting.popleft()
                        arrays = self.store.load(stage, done) if future is None else self._result(stage, done, future)
                        bar.update(done.stop - done.start)
                        yield done, arrays
            finally:
                for _, future in waiting:
                    if future is not None:
                        future.cancel()
        self.timing.wall[stage] = time.perf_counter() - began

    def _result(self, stage: str, block: Block, future: Future) -> Arrays:
        try:
            arrays, work, reading = future.result()
        except (ValueError, ArithmeticError, RuntimeError) as error:
            raise FersError(f"rows {block.start} to {block.stop - 1}: {error}") from error
        self.store.save(stage, block, arrays)
        for seconds, spent in ((self.timing.work, work), (self.timing.reading, reading)):
            seconds[stage] = seconds.get(stage, 0.0) + spent
        return arrays

    def _out(self, block: Block, halo: int, left_out: LeftOut | None = None) -> np.ndarray:
        return (left_out or self.left_out)(block.outer_rows(self.plan.height, halo))


def range_block(block: Block, job: Job, left_out: np.ndarray) -> tuple[Arrays, float, float]:
    """Compute count and sum of each strip, and the minima and maxima of its lowest and highest pixels.

    Like all block functions, it also returns the seconds of all work and of reading.
    """
    began, values, reading = _start(block, job, left_out, 0)
    found = []
    for strip in block.strips:
        raw, has_data, out = values.raw(strip)
        counts = has_data & ~out
        pixels = raw if counts.all() else raw[counts][None]
        some = pixels.size > 0
        low, high = (pixels.min(2).ravel(), pixels.max(2).ravel()) if some else (np.empty(0), np.empty(0))
        found.append(
            {
                "count": np.array(counts.sum()),
                "total": pixels.sum(axis=(0, 1), dtype=np.float64),
                "lowest": _least(low.astype(np.float64)),
                "highest": -_least(-high.astype(np.float64)),
            }
        )
    return {key: np.stack([each[key] for each in found]) for key in found[0]}, time.perf_counter() - began, reading


def _least(values: np.ndarray) -> np.ndarray:
    """Take the least values; infinity stands for those that are missing."""
    least = np.partition(values, _HOT_PIXELS)[:_HOT_PIXELS] if len(values) > _HOT_PIXELS else values
    return np.pad(least, (0, _HOT_PIXELS - len(least)), constant_values=np.inf)


def without_hot_pixels(lowest: np.ndarray, highest: np.ndarray, count: int) -> tuple[float, float, str]:
    """Find the range of a scene, without its most extreme pixels if these take more than nine tenths of it.

    One hot pixel would leave the others almost the same normalised value, in which the network sees nothing.

    Args:
        lowest: Minima over the bands of the pixels with the lowest ones, rising.
        highest: Maxima over the bands of the pixels with the highest ones, falling.
        count: Number of all pixels. One in 10,000 may be left out at either end, or four.

    Returns:
        Lowest and highest value, and a note for the user where the extreme pixels take more than half of the range.
    """
    low, high = float(lowest[0]), float(highest[0])
    hot = min(max(math.ceil(HOT_SHARE * count), _HOT_AT_LEAST), count - 1, _HOT_PIXELS - 1)
    inner = float(lowest[hot]), float(highest[hot])
    share = (inner[1] - inner[0]) / (high - low) if high > low else 1
    if not 0 < share < 1 / 2:
        return low, high, ""
    outside = int((lowest < inner[0]).sum() + (highest > inner[1]).sum())
    note = f"The {outside} most extreme pixels take {1 - share:.1%} of the range, {low:g} to {high:g}."
    if share > 1 / 10:
        return low, high, f"{note} Give --range {inner[0]:g},{inner[1]:g} if they are defects."
    return (
        *inner,
        f"{note} They are scored, but count neither in the range nor in the background. To count them, give --range.",
    )


def rgb_block(block: Block, job: Job, left_out: np.ndarray) -> tuple[Arrays, float, float]:
    """Compute the false colours of a block that Spa-FEN's ResNet sees, ``(3, rows, W)``."""
    began, values, reading = _start(block, job, left_out, AROUND)
    strips = [values.strip(rows) for rows in block.strips]
    parts = [false_rgb(job.spa_fen, strip.h[:, :, strip.inner])[0].cpu().numpy() for strip in strips]
    return {"rgb": np.concatenate(parts, axis=1)}, time.perf_counter() - began, reading


def collect_block(block: Block, job: Job, left_out: np.ndarray, strips: list[Rows]) -> tuple[Arrays, float, float]:
    """Compute the statistics of some rows of the strips of a block. Only these are read, with those around."""
    outer, spent, reading, number = block.outer_rows(job.reader.shape[0], AROUND), 0.0, 0.0, 0
    arrays: Arrays = {}
    for together in _adjoining(strips):
        part = Block.of(block.index, together)
        rows = part.outer_rows(job.reader.shape[0], AROUND)
        out = left_out[rows.start - outer.start : rows.stop - outer.start]
        began, values, read = _start(part, job, out, AROUND)
        for own in together:
            for place, each in enumerate(values.pipeline.collect(values.strip(own))):
                arrays |= packed(f"{number}/{place}", each)
            number += 1
        spent, reading = spent + time.perf_counter() - began, reading + read
    return arrays, spent, reading


def _adjoining(strips: list[Rows]) -> list[list[Rows]]:
    """Group rows that follow each other without a gap."""
    groups: list[list[Rows]] = []
    for rows in strips:
        if groups and groups[-1][-1].stop == rows.start:
            groups[-1].append(rows)
        else:
            groups.append([rows])
    return groups


def scores_block(
    block: Block, job: Job, left_out: np.ndarray, states: list[list[Any]], centres: np.ndarray
) -> tuple[Arrays, float, float]:
    """Compute the maps of a block ``(cubes, rows, W)``, and its thinned colours.

    Args:
        block: The block.
        job: The job.
        left_out: Pixels that the user leaves out, as in ``BlockValues``.
        states: States of the detectors for some neighbouring segments.
        centres: Middle row of each of these. Between two the scores are blended linearly.
    """
    pipeline = job.pipeline
    began, values, reading = _start(block, job, left_out, pipeline.halo)
    maps, colours = [], []
    for rows in block.strips:
        weights = [np.interp(np.arange(rows.start, rows.stop), centres, unit) for unit in np.eye(len(centres))]
        near = [number for number, weight in enumerate(weights) if weight.any()]
        scored = pipeline.scores(values.strip(rows), [states[number] for number in near])
        blended = np.zeros((len(scored), rows.stop - rows.start, job.reader.shape[1]))
        for total, cube in zip(blended, scored, strict=True):
            for number, each in zip(near, cube, strict=True):
                total += weights[number][:, None] * each[0].cpu().numpy()
        if not job.score_left_out:
            blended[:, values.raw(rows)[2]] = np.nan
        maps.append(blended)
        colours.append(values.colours(rows))
    arrays = {"maps": np.concatenate(maps, axis=1), "colours": np.concatenate(colours)}
    return arrays, time.perf_counter() - began, reading


def _start(block: Block, job: Job, left_out: np.ndarray, halo: int) -> tuple[float, BlockValues, float]:
    """Read a block; return the time at the start, its values, and the seconds that reading took."""
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)  # another number of threads would split a sum differently, which changes its last bits
    began = time.perf_counter()
    values = BlockValues(job, block, left_out, halo)
    return began, values, time.perf_counter() - began


def without_highest(left_out: LeftOut, score: np.ndarray, share: float) -> tuple[LeftOut, int]:
    """Leave out the pixels of the highest scores too.

    Args:
        left_out: Pixels that are left out so far.
        score: ``(H, W)``, NaN where nothing is scored.
        share: Share of the scored pixels to leave out.

    Returns:
        The pixels that are left out now, and how many more they are.
    """
    limit = np.quantile(score[np.isfinite(score)], 1 - share)
    return lambda rows: left_out(rows) | (score[rows] > limit), int((score > limit).sum())
