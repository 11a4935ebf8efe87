"""Collaborative representation against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_lrx import around, random_cubes

from fers.detectors.crd import CRD


def loop(cube: np.ndarray, inner: int, outer: int, ridge: float, sum_to_one: bool) -> np.ndarray:
    cube = (cube - cube.min()) / (cube.max() - cube.min())
    _, height, width = cube.shape
    scores = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            y = cube[:, row, column]
            x = np.array([cube[:, r, c] for r, c in around(row, column, inner, outer, height, width)[1]]).T
            distances = np.linalg.norm(x - y[:, None], axis=0)
            xs, ys = (np.vstack([x, np.ones(x.shape[1])]), np.append(y, 1)) if sum_to_one else (x, y)
            weights = np.linalg.solve(xs.T @ xs + ridge * np.diag(distances**2), xs.T @ ys)
            scores[row, column] = np.linalg.norm(y - x @ weights)
    return scores


@pytest.mark.parametrize("sum_to_one", [True, False])
@pytest.mark.parametrize("inner, outer, bands", [(1, 3, 12), (3, 7, 4)])
def test_crd_is_its_closed_form(inner, outer, bands, sum_to_one):
    cubes = random_cubes(bands=bands)
    scores = CRD(inner, outer, 1e-3, sum_to_one)(cubes)
    for cube, score in zip(cubes.numpy(), scores.numpy(), strict=True):
        assert score == pytest.approx(loop(cube, inner, outer, 1e-3, sum_to_one), rel=1e-7)


def test_crd_is_unchanged_by_scale_and_offset_of_the_cube():
    cubes = random_cubes()
    assert torch.allclose(CRD(3, 7)(cubes * 300 - 40), CRD(3, 7)(cubes), rtol=1e-6)


def test_crd_reproduces_what_its_surroundings_hold():
    """A pixel that also stands in its ring has no residual; one along a new direction keeps that part of it."""
    cube = random_cubes(n=1, bands=6, height=9, width=9)
    cube[0, 5] = 2.0
    cube[0, :, 4, 4] = cube[0, :, 1, 1] = cube[0, :, 1, 2]
    score = CRD(3, 9)(cube)[0]
    assert score[4, 4] < 1e-6
    cube[0, 5, 4, 4] += 3
    scale = float(cube.max() - cube.min())
    assert CRD(3, 9)(cube)[0, 4, 4] == pytest.approx(3 / scale, rel=0.2)


def test_crd_of_a_constant_scene_is_zero_and_a_ridge_is_needed():
    assert float(CRD(3, 7)(torch.ones(1, 3, 9, 9)).abs().max()) < 1e-9
    with pytest.raises(ValueError, match="above 0"):
        CRD(ridge=0)
