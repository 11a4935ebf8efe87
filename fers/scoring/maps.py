"""What is computed of one strip: its values, the views that a detector sees, their moments, their scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from fers.detectors import Background, rx
from fers.fast.deploy import DeployedSpaFEN
from fers.scenes.bands import BandChoice
from fers.scenes.normalise import SCALE
from fers.scoring.blocks import Block, Strip
from fers.scoring.fusion_c import HALO as FUSION_C_HALO
from fers.scoring.fusion_c import fusion_c, windows_for
from fers.scoring.moments import Moments
from fers.scoring.networks import Networks, choose_device, load_networks
from fers.scoring.spatial import SpatialState, false_rgb
from fers.scoring.views import VIEWS, Features
from fers.util.errors import FersError

HALO = 3  # px: Spe-FEN's three 3x3 convolutions
METHODS: dict[str, tuple[str, ...]] = {  # name -> views; several views: the product of their min-max scaled maps
    "rx": ("original",),
    "spectral": ("spectral",),
    "rx-spectral": ("original", "spectral"),
    "spatial": ("spatial",),  # eq. 18
    "fused-A": ("spatial", "spectral"),  # eqs. 18-22
    "fused-B": ("fused-B",),  # eq. 23
    "fused-C": ("fused-C",),  # this project's own
}
DEFAULT_METHOD = "fused-C"


@dataclass(frozen=True)
class Network:
    """Which networks. They are built once in each process.

    Attributes:
        bands: C.
        branches: Among ``spe_fen`` and ``spa_fen``.
        checkpoint: Folder of its weights; None for the untrained control, on random frozen layers.
        backbone: Source of the frozen layers; None for what the checkpoint says, or for ``random``.
        seed: Of the untrained control.
        device: As ``choose_device`` takes it; chosen by each process for itself.
    """

    bands: int
    branches: tuple[str, ...] = ("spe_fen",)
    checkpoint: str | None = None
    backbone: str | None = None
    seed: int = 0
    device: str = "cpu"


_device = lru_cache(choose_device)


@lru_cache(maxsize=4)
def networks(network: Network) -> Networks:
    """The networks, deployed, with their caveats and provenance."""
    untrained = network.checkpoint is None
    return load_networks(
        network.branches,
        network.bands,
        Path(network.checkpoint or ""),
        choose_device(network.device),
        backbone=network.backbone or ("random" if untrained else None),
        untrained_seed=network.seed if untrained else None,
    )


@dataclass(frozen=True, eq=False)
class Job:
    """All that a block function must know. It can be pickled and sent to another machine.

    Attributes:
        reader: The scene.
        bands: Which bands are read, and how they become the C computed with.
        views: Names of the cubes that are scored.
        network: For the views that need one.
        spatial: What F_spa depends on, once it is known.
        low, high: The range of the values, for the network's input.
        fill: ``(C,)`` what a network is given where there is no data.
        score_masked: Whether pixels that a mask leaves out of the statistics are scored.
        colours: The three of the C bands that are shown as red, green, blue.
        thinning: Every n-th row and column is kept of these.
        device: Where detectors compute, likewise.
    """

    reader: Any
    bands: BandChoice
    views: tuple[str, ...]
    network: Network | None = None
    spatial: SpatialState | None = None
    low: float = 0.0
    high: float = 1.0
    fill: np.ndarray | None = None
    score_masked: bool = False
    colours: tuple[int, int, int] = (0, 0, 0)
    thinning: int = 1
    device: str = "cpu"

    def read(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Values ``(rows, W, C)`` and where there is data ``(rows, W)``; where there is none the values mean nothing."""
        values, valid = self.reader.read_valid(rows, list(self.bands.used))
        values = self.bands.apply(values, valid)
        if self.bands.padded:
            values = np.pad(values, ((0, 0), (0, 0), (0, self.bands.padded)))
        return values, valid

    @property
    def background_views(self) -> tuple[str, ...]:
        """The views whose moments are needed."""
        return tuple(dict.fromkeys(("original", *("spectral" if view == "fused-C" else view for view in self.views))))

    @property
    def halo(self) -> int:
        """Rows needed beyond a strip."""
        if "fused-C" in self.views:
            return FUSION_C_HALO
        return HALO if self.network is not None and "spe_fen" in self.network.branches else 0

    def with_range(self, low: float, high: float, fill: np.ndarray) -> Job:
        """The same job once the range is known.

        Raises:
            FersError: The range is empty.
        """
        if self.network is not None and not high > low:
            raise FersError(
                f"{self.reader.path}: every value of the chosen bands is {low:g}. A constant cube has no anomalies."
            )
        return replace(self, low=low, high=high, fill=fill)


