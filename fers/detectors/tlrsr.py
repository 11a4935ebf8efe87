"""Tensor low-rank and sparse representation of a few principal components."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm import tqdm

from fers.detectors.pieces import scaled_components, shrink
from fers.detectors.windows import checked

_TLRSR_ROUNDS = 100  # of both loops; neither converges before, so the score is that of round 100
_SOFT = 1e-6  # beside singular values, in the weights


@dataclass(frozen=True)
class PCATLRSR:
    """PCA and tensor low-rank representation: the part of a pixel that a low-rank background tensor cannot represent.

    The principal components, each scaled to [0, 1], are a tensor ``(H, W, K)``. A robust decomposition takes a background
    of low tubal rank from it as a dictionary. Then the tensor is written as the dictionary times low-rank coefficients,
    plus a rest that is zero in most pixels. The score is the norm of a pixel's rest. Both loops run for 100 rounds.

    Rows are the atoms of the dictionary: a transposed scene has another result. A whole image is decomposed, so no pixel
    can be left out.

    Args:
        components: K; there are fewer where the rank is lower.
        dictionary: Weight of the sparse part when the dictionary is made: the paper's lambda'.
        sparse: Weight of the rest: the paper's lambda.
        pivot: Which singular value of a slice has weight 1, counted from 1; of a small scene the last.

    Raises:
        ValueError: On making it, an option that is not positive. On calling it, NaN, or a constant cube.

    Cost: 200 x (K / 2 + 1) eigenvalue decompositions of the shorter side of the scene; memory is 12 H W K numbers.

    Source: M. Wang, Q. Wang, D. Hong, S. K. Roy and J. Chanussot, IEEE Trans. Cybernetics 53(1), 2023. The paper's weights
    are not divided by one singular value, as its code's and these are.

    Example:
        >>> cube = torch.rand(1, 12, 20, 20, generator=torch.Generator().manual_seed(0))
        >>> cube[0, :, 4, 7] += 3
        >>> divmod(int(PCATLRSR()(cube).argmax()), 20)
        (4, 7)
    """

    components: int = 10
    dictionary: float = 0.05
    sparse: float = 0.01
    pivot: int = 5

    def __post_init__(self) -> None:
        if min(self.components, self.dictionary, self.sparse, self.pivot) <= 0:
            raise ValueError(f"PCA-TLRSR needs options above 0; got {self}.")

    def __call__(self, cube: torch.Tensor) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0."""
        return torch.stack([self._score(image) for image in scaled_components(checked(cube), self.components)])

    def _score(self, components: torch.Tensor) -> torch.Tensor:
        length = pixel_lengths(len(components))
        x = torch.fft.rfft(
            components, dim=0
        )  # all that follows works on slices of the Fourier domain, (K / 2 + 1, H, W)
        return length(_rest(x, self._background(x, length), self.sparse, self.pivot, length))

    def _background(self, x: torch.Tensor, length: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Split the tensor into low rank and sparse pixels; the low-rank part is the dictionary."""
        low_rank = sparse = scaled = torch.zeros_like(x)  # scaled: multiplier over penalty
        penalty = 1e-4
        for _ in tqdm(range(_TLRSR_ROUNDS), "PCA-TLRSR 1 of 2", unit="round", leave=False, disable=None, delay=2):
            low_rank = shrink_slices(x - sparse - scaled, 1 / penalty, self.pivot)
            wanted = x - low_rank - scaled
            sparse = shrink(wanted, self.dictionary / penalty, length(wanted))
            scaled = (scaled + low_rank + sparse - x) / 1.1
            penalty *= 1.1
        return low_rank


def _rest(
    x: torch.Tensor, atoms: torch.Tensor, weight: float, pivot: int, length: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Represent the tensor by the dictionary, low-rank coefficients, and a sparse rest; return the rest."""
    gram = atoms.mH @ atoms
    inverse = torch.linalg.inv(gram + torch.eye(gram.shape[-1]).to(gram))
    coefficients = y1 = torch.zeros_like(gram)  # y1, y2: multipliers over penalty
    rest = y2 = torch.zeros_like(x)
    represented, penalty = torch.zeros_like(x), 1e-4
    for _ in tqdm(range(_TLRSR_ROUNDS), "PCA-TLRSR 2 of 2", unit="round", leave=False, disable=None, delay=2):
        low_rank = shrink_slices(coefficients - y1, 1 / penalty, pivot)
        wanted = x - represented + y2
        rest = shrink(wanted, weight / penalty, length(wanted))
        coefficients = inverse @ (low_rank + y1 + atoms.mH @ (x - rest + y2))
        represented = atoms @ coefficients
        y1 = (y1 + low_rank - coefficients) / 1.1
        y2 = (y2 + x - represented - rest) / 1.1
        penalty *= 1.1
    return rest


def pixel_lengths(components: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make the function from a half spectrum ``(K / 2 + 1, H, W)`` of K components to the norms of its pixels, ``(H, W)``.

    Slices that stand for their conjugates too count twice (Parseval).
    """
    times = torch.full((components // 2 + 1, 1, 1), 2.0, dtype=torch.float64)
    times[0] = 1
    if components % 2 == 0:
        times[-1] = 1
    return lambda x: (x.abs().square() * times.to(x.device)).sum(0).div(components).sqrt()


def shrink_slices(slices: torch.Tensor, by: float, pivot: int) -> torch.Tensor:
    """Lower the singular values of each slice ``(S, H, W)``, the small ones by more.

    The i-th loses ``by`` times (s_p + 1e-6) / (s_i + 1e-6), p being ``pivot``, and is at least zero.
    """
    if slices.shape[1] > slices.shape[2]:
        return shrink_slices(slices.mT, by, pivot).mT
    squares, vectors = torch.linalg.eigh(slices @ slices.mH)
    values = squares.clamp_min(0).sqrt()
    weight = (values[:, -min(pivot, values.shape[1])][:, None] + _SOFT) / (values + _SOFT)
    share = (1 - by * weight / values).clamp_min(0)
    return (vectors * share[:, None]) @ (vectors.mH @ slices)
