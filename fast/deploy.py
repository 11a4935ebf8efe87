"""The same networks for inference: fewer multiplications, the same numbers.

What is done is exact but for rounding: batch norms are folded into the convolutions before them; channels that can only
be zero are cut, found from the weights; 1x1 convolutions move to the side of padding, pooling and resizing where there
are fewer pixels; of the reflected border only what reaches the result is computed; and on CPUs the 3x3 convolutions of
Spe-FEN go by Winograd's algorithm, and channels that are zero all over a scene, as a bound tells beforehand, are left out.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fast.winograd import convolve, transform_filters
from models.spa_fen import SpaFEN
from models.spe_fen import SpeFEN

GROUP = 8  # channels: matrix products of a width that is no multiple of it take up to 1.5 times as long
TILE = 128  # px: larger scenes go through Spe-FEN in tiles of this side, so that memory does not grow with the scene


def deploy(network: SpeFEN | SpaFEN) -> DeployedSpeFEN | DeployedSpaFEN:
    """The same network for inference: equal but for rounding.

    Args:
        network: It is left as it is, and later changes of it do not reach what is returned.
    """
    return DeployedSpeFEN(network) if isinstance(network, SpeFEN) else DeployedSpaFEN(network)


class DeployedSpeFEN(nn.Module):
    """A Spe-FEN for inference. It takes and gives what ``SpeFEN.forward`` does; the result is channels-last in memory.

    Args:
        network: The Spe-FEN; it is left as it is, and later changes of it do not reach this module.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.bands = network.bands
        self.cwl = _copy(network.cwl)
        self.blocks = nn.ModuleList(ValidBottleneck(block) for block in network.layer1)
        self.fpl = nn.ModuleList(_copy(layer) for layer in network.fpl if isinstance(layer, nn.Conv2d))
        self.tile: int | None = TILE
        _freeze(self)
        self._order_channels()

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """F_spe of a normalised cube.

        Args:
            h: ``(N, C, H, W)`` in [-0.1, 0.1], H and W at least 5.

        Returns:
            ``(N, C, H, W)``, >= 0.
        """
        padded, margin = self._enter(h), len(self.blocks)
        height, width = h.shape[-2:]
        if self.tile is None or height * width <= self.tile**2:
            return self._features(padded)
        out = torch.empty_like(h, memory_format=torch.channels_last)
        for top in range(0, height, self.tile):
            for left in range(0, width, self.tile):
                window = padded[:, :, top : top + self.tile + 2 * margin, left : left + self.tile + 2 * margin]
                out[:, :, top : top + self.tile, left : left + self.tile] = self._features(window)
        return out

    def _enter(self, h: torch.Tensor) -> torch.Tensor:
        """The CWL and the border: each block's 3x3 convolution looks one pixel further. The CWL works on single pixels, so
        padding can wait until there are 64 channels."""
        return F.pad(self.cwl(h), [len(self.blocks)] * 4, mode="reflect")

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        first, last = self.fpl
        if not _eager_on_cpu(x):
            return last(first(x).relu_()).relu_()
        x, extremes = _trimmed(x)
        x = self.products[0](x, _active(self.bounds(*extremes))).relu_()
        return self.products[1](x, self.bands).relu_()

    @torch.no_grad()
    def _order_channels(self) -> None:
        """Put the channels that few scenes make positive behind the others, so that no weights are copied to leave them out.

        How many do is told from made-up ones: dark to bright in steps of contrast, with spectra that are flat or fall with the
        wavelength, as they do under sunlight.
        """
        weight = self.cwl.weight
        contrast, brightness = torch.linspace(0, 1, 11).to(weight), torch.linspace(0, 0.2, 7).to(weight)
        spectra = torch.stack([torch.linspace(1, 0, self.bands).to(weight) ** power for power in (0, 1, 2)])
        probes = torch.einsum("t,sc,b->tscb", contrast, spectra, brightness).flatten(0, 1)[:, :, None] - 0.1
        x = self._enter(probes.repeat(1, 1, probes.shape[3], 1))

        entry, *followers = self.blocks
        order = _order(_most(entry.conv3, entry.inner(x)) + _most(entry.shortcut, x))
        for block in self.blocks:
            x, before = block.plain(x), x
            block.order_channels(before)
        first, last = self.fpl
        _leave(_order(_most(first, x)), [first], [last])
        # what goes from block to block has one order, that of the first one's output
        _leave(order, [entry.shortcut, *(b.conv3 for b in self.blocks)], [first, *(b.conv1 for b in followers)])
        for block in self.blocks:
            block.prepare()
        self.bounds = ChannelBounds(first)
        self.products = [PixelProduct(conv) for conv in self.fpl]


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
        self.shortcut = None if block.downsample is None else fuse_conv_bn_eval(*(m.eval() for m in block.downsample))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to ``(N, 256, H - 2, W - 2)``; on CPUs without the last channels, where those are zero."""
        return self._active(x) if _eager_on_cpu(x) else self.plain(x)

    def plain(self, x: torch.Tensor) -> torch.Tensor:
        """``forward`` by all channels."""
        y = self.conv3(self.inner(x))
        x = x[:, :, 1:-1, 1:-1]
        y += x if self.shortcut is None else self.shortcut(x)
        return y.relu_()

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        """What ``conv3`` sees."""
        return self.conv2(self.conv1(x).relu_()).relu_()

    def _active(self, x: torch.Tensor) -> torch.Tensor:
        """``forward`` by the channels that can be positive in these images alone; x may lack its last ones likewise."""
        # where there is a shortcut x is what the CWL gave, of either sign
        x, extremes = _trimmed(x) if self.shortcut is None else (x, _extremes(x))
        width = _active(self.bounds["conv1"](*extremes))
        y, between = _trimmed(self.products["conv1"](x, width).relu_())
        width = _active(self.bounds["conv2"](*between))
        y, _ = convolve(y, self.filters[:, : y.shape[1], :width], padding=0)
        y, between = _trimmed(y.add_(self.conv2.bias[:width, None, None]).relu_())
        x = x[:, :, 1:-1, 1:-1]
        if self.shortcut is None:
            y = self.products["conv3"](y, self.conv3.out_channels)
            y[:, : x.shape[1]] += x
        else:
            width = _active(self.bounds["conv3"](*between) + self.bounds["shortcut"](*extremes))
            y = self.products["conv3"](y, width)
            y += self.products["shortcut"](x, width)
        return y.relu_()

    def order_channels(self, probes: torch.Tensor) -> None:
        """Order the channels between the convolutions by how many of the probes make them positive.

        Args:
            probes: ``(N, C, H, W)``, what this block sees of them.
        """
        first = _order(_most(self.conv1, probes))
        second = _order(_most(self.conv2, self.conv1(probes).relu_()))
        _leave(first, [self.conv1], [self.conv2])
        _leave(second, [self.conv2], [self.conv3])

    def prepare(self) -> None:
        """To be called when the weights are in their final order."""
        pointwise = {"conv1": self.conv1, "conv3": self.conv3}
        if self.shortcut is not None:
            pointwise["shortcut"] = self.shortcut
        # no buffers: they need not be exported
        self.products = {name: PixelProduct(conv) for name, conv in pointwise.items()}
        self.bounds = {name: ChannelBounds(conv) for name, conv in (pointwise | {"conv2": self.conv2}).items()}
        self.filters = transform_filters(_on_cpu(self.conv2.weight))


class ChannelBounds:
    """The most that each channel of a convolution can be, from the extremes of its input; on the CPU, in float32.

    Each weight meets at most the highest and at least the lowest value of its input channel (interval arithmetic).

    Args:
        conv: The convolution, with a bias.
    """

    def __init__(self, conv: nn.Conv2d):
        weight = _on_cpu(conv.weight)
        self.negative, self.positive = weight.clamp_max(0).sum((2, 3)), weight.clamp_min(0).sum((2, 3))
        self.bias = _on_cpu(conv.bias)

    def __call__(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """``(K,)`` or ``(N, K)``.

        Args:
            low, high: The extremes of the input's channels, ``(C,)`` or ``(N, C)``; of the first ones, where the others are zero.
        """
        channels = low.shape[-1]
        return F.linear(low, self.negative[:, :channels], self.bias) + F.linear(high, self.positive[:, :channels])


class PixelProduct:
    """A 1x1 convolution by some of its channels, as one product of two matrices; on the CPU, in float32.

    At these sizes that takes a tenth less than the library's convolution.

    Args:
        conv: The convolution, with a bias.
    """

    def __init__(self, conv: nn.Conv2d):
        self.weight, self.bias = _on_cpu(conv.weight).flatten(1).T.contiguous(), _on_cpu(conv.bias)

    def __call__(self, x: torch.Tensor, width: int) -> torch.Tensor:
        """``(N, C, H, W)`` to ``(N, width, H, W)``, channels last in memory.

        Args:
            x: Of the input's channels all, or the first ones, where the others are zero.
            width: So many of the output's, from the first.
        """
        pixels = x.permute(0, 2, 3, 1)
        y = torch.addmm(self.bias[:width], pixels.flatten(0, 2), self.weight[: x.shape[1], :width])
        return y.unflatten(0, pixels.shape[:3]).permute(0, 3, 1, 2)


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
        knots, weight = self._knots(x), self.expand.weight
        if _eager_on_cpu(x):  # what is resized lies between its knots: here too some channels cannot be positive
            parts = knots.split([level**2 for level in self.levels], dim=2)
            silent = sum(part.amax((0, 2)) for part in parts) <= 0  # not so where there is a NaN
            channels = silent.byte().argsort(stable=True)[: _round_up(len(silent) - int(silent.sum()))]
            knots, weight = knots[:, channels], weight[:, channels]
        x = F.conv2d(_resized(knots, self.levels, h.shape[-2:]).relu_(), weight, self.expand.bias).relu_()
        gate = self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu_()).sigmoid_()
        return x.mul_(gate)

    def _knots(self, features: torch.Tensor) -> torch.Tensor:
        """LightSPP up to resizing: its 1x1 convolution commutes with that, so it sees 21 pixels, not H * W; ``(N, 128, 21)``.

        Pooling is a product with fixed matrices here, and so is resizing, so that they can be exported for any size.
        """
        channels, rows, columns = features.shape[1:]
        knots = []
        for level, part in zip(self.levels, self.reduce.weight.split(channels, dim=1), strict=True):
            over_rows, over_columns = (pooling_weights(length, level).to(features) for length in (rows, columns))
            bins = torch.einsum("nchw,ph,qw->ncpq", features, over_rows, over_columns)
            knots.append(F.conv2d(bins, part).flatten(2))
        return torch.cat(knots, dim=2)


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


def _resized(knots: torch.Tensor, levels: tuple[int, ...], size: torch.Size) -> torch.Tensor:
    """The sum of the levels of a pyramid, ``(N, C, knots)``, each resized: ``(N, C, H, W)``, channels last in memory."""
    height, width = size
    weights = []
    for level in levels:
        down, across = (resizing_weights(length, level).to(knots) for length in (height, width))
        weights.append((down[:, None, :, None] * across[None, :, None, :]).reshape(height * width, level * level))
    resized = torch.cat(weights, dim=1) @ knots.mT
    # of one image, its own stride would else pass for channels first
    return resized.flatten(0, 1).unflatten(0, (-1, height, width)).permute(0, 3, 1, 2)


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
    _leave(kept, [producer], [consumer])


def _leave(channels: torch.Tensor, producers: list[nn.Conv2d], consumers: list[nn.Conv2d]) -> None:
    """Leave these channels alone between the convolutions, in this order, in place."""
    for conv in producers:
        conv.weight, conv.bias = _parameter(conv.weight[channels]), _parameter(conv.bias[channels])
        conv.out_channels = len(channels)
    for conv in consumers:
        conv.weight, conv.in_channels = _parameter(conv.weight[:, channels]), len(channels)


def _most(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """``(N, K)``: the most that the channels can be, image by image."""
    return ChannelBounds(conv)(_on_cpu(x.amin((2, 3))), _on_cpu(x.amax((2, 3))))


def _order(most: torch.Tensor) -> torch.Tensor:
    """Channels in falling order of the images in which they may be positive."""
    return (most > 0).sum(0).argsort(descending=True, stable=True)


def _active(most: torch.Tensor) -> int:
    """How many channels, from the first, hold all that a ReLU may leave positive; a multiple of ``GROUP``."""
    possible = (most <= 0).logical_not_().nonzero()  # a NaN is possible
    return min(_round_up(int(possible[-1]) + 1 if len(possible) else 0), len(most))


def _round_up(channels: int) -> int:
    return max(-(-channels // GROUP), 1) * GROUP


def _extremes(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The least and the greatest of each channel, ``(C,)``."""
    pixels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    # four at a time: a row of 80 or 104 values, no multiple of 32, takes six times as long to reduce
    if rest := len(pixels) % 4:
        pixels = torch.cat([pixels, pixels[-1:].expand(4 - rest, -1)])
    rows = pixels.view(-1, 4, x.shape[1]).flatten(1)
    return rows.amin(0).view(4, -1).amin(0), rows.amax(0).view(4, -1).amax(0)


def _trimmed(x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """x, which is not negative, without its last channels, as far as they are zero; and the extremes of those left."""
    low, high = _extremes(x)
    width = _active(high)
    return x[:, :width], (low[:width], high[:width])


def _eager_on_cpu(x: torch.Tensor) -> bool:
    """Elsewhere the library chooses the algorithm, and a shape that depends on values costs more than it saves."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()


def _on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().float().cpu()


def _parameter(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().clone(), requires_grad=False)


def _copy(layer: nn.Conv2d) -> nn.Conv2d:
    copy = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, bias=layer.bias is not None)
    copy.load_state_dict(layer.state_dict())
    return copy.to(layer.weight)


def _freeze(module: nn.Module) -> None:
    module.eval().requires_grad_(False).to(memory_format=torch.channels_last)
