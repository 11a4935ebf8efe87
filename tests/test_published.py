"""What others have published by scene: complete, on the catalogue's scenes only, and with RX where ours is."""

from __future__ import annotations

import csv
from collections import Counter

import pytest
import torch
from conftest import shared_file
from test_catalogue import AT_HAND, file_of

from fers.datasets.catalogue import CATALOGUE
from fers.detectors.rx import rx
from fers.evaluation.metrics import auc
from fers.evaluation.published import published_by_rule, published_per_scene
from fers.evaluation.tables import header_line, mean_line, scene_line
from fers.scenes.scene import read_scene, read_truth
from fers.scoring.config import DetectConfig

RX = [row for row in published_per_scene() if row["method"] == "RX"]


def test_every_number_of_the_list_is_there_with_its_source():
    with shared_file("published_per_scene.csv").open(newline="") as file:
        listed = Counter(
            (row["source"], row["method"], float(row["auc"]), int(row["year"])) for row in csv.DictReader(file)
        )
    ours = published_per_scene()
    assert Counter((row["source"], row["method"], row["auc"], row["year"]) for row in ours) == listed
    assert all(row["protocol"] and row["url"] for row in ours)


def test_a_row_names_a_scene_of_the_catalogue_or_says_which_it_was():
    for row in published_per_scene():
        assert row["scene"] in CATALOGUE or row["note"].startswith("another file than the catalogue's"), row
    # a number is of one truth only: that of other bands, of another crop, of another truth stands apart
    apart = [row for row in published_per_scene() if not row["scene"]]
    assert any("198 of 207 bands" in row["note"] for row in apart) and any("21 px" in row["note"] for row in apart)
    assert {row["scene"] for row in published_per_scene() if row["source"] == "LREN README"} == {"beach-4-cut", ""}


@pytest.mark.parametrize("name", sorted({row["scene"] for row in RX} & set(AT_HAND)))
def test_rx_here_is_the_published_rx_where_the_scene_is_the_same(name):
    path, scene = file_of(name), CATALOGUE[name]
    cube = read_scene(path, variable=scene.cube).cube
    truth = read_truth(path, variable=scene.truth)
    for row in (row for row in RX if row["scene"] == name):
        bands = 200 if "first 200 bands" in row["protocol"] else None
        score = rx(torch.from_numpy(cube[:, :, :bands].astype(float)).permute(2, 0, 1)[None])[0].numpy()
        assert auc(score, truth) == pytest.approx(row["auc"], abs=3e-4), row


RELEASED = (("solver", "released"),)


@pytest.mark.parametrize(
    ("dataset", "options", "expected", "why"),
    [
        ("HAD100", {"bands": 50, "features": "fused", "fusion": "A", "options": RELEASED}, {"mean": 0.9953}, ""),
        ("HAD100", {"bands": 50, "features": "fused", "fusion": "A"}, {}, "--rx released"),
        ("HAD100", {"bands": 50, "features": "original"}, {"mean": 0.9799}, ""),
        ("HAD100", {"bands": 50, "features": "original", "start_band": 1}, {}, ""),
        ("ABU", {"bands": 200, "features": "original", "detect": "AE"}, {}, "--select oracle"),
        ("ABU", {"bands": 200, "features": "original", "detect": "AE", "options": (("iterations", 9),)}, {}, ""),
        ("ABU", {"bands": 200, "features": "untrained", "backbone": "random"}, {}, ""),
        ("ABU", {"bands": 200, "features": "fused", "fusion": "B", "options": RELEASED}, {}, ""),
    ],
)
def test_a_run_has_the_papers_numbers_beside_it_only_by_the_papers_rule(dataset, options, expected, why):
    found, said = published_by_rule(dataset, DetectConfig(**options))
    assert found == expected and why in said and bool(why) == bool(said)
    oracle = DetectConfig(bands=200, features="original", detect="AE", select="oracle")
    assert published_by_rule("ABU", oracle)[0]["airport-3"] == 0.9429


def test_the_papers_mean_stands_in_the_line_of_the_mean_and_in_no_scenes_line():
    scene = {"height": 9, "width": 9, "bands": 50, "note": "", "seconds": 1.0}
    scene |= {"auc": 0.5, "ap": 0.4, "pd@1e-3": 0.3, "pd@1e-2": 0.2}
    other = {**scene, "auc": 0.7}
    assert mean_line("m", {"a": scene, "b": other}, 1.0, {"mean": 0.9799}).split() == [
        *("m", "0.6000", "0.9799", "0.4000", "0.3000", "0.2000", "1.000")
    ]
    assert scene_line("a", scene, {"mean": 0.9799}).split()[2:] == [
        "0.5000",
        "-",
        "0.4000",
        "0.3000",
        "0.2000",
        "1.000",
    ]
    assert mean_line("m", {"a": scene, "b": other}, None, {"a": 0.6, "b": 0.8}).split()[2] == "0.7000"
    assert mean_line("m", {"a": scene, "b": other}, None, {"a": 0.6}).split()[2] == "-"
    assert mean_line("m", {"a": scene}, None).split() == ["m", "0.5000", "0.4000", "0.3000", "0.2000"]
    without = dict.fromkeys(("auc", "ap", "pd@1e-3", "pd@1e-2"))
    assert scene_line("a", {**scene, **without}).split()[2:] == ["-", "-", "-", "-", "1.000"]
    heads = header_line(True).split()
    assert heads[-6:] == ["AUC", "paper", "AP", "Pd@0.001", "Pd@0.01", "seconds*"]
