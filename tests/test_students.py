"""A Spa-FEN says who taught it and what it gives: the default without one, marks of another teacher, of a dead one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import run_had100
from small_training import options

import fers
from fers.evaluation.report import main as report
from fers.networks import CheckpointError, SpaFEN, SpeFEN, load_checkpoint, save_checkpoint
from fers.networks.checkpoint import read_info
from fers.networks.spa_fen import feature_figures, varying_channels
from fers.scoring.config import DetectConfig
from fers.scoring.pipeline import Pipeline
from train_FERS import train as stage2

OTHER = "taught by another Spe-FEN"
UNKNOWN = "does not say which Spe-FEN taught it"


def rewrite(path, network=None, **changes):
    """Write a Spa-FEN again, with other weights or metadata."""
    found, info = load_checkpoint(path)
    save_checkpoint(network or found, path, replace(info, **changes))


def caveats(folder) -> list[str]:
    return json.loads((folder / "results.json").read_text())["caveats"]


def test_without_a_student_the_default_is_the_spectral_branch_and_says_so(dataset, checkpoints, tmp_path, capsys):
    (checkpoints / "spa_fen.safetensors").unlink()
    given = ["--checkpoint_dir", str(checkpoints), "--no_maps"]
    assert run_had100(dataset, tmp_path / "default", *given) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "Only the spectral branch is used" in line]
    assert said == [f"Note: {text}" for text in caveats(tmp_path / "default") if "spectral" in text] and len(said) == 1
    assert run_had100(dataset, tmp_path / "spectral", *given, "--features", "spectral") == 0
    for name in "abc":
        maps = [(tmp_path / run / "scores" / f"{name}.npy").read_bytes() for run in ("default", "spectral")]
        assert maps[0] == maps[1]
    assert not any("Only the spectral" in text for text in caveats(tmp_path / "spectral"))
    assert json.loads((tmp_path / "default" / "results.json").read_text())["config"]["features"] == "spectral"


@pytest.mark.parametrize("detect, fusion", [("RX", "A"), ("AE", "B")])
def test_a_student_of_ones_own_is_used_as_in_the_paper(dataset, checkpoints, tmp_path, detect, fusion):
    given = ["--checkpoint_dir", str(checkpoints), "--detect", detect, "--scenes", "a", "--no_maps"]
    assert run_had100(dataset, tmp_path / "out", *given) == 0
    config = json.loads((tmp_path / "out" / "results.json").read_text())["config"]
    assert (config["features"], config["fusion"]) == ("fused", fusion)
    assert not any(OTHER in text or UNKNOWN in text for text in caveats(tmp_path / "out"))


def test_a_fusion_that_is_asked_for_insists_on_a_student(checkpoints):
    (checkpoints / "spa_fen.safetensors").unlink()
    asked = {"checkpoint_dir": checkpoints, "device": "cpu"}
    for more in ({"fusion": "B"}, {"features": "fused"}):
        with pytest.raises(CheckpointError, match="no Spa-FEN checkpoint"):
            Pipeline(DetectConfig(10, "aviris_ng", **asked, **more))
    assert DetectConfig(10, "x", checkpoint_dir=checkpoints, fusion="C").setting_name == "fused-C"
    assert DetectConfig(10, "x", checkpoint_dir=checkpoints, detect="AETNet").setting_name == "original"
    (checkpoints / "spe_fen.safetensors").unlink()  # of an empty folder both are asked for, as the paper has them
    with pytest.raises(CheckpointError, match=r"no Spe-FEN checkpoint.*\n(.*\n)*.*no Spa-FEN checkpoint"):
        Pipeline(DetectConfig(10, "aviris_ng", **asked))


@pytest.mark.parametrize("teacher, mark", [("0" * 64, OTHER), ("", UNKNOWN)])
def test_a_mismatch_is_marked_in_every_output_and_refused_where_asked(
    dataset, checkpoints, tmp_path, capsys, teacher, mark
):
    rewrite(checkpoints / "spa_fen.safetensors", teacher=teacher)
    given = ["--checkpoint_dir", str(checkpoints), "--scenes", "a", "--no_maps"]
    assert run_had100(dataset, tmp_path / "out", *given) == 0
    assert mark in capsys.readouterr().out
    (text,) = [text for text in caveats(tmp_path / "out") if mark in text]
    assert report([str(tmp_path / "out"), "--out", str(tmp_path / "page.html")]) == 0
    assert mark in (tmp_path / "page.html").read_text()
    result = fers.compare(
        "RX", str(dataset), settings="fused-B", bands=10, checkpoint_dir=checkpoints, save_dir=tmp_path / "compared"
    )
    assert text in result.caveats
    capsys.readouterr()
    assert run_had100(dataset, tmp_path / "strict", *given, "--strict") == 2
    error = capsys.readouterr().err
    assert mark in error and "spa_fen.safetensors" in error and "--stage 2" in error
    assert run_had100(dataset, tmp_path / "spectral", *given, "--strict", "--features", "spectral") == 0
    assert not any("taught" in text for text in caveats(tmp_path / "spectral"))


def test_strict_takes_the_students_own_teacher_and_changes_no_result(dataset, checkpoints, tmp_path):
    given = ["--checkpoint_dir", str(checkpoints), "--scenes", "a", "--no_maps"]
    for name, more in (("plain", []), ("strict", ["--strict"])):
        assert run_had100(dataset, tmp_path / name, *given, *more) == 0
    plain, strict = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("plain", "strict"))
    assert plain["config"] == strict["config"] and caveats(tmp_path / "plain") == caveats(tmp_path / "strict")


def test_the_teacher_is_known_by_its_weights_not_by_its_file(checkpoints):
    before = (checkpoints / "spe_fen.safetensors").read_bytes()
    rewrite(checkpoints / "spe_fen.safetensors", origin="another file")
    assert (checkpoints / "spe_fen.safetensors").read_bytes() != before
    config = {"checkpoint_dir": checkpoints, "device": "cpu", "strict": True}
    Pipeline(DetectConfig(10, "aviris_ng", **config))
    rewrite(checkpoints / "spe_fen.safetensors", SpeFEN(10, "random", seed=1))
    with pytest.raises(CheckpointError, match=OTHER):
        Pipeline(DetectConfig(10, "aviris_ng", **config))


def dead_student() -> SpaFEN:
    network = SpaFEN(10, "random")
    with torch.no_grad():
        last = network.spp.fuse[2].weight
        last.copy_(-last.abs())  # of what is never negative
    return network


def test_a_dead_student_is_told_at_scoring(dataset, checkpoints, tmp_path, capsys):
    given = ["--checkpoint_dir", str(checkpoints), "--scenes", "a", "--no_maps"]
    assert run_had100(dataset, tmp_path / "alive", *given) == 0
    assert "constant" not in capsys.readouterr().out
    rewrite(checkpoints / "spa_fen.safetensors", dead_student())
    assert run_had100(dataset, tmp_path / "dead", *given) == 0
    told = "Spa-FEN: every channel of F_spa is constant on a scene of this run, so it adds nothing there."
    assert f"Note: {told}" in capsys.readouterr().out and told in caveats(tmp_path / "dead")
    rewrite(checkpoints / "spa_fen.safetensors", metrics={"live_channels": 0.0})
    assert any("The Spa-FEN is dead" in t for t in Pipeline(DetectConfig(10, checkpoint_dir=checkpoints)).caveats)


def test_training_writes_who_taught_it_and_what_it_gives(teacher, tmp_path, capsys):
    folder, rng = tmp_path / "data" / "train" / "aviris_ng", np.random.RandomState(0)
    folder.mkdir(parents=True)
    for scene in range(6):
        np.save(folder / f"scene{scene}_1.npy", rng.uniform(size=(32, 32, 8)).astype(np.float32))
    more = ("--batch_size", "2", "--epochs", "1")
    assert stage2.main(options(tmp_path / "data", teacher, tmp_path / "run", *more)) == 0
    info = read_info(teacher / "spa_fen.safetensors")
    taught_by, _ = load_checkpoint(teacher / "spe_fen.safetensors")
    assert info.teacher == taught_by.fingerprint() and (info.patches, info.steps) == (5, 2)
    assert 0 < info.metrics["live_channels"] <= 8 and info.metrics["spe_energy"] > 0
    output = capsys.readouterr().out
    assert f"F_spa on the last batch: {info.metrics['live_channels']:.0f} of 8 channels vary" in output
    assert "WARNING" not in output


def test_a_dead_student_is_told_at_the_end_of_training_with_figures_and_remedy(background, teacher, tmp_path, capsys):
    # of 16 px the ResNet leaves one pixel to pool, so F_spa cannot vary
    assert stage2.main(options(background, teacher, tmp_path / "run", "--epochs", "1")) == 0
    output = capsys.readouterr().out
    assert "F_spa on the last batch: 0 of 8 channels vary over space; energy " in output
    assert "WARNING: the Spa-FEN is dead" in output and "--features spectral" in output
    assert read_info(teacher / "spa_fen.safetensors").metrics["live_channels"] == 0


def test_the_figures_are_means_and_variances_of_plain_loops():
    generator = torch.Generator().manual_seed(0)
    spe, spa = (torch.rand(2, 3, 5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    spa[:, 1] = torch.tensor([2.0, 5.0])[:, None, None]  # constant in space, another constant in each sample
    spa[0, 2] = 0
    found = feature_figures(spe, spa)
    for name, f in (("spe", spe), ("spa", spa)):
        assert found[f"{name}_energy"] == pytest.approx(sum(float(v) ** 2 for v in f.flatten()) / f.numel())
        variances = [sum(float(torch.var(f[n, c])) for c in range(3)) for n in range(2)]
        assert found[f"{name}_spatial_energy"] == pytest.approx(sum(variances) / 2)
    assert found["live_channels"] == 2  # the first, and the last in the second sample
    assert varying_channels(spa).tolist() == [[True, False, False], [True, False, True]]
