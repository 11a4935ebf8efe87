"""Prior-based tensor approximation: a background smooth in space and of low spectral rank, and sparse anomalies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tqdm import tqdm

from fers.detectors.pieces import scaled_pixels, shrink, shrink_spectrum
from fers.detectors.windows import checked

_DIRECTION = 1e-6  # of the largest singular value: smaller ones have no direction


@dataclass(frozen=True)
class PTA:
    """Prior-based tensor approximation: the part of a pixel that a smooth background of low rank leaves.

    The cube, each band scaled to [0, 1], is background plus anomalies. The background pays for differences between
    neighbours along rows and columns, and for singular values after the first ``rank`` ones. Anomalies pay for their norms.
    The score is the norm of a pixel's anomaly. An alternating method finds it in 61 rounds or so; its multipliers are not
    rescaled when the penalty grows, so where it ends depends on ``penalty``.

    A whole image is decomposed, so no pixel can be left out.

    Args:
        low_rank: alpha, weight of the singular values, > 0.
        sparse: beta, weight of the anomalies, > 0.
        smooth: tau, weight of the differences, >= 0.
        rank: Singular values that are free. Where the background has fewer, those below 1e-6 of the largest take no part;
            the published code gives them random directions.
        penalty: mu in the first round, > 0.

    Raises:
        ValueError: On making it, an option out of range. On calling it, NaN, or a constant cube.

    Cost: two B x B eigenvalue decompositions and Gram matrices of the cube a round; memory is 14 times the cube in float64.

    Source: L. Li, W. Li, Y. Qu, C. Zhao, R. Tao and Q. Du, IEEE TNNLS 33(3), 2022.

    Example:
        >>> cube = torch.rand(1, 6, 20, 20, generator=torch.Generator().manual_seed(0)) / 10
        >>> cube[0, :, 4, 7] += 1
        >>> divmod(int(PTA(rank=1)(cube).argmax()), 20)
        (4, 7)
    """

    low_rank: float = 1.0
    sparse: float = 1.0
    smooth: float = 1.0
    rank: int = 10
    penalty: float = 0.01

    def __post_init__(self) -> None:
        if min(self.low_rank, self.sparse, self.penalty) <= 0 or self.smooth < 0 or self.rank < 0:
            raise ValueError(f"PTA needs weights and a penalty above 0 and a rank of at least 0; got {self}.")

    def __call__(self, cube: torch.Tensor) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0."""
        return torch.stack([self._score(image) for image in checked(cube)])

    def _score(self, image: torch.Tensor) -> torch.Tensor:
        y = scaled_pixels(image)[0].T.contiguous().view(image.shape)
        (rows, row_steps), (columns, column_steps) = (path_laplacian(size, y) for size in image.shape[1:])
        x, v1, v2, v3, v4, d1, d2, d3, d4, d5, work = (
            torch.zeros_like(y) for _ in range(11)
        )  # used in place: it is faster
        s = directions = torch.zeros_like(y)
        mu = self.penalty
        for number in tqdm(range(400), "PTA", unit="round", leave=False, disable=None, delay=2):
            torch.sub(y, s, out=x)
            for part in (d1, d2, d3, d4, v1, v2, v3):
                x += part
            x /= 4
            torch.matmul((rows * (mu / (self.smooth * row_steps + mu))) @ rows.T, torch.sub(x, d2, out=work), out=v1)
            smooth = (columns * (mu / (self.smooth * column_steps + mu))) @ columns.T
            torch.mm(torch.sub(x, d3, out=work).flatten(0, 1), smooth, out=v2.view(-1, len(smooth)))
            torch.add(x, v4, out=work).sub_(d4).add_(d5).div_(2)
            v3 = shrink_spectrum(work.flatten(1), self.low_rank / (2 * mu)).view_as(y)
            torch.sub(v3, d5, out=v4).add_(directions, alpha=self.low_rank / mu)
            directions = leading_directions(v4.flatten(1), self.rank).view_as(y)
            s = shrink(torch.sub(y, x, out=work).add_(d1), self.sparse / mu)
            d1 += torch.sub(y, x, out=work).sub_(s)
            gaps = float(work.norm())
            for d, found, wanted in ((d2, v1, x), (d3, v2, x), (d4, v3, x), (d5, v4, v3)):
                d += torch.sub(found, wanted, out=work)
                gaps += float(work.norm())
            if number % 10 == 0 and gaps <= 1e-6:
                break
            mu = min(1.5 * mu, 1e10)
        return torch.linalg.vector_norm(s, dim=0)


def path_laplacian(nodes: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute eigenvectors and eigenvalues of a path graph's Laplacian, which sums squared differences of neighbours."""
    matrix = 2 * torch.eye(nodes) - torch.diag(torch.ones(nodes - 1), 1) - torch.diag(torch.ones(nodes - 1), -1)
    matrix[0, 0] = matrix[-1, -1] = min(nodes - 1, 1)
    values, vectors = torch.linalg.eigh(matrix.to(like))
    return vectors, values.clamp_min(0)


def leading_directions(matrix: torch.Tensor, rank: int) -> torch.Tensor:
    """Set the ``rank`` largest singular values of ``(B, P)`` to 1 and the others to 0."""
    squares, vectors = torch.linalg.eigh(matrix @ matrix.mT)
    kept = (squares > _DIRECTION**2 * squares[-1]) & (torch.arange(len(squares), 0, -1).to(squares) <= rank)
    vectors = vectors[:, kept]
    return (vectors / squares[kept].sqrt()) @ (vectors.mT @ matrix)
