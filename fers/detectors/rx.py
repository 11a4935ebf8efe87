"""The Reed-Xiaoli detector: the squared Mahalanobis distance of each pixel from the background's mean (eq. 17).

The covariance of a hyperspectral scene is nearly singular: condition numbers of 1e8 to 5e9 on the ABU scenes. So all is
float64, and the inverse is a pseudo-inverse with one rank rule:

- bands of zero variance are dropped, and the others are standardised, which changes no score;
- eigenvalues of their correlation matrix below B * eps of the largest are dropped.

Single precision, a ridge or a looser cut changes AUC in the third digit. Where the rule certainly drops no eigenvalue, a
Cholesky factorisation gives the same scores in less time.
"""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

from fers.detectors.background import BLOCK, Background, pixels_of, row_blocks

SOLVERS = ("float64", "released")
_MARGIN = 10  # how far above the rank rule's cut the smallest eigenvalue must be for Cholesky


_RELEASED = "RX as inside the released code's fusion A: float32, of truncated rank. Eq. 17 gives other scores."


class RX:
    """RX as a detector: ``(N, C, H, W)`` to ``(N, H, W)``.

    Args:
        seed: Ignored: nothing here is random.
        solver: ``float64`` is ``rx``. ``released`` is what the authors' released code computes inside fusion A: float32, and
            a pseudo-inverse that drops eigenvalues of the plain covariance below B * 1.19e-7 of the largest. On ABU that
            leaves 10 to 50 of 200 dimensions, so it is RX on the leading principal components.
    """

    def __init__(self, seed: int = 0, solver: str = "float64"):
        if solver not in SOLVERS:
            raise ValueError(f"no solver '{solver}' of RX; there are {' and '.join(SOLVERS)}.")
        self.solver = solver
        self.caveats = (_RELEASED,) if solver == "released" else ()

    def __call__(self, cube: torch.Tensor, mask: torch.Tensor | np.ndarray | None = None) -> torch.Tensor:
        """Score each image against its own background, without the masked pixels."""
        return rx(cube, mask=mask) if self.solver == "float64" else _rx_released(cube, mask)


