"""The autoencoder detector: the error of a small network that is trained for some steps on the scene itself."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn
from tqdm import tqdm

from fers.detectors.base import Extent


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


class AE:
    """The paper's lightweight autoencoder baseline, trained from scratch on each image.

    Adam with learning rate 1e-3 on the mean squared error of the whole image, which is scaled to [0, 1] by its own
    minimum and maximum. The score is the mean over bands of the squared error.

    Args:
        seed: Seed of the initial weights, the same for each image.
        iterations: Training steps.
        scored: ``after`` each step: the scores of steps 1 to 50. ``before`` each step, as the released code does:
            of iterations 0 to 49, so the last one has had one step less.

    Raises:
        ValueError: ``iterations`` is below 1, or ``scored`` is neither.

    Source: Jin, Zhu and Guo, section IV-B; docs/fidelity.md#ae.

    Example:
        >>> cube = torch.rand(1, 8, 12, 12, generator=torch.Generator().manual_seed(0))
        >>> AE(iterations=3)(cube).shape
        torch.Size([1, 12, 12])
    """

    def __init__(self, seed: int = 0, iterations: int = 50, scored: Literal["after", "before"] = "after"):
        if iterations < 1 or scored not in ("after", "before"):
            raise ValueError(f"AE needs iterations >= 1 and scored 'after' or 'before'; got {iterations}, '{scored}'.")
        self.seed, self.iterations, self.scored = seed, iterations, scored

    def steps(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> Iterator[torch.Tensor]:
        """Yield the score map of every iteration.

        Args:
            cube: ``(1, C, H, W)``: the autoencoder is trained on one image.
            left_out: ``(1, H, W)`` bool: pixels that do not count in range and loss; they are scored nevertheless.

        Yields:
            ``(1, H, W)`` float32, >= 0.

        Raises:
            ValueError: There are several images, or a value is NaN or infinite.
        """
        if cube.ndim != 4 or len(cube) != 1:
            raise ValueError(f"the AE detector takes one image, 1 x C x H x W; got {tuple(cube.shape)}.")
        cube = cube.float()
        if not bool(cube.isfinite().all()):
            raise ValueError("the cube holds NaN or infinite values. Cut those pixels away, or fill them.")
        target = Extent.of(cube, left_out).whole().scale(cube)
        with torch.enable_grad():
            network = PixelAutoencoder(cube.shape[1], self.seed).to(cube.device)
            optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
            for step in tqdm(range(self.iterations + 1), "AE", unit="step", leave=False, disable=None, delay=2):
                error = (network(target) - target).square()
                if step > 0 if self.scored == "after" else step < self.iterations:
                    yield error.detach().mean(1)
                if step < self.iterations:
                    optimiser.zero_grad()
                    (error.mean() if left_out is None else error.mean(1)[~left_out].mean()).backward()
                    optimiser.step()

    def __call__(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """Score each image by its last iteration: ``(N, C, H, W)`` to ``(N, H, W)`` float32, >= 0."""
        maps = []
        for number, image in enumerate(cube.split(1)):
            *_, last = self.steps(image, None if left_out is None else left_out[number : number + 1])
            maps.append(last)
        return torch.cat(maps)
