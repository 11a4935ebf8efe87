"""The folders that test sets come in."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
import scipy.io
from conftest import ROOT, shared_file, write_had100
from PIL import Image

from fers.datasets import abu, had100
from fers.scenes import SceneError


def test_had100_layout(tmp_path):
    scenes = had100.scenes(write_had100(tmp_path))
    assert [scene.name for scene in scenes] == ["a", "b"]
    scene, mask = scenes[1].load()
    assert scene.cube.shape == (12, 11, 6) and np.argwhere(mask).tolist() == [[1, 1]]
    assert scene.nodata == (-9999.0, 1e-34)
    assert [s.name for s in had100.scenes(tmp_path, names="b")] == ["b"]


def test_had100_layout_says_what_is_missing(tmp_path):
    with pytest.raises(SceneError, match=r"there is no folder .*test"):
        had100.scenes(tmp_path)
    write_had100(tmp_path)
    with pytest.raises(SceneError, match=r"of sensor hydice; .* found test/aviris_ng"):
        had100.scenes(tmp_path, "hydice")
    with pytest.raises(SceneError, match="no scene c; found a, b"):
        had100.scenes(tmp_path, names="a,c")
    (tmp_path / "ground_truth" / "aviris_ng" / "b.png").unlink()
    with pytest.raises(SceneError, match=r"no mask for 1 of 2 scenes, the first is b\.png"):
        had100.scenes(tmp_path)


def test_dotfiles_are_no_scenes(tmp_path):
    write_had100(tmp_path)
    np.save(tmp_path / "test" / "aviris_ng" / ".tmp-1234-1.npy", np.ones((12, 11, 6)))
    assert [scene.name for scene in had100.scenes(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize("sensor", ["../test/aviris_ng", "aviris_ng/", ".", "a/b"])
def test_a_sensor_that_is_no_name_of_a_folder_is_refused(sensor, tmp_path):
    write_had100(tmp_path)
    with pytest.raises(SceneError, match=r"found test/aviris_ng"):
        had100.scenes(tmp_path, sensor)


def test_mask_of_another_size_than_its_scene(tmp_path):
    write_had100(tmp_path)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "ground_truth" / "aviris_ng" / "a.png")
    with pytest.raises(SceneError, match=r"a\.png: the mask is 5 x 5 and its scene is 12 x 11"):
        had100.scenes(tmp_path)[0].load()


def test_abu_folder_of_mat_files(tmp_path):
    for name in ("airport-1", "beach-2"):
        mask = np.zeros((10, 10), np.uint8)
        mask[0, 0] = 1
        scipy.io.savemat(tmp_path / f"abu-{name}.mat", {"data": np.ones((10, 10, 4)), "map": mask})
    assert [s.name for s in abu.scenes(tmp_path, names="all")] == ["airport-1", "beach-2"]
    assert [s.name for s in abu.scenes(tmp_path, names="beach-2,airport-1")] == ["beach-2", "airport-1"]
    with pytest.raises(SceneError, match=r"no scene airport-2, .*; found airport-1, beach-2"):
        abu.scenes(tmp_path, names="paper")


@pytest.mark.parametrize("below", ["", "abu"])
@pytest.mark.parametrize("sensor", ["aviris", ""])
def test_abu_in_the_authors_layout_has_the_names_of_the_papers_table(below, sensor, tmp_path):
    write_had100(tmp_path / below, names=("airport-1", "beach", "urban"), sensor=sensor)
    (tmp_path / below / "test" / "color").mkdir()
    (tmp_path / below / "test" / "color" / "beach.png").write_bytes(b"a picture")
    scenes = abu.scenes(tmp_path)
    assert [s.name for s in scenes] == ["airport-1", "beach-4", "urban-3"]
    assert [s.load()[0].name for s in scenes] == ["airport-1", "beach-4", "urban-3"]
    assert {s.name for s in scenes} <= set(abu.TABLE_SCENES.split(","))
    assert [s.name for s in abu.scenes(tmp_path, names="urban,abu-airport-1,beach-4")] == [
        "urban-3",
        "airport-1",
        "beach-4",
    ]
    with pytest.raises(SceneError, match=r"no ABU scenes here\. Expected abu-airport-1\.mat"):
        abu.scenes(tmp_path / below / "test")


def test_abu_scenes_go_by_the_names_of_their_files_too(tmp_path):
    mask = np.eye(10, dtype=np.uint8)
    for name in ("abu-airport-2", "abu-beach-4", ".abu-airport-1"):
        scipy.io.savemat(tmp_path / f"{name}.mat", {"data": np.ones((10, 10, 4)), "map": mask})
    for names in ("airport-2,beach-4", "abu-airport-2,abu-beach-4", "abu-airport-2,beach"):
        assert [s.name for s in abu.scenes(tmp_path, names=names)] == ["airport-2", "beach-4"]
    assert len(abu.scenes(tmp_path, names="all")) == 2
    with pytest.raises(SceneError, match=r"no scene airport-3; found airport-2, beach-4"):
        abu.scenes(tmp_path, names="abu-airport-3")


def test_the_published_abu_scenes():
    scenes = abu.scenes(shared_file("abu"))
    assert [s.name for s in scenes] == ["airport-1", "airport-2", "airport-3", "airport-4", "beach-4", "urban-3"]
    assert len(abu.scenes(shared_file("abu"), names="all")) == 13
    shapes = {s.name: s.load()[0].cube.shape for s in scenes}
    assert shapes["airport-4"] == (100, 100, 191) and shapes["beach-4"] == (100, 100, 102)
    beach, mask = scenes[4].load()
    assert mask.sum() == 68 and "cut" in beach.notes[0]


@pytest.mark.parametrize(
    ("path", "ignored"),
    [
        ("data/new_module.py", False),
        ("fers/datasets/synthetic/table.csv", False),
        ("data/README.md", False),
        ("data/HAD100.zip", True),
        ("data/Mine/train/custom/a.npy", True),
        ("data/HAD100Dataset/manifest.json", True),
    ],
)
def test_code_in_data_is_kept_by_git_and_data_is_not(path, ignored):
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a checkout")
    done = subprocess.run(["git", "check-ignore", "--no-index", "-q", path], cwd=ROOT)
    assert done.returncode == (0 if ignored else 1)
