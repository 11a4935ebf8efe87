"""Distance from the mean of a low-rank background, measured by that background's covariance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm import tqdm

from fers.detectors.background import Background
from fers.detectors.pieces import scaled_pixels
from fers.detectors.windows import checked

_POWER = 3  # times that the drawn directions are multiplied by the pixels' Gram matrix


@dataclass(frozen=True)
class LSMAD:
    """Low-rank and sparse decomposition, then the Mahalanobis distance to the low-rank background.

    The pixels, each band scaled to [0, 1], are split into a part of rank ``rank``, a sparse part and noise, by GoDec's
    101 rounds. The score is the Mahalanobis distance of a pixel to the mean of the low-rank part by the pseudo-inverse of its
    covariance. So it lies in ``rank`` directions: an anomaly across them all is not seen.

    Args:
        rank: Of the background, >= 1. The paper and its followers choose it for each scene, 1 to 28.
        sparse: Share of the cube's values that are in the sparse part, 0 to 1. Published code rounds it to none of them,
            which makes the score nearly RX on ``rank`` principal components.
        seed: Seed of the drawn directions, the same for each image.

    Raises:
        ValueError: On making it, an option out of range. On calling it, NaN, a constant cube, or a rank above the bands.

    Cost: 101 Gram matrices of the pixels, and as many selections among all values of the cube.

    Source: Y. Zhang, B. Du, L. Zhang and S. Wang, IEEE TGRS 54(3), 2016; GoDec: T. Zhou and D. Tao, ICML 2011.

    Example:
        >>> cube = torch.rand(1, 6, 20, 20, generator=torch.Generator().manual_seed(0))
        >>> cube[0, :, 4, 7] += 3
        >>> divmod(int(LSMAD()(cube).argmax()), 20)
        (4, 7)
    """

    rank: int = 3
    sparse: float = 0.002
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.sparse <= 1:
            raise ValueError(f"LSMAD needs a rank of at least 1 and a sparse share from 0 to 1; got {self}.")

    def __call__(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0; pixels left out are no part of the background."""
        cube = checked(cube)
        if self.rank > cube.shape[1]:
            raise ValueError(f"rank {self.rank} is above the number of bands, {cube.shape[1]}. Give a lower rank.")
        maps = []
        for number, image in enumerate(cube):
            pixels, counts = scaled_pixels(image, None if left_out is None else left_out[number])
            generator = torch.Generator().manual_seed(self.seed)

            def draw(generator: torch.Generator = generator) -> torch.Tensor:
                return torch.randn(cube.shape[1], self.rank, generator=generator, dtype=torch.float64)

            background = pixels[counts]
            low_rank = go_dec(background, int(self.sparse * background.numel()), draw)
            maps.append(background_distances(pixels, low_rank, self.rank).view(image.shape[1:]))
        return torch.stack(maps)


def go_dec(pixels: torch.Tensor, sparse_values: int, draw: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Compute the low-rank part of pixels ``(P, B)``.

    Args:
        pixels: float64.
        sparse_values: Values that the sparse part may have.
        draw: Draws ``(B, rank)`` standard normal numbers, once a round.
    """
    low_rank = pixels.clone()
    projected, rest, sparse = torch.empty_like(pixels), torch.empty_like(pixels), torch.zeros_like(pixels)
    for _ in tqdm(range(101), "LSMAD", unit="round", leave=False, disable=None, delay=2):
        gram = low_rank.mT @ low_rank
        basis = torch.linalg.qr(torch.linalg.multi_dot([*[gram] * _POWER, draw().to(pixels.device)]))[0]
        torch.matmul(low_rank @ basis, basis.mT, out=projected)
        torch.sub(low_rank, projected, out=rest).add_(sparse)
        largest = rest.abs().flatten().topk(sparse_values, sorted=False).indices
        sparse.zero_().view(-1)[largest] = rest.view(-1)[largest]
        rest -= sparse
        if float(rest.norm()) < 1e-3:
            break
        torch.add(projected, rest, out=low_rank)
    return projected


def background_distances(pixels: torch.Tensor, low_rank: torch.Tensor, rank: int) -> torch.Tensor:
    """Measure pixels ``(P, B)`` from the mean of a low-rank background ``(Q, B)``, in its ``rank`` directions."""
    [components] = Background.from_blocks([low_rank]).components(rank)
    return components(pixels.T[:, :, None]).square().sum(0)[:, 0]
