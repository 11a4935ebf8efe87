"""A scene of any size to its score maps, block by block: the range, then the background, then the scores.

Each pass hands blocks to an executor. What comes back is written to a folder at once, so a run that was stopped goes on
where it was. The results are the same bits for any block height, any number of workers, and after any interruption.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from tqdm import tqdm

from fers.detection.executors import computed
from fers.detection.store import Arrays, Statistics, Store, packed, unpacked
from fers.fast.deploy import DeployedSpaFEN
from fers.scoring.blocks import Block, Plan
from fers.scoring.maps import Job, StripViews, networks, read_block, strip_moments, strip_range, strip_scores
from fers.scoring.moments import Moments, Tree
from fers.scoring.spatial import spatial_state
from fers.util.errors import FersError

Keep = Callable[[slice], np.ndarray]  # rows -> (rows, W) bool: which pixels count for range and statistics


@dataclass
class Timing:
    """Seconds of each pass: as they went by, and of all workers together, in all and for reading."""

    wall: dict[str, float] = field(default_factory=dict)
    work: dict[str, float] = field(default_factory=dict)
    reading: dict[str, float] = field(default_factory=dict)


class Stream:
    """The passes over one scene.

    Args:
        job: What to compute.
        plan: How it is cut.
        pool: Who computes.
        store: Where finished blocks go.
        keep: Which pixels count for range and statistics.
        progress: Show a bar with the time left.
    """

    def __init__(self, job: Job, plan: Plan, pool: Executor, store: Store, keep: Keep, progress: bool = False):
        self.job, self.plan, self.pool, self.store, self.keep, self.progress = job, plan, pool, store, keep, progress
        self.timing = Timing()

    def range(self) -> Job:
        """First pass: the job with the range of the values and the mean spectrum."""
        strips: dict[int, Arrays] = {}
        for block, arrays in self._pass("range", range_block, lambda block: (self.job, self._kept(block))):
            for offset in range(len(block.strips)):
                strips[block.index * self.plan.block_strips + offset] = {k: v[offset] for k, v in arrays.items()}
        parts = [strips[index] for index in sorted(strips)]
        count = sum(int(part["count"]) for part in parts)
        if not count:
            raise FersError(
                f"{self.job.reader.path}: no pixel is left. All lack data or are masked; check mask and no-data."
            )
        total = np.sum([part["sum"] for part in parts], axis=0)
        low, high = min(part["low"].min() for part in parts), max(part["high"].max() for part in parts)
        return self.job.with_range(float(low), float(high), total / count)

    def spatial(self, job: Job, mode: str) -> Job:
        """Before the background, if F_spa is asked for: the job with what F_spa depends on."""
        assert job.network is not None
        rgb = np.empty((3, self.plan.height, self.plan.width), np.float32)
        for block, arrays in self._pass("false RGB", rgb_block, lambda block: (job, self._kept(block))):
            rgb[:, block.start : block.stop] = arrays["rgb"]
        network = networks(job.network).spa
        assert isinstance(network, DeployedSpaFEN)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            whole = torch.from_numpy(rgb).to(network.expand.weight)
            return replace(job, spatial=spatial_state(network, whole, mode))
        finally:
            torch.set_num_threads(threads)

    def moments(self, job: Job, stage: str = "background", keep: Keep | None = None) -> Statistics:
        """Second pass: the backgrounds."""
        lengths = self.plan.segment_lengths
        trees = {view: [Tree(n) for n in lengths] for view in job.background_views}
        calls = lambda block: (job, self._kept(block, keep), lengths)  # noqa: E731
        for _, arrays in self._pass(stage, moments_block, calls):
            for key in [key for key in arrays if key.endswith("/count")]:
                view, segment, level, number, _ = key.split("/")
                node = unpacked(key.removesuffix("/count"), arrays)
                trees[view][int(segment)].add(int(level), int(number), node)
        backgrounds = {view: [tree.total() for tree in segments] for view, segments in trees.items()}
        self._check(backgrounds)
        assert job.fill is not None
        return Statistics(job.low, job.high, job.fill, backgrounds)

    def scores(self, job: Job, statistics: Statistics, stage: str = "scores") -> tuple[np.ndarray, np.ndarray]:
        """Third pass: the maps ``(views, H, W)`` float64, NaN where nothing is scored, and the thinned colours."""
        height, width, step = self.plan.height, self.plan.width, job.thinning
        maps = np.empty((len(job.views), height, width))
        colours = np.empty((len(range(0, height, step)), len(range(0, width, step)), 3), np.float32)
        for block, arrays in self._pass(
            stage, scores_block, lambda block: (job, self._kept(block), *self._neighbours(job, statistics, block))
        ):
            maps[:, block.start : block.stop] = arrays["maps"]
            colours[-(-block.start // step) : -(-block.stop // step)] = arrays["colours"]
        return maps, colours

    def _pass(
        self, stage: str, function: Callable, arguments: Callable[[Block], tuple]
    ) -> Iterator[tuple[Block, Arrays]]:
        """The results of all blocks: those in the store first, then the others as they are computed and saved."""
        blocks, began = self.plan.blocks, time.perf_counter()
        bar = tqdm(total=self.plan.height, desc=stage, unit=" rows", disable=not self.progress)
        missing = []
        with bar:
            for block in blocks:
                arrays = self.store.load(stage, block)
                if arrays is None:
                    missing.append(block)
                    continue
                bar.update(block.stop - block.start)
                yield block, arrays
            calls = ((block, arguments(block)) for block in missing)
            for block, (arrays, work, reading) in computed(self.pool, function, calls, self.plan.workers + 1):
                self.store.save(stage, block, arrays)
                for seconds, spent in ((self.timing.work, work), (self.timing.reading, reading)):
                    seconds[stage] = seconds.get(stage, 0.0) + spent
                bar.update(block.stop - block.start)
                yield block, arrays
        self.timing.wall[stage] = time.perf_counter() - began

    def _kept(self, block: Block, keep: Keep | None = None) -> np.ndarray:
        return (keep or self.keep)(block.outer_rows(self.plan.height, self.job.halo))

    def _neighbours(
        self, job: Job, statistics: Statistics, block: Block
    ) -> tuple[dict[str, list[Moments]], np.ndarray]:
        """The backgrounds between which the scores of a block are blended, and the rows of their centres."""
        segments = len(self.plan.segment_lengths)
        first = max(block.strips[0].segment - 1, 0)
        last = min(block.strips[-1].segment + 2, segments)
        chosen = {view: statistics.backgrounds[view][first:last] for view in job.background_views}
        return chosen, self.plan.segment_centres[first:last]

    def _check(self, backgrounds: dict[str, list[Moments]]) -> None:
        """Refuse what RX cannot measure a distance in, and say which rows it is."""
        rows = self.plan.segment_strips * self.plan.strip_rows
        for view, segments in backgrounds.items():
            for index, moments in enumerate(segments):
                where = f"{self.job.reader.path}: the background of rows {index * rows} to {min((index + 1) * rows, self.plan.height) - 1}"
                if moments.count < 2:
                    raise FersError(f"{where} has {moments.count} pixels. All others lack data or are masked.")
                if not (moments.covariance.diagonal() > 0).any():
                    raise FersError(f"{where} does not vary in any band. A constant cube has no anomalies.")
                if moments.count - 1 <= (rank := moments.rank()):
                    raise FersError(
                        f"{where} has {moments.count} pixels for {rank} independent bands ({view}), so every pixel would get "
                        "the same score. Use fewer bands, a smaller mask, or longer segments."
                    )


def range_block(block: Block, job: Job, keep: np.ndarray) -> tuple[Arrays, float, float]:
    """The ``strip_range`` of each strip, stacked; with the seconds of work and of reading, as all block functions."""
    began, reading = _start()
    results = [strip_range(strip) for strip in _strips(job, block, keep, reading)]
    return {key: np.stack([r[key] for r in results]) for key in results[0]}, time.perf_counter() - began, reading[0]


def rgb_block(block: Block, job: Job, keep: np.ndarray) -> tuple[Arrays, float, float]:
    """What Spa-FEN's ResNet sees of a block, ``(3, rows, W)``."""
    began, reading = _start()
    parts = [strip.false_rgb for strip in _strips(job, block, keep, reading)]
    return {"rgb": np.concatenate(parts, axis=1)}, time.perf_counter() - began, reading[0]


