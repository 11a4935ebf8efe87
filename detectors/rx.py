"""The Reed-Xiaoli detector: the squared Mahalanobis distance of each pixel from the scene's mean (eq. 17).

Hyperspectral covariance is nearly singular (condition numbers of 1e8 to 5e9 on the ABU scenes), so everything here
is float64 and the inverse is a pseudo-inverse with one fixed rank rule: bands of zero variance are dropped, the others
are standardised (which changes no score), and eigenvalues of their correlation matrix below B * eps of the largest
are dropped. Single precision, a ridge, or a looser cut changes AUC in the third digit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

_BLOCK = 1 << 15  # pixels per matrix product: bounds the float64 copies of a large scene


@dataclass(frozen=True)
class Background:
    """What RX measures against: computed once, it scores any number of cubes of the same bands.

    Attributes:
        mean: ``(N, B)`` float64.
        covariance: ``(N, B, B)`` float64, unbiased.
        samples: ``(N,)``, the pixels that each covariance was estimated from; None for one that came from elsewhere.
    """

    mean: torch.Tensor
    covariance: torch.Tensor
    samples: torch.Tensor | None = None


def estimate_background(cube: torch.Tensor | np.ndarray, mask: torch.Tensor | np.ndarray | None = None) -> Background:
    """Mean and unbiased covariance of each image.

    Args:
        cube: ``(N, C, H, W)`` tensor, or ``(H, W, B)`` / ``(N, H, W, B)`` array, any real type.
        mask: Pixels to leave out, True = left out: ``(H, W)``, or ``(N, H, W)``.

    Returns:
        The statistics, on the cube's device.

    Raises:
        ValueError: Shapes do not fit, a value used is NaN or infinite, or fewer than two pixels are left.
    """
    pixels, shape = _pixels(cube)
    keep = _kept(mask, shape, pixels.device)
    n = keep.sum(1)
    if int(n.min()) < 2:
        raise ValueError(f"{int(n.min())} pixels are left for the background; RX needs many more than bands.")
    # measured from one of its own pixels: a constant band then has a variance of exactly zero, not of a rounding error
    first = keep.int().argmax(1)
    origin = pixels[torch.arange(len(pixels), device=pixels.device), :, first].double()[:, :, None]

    def blocks(centre: torch.Tensor) -> Iterator[torch.Tensor]:
        for start in range(0, pixels.shape[2], _BLOCK):
            block = slice(start, start + _BLOCK)
            yield torch.where(keep[:, None, block], pixels[:, :, block].double() - centre, 0.0)

    mean = sum(block.sum(2, keepdim=True) for block in blocks(origin)) / n[:, None, None] + origin
    covariance = sum(block @ block.mT for block in blocks(mean)) / (n - 1)[:, None, None]
    if not (torch.isfinite(mean).all() and torch.isfinite(covariance).all()):
        raise ValueError("the cube holds NaN or infinite values. Leave those pixels out with a mask, or mend them.")
    return Background(mean[:, :, 0], covariance, n)


def rx(
    cube: torch.Tensor | np.ndarray,
    background: Background | tuple | None = None,
    mask: torch.Tensor | np.ndarray | None = None,
) -> torch.Tensor | np.ndarray:
    """Global RX: ``(x - mean)^T covariance^+ (x - mean)`` for every pixel.

    Args:
        cube: ``(N, C, H, W)`` tensor, or ``(H, W, B)`` / ``(N, H, W, B)`` array, any real type. Computed in float64,
            on the tensor's device (on the CPU where the device has no float64).
        background: Statistics to measure against: a ``Background``, or a pair (mean ``(B,)``, covariance ``(B, B)``).
            By default the image's own.
        mask: Pixels to leave out of the image's own statistics, True = left out: ``(H, W)`` or ``(N, H, W)``. They are
            scored all the same.

    Returns:
        Score map, float64, >= 0: ``(N, H, W)`` tensor, or array ``(H, W)`` / ``(N, H, W)``. Higher is more anomalous.

    Raises:
        ValueError: Shapes do not fit, values are not finite, ``mask`` comes with ``background``, or an image has too
            few pixels for its rank, where every pixel would get the same score.

    Source: SPEC 6; eq. 17; I. S. Reed and X. Yu, IEEE Trans. ASSP 38(10), 1990.

    Example:
        >>> cube = np.random.RandomState(0).normal(size=(20, 20, 5))
        >>> cube[3, 4] += 10
        >>> score = rx(cube)
        >>> score.shape, np.unravel_index(score.argmax(), score.shape) == (3, 4)
        ((20, 20), True)
    """
    pixels, shape = _pixels(cube)
    if background is None:
        statistics = estimate_background(cube, mask)
    elif mask is not None:
        raise ValueError(
            "a mask leaves pixels out of the image's own statistics; with a given background it does nothing."
        )
    else:
        statistics = _given(background, pixels)
    whitening, rank = _whitening(statistics.covariance)
    if statistics.samples is not None and bool((rank >= statistics.samples - 1).any()):
        raise ValueError(
            f"{int(statistics.samples.min())} pixels for {int(rank.max())} independent bands; every pixel would get the "
            "same score. Use more pixels or fewer bands."
        )
    mean = statistics.mean[:, :, None]
    scores = torch.cat(
        [(whitening @ (block.double() - mean)).square().sum(1) for block in pixels.split(_BLOCK, dim=2)], dim=1
    ).view(shape)
    if isinstance(cube, torch.Tensor):
        return scores
    return scores.numpy()[0] if np.ndim(cube) == 3 else scores.numpy()


def _whitening(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``(N, B, B)`` matrices W with ``W^T W`` the pseudo-inverse by the rank rule, and each one's rank ``(N,)``."""
    std = covariance.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    if bool((std == 0).all(1).any()):
        raise ValueError("no band of this background varies; there is nothing to measure a distance in.")
    inverse_std = torch.where(std > 0, 1 / std, 0.0)  # a band of zero variance has zeros for its row, hence no rank
    correlation = covariance * inverse_std[:, :, None] * inverse_std[:, None, :]
    eigenvalues, eigenvectors = torch.linalg.eigh(correlation)
    cut = covariance.shape[1] * torch.finfo(torch.float64).eps * eigenvalues[:, -1:]
    kept = eigenvalues >= cut
    scale = torch.where(kept, eigenvalues.clamp_min(cut).rsqrt(), 0.0)
    return scale[:, :, None] * eigenvectors.mT * inverse_std[:, None, :], kept.sum(1)


