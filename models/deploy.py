"""The same networks for inference: fewer multiplications, the same numbers.

What is done is exact but for rounding: batch norms are folded into the convolutions before them; channels that can only
be zero are cut, found from the weights; 1x1 convolutions move to the side of padding, pooling and resizing where there
are fewer pixels; of the reflected border only what reaches the result is computed; and on CPUs the 3x3 convolutions of
Spe-FEN go by Winograd's algorithm.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.winograd import convolve, transform_filters

GROUP = 16  # channels: matrix products of a width that is no multiple of it take up to 1.5 times as long
TILE = 128  # px: larger scenes go through Spe-FEN in tiles of this side, so that memory does not grow with the scene


class DeployedSpeFEN(nn.Module):
    """A Spe-FEN for inference. It takes and gives what ``SpeFEN.forward`` does; the result is channels-last in memory.

    Args:
        network: The Spe-FEN; it is left as it is, and later changes of it do not reach this module.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.bands = network.bands
        self.cwl = _copy(network.cwl)
        self.blocks = nn.ModuleList(ValidBottleneck(block) for block in network.backbone.layer1)
        self.fpl = nn.ModuleList(_copy(layer) for layer in network.fpl if isinstance(layer, nn.Conv2d))
        self.bounds = ChannelBounds(self.fpl[0])
        self.tile: int | None = TILE
        _freeze(self)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """F_spe of a normalised cube.

        Args:
            h: ``(N, C, H, W)`` in [-0.1, 0.1], H and W at least 5.

        Returns:
            ``(N, C, H, W)``, >= 0.
        """
        margin = len(self.blocks)  # each block's 3x3 convolution looks one pixel further
        # the CWL works on single pixels, so padding can wait until there are 64 channels
        padded = F.pad(self.cwl(h), [margin] * 4, mode="reflect")
        height, width = h.shape[-2:]
        if self.tile is None or height * width <= self.tile**2:
            return self._features(padded)
        out = torch.empty_like(h, memory_format=torch.channels_last)
        for top in range(0, height, self.tile):
            for left in range(0, width, self.tile):
                window = padded[:, :, top : top + self.tile + 2 * margin, left : left + self.tile + 2 * margin]
                out[:, :, top : top + self.tile, left : left + self.tile] = self._features(window)
        return out

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        first, last = self.fpl
        if not _eager_on_cpu(x):
            return last(first(x).relu_()).relu_()
        active = self.bounds.active(*_extremes(x))
        x = F.conv2d(x, first.weight[active], first.bias[active]).relu_()
        return F.conv2d(x, last.weight[:, active], last.bias).relu_()


class ValidBottleneck(nn.Module):
    """A bottleneck of stride 1 without padding: its output is one pixel smaller on each side, and equal there.

    Args:
        block: torchvision's bottleneck, in eval mode.
    """

    def __init__(self, block: nn.Module):
        super().__init__()
        conv1, conv2, conv3 = (
            fuse_conv_bn_eval(getattr(block, f"conv{i}").eval(), getattr(block, f"bn{i}").eval()) for i in (1, 2, 3)
        )
        conv2.padding = (0, 0)
        _cut_dead_channels(conv1, conv2)
        _cut_dead_channels(conv2, conv3)
        self.conv1, self.conv2, self.conv3 = conv1, conv2, conv3
        self.bounds = nn.ModuleList(ChannelBounds(conv) for conv in (conv1, conv2))
        self.shortcut = None if block.downsample is None else fuse_conv_bn_eval(*(m.eval() for m in block.downsample))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to ``(N, 256, H - 2, W - 2)``."""
        inner = x[:, :, 1:-1, 1:-1]
        y = self._active(x) if _eager_on_cpu(x) else self.conv3(self.conv2(self.conv1(x).relu_()).relu_())
        y += inner if self.shortcut is None else self.shortcut(inner)
        return y.relu_()

    def _active(self, x: torch.Tensor) -> torch.Tensor:
        """The three convolutions, by the channels that can be positive in these images alone."""
        first = self.bounds[0].active(*_extremes(x))
        y = F.conv2d(x, self.conv1.weight[first], self.conv1.bias[first]).relu_()
        low, high = (x.new_zeros(self.conv1.out_channels).index_copy_(0, first, extreme) for extreme in _extremes(y))
        second = self.bounds[1].active(low, high)
        y, _ = convolve(y, transform_filters(self.conv2.weight[second[:, None], first]), padding=0)
        y = (y + self.conv2.bias[second, None, None]).relu_()
        return F.conv2d(y, self.conv3.weight[:, second], self.conv3.bias)


class ChannelBounds(nn.Module):
    """Tells from the extremes of a convolution's input which of its channels cannot be positive anywhere.

    Each weight meets at most the highest and at least the lowest value of its input channel (interval arithmetic).

    Args:
        conv: The convolution, with a bias.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        weight = conv.weight.detach()
        parts = torch.cat([weight.clamp_max(0).sum((2, 3)), weight.clamp_min(0).sum((2, 3))], dim=1)
        self.register_buffer("parts", parts, persistent=False)
        self.register_buffer("bias", conv.bias.detach(), persistent=False)

    def active(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Indices of the channels that a ReLU may leave positive, and of as many more as ``GROUP`` asks for.

        Args:
            low, high: ``(C,)``, the extremes of the input's channels.
        """
        silent = torch.addmv(self.bias, self.parts, torch.cat([low, high])) <= 0  # not so where there is a NaN
        width = _round_up(len(silent) - int(silent.sum()))
        return silent.byte().argsort(stable=True)[:width]


class DeployedSpaFEN(nn.Module):
    """A Spa-FEN for inference. It takes and gives what ``SpaFEN.forward`` does; the result is channels-last in memory.

    Args:
        network: The Spa-FEN; it is left as it is, and later changes of it do not reach this module.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.bands = network.bands
        self.levels = network.spp.LEVELS
        self.compress, self.false_rgb = (_copy(layer) for layer in network.compression if isinstance(layer, nn.Conv2d))
        self.stem = nn.Sequential(
            fuse_conv_bn_eval(network.backbone.conv1.eval(), network.backbone.bn1.eval()),
            nn.ReLU(inplace=True),
            network.backbone.maxpool,
        )
        stages = (network.backbone.layer1, network.backbone.layer2, network.backbone.layer3)
        self.blocks = nn.ModuleList(FoldedBasicBlock(block) for stage in stages for block in stage)
        self.reduce, self.expand = (_copy(layer) for layer in network.spp.fuse if isinstance(layer, nn.Conv2d))
        self.squeeze, self.excite = (_copy(layer) for layer in network.se.fc if isinstance(layer, nn.Conv2d))
        _freeze(self)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """F_spa of a normalised cube.

        Args:
            h: ``(N, C, H, W)`` in [-0.1, 0.1].

        Returns:
            ``(N, C, H, W)``, >= 0.
        """
        x = self.stem(torch.sigmoid(self.false_rgb(self.compress(h).relu_())))
        for block in self.blocks:
            x = block(x)
        x = self._pyramid(x, h.shape[-2:]).relu_()
        x = self.expand(x).relu_()
        gate = self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu_()).sigmoid_()
        return x.mul_(gate)

    def _pyramid(self, features: torch.Tensor, size: torch.Size) -> torch.Tensor:
        """LightSPP up to its first ReLU: the 1x1 convolution commutes with resizing, so it sees 21 pixels, not H * W.

        Pooling and resizing are products with fixed matrices here, so that they can be exported for any size.
        """
        n, channels, rows, columns = features.shape
        height, width = size
        pooled, weights = [], []
        for level, part in zip(self.levels, self.reduce.weight.split(channels, dim=1), strict=True):
            over_rows, over_columns = (pooling_weights(length, level).to(features) for length in (rows, columns))
            bins = torch.einsum("nchw,ph,qw->ncpq", features, over_rows, over_columns)
            pooled.append(F.conv2d(bins, part).flatten(2))
            down, across = (resizing_weights(length, level).to(features) for length in (height, width))
            weights.append((down[:, None, :, None] * across[None, :, None, :]).reshape(height * width, level * level))
        fused = torch.cat(weights, dim=1) @ torch.cat(pooled, dim=2).mT  # (N, H * W, 128): channels last
        return fused.mT.reshape(n, -1, height, width)


