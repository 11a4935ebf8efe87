"""Fusion D, this project's own: fusion C, told what size objects have. No row of the paper has it.

Most of what fusion C ranks above true objects is long or wide: edges, roads, shores, whole patches of odd ground. Objects
are short in every direction. Two contrasts say so, one of the components and one of the score itself.

    S = C + 1/2 log(T + 1/10)        T = sum_c (z_c - opened(z_c)) + (closed(z_c) - z_c)
    D = S - 1/2 opened(S)

- z_c are the three leading principal components of H, each of unit variance over the scene.
- opened(x) is the highest level that some straight line of 21 px through the pixel keeps on its whole length: along
  the row, the column, or a diagonal. closed(x) is -opened(-x).

So T is what is brighter or darker than every line through a pixel, and D lowers a high score among high scores. Both need
20 px around a pixel. docs/beyond.md has what each part brings.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from fers.detectors.local_pc import Windows
from fers.scoring import fusion_c

LENGTH = 21  # px of a line, odd: objects are shorter
COMPONENTS = 3
LEAST_CONTRAST = 0.1  # added to T, in standard deviations of a component

_REACH = LENGTH - 1  # px around a pixel that its opening depends on
_DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows and columns from a pixel of a line to the next
_OPENED_ROWS = 512  # of a score map to open at a time


class LogDistancesAndContrast(fusion_c.LogDistances):
    """All of S except the detector's map: that of fusion C, and ``1/2 log(T + 1/10)``.

    Raises:
        ValueError: As for fusion C.

    Source: this project; no paper.
    """

    halo = max(fusion_c.LogDistances.halo, _REACH)

    def of_components(self, z: torch.Tensor, windows: Windows, left_out: torch.Tensor | None) -> torch.Tensor:
        """Score whitened components ``(r, H, W)`` to ``(H, W)``."""
        contrast = line_contrast(z[:COMPONENTS], left_out).sum(0)
        return super().of_components(z, windows, left_out) + (contrast + LEAST_CONTRAST).log() / 2


def join_in_contrast(maps: Sequence[torch.Tensor]) -> torch.Tensor:
    """Join the detector's map and that of ``LogDistancesAndContrast``, ``(N, H, W)`` each of the whole scene, to fusion D.

    Pixels that are NaN, because nothing is scored there, have no part in the others' scores.
    """
    score = fusion_c.join(maps)
    height, out = score.shape[1], torch.empty_like(score)
    for start in range(0, height, _OPENED_ROWS):
        first, stop = max(start - _REACH, 0), min(start + _OPENED_ROWS, height)
        part = score[:, first : stop + _REACH]
        opened = line_opening(part, part.isnan())[:, start - first :][:, : stop - start]
        out[:, start:stop] = score[:, start:stop] - opened / 2
    return out


def line_contrast(z: torch.Tensor, left_out: torch.Tensor | None = None, length: int = LENGTH) -> torch.Tensor:
    """Compute how far each pixel is above or below every line through it: ``(..., H, W)``, >= 0.

    Args:
        z: ``(..., H, W)``, finite.
        left_out: ``(H, W)``, True = has no part in the others' contrasts.
        length: As for ``line_opening``.
    """
    above, below = z - line_opening(z, left_out, length), -line_opening(-z, left_out, length) - z
    return above.clamp_min(0) + below.clamp_min(0)  # of a pixel that is left out they may be negative


def line_opening(x: torch.Tensor, left_out: torch.Tensor | None = None, length: int = LENGTH) -> torch.Tensor:
    """Flatten what no line of ``length`` pixels fits into: the largest of the openings by lines in four directions.

    Diagonal lines have as many pixels as make them about as long. At the scene's border, lines end there, with at least
    half of their pixels inside.

    Args:
        x: ``(..., H, W)``.
        left_out: Pixels that do not count, of ``x``'s shape or ``(H, W)``; they may be NaN.
        length: Pixels of a line along a row or column, odd.

    Returns:
        ``(..., H, W)``, at most ``x`` where pixels count.
    """
    negative = -x if left_out is None else (-x).masked_fill(left_out, -torch.inf)
    opened = torch.full_like(x, -torch.inf)
    for down, across in _DIRECTIONS:
        half = length // 2 if 0 in (down, across) else int(length / 2**1.5)
        eroded = -_highest_along(negative, half, down, across)
        eroded = eroded.masked_fill(eroded == torch.inf, -torch.inf)  # a line of pixels that do not count
        opened = torch.maximum(opened, _highest_along(eroded, half, down, across))
    return torch.where(opened == -torch.inf, x, opened)


def _highest_along(x: torch.Tensor, half: int, down: int, across: int) -> torch.Tensor:
    """Maxima over the lines of ``2 half + 1`` pixels that are centred on each pixel, as far as they are inside."""
    height, width = x.shape[-2:]
    rows, columns = half * abs(down), half * abs(across)
    x = F.pad(x, (columns, columns, rows, rows), value=-torch.inf)
    covered, length = 1, 2 * half + 1  # x[p] holds the maximum of this many pixels from p on
    while covered < length:
        by = min(covered, length - covered)
        row, column = by * down, by * across
        moved = F.pad(x, (max(-column, 0), max(column, 0), 0, row), value=-torch.inf)
        moved = moved[..., row:, max(column, 0) :][..., : x.shape[-1]]
        x, covered = torch.maximum(x, moved), covered + by
    left = 0 if across >= 0 else 2 * columns  # where a line begins whose centre is in the first column
    return x[..., :height, left : left + width]
