"""Local RX on the leading principal components: its cost does not depend on the windows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fers.detectors.windows import DualWindow, checked

_ROWS_BYTES = 1 << 26  # of products at a time, about
_FLOOR = 1e-9  # added to every variance: a constant surrounding then has a finite distance; components have variance 1


@dataclass(frozen=True)
class LRXPC:
    """Local RX on whitened principal components: ``(z - m)^T (S + r I)^-1 (z - m)``.

    z are the scene's leading principal components, each scaled to unit variance. m and S are the mean and covariance
    of z in the ring between the two windows, both sums divided by the number of ring pixels. r is ``ridge`` times the
    mean variance, the trace of S over the number of components.
    The sums come from box filters of the components and of their products. Borders are reflected, the edge pixel not
    repeated, so near a border some pixels count twice.

    Args:
        inner: Side of the inner window in pixels, odd; at least the size of the objects looked for.
        outer: Side of the outer window in pixels, odd.
        components: How many components, at most; a scene of lower rank has fewer.
        ridge: As above, > 0.

    Raises:
        ValueError: On making it, an even window, inner >= outer, no component, or a ridge that is not positive. On
            calling it, a scene smaller than the outer window, NaN, or a cube in which no band varies.

    Cost: per image, H W C^2 for the components, and per pixel some p^2 + p^3 / 3 with p components, whatever the
    windows. Memory stays near 256 MiB beside two copies of the cube in float64.

    Source: this project's own combination of local RX (see ``LRX``) with principal components; no paper.

    Example:
        >>> cube = torch.randn(1, 3, 15, 15, generator=torch.Generator().manual_seed(0))
        >>> cube[0, :, 4, 7] += 20
        >>> int(LRXPC(inner=3, outer=9)(cube).argmax()) == 4 * 15 + 7
        True
    """

    inner: int = 11
    outer: int = 27
    components: int = 10
    ridge: float = 1e-3

    def __post_init__(self) -> None:
        DualWindow(self.inner, self.outer)
        if self.components < 1:
            raise ValueError(f"{self.components} components are none. Give 1 or more.")
        if not self.ridge > 0:
            raise ValueError(f"the ridge is {self.ridge:g}; a flat surrounding needs one. Give one above 0.")

    def __call__(self, cube: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0."""
        DualWindow(self.inner, self.outer).check_scene(*cube.shape[-2:])
        return torch.stack([self._image(whitened_components(image, self.components)) for image in checked(cube)])

    def _image(self, z: torch.Tensor) -> torch.Tensor:
        """``(p, H, W)`` components to ``(H, W)``, some rows at a time."""
        p, height, width = z.shape
        half = self.outer // 2
        padded = F.pad(z[None], (half, half, half, half), mode="reflect")[0]
        first, second = torch.triu_indices(p, p, device=z.device)
        rows = max(1, _ROWS_BYTES // (8 * len(first) * (width + 2 * half)) - 2 * half)
        scores = z.new_empty(height, width)
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            part = padded[:, start : stop + 2 * half]
            sums = self._ring_mean(torch.cat([part, part[first] * part[second]]))
            mean, products = sums[:p].movedim(0, -1), sums[p:].movedim(0, -1)
            covariance = mean.new_empty(*mean.shape, p)
            covariance[..., first, second] = covariance[..., second, first] = products
            covariance -= mean[..., :, None] * mean[..., None, :]
            variance = covariance.diagonal(dim1=-2, dim2=-1)
            variance += self.ridge * variance.mean(-1, keepdim=True).clamp_min(0) + _FLOOR
            centred = (z[:, start:stop].movedim(0, -1) - mean)[..., None]
            solved = torch.cholesky_solve(centred, torch.linalg.cholesky(covariance))
            scores[start:stop] = (centred * solved).sum((-2, -1))
        return scores

    def _ring_mean(self, values: torch.Tensor) -> torch.Tensor:
        cut = (self.outer - self.inner) // 2
        inside = values[:, cut : values.shape[1] - cut, cut : values.shape[2] - cut]
        return (_box_sum(values, self.outer) - _box_sum(inside, self.inner)) / (self.outer**2 - self.inner**2)


def whitened_components(image: torch.Tensor, components: int) -> torch.Tensor:
    """The leading principal components of an image, each of unit variance.

    Args:
        image: ``(C, H, W)`` float64.
        components: How many, at most; eigenvalues below C * eps of the largest are never used.

    Returns:
        ``(components or fewer, H, W)``, the largest variance first; the signs are arbitrary.

    Raises:
        ValueError: No band varies.
    """
    pixels = image.flatten(1)
    centred = pixels - pixels.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh(centred @ centred.T / (pixels.shape[1] - 1))
    if not float(values[-1]) > 0:
        raise ValueError("no band of this cube varies; there is nothing to measure a distance in.")
    kept = int((values > len(values) * torch.finfo(values.dtype).eps * values[-1]).sum().clamp(max=components))
    values, vectors = values[-kept:].flip(0), vectors[:, -kept:].flip(1)
    return ((vectors / values.sqrt()).T @ centred).view(kept, *image.shape[1:])


def _box_sum(values: torch.Tensor, side: int) -> torch.Tensor:
    """``(K, H, W)`` to the sums of all squares of a side that fit: ``(K, H - side + 1, W - side + 1)``."""
    for axis in (1, 2):
        sums = F.pad(values.cumsum(axis), (1, 0) if axis == 2 else (0, 0, 1, 0))
        values = sums.narrow(axis, side, sums.shape[axis] - side) - sums.narrow(axis, 0, sums.shape[axis] - side)
    return values
