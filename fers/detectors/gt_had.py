"""GT-HAD: a gated transformer that rebuilds blocks of the scene, and anomalies only from what surrounds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

from fers.detectors.base import minmax
from fers.detectors.trained import SceneTrained

BLOCK_SIDE = 9  # px
PATCH_SIDE = 3  # px: a block is 3 x 3 patches
BLOCK_STRIDE = 3  # px between two blocks
DEPTH = 64  # D
BLOCKS_PER_STEP = 64
GATE_EVERY = 25  # epochs
SMOOTH_BANDS = 5  # that an error is averaged over; beyond the first and the last it counts as zero
SMOOTH_PIXELS = 3  # px, likewise, beyond a block
_OWN_PATCH = -100.0  # added to a patch's attention to itself in the anomaly branch
_BLOCKS_AT_ONCE = 256  # blocks whose distances to all others are computed at a time


class GTHADNetwork(nn.Module):
    """A convolution, attention among the nine patches of a block, a feed-forward part, and a convolution.

    Args:
        bands: B.
        channels: D, even; 64 in the paper.
        seed: Seed of PyTorch's default initial weights, independent of the global generator.

    Source: Lian, Wang, Sun and Huang, "GT-HAD: Gated Transformer for Hyperspectral Anomaly Detection", IEEE TNNLS, 2024.
    """

    def __init__(self, bands: int, channels: int = DEPTH, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.head = nn.Conv2d(bands, channels, 3, padding=1)
            self.norm1 = nn.LayerNorm(channels)
            self.query = nn.Linear(channels, channels // 2)
            self.norm2 = nn.LayerNorm(channels)
            self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))
            self.tail = nn.Conv2d(channels, bands, 3, padding=1)

    def forward(self, blocks: torch.Tensor, matched: torch.Tensor) -> torch.Tensor:
        """Rebuild blocks.

        Args:
            blocks: ``(n, B, 9, 9)``.
            matched: ``(n,)`` bool: True for blocks of background, whose patches see themselves too.

        Returns:
            ``(n, B, 9, 9)``.
        """
        z = self._attend(self.norm1(self.head(blocks).permute(0, 2, 3, 1)), matched)
        z = z + self.mlp(self.norm2(z))
        return self.tail(z.permute(0, 3, 1, 2))

    def _attend(self, z: torch.Tensor, matched: torch.Tensor) -> torch.Tensor:
        """Replace each patch of ``(n, 9, 9, D)`` by a mean of the block's patches, weighted by likeness; keys are queries."""
        query, value = _patches(self.query(z)), _patches(z)
        own = _OWN_PATCH * torch.eye(query.shape[1], device=z.device) * (~matched)[:, None, None]
        likeness = query @ query.mT * query.shape[2] ** -0.5 + own
        mixed = (
            (likeness.softmax(2) @ value)
            .unflatten(2, (PATCH_SIDE, PATCH_SIDE, -1))
            .unflatten(1, (BLOCK_SIDE // PATCH_SIDE, -1))
        )
        return mixed.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class Trainee:
    """A network in training on one image, and which of the image's blocks are background by its gate.

    Args:
        network: A ``GTHADNetwork``; it is trained in place.
        image: ``(1, B, H, W)`` in [0, 1].
    """

    def __init__(self, network: GTHADNetwork, image: torch.Tensor):
        self.network, self.shape = network, image.shape
        self.blocks = cut(image)
        self.matched = torch.zeros(len(self.blocks), dtype=torch.bool, device=image.device)
        self.optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)

    def epoch(self, order: torch.Tensor, gate: bool = False, batch: int = BLOCKS_PER_STEP) -> list[float]:
        """Train once on every block; then set the gate by the outputs of this epoch, if ``gate``.

        Args:
            order: A permutation of the blocks.
            gate: Whether to set the gate.
            batch: Blocks in a step.

        Returns:
            The loss of each step.
        """
        losses, rebuilt = [], torch.empty_like(self.blocks) if gate else None
        for some in order.to(self.blocks.device).split(batch):
            target = self.blocks[some]
            output = self.network(target, self.matched[some])
            loss = F.mse_loss(output, target)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            losses.append(loss.item())
            if rebuilt is not None:
                rebuilt[some] = output.detach()
        if rebuilt is not None:
            self.matched = matches(cut(fold(rebuilt, self.shape)), self.blocks)
        return losses

    @torch.no_grad()
    def score(self) -> torch.Tensor:
        """Score the image: the squared errors, smoothed within each block, folded and summed over bands, ``(1, H, W)``."""
        bands = torch.arange(self.shape[1], device=self.blocks.device)
        share = ((bands[:, None] - bands).abs() <= SMOOTH_BANDS // 2).sum(
            0
        ) / SMOOTH_BANDS  # of the bands' sum, by band
        errors = []
        for some, matched in zip(*(x.split(BLOCKS_PER_STEP) for x in (self.blocks, self.matched)), strict=True):
            error = (self.network(some, matched) - some).square()
            errors.append(torch.einsum("nbhw,b->nhw", error, share)[:, None])
        smoothed = F.avg_pool2d(torch.cat(errors), SMOOTH_PIXELS, stride=1, padding=SMOOTH_PIXELS // 2)
        return fold(smoothed, self.shape)[:, 0]


def cut(image: torch.Tensor) -> torch.Tensor:
    """Cut an image ``(1, B, H, W)``, its border repeated, into blocks of 9 x 9 px at a stride of 3 px: ``(n, B, 9, 9)``."""
    padded = F.pad(image, _margins(image.shape), mode="replicate")
    return F.unfold(padded, BLOCK_SIDE, stride=BLOCK_STRIDE)[0].T.reshape(-1, image.shape[1], BLOCK_SIDE, BLOCK_SIDE)


def fold(blocks: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Put blocks ``(n, b, 9, 9)`` back in the place that ``cut`` took them from: ``(1, b, H, W)``, the mean where they overlap."""
    left, right, top, bottom = _margins(shape)
    size = (shape[2] + top + bottom, shape[3] + left + right)
    columns = blocks.flatten(1).T[None]
    total = F.fold(columns, size, BLOCK_SIDE, stride=BLOCK_STRIDE)
    count = F.fold(torch.ones_like(columns[:, : BLOCK_SIDE**2]), size, BLOCK_SIDE, stride=BLOCK_STRIDE)
    return (total / count)[:, :, top : top + shape[2], left : left + shape[3]]


def matches(rebuilt: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """Tell for each rebuilt block whether the nearest of all blocks is its own: ``(n, B, 9, 9)`` twice to ``(n,)`` bool."""
    centre = blocks.mean(0, keepdim=True)  # small numbers: distances lose less to rounding
    a, b = (rebuilt - centre).flatten(1), (blocks - centre).flatten(1)
    nearest = torch.cat([torch.cdist(some, b).argmin(1) for some in a.split(_BLOCKS_AT_ONCE)])
    return nearest == torch.arange(len(blocks), device=blocks.device)


class GTHAD(SceneTrained):
    """GT-HAD as its authors' code runs: one small transformer is trained on the blocks of each image.

    The image is scaled to [0, 1] by one minimum and maximum. A block whose rebuilt self resembles another block more than
    itself counts as anomalous, and its patches are rebuilt from the other patches only. At first all blocks do. The
    gate that decides it is set again every 25 epochs. The score is the squared error, averaged over 5 bands x 3 x 3 px.

    Convolutions and blocks see all pixels, so none can be left out. The blocks take nine times the memory of the cube.

    Args:
        seed: Seed of the initial weights and of the order of the blocks. The authors choose one for each scene.
        epochs: Passes over the blocks; 0 gives the scores of the untrained network, a control.

    Raises:
        ValueError: ``epochs`` is negative.

    Source: Lian, Wang, Sun and Huang, "GT-HAD: Gated Transformer for Hyperspectral Anomaly Detection", IEEE TNNLS, 2024,
    ieeexplore 10432978; constants of the official code.

    Example:
        >>> GTHAD(epochs=1)(torch.rand(1, 5, 12, 10)).shape
        torch.Size([1, 12, 10])
    """

    name = "GT-HAD"

    def __init__(self, seed: int = 0, epochs: int = 150):
        super().__init__(seed, epochs)

    def train(self, image: torch.Tensor, left_out: torch.Tensor | None = None) -> Iterator[Callable[[], torch.Tensor]]:
        """Train on one image; see ``SceneTrained``. No pixel is left out."""
        network = GTHADNetwork(image.shape[1], seed=self.seed).to(image.device)
        trainee = Trainee(network, minmax(image.flatten(2)).view_as(image))
        generator = torch.Generator().manual_seed(self.seed)
        yield trainee.score
        for epoch in range(1, self.epochs + 1):
            order = torch.randperm(len(trainee.blocks), generator=generator)
            trainee.epoch(order, gate=epoch % GATE_EVERY == 0 and epoch < self.epochs)
            yield trainee.score


def _patches(z: torch.Tensor) -> torch.Tensor:
    """Join the pixels of each patch: ``(n, 9, 9, c)`` to ``(n, 9, 9 c)``."""
    sides = (BLOCK_SIDE // PATCH_SIDE, PATCH_SIDE)
    return z.unflatten(2, sides).unflatten(1, sides).transpose(2, 3).flatten(1, 2).flatten(2)


def _margins(shape: torch.Size) -> list[int]:
    """Pixels that ``cut`` adds to the left, right, top and bottom."""
    margins = []
    for n in (shape[3], shape[2]):
        missing = BLOCK_STRIDE * (-(-n // BLOCK_STRIDE) - 1) + BLOCK_SIDE - n
        margins += [missing // 2, missing - missing // 2]
    return margins
