"""The autoencoder detector: what a small network, trained for some steps on the scene itself, reconstructs badly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import nn

from detectors.base import minmax

ITERATIONS = 50
LEARNING_RATE = 1e-3


class PixelAutoencoder(nn.Sequential):
    """Sigmoid, 1x1 convolutions C-128-64-32, tanh, 32-64-128-C, sigmoid: each pixel on its own.

    The convolutions follow each other with nothing between. The weights are PyTorch's default, drawn from ``seed``
    whatever the state of the global generator.
    """

    def __init__(self, bands: int, seed: int = 0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            widths = (bands, 128, 64, 32)
            encoder = [nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(widths)]
            decoder = [nn.Conv2d(b, a, 1) for a, b in reversed(list(itertools.pairwise(widths)))]
        super().__init__(nn.Sigmoid(), *encoder, nn.Tanh(), *decoder, nn.Sigmoid())


def ae_iterations(cube: torch.Tensor, iterations: int = ITERATIONS, seed: int = 0) -> Iterator[torch.Tensor]:
    """The AE's score map after each of its training steps.

    Args:
        cube: ``(1, C, H, W)``: the autoencoder is trained on one image. Scaled to [0, 1] here by its minimum and maximum.
        iterations: Training steps: Adam, learning rate 1e-3, on the mean squared error of the whole image.
        seed: For the initial weights.

    Yields:
        ``(1, H, W)`` float32, >= 0: the mean over bands of the squared error, after 1, 2, ... steps.

    Source: SPEC 6.
    """
    if cube.ndim != 4 or len(cube) != 1:
        raise ValueError(f"the AE detector takes one image, 1 x C x H x W; got {tuple(cube.shape)}.")
    target = minmax(cube.float().flatten(2)).view_as(cube)
    with torch.enable_grad():
        network = PixelAutoencoder(cube.shape[1], seed).to(cube.device)
        optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        for step in range(iterations + 1):
            error = (network(target) - target).square()
            if step:  # the forward pass before the first step is that of the random network
                yield error.detach().mean(1)
            if step < iterations:
                optimiser.zero_grad()
                error.mean().backward()
                optimiser.step()


def ae(cube: torch.Tensor, iterations: int = ITERATIONS, seed: int = 0) -> torch.Tensor:
    """The AE's score map after its last training step; see ``ae_iterations``.

    Args:
        cube: ``(N, C, H, W)``; one autoencoder is trained for each image.
        iterations: Training steps.
        seed: For the initial weights, the same for each image.

    Returns:
        ``(N, H, W)`` float32, >= 0. Higher is more anomalous.
    """
    maps = []
    for image in cube.split(1):
        for score in ae_iterations(image, iterations, seed):  # noqa: B007  (the last one is wanted)
            pass
        maps.append(score)
    return torch.cat(maps)
