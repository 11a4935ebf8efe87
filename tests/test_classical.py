"""The published detectors against plain lines of their steps, closed forms, and the published codes' own output.

The plain lines use full singular value decompositions and textbook transforms, so they share nothing with the product's
Gram matrices and half spectra. Golden files of the published codes lie outside the project.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import shared_file
from scipy import ndimage
from sklearn.covariance import oas
from sklearn.ensemble import IsolationForest

import fers
from fers.datasets import abu
from fers.detectors import aed, frfe, kifd, lrasr, lsmad, make_detector, pta, rx_oas, tlrsr
from fers.detectors.background import Background
from fers.detectors.pieces import otsu, scaled_pixels
from fers.detectors.rx import rx


def scene(height=14, width=12, bands=8, seed=0) -> np.ndarray:
    """Smooth cube ``(H, W, B)`` of three materials with noise, and two anomalies."""
    rng = np.random.RandomState(seed)
    abundance = ndimage.gaussian_filter(rng.uniform(size=(height, width, 3)), (2, 2, 0))
    cube = 5 * abundance @ rng.uniform(size=(3, bands)) + 0.02 * rng.normal(size=(height, width, bands)) + 3
    cube[4, 5] += rng.uniform(size=bands)
    cube[9:11, 2] += 0.7 * rng.uniform(size=bands)
    return cube


def tensor(cube: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(cube).permute(2, 0, 1)[None]


def unit(x: np.ndarray, axis=None) -> np.ndarray:
    low, high = x.min(axis, keepdims=True), x.max(axis, keepdims=True)
    return (x - low) / (high - low)


def relative(found: torch.Tensor | np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest value."""
    found = np.asarray(found)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def components(cube: np.ndarray, count: int) -> np.ndarray:
    """Principal components ``(H, W, K)`` by the singular values of the pixels, the largest entry of a direction positive."""
    pixels = cube.reshape(-1, cube.shape[2])
    directions = np.linalg.svd(pixels - pixels.mean(0), full_matrices=False)[2][:count]
    directions *= np.sign(directions[np.arange(count), np.abs(directions).argmax(1)])[:, None]
    return unit((pixels - pixels.mean(0)) @ directions.T, 0).reshape(*cube.shape[:2], count)


def lower_singular_values(matrix: np.ndarray, by: float | np.ndarray) -> np.ndarray:
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    return (u * np.maximum(s - by, 0)) @ v


def shorten(x: np.ndarray, by: float, axis: int) -> np.ndarray:
    norm = np.linalg.norm(x, axis=axis, keepdims=True)
    return x * np.maximum(norm - by, 0) / np.where(norm > 0, norm, 1)


# ---- AED


def plain_area_opening(grey: np.ndarray, area: int) -> np.ndarray:
    """The definition, pixel by pixel: the highest level whose connected set around the pixel has the area."""
    opened = np.full_like(grey, grey.min())
    for start in np.ndindex(grey.shape):
        for level in np.unique(grey[grey <= grey[start]]):
            reached, waiting = {start}, [start]
            while waiting:
                row, column = waiting.pop()
                for there in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
                    inside = 0 <= there[0] < grey.shape[0] and 0 <= there[1] < grey.shape[1]
                    if inside and there not in reached and grey[there] >= level:
                        reached.add(there)
                        waiting.append(there)
            if len(reached) >= area:
                opened[start] = max(opened[start], level)
    return opened


@pytest.mark.parametrize("area", [1, 2, 5, 40, 1000])
def test_an_area_opening_is_its_definition(area):
    grey = np.random.RandomState(area).randint(0, 5, (9, 8))
    assert np.array_equal(aed.area_opening(grey, area), plain_area_opening(grey, area))


