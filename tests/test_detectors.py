"""RX, AE and the fusions against closed forms and plain references."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch
from conftest import shared_file

from data import abu, normalise
from detection.views import VIEWS, Features, score
from detectors import AE, DETECTORS, Background, make_detector, minmax, rx
from detectors.ae import PixelAutoencoder
from detectors.rx import estimate_background


def mahalanobis(cube: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """The definition, with numpy's pseudo-inverse."""
    pixels = cube.reshape(-1, cube.shape[2]).astype(np.float64)
    sample = pixels if keep is None else pixels[keep.ravel()]
    centred = pixels - sample.mean(0)
    inverse = np.linalg.pinv(np.cov(sample, rowvar=False))
    return np.einsum("ij,jk,ik->i", centred, inverse, centred).reshape(cube.shape[:2])


def random_cube(seed=0, shape=(15, 17, 6)) -> np.ndarray:
    rng = np.random.RandomState(seed)
    return rng.normal(size=shape) @ rng.normal(size=(shape[2], shape[2])) + 5


@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "uint8", "uint16", "uint32", ">f4"])
def test_rx_is_the_mahalanobis_distance(dtype):
    cube = (random_cube() * 4 + 60).clip(0, 255).astype(dtype)
    score = rx(cube)
    assert isinstance(score, np.ndarray) and score.dtype == np.float64
    assert score == pytest.approx(mahalanobis(cube), rel=1e-9)


@pytest.mark.parametrize("scene", ["airport-1", "beach-4"])
def test_rx_agrees_with_pinv_on_real_scenes(scene):
    (labelled,) = abu.scenes(shared_file("abu"), names=scene)
    cube = normalise(labelled.load()[0], 200)[:60]
    varying = cube[:, :, np.ptp(cube.reshape(-1, 200), axis=0) > 0]
    expected = mahalanobis(varying)
    assert np.abs(rx(cube) - expected).max() / expected.max() < 1e-7


def test_batch_is_each_image_by_itself():
    cubes = np.stack([random_cube(seed) * (seed + 1) for seed in range(3)])
    batch = rx(torch.from_numpy(cubes).permute(0, 3, 1, 2))
    assert isinstance(batch, torch.Tensor) and batch.shape == (3, 15, 17)
    for index in range(3):
        assert batch[index].numpy() == pytest.approx(rx(cubes[index]), rel=1e-9)
    assert rx(cubes) == pytest.approx(batch.numpy(), rel=1e-9)


def test_blocks_make_no_difference(monkeypatch):
    cube = random_cube()
    whole = rx(cube)
    module = importlib.import_module("detectors.rx")
    for name, size in (("_BLOCK_CPU", 40), ("_TERMS", 7), ("_ROWS", 2)):
        monkeypatch.setattr(module, name, size)
        assert rx(cube) == pytest.approx(whole, rel=1e-9)


def test_cholesky_and_eigen_decomposition_agree(monkeypatch):
    module = importlib.import_module("detectors.rx")
    cube = np.concatenate([random_cube(), np.ones((15, 17, 1))], axis=2)
    assert module.whitening(estimate_background(cube).covariance)[2]  # the Cholesky factor is used
    by_cholesky = rx(cube)
    monkeypatch.setattr(module, "_MARGIN", np.inf)
    assert not module.whitening(estimate_background(cube).covariance)[2]
    assert rx(cube) == pytest.approx(by_cholesky, rel=1e-10)


def test_cholesky_is_left_where_the_rank_rule_may_drop_something():
    """Eigenvalues on both sides of the cut and near it: the scores must follow the rule, whichever way they come."""
    whitening = importlib.import_module("detectors.rx").whitening
    rotation = np.linalg.qr(np.random.RandomState(0).normal(size=(20, 20)))[0]
    for smallest, rank in ((1e-6, 20), (1e-13, 20), (1e-16, 19), (0.0, 19)):
        covariance = rotation * np.r_[np.linspace(1, 2, 19), smallest] @ rotation.T
        found, kept, triangular = whitening(torch.from_numpy((covariance + covariance.T) / 2)[None])
        assert triangular == (smallest == 1e-6) and int(kept) == rank
        if rank == 19:  # nothing blown up by what should have been dropped
            assert found.abs().max() < 10


