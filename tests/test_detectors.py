"""RX, AE and the fusions against closed forms and plain references."""

from __future__ import annotations

import importlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import QUICK, WITHOUT_WEIGHTS, joined, shared_file

from fers.datasets import abu
from fers.detectors.ae import AE, PixelAutoencoder
from fers.detectors.background import Background, moments
from fers.detectors.base import StripDetector, Sum, Where, halo_of, minmax, takes_left_out
from fers.detectors.rx import RX, rx, rx_array
from fers.detectors.table import find_detector, make_detector
from fers.scenes import normalise
from fers.scoring.pipeline import DetectConfig, Pipeline


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
    score = rx_array(cube)
    assert isinstance(score, np.ndarray) and score.dtype == np.float64
    assert score == pytest.approx(mahalanobis(cube), rel=1e-9)


@pytest.mark.parametrize("scene", ["airport-1", "beach-4"])
def test_rx_agrees_with_pinv_on_real_scenes(scene):
    (labelled,) = abu.scenes(shared_file("abu"), names=scene)
    cube = normalise(labelled.load()[0], 200)[:60]
    varying = cube[:, :, np.ptp(cube.reshape(-1, 200), axis=0) > 0]
    expected = mahalanobis(varying)
    assert np.abs(rx_array(cube) - expected).max() / expected.max() < 2e-9


def test_batch_is_each_image_by_itself():
    cubes = np.stack([random_cube(seed) * (seed + 1) for seed in range(3)])
    batch = rx(torch.from_numpy(cubes).permute(0, 3, 1, 2))
    assert isinstance(batch, torch.Tensor) and batch.shape == (3, 15, 17)
    for index in range(3):
        assert batch[index].numpy() == pytest.approx(rx_array(cubes[index]), rel=1e-9)
    assert rx_array(cubes) == pytest.approx(batch.numpy(), rel=1e-9)


def test_blocks_of_pixels_make_no_difference(monkeypatch):
    cube = random_cube()
    whole = rx_array(cube)
    module = importlib.import_module("fers.detectors.background")
    monkeypatch.setitem(module.BLOCK, "cpu", 40)
    for name, size in (("_TERMS", 7), ("_MATRIX_ROWS", 2)):
        monkeypatch.setattr(module, name, size)
        assert rx_array(cube) == pytest.approx(whole, rel=1e-9)


def test_cholesky_and_eigen_decomposition_agree(monkeypatch):
    module = importlib.import_module("fers.detectors.background")
    used = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: used.append(matrix) or eigh(matrix))
    cube = np.concatenate([random_cube(), np.ones((15, 17, 1))], axis=2)
    by_cholesky = rx_array(cube)
    assert not used
    monkeypatch.setattr(module, "_CHOLESKY_MARGIN", np.inf)
    assert rx_array(cube) == pytest.approx(by_cholesky, rel=1e-10)
    assert used


@pytest.mark.parametrize("smallest, dropped", [(1e-6, False), (1e-13, False), (1e-16, True), (0.0, True)])
def test_scores_follow_the_rank_rule_on_both_sides_of_its_cut(smallest, dropped):
    """The distance along the last eigenvector is 1 / eigenvalue, or nothing where the rule drops it."""
    rotation = np.linalg.qr(np.random.RandomState(0).normal(size=(20, 20)))[0]
    covariance = rotation * np.r_[np.linspace(1, 2, 19), smallest] @ rotation.T
    background = Background(torch.zeros(1, 20).double(), torch.from_numpy((covariance + covariance.T) / 2)[None])
    score = float(rx(torch.from_numpy(rotation[:, -1].copy()).view(1, 20, 1, 1), background))
    assert score < 1 if dropped else score == pytest.approx(1 / smallest, rel=0.01)


@pytest.mark.parametrize("share, dropped", [(1.4, False), (0.7, True)])
def test_the_rank_rules_cut_is_b_times_eps_of_the_largest_eigenvalue(share, dropped):
    """B bands with one correlation of 1 - d have the eigenvalues B - (B - 1) d and, across it, d."""
    bands = 100
    d = share * bands * 2.220446049250313e-16 * bands
    correlation = torch.full((1, bands, bands), 1 - d, dtype=torch.float64)
    correlation[0].fill_diagonal_(1)
    across = torch.zeros(1, bands, 1, 1, dtype=torch.float64)
    across[0, 0], across[0, 1] = 1, -1
    score = float(rx(across, Background(torch.zeros(1, bands).double(), correlation)))
    assert score < 1 if dropped else score == pytest.approx(2 / d, rel=0.05)


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
    assert np.abs(rx_array(cube).ravel() / expected - 1).max() < 1e-7


