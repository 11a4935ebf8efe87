"""AUC, false colour, and which default a setting takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

from fers.evaluation.figures import false_colour
from fers.evaluation.metrics import auc, roc
from fers.scenes import Scene
from fers.scoring.pipeline import DetectConfig
from fers.util.pictures import rgb_bands


def test_auc_is_the_chance_that_an_anomaly_scores_higher():
    rng = np.random.RandomState(0)
    score, truth = rng.randint(0, 20, size=(12, 12)).astype(float), rng.uniform(size=(12, 12)) < 0.3
    pairs = score[truth][:, None] - score[~truth][None, :]
    assert auc(score, truth) == pytest.approx((pairs > 0).mean() + 0.5 * (pairs == 0).mean())
    false_positive, true_positive = roc(score, truth)
    assert sklearn.metrics.auc(false_positive, true_positive) == pytest.approx(auc(score, truth))


def test_auc_of_one_class_or_of_a_broken_map():
    score = np.zeros((4, 4))
    assert auc(score, np.zeros((4, 4), bool)) is None and auc(score, np.ones((4, 4), bool)) is None
    with pytest.raises(ValueError, match="NaN"):
        auc(np.full((4, 4), np.nan), np.eye(4, dtype=bool))
    with pytest.raises(ValueError, match="truth"):
        auc(score, np.eye(5, dtype=bool))


def scene(bands: int, wavelengths=None) -> Scene:
    cube = np.random.RandomState(0).uniform(size=(9, 9, bands))
    return Scene("s", cube, Path("s.npy"), wavelengths=wavelengths)


def test_false_colour_takes_the_bands_nearest_to_red_green_and_blue():
    wavelengths = np.array([450.0, 470.0, 550.0, 640.0, 650.0])
    assert rgb_bands(wavelengths, 5) == (3, 2, 1)
    assert rgb_bands(None, 224) == rgb_bands(np.linspace(400, 2500, 224), 224)
    assert rgb_bands(None, 100) == rgb_bands(np.linspace(430, 860, 100), 100)
    shown = scene(5, wavelengths)
    picture = false_colour(shown)
    assert picture.shape == (9, 9, 3) and picture.dtype == np.uint8 and picture.min() == 0 and picture.max() == 255
    green = shown.cube[:, :, 2]
    low, high = np.percentile(green, (2, 98))
    assert np.array_equal(picture[:, :, 1], (255 * np.clip((green - low) / (high - low), 0, 1)).round())


@pytest.mark.parametrize(
    "bands, detect, expected", [(50, "RX", "A"), (51, "RX", "B"), (200, "RX", "B"), (50, "AE", "B")]
)
def test_default_fusion(bands, detect, expected):
    assert DetectConfig(bands, "s", detect=detect).chosen_fusion == expected
    assert DetectConfig(bands, "s", detect=detect, fusion="A").chosen_fusion == "A"
    assert DetectConfig(bands, "s", detect=detect, features="spectral").chosen_fusion is None


@pytest.mark.parametrize(
    "detect, settings, unit",
    [
        ("RX", {"features": "original"}, "squared Mahalanobis distance"),
        ("RX", {"fusion": "B"}, "squared Mahalanobis distance"),
        ("RX", {"fusion": "A"}, "product of scaled maps"),
        ("AE", {"features": "original"}, "score"),
    ],
)
def test_a_maps_colour_bar_says_what_it_measures(detect, settings, unit):
    assert DetectConfig(200, "s", detect=detect, **settings).unit == unit