def test_aed_is_its_steps():
    """Opening and Otsu's threshold as the product has them, which other tests hold; the rest in plain loops."""
    cube = scene(20, 22)
    p = components(cube, 3)
    z = (p - p.mean((0, 1))) / p.std((0, 1), ddof=1)
    grey = np.rint(np.clip((z + 3) * 1000 / 6, 0, 1000)).astype(int)
    d = unit(np.stack([aed.area_difference(grey[..., k], 6) for k in range(3)], 2).astype(float))
    total = np.zeros(d.shape[:2])
    for k in range(3):
        grown = np.zeros_like(total)
        for y, x in np.ndindex(total.shape):
            grown[y, x] = d[max(y - 1, 0) : y + 1, max(x - 1, 0) : x + 1, k].max()
        labels, count = ndimage.label(grown > otsu(grown), np.ones((3, 3)))
        for number in range(1, count + 1):
            if (labels == number).sum() <= total.size / 100:
                total[labels == number] += d[labels == number, k]
    f = unit(total)
    for i in range(3):
        sigma = 5 * 3**0.5 * 2 ** (2 - i) / 63**0.5
        feedback = np.exp(-(2**0.5) / sigma)
        for turned in (False, True):
            f, g = (f.T, p.transpose(1, 0, 2)) if turned else (f, p)
            for y, x in ((y, x) for y in range(f.shape[0]) for x in range(1, f.shape[1])):
                f[y, x] += feedback ** (1 + 10 * np.abs(g[y, x] - g[y, x - 1]).sum()) * (f[y, x - 1] - f[y, x])
            for y, x in ((y, x) for y in range(f.shape[0]) for x in range(f.shape[1] - 2, -1, -1)):
                f[y, x] += feedback ** (1 + 10 * np.abs(g[y, x + 1] - g[y, x]).sum()) * (f[y, x + 1] - f[y, x])
            f = f.T if turned else f
    assert total.any()
    assert relative(aed.AED(area=6)(tensor(cube))[0], unit(f)) < 1e-9


def test_aed_keeps_small_objects_both_bright_and_dark_and_drops_large_ones():
    cube = np.random.RandomState(0).normal(size=(40, 40, 4)) * 0.01
    cube[5:7, 5:7] += 1
    cube[20:22, 30:32] -= 1
    cube[25:35, 5:15] += 1  # 100 px
    score = aed.AED()(tensor(cube))[0].numpy()
    assert score[5:7, 5:7].min() > 0.5 and score[20:22, 30:32].min() > 0.5
    assert score[27:33, 7:13].mean() < 0.1
    assert not aed.AED(area=1)(tensor(cube)).any()  # nothing has fewer than one pixel


def test_otsu_is_the_threshold_of_the_largest_variance_between_both_sides():
    values = np.r_[np.random.RandomState(0).normal(0.3, 0.05, 500), np.random.RandomState(1).normal(0.7, 0.05, 200)]
    levels = np.floor(255 * values.clip(0, 1) + 0.5)

    def between(k: int) -> float:
        low = levels <= k
        return low.mean() * (1 - low.mean()) * (levels[low].mean() - levels[~low].mean()) ** 2

    possible = np.arange(levels.min(), levels.max())
    variances = np.array([between(k) for k in possible])
    best = possible[np.isclose(variances, variances.max(), rtol=1e-12)].mean() / 255
    assert otsu(values.clip(0, 1)) == pytest.approx(best)


# ---- PCA-TLRSR


def plain_tlrsr(cube: np.ndarray, count: int, dictionary: float, sparse: float, pivot: int) -> np.ndarray:
    """Both loops with full transforms and singular value decompositions, and multipliers that are not scaled."""
    x = components(cube, count)

    def transformed(function, *tensors):
        hats = [np.fft.fft(t, axis=2) for t in tensors]
        return np.fft.ifft(np.stack([function(*(t[:, :, k] for t in hats)) for k in range(count)], 2), axis=2).real

    def low_rank(y, by):
        def of(m):
            s = np.linalg.svd(m, compute_uv=False)
            return lower_singular_values(m, by * (s[pivot - 1] + 1e-6) / (s + 1e-6))

        return transformed(of, y)

    background = s = y = np.zeros_like(x)
    mu = 1e-4
    for _ in range(100):
        background = low_rank(x - s - y / mu, 1 / mu)
        s = shorten(x - background - y / mu, dictionary / mu, 2)
        y = y + mu * (background + s - x)
        mu *= 1.1
    width = x.shape[1]
    j = y1 = np.zeros((width, width, count))
    e = y2 = np.zeros_like(x)
    beta = 1e-4
    for _ in range(100):
        z = low_rank(j - y1 / beta, 1 / beta)
        e = shorten(x - transformed(np.matmul, background, j) + y2 / beta, sparse / beta, 2)
        solve = lambda a, right, rest: np.linalg.solve(a.conj().T @ a + np.eye(width), right + a.conj().T @ rest)  # noqa: E731
        j = transformed(solve, background, z + y1 / beta, x - e + y2 / beta)
        y1 = y1 + beta * (z - j)
        y2 = y2 + beta * (x - transformed(np.matmul, background, j) - e)
        beta *= 1.1
    return np.linalg.norm(e, axis=2)