def test_scores_do_not_depend_on_the_scale_of_a_band():
    cube = random_cube()
    scaled = cube * np.array([1e-6, 1, 1e6, 3, 1e3, 1e-3]) + 7
    assert rx_array(scaled) == pytest.approx(rx_array(cube), rel=1e-6)


def test_bands_without_variance_and_copies_of_bands_change_nothing():
    cube = random_cube()
    constant = np.full((15, 17, 2), np.float32(0.1))
    assert rx_array(np.concatenate([cube, constant], axis=2)) == pytest.approx(rx_array(cube), rel=1e-9)
    assert rx_array(np.concatenate([cube, 2 * cube[:, :, :2]], axis=2)) == pytest.approx(rx_array(cube), rel=1e-6)


@pytest.mark.parametrize("block", [1 << 12, 17])  # a block is a row: with 17, one block has no pixel that counts
def test_masked_pixels_are_scored_but_do_not_count(monkeypatch, block):
    monkeypatch.setitem(importlib.import_module("fers.detectors.background").BLOCK, "cpu", block)
    cube = random_cube()
    mask = np.zeros((15, 17), bool)
    mask[:3] = True
    cube[:3] += 50
    assert rx_array(cube, left_out=mask) == pytest.approx(mahalanobis(cube, keep=~mask), rel=1e-9)
    cube[0, 0] = np.nan  # a masked pixel may even be missing
    score = rx_array(cube, left_out=mask)
    assert np.isnan(score[0, 0]) and np.isfinite(score[3:]).all()


def test_band_constant_in_the_background_only_is_dropped():
    cube = random_cube()
    mask = np.zeros((15, 17), bool)
    mask[0] = True
    cube[1:, :, 2] = 0.1
    rest = np.delete(cube, 2, axis=2)
    assert rx_array(cube, left_out=mask) == pytest.approx(mahalanobis(rest, keep=~mask), rel=1e-9)


def test_a_background_is_the_mean_and_covariance_and_scores_other_cubes():
    first, second = (torch.from_numpy(random_cube(seed)).permute(2, 0, 1)[None] for seed in (0, 1))
    background = Background.from_cube(first)
    pixels = first[0].flatten(1).numpy()
    inverse = np.linalg.inv(np.cov(pixels))
    assert background.mean[0].numpy() == pytest.approx(pixels.mean(1))
    assert background.covariance[0].numpy() == pytest.approx(np.cov(pixels))
    assert background.samples.tolist() == [255]
    centred = second[0].flatten(1).numpy() - pixels.mean(1, keepdims=True)
    expected = np.einsum("ip,ij,jp->p", centred, inverse, centred)
    assert rx(second, background).numpy().ravel() == pytest.approx(expected)
    given = Background(torch.from_numpy(pixels.mean(1))[None], torch.from_numpy(np.cov(pixels))[None])
    assert rx(torch.cat([second, first]), given)[0].numpy().ravel() == pytest.approx(expected)
    assert torch.equal(rx(first, background), rx(first))


def nearly_singular_pixels() -> torch.Tensor:
    """5,000 pixels of 8 bands, condition number 1e9, and a constant band."""
    rng = np.random.RandomState(0)
    pixels = rng.normal(size=(5000, 8)) * np.geomspace(1, 3e-5, 8) @ np.linalg.qr(rng.normal(size=(8, 8)))[0] + 3
    return torch.from_numpy(np.c_[pixels, np.full(5000, 0.1)])


