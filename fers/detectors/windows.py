"""The dual window: a pixel's close neighbourhood, and the ring around it that stands for the background.

Both windows are squares around the pixel. Near a border they are moved inwards until they lie inside the scene, so
each keeps its size, no pixel is invented or counted twice, and the ring never holds a pixel of the inner window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

_BLOCK_BYTES = 1 << 27  # of working memory at a time, about


@dataclass(frozen=True)
class Neighbourhoods:
    """P pixels and their surroundings, as indices of an image's ``H * W`` pixels.

    Attributes:
        centre: ``(P,)``, the pixels themselves.
        inner: ``(P, inner**2)``, their inner windows.
        ring: ``(P, ring_size)``, the pixels between their windows.
        counts: ``(H * W,)`` bool, False for pixels that are left out of every surrounding; None where none is.
    """

    centre: torch.Tensor
    inner: torch.Tensor
    ring: torch.Tensor
    counts: torch.Tensor | None = None

    @property
    def ring_counts(self) -> torch.Tensor | None:
        """Pixels of the rings that count, ``(P, ring_size)`` bool; None where all do."""
        return None if self.counts is None else self.counts[self.ring]


@dataclass(frozen=True)
class DualWindow:
    """Side lengths of the two windows.

    Attributes:
        inner: Side of the inner window in pixels, odd. It should hold the largest object expected.
        outer: Side of the outer window in pixels, odd, larger than ``inner``.

    Raises:
        ValueError: A side is even or not positive, or ``inner`` is not smaller than ``outer``.
    """

    inner: int
    outer: int

    def __post_init__(self) -> None:
        for name, side in (("inner", self.inner), ("outer", self.outer)):
            if side < 1 or side % 2 == 0:
                raise ValueError(
                    f"the {name} window is {side} px; a pixel needs a centre. Give an odd number, 1 or more."
                )
        if self.inner >= self.outer:
            raise ValueError(
                f"the inner window ({self.inner} px) leaves no ring inside the outer ({self.outer} px). "
                "Give an inner window smaller than the outer."
            )

    @property
    def halo(self) -> int:
        """Rows around a strip that hold every window of its pixels, those moved inwards at the scene's border too."""
        return self.outer - 1

    @property
    def ring_size(self) -> int:
        """Number of pixels between the windows."""
        return self.outer**2 - self.inner**2

    def scores(
        self,
        cube: torch.Tensor,
        score: Callable[[torch.Tensor, Neighbourhoods], torch.Tensor],
        bytes_per_pixel: int,
        left_out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Score every pixel against its ring, a block of pixels at a time.

        Args:
            cube: ``(N, C, H, W)``, as ``checked`` gives it.
            score: Takes all spectra of an image, ``(H * W, C)``, and where to find those of P pixels and of their
                surroundings. Returns ``(P,)``.
            bytes_per_pixel: Working memory that ``score`` needs for one pixel, without the spectra of both windows.
            left_out: ``(N, H, W)`` bool, pixels that are left out of every surrounding.

        Returns:
            ``(N, H, W)``.

        Raises:
            ValueError: The outer window is larger than the scene.
        """
        n, bands, height, width = cube.shape
        self.check_scene(height, width)
        block = max(1, _BLOCK_BYTES // (bytes_per_pixel + self.outer**2 * (8 * bands + 24)))
        scores = cube.new_empty(n, height * width)
        for number, (image, out) in enumerate(zip(cube, scores, strict=True)):
            pixels = image.flatten(1).T.contiguous()
            counts = None if left_out is None else ~left_out[number].to(cube.device).flatten()
            for where in self.blocks(height, width, block, cube.device):
                out[where.centre] = score(pixels, replace(where, counts=counts))
        return scores.view(n, height, width)

    def check_scene(self, height: int, width: int) -> None:
        """Raise ValueError where the outer window is larger than the scene."""
        if self.outer > min(height, width):
            raise ValueError(
                f"the outer window ({self.outer} px) is larger than the scene ({height} x {width} px). "
                "Give a smaller window or a larger scene."
            )

    def blocks(self, height: int, width: int, block: int, device: torch.device) -> Iterator[Neighbourhoods]:
        """Yield the surroundings of some pixels at a time, in the order of the scene's pixels."""
        for centre in torch.arange(height * width, device=device).split(block):
            row, column = centre // width, centre % width
            rows, columns = (self._start(at, self.outer, size) for at, size in ((row, height), (column, width)))
            inner_rows, inner_columns = (
                self._start(at, self.inner, size) for at, size in ((row, height), (column, width))
            )
            rows, columns = rows[:, :, None], columns[:, None, :]
            in_ring = (rows < inner_rows[:, :1, None]) | (rows > inner_rows[:, -1:, None])
            in_ring = in_ring | (columns < inner_columns[:, None, :1]) | (columns > inner_columns[:, None, -1:])
            ring = (rows * width + columns)[in_ring].view(len(centre), self.ring_size)
            yield Neighbourhoods(centre, (inner_rows[:, :, None] * width + inner_columns[:, None, :]).flatten(1), ring)

    @staticmethod
    def _start(centre: torch.Tensor, side: int, size: int) -> torch.Tensor:
        """Rows (or columns) of windows around P centres, moved inside ``range(size)``: ``(P, side)``."""
        first = (centre - side // 2).clamp(0, size - side)
        return first[:, None] + torch.arange(side, device=centre.device)


def checked(cube: torch.Tensor) -> torch.Tensor:
    """Check a cube and convert it to float64, on its device (on the CPU where the device has no float64).

    Args:
        cube: ``(N, C, H, W)``, any real type.

    Raises:
        ValueError: The tensor has other than four axes, or holds NaN or infinite values.
    """
    if cube.ndim != 4:
        raise ValueError(f"a cube is N x C x H x W; got {tuple(cube.shape)}. Add the missing axes.")
    if not bool(torch.isfinite(cube).all()):
        raise ValueError("the cube holds NaN or infinite values. Cut those pixels away, or fill them.")
    return (cube.cpu() if cube.device.type == "mps" else cube).double()
