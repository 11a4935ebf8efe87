"""Initial weights: each tensor is drawn from its own generator, so a seed means the same network everywhere.

A tensor's draw depends on the seed and on the tensor's full name, and on nothing else: not on the order of the layers, on
other layers, or on the version of a library.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn


def seeded(name: str, seed: int) -> np.random.RandomState:
    """Make a generator for one tensor.

    Args:
        name: The tensor's name in the whole network.
        seed: From 0 to 2^32 - 1.

    Returns:
        NumPy's legacy ``RandomState``, whose draws never change.
    """
    return np.random.RandomState([seed, zlib.crc32(name.encode())])


def normal(name: str, seed: int, shape: Iterable[int], std: float) -> torch.Tensor:
    """Draw a float64 tensor from N(0, std^2)."""
    return torch.from_numpy(seeded(name, seed).standard_normal(tuple(shape)) * std)


def uniform(name: str, seed: int, shape: Iterable[int], bound: float) -> torch.Tensor:
    """Draw a float64 tensor from U(-bound, bound)."""
    return torch.from_numpy(seeded(name, seed).uniform(-bound, bound, tuple(shape)))


def xavier_std(weight: torch.Tensor) -> float:
    """Xavier's standard deviation of a convolution's weight, ``(out, in, h, w)``."""
    window = weight.shape[2] * weight.shape[3]
    return (2.0 / (window * (weight.shape[0] + weight.shape[1]))) ** 0.5


def kaiming_std(weight: torch.Tensor) -> float:
    """Kaiming's standard deviation (fan-out, ReLU) of a convolution's weight, ``(out, in, h, w)``."""
    return (2.0 / (weight.shape[0] * weight.shape[2] * weight.shape[3])) ** 0.5


@torch.no_grad()
def init_xavier(module: nn.Module, name: str, seed: int) -> None:
    """Set Xavier-normal weights and zero biases, in place.

    Args:
        module: Its convolutions are initialised.
        name: Its name in the whole network.
        seed: The seed.
    """
    for key, parameter in module.named_parameters():
        if parameter.ndim == 4:
            parameter.copy_(normal(f"{name}.{key}", seed, parameter.shape, xavier_std(parameter)))
        else:
            parameter.zero_()


@torch.no_grad()
def init_uniform(module: nn.Module, name: str, seed: int) -> None:
    """Draw convolution weights from U(-0.1, 0.1), biases from U(+-1 / sqrt(fan_in)), in place; batch norms stay.

    Args:
        module: Its convolutions are initialised.
        name: Its name in the whole network.
        seed: The seed.
    """
    for child_name, child in module.named_modules():
        if isinstance(child, nn.Conv2d):
            fan_in = child.in_channels * child.kernel_size[0] * child.kernel_size[1]
            for kind, bound in (("weight", 0.1), ("bias", fan_in**-0.5)):
                parameter = getattr(child, kind)
                if parameter is not None:
                    parameter.copy_(uniform(f"{name}.{child_name}.{kind}", seed, parameter.shape, bound))


@torch.no_grad()
def init_reverse_distillation(module: nn.Module, name: str, seed: int) -> None:
    """Draw Kaiming-normal (fan-out) convolutions, and transposed ones by PyTorch's default, in place; batch norms stay.

    PyTorch's default is U(+-1 / sqrt(fan_in)), and it counts a transposed convolution's output channels as its fan-in.

    Args:
        module: Its convolutions, all without bias, are initialised.
        name: Its name in the whole network.
        seed: The seed.

    Source: RD4AD (Deng and Li, CVPR 2022) and the released code do the same; the paper does not say. See
        docs/fidelity.md#initial-transposed-convolutions.
    """
    for child_name, child in module.named_modules():
        if isinstance(child, (nn.Conv2d, nn.ConvTranspose2d)):
            weight, key = child.weight, f"{name}.{child_name}.weight"
            if isinstance(child, nn.Conv2d):
                weight.copy_(normal(key, seed, weight.shape, kaiming_std(weight)))
            else:
                fan_in = weight.shape[1] * weight.shape[2] * weight.shape[3]
                weight.copy_(uniform(key, seed, weight.shape, fan_in**-0.5))