@pytest.mark.parametrize("sizes", [[5000], [1] * 3 + [4997], [100] * 50, [4000, 0, 1000], [7] * 700 + [100]], ids=len)
def test_how_a_scene_is_cut_changes_its_background_by_rounding_only(sizes):
    pixels = nearly_singular_pixels()
    blocks = [block for block in pixels.split(sizes) if len(block)]
    expected = np.cov(pixels.numpy(), rowvar=False)
    background = Background.from_blocks(blocks)
    assert background.samples.tolist() == [5000]
    assert background.mean[0].numpy() == pytest.approx(pixels.mean(0).numpy(), rel=1e-12)
    assert np.abs(background.covariance[0].numpy() - expected).max() < 1e-12 * expected.max()
    assert background.covariance[0, 8].abs().max() == 0  # not even a rounding error


def test_blocks_of_rows_arrays_and_a_whole_cube_are_the_same_background():
    cube = torch.from_numpy(random_cube()).permute(2, 0, 1)[None]
    pixels = cube[0].flatten(1).T
    forms = [cube.split(4, dim=2), pixels.split(60), [pixels.numpy()[:7], pixels.numpy()[7:]], iter([cube])]
    whole = Background.from_cube(cube)
    for blocks in forms:
        background = Background.from_blocks(blocks)
        torch.testing.assert_close(background.mean, whole.mean, rtol=1e-12, atol=0)
        torch.testing.assert_close(background.covariance, whole.covariance, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_same_blocks_give_equal_bits_whatever_the_number_of_workers(workers):
    parts = nearly_singular_pixels().split(300)
    expected = Background.from_blocks(parts)
    with ThreadPoolExecutor(workers) as pool:
        found = Background.from_moments(pool.map(moments, (part.T[None] for part in parts)))
    assert torch.equal(found.covariance, expected.covariance) and torch.equal(found.mean, expected.mean)


def test_released_rx_is_the_distance_along_the_leading_principal_components_in_float32():
    rng = np.random.RandomState(0)
    spread = np.r_[3, 2, 1, np.full(7, 1e-4)]  # variances of the last seven: far below 10 * 1.19e-7 of the largest
    cube = (rng.normal(size=(30, 30, 10)) * spread) @ np.linalg.qr(rng.normal(size=(10, 10)))[0]
    pixels = cube.reshape(-1, 10) - cube.mean((0, 1))
    variances, vectors = np.linalg.eigh(np.cov(pixels, rowvar=False))
    expected = ((pixels @ vectors[:, -3:]) ** 2 / variances[-3:]).sum(1)
    tensor = torch.from_numpy(cube).permute(2, 0, 1)[None]
    found = RX(solver="released")(tensor)
    assert found.dtype == torch.float32 and found.shape == (1, 30, 30)
    assert np.abs(found.numpy().ravel() - expected).max() < 1e-3 * expected.max()
    assert torch.equal(RX(seed=3)(tensor), rx(tensor))
    tensor[0, :, 0] += 100
    mask = torch.arange(30)[:, None].expand(30, 30) == 0
    masked = RX(solver="released")(tensor, mask)
    torch.testing.assert_close(masked[:, 1:], RX(solver="released")(tensor[:, :, 1:]), rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="RX has no solver 'float16'"):
        RX(solver="float16")


def test_rx_refuses_what_it_cannot_score():
    cube = random_cube()
    tensor = torch.from_numpy(cube).permute(2, 0, 1)[None]
    background = Background.from_cube(tensor)
    with pytest.raises(ValueError, match="same score"):
        rx_array(random_cube(shape=(2, 3, 6)))
    with pytest.raises(ValueError, match="no band"):
        rx_array(np.ones((9, 9, 3)))
    with pytest.raises(ValueError, match="NaN or infinite"):
        rx_array(np.where(np.arange(6) == 2, np.nan, cube))
    with pytest.raises(ValueError, match="left_out is"):
        rx_array(cube, mask=np.zeros((3, 3), bool))
    with pytest.raises(ValueError, match="1 pixels are left"):
        mask = np.ones((15, 17), bool)
        mask[0, 0] = False
        rx_array(cube, left_out=mask)
    with pytest.raises(ValueError, match="background has 6 bands"):
        rx(tensor[:, :5], background)
    with pytest.raises(ValueError, match="does nothing"):
        rx(tensor, background, left_out=np.zeros((15, 17), bool))
    with pytest.raises(ValueError, match="N x C x H x W"):
        rx(torch.zeros(3, 9, 9))
    with pytest.raises(ValueError, match="no block"):
        Background.from_blocks([])
    with pytest.raises(ValueError, match="of 6 and of 5 bands"):
        Background.from_blocks([cube[0], cube[0, :, :5]])
    with pytest.raises(ValueError, match="pixels x B or 1 x C x h x w"):
        Background.from_blocks([cube])


def test_fusions_are_their_equations():
    generator = torch.Generator().manual_seed(0)
    h, f_spe, f_spa = (torch.randn(2, 4, 9, 10, generator=generator) for _ in range(3))

    def scaled(x):
        low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
        return (x - low) / (high - low)

    assert torch.equal(joined(rx, "fused-A", h, f_spe, f_spa), scaled(rx(h + f_spa)) * scaled(rx(h + f_spe)))
    assert torch.equal(joined(rx, "fused-B", h, f_spe, f_spa), rx(h + f_spa + f_spe))
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


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_every_detector_keeps_the_protocol(name):
    detector = make_detector(name, options=QUICK.get(name, {}))
    cube = torch.rand(2, 8, 40, 36, generator=torch.Generator().manual_seed(0))
    scores = detector(cube)
    assert scores.shape == (2, 40, 36) and scores.isfinite().all()


def test_a_detectors_note_stands_under_the_tables_that_it_is_in():
    caveats = Pipeline(DetectConfig(bands=3, detect="AED", features="original", device="cpu")).caveats
    assert caveats == [f"AED: {find_detector('AED').note}"]
    assert Pipeline(DetectConfig(bands=3, detect="RX", features="original", device="cpu")).caveats == []


CANNOT_LEAVE_OUT = {
    "Auto-AD",
    "GT-HAD",
    "PDBSNet",
    "AED",
    "PCA-TLRSR",
    "PTA",
}  # convolutions, filters, factors of the image
WHOLE_ONLY = CANNOT_LEAVE_OUT | {"AE", "LREN", "GAED", "RGAE", "FrFE", "LSMAD-r3", "KIFD", "LRASR-K15"}


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_pixels_left_out_have_no_part_in_the_others_scores(name):
    detector = make_detector(name, options=QUICK.get(name, {}))
    assert takes_left_out(detector) == (name not in CANNOT_LEAVE_OUT)
    if name in CANNOT_LEAVE_OUT:
        return
    cube = torch.rand(1, 5, 40, 36, generator=torch.Generator().manual_seed(0))
    out = torch.zeros(1, 40, 36, dtype=torch.bool)
    out[0, 8:12, 20:30] = True
    other = cube.masked_fill(out[:, None], 7.0)
    clean, spoilt = detector(cube, out), detector(other, out)
    assert clean[~out].isfinite().all()
    torch.testing.assert_close(spoilt[~out], clean[~out], rtol=1e-6, atol=1e-9)
    assert not torch.allclose(detector(other)[~out], clean[~out], rtol=1e-3)  # they would show


def spot_scene(bands: int, height: int, width: int, number: int = 1) -> torch.Tensor:
    """Noise with an anomaly at row 4, column 5 of each image."""
    cube = torch.rand(number, bands, height, width, generator=torch.Generator().manual_seed(0))
    cube[:, bands // 2, 4, 5] += 2
    return cube


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_each_image_of_a_batch_is_scored_by_itself_and_again_the_same(name):
    detector = make_detector(name, options=QUICK.get(name, {}))
    cubes = spot_scene(4, 34, 33, number=2)
    cubes[1] *= 3
    state = torch.get_rng_state()
    scores = detector(cubes)
    assert torch.equal(torch.get_rng_state(), state)
    alone = torch.cat([make_detector(name, options=QUICK.get(name, {}))(cube[None]) for cube in cubes])
    torch.testing.assert_close(scores, alone, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_float64_cubes_are_scored_as_float32_ones_are(name):
    detector = make_detector(name, options=QUICK.get(name, {}))
    cube = spot_scene(4, 34, 33)
    single, double = detector(cube), detector(cube.double())
    assert single.is_floating_point() and single.device == cube.device
    torch.testing.assert_close(single.double(), double.double(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["small", "tiny", "three bands", "one band", "constant", "constant band", "nan"])
@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_a_scene_that_is_hard_to_score_is_refused_in_words_or_scored_without_nan(name, kind):
    cube = {
        "small": spot_scene(8, 10, 10),
        "tiny": spot_scene(3, 5, 6),
        "three bands": spot_scene(3, 34, 33),
        "one band": spot_scene(1, 34, 33),
        "constant": torch.full((1, 4, 34, 33), 0.3),
        "constant band": torch.cat([spot_scene(4, 34, 33), torch.ones(1, 1, 34, 33)], 1),
        "nan": spot_scene(4, 34, 33).index_fill(3, torch.tensor(7), torch.nan),
    }[kind]
    try:
        scores = make_detector(name, options=QUICK.get(name, {}))(cube)
    except ValueError as error:
        assert kind not in ("three bands", "constant band"), error
        assert len(str(error).split()) > 5
    else:
        assert scores.shape == (1, *cube.shape[2:]) and scores.isfinite().all()


# Auto-AD's scores do not show its seed after three steps; test_auto_ad.py holds it
RANDOM = [name for name in WITHOUT_WEIGHTS if find_detector(name).trains_on == "scene" and name != "Auto-AD"]


@pytest.mark.parametrize("name", RANDOM)
def test_what_is_trained_on_the_scene_follows_its_seed(name):
    cube = spot_scene(4, 34, 33)
    maps = [make_detector(name, seed, QUICK.get(name, {}))(cube) for seed in (1, 1, 2)]
    assert torch.equal(maps[0], maps[1]) and not torch.equal(maps[0], maps[2])


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_strips_with_a_halo_are_the_whole_scene(name):
    detector = make_detector(name, options=QUICK.get(name, {}))
    assert (halo_of(detector) is None) == (name in WHOLE_ONLY)
    if not isinstance(detector, StripDetector):
        return
    cube = torch.rand(1, 5, 60, 30, generator=torch.Generator().manual_seed(0)).double()
    out = torch.rand(1, 60, 30, generator=torch.Generator().manual_seed(1)) < 0.05
    height, halo = 60, detector.halo
    starts = range(0, height, 13)
    parts = [(slice(s, min(s + 13, height)), Where(s, height)) for s in starts]
    total = Sum(detector.collect(cube[:, :, rows], out[:, rows], where) for rows, where in parts).total()
    state = detector.fit(total, Where(0, height))
    found = []
    for rows, _ in parts:
        outer = slice(max(rows.start - halo, 0), min(rows.stop + halo, height))
        scores = detector.score(cube[:, :, outer], state, out[:, outer])
        found.append(scores[:, rows.start - outer.start :][:, : rows.stop - rows.start])
    torch.testing.assert_close(torch.cat(found, 1), detector(cube, out), rtol=1e-6, atol=1e-9, equal_nan=True)


class Windows:
    """A detector of the user's with options of several kinds."""

    def __init__(self, w=(3, 5), names=("a",), sizes=(0.5,), fast=True):
        self.options = w, names, sizes, fast

    def __call__(self, cube):
        return cube.mean(1)


def test_an_option_of_several_parts_is_read_part_by_part():
    made = make_detector(Windows, options={"w": "7,9", "names": "b, c", "sizes": "1,2,3", "fast": "no"})
    assert made.options == ((7, 9), ("b", "c"), (1.0, 2.0, 3.0), False)
    for wrong, like in (({"w": "7,x"}, "3,5"), ({"sizes": "one"}, "0.5"), ({"fast": "perhaps"}, "True")):
        with pytest.raises(ValueError, match=f"Windows needs a value such as {like}"):
            make_detector(Windows, options=wrong)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("LOF", {}, "no detector 'LOF'"),
        ("no_module:X", {}, "cannot be imported"),
        ("math:pi", {}, "is not callable"),
        ("AE", {"steps": "3"}, "AE has no such option. It has: iterations=50, scored=after"),
        ("AE", {"iterations": "many"}, "AE needs a value such as 50"),
        ("AE", {"iterations": "0"}, "AE needs iterations >= 1"),
        ("RD4AD", {}, "needs a network.*python -m baselines.train rd4ad.*--checkpoint_dir"),
        ("AETNet", {}, "needs a network.*python -m baselines.train aetnet"),
        ("RD4AD", {"network": "x"}, "RD4AD has no such option. It has: sigma=4.0"),
    ],
)
def test_a_detector_that_cannot_be_made_says_why(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_detector(name, options=options)
