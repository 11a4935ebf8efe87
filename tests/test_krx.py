"""Kernel RX against a plain loop and, with a very wide kernel, against RX."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_lrx import random_cubes

from fers.detectors.krx import KRX
from fers.detectors.rx import rx


def loop(cube: np.ndarray, samples: int, seed: int, rtol: float, s: float = 0, inverses: int = 2) -> np.ndarray:
    """RX in feature space, every kernel and every centring written out; ``inverses`` of K: 2, or 1 as often printed."""
    pixels = cube.reshape(len(cube), -1).T
    background = pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed)).numpy()[:samples]]
    m = len(background)
    distances = [np.linalg.norm(a - b) for i, a in enumerate(background) for b in background[i + 1 :]]
    s = s or np.sort(distances)[(len(distances) - 1) // 2]
    gram = np.array([[np.exp(-((a - b) ** 2).sum() / (2 * s**2)) for b in background] for a in background])
    centring = np.eye(m) - 1 / m
    inverse = np.linalg.pinv(centring @ gram @ centring, rcond=rtol, hermitian=True)
    middle = (m - 1) * inverse @ inverse if inverses == 2 else inverse
    scores = []
    for x in pixels:
        k = np.array([np.exp(-((x - b) ** 2).sum() / (2 * s**2)) for b in background])
        k = k - k.mean() - gram.mean(0) + gram.mean()
        scores.append(k @ middle @ k)
    return np.array(scores).reshape(cube.shape[1:])


@pytest.mark.parametrize("samples", [40, 1000])
def test_krx_is_rx_in_feature_space(samples):
    cubes = random_cubes(height=8, width=9)
    scores = KRX(samples, rtol=1e-4, seed=3)(cubes)
    for cube, score in zip(cubes.numpy(), scores.numpy(), strict=True):
        assert score == pytest.approx(loop(cube, samples, seed=3, rtol=1e-4), rel=1e-7)


def test_krx_with_a_very_wide_kernel_is_rx():
    """exp(-d^2 / 2s^2) is then x^T y / s^2 but for parts that centring and rtol remove."""
    cubes = random_cubes(n=1, bands=3)
    assert torch.allclose(KRX(bandwidth=1e4, rtol=1e-5)(cubes), rx(cubes), rtol=1e-3)


def test_with_a_single_inverse_it_would_be_the_distance_from_the_mean():
    """With a very wide kernel, which is x^T y / s^2 but for its centring: ``k^T K^+ k`` does not see the covariance."""
    cubes = random_cubes(n=1, bands=3, height=8, width=9)
    distance = (cubes - cubes.mean((2, 3), keepdim=True)).square().sum(1)[0].numpy()
    single = loop(cubes[0].numpy(), 1000, seed=0, rtol=1e-5, s=1e3, inverses=1)
    assert single * 1e6 == pytest.approx(distance, rel=1e-3)
    assert np.corrcoef(distance.ravel(), rx(cubes)[0].numpy().ravel())[0, 1] < 0.9
    assert KRX(bandwidth=1e3)(cubes)[0].numpy() == pytest.approx(rx(cubes)[0].numpy(), rel=1e-3)


def test_krx_repeats_with_its_seed_and_leaves_the_global_generator():
    cubes = random_cubes()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = KRX(50, seed=1)(cubes)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(KRX(50, seed=1)(cubes), first) and not torch.equal(KRX(50, seed=2)(cubes), first)


def test_krx_blocks_make_no_difference(monkeypatch):
    cubes = random_cubes()
    whole = KRX(50)(cubes)
    monkeypatch.setattr("fers.detectors.krx._PIXELS_AT_A_TIME", 7)
    assert torch.allclose(KRX(50)(cubes), whole, rtol=1e-9)


@pytest.mark.parametrize("settings", [{"samples": 1}, {"bandwidth": -1.0}, {"rtol": 1.0}])
def test_krx_refuses_settings_without_meaning(settings):
    with pytest.raises(ValueError, match="Give"):
        KRX(**settings)


@pytest.mark.parametrize("samples", [60, 1000])
def test_krx_refuses_pixels_that_would_all_get_one_score(samples):
    cubes = random_cubes(n=1, bands=150, height=10, width=10)
    with pytest.raises(ValueError, match=r"(60|100) background pixels span (59|99) dimensions.*the same score"):
        KRX(samples)(cubes)
