"""One scene with a hole through every entry: the same map; a detector that cannot leave pixels out refuses everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from conftest import QUICK, ROOT, WITHOUT_WEIGHTS, run_had100, write_had100

import fers
from fers.datasets import had100
from fers.detectors import make_detector
from fers.detectors.base import takes_left_out
from fers.scoring.networks import Networks
from fers.scoring.pipeline import read_h
from fers.training.options import TrainOptions
from fers.training.run import scene_scorer

WINDOWS = {
    "LRX": ("inner=3", "outer=9"),
    "CRD": ("inner=3", "outer=7"),
    "2S-GLRT": ("inner=3", "outer=9"),
    "LRX-PC": ("outer=21",),
    "KIFD": ("trees=10", "samples=200"),
    "LRASR-K15": ("clusters=3",),
}
SETTINGS = {
    "original": ("--features", "original"),
    "fused-C": ("--features", "untrained", "--fusion", "C", "--backbone", "random"),
    "fused-D": ("--features", "untrained", "--fusion", "D", "--backbone", "random"),
}
BANDS = 10


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    """A data set of one scene with a hole in HAD100's layout; the cube, the truth, and where there is no data beside it."""
    folder = write_had100(tmp_path_factory.mktemp("hole"), names=("a",), shape=(45, 40, BANDS))
    rng = np.random.RandomState(3)
    cube = (rng.normal(size=(45, 40, BANDS)) @ rng.normal(size=(BANDS, BANDS))).astype(np.float32)
    truth = np.zeros((45, 40), bool)
    truth[30:32, 12:14] = truth[8, 30] = True
    cube[truth] += 3
    cube[15:20, 10:20] = np.nan
    np.save(folder / "test" / "aviris_ng" / "a.npy", cube)
    write_truth(folder / "ground_truth" / "aviris_ng" / "a.png", truth)
    (folder / "abu").mkdir()
    scipy.io.savemat(folder / "abu" / "abu-a-1.mat", {"data": cube, "map": truth.astype(np.uint8)})
    return folder


def write_truth(path: Path, truth: np.ndarray) -> None:
    from PIL import Image

    Image.fromarray(np.stack([0 * truth, 255 * truth, 0 * truth], axis=2).astype(np.uint8)).save(path)


def options_of(name: str) -> list[str]:
    return [*WINDOWS.get(name, ()), *(f"{key}={value}" for key, value in QUICK.get(name, {}).items())]


def score_maps(scene: Path, out: Path, name: str, setting: str) -> dict[str, np.ndarray]:
    """The score map by each entry."""
    given = options_of(name)
    cube_file = scene / "test" / "aviris_ng" / "a.npy"
    arguments = ["--detect", name, *SETTINGS[setting], "--nodata", "mask", "--no_maps", "--device", "cpu"]
    arguments += [part for text in given for part in ("--option", text)]
    found = {}
    assert run_had100(scene, out / "test", *arguments) == 0
    found["test.py"] = np.load(out / "test" / "scores" / "a.npy")
    abu = fers_abu().main(
        [
            "--data_path",
            str(scene / "abu"),
            "--scenes",
            "all",
            "--input_channel",
            str(BANDS),
            "--save_dir",
            str(out / "abu"),
            *arguments,
        ]
    )
    assert abu == 0
    found["FERS_ABU/test.py"] = np.load(out / "abu" / "scores" / "a-1.npy")

    features = (
        {"features": "original"}
        if setting == "original"
        else {"features": "untrained", "fusion": setting.removeprefix("fused-"), "backbone": "random"}
    )
    settings = {"detect": name, "options": dict(text.split("=") for text in given), "device": "cpu", **features}
    found["fers.score"] = fers.score(fers.read_scene(cube_file), nodata="mask", **settings)
    result = fers.detect(cube_file, bands="all", **settings)
    found["fers.detect"] = result.score
    again = fers.detect(cube_file, bands="all", memory="1.2GB", workers=1, **settings)
    np.testing.assert_array_equal(again.score, result.score)
    named = setting.replace("fused", "untrained")
    options = {"options": settings["options"], "device": "cpu", "nodata": "mask"}
    compared = fers.compare(name, scene / "abu", settings=named, **options)
    found["fers.compare"] = compared.maps[name, "a-1", 0]
    return found


def test_the_epoch_is_chosen_by_the_same_scores(scene):
    options = TrainOptions(data_path=scene, input_channel=BANDS, select="test-auc", nodata="mask")
    scorer = scene_scorer(options, {"spe_fen": lambda h: h.square()}, "spectral", torch.device("cpu"))
    [(read, truth)] = [labelled.load() for labelled in had100.scenes(scene, "aviris_ng")]
    config = fers.DetectConfig(BANDS, features="spectral", nodata="mask", device="cpu")
    h, left_out = read_h(config, read)
    score = fers.Pipeline(config, Networks(spe=lambda h: h.square())).score(h, left_out)
    assert np.isnan(score).sum() == 50 and scorer() == fers.auc(score, truth, left_out)


def test_rows_and_columns_without_data_change_nothing_for_the_network(scene, tmp_path):
    cube = np.load(scene / "test" / "aviris_ng" / "a.npy")
    whole = np.full((60, 52, BANDS), np.nan, np.float32)
    whole[6:51, :40] = cube
    np.save(tmp_path / "whole.npy", whole)
    np.save(tmp_path / "cube.npy", cube)
    options = {"features": "untrained", "fusion": None, "backbone": "random", "device": "cpu"}
    for run in (
        lambda path: fers.score(fers.read_scene(path), nodata="mask", **options),
        lambda path: fers.detect(path, bands="all", **options).score,
    ):
        bare, larger = run(tmp_path / "cube.npy"), run(tmp_path / "whole.npy")
        assert np.isnan(larger).sum() == np.isnan(bare).sum() + 60 * 52 - 45 * 40
        np.testing.assert_allclose(larger[6:51, :40], bare, rtol=1e-6)


def fers_abu():
    import importlib.util

    specification = importlib.util.spec_from_file_location("abu_script", ROOT / "FERS_ABU" / "test.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


# with fusion C one detector of each kind: by strips, by windows, trained on the scene, and one that refuses
@pytest.mark.parametrize(
    ("name", "setting"),
    [(name, "original") for name in WITHOUT_WEIGHTS]
    + [(name, "fused-C") for name in ("RX", "LRX", "KRX", "AE", "AED")]
    + [("RX", "fused-D")],
)
def test_every_entry_gives_the_same_map_or_refuses(scene, tmp_path, capsys, name, setting):
    if not takes_left_out(make_detector(name)):
        arguments = ["--detect", name, *SETTINGS[setting], "--nodata", "mask", "--no_maps"]
        assert run_had100(scene, tmp_path, *arguments) == 2
        error = capsys.readouterr().err
        assert "a.npy" in error and "cannot leave pixels out, and" in error
        with pytest.raises(fers.FersError, match="cannot leave pixels out"):
            fers.detect(scene / "test" / "aviris_ng" / "a.npy", bands="all", detect=name, features="original")
        return
    maps = score_maps(scene, tmp_path, name, setting)
    expected = maps.pop("fers.score")
    hole = np.zeros((45, 40), bool)
    hole[15:20, 10:20] = True
    assert np.isnan(expected[hole]).all()
    assert np.isfinite(expected[~hole]).all()
    for entry, found in maps.items():
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.nanmax(np.abs(expected)), err_msg=entry)
