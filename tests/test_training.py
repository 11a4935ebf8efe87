"""Both stages and the loop they share: shapes, counts, what moves and what does not, several processes, the scripts."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, run_had100
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from small_training import BANDS, Line, log, options, points, run_line
from torch import nn

import train as train_script
import train_FERD.train as stage1
import train_FERS.train as stage2
from fers.datasets import abu
from fers.networks import SpaFEN, SpeFEN, load_checkpoint
from fers.networks.backbones import frozen_layers
from fers.networks.checkpoint import save_backbones
from fers.scenes.normalise import normalise
from fers.training.device import make_accelerator
from fers.training.loop import _LOOK_EVERY, EpochOrder, Trainer
from fers.training.options import TrainingError, TrainOptions
from fers.training.recipe import PAPER, RELEASED
from fers.training.resume import RESUME_FILE, RunFolder
from fers.training.run import scene_scorer
from fers.training.stage import Stage
from train_FERD.network import FERD
from train_FERS.network import FRN


@pytest.fixture
def kept(monkeypatch) -> list[tuple[int, dict]]:
    """Epoch and metrics of each checkpoint that a Line would have written."""
    saved: list = []
    monkeypatch.setattr(
        "fers.training.loop.save_checkpoint", lambda _, __, info: saved.append((info.epoch, info.metrics))
    )
    return saved


def test_the_log_has_what_was_promised_and_the_last_epoch_is_kept(kept, tmp_path, capsys):
    run_line(tmp_path, 3)
    entries = log(tmp_path)
    assert [entry["epoch"] for entry in entries] == [1, 2, 3] and entries[-1]["step"] == 12
    for entry in entries:
        assert entry["loss"] == pytest.approx(entry["terms"]["mse"]) and entry["held_out"]["loss"] > 0
        assert entry["lr"] == 0.005 and entry["seconds"] > 0 and entry["patches_per_second"] > 0
        assert entry["selection"] == "last"
    assert kept[-1] == (3, {"train_loss": entries[-1]["loss"], "held_out_loss": entries[-1]["held_out"]["loss"]})
    assert capsys.readouterr().out.count("held-out") == 3
    assert list(tmp_path.glob("events.out.tfevents*"))


def test_the_best_epoch_by_a_score_is_kept_only_where_that_is_asked_for(kept, tmp_path):
    scores = iter([0.5, 0.9, 0.7])
    run_line(tmp_path, 3, score=lambda: next(scores))
    assert [(epoch, metrics["test_auc"]) for epoch, metrics in kept] == [(1, 0.5), (2, 0.9)]
    assert {entry["selection"] for entry in log(tmp_path)} == {"test-auc"}


def test_weights_that_are_not_finite_after_the_last_step_are_not_kept(kept, tmp_path):
    stage, steps = Line(), []

    def last_step_diverges(gradient):  # the loss of the four steps is finite
        steps.append(1)
        return gradient * (float("nan") if len(steps) == 4 else 1)

    stage.layers[0].weight.register_hook(last_step_diverges)
    with pytest.raises(
        TrainingError, match=r"epoch 1: layers\.0\.weight is not finite after the last step\. Last good .*none"
    ):
        run_line(tmp_path, 1, stage)
    assert not kept


@pytest.mark.parametrize("look_every", [1, 4], ids=["at once", "late, as on a GPU"])
def test_a_loss_that_is_not_finite_stops_with_step_term_and_last_good_checkpoint(
    kept, tmp_path, monkeypatch, look_every
):
    monkeypatch.setitem(_LOOK_EVERY, "cpu", look_every)

    class Breaks(Line):
        steps = 0

        def loss(self, x):
            self.steps += self.training
            mse = super().loss(x)[0] * (float("nan") if self.steps == 7 else 1)
            return mse, {"mse": mse}

    with pytest.raises(
        TrainingError, match=r"epoch 2, step 3: .* term mse. Last good checkpoint: .*last\.pt \(epoch 1\)"
    ):
        run_line(tmp_path, 3, Breaks())


def test_the_log_does_not_depend_on_how_often_the_losses_are_looked_at(kept, tmp_path, monkeypatch):
    for every in (1, 3):  # of four steps
        monkeypatch.setitem(_LOOK_EVERY, "cpu", every)
        run_line(tmp_path / str(every), 2)
    assert [entry["loss"] for entry in log(tmp_path / "1")] == [entry["loss"] for entry in log(tmp_path / "3")]


class Normed(Stage):
    def __init__(self):
        super().__init__(("mse",))
        self.norm = nn.BatchNorm2d(2)

    def loss(self, x: torch.Tensor):
        mse = (self.norm(x) - 1).square().mean()
        return mse, {"mse": mse}


def test_the_held_out_loss_normalises_as_training_does_and_leaves_the_running_statistics_alone(tmp_path):
    data = list(100 + torch.randn(4, 2, 5, 5, generator=torch.Generator().manual_seed(0)))
    stage = Normed()
    folder = RunFolder(tmp_path, TrainOptions(epochs=1, lr=1e-30, batch_size=4))
    Trainer(stage, folder, make_accelerator(device="cpu")).fit(data, data)
    [entry] = log(tmp_path)
    assert entry["held_out"]["loss"] == pytest.approx(entry["loss"], rel=1e-5)  # with running statistics, about 100^2
    assert torch.allclose(stage.norm.running_mean, 0.1 * torch.stack(data).mean((0, 2, 3)))
    assert stage.norm.num_batches_tracked == 1


def test_fewer_patches_than_a_batch_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="18 training patches are fewer than one batch of 4"):
        folder = RunFolder(tmp_path, TrainOptions(batch_size=40))
        Trainer(Line(), folder, make_accelerator(device="cpu")).fit(points(18))


@pytest.mark.parametrize("recipe, betas", [("paper", (0.9, 0.95)), ("released", (0.5, 0.999))])
def test_adam_has_the_learning_rate_and_the_betas_of_the_recipe(kept, tmp_path, recipe, betas):
    run_line(tmp_path / "line", 1, recipe=recipe)
    [group] = torch.load(tmp_path / "line" / RESUME_FILE, weights_only=True)["optimizer"]["param_groups"]
    assert (group["lr"], tuple(group["betas"])) == (0.005, betas)


def test_every_epoch_has_its_own_order_of_all_patches():
    order = EpochOrder(10, seed=3)
    first, order.epoch = list(order), 1
    assert sorted(first) == list(range(10)) and list(order) != first and list(order) == list(order)


TWO_PROCESSES = """
import sys
from pathlib import Path
import torch
from torch import nn
from fers.networks.backbones import Branch
from fers.training.device import make_accelerator
from fers.training.loop import Trainer
from fers.training.options import TrainOptions
from fers.training.resume import RunFolder
from train_FERS.network import FRN
from train_FERS.stage import Stage2

