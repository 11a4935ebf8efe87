"""2S-GLRT against a plain loop, and against the maximum of its likelihood ratio."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_lrx import around, random_cubes

from fers.detectors.glrt import TwoStepGLRT


def loop(cube: np.ndarray, inner: int, outer: int) -> np.ndarray:
    low, high = cube.min((1, 2), keepdims=True), cube.max((1, 2), keepdims=True)
    cube = (cube - low) / np.where(high > low, high - low, 1)
    _, height, width = cube.shape
    scores = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            inside, ring = around(row, column, inner, outer, height, width)
            x = np.array([cube[:, r, c] for r, c in inside]).T
            y = np.array([cube[:, r, c] for r, c in ring]).T
            scores[row, column] = np.linalg.eigvals(x.T @ np.linalg.pinv(y @ y.T) @ x).real.max()
    return scores


@pytest.mark.parametrize("inner, outer", [(1, 5), (3, 7)])
def test_glrt_is_the_largest_eigenvalue(inner, outer):
    cubes = random_cubes()
    cubes[1, 2] = 7.0  # a band that does not vary
    scores = TwoStepGLRT(inner, outer)(cubes)
    for cube, score in zip(cubes.numpy(), scores.numpy(), strict=True):
        assert score == pytest.approx(loop(cube, inner, outer), rel=1e-8)


def test_glrt_maximises_the_likelihood_ratio_over_spectra_and_amounts():
    """2 log ratio is tr(X^T R^-1 X) - min over s, a of the same for X - s a^T: no s and a found does better."""
    cube = random_cubes(n=1)
    low, high = cube.amin((2, 3), keepdim=True), cube.amax((2, 3), keepdim=True)
    scaled = ((cube - low) / (high - low))[0].numpy()
    inside, ring = around(5, 6, 3, 7, 11, 13)
    x = np.array([scaled[:, r, c] for r, c in inside]).T
    y = np.array([scaled[:, r, c] for r, c in ring]).T
    inverse = np.linalg.inv(y @ y.T)

    def log_ratio(s):  # with the best amounts for the spectrum s, by least squares
        rest = x - np.outer(s, s @ inverse @ x) / (s @ inverse @ s)
        return np.trace(x.T @ inverse @ x) - np.trace(rest.T @ inverse @ rest)

    score = float(TwoStepGLRT(3, 7)(cube)[0, 5, 6])
    rng = np.random.RandomState(0)
    assert max(log_ratio(rng.normal(size=4)) for _ in range(500)) <= score * (1 + 1e-9)
    best = np.linalg.eigh(np.linalg.cholesky(inverse).T @ x @ x.T @ np.linalg.cholesky(inverse))[1][:, -1]
    assert log_ratio(np.linalg.solve(np.linalg.cholesky(inverse).T, best)) == pytest.approx(score, rel=1e-9)


def test_glrt_says_where_the_ring_is_empty():
    cube = random_cubes(n=1, height=20, width=20)
    cube[:, :, :8, :8] = cube.amin((2, 3), keepdim=True)
    with pytest.raises(ValueError, match=r"at its minimum all around \d+ pixels"):
        TwoStepGLRT(1, 5)(cube)


def test_glrt_does_not_depend_on_the_units_of_a_band():
    cubes = random_cubes()
    scale = torch.tensor([1e-3, 1.0, 50.0, 7.0])[:, None, None]
    assert torch.allclose(TwoStepGLRT(3, 7)(cubes * scale + 2), TwoStepGLRT(3, 7)(cubes), rtol=1e-8)
