"""``fers compare``: every cell is what the pipeline gives, a failure has its reason, and a stopped run goes on."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from conftest import write_had100
from scipy.io import savemat

from fers.comparison.compare import CompareResult, compare, compared_scenes, main
from fers.evaluation.metrics import SCENE_MEASURES, measures
from fers.scenes import SceneError, normalise
from fers.scoring.pipeline import DetectConfig, Pipeline
from fers.util.errors import FersError

DETECTORS = """
import numpy, torch

class Brightness:
    def __call__(self, cube):
        return cube.sum(1)

class Narrow(Brightness):
    def __call__(self, cube):
        if cube.shape[-1] > 20:
            raise ValueError("more than 20 columns. Cut the scene.")
        return super().__call__(cube)

def broken(cube):
    return cube.no_such_method()
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a module of detectors, to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "stranger.py").write_text(DETECTORS)
    yield tmp_path
    sys.modules.pop("stranger", None)


def write_pair(folder, name, shape=(20, 24, 8), hole=None):
    """A .mat file with cube and truth; returns both."""
    folder.mkdir(exist_ok=True)
    rng = np.random.RandomState(len(name))
    truth = rng.uniform(size=shape[:2]) < 0.05
    cube = rng.normal(10, 1, size=shape) + 2 * truth[..., None]
    if hole is not None:
        cube[hole] = np.nan
    savemat(folder / f"{name}.mat", {"data": cube, "map": truth.astype(np.uint8)})
    return cube, truth


def test_each_cell_is_what_the_pipeline_gives_and_the_fast_come_first(here, capsys):
    for name, shape in (("a", (20, 24, 8)), ("bb", (18, 15, 6))):
        write_pair(here / "scenes", name, shape)
    found = compare("krx, rx,stranger:Brightness", here / "scenes", device="cpu")
    table = found.table()
    assert list(dict.fromkeys(table["detector"])) == ["RX", "stranger:Brightness", "KRX"]
    assert list(table["scene"]) == ["a", "bb"] * 3 and (table["seconds"] > 0).all()
    for labelled in compared_scenes(here / "scenes")[0]:
        scene, truth = labelled.load()
        pipeline = Pipeline(
            DetectConfig(bands=scene.bands, sensor="unknown", detect="KRX", features="original", device="cpu")
        )
        score = pipeline.score(normalise(scene, scene.bands))
        assert np.array_equal(found.maps["KRX", scene.name], score)
        row = table[(table["detector"] == "KRX") & (table["scene"] == scene.name)].iloc[0]
        expected = measures(score, truth)
        assert list(row[list(SCENE_MEASURES)]) == [expected[key] for key in ("AUC(D,F)", "AP", "Pd@0.001", "Pd@0.01")]
    means = found.means().set_index("detector")
    assert means.loc["RX", "auc"] == pytest.approx(table["auc"][:2].mean()) and means.loc["RX", "scenes"] == "2 of 2"
    assert len(capsys.readouterr().out.splitlines()) == 1 + 6


def test_what_fails_on_a_scene_has_its_reason_and_a_mean_over_the_others(here):
    write_pair(here / "scenes", "a")
    write_pair(here / "scenes", "bb", (18, 15, 6))
    write_pair(here / "scenes", "ccc", hole=np.s_[3, 4])
    found = compare(["stranger:Narrow", "stranger:broken", "RX"], here / "scenes", device="cpu")
    notes = found.table().set_index(["detector", "scene"])["note"]
    assert (
        notes["stranger:Narrow", "a"] == "more than 20 columns. Cut the scene." and notes["stranger:Narrow", "bb"] == ""
    )
    assert (
        notes["stranger:broken", "a"].startswith("AttributeError: ")
        and "no_such_method" in notes["stranger:broken", "a"]
    )
    assert "ccc.mat: 1 of 480 pixels hold NaN" in notes["RX", "ccc"]
    assert list(found.means()["scenes"]) == ["1 of 3", "0 of 3", "2 of 3"]
    assert set(found.maps) == {("stranger:Narrow", "bb"), ("RX", "a"), ("RX", "bb")}
    found.write(here / "tables")
    again = pd.read_csv(here / "tables" / "compare.csv", keep_default_na=False, na_values={"auc": [""]})
    assert list(again["note"]) == list(found.table()["note"])
    assert again["auc"].tolist() == pytest.approx(found.table()["auc"].tolist(), nan_ok=True)
    text = (here / "tables" / "compare.md").read_text()
    assert "| stranger:broken | - | - | - | - | - | 0 of 3 |\n" in text and "more than 20 columns" in text
    with pytest.raises(FersError, match=r"nothing could be scored.*more than 20 columns"):
        compare("stranger:Narrow", compared_scenes(here / "scenes")[0][:1], device="cpu")


