"""The folders that test sets come in."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
from conftest import shared_file, write_had100
from PIL import Image

from data import SceneError, abu, had100


def test_had100_layout(tmp_path):
    scenes = had100.test_scenes(write_had100(tmp_path))
    assert [scene.name for scene in scenes] == ["a", "b"]
    scene, mask = scenes[1].load()
    assert scene.cube.shape == (12, 11, 6) and np.argwhere(mask).tolist() == [[1, 1]]
    assert scene.nodata == (-9999.0, 1e-34)
    assert [s.name for s in had100.test_scenes(tmp_path, names="b")] == ["b"]


def test_had100_layout_says_what_is_missing(tmp_path):
    with pytest.raises(SceneError, match=r"there is no folder .*test"):
        had100.test_scenes(tmp_path)
    write_had100(tmp_path)
    with pytest.raises(SceneError, match=r"of sensor hydice; .* found test/aviris_ng"):
        had100.test_scenes(tmp_path, "hydice")
    with pytest.raises(SceneError, match="no scene c; found a, b"):
        had100.test_scenes(tmp_path, names="a,c")
    (tmp_path / "ground_truth" / "aviris_ng" / "b.png").unlink()
    with pytest.raises(SceneError, match=r"no mask for 1 of 2 scenes, the first is b\.png"):
        had100.test_scenes(tmp_path)


def test_mask_of_another_size_than_its_scene(tmp_path):
    write_had100(tmp_path)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "ground_truth" / "aviris_ng" / "a.png")
    with pytest.raises(SceneError, match=r"a\.png: the mask is 5 x 5 and its scene is 12 x 11"):
        had100.test_scenes(tmp_path)[0].load()


def test_abu_folder_of_mat_files(tmp_path):
    for name in ("airport-1", "beach-2"):
        mask = np.zeros((10, 10), np.uint8)
        mask[0, 0] = 1
        scipy.io.savemat(tmp_path / f"abu-{name}.mat", {"data": np.ones((10, 10, 4)), "map": mask})
    assert [s.name for s in abu.test_scenes(tmp_path, names="all")] == ["airport-1", "beach-2"]
    assert [s.name for s in abu.test_scenes(tmp_path, names="beach-2,airport-1")] == ["beach-2", "airport-1"]
    with pytest.raises(SceneError, match=r"no scene airport-2, .*; found airport-1, beach-2"):
        abu.test_scenes(tmp_path, names="paper")


def test_abu_in_the_authors_layout(tmp_path):
    write_had100(tmp_path, names=("airport-1",), sensor="aviris")
    (scene,) = abu.test_scenes(tmp_path)
    assert scene.load()[0].name == "airport-1"
    with pytest.raises(SceneError, match=r"no ABU scenes here\. Expected abu-airport-1\.mat"):
        abu.test_scenes(tmp_path / "test")


def test_the_published_abu_scenes():
    scenes = abu.test_scenes(shared_file("abu"))
    assert [s.name for s in scenes] == ["airport-1", "airport-2", "airport-3", "airport-4", "beach-4", "urban-3"]
    assert len(abu.test_scenes(shared_file("abu"), names="all")) == 13
    shapes = {s.name: s.load()[0].cube.shape for s in scenes}
    assert shapes["airport-4"] == (100, 100, 191) and shapes["beach-4"] == (100, 100, 102)
    beach, mask = scenes[4].load()
    assert mask.sum() == 68 and "cut" in beach.notes[0]
