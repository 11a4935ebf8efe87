"""Fusion C, this project's own: no row of the paper has it. It needs Spe-FEN only, trained or not, and any bands.

The paper's second branch looks for what the spectral one misses in space. Here local statistics of the cube do
that. No single rank and window is chosen: the logarithms of the distances are averaged over several.

    C = 1/2 (log D(H + F_spe) + mean_k log d_k(H)) + mean_w mean_j log d_jw(H)

- D is the detector's map.
- d_k is the squared Mahalanobis distance in the k leading principal components of H, k = 10, 20, 40, 80.
- d_jw is the same in the j leading components, j = 1 ... 16, against the pixel's own surroundings: mean and
  covariance between an inner and an outer square window, w = (5, 15) and (15, 35) pixels.

A sum of logarithms is a product of maps that needs no scaling: no map's extreme value changes another's weight.
docs/beyond.md has what each part brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fers.detectors import Background, Detector

Windows = tuple[tuple[int, int], ...]

WINDOWS: Windows = ((5, 15), (15, 35))  # outer = 2 inner + 5; the next inner one is the last outer one
LOCAL_RANK = 16
GLOBAL_RANKS = (10, 20, 40, 80)  # or all components instead of a rank that is above their number
RIDGE = 1e-3  # added to the local covariance, in units of the scene's variance along each component
HALO = 17  # px that a block of a large scene needs around it: half the largest window

_FLOOR = 1e-12  # of a distance, before its logarithm
_BYTES = 1 << 26  # of running sums at a time, about
_PIXELS = 1 << 12  # whose covariances are factored together; fewer cost calls, more leave the cache


@dataclass(frozen=True)
class Components:
    """The leading principal components of a scene, whitened.

    Attributes:
        mean: ``(C,)`` float64.
        whitening: ``(r, C)`` float64: rows are the leading eigenvectors of the covariance, the largest variance first,
            each divided by its standard deviation. r is 80, or the covariance's rank where that is less.
    """

    mean: torch.Tensor
    whitening: torch.Tensor

    @classmethod
    def of(cls, image: torch.Tensor) -> Components:
        """Of an image ``(C, H, W)``."""
        background = Background.from_cube(image[None])
        return cls.from_moments(background.mean[0], background.covariance[0])

    @classmethod
    def from_moments(cls, mean: torch.Tensor, covariance: torch.Tensor) -> Components:
        """From a mean ``(C,)`` and a covariance ``(C, C)``, float64.

        Raises:
            ValueError: No band varies.
        """
        values, vectors = torch.linalg.eigh(covariance)
        values, vectors = values.flip(0), vectors.flip(1)
        if not float(values[0]) > 0:
            raise ValueError("no band of this cube varies; there is nothing to measure a distance in.")
        sound = int((values > len(values) * torch.finfo(values.dtype).eps * values[0]).sum())
        rank = min(sound, GLOBAL_RANKS[-1])
        return cls(mean, (vectors[:, :rank] / values[:rank].sqrt()).T)

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """``(C, H, W)`` to ``(r, H, W)``, each component of zero mean and unit variance over the scene."""
        pixels = image.flatten(1).double()
        return torch.addmm((-self.whitening @ self.mean)[:, None], self.whitening, pixels).view(-1, *image.shape[1:])


def fusion_c(
    detector: Detector,
    h: torch.Tensor,
    f_spe: torch.Tensor,
    *,
    left_out: torch.Tensor | None = None,
    background: Background | None = None,
    windows: Windows | None = None,
) -> torch.Tensor:
    """Fusion C of some scenes, or of a block of one; the module's text has the formula.

    A large scene streams by blocks with ``HALO`` pixels around them, which are cut off afterwards. Its state is the
    detector's, the ``Background`` of the whole scene's H, and ``windows_for`` of the whole scene's size. A block must have more than ``HALO`` pixels on a side. The result is the whole scene's, up to rounding.

    Args:
        detector: RX, or any other whose map is not negative. For a block, one with the whole scene's statistics.
        h: ``(N, C, H, W)``, normalised.
        f_spe: F_spe of a Spe-FEN, trained or not, of h's shape.
        left_out: Pixels without data, ``(N, H, W)``, True = left out of components and surroundings. The detector must
            know them by itself.
        background: Of H, of the scenes that the blocks are from (``Background.from_blocks``); by default of h.
        windows: Pairs of inner and outer side in pixels, odd; by default ``windows_for`` h's size.

    Returns:
        ``(N, H, W)`` float64, any sign: a mean of logarithms. Higher is more anomalous.

    Raises:
        ValueError: Shapes do not fit, a value is NaN or infinite, no band varies, or the detector cannot score it.

    Source: this project; no paper. Its local term is ``detectors.LRXPC``'s distance, at several ranks and windows.

    Example:
        >>> from fers.detectors import rx
        >>> h = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))
        >>> h[0, :, 4, 7] += 20
        >>> int(fusion_c(rx, h, torch.zeros_like(h)).argmax()) == 4 * 20 + 7
        True
    """
    if h.ndim != 4 or h.shape != f_spe.shape:
        raise ValueError(
            f"H is {tuple(h.shape)} and F_spe {tuple(f_spe.shape)}; both must be N x C x H x W, and alike."
        )
    scored = detector(h + f_spe)
    if h.device.type == "mps":  # no float64 there
        h = h.cpu()
    if left_out is None:
        masks: Sequence[torch.Tensor | None] = [None] * len(h)
    else:
        masks = list(left_out)
    background = Background.from_cube(h, left_out) if background is None else background
    windows = windows_for(*h.shape[-2:]) if windows is None else windows
    maps = []
    for i, (image, mask) in enumerate(zip(h, masks, strict=True)):
        components = Components.from_moments(background.mean[i], background.covariance[i])
        z = components(image if mask is None else image.masked_fill(mask, 0))
        both = (_log(scored[i].to(z)) + global_log_distance(z)) / 2
        maps.append(both + local_log_distance(z[:LOCAL_RANK], windows, mask))
    return torch.stack(maps)


def windows_for(height: int, width: int) -> Windows:
    """``WINDOWS`` as far as they fit: an outer window is at most the scene's shorter side."""
    side = (min(height, width) - 1) // 2 * 2 + 1
    fitting = tuple((inner, min(outer, side)) for inner, outer in WINDOWS if inner < side)
    if not fitting:
        raise ValueError(f"{height} x {width} px; fusion C needs more than {WINDOWS[0][0]} px on each side.")
    return fitting


