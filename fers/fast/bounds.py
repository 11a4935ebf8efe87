"""Leave out the channels of Spe-FEN that a scene cannot make positive. Only ``fers.fast.deploy`` uses this.

The cube lies within 0.1 of zero, so the biases of layer1 decide much: about half of its channels are zero all over a scene.
An upper bound on each channel, from the extremes of a convolution's input, shows most of them before they are computed.
Which ones they are changes little from scene to scene. So the channels are ordered once, those that few scenes make
positive last. A scene then needs only the first channels of each convolution, and no weights are copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F

GROUP = 8  # channels: a convolution whose width is not a multiple takes up to 1.5 times as long
Extremes = tuple[torch.Tensor, torch.Tensor]  # least and greatest value of each channel, ``(C,)``


class ValidBlock(Protocol):
    """The part of ``fers.fast.deploy.ValidBottleneck`` that is used here."""

    conv1: nn.Conv2d
    conv2: nn.Conv2d
    conv3: nn.Conv2d
    shortcut: nn.Conv2d | None

    def __call__(self, x: torch.Tensor, /) -> torch.Tensor:
        """Compute the block's output."""
        ...

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the input of ``conv3``."""
        ...


class Bound(nn.Module):
    """Upper bound of each channel of a convolution, from the extremes of its input.

    Each weight meets at most the highest and at least the lowest value of its input channel (interval arithmetic).

    Args:
        conv: The convolution, with a bias.
    """

    negative: torch.Tensor
    positive: torch.Tensor
    bias: torch.Tensor

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        assert conv.bias is not None
        self.register_buffer("negative", conv.weight.detach().clamp_max(0).sum((2, 3)), persistent=False)
        self.register_buffer("positive", conv.weight.detach().clamp_min(0).sum((2, 3)), persistent=False)
        self.register_buffer("bias", conv.bias.detach().clone(), persistent=False)

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        """Compute the bounds, ``(K,)`` or ``(N, K)``.

        Args:
            low: Least values of the input's channels, ``(C,)`` or ``(N, C)``; the last channels may be missing where they
                are zero.
            high: Greatest values, of the same shape.
        """
        channels = low.shape[-1]
        return F.linear(low, self.negative[:, :channels], self.bias) + F.linear(high, self.positive[:, :channels])


class ActiveChannels(nn.Module):
    """Run the blocks and the FPL of a deployed Spe-FEN on the channels that a scene can make positive.

    Args:
        blocks: The blocks, their channels in the order of ``order_channels``. They are not kept here.
        fpl: The two 1x1 convolutions of the FPL, likewise.
    """

    def __init__(self, blocks: Iterable[ValidBlock], fpl: Sequence[nn.Conv2d]):
        super().__init__()
        self.blocks = nn.ModuleList()
        for block in blocks:
            convs = {"conv1": block.conv1, "conv2": block.conv2, "conv3": block.conv3, "shortcut": block.shortcut}
            self.blocks.append(nn.ModuleDict({name: Bound(conv) for name, conv in convs.items() if conv is not None}))
        self.middle = Bound(fpl[0])

    def forward(self, x: torch.Tensor, blocks: Iterable[ValidBlock], fpl: Sequence[nn.Conv2d]) -> torch.Tensor:
        """Turn the CWL's output, with its border, into F_spe: as ``blocks`` and ``fpl`` would, one after the other."""
        for bounds, block in zip(self.blocks, blocks, strict=True):
            x = _bottleneck(x, block, bounds)
        x, extremes = _drop_trailing_zeros(x)
        x = _pixelwise(x, fpl[0], _active(self.middle(*extremes))).relu_()
        return _pixelwise(x, fpl[1], fpl[1].out_channels).relu_()


def _bottleneck(x: torch.Tensor, block: ValidBlock, bounds: Any) -> torch.Tensor:
    """Run a valid bottleneck on its active channels. Input and output may lack the last channels, which are zero."""
    # with a shortcut, x is the CWL's output, of either sign
    x, extremes = _drop_trailing_zeros(x) if block.shortcut is None else (x, _extremes(x))
    y = _pixelwise(x, block.conv1, _active(bounds["conv1"](*extremes)))
    y, between = _drop_trailing_zeros(y.relu_())
    width = _active(bounds["conv2"](*between))
    weight, bias = block.conv2.weight, block.conv2.bias
    assert bias is not None
    y = F.conv2d(y, weight[:width, : y.shape[1]], bias[:width])
    y, between = _drop_trailing_zeros(y.relu_())
    x = x[:, :, 1:-1, 1:-1]
    if block.shortcut is None:
        y = _pixelwise(y, block.conv3, block.conv3.out_channels)
        y[:, : x.shape[1]] += x
    else:
        width = _active(bounds["conv3"](*between) + bounds["shortcut"](*extremes))
        y = _pixelwise(y, block.conv3, width)
        y += _pixelwise(x, block.shortcut, width)
    return y.relu_()


