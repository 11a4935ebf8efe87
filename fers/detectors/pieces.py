"""Steps that several of the published detectors share: components, thresholds, and the shrinking of vectors and spectra."""

from __future__ import annotations

import numpy as np
import torch

from fers.detectors.background import Background
from fers.detectors.base import Extent


def scaled_components(cube: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Compute the leading principal components of each image, each scaled to [0, 1] over the scene.

    In each eigenvector the entry of largest magnitude is positive: the published codes' rule. The scale makes a sign matter.

    Args:
        cube: ``(N, C, H, W)`` of any real type.
        count: Components wanted; there are fewer where the rank is lower.

    Returns:
        For each image ``(r, H, W)`` float64, the largest variance first.

    Raises:
        ValueError: No band of an image varies, or a value is NaN or infinite.
    """
    found = []
    for image, components in zip(cube, Background.from_cube(cube).components(count), strict=True):
        rows = components.whitening.to(image.device)
        largest = rows.gather(1, rows.abs().argmax(1, keepdim=True))
        projected = components(image) * largest.sign()[:, :, None]
        found.append(Extent.of(projected[None]).scale(projected[None])[0])
    return found


def scaled_pixels(image: torch.Tensor, left_out: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale each band of an image ``(C, H, W)`` to [0, 1] by the range of the pixels that count.

    Returns:
        All pixels, ``(H W, C)``, and which of them count, ``(H W,)`` bool.

    Raises:
        ValueError: No band of the pixels that count varies.
    """
    out = None if left_out is None else left_out[None].to(image.device)
    pixels = Extent.of(image[None], out).scale(image[None])[0].flatten(1).T
    counts = torch.ones_like(pixels[:, 0], dtype=torch.bool) if out is None else ~out.flatten()
    if not bool(pixels[counts].any()):
        raise ValueError(
            f"no band varies over the {int(counts.sum())} pixels that count. Check the cube, or leave fewer out."
        )
    return pixels.contiguous(), counts


def otsu(values: np.ndarray) -> float:
    """Compute Otsu's threshold of values in [0, 1], over 256 levels; the mean of the levels where several are best.

    Source: N. Otsu, A Threshold Selection Method from Gray-Level Histograms, IEEE Trans. SMC 9(1), 1979.
    """
    share = np.bincount((255 * values.ravel() + 0.5).astype(int), minlength=256) / values.size
    weight, mean = share.cumsum(), (share * np.arange(256)).cumsum()
    inside = (weight > 0) & (weight < 1)
    between = np.zeros(256)
    between[inside] = (mean[-1] * weight - mean)[inside] ** 2 / (weight * (1 - weight))[inside]
    return float(np.flatnonzero(between == between.max()).mean() / 255)


def shrink(x: torch.Tensor, by: float, norm: torch.Tensor | None = None) -> torch.Tensor:
    """Shorten each vector along the first axis by ``by``, those shorter to zero: the proximal step of the 2,1 norm.

    Args:
        x: ``(B, ...)``.
        by: Length taken off, >= 0.
        norm: Lengths ``(...)`` if they are not the plain 2-norms.
    """
    norm = torch.linalg.vector_norm(x, dim=0) if norm is None else norm
    return x * (1 - by / norm.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_min(0)


def shrink_spectrum(matrix: torch.Tensor, by: float) -> torch.Tensor:
    """Lower the singular values of a wide matrix ``(m, n)`` by ``by``, at least to zero, by the eigenvectors of its Gram matrix."""
    squares, vectors = torch.linalg.eigh(matrix @ matrix.mT)
    values = squares.clamp_min(0).sqrt()
    kept = values > by
    vectors = vectors[:, kept]
    return torch.linalg.multi_dot([vectors * (1 - by / values[kept]), vectors.mT, matrix])
