"""RGAE against its golden file and automatic gradients."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from fers.detectors.rgae import RGAE, fit_robustly, initial_parameters, reconstruct


@pytest.mark.parametrize("epochs", [0, 1, 3, 40])
def test_training_agrees_with_the_reference(golden, epochs):
    z = golden("rgae")
    parameters = [torch.from_numpy(z[key].squeeze()) for key in ("W1", "b1", "W2", "b2")]
    x = torch.from_numpy(z["X"])
    list(fit_robustly(parameters, x, torch.from_numpy(z["order"][:epochs])))
    score = (reconstruct(parameters, x)[1] - x).square().sum(1)
    assert np.abs(score.numpy() - z[f"y_e{epochs}_l0"]).max() < 1e-14


def test_a_step_is_that_of_half_the_mean_residual_length():
    generator = torch.Generator().manual_seed(0)
    parameters = [p.double() for p in initial_parameters(5, 7, generator)]
    x = torch.rand(24, 5, generator=generator, dtype=torch.float64)
    expected = [p.clone() for p in parameters]
    order = torch.randperm(24, generator=generator)
    starts = [0, 2, 4, 6, 8, 10, 12, 15, 18, 21, 24]  # four pixels are left over
    lengths = []
    for start, stop in pairwise(starts):
        leaves = [p.clone().requires_grad_() for p in expected]
        batch = x[order[start:stop]]
        length = (reconstruct(leaves, batch)[1] - batch).norm(dim=1).mean()
        (length / 2).backward()
        lengths.append(length.item())
        expected = [p - 0.01 * leaf.grad for p, leaf in zip(expected, leaves, strict=True)]
    [found] = fit_robustly(parameters, x, [order])
    assert found.tolist() == pytest.approx(lengths, rel=1e-12)
    for p, e in zip(parameters, expected, strict=True):
        assert (p - e).abs().max() < 1e-14


def test_a_pixel_that_is_rebuilt_exactly_stops_nothing():
    parameters = initial_parameters(3, 4, torch.Generator().manual_seed(0))
    parameters[2].zero_()
    parameters[3].zero_()  # the output is 0.5 everywhere
    x = torch.full((10, 3), 0.5)
    [lengths] = fit_robustly(parameters, x, [torch.arange(10)])
    assert (lengths < 1e-6).all() and all(p.isfinite().all() for p in parameters)


def test_hidden_is_at_least_one():
    with pytest.raises(ValueError, match="hidden"):
        RGAE(hidden=0)
