"""Two runs at once never write to one folder, whatever the command; files that change during a run are noticed by each."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import run_had100, write_had100
from fake_comparison import fake_comparison
from fake_had100 import scenes
from fake_had100 import write as write_archive
from scipy.io import savemat

import reproduce
from fers.comparison.command import main as compare
from fers.datasets import download, patches
from fers.datasets.had100 import prepare
from fers.datasets.synthetic.benchmark import main as synthetic
from fers.detection.command import main as detect
from fers.detection.detect import detect as detect_array
from fers.scenes.scene import LabelledScene, SceneError, unchanging
from fers.util.errors import FersError
from fers.util.files import json_text
from fers.util.lock import locked
from fers.weights import main as weights
from train_FERS.train import main as train


def cube(seed: int = 0, shape=(24, 24, 6)) -> np.ndarray:
    return np.random.RandomState(seed).uniform(size=shape).astype(np.float32)


def commands(folder: Path) -> dict:
    """Each command that writes to a folder, as a function of the folder."""
    np.save(folder / "scene.npy", cube())
    write_had100(folder / "data")
    write_archive(folder / "HAD100.zip", scenes(1, 1, 1, 64))
    scene, data = str(folder / "scene.npy"), str(folder / "data")
    return {
        "detect": lambda out: detect([scene, "--features", "original", "--quiet", "--out", str(out.parent)]),
        "test.py": lambda out: run_had100(Path(data), out, "--features", "original"),
        "compare": lambda out: compare(["--scenes", data, "--detect", "RX", "--save_dir", str(out)]),
        "synthetic": lambda out: synthetic([str(out), "--train", "1", "--test", "1", "--size", "32"]),
        "prepare": lambda out: prepare.main(
            ["prepare", str(folder / "HAD100.zip"), "--out", str(out), "--any_archive", "--workers", "1"]
        ),
        "patches": lambda out: patches.main([scene, "--out", str(out), "--size", "16"]),
        "download": lambda out: download.main(["had100", "--out", str(out), "--url", "http://127.0.0.1:9/a"]),
        "weights": lambda out: weights(
            ["download", "--bands", "50", "--out", str(out), "--url", "http://127.0.0.1:9/a"]
        ),
        "reproduce": lambda out: reproduce.main(
            ["table1", "--data", data, "--out", str(out.parent), "--bands", "10", "--rows", "RX", "--device", "cpu"]
        ),
    }


@pytest.mark.parametrize(
    "name", ["detect", "test.py", "compare", "synthetic", "prepare", "patches", "download", "weights", "reproduce"]
)
def test_no_command_writes_to_a_folder_that_another_run_writes_to(tmp_path, capsys, name):
    own = {"detect": "scene", "reproduce": "own-scenes-in-HAD100s-layout"}.get(name, "out")
    out = tmp_path / "results" / own
    run = commands(tmp_path)[name]
    with locked(out):
        (out / "mine").touch()
        assert run(out) == 2
    assert "another run is writing to this folder" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_a_folder_that_is_made_for_nothing_goes_and_one_without_a_name_in_utf_8_is_refused(tmp_path):
    with locked(tmp_path / "a" / "b"):
        pass
    with pytest.raises(KeyError), locked(tmp_path / "c"):
        (tmp_path / "c" / "kept").touch()
        raise KeyError
    assert [path.name for path in tmp_path.iterdir() if path.name != "a"] == ["c"] and not (tmp_path / "a/b").exists()
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    with pytest.raises(FersError, match="the name of this folder is not text in UTF-8"), locked(odd):
        pass
    assert not odd.exists()


def change(path: Path) -> None:
    """Change a file's content, and neither its size nor its time."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-7] ^= 0x20
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_an_interrupted_test_scores_a_cube_again_that_changed_at_its_old_size_and_time(tmp_path):
    data, out = write_had100(tmp_path / "data"), tmp_path / "out"
    given = ("--features", "original", "--no_maps")
    assert run_had100(data, out, *given) == 0
    results = json.loads((out / "results.json").read_text())
    (out / "results.json").write_text(json.dumps(results | {"complete": False}))
    scores = [(out / "scores" / f"{name}.npy").read_bytes() for name in "ab"]
    change(next((data / "test").rglob("a.npy")))
    assert run_had100(data, out, *given) == 0
    again = [(out / "scores" / f"{name}.npy").read_bytes() for name in "ab"]
    assert again[0] != scores[0] and again[1] == scores[1]


def test_a_scene_that_changes_while_it_is_in_use_is_refused(tmp_path):
    savemat(tmp_path / "a.mat", {"data": cube(), "map": np.eye(24)})
    scene = unchanging(LabelledScene("a", tmp_path / "a.mat", lambda: "whole"))
    assert scene.load() == "whole"
    change(tmp_path / "a.mat")
    with pytest.raises(SceneError, match=r"a\.mat: changed while it was in use"):
        scene.load()


@pytest.mark.slow
def test_a_patch_that_changes_during_the_training_leaves_no_weights(background, teacher, tmp_path, monkeypatch, capsys):
    from fers.training.loop import Trainer

    fit = Trainer.fit

    def changing(self, *given):
        fit(self, *given)
        change(min(background.rglob("*.npy")))

    monkeypatch.setattr(Trainer, "fit", changing)
    where = ["--data_path", background, "--save_dir", tmp_path / "run", "--checkpoint_dir", teacher]
    fixed = ["--input_channel", 8, "--backbone", "random", "--batch_size", 4, "--epochs", 1, "--device", "cpu"]
    assert train([str(part) for part in (*where, *fixed)]) == 2
    assert "a patch changed during the training" in capsys.readouterr().err
    assert not (teacher / "spa_fen.safetensors").exists()


# ----- what is published


def test_no_cell_of_a_table_is_a_formula(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("=HYPERLINK(1).npy", cube())
    lines = "".join(f"{400 + 10 * i},{0.1 + 0.01 * i}\n" for i in range(12))
    Path("library.csv").write_text(f"wavelength,=cmd|x\n{lines}")
    Path("nm.txt").write_text("\n".join(map(str, range(400, 460, 10))))
    given = ["--wavelengths", "nm.txt", "--library", "library.csv", "--features", "original", "--quiet", "--out", "o"]
    assert detect(["=HYPERLINK(1).npy", *given]) == 0
    comparison = fake_comparison()
    rows = [{**row, "scene": f"={row['scene']}", "note": "@note"} for row in comparison.rows]
    monkeypatch.setattr(type(comparison), "figures", lambda *_: [])
    monkeypatch.setattr("fers.comparison.page.write_compare_page", lambda *_: Path())
    type(comparison)(**{**vars(comparison), "rows": rows}).write(tmp_path / "compared")
    tables = list(tmp_path.glob("o/*/detections.csv")) + list(tmp_path.glob("compared/*.csv"))
    assert len(tables) == 3
    cells = [cell for path in tables for row in csv.reader(path.open(newline="")) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "@"))]
    assert any(cell.startswith("'=HYPERLINK") for cell in cells) and any(cell.startswith("'@note") for cell in cells)


def test_a_number_that_is_none_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(FersError, match=r"run\.json: not written, as a/1/b is inf"):
        json_text(tmp_path / "run.json", {"a": [1.0, {"b": float("inf")}]})
    result = detect_array(cube(), features="original")
    result.about["range"] = [0.0, float("nan")]
    with pytest.raises(FersError, match=r"run\.json: not written, as range/1 is nan"):
        result.write(tmp_path / "out")
    assert not (tmp_path / "out" / "run.json").exists()
