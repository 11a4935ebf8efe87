"""AUC, false colour, and which default a setting takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from conftest import run_had100, write_had100
from PIL import Image

from fers.evaluation.figures import false_colour, rgb_bands
from fers.evaluation.metrics import auc, roc
from fers.networks import load_checkpoint, save_checkpoint
from fers.scenes import Scene
from fers.scoring.pipeline import DetectConfig


def test_auc_is_the_chance_that_an_anomaly_scores_higher():
    rng = np.random.RandomState(0)
    score, mask = rng.randint(0, 20, size=(12, 12)).astype(float), rng.uniform(size=(12, 12)) < 0.3
    pairs = score[mask][:, None] - score[~mask][None, :]
    assert auc(score, mask) == pytest.approx((pairs > 0).mean() + 0.5 * (pairs == 0).mean())
    false_positive, true_positive = roc(score, mask)
    assert sklearn.metrics.auc(false_positive, true_positive) == pytest.approx(auc(score, mask))


def test_auc_of_one_class_or_of_a_broken_map():
    score = np.zeros((4, 4))
    assert auc(score, np.zeros((4, 4), bool)) is None and auc(score, np.ones((4, 4), bool)) is None
    with pytest.raises(ValueError, match="NaN"):
        auc(np.full((4, 4), np.nan), np.eye(4, dtype=bool))
    with pytest.raises(ValueError, match="mask"):
        auc(score, np.eye(5, dtype=bool))


def test_a_network_that_was_chosen_on_a_test_set_says_so_in_every_result(dataset, checkpoints, tmp_path):
    sentence = "Spe-FEN: its epoch or seed was chosen by AUC on a test set by those who trained it."
    for selection in ("last", "test-auc"):
        path = checkpoints / "spe_fen.safetensors"
        network, info = load_checkpoint(path)
        save_checkpoint(network, path, replace(info, selection=selection))
        options = ("--features", "spectral", "--checkpoint_dir", str(checkpoints), "--no_maps")
        assert run_had100(dataset, tmp_path / selection, *options) == 0
        results = json.loads((tmp_path / selection / "results.json").read_text())
        assert (sentence in results["caveats"]) == (selection == "test-auc")


def test_pixels_without_data_have_no_part_in_the_auc(tmp_path):
    folder = write_had100(tmp_path / "data", names=("a",), shape=(20, 24, 12))
    truth = np.zeros((20, 24), bool)
    truth[0, 0] = truth[9, 9] = True
    Image.fromarray(truth.astype(np.uint8) * 255).save(folder / "ground_truth" / "aviris_ng" / "a.png")
    path = folder / "test" / "aviris_ng" / "a.npy"
    cube = np.load(path)
    cube[9, 9, :4] = 2
    cube[:4, :6] = np.nan  # a hole with an anomaly in it, which no detector can find
    np.save(path, cube)
    assert run_had100(folder, tmp_path / "out", "--features", "original", "--nodata", "mask", "--no_maps") == 0
    score = np.load(tmp_path / "out" / "scores" / "a.npy")
    kept = np.isfinite(cube).all(axis=2)
    expected = (score[9, 9] > score[kept & ~truth]).mean()
    assert expected > 0.9
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["scenes"]["a"]["auc"] == pytest.approx(expected)


def scene(bands: int, wavelengths=None) -> Scene:
    cube = np.random.RandomState(0).uniform(size=(9, 9, bands))
    return Scene("s", cube, Path("s.npy"), wavelengths=wavelengths)


def test_false_colour_takes_the_bands_nearest_to_red_green_and_blue():
    assert rgb_bands(scene(3, np.array([470.0, 550.0, 640.0]))) == (2, 1, 0)
    red, green, blue = rgb_bands(scene(224))
    assert blue < green < red < 40
    picture = false_colour(scene(5))
    assert picture.shape == (9, 9, 3) and picture.min() == 0 and picture.max() == 1


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
