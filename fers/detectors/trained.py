"""The frame of detectors that are trained: checks of their input, and one run of training for each image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from tqdm import tqdm

BATCHES = 10  # of an epoch of RGAE and GAED


class SceneTrained(ABC):
    """A detector that trains a network on each image from scratch, and scores the image by that network.

    A subclass that can leave pixels out says so by a ``__call__`` with ``left_out``.

    Args:
        seed: Seed of initial weights and orders, whatever the state of the global generator.
        epochs: Passes over the image; 0 gives the scores of the untrained network, a control.

    Raises:
        ValueError: ``epochs`` is negative.
    """

    name: ClassVar[str]

    def __init__(self, seed: int, epochs: int):
        if epochs < 0:
            raise ValueError(f"{self.name}: epochs is at least 0; got {epochs}.")
        self.seed, self.epochs = seed, epochs

    @abstractmethod
    def train(self, image: torch.Tensor, left_out: torch.Tensor | None = None) -> Iterator[Callable[[], torch.Tensor]]:
        """Train on one image; gradients must be switched on.

        Args:
            image: ``(1, C, H, W)`` float32.
            left_out: ``(1, H, W)`` bool, or None.

        Yields:
            Before the first epoch and after each, a function that scores the image by the present network:
            ``(1, H, W)`` float32, >= 0.
        """

    def __call__(self, cube: torch.Tensor) -> torch.Tensor:
        """Score each image by its trained network.

        Args:
            cube: ``(N, C, H, W)`` of any range.

        Returns:
            ``(N, H, W)`` float32, >= 0. Higher is more anomalous.

        Raises:
            ValueError: The cube has another number of axes, holds NaN or infinity, or an image without contrast.
        """
        return self._scores(cube)

    def _scores(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        check_cube(self.name, cube)
        maps = []
        with torch.inference_mode(False), torch.enable_grad():
            images = tqdm(
                cube.clone().float().split(1), self.name, unit="scene", disable=None if len(cube) > 1 else True
            )
            outs = [None] * len(cube) if left_out is None else left_out.split(1)
            for image, out in zip(images, outs, strict=True):
                _check_contrast(self.name, image if out is None else image[:, :, ~out[0]])
                rounds = self.train(image, out)
                score = next(rounds)
                for score in tqdm(rounds, self.name, self.epochs, unit="epoch", leave=False, disable=None, delay=2):  # noqa: B007
                    pass
                maps.append(score())
        return torch.cat(maps)


def check_cube(name: str, cube: torch.Tensor) -> None:
    """Raise ValueError unless the cube of the detector ``name`` is ``(N, C, H, W)`` and finite."""
    if cube.ndim != 4:
        raise ValueError(f"{name} takes cubes N x C x H x W; got {tuple(cube.shape)}.")
    if not cube.isfinite().all():
        raise ValueError(f"{name}: the cube holds NaN or infinity. Fill or cut away these pixels first.")


def tenths(order: torch.Tensor) -> list[torch.Tensor]:
    """Cut an order of pixels, ``(n,)``, into ten consecutive batches; what is left over makes the last ones larger by one."""
    size, more = divmod(len(order), BATCHES)
    return [batch for batch in order.split([size] * (BATCHES - more) + [size + 1] * more) if len(batch)]


def _check_contrast(name: str, pixels: torch.Tensor) -> None:
    """Raise ValueError unless some of the pixels that count, ``(1, C, ...)``, differ."""
    spectra = pixels.flatten(2)
    if not spectra.shape[2]:
        raise ValueError(f"{name}: all pixels are left out. There is nothing to train on.")
    if (spectra == spectra[:, :, :1]).all():
        raise ValueError(f"{name}: every pixel of an image has the same spectrum. It has no anomalies: leave it out.")
