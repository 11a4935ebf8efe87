"""AETNet's training: background with random targets masked out goes in, the whole background is wanted."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

from fers.networks.aetnet import AETNet
from fers.networks.init import seeded
from fers.training.stage import Stage, Terms

CELL = 8  # px: each target starts in a cell of its own
TARGET_COUNT = (1, 32)  # in a patch, both included
AREA = (3, 20)  # px of a target, both included
FIELD = 19  # px: side of the field that a target grows on

WEIGHT_DECAY = 5e-6
_STABILITY = 0.1  # in the similarity of gradient magnitudes
_SCALES = 5
SMALLEST = 3 * 2 ** (_SCALES - 1)  # px: a patch halved to the last scale still holds a filter of 3 x 3


def random_masks(count: int, draws: np.random.RandomState, height: int = 64, width: int = 64) -> np.ndarray:
    """Random targets to hide from the network.

    Each mask has 1 to 32 targets. They start at random pixels of distinct cells of 8 x 8 px, and grow to 3 to 20 px: in
    rounds, each 4-neighbour of the target joins with probability 1/2, in scan order, while the area is not reached.

    Returns:
        ``(count, height, width)`` bool, False in targets; both sides are multiples of 8. Targets may overlap and reach over
        the border.
    """
    cells = (height // CELL, width // CELL)
    most = min(TARGET_COUNT[1], math.prod(cells))
    targets = draws.randint(TARGET_COUNT[0], most + 1, count)
    order = draws.uniform(size=(count, math.prod(cells))).argsort(1)
    mask_of, nth = np.nonzero(np.arange(most) < targets[:, None])
    cell = order[mask_of, nth]
    row, column = (CELL * at + draws.randint(CELL, size=len(cell)) for at in np.divmod(cell, cells[1]))
    area = draws.randint(AREA[0], AREA[1] + 1, len(cell))
    target, y, x = np.nonzero(grow_targets(area, draws))
    y, x = y + row[target] - FIELD // 2, x + column[target] - FIELD // 2
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    keep = np.ones((count, height, width), dtype=bool)
    keep[mask_of[target[inside]], y[inside], x[inside]] = False
    return keep


def grow_targets(area: np.ndarray, draws: np.random.RandomState) -> np.ndarray:
    """Grow connected targets of ``area`` ``(n,)`` px from the centre of a field, ``(n, 19, 19)`` bool; see ``random_masks``."""
    shape = np.zeros((len(area), FIELD, FIELD), dtype=bool)
    shape[:, FIELD // 2, FIELD // 2] = True
    missing = area - 1
    while missing.any():
        neighbours = np.zeros_like(shape)
        neighbours[:, 1:] |= shape[:, :-1]
        neighbours[:, :-1] |= shape[:, 1:]
        neighbours[:, :, 1:] |= shape[:, :, :-1]
        neighbours[:, :, :-1] |= shape[:, :, 1:]
        joins = neighbours & ~shape & (draws.uniform(size=shape.shape) < 0.5)
        joins &= joins.reshape(len(area), -1).cumsum(1).reshape(shape.shape) <= missing[:, None, None]
        shape |= joins
        missing = missing - joins.sum((1, 2))
    return shape


def gradient_magnitude(image: torch.Tensor) -> torch.Tensor:
    """The root mean square of the gradients in four directions, ``(N, 1, H, W)`` to ``(N, 1, H - 2, W - 2)``."""
    return F.conv2d(image, _filters(image)).square().mean(1, keepdim=True).clamp_min(1e-30).sqrt()


def msgms_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Multi-scale gradient magnitude similarity, as a loss.

    Cubes ``(N, C, H, W)``, H and W at least 48, are averaged over their bands, and compared at five scales, each half as
    large as the one before. The loss is the mean over scales of the mean of ``1 - similarity``, at least 0.
    """
    return msgms_terms(a, b).mean()


def msgms_terms(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The terms of ``msgms_loss``, from the largest scale to the smallest, ``(5,)``."""
    # the mean over bands and the average pooling commute
    a, b = a.mean(1, keepdim=True), b.mean(1, keepdim=True)
    terms = []
    for scale in range(_SCALES):
        if scale:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
        g_a, g_b = gradient_magnitude(a), gradient_magnitude(b)
        similarity = (2 * g_a * g_b + _STABILITY) / (g_a.square() + g_b.square() + _STABILITY)
        terms.append((1 - similarity).mean())
    return torch.stack(terms)


class AETNetStage(Stage):
    """AETNet in training.

    Each patch is turned by a random multiple of 90 degrees and flipped at random. What is drawn depends on the seed and on the
    number of the step only, which is kept with the weights: a resumed run draws what the interrupted one would have.
    """

    checkpoint = "aetnet.safetensors"
    steps: torch.Tensor

    def __init__(self, network: AETNet, seed: int = 60):
        super().__init__()
        self.network = network
        self.seed = seed
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def branch(self) -> AETNet:
        """The whole network."""
        return self.network

    def loss(self, h: torch.Tensor) -> tuple[torch.Tensor, Terms]:
        """The loss of background patches ``(N, C, H, W)`` in [-0.1, 0.1], H = W, a multiple of 8.

        The decay is Adam's weight decay as the official code has it: a part of the gradient.
        """
        target, masked = self.sample(h)
        enhanced = self.network(masked)
        with torch.autocast(h.device.type, enabled=False):
            squares = torch.stack([parameter.float().square().sum() for parameter in self.network.parameters()])
            terms = {"msgms": msgms_loss(enhanced.float(), target), "decay": WEIGHT_DECAY / 2 * squares.sum()}
            return terms["msgms"] + terms["decay"], terms

    def sample(self, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Turned and flipped patches, and the same with masked pixels 0: target and input, ``(N, C, H, W)`` each."""
        process = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        draws = seeded(f"aetnet.{'train' if self.training else 'held out'}.{int(self.steps)}.{process}", self.seed)
        if self.training:
            self.steps += 1
        turned = []
        for patch, turns, flips in zip(
            h, draws.randint(4, size=len(h)), draws.randint(2, size=(len(h), 2)), strict=True
        ):
            axes = [axis for axis, flip in zip((1, 2), flips, strict=True) if flip]
            turned.append(patch.rot90(int(turns), (1, 2)).flip(axes))
        target = torch.stack(turned)
        keep = torch.from_numpy(random_masks(len(h), draws, *h.shape[-2:])).to(h.device)
        return target, target * keep[:, None]


def _filters(like: torch.Tensor) -> torch.Tensor:
    """Gradients along rows, columns and both diagonals, ``(4, 1, 3, 3)``."""
    rows, columns = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[1, 2, 1], [0, 0, 0], [-1, -2, -1]]
    falling, rising = [[2, 1, 0], [1, 0, -1], [0, -1, -2]], [[0, -1, -2], [1, 0, -1], [2, 1, 0]]
    return torch.tensor([rows, columns, falling, rising]).to(like)[:, None] / 4
