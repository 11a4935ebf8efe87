"""A published name and published numbers stand beside the published scenes only, never beside a folder's layout."""

from __future__ import annotations

import re

import numpy as np
import pytest
from comparing import write_pair
from conftest import run_had100, shared_file, write_had100
from PIL import Image

import FERS_ABU.test
from experiments.rows import TABLE1
from experiments.tables import published_mean
from experiments.workspace import Workspace
from fers.comparison.places import compared_scenes
from fers.datasets.benchmarks import BENCHMARKS
from fers.datasets.had100 import published_test_scenes
from fers.datasets.synthetic.benchmark import write_benchmark


def write_published(folder, names, wrong=()):
    """Write scenes of these names whose truths are HAD100's by size and number of pixels, but for the wrong ones."""
    write_had100(folder, names, shape=(64, 64, 9))
    for name in names:
        truth = np.zeros((64, 64, 3), np.uint8)
        truth.reshape(-1, 3)[: published_test_scenes()[name].anomalous_pixels + (name in wrong), 1] = 255
        Image.fromarray(truth).save(folder / "ground_truth" / "aviris_ng" / f"{name}.png")
    return folder


def title(name, folder):
    return BENCHMARKS[name].title(folder, BENCHMARKS[name].scenes(folder, None, "all"))


def test_had100_is_known_by_its_truths(tmp_path):
    three = list(published_test_scenes())[:3]
    assert title("HAD100", write_published(tmp_path / "true", three)) == "HAD100"
    assert title("HAD100", write_published(tmp_path / "one", three, three[:1])) == "own scenes in HAD100's layout"
    assert title("HAD100", write_had100(tmp_path / "own", shape=(12, 11, 9))) == "own scenes in HAD100's layout"
    write_benchmark(tmp_path / "made", n_train=0, n_test=2, size=32)
    assert title("HAD100", tmp_path / "made") == "synthetic"


def test_the_papers_mean_stands_beside_all_of_had100_only(tmp_path):
    names = list(published_test_scenes())
    rx = next(row for row in TABLE1 if row.name == "RX")
    found = {}
    for kind, some, wrong in (("whole", names, ()), ("part", names[:-1], ()), ("wrong", names, names[:1])):
        workspace = Workspace("HAD100", write_published(tmp_path / kind, some, wrong), tmp_path)
        found[kind] = published_mean(workspace, "Table I", rx, some, 50)
    assert found["whole"] is not None and found["part"] is found["wrong"] is None


def test_the_test_of_own_scenes_says_so_and_shows_no_number_of_the_paper(tmp_path, dataset, capsys, monkeypatch):
    monkeypatch.setattr("fers.evaluation.command.home", lambda: tmp_path)
    assert run_had100(dataset, None, "--features", "original", "--no_maps") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("own scenes in HAD100's layout: RX, original, 10 bands") and "paper" not in printed
    assert list((tmp_path / "results" / "own-scenes-in-HAD100s-layout").glob("RX_original_10bands-*/results.json"))
    write_pair(tmp_path / "abu", "abu-airport-2", (30, 28, 200))
    data = ["--data_path", str(tmp_path / "abu"), "--save_dir", str(tmp_path / "out"), "--no_maps", "--scenes", "all"]
    assert FERS_ABU.test.main([*data, "--features", "original"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("own scenes in ABU's layout: RX, original") and "paper" not in printed


def test_a_cut_of_a_published_scene_has_no_number_of_the_paper(tmp_path, capsys):
    data = ["--data_path", str(shared_file("abu")), "--save_dir", str(tmp_path), "--no_maps"]
    assert FERS_ABU.test.main([*data, "--features", "original", "--scenes", "airport-2,beach-4"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("ABU: RX, original, 200 bands") and "paper" in printed
    assert re.search(r"airport-2 +100x100x205 +0\.8433 +0\.\d{4} ", printed)
    assert re.search(r"beach-4 +100x100x102 +0\.9887 +- ", printed)
    workspace = Workspace("ABU", shared_file("abu"), tmp_path)
    assert {"airport-1", "urban-5", "mean"} <= workspace.published and "beach-4" not in workspace.published


@pytest.mark.parametrize("name", BENCHMARKS)
def test_no_scene_is_known_by_its_name_only(tmp_path, name):
    write_pair(tmp_path, "abu-airport-1")
    assert BENCHMARKS[name].known(one.labelled for one in compared_scenes(tmp_path).scenes) == {}