def global_log_distance(z: torch.Tensor) -> torch.Tensor:
    """Logarithm of the squared length of whitened components, averaged over ``GLOBAL_RANKS``.

    Args:
        z: ``(r, H, W)``, the largest variance first.

    Returns:
        ``(H, W)``.
    """
    total, logs, start = z.new_zeros(z.shape[1:]), [], 0
    for stop in GLOBAL_RANKS:
        if start < len(z):
            total = total + z[start:stop].square().sum(0)
            logs.append(_log(total))
        start = stop
    return torch.stack(logs).mean(0)


def local_log_distance(z: torch.Tensor, windows: Windows, left_out: torch.Tensor | None = None) -> torch.Tensor:
    """Logarithm of the squared Mahalanobis distance from a pixel's surroundings, averaged over ranks and windows.

    Mean and covariance are those of the pixels between the two windows, from one table of running sums, whatever the
    windows' sides. One Cholesky factor has the distances of every rank: the first j entries of the solution belong to
    the first j components. Borders are reflected, the edge pixel not repeated. Where pixels are left out and fewer than
    p + 2 remain, the whole scene's mean and covariance stand in.

    Args:
        z: ``(p, H, W)`` float64, whitened components, the largest variance first.
        windows: Inner and outer side of each pair in pixels, odd, at most ``2 min(H, W) - 1``.
        left_out: ``(H, W)``, True = not among the surroundings.

    Returns:
        ``(H, W)``.
    """
    p, height, width = z.shape
    half = max(outer for _, outer in windows) // 2
    kept = z.new_ones(1, height, width) if left_out is None else (~left_out)[None].to(z)
    padded = F.pad(torch.cat([kept, z * kept])[None], (half,) * 4, mode="reflect")[0]
    rows = max(1, _BYTES // (8 * (1 + p + p * (p + 1) // 2) * (width + 2 * half)) - 2 * half)
    few = max(1, _PIXELS // width)
    maps = []
    for start in range(0, height, rows):
        part = padded[:, start : min(start + rows, height) + 2 * half]
        table = _running_sums(part)
        for top in range(0, part.shape[1] - 2 * half, few):
            stop = min(top + few, part.shape[1] - 2 * half)
            box = {
                side: _box_sum(table, side, top + half, stop + half, half) for side in {s for w in windows for s in w}
            }
            own = z[:, start + top : start + stop]
            logs = [_log_distances(own, box[outer] - box[inner]) for inner, outer in windows]
            maps.append(torch.stack(logs).mean(0))
    return torch.cat(maps)


def _running_sums(part: torch.Tensor) -> torch.Tensor:
    """Of a map of ones and p components, ``(1 + p, H, W)``: over all rows above and columns to the left, of themselves
    and of the products (0, 0), (0, 1), ..., (1, 1), ...: ``(1 + p + p (p + 1) / 2, H + 1, W + 1)``."""
    p, (height, width) = len(part) - 1, part.shape[1:]
    table = part.new_zeros(1 + p + p * (p + 1) // 2, height + 1, width + 1)
    table[: p + 1, 1:, 1:] = part
    for j, products in enumerate(table[p + 1 :, 1:, 1:].split(list(range(p, 0, -1)))):
        torch.mul(part[1 + j :], part[1 + j], out=products)
    return torch.cumsum(torch.cumsum(table, 1, out=table), 2, out=table)


def _box_sum(table: torch.Tensor, side: int, top: int, stop: int, left: int) -> torch.Tensor:
    """Sums of the squares around rows ``[top, stop)`` and the columns from ``left`` to as many from the other edge."""
    reach, stop_column = side // 2, table.shape[2] - 1 - left
    upper, lower = slice(top - reach, stop - reach), slice(top + reach + 1, stop + reach + 1)
    before, after = slice(left - reach, stop_column - reach), slice(left + reach + 1, stop_column + reach + 1)
    return table[:, lower, after] - table[:, lower, before] - table[:, upper, after] + table[:, upper, before]


def _log_distances(own: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
    """Mean logarithm over ranks: ``(p, h, w)`` pixels, and sums of ones, components and products around each."""
    p, count = len(own), sums[0].round()
    sums[1:] /= count.clamp_min(1)
    mean, columns = sums[1 : p + 1], sums[p + 1 :].split(list(range(p, 0, -1)))
    for j in range(p):
        columns[j].addcmul_(mean[j:], mean[j], value=-1)
        columns[j][0] += RIDGE
    if bool((few := count < p + 2).any()):
        mean.masked_fill_(few, 0)
        for column in columns:
            column.masked_fill_(few, 0)[0].masked_fill_(few, 1)
    rest, distance, total = own - mean, torch.zeros_like(own[0]), torch.zeros_like(own[0])
    for j in range(p):  # Cholesky, a column of the lower factor at a time
        column = columns[j].mul_(columns[j][0].rsqrt())
        y = rest[j] / column[0]
        rest[j + 1 :].addcmul_(column[1:], y, value=-1)
        for i in range(1, p - j):
            columns[j + i].addcmul_(column[i:], column[i], value=-1)
        distance += y.square_()
        total += _log(distance)
    return total / p


def _log(distance: torch.Tensor) -> torch.Tensor:
    return distance.clamp_min(_FLOOR).log()
