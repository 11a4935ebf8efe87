"""The stand-in for HAD100.zip is as the archive is described, and the documented commands run on it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_had100, shared_file
from safetensors import safe_open

import train
from experiments import rehearsal, standin
from fers.datasets.benchmarks import BENCHMARKS
from fers.datasets.had100 import GROUPS, TEST_CROPS, prepare, published_test_scenes
from fers.datasets.patches import BackgroundPatches
from fers.scenes.scene import read_truth
from fers.util.errors import FersError

TRUTHS = "ground_truth/aviris_ng"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """What prepare makes of a small stand-in: one background scene of each sensor, which lacks data in a corner; three targets."""
    folder = tmp_path_factory.mktemp("standin")
    assert standin.main([str(folder / "standin.zip"), "--background", "1", "--targets", "3"]) == 0
    command = ["prepare", str(folder / "standin.zip"), "--out", str(folder / "data"), "--any_archive", "--workers", "1"]
    assert prepare.main(command) == 0
    assert prepare.main([*command, "--verify"]) == 0
    return folder / "data"


def test_prepare_says_what_becomes_of_patches_without_data(prepared, capsys):
    command = ["prepare", str(prepared.parent / "standin.zip"), "--out", str(prepared), "--any_archive"]
    assert prepare.main([*command, "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "2 of them hold pixels without data" in printed and "--nodata" in printed


def test_truths_have_the_published_names_sizes_and_pixels(prepared):
    published = published_test_scenes()
    found = {path.stem: read_truth(path) for path in sorted((prepared / TRUTHS).glob("*.png"))}
    assert len(found) == 3 and {truth.shape for truth in found.values()} == {(64, 64)}
    assert {name: int(truth.sum()) for name, truth in found.items()} == {
        name: published[name].anomalous_pixels for name in found
    }


def test_every_source_scene_can_be_made_with_and_without_the_published_masks():
    rng = np.random.default_rng(0)
    masks = shared_file("had100/test_masks_rgb.npz")
    known = np.load(masks)
    for name in TEST_CROPS:
        for crop, scene in published_test_scenes().items():
            if scene.scene == name:
                at = np.s_[scene.row : scene.row + 64, scene.column : scene.column + 64]
                assert standin._truth(name, None, rng)[at].sum() == scene.anomalous_pixels
                mask = known["masks"][list(known["names"]).index(crop)]
                assert np.array_equal(standin._truth(name, masks, rng)[at], mask)


def test_the_archive_has_all_kinds_of_files(tmp_path):
    scenes = list(standin.standin_scenes(2, 1))
    kinds = {(scene.folder, scene.cube.dtype.name, scene.interleave, scene.cube.shape[2]) for scene in scenes}
    ng, classic = GROUPS["train/aviris_ng"].source, GROUPS["train/aviris"].source
    assert {(ng, "float32", "bil", 425), (classic, "float32", "bil", 224), (classic, "int16", "bip", 224)} < kinds
    assert (scenes[0].cube == -9999).any() and (scenes[2].cube == -9999).any()
    standin.write_archive(tmp_path / "a.zip", scenes[:1])
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert "HAD100/data/aviris_ng_normal/ang20190101t000000_0.hdr" in archive.namelist()


def test_its_numbers_are_not_headed_by_had100(prepared):
    scenes = BENCHMARKS["HAD100"].scenes(prepared, None, "all")
    assert BENCHMARKS["HAD100"].title(prepared, scenes) == "own scenes in HAD100's layout"
    assert json.loads((prepared / "manifest.json").read_text())["published_archive"] is False
    assert len(BENCHMARKS["HAD100"].known(scenes)) == len(scenes)  # only the manifest tells them apart


def test_patches_without_data_are_left_out_and_counted(prepared):
    for sensor in ("aviris_ng", "aviris"):
        patches = BackgroundPatches(prepared, sensor, 50)
        assert len(patches) == 3 and patches.describe() == "1 patches are left out: no data."


@pytest.mark.slow
def test_the_documented_commands_run_on_data_with_holes(prepared, tmp_path, capfd):
    """README's training, and Table IV's first row."""
    short = ["--epochs", "1", "--batch_size", "1", "--backbone", "random"]
    folders = ["--checkpoint_dir", str(tmp_path / "weights"), "--save_dir", str(tmp_path / "runs")]
    given = ["--stage", "all", "--input_channel", "50", "--data_path", str(prepared), "--device", "cpu"]
    assert train.main([*given, *short, *folders]) == 0
    assert capfd.readouterr().out.count("1 patches are left out: no data.") == 2
    with safe_open(tmp_path / "weights" / "spe_fen.safetensors", "pt") as weights:
        origin = weights.metadata()["origin"]
    assert "training on 3 patches" in origin and "(1 patches are left out: no data)" in origin
    test = ["--input_channel", "50", "--checkpoint_dir", str(tmp_path / "weights"), "--no_maps"]
    assert run_had100(prepared, tmp_path / "test", *test) == 0
    command = [sys.executable, "reproduce.py", "table4", "--rows", "L_Z", "--bands", "50", "--data", str(prepared)]
    command += ["--out", str(tmp_path / "out"), "--device", "cpu", *short]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Training: 1 patches are left out: no data." in done.stdout and "| L_Z<sup>" in done.stdout
    plan = subprocess.run([*command, "--plan"], cwd=ROOT, capture_output=True, text=True).stdout
    assert plan.startswith("2 of 2 steps are done already.")


def test_a_rehearsal_goes_on_after_the_steps_that_it_has(tmp_path, monkeypatch, capsys):
    """The first five steps for real; the others are only listed."""
    ran = []

    def measured(command, folder):
        ran.append(command)
        if "train.py" in command:
            raise FersError("stopped here")
        return run_measured(command, folder)

    run_measured = rehearsal._measured
    monkeypatch.setattr(rehearsal, "_measured", measured)
    arguments = [
        str(tmp_path),
        "--background",
        "1",
        "--targets",
        "1",
        "--patches",
        "2",
        "--bands",
        "50",
        "--workers",
        "1",
    ]
    assert rehearsal.main(arguments) == 2
    steps = pd.read_csv(tmp_path / "rehearsal.csv")
    assert list(steps.step) == ["stand-in", "prepare", "verify", "verify against the archive", "patches of a scene"]
    assert (steps.cpu_s > 0).all() and steps.disk_mb[0] > 15 and not steps.command.str.contains(str(tmp_path)).any()
    ran.clear()
    assert rehearsal.main(arguments) == 2 and len(ran) == 1  # only the step that is left
    assert re.search("stopped here", capsys.readouterr().err)
    assert len(list((tmp_path / "few2" / "train" / "aviris_ng").iterdir())) == 2