@pytest.mark.parametrize("count", [4, 5])
@pytest.mark.parametrize("shape", [(9, 12), (12, 9)])
def test_pca_tlrsr_is_its_steps(shape, count):
    cube = scene(*shape)
    expected = plain_tlrsr(cube, count, 0.05, 0.02, 3)
    assert relative(tlrsr.PCATLRSR(count, 0.05, 0.02, 3)(tensor(cube))[0], expected) < 1e-6


# ---- FrFE


def test_the_transform_of_order_0_changes_nothing_that_of_order_1_is_fourier_and_orders_add_up():
    for bands in (2, 3, 8, 9, 30):
        basis, number = frfe.hermite_basis(bands)
        assert torch.allclose(basis.T @ basis, torch.eye(bands).double(), atol=1e-12)

        def kernel(order, basis=basis, number=number):
            return basis.numpy() * np.exp(-0.5j * np.pi * order * number.numpy()) @ basis.numpy().T

        if bands > 2:  # of two bands, no choice of vectors is special
            fourier = np.fft.fft(np.eye(bands), norm="ortho")
            assert kernel(1) == pytest.approx(fourier, abs=1e-10)
        assert kernel(0.3) @ kernel(0.5) == pytest.approx(kernel(0.8), abs=1e-10)


@pytest.mark.parametrize("order", [0.0, 0.4, 1.0])
def test_magnitudes_are_those_of_the_centred_transform(order):
    spectra = np.random.RandomState(0).uniform(size=(9, 20))
    basis, number = (each.numpy() for each in frfe.hermite_basis(9))
    centre = (np.arange(9) + 4) % 9
    transformed = np.zeros((9, 20), complex)
    transformed[centre] = basis @ (np.exp(-0.5j * np.pi * order * number)[:, None] * (basis.T @ spectra[centre]))
    expected = np.abs(transformed)
    expected = (expected - expected.mean()) / expected.std(ddof=1)
    assert frfe.magnitudes(torch.from_numpy(spectra), order).numpy() == pytest.approx(expected, abs=1e-12)


def test_the_largest_entropy_is_that_of_the_most_even_histogram():
    rows = np.stack([np.zeros(512), np.arange(512) % 256 / 255, np.arange(512) % 2])
    assert frfe.largest_entropy(torch.from_numpy(rows)) == pytest.approx(8)
    assert frfe.largest_entropy(torch.from_numpy(rows[::2])) == pytest.approx(1)


def test_frfe_is_rx_on_the_magnitudes_at_a_tenth_above_the_largest_entropy():
    cube = scene(16, 15, 7)
    spectra = torch.from_numpy(unit(cube).reshape(-1, 7).T.copy())
    orders = np.arange(11) / 10
    entropies = [frfe.largest_entropy(frfe.magnitudes(spectra, order)) for order in orders]
    for shifted, best in ((True, orders[np.argmax(entropies)] + 0.1), (False, orders[1 + np.argmax(entropies[1:-1])])):
        expected = rx(frfe.magnitudes(spectra, best).view(1, 7, 16, 15))
        assert torch.allclose(frfe.FrFE(shifted)(tensor(cube)), expected, rtol=1e-9)


# ---- KIFD


def plain_kernel_components(pixels: np.ndarray, count: int) -> np.ndarray:
    distances = np.linalg.norm(pixels[:, None] - pixels, axis=2)
    kernel = np.exp(-(distances**2) / (2 * distances.mean() ** 2))
    centring = np.eye(len(pixels)) - 1 / len(pixels)
    values, vectors = np.linalg.eigh(centring @ kernel @ centring)
    return unit(centring @ kernel @ centring @ vectors[:, : -count - 1 : -1] / values[: -count - 1 : -1], 0)