def moments_block(block: Block, job: Job, keep: np.ndarray, lengths: list[int]) -> tuple[Arrays, float, float]:
    """The moments of a block, added up as far as the tree of each segment allows."""
    trees: dict[tuple[str, int], Tree] = {}
    began, reading = _start()
    for strip in _strips(job, block, keep, reading):
        for view, moments in strip_moments(strip).items():
            segment = strip.strip.segment
            trees.setdefault((view, segment), Tree(lengths[segment])).add(0, strip.strip.number, moments)
    arrays: Arrays = {}
    for (view, segment), tree in trees.items():
        for level, number, node in tree.nodes():
            arrays |= packed(f"{view}/{segment}/{level}/{number}", node)
    return arrays, time.perf_counter() - began, reading[0]


def scores_block(
    block: Block, job: Job, keep: np.ndarray, backgrounds: dict[str, list[Moments]], centres: np.ndarray
) -> tuple[Arrays, float, float]:
    """The maps of a block ``(views, rows, W)``, and its thinned colours."""
    maps, colours = [], []
    began, reading = _start()
    for strip in _strips(job, block, keep, reading):
        scores = strip_scores(strip, backgrounds, centres)
        if not job.score_masked:
            scores[:, ~strip.keep] = np.nan
        maps.append(scores)
        thinned = strip.colours.copy()
        thinned[~strip.valid] = np.nan
        colours.append(thinned[-strip.strip.start % job.thinning :: job.thinning, :: job.thinning])
    arrays = {"maps": np.concatenate(maps, axis=1), "colours": np.concatenate(colours)}
    return arrays, time.perf_counter() - began, reading[0]


