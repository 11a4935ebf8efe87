"""Target search: closed forms, a plain loop, and Spectral Python's own results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fers.detection.search import Likeness, null_threshold, spectral_angle
from fers.util.errors import FersError

GOLDEN = Path(__file__).resolve().parent.parent.parent / "shared" / "golden" / "follow_up.npz"
RNG = np.random.RandomState(3)
PIXELS = 5 + RNG.normal(size=(400, 6)) @ RNG.normal(size=(6, 6))
MEAN, COVARIANCE = PIXELS.mean(axis=0), np.cov(PIXELS.T)
TARGET = MEAN + RNG.normal(size=6)


@pytest.mark.skipif(not GOLDEN.is_file(), reason="../shared/golden/follow_up.npz is not here")
def test_measures_agree_with_spectral_python():
    golden = np.load(GOLDEN)
    pixels = golden["cube"].reshape(-1, 8).astype(float)
    ace, mf = Likeness(golden["target"], golden["mean"], golden["covariance"], ridge=0)(pixels)
    angle = spectral_angle(pixels, golden["target"])
    for found, own, theirs in [(np.abs(ace), "ace", "spy_ace"), (mf, "mf", "spy_mf"), (angle, "sam", "spy_sam")]:
        np.testing.assert_allclose(found, golden[theirs].ravel(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found, golden[own].ravel(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ace, golden["ace_signed"].ravel(), rtol=1e-12, atol=1e-12)


def test_measures_are_what_their_equations_say():
    inverse, d = np.linalg.inv(COVARIANCE), TARGET - MEAN
    ace, mf = Likeness(TARGET, MEAN, COVARIANCE, ridge=0)(PIXELS)
    for i in range(0, 400, 37):
        x = PIXELS[i] - MEAN
        along = d @ inverse @ x
        assert mf[i] == pytest.approx(along / (d @ inverse @ d), rel=1e-9)
        assert ace[i] == pytest.approx(np.sign(along) * along**2 / ((d @ inverse @ d) * (x @ inverse @ x)), rel=1e-9)
    cosine = PIXELS[5] @ TARGET / np.linalg.norm(PIXELS[5]) / np.linalg.norm(TARGET)
    assert np.cos(spectral_angle(PIXELS, TARGET)[5]) == pytest.approx(cosine)


def test_the_target_scores_one_its_mirror_image_minus_one_and_the_mean_zero():
    ace, mf = Likeness(TARGET, MEAN, COVARIANCE)(np.stack([TARGET, 2 * MEAN - TARGET, MEAN]))
    np.testing.assert_allclose(ace, [1, -1, 0], atol=1e-12)
    np.testing.assert_allclose(mf, [1, -1, 0], atol=1e-12)
    np.testing.assert_allclose(spectral_angle(np.stack([3 * TARGET, 0 * TARGET]), TARGET), [0, np.pi / 2], atol=1e-7)


def test_matched_filter_and_ace_do_not_change_under_a_linear_map_of_the_bands():
    a, b = RNG.normal(size=(6, 6)), RNG.normal(size=6)
    before = Likeness(TARGET, MEAN, COVARIANCE, ridge=0)(PIXELS)
    after = Likeness(a @ TARGET + b, a @ MEAN + b, a @ COVARIANCE @ a.T, ridge=0)(PIXELS @ a.T + b)
    np.testing.assert_allclose(after, before, rtol=1e-8, atol=1e-10)


def test_the_ridge_lets_a_singular_covariance_be_used_and_does_not_depend_on_the_unit():
    flat = np.hstack([PIXELS, PIXELS[:, :1]])
    mean, covariance = flat.mean(axis=0), np.cov(flat.T)
    first = Likeness(flat[7], mean, covariance)(flat)
    np.testing.assert_allclose(Likeness(1e4 * flat[7], 1e4 * mean, 1e8 * covariance)(1e4 * flat), first, rtol=1e-9)
    with pytest.raises(FersError, match="singular"):
        Likeness(TARGET, MEAN, np.zeros((6, 6)), ridge=0)
    with pytest.raises(FersError, match="mean of the background"):
        Likeness(MEAN, MEAN, COVARIANCE)


def test_the_null_law_holds_for_gaussian_background():
    rng = np.random.RandomState(0)
    ace, _ = Likeness(np.ones(20), np.zeros(20), np.eye(20))(rng.normal(size=(200_000, 20)))
    assert (ace > null_threshold(1e-2, 20)).mean() == pytest.approx(1e-2, rel=0.08)
