"""Folding and layout that make a training step faster; its result stays the same within float32's rounding."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_ALIKE = 100  # bands: with so many, both layouts are as fast


def fold_batch_norms(layers: nn.Module) -> None:
    """Fold the batch norms of frozen torchvision layers in eval mode into the convolutions before them, in place."""
    for module in list(layers.modules()):
        if isinstance(module, nn.Sequential) and [type(m) for m in module] == [nn.Conv2d, nn.BatchNorm2d]:  # a shortcut
            module[0], module[1] = fuse_conv_bn_eval(*module), nn.Identity()
        for i in (1, 2, 3):
            conv, norm = getattr(module, f"conv{i}", None), getattr(module, f"bn{i}", None)
            if conv is not None and norm is not None:
                setattr(module, f"conv{i}", fuse_conv_bn_eval(conv, norm))
                setattr(module, f"bn{i}", nn.Identity())
    layers.requires_grad_(False)


def memory_format(bands: int, device: torch.device) -> torch.memory_format:
    """Choose the layout of cubes and weights in which a training step is fastest.

    Channels last nearly everywhere. On CPUs without AVX-512 the gradients of 3x3 convolutions of many channels take 1.4 times
    as long in it (docs/performance.md). It depends on nothing that changes from start to start, as the last bits do on it.
    """
    slow = device.type == "cpu" and bands > _ALIKE and torch.backends.cpu.get_cpu_capability() == "AVX2"
    return torch.contiguous_format if slow else torch.channels_last
