"""GAED and its guide against golden files, plain loops and automatic gradients."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from fers.detectors.base import Extent
from fers.detectors.gaed import GAED, GAEDGuide, fit_guided, outputs


def pixels_of(cube: torch.Tensor) -> torch.Tensor:
    """Pixels column by column, as the reference numbers them."""
    return cube[0].permute(2, 1, 0).reshape(-1, cube.shape[1]).contiguous()


@pytest.fixture
def scaled(golden) -> torch.Tensor:
    cube = torch.from_numpy(golden("gaed")["cube"]).permute(2, 0, 1)[None]
    return Extent.of(cube).scale(cube)


def test_scaling_and_guide_agree_with_the_reference(golden, scaled):
    z = golden("gaed")
    assert np.array_equal(scaled[0].permute(1, 2, 0).numpy(), z["scaled"])
    guide = GAEDGuide()(torch.from_numpy(z["cube"]).permute(2, 0, 1)[None]).square().neg().exp()
    assert np.abs(guide[0].numpy() - z["guide"]).max() < 1e-16


@pytest.mark.parametrize("beta", [0, 1])
@pytest.mark.parametrize("epochs", [1, 3, 60])
def test_training_agrees_with_the_reference(golden, scaled, beta, epochs):
    z, x = golden("gaed"), pixels_of(scaled)
    layers = [tuple(torch.from_numpy(z[f"{key}{i}"].squeeze()) for key in "wb") for i in range(1, 7)]
    push = beta * torch.from_numpy(z["guide"]).T.flatten()
    losses = torch.cat(list(fit_guided(layers, x, push, torch.from_numpy(z["order"][:epochs]), rate=0.4)))
    rebuilt = outputs(layers, x)[-1]
    assert np.abs(losses.numpy() - z[f"loss_e{epochs}_b{beta}"]).max() < 1e-14
    assert np.abs(rebuilt.numpy().T - z[f"rec_e{epochs}_b{beta}"]).max() < 1e-14
    score = (rebuilt - x).square().sum(1).view(12, 10).T
    assert np.abs(score.numpy() - z[f"map_e{epochs}_b{beta}"]).max() < 1e-14
    assert score.argmax() == 4 * 12 + 6 or epochs < 60


def drawn(bands: int = 5, widths: tuple[int, ...] = (9, 6, 3, 6, 9), pixels: int = 23) -> tuple:
    """Layers, pixels and pushes at random, float64."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    sizes = (bands, *widths, bands)
    layers = [(draw(b, a) - 0.5, draw(b) - 0.5) for a, b in pairwise(sizes)]
    return layers, draw(pixels, bands), draw(pixels)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_a_published_step_is_the_papers_codes_pixel_by_pixel():
    layers, x, push = drawn()
    w, b = ([part.numpy().copy() for part in parts] for parts in zip(*layers, strict=True))
    order = torch.arange(23).flip(0)
    for start, stop in zip([0, 2, 4, 6, 8, 10, 12, 14, 17, 20], [2, 4, 6, 8, 10, 12, 14, 17, 20, 23], strict=True):
        gradients = [np.zeros_like(part) for part in (*w, *b)]
        for i in order[start:stop].tolist():
            spectrum = x[i].numpy()
            y1 = sigmoid(w[0] @ spectrum + b[0])
            y2 = sigmoid(w[1] @ y1 + b[1])
            y3 = sigmoid(w[2] @ y2 + b[2])
            y4 = sigmoid(w[3] @ y3 + b[3])
            y5 = sigmoid(w[4] @ (y4 + y2) + b[4])
            y6 = sigmoid(w[5] @ (y5 + y1) + b[5])
            e6 = (y6 - spectrum) * y6 * (1 - y6)
            e5 = w[5].T @ e6 * y5 * (1 - y5)
            e4 = w[4].T @ e5 * y4 * (1 - y4)
            e3 = (w[3].T @ e4 + push[i].item()) * y3 * (1 - y3)
            e2 = (w[2].T @ e3 + e4) * y2 * (1 - y2)
            e1 = (w[1].T @ e2 + e5) * y1 * (1 - y1)
            entered = (spectrum, y1, y2, y3, y4 + y2, y5 + y1)
            for n, error in enumerate((e1, e2, e3, e4, e5, e6)):
                gradients[n] += np.outer(error, entered[n]) / (stop - start)
                gradients[6 + n] += error / (stop - start)
        for part, gradient in zip((*w, *b), gradients, strict=True):
            part -= 0.4 * gradient
    list(fit_guided(layers, x, push, [order], rate=0.4))
    for n, (weight, bias) in enumerate(layers):
        assert np.abs(weight.numpy() - w[n]).max() < 1e-13 and np.abs(bias.numpy() - b[n]).max() < 1e-13