def pooling_weights(length: int, bins: int) -> torch.Tensor:
    """What adaptive average pooling does along one side, as a ``(bins, length)`` matrix."""
    position, bin_ = torch.arange(length), torch.arange(bins)[:, None]
    start, stop = bin_ * length // bins, ((bin_ + 1) * length + bins - 1) // bins
    inside = ((position >= start) & (position < stop)).float()
    return inside / inside.sum(1, keepdim=True)


def resizing_weights(length: int, knots: int) -> torch.Tensor:
    """What bilinear resizing (``align_corners=False``) does along one side, as a ``(length, knots)`` matrix."""
    position = (torch.arange(length) + 0.5) * (knots / length) - 0.5
    return (1 - (position.clamp(0, knots - 1)[:, None] - torch.arange(knots)).abs()).clamp_min(0)


class FoldedBasicBlock(nn.Module):
    """torchvision's basic block with its batch norms folded.

    Args:
        block: The block, in eval mode.
    """

    def __init__(self, block: nn.Module):
        super().__init__()
        self.conv1 = fuse_conv_bn_eval(block.conv1.eval(), block.bn1.eval())
        self.conv2 = fuse_conv_bn_eval(block.conv2.eval(), block.bn2.eval())
        self.shortcut = None if block.downsample is None else fuse_conv_bn_eval(*(m.eval() for m in block.downsample))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the block it was made of."""
        y = self.conv2(self.conv1(x).relu_())
        y += x if self.shortcut is None else self.shortcut(x)
        return y.relu_()


@torch.no_grad()
def _cut_dead_channels(producer: nn.Conv2d, consumer: nn.Conv2d) -> None:
    """Remove, in place, channels between two convolutions that ReLU makes zero at every pixel of every scene.

    They are those whose folded weights are all zero and whose bias is not positive. Some stay: as many as make the width
    a multiple of ``GROUP``.
    """
    alive = producer.weight.flatten(1).ne(0).any(1) | (producer.bias > 0)
    width = _round_up(int(alive.sum()))
    kept = alive.int().sort(descending=True, stable=True).indices[:width].sort().values
    producer.weight, producer.bias = _parameter(producer.weight[kept]), _parameter(producer.bias[kept])
    consumer.weight = _parameter(consumer.weight[:, kept])
    producer.out_channels = consumer.in_channels = len(kept)


def _round_up(channels: int) -> int:
    return max(-(-channels // GROUP), 1) * GROUP


def _extremes(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.amin((0, 2, 3)), x.amax((0, 2, 3))


def _eager_on_cpu(x: torch.Tensor) -> bool:
    """Elsewhere the library chooses the algorithm, and a shape that depends on values costs more than it saves."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()


def _parameter(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().clone(), requires_grad=False)


def _copy(layer: nn.Conv2d) -> nn.Conv2d:
    copy = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, bias=layer.bias is not None)
    copy.load_state_dict(layer.state_dict())
    return copy.to(layer.weight)


def _freeze(module: nn.Module) -> None:
    module.eval().requires_grad_(False).to(memory_format=torch.channels_last)