def _pixels(cube: torch.Tensor | np.ndarray) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """``(N, B, pixels)`` and ``(N, H, W)``."""
    if isinstance(cube, torch.Tensor):
        if cube.ndim != 4:
            raise ValueError(f"a tensor is N x C x H x W; got {tuple(cube.shape)}.")
        if cube.device.type == "mps":  # no float64 there
            cube = cube.cpu()
    else:
        cube = np.asarray(cube)
        if cube.ndim not in (3, 4):
            raise ValueError(f"an array is H x W x B or N x H x W x B; got {cube.shape}.")
        if not cube.dtype.isnative or (cube.dtype.kind == "u" and cube.dtype.itemsize > 1):  # torch has no such types
            cube = cube.astype(np.float64)
        cube = torch.from_numpy(np.ascontiguousarray(np.moveaxis(cube[None] if cube.ndim == 3 else cube, -1, 1)))
    n, bands, height, width = cube.shape
    return cube.reshape(n, bands, height * width), (n, height, width)


def _kept(mask: torch.Tensor | np.ndarray | None, shape: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    """``(N, pixels)`` bool, True where a pixel counts for the statistics."""
    if mask is None:
        return torch.ones((shape[0], shape[1] * shape[2]), dtype=torch.bool, device=device)
    mask = torch.as_tensor(mask, device=device).bool()
    if tuple(mask.shape) not in (shape, shape[1:]):
        raise ValueError(f"the mask is {tuple(mask.shape)}; the image is {shape[1]} x {shape[2]}.")
    return ~mask.expand(shape).reshape(shape[0], -1)


def _given(background: Background | tuple, pixels: torch.Tensor) -> Background:
    mean, covariance = (background.mean, background.covariance) if isinstance(background, Background) else background
    n, bands = pixels.shape[:2]
    mean = torch.as_tensor(mean, dtype=torch.float64, device=pixels.device)
    covariance = torch.as_tensor(covariance, dtype=torch.float64, device=pixels.device)
    if mean.shape[-1] != bands or covariance.shape[-2:] != (bands, bands):
        raise ValueError(
            f"the background is of {mean.shape[-1]} bands (covariance {tuple(covariance.shape)}); the cube has {bands}."
        )
    return Background(mean.expand(n, bands), covariance.expand(n, bands, bands))
