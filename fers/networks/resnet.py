"""The residual stages of the frozen networks, under torchvision's names, so that its ImageNet weights fit.

``tests/test_resnet.py`` holds them to torchvision's own: equal names, shapes and results. Importing torchvision costs
two seconds of start-up, for its detection models and data sets.

Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016; Zagoruyko and Komodakis, Wide Residual
Networks, BMVC 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ``(N, inplanes, H, W)`` to ``(N, planes, H / stride, W / stride)``."""

    def __init__(self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the block's output."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut: ``(N, inplanes, H, W)`` to ``(N, 4 planes, H / stride, W / stride)``.

    Args:
        inplanes: Channels of the input.
        planes: A quarter of the output's channels.
        stride: Stride of the 3x3 convolution.
        downsample: The shortcut; None for the input itself.
        base_width: The inner width is ``planes * base_width / 64``: 64 for a ResNet, 128 for a wide one.
    """

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None, base_width: int = 64
    ):
        super().__init__()
        width, out = planes * base_width // 64, 4 * planes
        self.conv1: nn.Module = nn.Conv2d(inplanes, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2: nn.Module = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3: nn.Module = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the block's output."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


@dataclass(frozen=True)
class ResNet:
    """A row of ``RESNETS``.

    Attributes:
        blocks: Residual blocks of layer1, layer2, ...
        wide: Wide bottlenecks instead of basic blocks.
        url: torchvision's IMAGENET1K_V1 weights. The name ends in the first digits of their sha256.
        megabytes: Size of that file.
    """

    blocks: tuple[int, ...]
    wide: bool
    url: str
    megabytes: int

    def layers(self, names: tuple[str, ...]) -> nn.Sequential:
        """Make children of the network by name, in the order given, such as ``("conv1", "bn1", "layer1")``."""
        chosen = nn.Sequential()
        for name in names:
            chosen.add_module(name, self._stage(int(name[-1])) if name.startswith("layer") else _STEM[name]())
        return chosen

    def _stage(self, number: int) -> nn.Sequential:
        planes, stride = 32 << number, 1 if number == 1 else 2
        block = partial(Bottleneck, base_width=128) if self.wide else BasicBlock
        out = planes * (4 if self.wide else 1)
        inplanes = 64 if number == 1 else out // 2
        shortcut = None
        if stride != 1 or inplanes != out:
            shortcut = nn.Sequential(nn.Conv2d(inplanes, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        first = block(inplanes, planes, stride, shortcut)
        return nn.Sequential(first, *(block(out, planes) for _ in range(self.blocks[number - 1] - 1)))


_STEM = {
    "conv1": lambda: nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
    "bn1": lambda: nn.BatchNorm2d(64),
    "relu": lambda: nn.ReLU(inplace=True),
    "maxpool": lambda: nn.MaxPool2d(3, stride=2, padding=1),
}
_URL = "https://download.pytorch.org/models/"
RESNETS = {
    "wide_resnet50_2": ResNet((3, 4, 6, 3), True, f"{_URL}wide_resnet50_2-95faca4d.pth", 132),
    "wide_resnet101_2": ResNet((3, 4, 23, 3), True, f"{_URL}wide_resnet101_2-32ee1156.pth", 243),
    "resnet34": ResNet((3, 4, 6, 3), False, f"{_URL}resnet34-b627a593.pth", 83),
}
"""The ResNets by torchvision's names."""