def test_sums_over_many_pixels_keep_their_digits():
    """A covariance of condition 1e9 from 16,384 pixels, against the same computed in extended precision."""
    rng = np.random.RandomState(0)
    cube = rng.normal(size=(128, 128, 12)) * np.geomspace(1, 3e-5, 12) @ np.linalg.qr(rng.normal(size=(12, 12)))[0]
    x = cube.reshape(-1, 12).astype(np.longdouble)
    x -= x.mean(0)
    lower = np.zeros((12, 12), np.longdouble)
    covariance = np.einsum("pi,pj->ij", x, x) / (len(x) - 1)
    for j in range(12):
        column = covariance[j:, j] - lower[j:, :j] @ lower[j, :j]
        lower[j:, j] = column / np.sqrt(column[0])
    y = x.T.copy()
    for j in range(12):
        y[j] = (y[j] - lower[j, :j] @ y[:j]) / lower[j, j]
    expected = (y * y).sum(0).astype(float)
    assert np.abs(rx(cube).ravel() / expected - 1).max() < 1e-7


def test_scores_do_not_depend_on_the_scale_of_a_band():
    cube = random_cube()
    assert rx(cube * np.array([1e-6, 1, 1e6, 3, 1e3, 1e-3]) + 7) == pytest.approx(rx(cube), rel=1e-6)


def test_bands_without_variance_and_copies_of_bands_change_nothing():
    cube = random_cube()
    constant = np.full((15, 17, 2), np.float32(0.1))
    assert rx(np.concatenate([cube, constant], axis=2)) == pytest.approx(rx(cube), rel=1e-9)
    assert rx(np.concatenate([cube, 2 * cube[:, :, :2]], axis=2)) == pytest.approx(rx(cube), rel=1e-6)


def test_masked_pixels_are_scored_but_do_not_count():
    cube = random_cube()
    mask = np.zeros((15, 17), bool)
    mask[:3] = True
    cube[:3] += 50
    assert rx(cube, mask=mask) == pytest.approx(mahalanobis(cube, keep=~mask), rel=1e-9)
    cube[0, 0] = np.nan  # a masked pixel may even be missing
    score = rx(cube, mask=mask)
    assert np.isnan(score[0, 0]) and np.isfinite(score[3:]).all()


def test_band_constant_in_the_background_alone_is_dropped():
    cube = random_cube()
    mask = np.zeros((15, 17), bool)
    mask[0] = True
    cube[1:, :, 2] = 0.1
    rest = np.delete(cube, 2, axis=2)
    assert rx(cube, mask=mask) == pytest.approx(mahalanobis(rest, keep=~mask), rel=1e-9)


def test_precomputed_background_is_reused():
    first, second = random_cube(0), random_cube(1)
    statistics = estimate_background(first)
    assert isinstance(statistics, Background)
    pixels = first.reshape(-1, 6)
    assert statistics.mean[0].numpy() == pytest.approx(pixels.mean(0))
    assert statistics.covariance[0].numpy() == pytest.approx(np.cov(pixels, rowvar=False))
    centred = second.reshape(-1, 6) - pixels.mean(0)
    expected = np.einsum("ij,jk,ik->i", centred, np.linalg.inv(np.cov(pixels, rowvar=False)), centred)
    assert rx(second, statistics).ravel() == pytest.approx(expected)
    assert rx(second, (pixels.mean(0), np.cov(pixels, rowvar=False))).ravel() == pytest.approx(expected)
    assert rx(first, statistics) == pytest.approx(rx(first))