def _pixelwise(x: torch.Tensor, conv: nn.Conv2d, width: int) -> torch.Tensor:
    """Run a 1x1 convolution on some of its channels: one product of two matrices, without copies of the weights.

    Args:
        x: ``(N, C, H, W)``; the last channels may be missing where they are zero.
        conv: The convolution, with a bias.
        width: Number of output channels, from the first.

    Returns:
        ``(N, width, H, W)``, channels last in memory.
    """
    pixels = x.permute(0, 2, 3, 1)
    assert conv.bias is not None
    y = F.linear(pixels.flatten(0, 2), conv.weight.flatten(1)[:width, : x.shape[1]], conv.bias[:width])
    return y.unflatten(0, pixels.shape[:3]).permute(0, 3, 1, 2)


@torch.no_grad()
def order_channels(cwl: nn.Conv2d, blocks: Sequence[ValidBlock], fpl: Sequence[nn.Conv2d]) -> None:
    """Put the channels that few scenes make positive behind the others, in place.

    They are found with made-up scenes, from dark to bright in steps of contrast. Their spectra are flat or fall with the
    wavelength, as under sunlight.
    """
    bands = cwl.in_channels
    contrast, brightness = torch.linspace(0, 1, 11).to(cwl.weight), torch.linspace(0, 0.2, 7).to(cwl.weight)
    spectra = torch.stack([torch.linspace(1, 0, bands).to(cwl.weight) ** power for power in (0, 1, 2)])
    probes = torch.einsum("t,sc,b->tscb", contrast, spectra, brightness).flatten(0, 1)[:, :, None] - 0.1
    x = F.pad(cwl(probes.repeat(1, 1, probes.shape[3], 1)), [len(blocks)] * 4, mode="reflect")

    entry, *followers = blocks
    assert entry.shortcut is not None
    between_blocks = _order(_upper_bound(entry.conv3, entry.inner(x)) + _upper_bound(entry.shortcut, x))
    for block in blocks:
        first = _order(_upper_bound(block.conv1, x))
        second = _order(_upper_bound(block.conv2, block.conv1(x).relu_()))
        x = block(x)
        keep_channels(first, [block.conv1], [block.conv2])
        keep_channels(second, [block.conv2], [block.conv3])
    keep_channels(_order(_upper_bound(fpl[0], x)), [fpl[0]], [fpl[1]])
    # one order for all that goes from block to block, since each adds its input to its output
    producers, consumers = [entry.shortcut, *(b.conv3 for b in blocks)], [fpl[0], *(b.conv1 for b in followers)]
    keep_channels(between_blocks, producers, consumers)


def keep_channels(channels: torch.Tensor, producers: Iterable[nn.Conv2d], consumers: Iterable[nn.Conv2d]) -> None:
    """Keep only these channels between the convolutions, in this order, in place."""
    for conv in producers:
        assert conv.bias is not None
        conv.weight, conv.bias = _parameter(conv.weight[channels]), _parameter(conv.bias[channels])
        conv.out_channels = len(channels)
    for conv in consumers:
        conv.weight, conv.in_channels = _parameter(conv.weight[:, channels]), len(channels)


def round_up(channels: int) -> int:
    """Round up to a multiple of ``GROUP``, at least one group."""
    return max(-(-channels // GROUP), 1) * GROUP


def _parameter(tensor: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(tensor.detach().clone(memory_format=torch.preserve_format), requires_grad=False)


def _upper_bound(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """Upper bounds of the channels, image by image, ``(N, K)``."""
    return Bound(conv)(x.amin((2, 3)), x.amax((2, 3)))


def _order(bound: torch.Tensor) -> torch.Tensor:
    """Channels by the number of images in which they may be positive, the highest first."""
    return (bound > 0).sum(0).argsort(descending=True, stable=True)


def _active(bound: torch.Tensor) -> int:
    """Number of channels, from the first, that hold all that a ReLU may leave positive; a multiple of ``GROUP``."""
    possible = (bound <= 0).logical_not_().nonzero()  # a NaN is possible
    return min(round_up(int(possible[-1]) + 1 if len(possible) else 0), len(bound))


def _extremes(x: torch.Tensor) -> Extremes:
    pixels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    # four at a time: a row of 80 or 104 values, no multiple of 32, takes six times as long to reduce
    if rest := len(pixels) % 4:
        pixels = torch.cat([pixels, pixels[-1:].expand(4 - rest, -1)])
    rows = pixels.view(-1, 4, x.shape[1]).flatten(1)
    return rows.amin(0).view(4, -1).amin(0), rows.amax(0).view(4, -1).amax(0)


def _drop_trailing_zeros(x: torch.Tensor) -> tuple[torch.Tensor, Extremes]:
    """Cut off the last channels of x >= 0 that are zero; return the rest and its extremes."""
    low, high = _extremes(x)
    width = _active(high)
    return x[:, :width], (low[:width], high[:width])
