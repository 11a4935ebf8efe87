"""The weights in checkpoints/: complete in what they say of themselves, small, and as good as the README says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, shared_file

import FERS_ABU.test
from fers.networks import load_checkpoint
from fers.networks.import_released import import_released

FIVE = "airport-1,airport-2,airport-3,airport-4,urban-3"


def shipped() -> list[Path]:
    try:
        command = ["git", "-C", str(ROOT), "ls-files", "checkpoints/*.safetensors"]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):  # not a checkout
        return sorted((ROOT / "checkpoints").glob("*/*.safetensors"))
    return [ROOT / name for name in found]


@pytest.fixture(scope="module")
def imagenet_layer1(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("released")
    import_released(shared_file("weights/ABU/200bands"), folder / "spe_fen.safetensors")
    return str(folder / "backbone.safetensors")


def mean_of_five(save_dir: Path, *options: str) -> float:
    data = ["--data_path", str(shared_file("abu")), "--save_dir", str(save_dir), "--scenes", FIVE, "--no_maps"]
    assert FERS_ABU.test.main([*data, *options]) == 0
    return json.loads((save_dir / "results.json").read_text())["mean_auc"]


def test_something_is_shipped():
    assert {path.parent.name for path in shipped()} >= {"aviris_200", "aviris_200_imagenet"}


@pytest.mark.parametrize("path", shipped(), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_it_says_where_it_comes_from_and_no_test_set_chose_it(path, request):
    assert path.stat().st_size < 1e6
    imagenet = path.parent.name.endswith("imagenet")
    _, info = load_checkpoint(path, backbone=request.getfixturevalue("imagenet_layer1") if imagenet else None)
    assert info.selection == "last" and info.epoch > 0 and info.metrics and len(info.git_revision) == 40
    assert "this project's training" in info.origin
    assert not any(scene in info.origin for scene in (*FIVE.split(","), "beach-4"))


def test_a_shipped_student_stands_beside_its_teacher():
    for path in shipped():
        if path.stem == "spa_fen":
            taught_by, _ = load_checkpoint(path.with_name("spe_fen.safetensors"))
            assert load_checkpoint(path)[1].teacher == taught_by.fingerprint()


def test_the_abu_script_runs_without_any_option_but_the_data(tmp_path, capsys):
    assert mean_of_five(tmp_path) == pytest.approx(0.9664, abs=0.0002)
    output = capsys.readouterr().out
    assert "spectral" in output and "Note: Only the spectral branch is used (H + F_spe): aviris_200" in output
    assert "Note: Spe-FEN: frozen backbone random (seed 0), not ImageNet." in output


def test_with_imagenets_layer1_it_is_better(tmp_path, imagenet_layer1):
    folder = str(ROOT / "checkpoints" / "aviris_200_imagenet")
    options = ["--features", "spectral", "--checkpoint_dir", folder, "--backbone", imagenet_layer1]
    assert mean_of_five(tmp_path, *options) == pytest.approx(0.9754, abs=0.0002)
