"""Leave out the channels of Spe-FEN that a scene cannot make positive. Only ``fers.fast.deploy`` uses this.

The cube lies within 0.1 of zero, so the biases of layer1 decide much. About half of ImageNet's or trained channels are zero
all over a scene. An upper bound on each channel, from the extremes of a convolution's input, shows most of them before
they are computed. Which ones they are changes little from scene to scene. So the channels are ordered once, those that few
scenes make positive last. A scene then needs only the first channels of each convolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

GROUP = 8  # channels: a convolution whose width is not a multiple takes up to 1.5 times as long


def active_features(x: torch.Tensor, blocks: Iterable[Any], fpl: Any) -> torch.Tensor:
    """Run the blocks and the FPL of a deployed Spe-FEN, on the channels that this scene can make positive.

    Args:
        x: Output of the CWL with its border, ``(N, C, H, W)``.
        blocks: The blocks (``fers.fast.deploy.ValidBottleneck``), their channels in the order of ``order_channels``.
        fpl: The two 1x1 convolutions of the FPL, likewise.

    Returns:
        F_spe.
    """
    extremes = _extremes(x)
    for block in blocks:
        y, inner = _drop_trailing_zeros(_first(x, block.conv1, upper_bound(block.conv1, *extremes)).relu_())
        y, inner = _drop_trailing_zeros(_first(y, block.conv2, upper_bound(block.conv2, *inner)).relu_())
        x = x[:, :, 1:-1, 1:-1]
        if block.shortcut is None:
            y = _first(y, block.conv3)
            y[:, : x.shape[1]] += x
        else:
            bound = upper_bound(block.conv3, *inner) + upper_bound(block.shortcut, *extremes)
            y = _first(y, block.conv3, bound)
            y += _first(x, block.shortcut, bound)
        x, extremes = _drop_trailing_zeros(y.relu_())
    return _first(_first(x, fpl[0], upper_bound(fpl[0], *extremes)).relu_(), fpl[1]).relu_()


def upper_bound(conv: nn.Conv2d, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Bound each channel of a convolution: each weight meets at most the highest, at least the lowest value of its channel.

    Args:
        conv: The convolution, with a bias.
        low: Least values of the input's channels, ``(C,)`` or ``(N, C)``; the last channels may be missing where they are
            zero.
        high: Greatest values, of the same shape.

    Returns:
        The bounds, ``(K,)`` or ``(N, K)``.
    """
    weight = conv.weight[:, : low.shape[-1]]
    positive, negative = weight.clamp_min(0).sum((2, 3)), weight.clamp_max(0).sum((2, 3))
    return F.linear(high, positive, conv.bias) + F.linear(low, negative)


@torch.no_grad()
def order_channels(cwl: nn.Conv2d, blocks: Sequence[Any], fpl: Sequence[nn.Conv2d]) -> float:
    """Put the channels that few scenes make positive behind the others, in place.

    They are found with made-up scenes, from dark to bright in steps of contrast. Their spectra are flat or fall with the
    wavelength, as under sunlight.

    Returns:
        The mean share of channels that one of these scenes may make positive, in [0, 1].
    """
    bands = cwl.in_channels
    contrast, brightness = torch.linspace(0, 1, 11).to(cwl.weight), torch.linspace(0, 0.2, 7).to(cwl.weight)
    spectra = torch.stack([torch.linspace(1, 0, bands).to(cwl.weight) ** power for power in (0, 1, 2)])
    probes = torch.einsum("t,sc,b->tscb", contrast, spectra, brightness).flatten(0, 1)[:, :, None] - 0.1
    x = F.pad(cwl(probes.repeat(1, 1, probes.shape[3], 1)), [len(blocks)] * 4, mode="reflect")

    shares = []

    def order(bound: torch.Tensor) -> torch.Tensor:  # by the number of images in which a channel may be positive
        shares.append(float((bound > 0).float().mean()))
        return (bound > 0).sum(0).argsort(descending=True, stable=True)

    def bound(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:  # image by image
        return upper_bound(conv, x.amin((2, 3)), x.amax((2, 3)))

    entry, *followers = blocks
    between_blocks = order(bound(entry.conv3, entry.inner(x)) + bound(entry.shortcut, x))
    for block in blocks:
        first, second = order(bound(block.conv1, x)), order(bound(block.conv2, block.conv1(x).relu_()))
        x = block(x)
        keep_channels(first, [block.conv1], [block.conv2])
        keep_channels(second, [block.conv2], [block.conv3])
    keep_channels(order(bound(fpl[0], x)), [fpl[0]], [fpl[1]])
    # one order for all that goes from block to block, since each adds its input to its output
    producers, consumers = [entry.shortcut, *(b.conv3 for b in blocks)], [fpl[0], *(b.conv1 for b in followers)]
    keep_channels(between_blocks, producers, consumers)
    return sum(shares) / len(shares)


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


def _first(x: torch.Tensor, conv: nn.Conv2d, bound: torch.Tensor | None = None) -> torch.Tensor:
    """Compute the first channels of a convolution, those that the bound lets a ReLU leave positive; None for all.

    The last channels of the input may be missing where they are zero.
    """
    assert conv.bias is not None
    width = conv.out_channels if bound is None else _active(bound)
    return F.conv2d(x, conv.weight[:width, : x.shape[1]], conv.bias[:width])


def _active(bound: torch.Tensor) -> int:
    """Number of channels, from the first, that hold all that a ReLU may leave positive; a multiple of ``GROUP``."""
    possible = (bound <= 0).logical_not_().nonzero()  # a NaN is possible
    return min(round_up(int(possible[-1]) + 1 if len(possible) else 0), len(bound))


def _extremes(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and greatest value of each channel, ``(C,)``."""
    pixels = x.permute(
        0, 2, 3, 1
    )  # over rows first: 80 or 104 values, no multiple of 32, take six times as long to reduce
    return pixels.amin((0, 1)).amin(0), pixels.amax((0, 1)).amax(0)


def _drop_trailing_zeros(x: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Cut off the last channels of x >= 0 that are zero; return the rest and its extremes."""
    low, high = _extremes(x)
    width = _active(high)
    return x[:, :width], (low[:width], high[:width])