class Student(Branch):
    def __init__(self, bands):
        super().__init__()
        self.conv = nn.Conv2d(bands, bands, 1)
    def backbone_layers(self):
        return nn.Sequential()
    def forward(self, h):
        return self.conv(h)

folder = Path(sys.argv[1])
torch.set_num_threads(1)
accelerator = make_accelerator(device="cpu")
torch.manual_seed(0)
stage = Stage2(Student(6), nn.Conv2d(6, 6, 1))  # no batch norm: all of the coupling is in L_cc and L_var
generator = torch.Generator().manual_seed(1)
data = [(torch.rand(6, 8, 8, generator=generator), torch.rand(6, 8, 8, generator=generator)) for _ in range(16)]
Trainer(stage, RunFolder(folder / "plain", TrainOptions(epochs=3, batch_size=8)), accelerator).fit(data)

if accelerator.num_processes > 1:
    torch.manual_seed(accelerator.process_index)  # what each process draws for itself must not matter
    stage = Stage2(Student(8), FRN(8))
    data = [(torch.rand(8, 8, 8), torch.rand(8, 8, 8)) for _ in range(8)]
    Trainer(stage, RunFolder(folder / "normed", TrainOptions(epochs=2, batch_size=4)), accelerator).fit(data)
    trained = {k: v.detach() for k, v in stage.named_parameters()}
    torch.save(trained, folder / f"rank{accelerator.process_index}.pt")
