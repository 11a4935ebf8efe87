"""GAED: a guided autoencoder, and its guide, which is a detector of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch.nn import functional as F

from fers.detectors.base import Extent, StripDetector, Where
from fers.detectors.trained import SceneTrained, tenths
from fers.detectors.windows import checked

INNER_WIDTHS = (100, 50, 25, 50, 100)

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Weight ``(outputs, inputs)`` and bias ``(outputs,)`` of six layers; the inner widths are ``INNER_WIDTHS``."""


@dataclass(frozen=True)
class GAEDGuide(StripDetector):
    """GAED's guide as a detector: the squared distance to the most similar of eight neighbourhoods.

    Each band is scaled to [0, 1] by its own minimum and maximum. Each neighbourhood is half of the window around a pixel,
    cut straight or along a diagonal, without the pixel. The distance is to its mean spectrum. Borders are reflected, the
    edge pixel repeated. GAED's own guide is ``exp(-q^2)`` of this score q, which ranks the pixels in reverse.

    Nothing is trained, so it is a control for GAED.

    Args:
        window: Side of the window in pixels, odd, at least 3. Objects wider than half of it resemble a half.

    Raises:
        ValueError: The window is even or below 3; on calling it, a cube with NaN or other than four axes.

    Source: Xiang, Ali, Jung and Zhou, IEEE TGRS 60, 5538818, 2022, 10.1109/TGRS.2022.3207165.

    Example:
        >>> cube = torch.zeros(1, 3, 9, 9)
        >>> cube[0, :, 4, 6] = 1
        >>> int(GAEDGuide()(cube).argmax()) == 4 * 9 + 6
        True
    """

    window: int = 7
    statistics = Extent

    def __post_init__(self) -> None:
        if self.window < 3 or self.window % 2 == 0:
            raise ValueError(f"GAED-guide: the window is odd, at least 3 px; got {self.window}.")

    @property
    def halo(self) -> int:  # type: ignore[override]
        """Rows that the window needs."""
        return self.window // 2

    def collect(self, cube: torch.Tensor, left_out: torch.Tensor | None, where: Where) -> Extent:
        """Compute the range of each band."""
        return Extent.of(checked(cube), left_out)

    def score(self, cube: torch.Tensor, state: Any, left_out: torch.Tensor | None) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0; 0 where no pixel of the window counts."""
        return least_distance(state.scale(checked(cube)), self.window, left_out)


class GAED(SceneTrained):
    """GAED as its authors' code runs: an autoencoder whose codes of background-like pixels are pushed to zero.

    Each band is scaled to [0, 1] by its own minimum and maximum. Six sigmoid layers C-100-50-25-50-100-C have two skip
    connections, by addition. Plain gradient steps lower half the mean squared residual of each of ten batches, plus
    ``beta`` times the guide times the sum of the 25 codes. The score is the squared residual.

    The official code's gradient is wrong: what the skip connections carry back is taken after the derivative of the
    layer that they leave out. The detector rests on it. With the true gradient the network learns anomalies too.

    Args:
        seed: Seed of the initial weights and of the order of the pixels.
        beta: Weight of the guide.
        epochs: Passes over the pixels; 0 gives the scores of the untrained network, a control.
        rate: Size of the gradient steps.
        window: Side of the guide's window in pixels, see ``GAEDGuide``.
        gradient: ``published``, as in the official code, or ``true``.

    Raises:
        ValueError: An option is out of its range.

    Source: Xiang, Ali, Jung and Zhou, "Hyperspectral Anomaly Detection With Guided Autoencoder", IEEE TGRS 60, 5538818, 2022,
    10.1109/TGRS.2022.3207165; constants of the official code.

    Example:
        >>> GAED(epochs=2)(torch.rand(1, 5, 12, 10)).shape
        torch.Size([1, 12, 10])
    """

    name = "GAED"

    def __init__(
        self,
        seed: int = 0,
        beta: float = 1.0,
        epochs: int = 300,
        rate: float = 0.4,
        window: int = 7,
        gradient: Literal["published", "true"] = "published",
    ):
        super().__init__(seed, epochs)
        if gradient not in ("published", "true"):
            raise ValueError(f"GAED: gradient is 'published' or 'true'; got {gradient!r}.")
        if not (beta >= 0 and rate > 0):
            raise ValueError(f"GAED: beta is at least 0 and rate above 0; got {beta} and {rate}.")
        self.beta, self.rate, self.gradient = beta, rate, gradient
        self.guide = GAEDGuide(window)

    def __call__(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """Score each image; see ``SceneTrained``. Pixels ``left_out`` are scored, but have no part in the others' scores."""
        return self._scores(cube, left_out)

    def train(self, image: torch.Tensor, left_out: torch.Tensor | None = None) -> Iterator[Callable[[], torch.Tensor]]:
        """Train on one image; see ``SceneTrained``."""
        guide = self.guide(image, left_out).square().neg().exp().to(image).flatten()
        pixels = Extent.of(image, left_out).scale(image)[0].flatten(1).T.contiguous()
        used, guide = (x if left_out is None else x[~left_out.flatten()] for x in (pixels, guide))
        generator = torch.Generator().manual_seed(self.seed)
        sizes = (image.shape[1], *INNER_WIDTHS, image.shape[1])

        def draw(*shape: int) -> torch.Tensor:
            return (0.01 * torch.rand(shape, generator=generator)).to(image.device)

        layers = [(draw(b, a), draw(b)) for a, b in pairwise(sizes)]

        def score() -> torch.Tensor:
            return (outputs(layers, pixels)[-1] - pixels).square().sum(1).view(1, *image.shape[2:])

        yield score
        orders = (torch.randperm(len(used), generator=generator) for _ in range(self.epochs))
        for _ in fit_guided(layers, used, self.beta * guide, orders, self.rate, self.gradient):
            yield score


