"""PDBSNet: each pixel is rebuilt by a network that cannot see it, from a mosaic of thinned-out images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from fers.detectors.base import minmax
from fers.detectors.trained import SceneTrained

_CHANNELS = 64  # channels
DILATED_BLOCKS = 6
STEP_SIZE = 1e-4
ADAM_BETAS = (0.5, 0.999)
L2 = 1e-5  # weight decay, a part of the gradient


class BlindConv(nn.Conv2d):
    """A convolution whose centre weight counts as zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve a map, each pixel from those around it."""
        sees = torch.ones_like(self.weight)
        sees[:, :, self.kernel_size[0] // 2, self.kernel_size[1] // 2] = 0
        return self._conv_forward(x, self.weight * sees, self.bias)


class DilatedBlock(nn.Module):
    """A 3 x 3 convolution with steps of ``dilation`` px and a 1 x 1 convolution, added to their input."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        dilated = nn.Conv2d(width, width, 3, dilation=dilation, padding=dilation)
        self.body = nn.Sequential(dilated, nn.ReLU(), nn.Conv2d(width, width, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the block's output, of its input's shape."""
        return x + self.body(x)


class PDBSNetwork(nn.Module):
    """The blind-spot network: no output pixel depends on the input pixel at its place.

    It runs over the mosaic that ``thin`` makes, so that neighbours there are ``factor`` px apart.

    Args:
        bands: B.
        factor: Distance of neighbours, px.
        width: Channels; 64 in the paper.
        blocks: Dilated blocks of each branch; 6 in the paper.
        seed: Seed of PyTorch's default initial weights, independent of the global generator.

    Source: Wang, Zhuang, Gao, Sun, Huang and Plaza, IEEE TGRS 61, 5511914, 2023, 10.1109/TGRS.2023.3276175.
    """

    def __init__(
        self, bands: int, factor: int = 3, width: int = _CHANNELS, blocks: int = DILATED_BLOCKS, seed: int = 0
    ):
        super().__init__()
        self.factor = factor
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Sequential(nn.Conv2d(bands, width, 1), nn.ReLU())
            self.branch2 = _blind_branch(width, blocks, 2)
            self.branch3 = _blind_branch(width, blocks, 3)
            self.tail = nn.Sequential(
                *(nn.Conv2d(2 * width, width, 1), nn.ReLU()),
                *(nn.Conv2d(width, width // 2, 1), nn.ReLU()),
                nn.Conv2d(width // 2, bands, 1),
            )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Rebuild images, ``(N, B, H, W)``; sides that ``factor`` does not divide are reflected at their end."""
        height, width = image.shape[2:]
        padded = F.pad(image, [0, -width % self.factor, 0, -height % self.factor], mode="reflect")
        z = self.head(thin(padded, self.factor))
        z = self.tail(torch.cat([self.branch2(z), self.branch3(z)], dim=1))
        return unthin(z, self.factor)[:, :, :height, :width]


def thin(image: torch.Tensor, factor: int) -> torch.Tensor:
    """Rearrange images to mosaics: part (i, j) holds the pixels (i + factor a, j + factor b). ``(N, B, H, W)`` to the same."""
    n, bands, height, width = image.shape
    parts = image.reshape(n, bands, height // factor, factor, width // factor, factor)
    return parts.permute(0, 1, 3, 2, 5, 4).reshape(image.shape)


def unthin(mosaic: torch.Tensor, factor: int) -> torch.Tensor:
    """Rearrange mosaics back to images."""
    n, bands, height, width = mosaic.shape
    parts = mosaic.reshape(n, bands, factor, height // factor, factor, width // factor)
    return parts.permute(0, 1, 3, 2, 5, 4).reshape(mosaic.shape)


def fit_blindly(network: nn.Module, image: torch.Tensor, steps: int) -> Iterator[float]:
    """Fit a network to an image ``(1, B, H, W)`` by the mean absolute error, in place; yield the loss of each step."""
    optimiser = torch.optim.Adam(network.parameters(), lr=STEP_SIZE, betas=ADAM_BETAS, weight_decay=L2)
    for _ in range(steps):
        loss = F.l1_loss(network(image), image)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.item()


class PDBSNet(SceneTrained):
    """PDBSNet as its authors' code runs: a blind-spot network is trained on each image, which is one batch.

    The image is scaled to [0, 1] by one minimum and maximum. The score is the mean squared error over bands.

    The convolutions see all pixels, so none can be left out. The paper chooses ``factor`` for each scene; 3 is the default of
    the released code. Objects wider than ``factor`` px are neighbours of themselves.

    Args:
        seed: Seed of the initial weights.
        epochs: Steps, each on the whole image; 0 gives the scores of the untrained network, a control.
        factor: Distance in pixels of neighbours in the mosaic.

    Raises:
        ValueError: ``epochs`` is negative or ``factor`` below 1; on calling it, a side below ``factor``.

    Source: Wang, Zhuang, Gao, Sun, Huang and Plaza, "PDBSNet: Pixel-Shuffle Downsampling Blind-Spot Reconstruction Network for
    Hyperspectral Anomaly Detection", IEEE TGRS 61, 5511914, 2023, 10.1109/TGRS.2023.3276175; constants of the official code.

    Example:
        >>> PDBSNet(epochs=1)(torch.rand(1, 5, 12, 10)).shape
        torch.Size([1, 12, 10])
    """

    name = "PDBSNet"

    def __init__(self, seed: int = 0, epochs: int = 3000, factor: int = 3):
        super().__init__(seed, epochs)
        if factor < 1:
            raise ValueError(f"PDBSNet: factor is at least 1; got {factor}.")
        self.factor = factor

    def train(self, image: torch.Tensor, left_out: torch.Tensor | None = None) -> Iterator[Callable[[], torch.Tensor]]:
        """Train on one image; see ``SceneTrained``. No pixel is left out."""
        if min(image.shape[2:]) < self.factor:
            raise ValueError(
                f"PDBSNet: a scene of {image.shape[2]} x {image.shape[3]} px; at least {self.factor} px on each side can be "
                "thinned out. Give a larger cut of the scene, or a smaller factor (option factor)."
            )
        image = minmax(image.flatten(2)).view_as(image)
        network = PDBSNetwork(image.shape[1], self.factor, seed=self.seed).to(image.device)
        score = partial(_mean_squared_error, network, image)
        yield score
        for _ in fit_blindly(network, image, self.epochs):
            yield score


@torch.no_grad()
def _mean_squared_error(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    return (network(image) - image).square().mean(1)


def _blind_branch(width: int, blocks: int, reach: int) -> nn.Sequential:
    """Make a branch: steps of ``reach`` px from a ring around a pixel never lead back to it."""
    blind = BlindConv(width, width, 2 * reach - 1, padding=reach - 1)
    ones = [layer for _ in range(2) for layer in (nn.Conv2d(width, width, 1), nn.ReLU())]
    dilated = [DilatedBlock(width, reach) for _ in range(blocks)]
    return nn.Sequential(blind, nn.ReLU(), *ones, *dilated, nn.Conv2d(width, width, 1), nn.ReLU())
