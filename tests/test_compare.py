"""``fers compare``: every cell is what the pipeline gives, a failure has its reason, and a stopped run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from comparing import DETECTORS, make_pair, write_pair
from scipy.io import savemat

import fers
from fers.comparison.command import main
from fers.comparison.compare import compare
from fers.comparison.contenders import FAST_SECONDS, fast_detectors
from fers.comparison.places import compared_scenes
from fers.detectors.table import find_detector
from fers.evaluation.metrics import MEASURES, scene_measures
from fers.scenes import normalise
from fers.scoring.pipeline import DetectConfig, Pipeline
from fers.util.errors import FersError
from fers.util.files import plain_cell
from fers.util.lock import locked

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a module of detectors, to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a module is changed within its file's second
    (tmp_path / "stranger.py").write_text(DETECTORS)
    yield tmp_path
    sys.modules.pop("stranger", None)


def without_times(result):
    """The table without what differs from run to run."""
    return result.table().drop(columns=["seconds", "cpu_seconds", "peak_mb"])


def test_each_cell_is_what_the_pipeline_gives_and_the_fast_come_first(here, capsys):
    for name, shape in (("a", (20, 24, 8)), ("bb", (18, 15, 6))):
        write_pair(here / "scenes", name, shape)
    found = compare("krx, rx,stranger:Brightness", here / "scenes", device="cpu")
    table = found.table()
    assert list(dict.fromkeys(table["detector"])) == ["RX", "stranger:Brightness", "KRX"]
    assert list(table["scene"]) == ["a", "bb"] * 3 and (table[["seconds", "cpu_seconds"]] > 0).all(axis=None)
    for one in compared_scenes(here / "scenes").scenes:
        scene, truth = one.labelled.load()
        pipeline = Pipeline(DetectConfig(bands=scene.bands, detect="KRX", features="original", device="cpu"))
        score = pipeline.score(normalise(scene, scene.bands))
        assert np.array_equal(found.maps["KRX", scene.name, 0], score)
        row = next(row for row in found.rows if row["detector"] == "KRX" and row["scene"] == scene.name)
        assert {key: row[key] for key in MEASURES} == scene_measures(score, truth, None)
        assert np.array_equal(found.scenes[scene.name].truth, truth) and found.scenes[scene.name].known == ""
        assert found.scenes[scene.name].picture.shape == (*truth.shape, 3)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["detector", "RX", "stranger:Brightness", "KRX"]
    assert lines[1].endswith("2 of 2") and f"{table['auc'][:2].mean():.4f}" in lines[1]
    long = found.long()
    assert len(long) == len(table) * (len(MEASURES) + 3)
    assert set(found.provenance) >= {"version", "command", "data", "machine", "threads", "loaded"}


def test_what_fails_on_a_scene_has_its_reason_and_a_mean_over_the_others(here, capsys):
    write_pair(here / "scenes", "a")
    write_pair(here / "scenes", "bb", (18, 15, 6))
    write_pair(here / "scenes", "ccc", hole=np.s_[3, 4])
    found = compare(["stranger:Narrow", "stranger:broken", "RX"], here / "scenes", device="cpu")
    notes = found.table().set_index(["detector", "scene"])["note"]
    assert notes["stranger:Narrow", "bb"] == "" and "1 of 480 pixels hold NaN" in notes["RX", "ccc"]
    assert "more than 20 columns. Cut the scene. (stranger.py, line 11)" in notes["stranger:Narrow", "a"]
    assert "AttributeError" in notes["stranger:broken", "a"] and "not in FERS" in notes["stranger:broken", "a"]
    printed = capsys.readouterr().out
    assert [line.split("   ")[-1] for line in printed.splitlines() if line.split()[0] in ("stranger:Narrow", "RX")] == [
        "1 of 3",
        "2 of 3",
    ]
    assert "  without a score: 3; the first is a: --detect stranger:broken: stopped by AttributeError" in printed
    assert set(found.maps) == {("stranger:Narrow", "bb", 0), ("RX", "a", 0), ("RX", "bb", 0)}
    found.write(here / "tables")
    again = pd.read_csv(here / "tables" / "cells.csv", keep_default_na=False, na_values={"auc": [""]})
    assert list(again["note"]) == [plain_cell(note) for note in found.table()["note"]]
    assert again["auc"].tolist() == pytest.approx(found.table()["auc"].tolist(), nan_ok=True)
    assert len(pd.read_csv(here / "tables" / "compare.csv")) == len(found.long())
    with pytest.raises(FersError, match=r"nothing could be scored.*more than 20 columns"):
        compare("stranger:Narrow", here / "scenes" / "a.mat", device="cpu")


def test_pixels_without_data_are_left_out_where_that_is_asked_for(here):
    hole = np.s_[2:6, 3:9]
    _, truth = write_pair(here / "scenes", "a", hole=hole)
    kept = {"nodata": "mask", "save_dir": here / "kept", "device": "cpu"}
    found = compare("RX", here / "scenes", **kept)
    score = found.maps["RX", "a", 0]
    left_out = np.zeros(truth.shape, bool)
    left_out[hole] = True
    assert np.array_equal(np.isnan(score), left_out) and np.array_equal(found.scenes["a"].left_out, left_out)
    assert found.rows[0]["auc"] == fers.auc(score[~left_out], truth[~left_out])
    assert found.rows[0]["note"] == "24 pixels left out"
    again = compare({"RX": "RX", "again": {"a": score}}, here / "scenes", **kept)
    assert again.rows[1] == found.rows[0] and np.array_equal(again.maps["RX", "a", 0], score, equal_nan=True)
    assert again.rows[0]["auc"] == found.rows[0]["auc"]  # a ready map may lack the pixels that are left out
    score[0, 0] = np.nan
    again = compare({"RX": "RX", "again": {"a": score}}, here / "scenes", **kept)
    assert again.rows[0]["note"] == "the map has NaN or infinity at 1 pixels that count."


@pytest.fixture
def counting(monkeypatch):
    """The detectors that were run, in order."""
    scored = []
    score = Pipeline.score

    def counted(self, *arguments):
        if arguments[0].ndim == 3:  # a stack calls it again
            scored.append(self.config.detect_name)
        return score(self, *arguments)

    monkeypatch.setattr(Pipeline, "score", counted)
    return scored


def test_finished_cells_are_kept_until_scene_setting_or_code_changes(here, counting):
    cube, truth = write_pair(here / "scenes", "a")

    def again(**settings):
        counting.clear()
        sys.modules.pop("stranger", None)
        return compare("RX,stranger:Brightness", here / "scenes", save_dir=here / "kept", device="cpu", **settings)

    first = again()
    assert counting == ["RX", "stranger:Brightness"]
    second = again()
    assert counting == [] and second.rows == first.rows
    assert all(np.array_equal(second.maps[key], first.maps[key]) for key in first.maps)
    (here / "stranger.py").write_text(DETECTORS.replace("return cube.sum(1)", "return -cube.sum(1)"))
    turned = again()
    assert counting == ["stranger:Brightness"]
    assert turned.rows[1]["auc"] == pytest.approx(1 - first.rows[1]["auc"])
    (cell,) = (here / "kept" / "cells").glob("RX_*")
    cell.write_bytes(cell.read_bytes()[:-40])
    again()
    assert counting == ["RX"]
    again(repeat=2)
    assert counting == ["RX"] * 2 + ["stranger:Brightness"] * 2
    again()
    assert counting == []
    again(bands=5)
    assert counting == ["RX", "stranger:Brightness"]
    truth[0, 0] = ~truth[0, 0]
    savemat(here / "scenes" / "a.mat", {"data": cube, "map": truth})
    assert again().rows != first.rows and counting == ["RX", "stranger:Brightness"]
    assert not list((here / "kept").rglob(".tmp*")) and not (here / "kept" / ".running").exists()


class Scaled:
    """A detector with a state."""

    def __init__(self, sign):
        self.sign = sign

    def __call__(self, cube):
        return self.sign * cube.sum(1)


def test_kept_cells_of_objects_belong_to_their_state_and_those_without_a_file_are_made_again(here, counting):
    scene = ("a", *make_pair("a"))

    def aucs(detect, **more):
        counting.clear()
        return [row["auc"] for row in compare({"mine": detect}, [scene], save_dir=here / "kept", **more).rows]

    up, down = aucs(Scaled(1)), aucs(Scaled(-1))
    assert up[0] == pytest.approx(1 - down[0]) and counting == ["Scaled"]
    assert aucs(Scaled(1)) == up and counting == []
    source = "def typed(cube): return cube.sum(2)"
    typed = {"__name__": "no_such_module"}
    exec(source, typed)
    assert aucs(typed["typed"]) == pytest.approx(up) and aucs(typed["typed"]) == pytest.approx(up)
    assert counting == ["typed"]


def test_seeds_are_for_what_is_random_and_settings_are_rows_of_their_own(here):
    scene = ("a", *make_pair("a", (12, 14, 6)))
    found = compare("RX,stranger:Drawn", [scene], settings="original,untrained", seeds=(3, 5), device="cpu")
    cells = [(row["label"], row["setting"], row["seed"]) for row in found.rows]
    assert [cell for cell in cells if cell[0].startswith("RX")] == [
        ("RX original", "original", 3),
        ("RX untrained", "untrained", 3),
        ("RX untrained", "untrained", 5),
    ]
    drawn = [row["auc"] for row in found.rows if row["label"] == "stranger:Drawn original"]
    assert len(set(drawn)) == 2
    control = Pipeline(DetectConfig(6, features="untrained", backbone="random", seed=5, device="cpu"))
    score = control.score(normalise(compared_scenes([scene]).scenes[0].labelled.load()[0], 6))
    assert np.array_equal(found.maps["RX untrained", "a", 5], score)
    assert len(compare("RX", [scene], settings="untrained", device="cpu").rows) == 1
    with pytest.raises(FersError, match=r"--settings untraind: .* Did you mean untrained\? Choose among"):
        compare("RX", [scene], settings="untraind")
    for name in ("features", "fusion", "seed"):
        with pytest.raises(FersError, match=f"{name} is no option"):
            compare("RX", [scene], **{name: "x"})


def test_slow_cells_are_left_out_by_the_cost_or_by_the_cells_before(here, monkeypatch):
    scenes = [(name, *make_pair(name)) for name in ("a", "bb")]
    pixels = 20 * 24 * 8 / (100 * 100 * 200)
    found = compare("RX,2S-GLRT", scenes, skip_slower_than=2 * pixels, save_dir=here / "kept")
    notes = {(row["label"], row["scene"]): row["note"] for row in found.rows}
    assert notes["RX", "a"] == ""
    about = f"{find_detector('2S-GLRT').cost * pixels:.2g}"
    assert (
        notes["2S-GLRT", "a"] == f"skipped: about {about} s, by the cost of the detector (--skip-slower-than 0.00384)."
    )

    def slow(cube):
        until = time.process_time() + 0.05
        while time.process_time() < until:
            cube.sum(2)
        return cube.sum(2)

    found = compare({"slow": slow}, scenes, skip_slower_than=0.04)
    assert found.rows[0]["note"] == "" and "by its cells before" in found.rows[1]["note"]


def test_two_runs_in_one_folder_are_refused(here):
    with locked(here / "kept"), pytest.raises(FersError, match="another run is writing"):
        compare("RX", [("a", *make_pair("a"))], save_dir=here / "kept")


def test_one_scene_in_two_places_is_told(here):
    cube, truth = make_pair("a")
    found = compare("RX", [("a", cube + 1, truth), ("b", cube.astype("f4"), truth), ("c", cube.astype("f4"), truth)])
    assert "b, c are the same cube and truth, and count more than once." in found.caveats


KILLED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
import fers.scoring.pipeline as pipeline
score = pipeline.Pipeline.score
def slowly(self, *arguments):
    if arguments[0].ndim == 3 and self.config.detect_name == "KRX":
        print("now", flush=True)
        time.sleep(60)
    return score(self, *arguments)
pipeline.Pipeline.score = slowly
from fers.comparison.command import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_stopped_comparison_goes_on_to_the_same_table(here, counting):
    for name in ("a", "bb"):
        write_pair(here / "scenes", name, (30, 28, 8))
    arguments = ["--scenes", str(here / "scenes"), "--detect", "RX,LRX-PC,KRX", "--device", "cpu"]
    whole = compare("RX,LRX-PC,KRX", here / "scenes", device="cpu")
    (here / "killed.py").write_text(KILLED)
    command = [sys.executable, "killed.py", *arguments, "--save_dir", str(here / "kept")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stdout:
            if line == "now\n":
                process.send_signal(signal.SIGINT)
                break
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "To go on: run the same command again." in error
    counting.clear()
    resumed = compare("RX,LRX-PC,KRX", here / "scenes", device="cpu", save_dir=here / "kept")
    assert counting == ["KRX", "KRX"]
    pd.testing.assert_frame_equal(without_times(resumed), without_times(whole))


@pytest.mark.slow
def test_several_processes_give_the_same_table_and_mark_their_times(here):
    for name in ("a", "bb"):
        write_pair(here / "scenes", name)
    one = compare("RX,LRX-PC,stranger:Drawn", here / "scenes", device="cpu", seeds=(0, 1))
    several = compare("RX,LRX-PC,stranger:Drawn", here / "scenes", device="cpu", seeds=(0, 1), jobs=2)
    pd.testing.assert_frame_equal(without_times(several), without_times(one))
    assert several.provenance["loaded"]


def test_several_processes_refuse_what_they_cannot_import(here):
    here_only = types.FunctionType((lambda cube: cube.sum(2)).__code__, {}, "here_only")
    here_only.__module__ = "__main__"
    with pytest.raises(FersError, match="here_only is defined in a notebook or script"):
        compare(here_only, [("a", *make_pair("a"))], jobs=2)


def test_the_command_writes_tables_and_ends_with_2_where_nothing_can_be_done(here, capsys):
    write_pair(here / "scenes", "a")
    arguments = ["--scenes", str(here / "scenes"), "--save_dir", str(here / "out"), "--device", "cpu"]
    assert main([*arguments, "--detect", "RX,KRX", "--repeat", "2", "--option", "RX.solver=float64"]) == 0
    output = capsys.readouterr().out
    assert "1 of 1" in output and f"score maps in {here / 'out' / 'cells'}" in output.splitlines()[-1]
    assert len(list((here / "out" / "cells").glob("*.npz"))) == 2 and (here / "out" / "compare.csv").is_file()
    for wrong in (
        ["--detect", "RXX"],
        ["--detect", ","],
        ["--settings", "fused-X"],
        ["--scenes", str(here / "none")],
        ["--option", "solver=float64"],
        ["--maps", f"theirs={here / 'none'}"],
    ):
        assert main([*arguments, *wrong]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error
    for wrong in (["--seeds", "x"], ["--jobs", "0"], ["--skip-slower-than", "-1"], ["--maps", "theirs"]):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *wrong])
        assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_help_waits_for_no_library():
    code = "import sys, fers.comparison.command; print([m for m in ('torch', 'pandas', 'matplotlib', 'scipy') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout == "[]\n"


def test_a_detector_may_have_a_setting_of_its_own(here):
    write_pair(here / "scenes", "a", (20, 24, 8))
    result = compare("Distance,RX@untrained-C,rx", here / "scenes", backbone="random")
    assert set(result.table()["label"]) == {"Distance", "RX", "RX untrained-C"}
    own = compare("RX", here / "scenes", settings="untrained-C", backbone="random")
    np.testing.assert_array_equal(result.maps["RX untrained-C", "a", 0], own.maps["RX", "a", 0])
    with pytest.raises(FersError, match="upside-down"):
        compare("RX@upside-down", here / "scenes")


def test_the_fast_detectors_need_no_weights():
    rows = {name: find_detector(name) for name in fast_detectors()}
    assert {"RX", "LRX-PC", "AED"} <= rows.keys() and not {name for name, row in rows.items() if row.network}
    assert find_detector("AETNet").cost <= FAST_SECONDS  # else nothing is shown
