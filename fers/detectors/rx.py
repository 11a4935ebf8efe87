"""The Reed-Xiaoli detector: squared Mahalanobis distance of each pixel from the background's mean (eq. 17)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from fers.detectors.background import BLOCK, Background, Moments, pixels_of, triangle_rows, whitening
from fers.detectors.base import StripDetector, Where

SOLVERS = ("float64", "released")
_RELEASED = "RX as inside the released code's fusion A: float32, of truncated rank. Eq. 17 gives other scores."


class Whitened(NamedTuple):
    """A background in the form in which RX measures distances.

    Attributes:
        mean: ``(N, B)`` float64.
        matrix: ``(N, B, B)``: W with ``W^T W`` the pseudo-inverse of the covariance.
        rank: ``(N,)`` dimensions.
        triangular: Whether the matrices are lower triangular.
    """

    mean: torch.Tensor
    matrix: torch.Tensor
    rank: torch.Tensor
    triangular: bool

    @classmethod
    def of(cls, background: Background) -> Whitened:
        """Whiten a background.

        Raises:
            ValueError: No band varies, or there are too few pixels for the rank, so every one would get the same score.
        """
        matrix, rank, triangular = whitening(background.covariance)
        samples = background.samples
        if samples is not None and bool((rank >= samples.to(rank.device) - 1).any()):
            raise ValueError(
                f"{int(samples.min())} pixels for {int(rank.max())} independent bands; every pixel would get the same score. "
                "Use more pixels or fewer bands."
            )
        return cls(background.mean, matrix, rank, triangular)


class RX(StripDetector):
    """RX as a detector: ``(N, C, H, W)`` to ``(N, H, W)``.

    Args:
        seed: Ignored: nothing here is random.
        solver: ``float64`` is ``rx``. ``released`` is what the authors' released code computes inside fusion A: float32, and
            a pseudo-inverse that drops eigenvalues of the plain covariance below B * 1.19e-7 of the largest. On ABU that
            leaves 10 to 50 of 200 dimensions, so it is RX on the leading principal components.
    """

    statistics = Moments

    def __init__(self, seed: int = 0, solver: str = "float64"):
        if solver not in SOLVERS:
            raise ValueError(f"RX has no solver '{solver}'; choose {' or '.join(SOLVERS)}.")
        self.solver = solver
        self.halo = 0 if solver == "float64" else None
        self.caveats = (_RELEASED,) if solver == "released" else ()

    def collect(self, cube: torch.Tensor, left_out: torch.Tensor | None, where: Where) -> Moments:
        """Compute the moments."""
        return Moments.of(cube, left_out)

    def fit(self, statistics: Moments, where: Where) -> Whitened:
        """Compute mean and whitening of each image."""
        return Whitened.of(Background.from_moments([statistics]))

    def score(self, cube: torch.Tensor, state: Whitened, left_out: torch.Tensor | None) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0."""
        return _distances(cube, state)

    def __call__(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """Score each image against its own background, without the pixels left out."""
        return super().__call__(cube, left_out) if self.solver == "float64" else _rx_released(cube, left_out)


def rx(
    cube: torch.Tensor, background: Background | None = None, left_out: torch.Tensor | np.ndarray | None = None
) -> torch.Tensor:
    """Score by global RX: ``(x - mean)^T covariance^+ (x - mean)`` for every pixel (eq. 17).

    Args:
        cube: ``(N, C, H, W)`` of any real type. It may be a block of a larger scene, with that scene's background.
        background: Statistics to measure against; by default the image's own.
        left_out: Pixels to leave out of the image's own statistics, True = left out: ``(H, W)`` or ``(N, H, W)``. They are
            scored nevertheless.

    Returns:
        Score map ``(N, H, W)``, float64, >= 0, on the cube's device (on the CPU where the device has no float64). Higher
        is more anomalous.

    Raises:
        ValueError: Shapes do not fit, values are not finite, ``left_out`` comes with ``background``, or the background has
            too few pixels for its rank, so every pixel would get the same score.

    Source: I. S. Reed and X. Yu, IEEE Trans. ASSP 38(10), 1990.

    Example:
        >>> cube = torch.randn(1, 5, 20, 20, generator=torch.Generator().manual_seed(0))
        >>> cube[0, :, 3, 4] += 10
        >>> divmod(int(rx(cube).argmax()), 20)
        (3, 4)
    """
    pixels = pixels_of(cube)
    if background is None:
        background = Background.from_cube(cube, left_out)
    elif left_out is not None:
        raise ValueError("left_out is for the image's own statistics; with a given background it does nothing.")
    elif background.mean.shape[-1] != pixels.shape[1]:
        raise ValueError(
            f"the background has {background.mean.shape[-1]} bands; the cube has {pixels.shape[1]}. Use the same bands."
        )
    return _distances(cube, Whitened.of(background))


def _distances(cube: torch.Tensor, background: Whitened) -> torch.Tensor:
    pixels = pixels_of(cube)
    mean, matrix, scores = background.mean.to(pixels.device)[:, :, None], background.matrix.to(pixels.device), []
    blocks = pixels.split(BLOCK.get(pixels.device.type, BLOCK["cpu"]), dim=2)
    for block in tqdm(blocks, "RX", unit="block", leave=False, disable=None, delay=2):
        centred = block.to(torch.float64, copy=True).sub_(mean)
        score = centred.new_zeros(len(centred), centred.shape[2])
        for rows in triangle_rows(centred.shape[1], centred.device):
            columns = slice(rows.stop if background.triangular else None)
            score += (matrix[:, rows, columns] @ centred[:, columns]).square_().sum(1)
        scores.append(score)
    return torch.cat(scores, dim=1).view(cube.shape[0], *cube.shape[2:])


def rx_array(
    cube: np.ndarray,
    background: Background | None = None,
    left_out: np.ndarray | None = None,
    *,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Score NumPy arrays by global RX.

    Args:
        cube: ``(H, W, B)``, or ``(N, H, W, B)``, of any real type.
        background: As in ``rx``.
        left_out: As in ``rx``.
        mask: Earlier name of ``left_out``.

    Returns:
        ``(H, W)``, or ``(N, H, W)``, float64.
    """
    cube = np.asarray(cube)
    if cube.ndim not in (3, 4):
        raise ValueError(f"an array is H x W x B or N x H x W x B; got {cube.shape}.")
    if not cube.dtype.isnative or cube.dtype.kind == "u":  # torch has no foreign byte orders, few unsigned types
        cube = cube.astype(np.float64)
    images = torch.from_numpy(np.ascontiguousarray(cube)).view(-1, *cube.shape[-3:])
    return (
        rx(images.permute(0, 3, 1, 2), background, mask if left_out is None else left_out)
        .numpy()
        .reshape(cube.shape[:-1])
    )


def _rx_released(cube: torch.Tensor, left_out: torch.Tensor | None) -> torch.Tensor:
    """RX in float32 with PyTorch's pseudo-inverse and its default cut: ``(N, C, H, W)`` to ``(N, H, W)`` float32."""
    pixels = cube.float().flatten(2)
    out = torch.zeros(1, 1).bool() if left_out is None else left_out.view(-1, pixels.shape[2])
    out = out[:, None].to(pixels.device)
    samples = (~out).expand(len(pixels), 1, pixels.shape[2]).sum(2, keepdim=True)
    centred = pixels - pixels.masked_fill(out, 0.0).sum(2, keepdim=True) / samples
    used = centred.masked_fill(out, 0.0)
    inverse = torch.linalg.pinv(used @ used.mT / (samples - 1))
    return ((inverse @ centred) * centred).sum(1).view(cube.shape[0], *cube.shape[2:])