def test_rx_refuses_what_it_cannot_score():
    cube = random_cube()
    with pytest.raises(ValueError, match="same score"):
        rx(random_cube(shape=(2, 3, 6)))
    with pytest.raises(ValueError, match="no band"):
        rx(np.ones((9, 9, 3)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        rx(np.where(np.arange(6) == 2, np.nan, cube))
    with pytest.raises(ValueError, match="mask is"):
        rx(cube, mask=np.zeros((3, 3), bool))
    with pytest.raises(ValueError, match="1 pixels are left"):
        mask = np.ones((15, 17), bool)
        mask[0, 0] = False
        rx(cube, mask=mask)
    with pytest.raises(ValueError, match="background is of 6 bands"):
        rx(cube[:, :, :5], estimate_background(cube))
    with pytest.raises(ValueError, match="does nothing"):
        rx(cube, estimate_background(cube), mask=np.zeros((15, 17), bool))
    with pytest.raises(ValueError, match="N x C x H x W"):
        rx(torch.zeros(3, 9, 9))


def test_fusions_are_their_equations():
    generator = torch.Generator().manual_seed(0)
    h, f_spe, f_spa = (torch.randn(2, 4, 9, 10, generator=generator) for _ in range(3))

    def scaled(x):
        low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
        return (x - low) / (high - low)

    assert torch.equal(
        score(rx, VIEWS["fused-A"].cubes(h, Features(f_spe, f_spa))), scaled(rx(h + f_spa)) * scaled(rx(h + f_spe))
    )
    assert torch.equal(score(rx, VIEWS["fused-B"].cubes(h, Features(f_spe, f_spa))), rx(h + f_spa + f_spe))
    assert minmax(torch.full((1, 3, 3), 7.0)).abs().max() == 0


def test_autoencoder_is_the_one_described():
    network = PixelAutoencoder(200)
    kinds = [type(layer).__name__ for layer in network]
    assert kinds == ["Sigmoid", *["Conv2d"] * 3, "Tanh", *["Conv2d"] * 3, "Sigmoid"]
    widths = [(c.in_channels, c.out_channels) for c in network if isinstance(c, torch.nn.Conv2d)]
    assert widths == [(200, 128), (128, 64), (64, 32), (32, 64), (64, 128), (128, 200)]


def test_ae_training_lowers_the_error_and_repeats_with_its_seed():
    cube = torch.from_numpy(random_cube(shape=(12, 12, 8))).float().permute(2, 0, 1)[None]
    scores = list(AE(1, 30).steps(cube))
    assert len(scores) == 30 and scores[-1].mean() < scores[0].mean()
    torch.rand(5)  # the global generator's state has no part in it
    assert torch.equal(AE(1, 30)(cube)[0], scores[-1][0])
    assert not torch.equal(AE(2, 30)(cube)[0], scores[-1][0])


def test_ae_score_is_the_mean_squared_error_of_the_scaled_cube_after_the_first_adam_step():
    cube = torch.from_numpy(random_cube(shape=(9, 9, 4))).float().permute(2, 0, 1)[None]
    target = (cube - cube.min()) / (cube.max() - cube.min())
    network = PixelAutoencoder(4, seed=3)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    torch.nn.functional.mse_loss(network(target), target).backward()
    optimiser.step()
    expected = (network(target) - target).square().mean(1)
    assert torch.allclose(next(AE(3).steps(cube)), expected, atol=1e-7)


def test_ae_as_the_released_code_scores_before_each_step():
    cube = torch.rand(1, 6, 10, 10, generator=torch.Generator().manual_seed(0))
    before, after = (list(AE(0, 4, scored).steps(cube)) for scored in ("before", "after"))
    assert len(before) == len(after) == 4
    assert all(torch.equal(b, a) for b, a in zip(before[1:], after, strict=False))
    assert torch.equal(
        before[0][0], (PixelAutoencoder(6, 0)(t := minmax(cube.flatten(2)).view_as(cube)) - t).square().mean(1)[0]
    )


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_keeps_the_protocol(name):
    detector = make_detector(name)
    cube = torch.rand(2, 8, 40, 36, generator=torch.Generator().manual_seed(0))
    scores = detector(cube)
    assert scores.shape == (2, 40, 36) and scores.isfinite().all()


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("LOF", {}, "no such detector. Choose among RX, AE"),
        ("no_module:X", {}, "cannot be imported"),
        ("math:pi", {}, "is not callable"),
        ("AE", {"steps": "3"}, "AE has no such option. It has: iterations=50, scored=after"),
        ("AE", {"iterations": "many"}, "AE needs a value such as 50"),
        ("AE", {"iterations": "0"}, "AE needs iterations >= 1"),
    ],
)
def test_a_detector_that_cannot_be_made_says_why(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_detector(name, options=options)
