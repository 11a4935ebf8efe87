"""3x3 convolutions by Winograd's algorithm, for CPUs, whose library has it for AVX-512 alone.

Tiles of m x m outputs take (m + 2)^2 products in place of 9 m^2, four times fewer for m = 4: with matrices A, G, B that
depend on m alone, a tile is ``A ((G w) * (B x))``, and the products of all channels and tiles are (m + 2)^2 matrix
products. Flattened tiles and filters have their columns first.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F


def transform_filters(weight: torch.Tensor, m: int = 4) -> torch.Tensor:
    """G w: ``(K, C, 3, 3)`` to ``((m + 2)^2, C, K)``."""
    k, c = weight.shape[:2]
    return (MATRICES[m][1] @ weight.permute(3, 2, 1, 0).reshape(9, -1)).view(-1, c, k)


def convolve(
    x: torch.Tensor, filters: torch.Tensor, m: int = 4, padding: int = 1, adjoint: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Convolve with transformed filters.

    Args:
        x: ``(N, C, H, W)`` float32.
        filters: Of ``transform_filters``, with the same m.
        m: Side of a tile, 2 or 4.
        padding: Zeros around the image, 0 or 1 px.
        adjoint: With the filters rotated by half a turn, from K to C channels: the gradient's way back, for which they
            need not be transformed again.

    Returns:
        The convolution, ``(N, K, H - 2 + 2 padding, W - 2 + 2 padding)``, and B x, ``((m + 2)^2, tiles, C)``.
    """
    a, _, b = (ADJOINT if adjoint else MATRICES)[m]
    filters = filters.transpose(1, 2) if adjoint else filters
    n, c, height, width = x.shape
    k, height, width = filters.shape[2], height - 2 + 2 * padding, width - 2 + 2 * padding
    rows, columns = -(-height // m), -(-width // m)
    # first over the rows of a tile, where x need not be copied, then over its columns
    strips = _padded(x, m, m + 2, padding).unfold(1, m + 2, m).movedim(-1, 2)  # N x rows x (m + 2) x W x C
    windows = (b @ strips.flatten(3)).unflatten(3, (-1, c)).unfold(3, m + 2, m).permute(5, 2, 0, 1, 3, 4)
    transformed = (b @ windows.reshape(m + 2, -1)).view(len(filters), -1, c)
    y = a @ torch.bmm(transformed, filters).view(len(filters), -1)
    y = y.view(m, m, n, rows, columns, k).permute(2, 3, 1, 4, 0, 5).reshape(n, rows * m, columns * m, k)
    return y[:, :height, :width].permute(0, 3, 1, 2), transformed


def tiles(x: torch.Tensor, m: int) -> torch.Tensor:
    """An image in tiles of m x m px, zeros behind it: ``(N, C, H, W)`` to ``(m^2, N * rows * columns * C)``."""
    return _padded(x, m, m, 0).unfold(1, m, m).unfold(2, m, m).permute(5, 4, 0, 1, 2, 3).reshape(m * m, -1)


def _padded(x: torch.Tensor, step: int, size: int, padding: int) -> torch.Tensor:
    """``(N, H, W, C)`` with zeros around it, and as many behind as the last window of ``size`` px needs."""
    x = x.permute(0, 2, 3, 1)
    after = [padding + -(length + 2 * padding - size) % step for length in x.shape[1:3]]
    if padding or any(after):
        x = F.pad(x, (0, 0, padding, after[1], padding, after[0]))
    return x


def _matrices(points: tuple[float, ...], adjoint: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A, G and B of Toom and Cook's algorithm on these points and infinity: A and G for flattened tiles, B for one side.

    G w are the values of the polynomial w at the points. Those of the rotated filter are w's at the inverse points, times
    p^2: with the points closed under inversion, a change of order in A and B is all that ``adjoint`` takes.
    """
    p = np.array(points)
    others = [np.delete(p, i) for i in range(len(p))]
    scale = np.array([np.prod(x - o) for x, o in zip(p, others, strict=True)])
    m = len(p) - 1
    a, g = np.vander(p, m, increasing=True).T, np.vander(p, 3, increasing=True)
    b = np.array([[*np.poly(o)[::-1], 0] / s for o, s in zip(others, scale, strict=True)] + [np.poly(p)[::-1]])
    a, g = np.hstack([a, np.eye(m)[:, -1:]]), np.vstack([g, np.eye(3)[-1:]])
    if adjoint:
        # zero comes first, infinity last
        inverse = [len(p), *(int(np.argmin(np.abs(x * p - 1))) for x in p[1:]), 0]
        a, b = (a * [1, *p[1:] ** 2, 1])[:, inverse], b[inverse]
    return tuple(torch.from_numpy(matrix).float() for matrix in (np.kron(a, a), np.kron(g, g), b))


# m = 4 with the usual points 0, +-1, +-2 loses a digit; with these the error is that of the direct convolution
_POINTS = {2: (0, 1, -1), 4: (0, 2 / 3, -2 / 3, 3 / 2, -3 / 2)}
MATRICES = {m: _matrices(points) for m, points in _POINTS.items()}
ADJOINT = {m: _matrices(points, adjoint=True) for m, points in _POINTS.items()}
