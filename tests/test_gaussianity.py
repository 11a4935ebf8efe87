"""Mardia's measures, the Q-Q line and the separability against definitions and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from experiments.explain import qq_figure
from experiments.gaussianity import Mardia, describe, mardia, qq, separability


def gaussian(n=600, bands=4, seed=0) -> np.ndarray:
    rng = np.random.RandomState(seed)
    return rng.normal(size=(n, bands)) @ rng.normal(size=(bands, bands)) + 5


def test_mardia_is_its_double_sum(monkeypatch):
    pixels = np.exp(gaussian(n=90) / 3)
    centred = pixels - pixels.mean(0)
    products = centred @ np.linalg.inv(centred.T @ centred / 90) @ centred.T
    for block in (2048, 16):
        monkeypatch.setattr("experiments.gaussianity.PRODUCT_SIDE", block)
        found = mardia(pixels)
        assert found.skewness == pytest.approx((products**3).sum() / 90**2)
        assert found.kurtosis == pytest.approx((np.diag(products) ** 2).mean())
        assert (found.pixels, found.rank) == (90, 4)


def test_mardia_in_one_dimension_is_the_ordinary_skewness_and_kurtosis():
    x = np.random.RandomState(0).gamma(2, size=(300, 1))
    found = mardia(x)
    assert found.skewness == pytest.approx(stats.skew(x[:, 0]) ** 2)
    assert found.kurtosis == pytest.approx(stats.kurtosis(x[:, 0], fisher=False))


def test_mardia_p_values_are_uniform_for_gaussians_and_tiny_for_others():
    def skewness_p(m: Mardia) -> float:  # n skewness / 6 is chi-square with p (p + 1) (p + 2) / 6 degrees
        return float(stats.chi2.sf(m.pixels * m.skewness / 6, m.rank * (m.rank + 1) * (m.rank + 2) / 6))

    def kurtosis_z(m: Mardia) -> float:
        gauss = m.rank * (m.rank + 2)
        return (m.kurtosis - gauss) / np.sqrt(8 * gauss / m.pixels)

    found = [mardia(gaussian(n=300, seed=seed)) for seed in range(25)]
    assert stats.kstest([skewness_p(m) for m in found], "uniform").pvalue > 0.01
    assert stats.kstest([kurtosis_z(m) for m in found], "norm").pvalue > 0.01
    skewed = mardia(np.exp(gaussian() / 5))
    assert skewness_p(skewed) < 1e-6 and kurtosis_z(skewed) > 5


def test_bands_without_information_change_nothing():
    pixels, rng = np.exp(gaussian() / 3), np.random.RandomState(1)
    padded = np.hstack([pixels, np.full((600, 2), 0.1), 2 * pixels[:, :2]]) * [1e-3, 1, 1e3, 1, 1, 1, 5, 1]
    plain, odd = mardia(pixels), mardia(padded)
    assert odd.rank == 4 and odd.skewness == pytest.approx(plain.skewness, rel=1e-6)
    assert odd.kurtosis == pytest.approx(plain.kurtosis, rel=1e-6)
    assert qq(padded).observed == pytest.approx(qq(pixels).observed, rel=1e-6)
    chosen = rng.choice(600, 30, replace=False)
    first, second = (separability(np.delete(x, chosen, 0), x[chosen]) for x in (pixels, padded))
    assert first == pytest.approx(second, rel=1e-6)


def test_distances_of_a_gaussian_follow_the_beta_law():
    """60 pixels in 20 dimensions: the law is far from the chi-square that many pixels would give."""
    distances = np.concatenate([qq(gaussian(60, 20, seed)).observed for seed in range(25)])
    law = stats.beta(10, 19.5, scale=59**2 / 60)
    assert stats.kstest(distances, law.cdf).statistic < 0.04 < stats.kstest(distances, stats.chi2(20).cdf).statistic
    line = qq(gaussian(5000))
    assert np.polyfit(line.expected, line.observed, 1)[0] == pytest.approx(1, abs=0.03) and line.correlation > 0.999
    assert (
        line.expected.mean()
        == pytest.approx(line.observed.mean(), rel=1e-3)
        == pytest.approx(4 * 4999 / 5000, rel=1e-3)
    )


def test_heavy_tails_bend_the_line():
    rng = np.random.RandomState(0)
    heavy = gaussian(2000) * np.sqrt(3 / rng.chisquare(3, size=(2000, 1)))
    line = qq(heavy)
    assert line.correlation < 0.9 and line.observed[-1] > 2 * line.expected[-1]


def test_mahalanobis_distance_of_the_means_is_its_formula():
    background, anomalies = gaussian(), gaussian(40, seed=2) + np.array([1, -2, 0, 3])
    d = anomalies.mean(0) - background.mean(0)
    expected = np.sqrt(d @ np.linalg.inv(np.cov(background, rowvar=False)) @ d)
    assert separability(background, anomalies)[0] == pytest.approx(expected)
    one = separability(background, anomalies[:1])
    assert np.isnan(one[1]) and one[0] > 0


def test_bhattacharyya_distance_is_minus_the_log_of_the_overlap_of_the_two_densities():
    rng = np.random.RandomState(0)
    background, anomalies = rng.normal(1, 2, size=(4000, 1)), rng.normal(4, 0.7, size=(4000, 1))
    a, b = (stats.norm(x.mean(), x.std(ddof=1)) for x in (anomalies, background))
    overlap = integrate.quad(lambda x: np.sqrt(a.pdf(x) * b.pdf(x)), -15, 15)[0]
    assert separability(background, anomalies)[1] == pytest.approx(-np.log(overlap), rel=5e-3)


def test_bhattacharyya_distance_of_many_anomalies_is_its_formula():
    background = gaussian(6000)
    background, anomalies = background[:3000], 0.7 * background[3000:] + 1
    a, b = (np.cov(x, rowvar=False) for x in (anomalies, background))
    both, d = (a + b) / 2, anomalies.mean(0) - background.mean(0)
    log_determinants = [np.linalg.slogdet(x)[1] for x in (both, a, b)]
    expected = d @ np.linalg.inv(both) @ d / 8 + (log_determinants[0] - sum(log_determinants[1:]) / 2) / 2
    assert separability(background, anomalies)[1] == pytest.approx(expected, rel=0.02)
    assert np.isfinite(separability(background, anomalies[:3])[1])  # fewer anomalies than bands


def test_a_scene_is_described_without_its_anomalies_in_the_background():
    cube = gaussian(900).reshape(30, 30, 4)
    truth = np.zeros((30, 30), bool)
    truth[4, 5:9] = True
    cube[truth] += 1000
    found = describe(cube, truth)
    assert found["kurtosis (1 is Gaussian)"] == pytest.approx(1, abs=0.1) and found[
        "skewness (1 is Gaussian)"
    ] == pytest.approx(1, abs=0.6)
    assert found["Mahalanobis distance"] == separability(cube[~truth], cube[truth])[0] > 100
    assert all(type(value) is float and np.isfinite(value) for value in found.values())


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_qq_figure_is_written(tmp_path, suffix):
    lines = {"before": qq(np.exp(gaussian() / 3)), "after": qq(gaussian())}
    path = qq_figure(lines, tmp_path / f"qq.{suffix}")
    assert path.stat().st_size > 3000 and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_what_has_no_description_is_refused():
    pixels = gaussian()
    with pytest.raises(ValueError, match="every pixel is equally far"):
        mardia(pixels[:5])
    with pytest.raises(ValueError, match="NaN"):
        qq(np.where(pixels > 20, np.nan, np.where(np.arange(600)[:, None] == 3, np.nan, pixels)))
    with pytest.raises(ValueError, match="one anomalous spectrum or more"):
        separability(pixels, pixels[:0])
    with pytest.raises(ValueError, match="of the same scene"):
        describe(pixels.reshape(20, 30, 4), np.zeros((20, 30), bool))
    with pytest.raises(ValueError, match="n x C"):
        qq(pixels.reshape(20, 30, 4))
