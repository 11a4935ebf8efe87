"""A stranger's detector and score maps: they join the table in any form, and their mistakes are told as theirs."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from comparing import DETECTORS, make_pair, write_pair
from conftest import run_had100
from PIL import Image
from scipy.io import savemat
from test_compare import here  # noqa: F401

import detect as detect_script
import fers
from fers.comparison.compare import compare
from fers.detectors.own import takes_array
from fers.detectors.table import code_of, find_detector, make_detector
from fers.evaluation.results import full_config
from fers.scoring.pipeline import DetectConfig, Pipeline
from fers.util.errors import FersError

ROOT = Path(__file__).resolve().parent.parent
MISTAKES = [  # detector, what is told, and the line of the file that is named
    ("Arrays", "gave ndarray (1, 20, 24) for a cube", "class Arrays"),
    ("Flat", "gave Tensor (20, 24) for a cube", "class Flat"),
    ("Lost", "gave NaN or infinite scores at 480 of 480 pixels", "class Lost"),
    ("NoDefault", "its constructor needs window, without a default", "class NoDefault"),
    ("NotCallable", "an instance is not callable", "class NotCallable"),
    ("broken", "stopped by AttributeError: 'numpy.ndarray' object has no attribute 'no_such_method'", "no_such"),
    ("deep", "Last 2 dimensions of the array must be square", "linalg.inv"),
    ("number", "is not callable", ""),
    ("missing", "cannot be imported (AttributeError: module 'stranger' has no attribute 'missing')", ""),
]


@pytest.mark.parametrize(("name", "told", "line"), MISTAKES)
def test_a_mistake_of_a_stranger_is_told_as_theirs_with_the_line(here, dataset, capsys, name, told, line):  # noqa: F811
    detector = f"stranger:{name}"
    place = f"(stranger.py, line {1 + DETECTORS[: DETECTORS.index(line)].count(chr(10))})" if line else ""
    if not line:  # nothing to run: the request itself is wrong
        with pytest.raises(FersError, match="--detect"):
            compare(f"RX,{detector}", [("a", *make_pair("a"))], device="cpu")
    else:
        found = compare(f"RX,{detector}", [("a", *make_pair("a"))], device="cpu")
        note = next(row["note"] for row in found.rows if row["detector"] == detector)
        assert f"--detect {detector}: {told}" in note and place in note
    cube, _ = make_pair("a", (20, 24, 10))
    np.save(here / "scene.npy", cube)
    for run in (
        lambda: run_had100(dataset, here / "out", "--detect", detector, "--features", "original", "--no_maps"),
        lambda: detect_script.main(["scene.npy", "--detect", detector, "--features", "original", "--device", "cpu"]),
    ):
        assert run() == 2
        error = capsys.readouterr().err
        assert f"--detect {detector}: {told}" in error and place in error and "bug in FERS" not in error


def test_a_mistake_of_this_project_stays_its_own(here, monkeypatch, capsys, dataset):  # noqa: F811
    def wrong(*_):
        raise KeyError("ours")

    monkeypatch.setattr("fers.detectors.krx.KRX.__call__", wrong)
    assert run_had100(dataset, here / "out", "--detect", "KRX", "--features", "original", "--no_maps") == 1
    assert "This is a bug in FERS" in capsys.readouterr().err


def test_functions_get_arrays_and_what_is_annotated_gets_tensors(here):  # noqa: F811
    cube, truth = make_pair("a")
    scene = ("a", cube, truth)
    seen = []

    def array(h):
        seen.append((type(h), h.shape, h.dtype))
        h -= 1  # which is its own
        return h.sum(2)

    def text(h: torch.Tensor):
        return h.sum(1)

    def leaves_out(h, window=3, left_out=None):
        seen.append(left_out.sum())
        return h.sum(2)

    class Instance:
        def __call__(self, h):
            h += 1
            return h.sum(1)

    import stranger

    forms = {
        "function": array, "lambda": lambda h: h.sum(2), "partial": functools.partial(np.sum, axis=2), "text": text,
        "class": stranger.Brightness, "instance": Instance(), "module": "stranger:bright", "tensor": stranger.bright_tensor,
        "RX": "RX",
    }  # fmt: skip
    found = compare(forms, [scene], device="cpu")
    aucs = {row["detector"]: row["auc"] for row in found.rows}
    assert seen == [(np.ndarray, (20, 24, 8), np.float32)]
    expected = fers.auc(cube.sum(2), truth)
    assert aucs.pop("RX") == compare("RX", [scene], device="cpu").rows[0]["auc"]  # nobody changed the cube
    assert set(aucs) == set(forms) - {"RX"} and list(aucs.values()) == pytest.approx([expected] * len(aucs), abs=1e-4)
    cube[3, 4] = np.nan
    compare(leaves_out, [scene], nodata="mask", device="cpu")
    assert seen[-1] == 1
    assert not takes_array(torch.nn.ReLU()) and takes_array(abs)
    with pytest.raises(FersError, match=r"two detectors are named <lambda>\. Give a dict"):
        compare([lambda h: h.sum(2), lambda h: h.max(2)], [scene])
    with pytest.raises(FersError, match=r"is no class and has no options"):
        compare(array, [scene], options={"k": "3"})


def test_scores_take_classes_instances_and_functions(here):  # noqa: F811
    import stranger

    cube, _ = make_pair("a")
    h = fers.normalise(fers.Scene("a", cube, Path("a")), 8)
    for detect in (stranger.Brightness, stranger.Brightness(), stranger.bright, "stranger:Brightness"):
        score = fers.score(cube, detect=detect, features="original", device="cpu")
        assert score == pytest.approx(h.sum(2) - (h.mean() * 8 if detect is stranger.bright else 0), abs=1e-4)
    assert fers.score(cube, detect=stranger.Brightness, device="cpu").shape == (20, 24)


STRANGER = """
import sys
import numpy as np
import fers
import models.theirs

