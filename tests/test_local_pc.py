"""Local RX on principal components against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_lrx import random_cubes

from fers.detectors.background import Background
from fers.detectors.local_pc import LRXPC


def loop(cube: np.ndarray, inner: int, outer: int, components: int, ridge: float) -> np.ndarray:
    bands, height, width = cube.shape
    pixels = cube.reshape(bands, -1).T
    values, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False))
    order = np.argsort(-values)[:components]
    z = ((pixels - pixels.mean(0)) @ vectors[:, order] / np.sqrt(values[order])).reshape(height, width, -1)
    half = outer // 2
    padded = np.pad(z, ((half, half), (half, half), (0, 0)), mode="reflect")
    in_ring = np.ones((outer, outer), bool)
    cut = (outer - inner) // 2
    in_ring[cut : outer - cut, cut : outer - cut] = False
    scores = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            ring = padded[row : row + outer, column : column + outer][in_ring]
            covariance = np.cov(ring, rowvar=False, bias=True).reshape(len(order), len(order))
            covariance = covariance + ridge * np.trace(covariance) / len(order) * np.eye(len(order))
            d = z[row, column] - ring.mean(0)
            scores[row, column] = d @ np.linalg.solve(covariance, d)
    return scores


@pytest.mark.parametrize("inner, outer, components", [(1, 5, 1), (3, 7, 3), (5, 11, 4)])
def test_lrxpc_is_the_distance_to_the_ring_of_components(inner, outer, components):
    cubes = random_cubes()
    scores = LRXPC(inner, outer, components)(cubes)
    assert scores.shape == (2, 11, 13) and scores.dtype == torch.float64
    for cube, score in zip(cubes.numpy(), scores.numpy(), strict=True):
        assert score == pytest.approx(loop(cube, inner, outer, components, 1e-3), rel=1e-6)


def test_components_are_white_and_no_more_than_the_rank():
    cube = random_cubes(n=1, bands=3)[0]
    cube = torch.cat([cube, cube.sum(0, keepdim=True), torch.full((1, 11, 13), 2.0)])
    [components] = Background.from_cube(cube[None]).components(10)
    z = components(cube).flatten(1)
    assert z.shape[0] == 3
    assert torch.cov(z).numpy() == pytest.approx(np.eye(3), abs=1e-9)


def test_a_pixel_on_a_flat_patch_has_a_finite_and_large_score():
    cube = random_cubes(n=1, height=20, width=20)
    cube[:, :, :12, :12] = 1.0
    cube[0, 0, 5, 5] = 2.0
    score = LRXPC(3, 7)(cube)[0]
    assert torch.isfinite(score).all() and score[5, 5] == score.max()


def test_lrxpc_refuses_settings_without_meaning():
    with pytest.raises(ValueError, match="1 or more"):
        LRXPC(components=0)
    with pytest.raises(ValueError, match="above 0"):
        LRXPC(ridge=0)
