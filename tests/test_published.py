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
from fers.evaluation.published import published_per_scene
from fers.scenes.scene import read_scene, read_truth

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