def ours(cube):
    return models.theirs.bright(cube)

from comparing import make_pair
cube, truth = make_pair("a", (20, 24, 200))
score = fers.score(cube, 200, detect="RX")
assert np.array_equal(score, fers.score(cube, detect="RX", features="untrained", fusion="D", backbone="random"))
found = fers.compare(
    {"module": "mine:Detector", "function": ours, "maps": {"a": cube.sum(2)}, "RX": "RX"},
    [("a", cube, truth), ("bb", *make_pair("bb", (20, 24, 200)))],
)
print([(row["detector"], row["scene"], row["auc"], row["note"]) for row in found.rows])
"""


def test_a_stranger_three_ways_in_one_table_beside_own_models(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    (tmp_path / "models" / "theirs.py").write_text("def bright(cube):\n    return cube.sum(2)\n")
    (tmp_path / "mine.py").write_text(DETECTORS + "\nDetector = Brightness\n")
    (tmp_path / "notebook.py").write_text(STRANGER)
    (tmp_path / "fers").symlink_to(ROOT / "fers")  # the package without the checkout around it
    (tmp_path / "comparing.py").symlink_to(ROOT / "tests" / "comparing.py")
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "notebook.py"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert found.returncode == 0, found.stderr
    rows = eval(found.stdout.splitlines()[-1])
    aucs = {(detector, scene): auc for detector, scene, auc, _ in rows}
    cube, truth = make_pair("a", (20, 24, 200))
    expected = fers.auc(cube.sum(2), truth)
    assert [aucs[name, "a"] for name in ("module", "function", "maps")] == pytest.approx([expected] * 3, abs=1e-3)
    assert aucs["maps", "bb"] is None and ("maps", "bb", None, "no map of this scene; there are maps of a.") in rows


def test_maps_of_others_join_by_the_name_of_the_scene(here):  # noqa: F811
    cubes = {name: write_pair(here / "scenes", name, shape) for name, shape in SHAPES.items()}
    maps = here / "theirs"
    maps.mkdir()
    scores = {name: cube.sum(2) for name, (cube, _) in cubes.items()}
    savemat(maps / "A.mat", {"score": scores["a"], "time": 3.0})
    Image.fromarray(scores["bb"].astype("f4")).save(maps / "bb.tif")
    np.save(maps / "turned.npy", scores["turned"].T)
    np.save(maps / "long.npy", scores["long"].ravel()[:, None])
    np.save(maps / "nan.npy", np.where(np.eye(20, 24), np.nan, scores["nan"]))
    np.save(maps / "twice.npy", scores["twice"])
    np.save(maps / "abu-twice.npy", scores["twice"])
    np.save(maps / "phase.npy", scores["phase"] * 1j)
    found = compare("RX", here / "scenes", maps={"Theirs": maps}, device="cpu")
    rows = {row["scene"]: row for row in found.rows if row["detector"] == "Theirs"}
    for name in ("a", "bb"):
        assert rows[name]["auc"] == pytest.approx(fers.auc(scores[name], cubes[name][1]), abs=1e-4)
        assert rows[name]["note"] == "a ready map" and rows[name]["seconds"] is None
    notes = {name: row["note"] for name, row in rows.items() if row["auc"] is None}
    assert notes == {
        "missing": f"{maps}: no map of this scene. Expected one of missing.npy, .mat, .npz, .tif.",
        "turned": f"{maps}/turned.npy: is transposed: 24 x 20, and the scene is 20 x 24. Save it with rows first.",
        "long": f"{maps}/long.npy: is 480 x 1, and the scene is 20 x 24. Save it as (H, W), rows first.",
        "nan": "the map has NaN or infinity at 20 pixels that count.",
        "twice": f"{maps}: several maps of this scene (abu-twice.npy, twice.npy). Expected one of twice.npy, .mat, .npz, .tif.",
        "phase": f"{maps}/phase.npy: holds complex128; a score map holds real numbers.",
    }
    assert [row["setting"] for row in found.rows if row["detector"] == "Theirs"] == [""] * len(SHAPES)
    several = compare("RX", here / "scenes", maps={"Theirs": maps}, settings="original,untrained", device="cpu")
    assert {row["label"] for row in several.rows} == {"Theirs", "RX original", "RX untrained"}


SHAPES = dict.fromkeys(("a", "bb", "turned", "long", "nan", "twice", "missing", "phase"), (20, 24, 8))


def test_the_code_of_a_detector_is_that_of_its_file_and_its_state(here):  # noqa: F811
    import stranger

    marks = {code_of(each) for each in ("stranger:Brightness", "stranger:Drawn", stranger.bright, "RX", "KRX")}
    marks |= {code_of(functools.partial(function, axis=axis)) for axis in (1, 2) for function in (np.sum, np.max)}
    assert len(marks) == 9 and "" not in marks
    config = DetectConfig(8, detect="stranger:bright", features="original", device="cpu")
    assert full_config(Pipeline(config))["code"] == code_of(stranger.bright)
    assert code_of(stranger.Brightness) == code_of("stranger:Brightness")
    assert (
        find_detector("stranger:Drawn").trains_on == "scene" and find_detector(stranger.bright).trains_on == "nothing"
    )
    assert make_detector(stranger.Drawn, seed=7).seed == 7
