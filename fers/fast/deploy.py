"""The same networks for inference: fewer multiplications, equal results except for rounding.

- Batch norms are folded into the convolutions before them.
- Channels that can only be zero, whatever the scene, are cut. The weights show which they are.
- 1x1 convolutions move to the side of padding, pooling and resizing where there are fewer pixels.
- Only the part of the reflected border that reaches the result is computed.
- On CPUs, in float32, channels of Spe-FEN that are zero all over a scene are left out (``fers.fast.bounds``), if the network
  has enough of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fers.fast.bounds import active_features, keep_channels, order_channels, round_up
from fers.networks.spa_fen import SpaFEN
from fers.networks.spe_fen import SpeFEN

Window = tuple[Any, slice, slice]  # an ellipsis, rows, columns
TILE = 128  # px: larger scenes go through Spe-FEN in tiles of this side, so memory does not grow with the scene

LIVE = 0.85  # the share of channels that scenes make positive, up to which the bounds save time: docs/performance.md


def deploy(network: SpeFEN | SpaFEN, bounds: bool = True) -> DeployedSpeFEN | DeployedSpaFEN:
    """Make the same network for inference: equal except for rounding.

    Args:
        network: The network. It is not changed, and later changes of it do not affect the result.
        bounds: Leave out channels that are zero all over a scene, where that saves time.

    Returns:
        A frozen module on the network's device, with the same input and output as ``network``.
    """
    return DeployedSpeFEN(network, bounds) if isinstance(network, SpeFEN) else DeployedSpaFEN(network)


class DeployedSpeFEN(nn.Module):
    """A Spe-FEN for inference, made by ``deploy``. The result is channels-last in memory.

    Attributes:
        tile: Side of the tiles that a larger scene is cut into, in px; None for no tiles.
        bounds: Whether channels that are zero all over a scene are left out.
    """

    def __init__(self, network: SpeFEN, bounds: bool):
        super().__init__()
        self.bands = network.bands
        self.tile: int | None = TILE
        layer1: Any = network.layer1
        blocks = [ValidBottleneck(block) for block in layer1]
        fpl = [copy.deepcopy(layer) for layer in network.fpl if isinstance(layer, nn.Conv2d)]
        self.cwl = copy.deepcopy(network.cwl)
        self.bounds = bounds and order_channels(self.cwl, blocks, fpl) <= LIVE
        self.blocks, self.fpl = nn.ModuleList(blocks), nn.ModuleList(fpl)
        _freeze(self)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Compute F_spe of a normalised cube.

        Args:
            h: ``(N, C, H, W)`` in [-0.1, 0.1], H and W at least 5.

        Returns:
            ``(N, C, H, W)``, >= 0.
        """
        if self._is_one_tile(h):
            return self._features(self._padded(h))
        out = torch.empty_like(h, memory_format=torch.channels_last)
        for window, features in self.windows(h):
            out[window] = features
        return out

    def windows(self, h: torch.Tensor) -> Iterator[tuple[Window, torch.Tensor]]:
        """Yield F_spe of a normalised cube tile by tile, so that it need not be in memory as a whole.

        Args:
            h: The same as in ``forward``.

        Yields:
            The window of a tile, and its F_spe. A cube of at most ``tile`` x ``tile`` pixels is one tile.
        """
        padded, around = self._padded(h), 2 * len(self.blocks)
        tile = max(h.shape[-2:]) if self.tile is None or self._is_one_tile(h) else self.tile
        for top in range(0, h.shape[2], tile):
            for left in range(0, h.shape[3], tile):
                part = padded[:, :, top : top + tile + around, left : left + tile + around]
                yield (..., slice(top, top + tile), slice(left, left + tile)), self._features(part)

    def _is_one_tile(self, h: torch.Tensor) -> bool:
        return self.tile is None or h.shape[2] * h.shape[3] <= self.tile**2

    def _padded(self, h: torch.Tensor) -> torch.Tensor:
        """Compute the blocks' input, padded by one pixel a block. The CWL works on single pixels and so comes first."""
        return F.pad(self.cwl(h), [len(self.blocks)] * 4, mode="reflect")

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        # on GPUs, and compiled, a shape that depends on values costs more than it saves
        on_cpu = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()
        if self.bounds and on_cpu:
            return active_features(x, self.blocks, self.fpl)
        for block in self.blocks:
            x = block(x)
        for projection in self.fpl:
            x = projection(x).relu_()
        return x


class ValidBottleneck(nn.Module):
    """A bottleneck of stride 1 without padding: its output is one pixel smaller on each side, and equal there.

    Args:
        block: torchvision's bottleneck, in eval mode.
    """

    def __init__(self, block: Any):
        super().__init__()
        conv1, conv2, conv3 = (_folded(getattr(block, f"conv{i}"), getattr(block, f"bn{i}")) for i in (1, 2, 3))
        conv2.padding = (0, 0)
        _cut_dead_channels(conv1, conv2)
        _cut_dead_channels(conv2, conv3)
        self.conv1, self.conv2, self.conv3 = conv1, conv2, conv3
        self.shortcut = None if block.downsample is None else _folded(*block.downsample)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute ``(N, 256, H - 2, W - 2)`` from ``(N, C, H, W)``."""
        y = self.conv3(self.inner(x))
        x = x[:, :, 1:-1, 1:-1]
        y += x if self.shortcut is None else self.shortcut(x)
        return y.relu_()

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the input of ``conv3``."""
        return self.conv2(self.conv1(x).relu_()).relu_()