def read_block(job: Job, block: Block) -> tuple[np.ndarray, np.ndarray, int]:
    """The values of a block and its halo.

    Returns:
        ``(rows, W, C)``, where there is data ``(rows, W)``, and the first of these rows.
    """
    rows = block.outer_rows(job.reader.shape[0], job.halo)
    values, valid = job.read(rows)
    if not (values.dtype.kind == "f" or values.dtype.itemsize <= 2):
        values = values.astype(np.float64)  # float32 holds 16-bit numbers exactly, and longer ones not
    return values, valid, rows.start


class StripViews:
    """One strip of a block: its cubes, computed when they are asked for.

    Args:
        job: The job.
        values, valid, first_row: As ``read_block`` gives them.
        keep: For the same rows, which pixels count for range and statistics.
        strip: Which rows.
    """

    def __init__(self, job: Job, values: np.ndarray, valid: np.ndarray, first_row: int, keep: np.ndarray, strip: Strip):
        self.job, self.strip = job, strip
        index = _reflected(strip.start - job.halo, strip.stop + job.halo, job.reader.shape[0]) - first_row
        self.has_data, self.outer_keep, self.outer = valid[index], keep[index], values[index]
        if not self.has_data.all():
            fill = 0 if job.fill is None else job.fill.astype(self.outer.dtype)
            self.outer = np.where(self.has_data[..., None], self.outer, fill).astype(self.outer.dtype, copy=False)
        self.inner = slice(job.halo, len(index) - job.halo)

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the strip's rows in the scene."""
        return np.arange(self.strip.start, self.strip.stop)

    @property
    def keep(self) -> np.ndarray:
        """``(rows, W)``: which pixels count for range and statistics."""
        return self.outer_keep[self.inner]

    @property
    def valid(self) -> np.ndarray:
        """``(rows, W)``: where there is data."""
        return self.has_data[self.inner]

    @property
    def colours(self) -> np.ndarray:
        """``(rows, W, 3)`` float32."""
        return self.outer[self.inner][..., list(self.job.colours)].astype(np.float32)

    def cube(self, view: str) -> torch.Tensor:
        """``(1, C, rows, W)``: the values as read for ``original``, else the cube of ``VIEWS``."""
        if view == "original":
            return _tensor(self.outer[self.inner]).to(_device(self.job.device))
        branches = {"spe_fen": ("spe", lambda: self.f_spe), "spa_fen": ("spa", lambda: self.f_spa)}
        features = Features(**{name: make() for name, make in (branches[need] for need in VIEWS[view].needs)})
        return VIEWS[view].cubes(self.h[:, :, self.inner], features)[0].to(_device(self.job.device))

    @cached_property
    def h(self) -> torch.Tensor:
        """The normalised cube with its halo."""
        job = self.job
        assert job.network is not None
        h = np.empty(self.outer.shape, np.float32)
        for row, values in zip(h, self.outer, strict=True):  # row by row: float64 needs twice the memory
            row[:] = SCALE * (2 * (values.astype(np.float64) - job.low) / (job.high - job.low) - 1)
        return _tensor(h).to(_device(job.network.device))

    @cached_property
    def f_spe(self) -> torch.Tensor:
        """F_spe of the strip; the rows of the halo are cut off."""
        assert self.job.network is not None
        spe = networks(self.job.network).spe
        assert spe is not None
        beyond = self.job.halo - HALO  # rows that the network need not see
        with torch.no_grad():
            return spe(self.h[:, :, beyond : self.h.shape[2] - beyond])[:, :, HALO:-HALO]

    @cached_property
    def f_spa(self) -> torch.Tensor:
        """F_spa of the strip."""
        assert self.job.spatial is not None
        return self.job.spatial.features(self._spa, self.rows)

    @property
    def false_rgb(self) -> np.ndarray:
        """``(3, rows, W)``: what the ResNet of Spa-FEN sees."""
        return false_rgb(self._spa, self.h[:, :, self.inner])[0].cpu().numpy()

    @property
    def _spa(self) -> DeployedSpaFEN:
        assert self.job.network is not None
        spa = networks(self.job.network).spa
        assert isinstance(spa, DeployedSpaFEN)
        return spa

    def usable(self, view: str) -> np.ndarray:
        """``(rows, W)``: whose values do not depend on a pixel without data."""
        if self.job.halo == 0 or view == "original" or self.has_data.all():
            return self.valid
        reach = np.ones((2 * HALO + 1, 2 * HALO + 1), bool)
        return ~ndimage.binary_dilation(~self.has_data, reach)[self.inner]


