"""The catalogue of scenes: its facts are those of the files at hand, and its addresses are well formed."""

from __future__ import annotations

import csv
import re
from collections import defaultdict

import numpy as np
import pytest
from conftest import shared_file
from scipy import ndimage

from fers.datasets.catalogue import CATALOGUE, HOST, fingerprint, recognise
from fers.datasets.manifest import values_sha256
from fers.scenes.scene import read_scene, read_truth
from fers.util.files import sha256_of

AT_HAND = [name for name, scene in CATALOGUE.items() if scene.fingerprint]


def file_of(name: str):
    if name == "beach-4-cut":
        return shared_file("abu/abu-beach-4.mat")
    abu = CATALOGUE[name].dataset == "abu"
    return shared_file(f"abu/abu-{name}.mat" if abu else f"aviris/{name}.mat")


@pytest.mark.parametrize("name", AT_HAND)
def test_a_row_tells_what_the_file_holds(name):
    scene, path = CATALOGUE[name], file_of(name)
    cube = read_scene(path, variable=scene.cube).cube
    truth = read_truth(path, variable=scene.truth)
    assert cube.shape == (scene.height, scene.width, scene.bands) and truth.shape == cube.shape[:2]
    objects = ndimage.label(truth, np.ones((3, 3)))[1]
    assert (int(truth.sum()), objects) == (scene.anomalies, scene.objects)
    assert (path.stat().st_size, sha256_of(path)) == (scene.size, scene.sha256)
    assert recognise(fingerprint(cube, truth)) is scene


def test_the_addresses_are_those_of_the_list_of_public_scenes():
    with shared_file("scenes/public_scenes.csv").open(newline="") as file:
        listed = {row["scene"]: row for row in csv.DictReader(file)}
    assert listed.keys() == CATALOGUE.keys() - {"beach-4-cut"}
    for name, row in listed.items():
        scene = CATALOGUE[name]
        first = f"{row['repository']}@{row['commit']}:{row['path']}"
        assert scene.copies == tuple(filter(None, [first, *row["same_bytes_also_at"].split(" | ")]))
        known = (scene.size, scene.sha256, scene.git_blob, scene.cube, scene.truth)
        assert known == (int(row["bytes"] or 0) or None, row["sha256"], row["git_blob_sha1"], row["cube"], row["truth"])
        facts = (scene.height, scene.width, scene.bands, scene.anomalies)
        assert facts == tuple(int(row[k]) if row[k] else None for k in ("height", "width", "bands", "anomalous_pixels"))


@pytest.mark.parametrize("name", [name for name, scene in CATALOGUE.items() if scene.copies])
def test_every_address_is_well_formed_and_its_file_can_be_checked(name):
    scene = CATALOGUE[name]
    assert re.fullmatch("[0-9a-f]{40}", scene.git_blob) and re.fullmatch("([0-9a-f]{64})?", scene.sha256)
    assert bool(scene.size) == bool(scene.sha256) and (scene.size or 1) < 5_000_000
    for copy in scene.published:
        assert re.fullmatch(rf"{HOST}/[\w.-]+/[\w.-]+/[0-9a-f]{{40}}/[\w./%-]+\.mat", copy.url)
        assert copy.sha256 or copy.git_blob


def test_no_two_rows_are_one_scene():
    for column in ("name", "fingerprint", "sha256", "git_blob", "path"):
        values = [value for scene in CATALOGUE.values() if (value := getattr(scene, column))]
        assert len(set(values)) == len(values), column


def test_scenes_of_one_group_are_those_that_show_the_same_ground():
    groups = defaultdict(set)
    for name, scene in CATALOGUE.items():
        if scene.group:
            groups[scene.group].add(name)
    assert {"airport-2", "urban-5"} in groups.values() and {"beach-4", "beach-4-cut"} in groups.values()
    assert {"san-diego", "san-diego-2", "san-diego-120"} in groups.values()
    assert all(len(names) > 1 for names in groups.values())


def test_urban_5_ends_where_airport_2_begins():
    """The 2,000 pixels of the note."""
    airport, urban = (read_scene(file_of(name)).cube for name in ("airport-2", "urban-5"))
    assert np.array_equal(airport[:, :20], urban[:, -20:])


def test_a_fingerprint_is_of_the_values_only():
    rng = np.random.RandomState(0)
    cube, truth = rng.randint(0, 99, (6, 5, 4)), rng.randint(0, 2, (6, 5))
    known = fingerprint(cube, truth)
    assert known == fingerprint(np.asfortranarray(cube, dtype=">f8"), truth * 255) == fingerprint(cube, truth > 0)
    other = cube.copy()
    other[3, 2, 1] += 1
    assert (
        len({known, fingerprint(other, truth), fingerprint(cube, 1 - truth), fingerprint(cube[:, :, :3], truth)}) == 4
    )
    assert recognise(known) is None and recognise("") is None


def test_the_values_of_a_large_cube_are_hashed_a_few_rows_at_a_time(monkeypatch):
    cube = np.random.RandomState(0).randint(0, 99, (7, 5, 4))
    whole = values_sha256(cube)
    monkeypatch.setattr("fers.scenes.scene.row_blocks.__defaults__", (40,))
    assert values_sha256(cube) == whole