class DeployedSpaFEN(nn.Module):
    """A Spa-FEN for inference, made by ``deploy``. The result is channels-last in memory."""

    def __init__(self, network: SpaFEN):
        super().__init__()
        self.bands = network.bands
        self.levels = network.spp.LEVELS
        self.compress, self.false_rgb = (
            copy.deepcopy(layer) for layer in network.compression if isinstance(layer, nn.Conv2d)
        )
        backbone: Any = network.backbone
        self.stem = nn.Sequential(
            _folded(backbone.conv1, backbone.bn1),
            nn.ReLU(inplace=True),
            backbone.maxpool,
        )
        stages = (backbone.layer1, backbone.layer2, backbone.layer3)
        self.blocks = nn.ModuleList(FoldedBasicBlock(block) for stage in stages for block in stage)
        self.reduce, self.expand = (copy.deepcopy(layer) for layer in network.spp.fuse if isinstance(layer, nn.Conv2d))
        self.squeeze, self.excite = (copy.deepcopy(layer) for layer in network.se.fc if isinstance(layer, nn.Conv2d))
        _freeze(self)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Compute F_spa of a normalised cube.

        Args:
            h: ``(N, C, H, W)`` in [-0.1, 0.1].

        Returns:
            ``(N, C, H, W)``, >= 0.
        """
        x = self.stem(torch.sigmoid(self.false_rgb(self.compress(h).relu_())))
        for block in self.blocks:
            x = block(x)
        x = _resized_levels(self._knots(x), self.levels, h.shape[-2:]).relu_()
        x = self.expand(x).relu_()
        gate = self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu_()).sigmoid_()
        return x.mul_(gate)

    def _knots(self, features: torch.Tensor) -> torch.Tensor:
        """Compute LightSPP up to resizing, ``(N, 128, 21)``.

        Its 1x1 convolution commutes with resizing, so it sees 21 pixels instead of H * W. Pooling and resizing are products
        with fixed matrices here, so that they can be exported for any size.
        """
        channels, rows, columns = features.shape[1:]
        knots = []
        for level, part in zip(self.levels, self.reduce.weight.split(channels, dim=1), strict=True):
            over_rows, over_columns = (pooling_weights(length, level).to(features) for length in (rows, columns))
            bins = torch.einsum("nchw,ph,qw->ncpq", features, over_rows, over_columns)
            knots.append(F.conv2d(bins, part).flatten(2))
        return torch.cat(knots, dim=2)


def pooling_weights(length: int, bins: int) -> torch.Tensor:
    """Return adaptive average pooling along one side as a ``(bins, length)`` matrix."""
    position, bin_ = torch.arange(length), torch.arange(bins)[:, None]
    start, stop = bin_ * length // bins, ((bin_ + 1) * length + bins - 1) // bins
    inside = ((position >= start) & (position < stop)).float()
    return inside / inside.sum(1, keepdim=True)


def resizing_weights(length: int, knots: int) -> torch.Tensor:
    """Return bilinear resizing (``align_corners=False``) along one side as a ``(length, knots)`` matrix."""
    position = (torch.arange(length) + 0.5) * (knots / length) - 0.5
    return (1 - (position.clamp(0, knots - 1)[:, None] - torch.arange(knots)).abs()).clamp_min(0)


def _resized_levels(knots: torch.Tensor, levels: tuple[int, ...], size: torch.Size) -> torch.Tensor:
    """Resize each level of a pyramid ``(N, C, knots)`` and add them up: ``(N, C, H, W)``, channels last in memory."""
    height, width = size
    weights = []
    for level in levels:
        down, across = (resizing_weights(length, level).to(knots) for length in (height, width))
        weights.append((down[:, None, :, None] * across[None, :, None, :]).reshape(height * width, level * level))
    resized = torch.cat(weights, dim=1) @ knots.mT
    # with one image, its stride would otherwise be taken for channels first
    return resized.flatten(0, 1).unflatten(0, (-1, height, width)).permute(0, 3, 1, 2)


class FoldedBasicBlock(nn.Module):
    """torchvision's basic block with its batch norms folded.

    Args:
        block: The block, in eval mode.
    """

    def __init__(self, block: Any):
        super().__init__()
        self.conv1 = _folded(block.conv1, block.bn1)
        self.conv2 = _folded(block.conv2, block.bn2)
        self.shortcut = None if block.downsample is None else _folded(*block.downsample)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the same as the block it was made from."""
        y = self.conv2(self.conv1(x).relu_())
        y += x if self.shortcut is None else self.shortcut(x)
        return y.relu_()


@torch.no_grad()
def _cut_dead_channels(producer: nn.Conv2d, consumer: nn.Conv2d) -> None:
    """Remove, in place, channels between two convolutions that ReLU makes zero at every pixel of every scene.

    Their folded weights are all zero and their bias is not positive. Some stay, to fill the last group of channels.
    """
    assert producer.bias is not None
    alive = producer.weight.flatten(1).ne(0).any(1) | (producer.bias > 0)
    width = round_up(int(alive.sum()))
    keep_channels(alive.int().argsort(descending=True, stable=True)[:width].sort().values, [producer], [consumer])


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Make a new convolution that does both."""
    return fuse_conv_bn_eval(copy.deepcopy(conv).eval(), copy.deepcopy(norm).eval())


def _freeze(module: nn.Module) -> None:
    module.eval().requires_grad_(False).to(memory_format=torch.channels_last)
