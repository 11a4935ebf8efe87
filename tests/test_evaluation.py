"""AUC, pixels without a score, false colour, and which default a setting takes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from conftest import run_had100, write_had100
from matplotlib.figure import Figure
from PIL import Image

from fers.evaluation.figures import SceneMaps, draw_row, false_colour, scene_figure
from fers.evaluation.metrics import auc, roc, scene_measures
from fers.evaluation.results import read_score, truth_sha256
from fers.networks import load_checkpoint, save_checkpoint
from fers.scenes import Scene
from fers.scenes.scene import npy_bytes
from fers.scoring.pipeline import DetectConfig
from fers.util.errors import FersError
from fers.util.files import write_whole
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


def score_with_a_hole():
    """A score map with NaN where pixels are left out, and its truth."""
    rng = np.random.RandomState(0)
    truth = rng.uniform(size=(30, 40)) < 0.1
    score = rng.normal(size=truth.shape) + 2 * truth
    score[5:20, 10:30] = np.nan
    return score, truth


def test_a_scenes_measures_are_none_where_what_counts_lacks_a_class():
    score, truth = score_with_a_hole()
    left_out = np.isnan(score)
    found = scene_measures(score, truth, left_out)
    assert found["auc"] == auc(score[~left_out], truth[~left_out]) and 0 < found["pd@1e-3"] <= found["pd@1e-2"] < 1
    assert set(scene_measures(score, truth & left_out, left_out).values()) == {None}
    with pytest.raises(FersError, match="Fix the detector"):
        scene_measures(score, truth)


def test_a_score_map_is_read_back_with_its_hole_and_no_other(tmp_path):
    score, truth = score_with_a_hole()
    path = tmp_path / "scores" / "a.npy"
    write_whole(path, npy_bytes(score))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    found = {**scene_measures(score, truth, np.isnan(score)), "left_out_pixels": 300, "score_sha256": digest}
    assert np.array_equal(read_score(tmp_path, "a", found, truth), score, equal_nan=True)
    for wrong in ({"left_out_pixels": 0}, {"auc": 0.5}, {"score_sha256": "0"}):
        with pytest.raises(FersError, match=r"a\.npy: (is not the score map|its AUC is).*Run its test again"):
            read_score(tmp_path, "a", {**found, **wrong}, truth)
    assert truth_sha256(truth) == truth_sha256(255 * truth.astype(np.uint8)) != truth_sha256(~truth)


def grey_pixels(path) -> int:
    return int((np.asarray(Image.open(path).convert("RGB")) == 153).all(axis=2).sum())


def test_pixels_without_a_score_are_grey_and_have_no_part_in_the_auc(tmp_path):
    score, truth = score_with_a_hole()
    shown = Scene("s", np.random.RandomState(0).uniform(size=(30, 40, 4)), Path("s.npy"))
    whole = scene_figure(shown, np.nan_to_num(score), truth, tmp_path / "whole.png", "RX")
    holed = scene_figure(shown, score, truth.astype(np.uint8), tmp_path / "holed.png", "RX")
    of_map = (300 / 1200) * (3.0 * 130) * (2.25 * 130)
    assert grey_pixels(holed) - grey_pixels(whole) == pytest.approx(of_map, rel=0.05)
    axes = Figure().subplots(1, 3)
    draw_row(list(axes), SceneMaps(shown, truth, {"RX": score}))
    assert axes[2].get_xlabel() == f"AUC {auc(score, truth, np.isnan(score)):.4f}"
    assert np.array_equal(axes[2].images[0].get_array().mask, np.isnan(score))


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
    assert DetectConfig(bands=bands, sensor="s", detect=detect).chosen_fusion == expected
    assert DetectConfig(bands=bands, sensor="s", detect=detect, fusion="A").chosen_fusion == "A"
    assert DetectConfig(bands=bands, sensor="s", detect=detect, features="spectral").chosen_fusion is None


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
    assert DetectConfig(bands=200, sensor="s", detect=detect, **settings).unit == unit