@pytest.mark.parametrize("gradient", ["true", "published"])
def test_only_the_true_gradient_is_that_of_the_loss(gradient):
    layers, x, push = drawn(pixels=10)  # ten batches of one pixel; the first decides
    before = [(weight.clone().requires_grad_(), bias.clone().requires_grad_()) for weight, bias in layers]
    y = outputs(before, x[:1])
    loss = (y[-1] - x[:1]).square().sum() / 2 + push[0] * y[2].sum()
    loss.backward()
    list(fit_guided(layers, x[:1], push[:1], [torch.arange(1)], 0.4, gradient))
    steps = [
        (old - 0.4 * old.grad - new).abs().max().item()
        for pair, found in zip(before, layers, strict=True)
        for old, new in zip(pair, found, strict=True)
    ]
    assert max(steps[4:]) < 1e-14  # the layers after the codes' own
    assert (max(steps[:4]) < 1e-14) == (gradient == "true")


def test_the_guide_is_the_nearest_of_eight_half_windows():
    cube = torch.rand(1, 4, 9, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, scaled = GAEDGuide()(cube)[0], Extent.of(cube).scale(cube)[0].numpy()
    padded = np.pad(scaled, [(0, 0), (3, 3), (3, 3)], mode="symmetric")
    sides = (
        *(lambda r, c: c <= 3, lambda r, c: c >= 3, lambda r, c: r <= 3, lambda r, c: r >= 3),
        *(lambda r, c: r + c <= 6, lambda r, c: c >= r, lambda r, c: r + c >= 6, lambda r, c: c <= r),
    )
    places = [(r, c) for r in range(7) for c in range(7) if (r, c) != (3, 3)]
    for row in range(9):
        for column in range(8):
            window = padded[:, row : row + 7, column : column + 7]
            distances = []
            for side in sides:
                half = [window[:, r, c] for r, c in places if side(r, c)]
                assert len(half) in (24, 27)
                distances.append(((np.mean(half, axis=0) - window[:, 3, 3]) ** 2).sum())
            assert found[row, column].item() == pytest.approx(min(distances), rel=1e-10)


def test_the_guide_ignores_pixels_left_out_and_knows_nothing_where_no_other_counts():
    cube = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out = torch.ones(1, 12, 12, dtype=torch.bool)
    out[0, 2, 2] = out[0, 2, 3] = out[0, 9, 9] = False
    found = GAEDGuide()(cube, out)[0]
    scaled = Extent.of(cube, out).scale(cube)[0]
    near = (scaled[:, 2, 2] - scaled[:, 2, 3]).square().sum()
    assert found[2, 2].item() == pytest.approx(near.item()) and found[2, 3].item() == pytest.approx(near.item())
    assert found[9, 9] == 0


def test_bad_options_are_refused_with_the_remedy():
    for options, message in (
        ({"gradient": "false"}, "'published' or 'true'"),
        ({"beta": -1.0}, "beta"),
        ({"rate": 0.0}, "rate"),
        ({"epochs": -1}, "epochs"),
        ({"window": 4}, "odd"),
    ):
        with pytest.raises(ValueError, match=message):
            GAED(**options)