def least_distance(cube: torch.Tensor, window: int, left_out: torch.Tensor | None = None) -> torch.Tensor:
    """Compute q, the squared distance of each pixel to the nearest of the mean spectra of eight half-windows.

    Args:
        cube: ``(N, C, H, W)`` float64, scaled.
        window: Side in pixels, odd.
        left_out: ``(N, H, W)`` bool: pixels that do not count in the means.

    Returns:
        ``(N, H, W)``; 0 where no pixel of the window counts.
    """
    half = window // 2
    row, column = torch.meshgrid(*[torch.arange(-half, half + 1)] * 2, indexing="ij")
    halves = (
        column <= 0,
        column >= 0,
        row <= 0,
        row >= 0,
        row + column <= 0,
        column >= row,
        row + column >= 0,
        column <= row,
    )
    counts = torch.ones_like(cube[:, :1]) if left_out is None else (~left_out)[:, None].to(cube)
    with_counts = torch.cat([counts, cube * counts], dim=1)
    rows, columns = (_symmetric(n, half, cube.device) for n in cube.shape[2:])
    running = F.pad(with_counts[:, :, rows][..., columns].cumsum(3), (1, 0))  # each half is a run of pixels in each row
    height, width = cube.shape[2:]
    found = []
    for kept in halves:
        total = -with_counts
        for top, line in enumerate(kept):
            if line.any():
                first, last = line.nonzero().aminmax()
                strip = running[:, :, top : top + height]
                total += strip[..., last + 1 : last + 1 + width]
                total -= strip[..., first : first + width]
        count = total[:, :1].round()
        distance = (total[:, 1:].div_(count.clamp_min(1)) - cube).square_().sum(1)
        found.append(distance.masked_fill(count[:, 0] == 0, torch.inf))
    nearest = torch.stack(found).amin(0)
    return nearest.masked_fill(nearest.isinf(), 0)


def outputs(layers: Layers, x: torch.Tensor) -> list[torch.Tensor]:
    """Compute the outputs y1 to y6 of the six layers, ``(n, width)`` each, for pixels ``(n, B)``."""

    def layer(number: int, entered: torch.Tensor) -> torch.Tensor:
        weight, bias = layers[number]
        return torch.addmm(bias, entered, weight.T).sigmoid()

    y1 = layer(0, x)
    y2 = layer(1, y1)
    y3 = layer(2, y2)
    y4 = layer(3, y3)
    y5 = layer(4, y4 + y2)
    return [y1, y2, y3, y4, y5, layer(5, y5 + y1)]


@torch.no_grad()
def fit_guided(
    layers: Layers,
    pixels: torch.Tensor,
    push: torch.Tensor,
    orders: Iterable[torch.Tensor],
    rate: float,
    gradient: Literal["published", "true"] = "published",
) -> Iterator[torch.Tensor]:
    """Fit the layers in place.

    Args:
        layers: The layers.
        pixels: ``(n, B)`` in [0, 1].
        push: ``(n,)``, beta times the guide: how strongly a pixel's codes are pushed to zero.
        orders: For each epoch, a permutation of the pixels.
        rate: Size of the steps.
        gradient: See ``GAED``.

    Yields:
        Half the mean squared residual of each batch of an epoch, before its step.
    """
    for order in orders:
        losses = []
        for batch in tenths(order.to(pixels.device)):
            x = pixels[batch]
            y1, y2, y3, y4, y5, y6 = outputs(layers, x)
            _, (w2, _), (w3, _), (w4, _), (w5, _), (w6, _) = layers
            residual = y6 - x
            e6 = residual * y6 * (1 - y6)
            e5 = e6 @ w6 * y5 * (1 - y5)
            e4 = e5 @ w5 * y4 * (1 - y4)
            e3 = (e4 @ w4 + push[batch, None]) * y3 * (1 - y3)
            skip2, skip1 = (e4, e5) if gradient == "published" else (e5 @ w5, e6 @ w6)
            e2 = (e3 @ w3 + skip2) * y2 * (1 - y2)
            e1 = (e2 @ w2 + skip1) * y1 * (1 - y1)
            entered = (x, y1, y2, y3, y4 + y2, y5 + y1)
            for (weight, bias), error, came in zip(layers, (e1, e2, e3, e4, e5, e6), entered, strict=True):
                weight.addmm_(error.T, came, alpha=-rate / len(x))
                bias.add_(error.sum(0), alpha=-rate / len(x))
            losses.append(residual.square().sum(1).mean() / 2)
        yield torch.stack(losses)


def _symmetric(n: int, margin: int, device: torch.device) -> torch.Tensor:
    """Indices of n samples with ``margin`` more at both ends, reflected with the edge sample repeated."""
    at = torch.arange(-margin, n + margin, device=device) % (2 * n)
    return torch.where(at < n, at, 2 * n - 1 - at)
