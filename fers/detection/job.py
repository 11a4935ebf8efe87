"""Reading the strips of a block, each as a ``fers.scoring.pipeline.Strip``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from fers.detection.blocks import Block, Rows
from fers.detectors.background import BLOCK
from fers.detectors.base import WITHOUT_FLOAT64, Where
from fers.fast.deploy import DeployedSpaFEN
from fers.scenes.bands import BandChoice
from fers.scenes.normalise import SCALE, fill_no_data, scaled
from fers.scoring.config import DetectConfig
from fers.scoring.networks import sent
from fers.scoring.pipeline import REACH, Pipeline, Strip, cached_pipeline
from fers.scoring.spatial import SpatialState
from fers.util.errors import FersError


@dataclass(frozen=True, eq=False)
class Job:
    """Everything that a block function needs. It can be pickled and sent to another machine.

    Attributes:
        reader: The scene.
        bands: Bands to read, and how they become the C that are used.
        config: Configuration of the pipeline.
        spatial: State of F_spa, once it is known.
        low, high: Range of the values that count.
        hot_pixels: Whether some pixels lie outside this range: they are scored, and with those around them count in no
            statistics.
        fill: Their mean spectrum ``(C,)``, which stands for pixels far from any data.
        score_left_out: Whether pixels that the user leaves out of the statistics are scored.
        colours: The three of the C bands that are shown as red, green, blue.
        thinning: Every n-th row and column of these is kept.
    """

    reader: Any
    bands: BandChoice
    config: DetectConfig
    spatial: SpatialState | None = None
    low: float = 0.0
    high: float = 1.0
    hot_pixels: bool = False
    fill: np.ndarray | None = None
    score_left_out: bool = False
    colours: tuple[int, int, int] = (0, 0, 0)
    thinning: int = 1

    @property
    def pipeline(self) -> Pipeline:
        """Networks and detector, made once in each process."""
        return cached_pipeline(self.config)

    @property
    def spa_fen(self) -> DeployedSpaFEN:
        """Spatial branch."""
        spa = self.pipeline.networks.spa
        assert isinstance(spa, DeployedSpaFEN)
        return spa

    def with_range(self, low: float, high: float, fill: np.ndarray) -> Job:
        """Return this job with the range of the values.

        Raises:
            FersError: The range is empty.
        """
        if not high > low:
            raise FersError(
                f"{self.reader.path}: every value of the chosen bands is {low:g}. A constant cube has no anomalies."
            )
        return replace(self, low=low, high=high, fill=fill)

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Read values ``(rows, W, C)``, and where they are valid ``(rows, W)``; others mean nothing."""
        values, has_data = self.reader.read_valid(rows, list(self.bands.used))
        values = self.bands.apply(values, has_data)
        if self.bands.padded:
            values = np.pad(values, ((0, 0), (0, 0), (0, self.bands.padded)))
        return values, has_data


class BlockValues:
    """Values of a block and its halo, read once.

    Args:
        job: The job.
        block: The block.
        left_out: ``(outer rows, W)`` bool, pixels that the user leaves out of range and statistics.
        halo: Rows of the scene above and below the block that are outer rows too.
    """

    def __init__(self, job: Job, block: Block, left_out: np.ndarray, halo: int):
        self.job, self.left_out, self.halo, self.pipeline = job, left_out, halo, job.pipeline
        self.rows = block.outer_rows(job.reader.shape[0], halo)
        self.values, self.has_data = job.read(self.rows)

    def raw(self, own: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return values as read, where there is data, and the pixels left out, for some rows of the block."""
        here = slice(own.start - self.rows.start, own.stop - self.rows.start)
        return self.values[here], self.has_data[here], self.left_out[here]

    def strip(self, own: Rows) -> Strip:
        """Make a strip of some rows of the block, with as much of the halo as the scene has."""
        job, halo = self.job, self.halo
        outer = Rows(max(own.start - halo, self.rows.start), min(own.stop + halo, self.rows.stop))
        values, has_data, left_out = self.raw(outer)
        device, complete = self.pipeline.device, bool(has_data.all())
        h = normalised_rows(values, job.low, job.high, device)
        no_data = None if complete else sent(~has_data, device)
        if not complete and job.fill is not None:
            fill_no_data(h, has_data, torch.from_numpy(scaled(job.fill, job.low, job.high)).to(h))
        if job.hot_pixels:
            hot = has_data & ((values < job.low) | (values > job.high)).any(2)
            left_out = left_out | ndimage.binary_dilation(hot, np.ones((2 * REACH + 1, 2 * REACH + 1)))
        spatial = job.spatial
        return Strip(
            h.permute(2, 0, 1)[None],
            slice(own.start - outer.start, own.stop - outer.start),
            Where(outer.start, job.reader.shape[0]),
            None if no_data is None else no_data[None],
            sent(left_out, device)[None] if left_out.any() else None,
            None if spatial is None else lambda rows: spatial.features(job.spa_fen, rows),
        )

    def colours(self, own: Rows) -> np.ndarray:
        """Return the colours of some rows, thinned, ``(rows, W, 3)`` float32; NaN where there is no data."""
        values, has_data, _ = self.raw(own)
        shown = values[..., list(self.job.colours)].astype(np.float32)
        shown[~has_data] = np.nan
        return shown[-own.start % self.job.thinning :: self.job.thinning, :: self.job.thinning]


def normalised_rows(values: np.ndarray, low: float, high: float, device: torch.device) -> torch.Tensor:
    """Scale values as read from the range [low, high] to [-0.1, 0.1], on a device: ``(rows, W, C)`` float32.

    It is computed in float64, as ``fers.scenes.normalise`` does, some rows at a time: on the CPU where the device has none.
    """
    where = torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device
    raw = sent(values.astype(values.dtype.newbyteorder("="), copy=False), where)
    h = torch.empty(values.shape, device=where)  # in this order of axes, whatever the file's is
    rows = max(1, BLOCK.get(where.type, BLOCK["cpu"]) // values.shape[1])
    for part, into in zip(raw.split(rows), h.split(rows), strict=True):
        lowest = torch.full((), -SCALE, dtype=torch.float64, device=where)
        torch.add(lowest, part.double() - low, alpha=2 * SCALE / (high - low), out=into)
    return h.to(device)