"""


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one_and_end_with_the_same_weights(tmp_path, monkeypatch):
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*launch, str(tmp_path / "two")], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    monkeypatch.setattr(sys, "argv", ["two.py", str(tmp_path / "one")])
    runpy.run_path(str(script))
    one, two = (
        [entry["terms"] | {"loss": entry["loss"]} for entry in log(tmp_path / name / "plain")]
        for name in ("one", "two")
    )
    assert len(one) == 3
    for a, b in zip(one, two, strict=True):
        assert b == pytest.approx(a, rel=1e-4)
    assert one[2]["loss"] < one[0]["loss"]

    assert done.stdout.count("each process normalises by the batch statistics of its own share") == 1
    first, second = (torch.load(tmp_path / "two" / f"rank{i}.pt", weights_only=True) for i in (0, 1))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    initial = dict(FRN(8).named_parameters(prefix="frn"))
    assert not any(torch.equal(first[key], initial[key]) for key in initial)


@pytest.mark.slow
@pytest.mark.parametrize("recipe, more", [("paper", ()), ("released", ("--no_cache",))])
def test_a_trained_student_loads_with_complete_metadata(background, teacher, tmp_path, recipe, more):
    assert stage2.main(options(background, teacher, tmp_path / "run", "--recipe", recipe, "--seed", "4", *more)) == 0
    network, info = load_checkpoint(teacher / "spa_fen.safetensors", bands=BANDS)
    assert (info.branch, info.recipe, info.seed, info.epoch, info.selection) == ("spa_fen", recipe, 4, 3, "last")
    assert info.backbone == "random:0" and {"train_loss", "held_out_loss"} <= info.metrics.keys()
    assert "Spe-FEN" in info.origin and info.sensor == "aviris_ng"
    statistics = [key for key in load_file(teacher / "spa_fen.safetensors") if key.startswith("backbone.")]
    assert bool(statistics) == (recipe == "released")
    frozen = SpaFEN(BANDS, "random").backbone.state_dict()
    adapted = not torch.equal(network.backbone.bn1.running_mean, frozen["bn1.running_mean"])
    assert adapted == (recipe == "released")
    left = sorted(p.name for p in (tmp_path / "run" / "stage2").iterdir() if "tfevents" not in p.name)
    assert left == ["finished.json", "log.jsonl", "spa_fen.safetensors"]  # neither the resume file nor the cache


@pytest.mark.slow
def test_both_stages_by_one_command_and_frozen_layers_from_a_file_are_kept_beside_both_branches(
    background, dataset, tmp_path, capsys
):
    generator = torch.Generator().manual_seed(2)

    def draw(key: str, like: torch.Tensor) -> torch.Tensor:
        if key.endswith("running_var"):  # of batch norms that are not the identity
            return 0.5 + torch.rand(like.shape, generator=generator)
        return (
            torch.randn(like.shape, generator=generator) * 0.02
            if like.is_floating_point()
            else torch.zeros_like(like, device="cpu")
        )

    layers = {SpeFEN: (*SpeFEN.FROZEN, *FERD.LAYER2_3), SpaFEN: SpaFEN.FROZEN}
    states = {
        branch.ARCHITECTURE: {k: draw(k, v) for k, v in frozen_layers(branch.ARCHITECTURE, names).state_dict().items()}
        for branch, names in layers.items()
    }
    file, weights = save_backbones(tmp_path / "theirs.safetensors", states), tmp_path / "weights"
    more = ("--input_channel", "10", "--backbone", str(file), "--epochs", "1", "--batch_size", "8")
    assert train_script.main(["--stage", "all", *options(background, weights, tmp_path / "run", *more)]) == 0
    file.unlink()
    output = capsys.readouterr().out
    assert "Stage 1 (FERD)" in output and "Stage 2 (FERS)" in output and "cached in memory" in output
    assert sorted(p.name for p in weights.iterdir()) == [
        "backbone.safetensors",
        "spa_fen.safetensors",
        "spe_fen.safetensors",
    ]

    kept = load_file(weights / "backbone.safetensors")
    for branch in (SpeFEN, SpaFEN):
        used = {k: v for k, v in states[branch.ARCHITECTURE].items() if k.startswith(branch.FROZEN)}
        assert {k for k in kept if k.startswith(branch.ARCHITECTURE)} == {f"{branch.ARCHITECTURE}.{k}" for k in used}
        assert all(torch.equal(kept[f"{branch.ARCHITECTURE}.{k}"], v) for k, v in used.items())
    for name in ("spe_fen", "spa_fen"):
        assert load_checkpoint(weights / f"{name}.safetensors")[1].backbone == "file:theirs.safetensors"
    assert run_had100(dataset, tmp_path / "scores", "--checkpoint_dir", str(weights)) == 0

    # neither run nor checkpoints are overwritten, and the second stage is asked before the first runs
    again = ["--stage", "all", *options(background, weights, tmp_path / "run", *more)]
    assert train_script.main(again) == 2
    assert "stage1: holds a run already (1 epochs in its log)" in capsys.readouterr().err
    assert train_script.main([*again, "--resume"]) == 0
    assert capsys.readouterr().out.count("this run is finished") == 2
    (weights / "spe_fen.safetensors").unlink()
    again[again.index("--save_dir") + 1] = str(tmp_path / "other")
    assert train_script.main(again) == 2
    assert "spa_fen.safetensors: a checkpoint exists already" in capsys.readouterr().err
    assert train_script.main([*again, "--resume"]) == 2  # there is nothing to resume there
    assert not (tmp_path / "other").exists()


def test_the_test_set_chooses_the_epoch_only_by_name_and_then_everything_says_so(
    background, teacher, dataset, tmp_path, capsys
):
    arguments = options(background, teacher, tmp_path / "run", "--select", "test-auc", "--test_path", str(dataset))
    assert stage2.main(arguments) == 0
    assert load_checkpoint(teacher / "spa_fen.safetensors")[1].selection == "test-auc"
    output = capsys.readouterr().out
    assert "WARNING: --select test-auc" in output and output.count("chosen by the test set's ground truth") == 3


def mahalanobis(cube: np.ndarray) -> np.ndarray:
    """RX of ``(C, H, W)``, scaled to [0, 1]."""
    x = cube.reshape(len(cube), -1).astype(float)
    x -= x.mean(1, keepdims=True)
    scores = (x * np.linalg.solve(np.cov(x), x)).sum(0)
    return (scores - scores.min()) / (scores.max() - scores.min())


@pytest.mark.parametrize("setting", ["original", "spectral", "fused"])
def test_an_epochs_score_is_the_mean_auc_of_rx_on_the_cubes_of_its_setting(dataset, setting):
    networks = {"spe_fen": lambda h: 30 * h.square(), "spa_fen": lambda h: h.flip(1).relu()}
    options = TrainOptions(test_path=dataset, input_channel=10, select="test-auc")
    scorer = scene_scorer(options, networks, setting, torch.device("cpu"))
    aucs = []
    for labelled in abu.scenes(dataset):
        scene, truth = labelled.load()
        h = torch.from_numpy(normalise(scene, 10, 0).transpose(2, 0, 1).copy())
        spectral, spatial = (mahalanobis((h + networks[name](h[None])[0]).numpy()) for name in networks)
        scores = {"original": mahalanobis(h.numpy()), "spectral": spectral, "fused": spectral * spatial}[setting]
        aucs.append(roc_auc_score(truth.ravel(), scores))
    assert scorer() == pytest.approx(np.mean(aucs), abs=1e-6)
    assert scene_scorer(TrainOptions(), networks, setting, torch.device("cpu")) is None


def test_what_cannot_be_trained_says_why(background, teacher, tmp_path, capsys):
    assert stage2.main(options(tmp_path / "nowhere", teacher, tmp_path / "run")) == 2
    assert "no training patches" in capsys.readouterr().err
    assert stage2.main(options(background, tmp_path / "none", tmp_path / "run")) == 2
    assert "needs a Spe-FEN as its teacher. Train Stage 1 first" in capsys.readouterr().err
    assert stage2.main(options(background, teacher, tmp_path / "run", "--batch_size", "64")) == 2
    assert "fewer than one batch of 64" in capsys.readouterr().err
    assert stage2.main(options(background, teacher, tmp_path / "run", "--device", "cuda:99")) == 2
    assert "--device cuda:99: cannot be used on this machine" in capsys.readouterr().err
    refused = {"--resume --overwrite": "give one of them", "--sensor ../x": "must be a name", "--lr inf": "above 0"}
    for wrong, message in (refused | {"--train_ratio 2": "above 0 and up to 1"}).items():
        assert stage2.main(options(background, teacher, tmp_path / "run", *wrong.split())) == 2
        assert message in capsys.readouterr().err
    for wrong in (["--losses", "cc,dice"], ["--device", "tpu"], ["--lr", "fast"]):
        with pytest.raises(SystemExit) as stop:
            stage2.main(options(background, teacher, tmp_path / "run", *wrong))
        assert stop.value.code == 2
    assert not (teacher / "spa_fen.safetensors").exists()


def test_the_defaults_are_the_papers_and_old_spellings_keep_working():
    parser = stage1.parser()
    defaults = parser.parse_args([])
    assert (defaults.train_ratio, defaults.lr, defaults.batch_size, defaults.epochs) == (1.0, 0.005, 16, 60)
    assert defaults.losses == ("sim", "mse", "z") and defaults.recipe == "paper" and defaults.device == "auto"
    old = parser.parse_args(["--cpu", "--losses", "sim,zcl", "--start_channel_id", "3", "--save_model", "weights"])
    assert (old.device, old.losses, old.start_band, old.checkpoint_dir) == ("cpu", ("sim", "z"), 3, Path("weights"))
    assert parser.parse_args(["--device_ids", "1"]).device == "cuda:1"


def test_scripts_run_from_their_own_folder():
    scripts = [ROOT / "train.py", ROOT / "train_FERD" / "train.py"]
    command = [sys.executable, "train.py", "--help"]
    running = [subprocess.Popen(command, cwd=path.parent, stdout=subprocess.PIPE, text=True) for path in scripts]
    for process in running:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0 and "--recipe" in output and "torchrun" in output


WITHOUT_EXTRAS = """
import importlib, sys
sys.modules.update(dict.fromkeys(("accelerate", "tensorboard", "pytorch_msssim")))
sys.exit(sum(importlib.import_module(name).main(words.split()) for name, words in (
    ("train", "--stage all"), ("train_FERD.train", ""), ("train_FERS.train", ""), ("baselines.train", "aetnet"))))
"""


def test_without_the_packages_of_training_each_script_says_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS], capture_output=True, text=True, timeout=120)
    sentence = (
        "error: training needs packages that are not installed: accelerate, tensorboard, pytorch_msssim. "
        f"Run: pip install -e '{ROOT}[train]'"
    )
    assert (done.returncode, done.stderr.splitlines()) == (4 * 2, 4 * [sentence])


def test_recipes_are_those_of_paper_and_released_code():
    assert (PAPER.sim_over_scales, RELEASED.sim_over_scales) == ("mean", "sum")
