"""RGAE: the error of a small network that is fitted to the scene by a loss that outliers sway little."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch

from fers.detectors.base import Extent
from fers.detectors.trained import SceneTrained, tenths

RATE = 0.01


class RGAE(SceneTrained):
    """RGAE as its authors' code runs: a robust autoencoder of spectra, without a graph.

    The cube is scaled to [0, 1] by one minimum and maximum. A network of one hidden layer, with sigmoids after both layers,
    is fitted by plain gradient steps of rate 0.01 to the mean length of the residual, halved. Ten batches make an epoch. The
    score is the squared length of the residual.

    The paper adds a graph over superpixels. In the released code the graph's matrix is empty, so that term is zero.

    Training must not end early: for about the first hundred epochs the scores are reversed. On some scenes 1,200 epochs
    are not enough to settle.

    Args:
        seed: Seed of the initial weights and of the order of the pixels.
        hidden: Width of the hidden layer.
        epochs: Passes over the pixels; 0 gives the scores of the untrained network, a control.

    Raises:
        ValueError: ``hidden`` is below 1, or ``epochs`` is negative.

    Source: Fan, Ma, Mei, Fan, Huang and Ma, "Hyperspectral Anomaly Detection With Robust Graph Autoencoders", IEEE TGRS 60,
    2022, 10.1109/TGRS.2021.3097097; constants of the official code.

    Example:
        >>> RGAE(epochs=2)(torch.rand(1, 5, 12, 10)).shape
        torch.Size([1, 12, 10])
    """

    name = "RGAE"

    def __init__(self, seed: int = 0, hidden: int = 100, epochs: int = 1200):
        super().__init__(seed, epochs)
        if hidden < 1:
            raise ValueError(f"RGAE: hidden is at least 1; got {hidden}.")
        self.hidden = hidden

    def __call__(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """Score each image; see ``SceneTrained``. Pixels ``left_out`` are scored, but have no part in scaling and training."""
        return self._scores(cube, left_out)

    def train(self, image: torch.Tensor, left_out: torch.Tensor | None = None) -> Iterator[Callable[[], torch.Tensor]]:
        """Train on one image; see ``SceneTrained``."""
        pixels = Extent.of(image, left_out).whole().scale(image)[0].flatten(1).T.contiguous()
        used = pixels if left_out is None else pixels[~left_out.flatten()]
        generator = torch.Generator().manual_seed(self.seed)
        parameters = [p.to(image.device) for p in initial_parameters(image.shape[1], self.hidden, generator)]
        score = partial(_squared_residual, parameters, pixels, image.shape)
        yield score
        orders = (torch.randperm(len(used), generator=generator) for _ in range(self.epochs))
        for _ in fit_robustly(parameters, used, orders):
            yield score


def initial_parameters(bands: int, hidden: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Draw W1 ``(hidden, bands)``, b1, W2 ``(bands, hidden)`` and b2: weights from 0.01 U[0, 1), biases from U[0, 1)."""
    shapes = [(0.01, (hidden, bands)), (1.0, (hidden,)), (0.01, (bands, hidden)), (1.0, (bands,))]
    return [scale * torch.rand(shape, generator=generator) for scale, shape in shapes]


def reconstruct(parameters: list[torch.Tensor], pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the hidden layer's and the network's output of pixels ``(n, B)``: ``(n, hidden)`` and ``(n, B)``."""
    w1, b1, w2, b2 = parameters
    z = torch.addmm(b1, pixels, w1.T).sigmoid_()
    return z, torch.addmm(b2, z, w2.T).sigmoid_()


@torch.no_grad()
def fit_robustly(
    parameters: list[torch.Tensor], pixels: torch.Tensor, orders: Iterable[torch.Tensor]
) -> Iterator[torch.Tensor]:
    """Fit W1, b1, W2 and b2 in place, by half the gradient of the mean residual length of each batch.

    Args:
        parameters: As ``initial_parameters`` gives them.
        pixels: ``(n, B)`` in [0, 1].
        orders: For each epoch, a permutation of the pixels.

    Yields:
        The mean residual length of each batch of an epoch, before its step.
    """
    w1, b1, w2, b2 = parameters
    for order in orders:
        lengths = []
        for x in (pixels[batch] for batch in tenths(order.to(pixels.device))):
            z, output = reconstruct(parameters, x)
            error = output - x
            length = torch.linalg.vector_norm(error, dim=1, keepdim=True).clamp_min_(1e-12)
            lengths.append(length.mean())
            d2 = error.div_(2 * length).mul_(output).mul_(1 - output)
            d1 = (d2 @ w2).mul_(z).mul_(1 - z)
            step = -RATE / len(x)
            w2.addmm_(d2.T, z, alpha=step)
            b2.add_(d2.sum(0), alpha=step)
            w1.addmm_(d1.T, x, alpha=step)
            b1.add_(d1.sum(0), alpha=step)
        yield torch.stack(lengths)


@torch.no_grad()
def _squared_residual(parameters: list[torch.Tensor], pixels: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return (reconstruct(parameters, pixels)[1] - pixels).square().sum(1).view(1, *shape[2:])
