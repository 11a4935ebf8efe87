"""The dual window: a pixel's close neighbourhood, and the ring around it that stands for the background.

Both windows are squares around the pixel. Near a border they are moved inwards until they lie inside the scene, so
each keeps its size, no pixel is invented or counted twice, and the ring never holds a pixel of the inner window.

From one column to the next a ring gains and loses few pixels. So its sums are kept, and only what enters and leaves is
added and subtracted, in some rows at once (``DualWindow.slide``). Sums that have lost digits are made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from fers.detectors.background import whitened, whitened_where_certain
from fers.detectors.base import with_float64

BLOCK_BYTES = 1 << 27  # of working memory at a time, about
_MOST_GROWTH = 4  # squares that went through a band's sum, over what is left of them: beyond, the sums are made again


@dataclass(frozen=True)
class Image:
    """Spectra of an image.

    Attributes:
        pixels: ``(H * W, C)`` float64.
        weights: ``(H * W,)`` float64: 1, or 0 for a pixel that is left out of every surrounding.
        height, width: H and W.
        leaves_out: Whether any pixel is left out.
    """

    pixels: torch.Tensor
    weights: torch.Tensor
    height: int
    width: int
    leaves_out: bool


@dataclass
class RingSums:
    """Sums over the pixels that count of P rings, as float64.

    Attributes:
        origin: ``(P, C)``, what the pixels are measured from: the mean of the ring when its sums were begun.
        count: ``(P,)``, how many pixels count.
        first: ``(P, C)``, sums of the pixels less the origin.
        second: ``(P, C, C)``, sums of their outer products.
        squares: ``(P, C)``, sums of the squares of all that was ever added or subtracted.
    """

    origin: torch.Tensor
    count: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def of(cls, image: Image, ring: torch.Tensor) -> RingSums:
        """Sum rings of these pixels, ``(P, ring_size)``, measured from their means."""
        pixels, counts = image.pixels[ring], image.weights[ring][:, :, None]
        count = counts.sum(1)
        # measured from one of its own pixels first, a constant band has a variance of exactly zero, not of a rounding error
        start = pixels.gather(1, counts.argmax(1, keepdim=True).expand(-1, 1, pixels.shape[2]))
        pixels -= start
        mean = (pixels * counts).sum(1, keepdim=True) / count.clamp_min(1)[:, None]
        pixels = (pixels - mean).mul_(counts)
        second = pixels.mT @ pixels
        squares = second.diagonal(dim1=1, dim2=2).clone()
        return cls((start + mean)[:, 0], count[:, 0], pixels.sum(1), second, squares)

    def move(self, image: Image, pixels: torch.Tensor, signs: torch.Tensor) -> None:
        """Add the pixels ``(P, k)`` that enter (sign 1) to each ring, and subtract those that leave it (sign -1)."""
        counts = image.weights[pixels]
        moved = (image.pixels[pixels] - self.origin[:, None]) * counts[:, :, None]
        signed = moved * signs[:, None]
        self.second.baddbmm_(signed.mT, moved)
        self.first += signed.sum(1)
        self.squares += moved.square_().sum(1)
        self.count += counts @ signs

    def scatter(self) -> torch.Tensor:
        """Sum the outer products of the pixels less their mean, ``(P, C, C)``."""
        mean = self.first / self.count.clamp_min(1)[:, None]
        return torch.baddbmm(self.second, self.first[:, :, None], mean[:, None], alpha=-1)

    def products(self) -> torch.Tensor:
        """Sum the outer products of the pixels as they are, ``(P, C, C)``."""
        total = self.first + self.count[:, None] * self.origin
        left, right = torch.stack([self.first, self.origin], 2), torch.stack([self.origin, total], 1)
        return torch.baddbmm(self.second, left, right)

    def mean(self) -> torch.Tensor:
        """Mean of the pixels, ``(P, C)``."""
        return self.origin + self.first / self.count.clamp_min(1)[:, None]

    def worn(self) -> torch.Tensor:
        """Tell which sums have lost digits to what has gone through them, ``(P,)`` bool."""
        left = self.second.diagonal(dim1=1, dim2=2) - self.first.square() / self.count.clamp_min(1)[:, None]
        return (self.squares > _MOST_GROWTH * left).any(1)

    def replace(self, which: torch.Tensor, other: RingSums) -> None:
        """Put other sums in the place of some."""
        for name in ("origin", "count", "first", "second", "squares"):
            getattr(self, name)[which] = getattr(other, name)


Whiten = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
Score = Callable[[Image, torch.Tensor, RingSums, Whiten], tuple[torch.Tensor, torch.Tensor]]


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

    def scores(self, cube: torch.Tensor, score: Score, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """Score every pixel against the sums over its ring.

        Args:
            cube: ``(N, C, H, W)``, as ``checked`` gives it.
            score: Takes an image, P of its pixels, the sums over their rings, and what whitens vectors by a covariance
                (``whitened``). Returns ``(P,)`` scores, and ``(P,)`` bool where they are certain. Where they are not, it
                is asked again, with sums made afresh, and by the rank rule.
            left_out: ``(N, H, W)`` bool, pixels that are left out of every surrounding.

        Returns:
            ``(N, H, W)``.

        Raises:
            ValueError: The outer window is larger than the scene.
        """
        n, bands, height, width = cube.shape
        block = max(1, BLOCK_BYTES // (64 * bands**2 + self.outer**2 * (24 * bands + 24)))
        full = self.ring_size > bands  # else the rank rule decides everywhere
        scores = cube.new_empty(n, height * width)
        for image, out in zip(self.images(cube, left_out), scores, strict=True):
            for rows in torch.arange(height, device=cube.device).split(block):
                for centre, sums in self._slide(image, rows, full):
                    value, certain = score(image, centre, sums, whitened_where_certain if full else whitened)
                    if not bool(certain.all()):
                        sums = RingSums.of(image, self.ring_pixels(centre[~certain], image))
                        value[~certain], _ = score(image, centre[~certain], sums, whitened)
                    out[centre] = value
        return scores.view(n, height, width)

    def images(self, cube: torch.Tensor, left_out: torch.Tensor | None) -> Iterator[Image]:
        """Yield the images of a cube ``(N, C, H, W)``; ``left_out``: ``(N, H, W)`` bool.

        Raises:
            ValueError: The outer window is larger than the scene.
        """
        height, width = cube.shape[2:]
        self.check_scene(height, width)
        for number, image in enumerate(cube):
            weights = image.new_ones(height * width)
            if left_out is not None:
                weights[left_out[number].to(cube.device).flatten()] = 0
            yield Image(image.flatten(1).T.contiguous(), weights, height, width, left_out is not None)

    def check_scene(self, height: int, width: int) -> None:
        """Raise ValueError where the outer window is larger than the scene."""
        if self.outer > min(height, width):
            raise ValueError(
                f"the outer window ({self.outer} px) is larger than the scene ({height} x {width} px). "
                "Give a smaller window or a larger scene."
            )

    def inner_pixels(self, centre: torch.Tensor, image: Image) -> torch.Tensor:
        """Find the pixels of the inner windows around pixels ``(P,)``: ``(P, inner**2)``."""
        rows = _side(centre // image.width, self.inner, image.height)
        return (rows[:, :, None] * image.width + _side(centre % image.width, self.inner, image.width)[:, None]).flatten(
            1
        )

    def ring_pixels(self, centre: torch.Tensor, image: Image) -> torch.Tensor:
        """Find the pixels between the windows around pixels ``(P,)``: ``(P, ring_size)``."""
        row, column = centre // image.width, centre % image.width
        rows, columns = _side(row, self.outer, image.height), _side(column, self.outer, image.width)
        inner_rows, inner_columns = _side(row, self.inner, image.height), _side(column, self.inner, image.width)
        rows, columns = rows[:, :, None], columns[:, None, :]
        in_ring = (rows < inner_rows[:, :1, None]) | (rows > inner_rows[:, -1:, None])
        in_ring = in_ring | (columns < inner_columns[:, None, :1]) | (columns > inner_columns[:, None, -1:])
        return (rows * image.width + columns)[in_ring].view(len(centre), self.ring_size)

    def _slide(self, image: Image, rows: torch.Tensor, keep: bool) -> Iterator[tuple[torch.Tensor, RingSums]]:
        """Yield, column by column, the pixels of some rows ``(P,)`` and the sums over their rings, kept or made afresh."""
        for column in range(image.width):
            centre = rows * image.width + column
            if column == 0 or not keep:
                sums = RingSums.of(image, self.ring_pixels(centre, image))
            else:
                sums.move(image, *self._moved(rows, column, image))
                if bool((worn := sums.worn()).any()):
                    sums.replace(worn, RingSums.of(image, self.ring_pixels(centre[worn], image)))
            yield centre, sums

    def _moved(self, rows: torch.Tensor, column: int, image: Image) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels ``(P, k)`` that enter or leave the rings when they move to this column, and their signs ``(k,)``."""
        pixels, signs = [rows.new_empty(len(rows), 0)], []
        for side, sign in ((self.outer, 1.0), (self.inner, -1.0)):
            before, now = (min(max(at - side // 2, 0), image.width - side) for at in (column - 1, column))
            if now != before:
                starts = _side(rows, side, image.height) * image.width
                pixels += [starts + now + side - 1, starts + before]
                signs += [sign] * side + [-sign] * side
        return torch.cat(pixels, 1), image.pixels.new_tensor(signs)


def _side(centre: torch.Tensor, side: int, size: int) -> torch.Tensor:
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
    return with_float64(cube).double()