def rx(
    cube: torch.Tensor, background: Background | None = None, mask: torch.Tensor | np.ndarray | None = None
) -> torch.Tensor:
    """Global RX: ``(x - mean)^T covariance^+ (x - mean)`` for every pixel (eq. 17).

    Args:
        cube: ``(N, C, H, W)`` of any real type. It may be a block of a larger scene, with that scene's background.
        background: Statistics to measure against; by default the image's own.
        mask: Pixels to leave out of the image's own statistics, True = left out: ``(H, W)`` or ``(N, H, W)``. They are
            scored all the same.

    Returns:
        Score map ``(N, H, W)``, float64, >= 0, on the cube's device (on the CPU where the device has no float64). Higher
        is more anomalous.

    Raises:
        ValueError: Shapes do not fit, values are not finite, ``mask`` comes with ``background``, or the background has
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
        background = Background.from_cube(cube, mask)
    elif mask is not None:
        raise ValueError(
            "a mask leaves pixels out of the image's own statistics; with a given background it does nothing."
        )
    elif background.mean.shape[-1] != pixels.shape[1]:
        raise ValueError(f"the background is of {background.mean.shape[-1]} bands; the cube has {pixels.shape[1]}.")
    whiten, rank, triangular = whitening(background.covariance.to(pixels.device))
    samples = background.samples
    if samples is not None and bool((rank >= samples.to(rank.device) - 1).any()):
        raise ValueError(
            f"{int(samples.min())} pixels for {int(rank.max())} independent bands; every pixel would get the same score. "
            "Use more pixels or fewer bands."
        )
    mean, scores = background.mean.to(pixels.device)[:, :, None], []
    blocks = pixels.split(BLOCK.get(pixels.device.type, BLOCK["cpu"]), dim=2)
    for block in tqdm(blocks, "RX", unit="block", leave=False, disable=None, delay=2):
        centred = block.to(torch.float64, copy=True).sub_(mean)
        score = centred.new_zeros(len(centred), centred.shape[2])
        for rows in row_blocks(centred.shape[1], centred.device):
            columns = slice(rows.stop if triangular else None)
            score += (whiten[:, rows, columns] @ centred[:, columns]).square_().sum(1)
        scores.append(score)
    return torch.cat(scores, dim=1).view(cube.shape[0], *cube.shape[2:])


def rx_array(cube: np.ndarray, background: Background | None = None, mask: np.ndarray | None = None) -> np.ndarray:
    """``rx`` for numpy arrays.

    Args:
        cube: ``(H, W, B)``, or ``(N, H, W, B)``, of any real type.
        background: As ``rx`` takes it.
        mask: As ``rx`` takes it.

    Returns:
        ``(H, W)``, or ``(N, H, W)``, float64.
    """
    cube = np.asarray(cube)
    if cube.ndim not in (3, 4):
        raise ValueError(f"an array is H x W x B or N x H x W x B; got {cube.shape}.")
    if not cube.dtype.isnative or cube.dtype.kind == "u":  # torch has no foreign byte orders, few unsigned types
        cube = cube.astype(np.float64)
    images = torch.from_numpy(np.ascontiguousarray(cube)).view(-1, *cube.shape[-3:])
    return rx(images.permute(0, 3, 1, 2), background, mask).numpy().reshape(cube.shape[:-1])


def whitening(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Matrices W with ``W^T W`` the pseudo-inverse by the rank rule.

    Args:
        covariance: ``(N, B, B)`` float64.

    Returns:
        W ``(N, B, B)``, each one's rank ``(N,)``, and whether all are lower triangular.
    """
    std = covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    varying = std > 0
    if not bool(varying.any(1).all()):
        raise ValueError("no band of this background varies; there is nothing to measure a distance in.")
    inverse_std = torch.where(varying, 1 / std, 0.0)  # a band of zero variance has zeros for its row, hence no rank
    correlation = covariance * inverse_std[:, :, None] * inverse_std[:, None, :]
    bands = covariance.shape[1]
    cut = bands * torch.finfo(torch.float64).eps  # of the largest eigenvalue, which is at most B

    # The largest eigenvalue of the inverse is at most its trace: a bound on the smallest eigenvalue that costs nothing.
    factor, failed = torch.linalg.cholesky_ex(correlation + torch.diag_embed((~varying).double()))
    identity = torch.eye(bands, dtype=torch.float64, device=covariance.device).expand_as(factor)
    inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
    certain = (failed == 0) & (inverse.square().sum((1, 2)) * (_MARGIN * cut * bands) < 1)
    if bool(certain.all()):
        return inverse * inverse_std[:, None, :], varying.sum(1), True

    eigenvalues, eigenvectors = torch.linalg.eigh(correlation)
    threshold = cut * eigenvalues[:, -1:]
    kept = eigenvalues >= threshold
    scale = torch.where(kept, eigenvalues.clamp_min(threshold).rsqrt(), 0.0)
    return scale[:, :, None] * eigenvectors.mT * inverse_std[:, None, :], kept.sum(1), False


def _rx_released(cube: torch.Tensor, mask: torch.Tensor | np.ndarray | None) -> torch.Tensor:
    """RX in float32 with PyTorch's pseudo-inverse and its default cut: ``(N, C, H, W)`` to ``(N, H, W)`` float32."""
    pixels = cube.float().flatten(2)
    left_out = torch.zeros(1, 1).bool() if mask is None else torch.as_tensor(mask).bool().view(-1, pixels.shape[2])
    left_out = left_out[:, None].to(pixels.device)
    samples = (~left_out).expand(len(pixels), 1, pixels.shape[2]).sum(2, keepdim=True)
    centred = pixels - pixels.masked_fill(left_out, 0.0).sum(2, keepdim=True) / samples
    used = centred.masked_fill(left_out, 0.0)
    inverse = torch.linalg.pinv(used @ used.mT / (samples - 1))
    return ((inverse @ centred) * centred).sum(1).view(cube.shape[0], *cube.shape[2:])
