"""Spa-FEN on scenes of any size: its ResNet looks at three channels only, so the cube need not be in memory.

Two modes. ``scene`` is the network taken literally: it pools over the whole scene, which leaves 21 numbers for each of
128 channels. It is exact. On large scenes its features fade to a constant, which RX removes. ``window`` pools over windows
of 64, 32 and 16 px, the sizes that training patches have; on a scene of 64 x 64 px both are equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from fers.fast.deploy import DeployedSpaFEN, pooling_weights, resizing_weights

WITHOUT_ASKING = 256  # px on the longer side: all published benchmarks are smaller
STRIDE = 16  # of the ResNet up to layer3
PATCH = 64  # px, a training patch
HALO = 288  # px, a multiple of the stride: pixels more than 273 px apart do not affect each other
_TILE = 512  # px, a multiple of the stride
_ROWS = 64  # to sum at a time


@dataclass(frozen=True, eq=False)
class SpatialState:
    """Numbers on which F_spa of every pixel depends.

    Attributes:
        height, width: Size of the scene.
        knots: Each level of the pyramid ``(128, p, q)``, pooled, after the first 1x1 convolution.
        spans: Rows and columns that the knots of each level cover; beyond the scene where windows do.
        gate: Gate of the SE block, ``(C, p, q)``, likewise.
        gate_span: Rows and columns that it covers.
    """

    height: int
    width: int
    knots: tuple[torch.Tensor, ...]
    spans: tuple[tuple[int, int], ...]
    gate: torch.Tensor
    gate_span: tuple[int, int]

    @torch.no_grad()
    def features(self, network: DeployedSpaFEN, rows: np.ndarray) -> torch.Tensor:
        """Compute F_spa of some rows: ``(1, C, rows, W)``."""
        gate = self.gate.to(network.expand.weight)
        return self._before_gate(network, rows) * _resized(gate, self.gate_span, rows, self.width)[None]

    def _before_gate(self, network: DeployedSpaFEN, rows: np.ndarray) -> torch.Tensor:
        levels = zip(self.knots, self.spans, strict=True)
        fused = sum(_resized(knots.to(network.expand.weight), span, rows, self.width) for knots, span in levels)
        assert isinstance(fused, torch.Tensor)
        return network.expand(fused[None].relu_()).relu_()


@torch.no_grad()
def false_rgb(network: DeployedSpaFEN, h: torch.Tensor) -> torch.Tensor:
    """Compute the ResNet's three channels (eq. 5) pixel by pixel: ``(1, C, rows, W)`` to ``(1, 3, rows, W)``."""
    return torch.sigmoid(network.false_rgb(network.compress(h).relu_()))


@torch.no_grad()
def layer3(network: DeployedSpaFEN, rgb: torch.Tensor) -> torch.Tensor:
    """Compute the ResNet's map of a whole scene, tile by tile, each with its surroundings.

    Args:
        network: The Spa-FEN.
        rgb: ``(3, H, W)``.

    Returns:
        ``(256, ceil(H / 16), ceil(W / 16))``.
    """
    _, height, width = rgb.shape
    out = rgb.new_empty(256, -(-height // STRIDE), -(-width // STRIDE))
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            first_row, first_column = max(top - HALO, 0), max(left - HALO, 0)
            x = rgb[None, :, first_row : top + _TILE + HALO, first_column : left + _TILE + HALO]
            x = network.stem(x.contiguous(memory_format=torch.channels_last))
            for block in network.blocks:
                x = block(x)
            cells = out[:, top // STRIDE : (top + _TILE) // STRIDE, left // STRIDE : (left + _TILE) // STRIDE]
            row, column = (top - first_row) // STRIDE, (left - first_column) // STRIDE
            cells[:] = x[0, :, row : row + cells.shape[1], column : column + cells.shape[2]]
    return out


@torch.no_grad()
def spatial_state(network: DeployedSpaFEN, rgb: torch.Tensor, mode: str) -> SpatialState:
    """Compute everything on which F_spa of a scene depends.

    Args:
        network: The Spa-FEN.
        rgb: ``(3, H, W)`` of the whole scene, from ``false_rgb``.
        mode: One of ``SPATIAL_MODES``.
    """
    _, height, width = rgb.shape
    cells = layer3(network, rgb)
    parts = network.reduce.weight.split(cells.shape[0], dim=1)
    knots, spans = [], []
    for level, part in zip(network.levels, parts, strict=True):
        if mode == "scene":
            over_rows, over_columns = (pooling_weights(length, level).to(cells) for length in cells.shape[1:])
            pooled, span = torch.einsum("chw,ph,qw->cpq", cells, over_rows, over_columns), (height, width)
        else:
            size = PATCH // STRIDE // level
            pooled = F.avg_pool2d(cells[None], size, ceil_mode=True, count_include_pad=False)[0]
            span = (pooled.shape[1] * size * STRIDE, pooled.shape[2] * size * STRIDE)
        knots.append(F.conv2d(pooled[None], part)[0])
        spans.append(span)
    one = torch.ones(network.bands, 1, 1)
    knots = [level.cpu() for level in knots]
    state = SpatialState(height, width, tuple(knots), tuple(spans), one, (height, width))
    means = _scene_mean(network, state) if mode == "scene" else _window_means(network, state)
    gate = network.excite(network.squeeze(means[None]).relu_()).sigmoid_()[0]
    span = (height, width) if mode == "scene" else (gate.shape[1] * PATCH, gate.shape[2] * PATCH)
    return SpatialState(height, width, tuple(knots), tuple(spans), gate.cpu(), span)


def _scene_mean(network: DeployedSpaFEN, state: SpatialState) -> torch.Tensor:
    """Mean over the scene, which the SE block squeezes: ``(C, 1, 1)``."""
    total = torch.zeros(network.bands, dtype=torch.float64)
    for start in range(0, state.height, _ROWS):
        rows = np.arange(start, min(start + _ROWS, state.height))
        total += state._before_gate(network, rows).cpu().double().sum((0, 2, 3))
    return (total / (state.height * state.width)).to(network.expand.weight)[:, None, None]


def _window_means(network: DeployedSpaFEN, state: SpatialState) -> torch.Tensor:
    """Mean over each window of a training patch's size: ``(C, p, q)``."""
    means = []
    for start in range(0, state.height, PATCH):
        rows = np.arange(start, min(start + PATCH, state.height))
        x = state._before_gate(network, rows)
        columns = F.avg_pool2d(x, (len(rows), PATCH), ceil_mode=True, count_include_pad=False)
        means.append(columns[0])
    return torch.cat(means, dim=1)


def _resized(knots: torch.Tensor, span: tuple[int, int], rows: np.ndarray, width: int) -> torch.Tensor:
    """Interpolate bilinearly between knots over ``span`` rows and columns: ``(K, p, q)`` to ``(K, rows, width)``."""
    down = resizing_weights(span[0], knots.shape[1])[torch.from_numpy(rows)].to(knots)
    across = resizing_weights(span[1], knots.shape[2])[:width].to(knots)
    return torch.einsum("rp,kpq,cq->krc", down, knots, across)
