"""Local RX on the leading principal components: its cost does not depend on the windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fers.detectors.background import Background, Components, Moments
from fers.detectors.base import StripDetector, Where
from fers.detectors.windows import DualWindow, checked

Windows = tuple[tuple[int, int], ...]

_BYTES = 1 << 27  # of running sums at a time, about
_PIXELS = 1 << 12  # whose covariances are factored together; fewer cost calls, more leave the cache
_FLOOR = 1e-9  # added to every variance: a constant surrounding then has a finite distance; components have variance 1


@dataclass(frozen=True)
class LRXPC(StripDetector):
    """Local RX on whitened principal components: ``(z - m)^T (S + r I)^-1 (z - m)``.

    z are the scene's leading principal components, each scaled to unit variance. m and S are the mean and covariance
    of z in the ring between the two windows, both sums divided by the number of ring pixels. r is ``ridge`` times the
    mean variance, the trace of S over the number of components.
    The sums come from box filters of the components and of their products. Borders are reflected, the edge pixel not
    repeated, so near a border some pixels count twice.

    Args:
        inner: Side of the inner window in pixels, odd; at least the size of the objects looked for.
        outer: Side of the outer window in pixels, odd.
        components: Most components; a scene of lower rank has fewer.
        ridge: Factor of the ridge above, > 0.

    Raises:
        ValueError: On making it, an even window, inner >= outer, no component, or a ridge that is not positive. On
            calling it, a scene smaller than the outer window, NaN, or a cube in which no band varies.

    Cost: per image, H W C^2 for the components, and per pixel some p^2 + p^3 / 3 with p components, whatever the
    windows. Memory stays near 256 MiB, besides two copies of the cube in float64.

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
    statistics = Moments

    def __post_init__(self) -> None:
        DualWindow(self.inner, self.outer)
        if self.components < 1:
            raise ValueError(f"{self.components} components: give 1 or more.")
        if not self.ridge > 0:
            raise ValueError(f"the ridge is {self.ridge:g}; a flat surrounding needs one. Give one above 0.")

    @property
    def halo(self) -> int:  # type: ignore[override]
        """Rows that the outer window needs."""
        return self.outer // 2

    def collect(self, cube: torch.Tensor, left_out: torch.Tensor | None, where: Where) -> Moments:
        """Compute the moments from which the components come."""
        cube = checked(cube)
        DualWindow(self.inner, self.outer).check_scene(where.height, cube.shape[3])
        return Moments.of(cube, left_out)

    def fit(self, statistics: Moments, where: Where) -> list[Components]:
        """Compute the components of each image."""
        return Background.from_moments([statistics]).components(self.components)

    def score(self, cube: torch.Tensor, state: list[Components], left_out: torch.Tensor | None) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0; NaN where fewer than two pixels of a ring count."""
        images = checked(cube)
        outs = [None] * len(images) if left_out is None else list(left_out)
        return torch.stack([self._image(c(image), out) for c, image, out in zip(state, images, outs, strict=True)])

    def _image(self, z: torch.Tensor, left_out: torch.Tensor | None) -> torch.Tensor:
        maps = []
        for own, rings in ring_sums(z, ((self.inner, self.outer),), left_out):
            [sums] = rings
            count = sums[0].round()
            covariance = RingCovariance.of(sums, len(z))
            variance = torch.stack([column[0] for column in covariance.columns])
            ridge = self.ridge * variance.mean(0).clamp_min(0) + _FLOOR
            *_, distance = covariance.distances(own, ridge)
            maps.append(distance.masked_fill(count < 2, torch.nan))
        return torch.cat(maps)


def ring_sums(
    z: torch.Tensor, windows: Windows, left_out: torch.Tensor | None = None
) -> Iterator[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Yield sums over the pixels between two windows around every pixel, some rows at a time.

    One table of running sums serves all windows, whatever their sides. Borders are reflected, the edge pixel not repeated.

    Args:
        z: ``(p, H, W)`` float64, whitened components.
        windows: Inner and outer side of each pair in pixels, odd, at most ``2 min(H, W) - 1``.
        left_out: ``(H, W)``, True = not among the surroundings.

    Yields:
        Components of some rows, ``(p, h, W)``; and for each pair of windows the sums of ones, of the components and of their
        products (0, 0), (0, 1), ..., (1, 1), ...: ``(1 + p + p (p + 1) / 2, h, W)``.
    """
    p, height, width = z.shape
    half = max(outer for _, outer in windows) // 2
    kept = z.new_ones(1, height, width) if left_out is None else (~left_out)[None].to(z)
    padded = F.pad(torch.cat([kept, z * kept])[None], (half,) * 4, mode="reflect")[0]
    rows = max(1, _BYTES // (8 * (1 + p + p * (p + 1) // 2) * (width + 2 * half)) - 2 * half)
    few = max(1, _PIXELS // width)
    for start in range(0, height, rows):
        part = padded[:, start : min(start + rows, height) + 2 * half]
        table = _running_sums(part)
        for top in range(0, part.shape[1] - 2 * half, few):
            stop = min(top + few, part.shape[1] - 2 * half)
            box = {
                side: _box_sum(table, side, top + half, stop + half, half) for side in {s for w in windows for s in w}
            }
            yield z[:, start + top : start + stop], [box[outer] - box[inner] for inner, outer in windows]


@dataclass
class RingCovariance:
    """Mean and covariance of the rings around ``h x W`` pixels.

    Attributes:
        mean: ``(p, h, W)``.
        columns: Columns of the covariance's lower triangle: the j-th is ``(p - j, h, W)``.
    """

    mean: torch.Tensor
    columns: list[torch.Tensor]

    @classmethod
    def of(cls, sums: torch.Tensor, p: int) -> RingCovariance:
        """Divide the sums of ``ring_sums``, which are overwritten, by the number of pixels that count."""
        sums[1:] /= sums[0].round().clamp_min(1)
        mean, columns = sums[1 : p + 1], list(sums[p + 1 :].split(list(range(p, 0, -1))))
        for j in range(p):
            columns[j].addcmul_(mean[j:], mean[j], value=-1)
        return cls(mean, columns)

    def distances(self, own: torch.Tensor, ridge: torch.Tensor | float) -> Iterator[torch.Tensor]:
        """Yield the squared Mahalanobis distance of pixels in the first component, in the first two, ... in all p.

        The entries of one Cholesky solution belong to the components in turn. The columns are overwritten.

        Args:
            own: ``(p, h, W)``.
            ridge: Added to every variance.
        """
        columns, rest, distance = self.columns, own - self.mean, torch.zeros_like(own[0])
        for column in columns:
            column[0] += ridge
        for j, column in enumerate(columns):  # Cholesky, a column of the lower factor at a time
            column.mul_(column[0].rsqrt())
            y = rest[j] / column[0]
            rest[j + 1 :].addcmul_(column[1:], y, value=-1)
            for i in range(1, len(column)):
                columns[j + i].addcmul_(column[i:], column[i], value=-1)
            distance = distance + y.square_()
            yield distance


def _running_sums(part: torch.Tensor) -> torch.Tensor:
    """Sums over all rows above and columns to the left, of maps ``(1 + p, H, W)``: ones and p components.

    They are of the maps themselves and of the products (0, 0), (0, 1), ..., (1, 1), ...:
    ``(1 + p + p (p + 1) / 2, H + 1, W + 1)``.
    """
    p, (height, width) = len(part) - 1, part.shape[1:]
    table = part.new_zeros(1 + p + p * (p + 1) // 2, height + 1, width + 1)
    table[: p + 1, 1:, 1:] = part
    for j, products in enumerate(table[p + 1 :, 1:, 1:].split(list(range(p, 0, -1)))):
        torch.mul(part[1 + j :], part[1 + j], out=products)
    return torch.cumsum(torch.cumsum(table, 1, out=table), 2, out=table)


def _box_sum(table: torch.Tensor, side: int, top: int, stop: int, left: int) -> torch.Tensor:
    """Sums over squares around the pixels of rows ``[top, stop)``, less ``left`` columns at either edge."""
    reach, stop_column = side // 2, table.shape[2] - 1 - left
    rows = table[:, top + reach + 1 : stop + reach + 1] - table[:, top - reach : stop - reach]
    return rows[:, :, left + reach + 1 : stop_column + reach + 1] - rows[:, :, left - reach : stop_column - reach]