def up_to_sign(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference of columns scaled to [0, 1], either way up."""
    return float(np.minimum(np.abs(found - expected).max(0), np.abs(found - (1 - expected)).max(0)).max())


def test_kernel_components_are_those_of_the_centred_kernel_matrix():
    pixels = scene(9, 8).reshape(-1, 8)
    found = kifd.kernel_components(pixels, np.ones(72, bool), 6, samples=1000, seed=1)
    assert found.shape == (72, 6) and up_to_sign(found, plain_kernel_components(pixels, 6)) < 1e-5
    many = kifd.kernel_components(pixels, np.ones(72, bool), 300, samples=40, seed=1)
    assert many.shape[1] <= 39 and np.isfinite(many).all()
    assert np.isfinite(kifd.kernel_components(np.repeat(pixels[:5], 20, 0), np.ones(100, bool), 300, 1000, 0)).all()


def forest(features: np.ndarray, trees: int, pixels: int) -> np.ndarray:
    return (
        -IsolationForest(n_estimators=trees, max_samples=pixels, random_state=2).fit(features).score_samples(features)
    )


def test_kifd_judges_large_marked_sets_again_and_then_the_rest():
    cube = scene(30, 30, 6)
    cube[10:16, 10:16] += 0.8  # 36 px: more than 900 / 120
    detector = kifd.KIFD(components=20, trees=30, share=0.1, seed=2)
    pixels, _ = scaled_pixels(tensor(cube)[0])
    features = kifd.kernel_components(pixels.numpy(), np.ones(len(pixels), bool), 20, 3000, 2)
    scores = forest(features, 30, 90)
    threshold, touched = otsu(scores), np.zeros(900, bool)
    for _ in range(5):
        labels, count = ndimage.label((scores > threshold).reshape(30, 30), np.ones((3, 3)))
        large = [members for n in range(1, count + 1) if (members := labels.ravel() == n).sum() >= 7]
        for members in large:
            scores[members] = forest(features[members], 3, int(members.sum() / 2 + 0.5))
            touched |= members
        if not large:
            break
    assert 7 <= touched.sum() < 900
    scores[~touched] = forest(features[~touched], 30, 90)
    assert relative(detector(tensor(cube))[0], (10**scores).reshape(30, 30)) < 1e-12


# ---- PTA


def plain_pta(cube: np.ndarray, alpha: float, beta: float, tau: float, rank: int, mu: float) -> np.ndarray:
    y = unit(cube, (0, 1))
    h, w, b = y.shape

    def laplacian(n):
        steps = np.diff(np.eye(n), axis=0)
        return steps.T @ steps

    def on_matrix(function, x):
        return function(x.reshape(-1, b).T).T.reshape(h, w, b)

    def directions(matrix):
        u, s, v = np.linalg.svd(matrix, full_matrices=False)
        kept = min(rank, int((s > 1e-6 * s[0]).sum()))
        return u[:, :kept] @ v[:kept]

    s, v1, v2, v3, v4, d1, d2, d3, d4, d5, t = np.zeros((11, h, w, b))
    for it in range(1, 401):
        x = (y - s + d1 + d2 + d3 + d4 + v1 + v2 + v3) / 4
        v1 = np.einsum("ij,jwb->iwb", mu * np.linalg.inv(tau * laplacian(h) + mu * np.eye(h)), x - d2)
        v2 = np.einsum("ij,hjb->hib", mu * np.linalg.inv(tau * laplacian(w) + mu * np.eye(w)), x - d3)
        v3 = on_matrix(lambda m, by=alpha / (2 * mu): lower_singular_values(m, by), (x + v4 - d4 + d5) / 2)
        v4 = v3 - d5 + alpha / mu * t
        t = on_matrix(directions, v4)
        s = shorten(y - x + d1, beta / mu, 2)
        d1, d2, d3, d4, d5 = d1 + y - x - s, d2 + v1 - x, d3 + v2 - x, d4 + v3 - x, d5 + v4 - v3
        gaps = (y - x - s, x - v1, x - v2, x - v3, v3 - v4)
        if it % 10 == 1 and sum(np.linalg.norm(gap) for gap in gaps) <= 1e-6:
            break
        mu = min(1.5 * mu, 1e10)
    return np.linalg.norm(s, axis=2)


@pytest.mark.parametrize("setting", [(1.7, 0.069, 0.1, 1, 1e-3), (1.0, 0.2, 1.0, 0, 0.1), (1.0, 1.0, 1.0, 3, 0.01)])
def test_pta_is_its_steps(setting):
    cube = scene()
    expected = plain_pta(cube, *setting)
    assert expected.any() and relative(pta.PTA(*setting)(tensor(cube))[0], expected) < 1e-5


# ---- LSMAD


def test_go_dec_is_its_steps():
    pixels = unit(scene().reshape(-1, 8), 0)
    low_rank, sparse = pixels.copy(), np.zeros_like(pixels)
    rng = np.random.RandomState(4)
    for _ in range(101):
        a = rng.standard_normal((8, 3))
        for _ in range(3):
            a = low_rank.T @ (low_rank @ a)
        q = np.linalg.qr(a)[0]
        t = low_rank - low_rank @ q @ q.T + sparse
        low_rank, sparse = low_rank @ q @ q.T, np.zeros_like(pixels)
        largest = np.argsort(np.abs(t).ravel())[-20:]
        sparse.ravel()[largest] = t.ravel()[largest]
        result, low_rank = low_rank, low_rank + t - sparse
    rng = np.random.RandomState(4)
    found = lsmad.go_dec(torch.from_numpy(pixels), 20, lambda: torch.from_numpy(rng.standard_normal((8, 3))))
    assert relative(found, result) < 1e-6
    distances = lsmad.background_distances(torch.from_numpy(pixels), found, 3)
    centred = pixels - result.mean(0)
    inverse = np.linalg.pinv(np.cov(result, rowvar=False), rcond=1e-9)
    assert relative(distances, np.einsum("pi,ij,pj->p", centred, inverse, centred)) < 1e-5


def test_go_dec_separates_few_large_values_from_a_matrix_of_low_rank():
    rng = np.random.RandomState(0)
    low_rank = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 10))
    spoilt = low_rank.copy()
    spoilt[rng.choice(200, 8, replace=False), rng.randint(10, size=8)] += 20
    found = lsmad.go_dec(torch.from_numpy(spoilt), 8, lambda: torch.from_numpy(rng.normal(size=(10, 2))))
    assert relative(found, low_rank) < 1e-3


# ---- LRASR


def test_a_representation_is_its_steps():
    x, rng = unit(scene().reshape(-1, 8), 0).T, np.random.RandomState(0)
    d = x[:, rng.permutation(x.shape[1])[:12]]
    eta, mu, beta, weight = np.linalg.norm(d, 2) ** 2, 1e-3, 0.05, 0.1
    s = j = y2 = np.zeros((12, x.shape[1]))
    e = y1 = np.zeros_like(x)
    for _ in range(115):
        before = s, j, e
        s = lower_singular_values(s + (d.T @ (x - d @ s - e + y1 / mu) - (s - j + y2 / mu)) / eta, 1 / (mu * eta))
        j = np.sign(s + y2 / mu) * np.maximum(np.abs(s + y2 / mu) - beta / mu, 0)
        r = x - d @ s
        e = shorten(r + y1 / mu, weight / mu, 0)
        moved = [np.linalg.norm(now - then) for now, then in zip((s, j, e), before, strict=True)]
        size = np.linalg.norm(x)
        if np.linalg.norm(r - e) / size < 1e-6 and mu * max(eta**0.5 * moved[0], *moved[1:]) / size < 1e-2:
            break
        y1, y2, mu = y1 + mu * (r - e), y2 + mu * (s - j), min(1.1 * mu, 1e10)
    assert e.any() and relative(lrasr.represent(torch.from_numpy(x), torch.from_numpy(d), beta, weight), e) < 1e-6


def test_a_dictionary_holds_the_members_nearest_to_the_mean_of_each_large_cluster():
    rng = np.random.RandomState(0)
    spread = np.array([1.0, 0.1, 0.3])
    large, other, small = rng.normal(size=(40, 3)) * spread, rng.normal(size=(30, 3)) + 20, rng.normal(size=(4, 3)) - 20
    pixels = np.r_[small, large, other]
    found = lrasr.LRASR(clusters=3, atoms=10).dictionary(torch.from_numpy(pixels)).T.numpy()
    assert found.shape == (20, 3)
    for members in (large, other):
        centred = members - members.mean(0)
        distance = np.einsum("pi,ij,pj->p", centred, np.linalg.inv(np.cov(members, rowvar=False)), centred)
        nearest = members[np.argsort(distance)[:10]]
        assert all((np.abs(found - atom).sum(1) < 1e-12).any() for atom in nearest)
    with pytest.raises(ValueError, match="none of the 3 clusters of 74 pixels has 50 pixels"):
        lrasr.LRASR(clusters=3, atoms=50).dictionary(torch.from_numpy(pixels))


# ---- RX with a shrunk covariance


@pytest.mark.parametrize("shape", [(30, 30, 5), (4, 5, 40), (3, 3, 1)])
def test_the_shrunk_covariance_is_scikit_learns(shape):
    cube = np.random.RandomState(0).normal(size=shape) * np.linspace(1, 3, shape[2]) + 10
    expected, _ = oas(cube.reshape(-1, shape[2]))
    assert relative(rx_oas.shrunk(Background.from_cube(tensor(cube))).covariance[0], expected) < 1e-12
    centred = cube.reshape(-1, shape[2]) - cube.mean((0, 1))
    distances = np.einsum("pi,ij,pj->p", centred, np.linalg.inv(expected), centred)
    assert relative(rx_oas.OASRX()(tensor(cube))[0].flatten(), distances) < 1e-9


# ---- the published codes' own output


def test_aed_agrees_with_the_published_code(golden):
    z = golden("aed")
    assert relative(aed.AED(*z["parameters"])(tensor(z["cube"]))[0], z["score"]) < 1e-12


def test_pca_tlrsr_agrees_with_the_published_code(golden):
    z = golden("pca_tlrsr")
    count, dictionary, sparse, pivot = z["parameters"]
    found = tlrsr.PCATLRSR(int(count), dictionary, sparse, int(pivot))(tensor(z["cube"]))[0]
    assert relative(found, z["score"]) < 1e-6


def test_frfe_agrees_with_the_published_code(golden):
    z = golden("frfe")
    spectra = torch.from_numpy(z["cube"] / z["cube"].max()).reshape(-1, 30).T.contiguous()
    detector = frfe.FrFE()
    assert detector.order(spectra) == pytest.approx(float(z["order_used"]))
    found = [frfe.largest_entropy(frfe.magnitudes(spectra, step / 10)) for step in range(11)]
    assert found == pytest.approx(z["entropies"], abs=1e-9)
    features = detector.features(spectra)
    assert relative(features.T.reshape(24, 20, 30), z["features"]) < 1e-6
    score = rx(features.view(1, 30, 24, 20))[0] * 480 / 479  # its covariance is over the number of pixels
    assert relative(score, z["score"]) < 1e-9


def test_kernel_components_agree_with_the_published_code(golden):
    z = golden("kifd")
    pixels, _ = scaled_pixels(tensor(z["cube"])[0])
    found = kifd.kernel_components(pixels.numpy(), np.ones(len(pixels), bool), 300, 10_000, 0)
    assert up_to_sign(found[:, :20], unit(z["kernel_components_20"].reshape(-1, 20), 0)) < 1e-6


def test_pta_agrees_with_the_published_code(golden):
    z = golden("pta")
    alpha, beta, tau, rank, mu = z["parameters"]
    assert relative(pta.PTA(alpha, beta, tau, int(rank), mu)(tensor(z["cube"]))[0], z["score"]) < 1e-10


def test_lsmad_agrees_with_the_published_code_on_the_same_draws(golden):
    z = golden("lsmad")
    rank, sparse_values, _ = (int(each) for each in z["parameters"])
    pixels, _ = scaled_pixels(tensor(z["cube"])[0])
    rng = np.random.RandomState(0)
    low_rank = lsmad.go_dec(pixels, sparse_values, lambda: torch.from_numpy(rng.standard_normal((30, rank))))
    assert relative(lsmad.background_distances(pixels, low_rank, rank).view(24, 20), z["score"]) < 1e-5


def test_lrasr_agrees_with_the_published_code_on_the_same_dictionary(golden):
    z = golden("lrasr")
    pixels, _ = scaled_pixels(tensor(z["cube"])[0])
    rest = lrasr.represent(pixels.T, torch.from_numpy(z["dictionary"]), *z["parameters"])
    assert relative(rest.norm(dim=0).view(24, 20), z["score"]) < 1e-10


CHECKS = [  # detector, its options, scene, AUC of the published code (AED, PCA-TLRSR, FrFE) or in print, and how near
    ("AED", {}, "airport-1", 0.992256, 1e-6),
    ("AED", {}, "beach-1", 0.997411, 1e-6),
    ("AED", {}, "urban-1", 0.998144, 1e-6),
    ("FrFE", {}, "airport-1", 0.839523, 1e-6),
    ("PCA-TLRSR", {"components": "4", "dictionary": "0.06", "sparse": "0.01"}, "airport-1", 0.945472, 1e-5),
    ("PTA", {}, "airport-1", 0.8809, 1e-3),
    ("KIFD", {}, "airport-1", 0.9359, 3e-3),
]


@pytest.mark.slow
@pytest.mark.parametrize("name, options, scene, auc, near", CHECKS)
def test_aucs_on_real_scenes_are_those_of_the_published_codes(name, options, scene, auc, near):
    (labelled,) = abu.scenes(shared_file("abu"), names=scene)
    read, truth = labelled.load()
    score = make_detector(name, options=options)(tensor(read.cube.astype(np.float64)))
    assert fers.auc(score[0].numpy(), truth) == pytest.approx(auc, abs=near)