def test_pixels_without_data_are_left_out_where_that_is_asked_for(here):
    hole = np.s_[2:6, 3:9]
    _, truth = write_pair(here / "scenes", "a", hole=hole)
    found = compare("RX", here / "scenes", nodata="mask", save_dir=here / "kept", device="cpu")
    score = found.maps["RX", "a"]
    left_out = np.zeros(truth.shape, bool)
    left_out[hole] = True
    assert np.array_equal(np.isnan(score), left_out)
    assert found.rows[0]["auc"] == measures(score[~left_out], truth[~left_out])["AUC(D,F)"]
    assert found.rows[0]["note"] == "24 pixels left out"
    again = compare("RX", here / "scenes", nodata="mask", save_dir=here / "kept", device="cpu")
    assert again.rows == found.rows and np.array_equal(again.maps["RX", "a"], score, equal_nan=True)


def test_finished_cells_are_kept_until_scene_setting_or_detector_changes(here, monkeypatch):
    cube, truth = write_pair(here / "scenes", "a")
    scored = []
    score = Pipeline.score

    def counting(self, *arguments):
        if arguments[0].ndim == 3:  # a stack calls it again
            scored.append(self.config.detect)
        return score(self, *arguments)

    monkeypatch.setattr(Pipeline, "score", counting)

    def again(**settings) -> CompareResult:
        scored.clear()
        sys.modules.pop("stranger", None)
        return compare("RX,stranger:Brightness", here / "scenes", save_dir=here / "kept", device="cpu", **settings)

    first = again()
    assert scored == ["RX", "stranger:Brightness"]
    second = again()
    assert scored == [] and second.rows == first.rows
    assert all(np.array_equal(second.maps[key], first.maps[key]) for key in first.maps)
    (here / "stranger.py").write_text(DETECTORS.replace("return cube.sum(1)", "return -cube.sum(1)"))
    turned = again()
    assert scored == ["stranger:Brightness"]
    assert turned.rows[1]["auc"] == pytest.approx(1 - first.rows[1]["auc"])
    (cell,) = (here / "kept" / "cells").glob("RX_*")
    cell.write_bytes(cell.read_bytes()[:-40])
    again()
    assert scored == ["RX"]
    again(bands=5)
    assert scored == ["RX", "stranger:Brightness"]
    truth[0, 0] = ~truth[0, 0]
    savemat(here / "scenes" / "a.mat", {"data": cube, "map": truth})
    assert again().rows != first.rows and scored == ["RX", "stranger:Brightness"]
    assert not list((here / "kept").rglob(".tmp*"))


def test_scenes_are_found_in_every_layout(here):
    write_pair(here / "abu", "abu-urban-3")
    write_pair(here / "pairs", "urban-3")
    write_had100(here / "own", sensor="camera")
    assert [(one.name, sensor) for sensor in ["aviris"] for one in compared_scenes(here / "abu")[0]] == [
        ("urban-3", "aviris")
    ]
    assert compared_scenes(here / "abu")[1] == "aviris" and compared_scenes(here / "pairs")[0][0].name == "urban-3"
    assert [one.name for one in compared_scenes(here / "own")[0]] == ["a", "b"]
    with pytest.raises(SceneError, match=r"--scenes nowhere: no scenes there\. Give HAD100, ABU, a folder"):
        compared_scenes("nowhere")


def test_the_command_prints_the_means_and_ends_with_2_where_nothing_can_be_done(here, capsys):
    write_pair(here / "scenes", "a")
    arguments = ["--scenes", str(here / "scenes"), "--save_dir", str(here / "out"), "--device", "cpu"]
    assert main([*arguments, "--detect", "RX,KRX"]) == 0
    output = capsys.readouterr().out
    assert "1 of 1" in output and output.splitlines()[-1] == f"Tables and score maps: {here / 'out'}"
    assert len(list((here / "out" / "cells").glob("*.npz"))) == 2 and (here / "out" / "compare.csv").is_file()
    for wrong in (["--detect", "RXX"], ["--detect", ","], ["--fusion", "A"], ["--scenes", str(here / "none")]):
        assert main([*arguments, *wrong]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error