def strip_range(strip: StripViews) -> dict[str, np.ndarray]:
    """Count, sum, minimum and maximum of each band over the pixels that count."""
    pixels = strip.outer[strip.inner][strip.keep & strip.valid]
    if not len(pixels):
        empty = np.zeros(strip.outer.shape[2])
        return {"count": np.array(0), "sum": empty, "low": empty + np.inf, "high": empty - np.inf}
    total = pixels.sum(axis=0, dtype=np.float64)
    return {"count": np.array(len(pixels)), "sum": total, "low": pixels.min(axis=0), "high": pixels.max(axis=0)}


def strip_moments(strip: StripViews) -> dict[str, Moments]:
    """Moments of every view, and of the original cube in any case: it explains the detections."""
    views = strip.job.background_views
    return {view: Moments.of(strip.cube(view), strip.keep & strip.usable(view)) for view in views}


def strip_scores(strip: StripViews, backgrounds: dict[str, list[Moments]], centres: np.ndarray) -> np.ndarray:
    """The maps of one strip.

    Args:
        strip: Its views.
        backgrounds: For each view the moments of some neighbouring segments.
        centres: The middle row of each of these. Between two the scores are blended linearly.

    Returns:
        ``(views, rows, W)`` float64, NaN where there is no data.
    """
    maps = np.zeros((len(strip.job.views), *strip.valid.shape))
    for segment, unit in enumerate(np.eye(len(centres))):
        weight = np.interp(strip.rows, centres, unit)
        if weight.any():
            moments = {view: segments[segment] for view, segments in backgrounds.items()}
            for out, view in zip(maps, strip.job.views, strict=True):
                out += weight[:, None] * _score(strip, view, moments)
    maps[:, ~strip.valid] = np.nan
    return maps


def _score(strip: StripViews, view: str, moments: dict[str, Moments]) -> np.ndarray:
    """``(rows, W)``: one view's map against one background."""
    if view == "fused-C":
        return _fused_c(strip, moments)
    return rx(strip.cube(view), background=moments[view].background())[0].cpu().numpy()


def _fused_c(strip: StripViews, moments: dict[str, Moments]) -> np.ndarray:
    """Fusion C of a strip, with the halo that its windows need and the scene's principal components."""
    job, original = strip.job, moments["original"]
    gain = 2 * SCALE / (job.high - job.low)  # H is this times the values, and a constant
    mean = torch.from_numpy(gain * (original.mean - job.low) - SCALE)
    background = Background(mean[None], torch.from_numpy(gain**2 * original.covariance)[None])  # of H
    features = torch.zeros_like(strip.h)  # in the halo F_spe has no part
    features[:, :, strip.inner] = strip.f_spe
    left_out = torch.from_numpy(~(strip.has_data & strip.outer_keep))[None]
    scores = fusion_c(
        partial(rx, background=moments["spectral"].background()),
        strip.h,
        features,
        left_out=left_out if bool(left_out.any()) else None,
        background=background,
        windows=windows_for(*job.reader.shape[:2]),
    )
    return scores[0, strip.inner].cpu().numpy()


def _reflected(start: int, stop: int, size: int) -> np.ndarray:
    """Row numbers from ``start`` up to ``stop``, reflected at the scene's first and last row (which are not repeated)."""
    rows = np.abs(np.arange(start, stop)) % (2 * (size - 1))
    return np.where(rows >= size, 2 * (size - 1) - rows, rows)


def _tensor(values: np.ndarray) -> torch.Tensor:
    """``(rows, W, C)`` to ``(1, C, rows, W)``, in float32 where that is exact."""
    kind = np.float32 if values.dtype.itemsize <= 2 or values.dtype == np.float32 else np.float64
    return torch.from_numpy(np.ascontiguousarray(values, kind)).permute(2, 0, 1)[None]