def _start() -> tuple[float, list[float]]:
    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)  # several threads share out a sum differently, which changes its last bits
    return time.perf_counter(), [0.0]


def _strips(job: Job, block: Block, keep: np.ndarray, reading: list[float]) -> Iterator[StripViews]:
    """The strips of a block; the seconds of reading are added."""
    began = time.perf_counter()
    values, valid, first_row = read_block(job, block)
    reading[0] += time.perf_counter() - began
    for strip in block.strips:
        yield StripViews(job, values, valid, first_row, keep, strip)


def combine_maps(maps: np.ndarray) -> np.ndarray:
    """One map as it is; of several the product, each scaled to [0, 1] by its own minimum and maximum (eqs. 20-22).

    Args:
        maps: ``(views, H, W)`` float64, NaN where nothing is scored. Changed in place.

    Returns:
        ``(H, W)``.
    """
    if len(maps) == 1:
        return maps[0]
    for score in maps:
        low, high = np.nanmin(score), np.nanmax(score)
        score -= low
        score /= high - low if high > low else 1.0
    for score in maps[1:]:
        maps[0] *= score
    return maps[0]


def robust_keep(keep: Keep, score: np.ndarray, share: float) -> tuple[Keep, int]:
    """Without the pixels of the highest scores.

    Args:
        keep: Which pixels count so far.
        score: ``(H, W)``, NaN where nothing is scored.
        share: Of the scored pixels, to leave out.

    Returns:
        Which pixels count now, and how many were left out.
    """
    limit = np.quantile(score[np.isfinite(score)], 1 - share)

    def fewer(rows: slice) -> np.ndarray:
        return keep(rows) & ~(score[rows] > limit)

    return fewer, int((score > limit).sum())


def without_network(job: Job) -> Job:
    """A job that needs no range: RX on the values as they are. Where there is no data any number will do."""
    return replace(job, fill=np.zeros(job.bands.count))
