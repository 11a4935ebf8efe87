"""Both stages: networks, what a step trains, and losses that are the paper's sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fers.networks import SpaFEN
from fers.training.recipe import PAPER, RECIPES
from fers.training.stage import Stage
from train_FERD.network import FERD, MFFM, Decoder, Outputs
from train_FERD.stage import Stage1
from train_FERS.network import FRN
from train_FERS.stage import Stage2

BANDS = 8


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_stage_1_parameter_counts():
    with torch.device("meta"):
        assert count(MFFM()) == 58_885_120
        assert count(Decoder()) == 24_917_504


def test_stage_1_feature_shapes_of_a_64_px_patch(monkeypatch):
    for name in ("init_reverse_distillation", "load_frozen"):  # shapes need no values
        monkeypatch.setattr(f"train_FERD.network.{name}", lambda *_: None)
    monkeypatch.setattr("train_FERD.network.backbone_state", lambda *_: {})
    network = FERD(50).to("meta")
    shapes = {}
    network.mffm.register_forward_hook(lambda _, __, phi: shapes.update(phi=tuple(phi.shape)))
    outputs = network.eval()(torch.empty(1, 50, 64, 64, device="meta"))
    expected = [(1, 256, 72, 72), (1, 512, 36, 36), (1, 1024, 18, 18)]
    assert [tuple(f.shape) for f in outputs.encoder] == expected
    assert [tuple(g.shape) for g in outputs.decoder] == expected
    assert shapes["phi"] == (1, 2048, 9, 9)
    assert outputs.h_r.shape == (1, 50, 64, 64) and outputs.o.shape == (1, 1, 64, 64)
    assert [len(stage) for stage in (network.decoder.stage3, network.decoder.stage2, network.decoder.stage1)] == [
        3,
        4,
        6,
    ]
    assert {name: len(stage) for name, stage in network.layer2_3.named_children()} == {"layer2": 4, "layer3": 23}


def step(stage: Stage, *batch: torch.Tensor) -> tuple[set[str], set[str]]:
    """One optimiser step: the names of the tensors that changed, and of those that did not."""
    before = {key: value.clone() for key, value in stage.state_dict().items()}
    stage.train()
    total, _ = stage(*batch)
    optimizer = torch.optim.Adam([p for p in stage.parameters() if p.requires_grad], 0.005)
    total.backward()
    optimizer.step()
    changed = {key for key, value in stage.state_dict().items() if not torch.equal(value, before[key])}
    return changed, before.keys() - changed


@pytest.mark.slow
def test_a_stage_1_step_trains_all_but_the_frozen_layers_and_draws_transposed_convolutions_as_pytorch_does():
    stage = Stage1(FERD(BANDS, "random"))
    for part in (stage.network.decoder.stage3, stage.network.decoder.stage1):
        transposed = part[0].conv2.weight
        fresh = nn.ConvTranspose2d(*transposed.shape[:2], 2, stride=2, bias=False).weight
        assert transposed.std().item() == pytest.approx(fresh.std().item(), rel=0.02)
        assert transposed.abs().max().item() == pytest.approx(fresh.abs().max().item(), rel=0.01)
    kaiming = stage.network.mffm.reduce2[0].weight
    assert kaiming.std().item() == pytest.approx((2 / (1024 * 9)) ** 0.5, rel=0.01)

    changed, same = step(stage, torch.rand(2, BANDS, 16, 16) * 0.2 - 0.1)
    frozen = ("network.spe_fen.layer1.", "network.layer2_3.")
    assert all(key.startswith(frozen) for key in same)
    assert not any(key.startswith(frozen) for key in changed)
    assert any(key.startswith("network.spe_fen.cwl") for key in changed)  # through the frozen layers
    assert stage.resume_state().keys() == changed


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_stage_2_step_trains_all_but_the_frozen_layers(recipe):
    spa_fen = SpaFEN(BANDS, "random", adapt_batch_norm=recipe.adapt_batch_norm)
    stage = Stage2(spa_fen, FRN(BANDS), recipe)
    changed, same = step(stage, torch.rand(2, BANDS, 32, 32) * 0.2 - 0.1, torch.rand(2, BANDS, 32, 32) * 5)
    backbone = {key for key in changed if key.startswith("spa_fen.backbone.")}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    if recipe is PAPER:
        assert not backbone and all(key.startswith("spa_fen.backbone.") for key in same)
        assert stage.resume_state().keys() == changed
    else:  # the released recipe's running statistics adapt, its parameters do not
        assert backbone and all(key.endswith(statistics) for key in backbone)
        assert not any(key.endswith(statistics) for key in same)
        assert stage.resume_state().keys() == stage.state_dict().keys()


def test_losses_switched_off_are_logged_and_train_nothing():
    stage = Stage2(SpaFEN(BANDS, "random"), FRN(BANDS), PAPER, ("cc", "cos", "var"))
    batch = torch.rand(2, BANDS, 32, 32) * 0.2 - 0.1, torch.rand(2, BANDS, 32, 32)
    total, terms = stage(*batch)
    assert list(terms) == ["cc", "cos", "var", "mse", "ssim"] and terms["mse"] > 0
    assert total.item() == (terms["cc"] + 0.1 * terms["cos"] + 0.1 * terms["var"]).item()
    changed, _ = step(stage, *batch)
    assert not any(key.startswith("frn.") and key.endswith("weight") for key in changed)
    assert any(key.startswith("spa_fen.compression") for key in changed)


class Given(nn.Module):
    """A network that gives what it was given."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, _):
        return self.outputs


@pytest.fixture
def reference(golden) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(np.asarray(value)) for key, value in golden("losses").items()}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_losses_through_stage_1_are_those_of_the_reference(reference, recipe):
    encoder, decoder = (tuple(reference[f"{name}{i}"] for i in (1, 2, 3)) for name in ("f_e", "g_d"))
    outputs = Outputs(encoder, decoder, reference["h_rec"], reference["zcl_logits"])
    total, terms = Stage1(Given(outputs), recipe)(reference["h"])
    expected = {
        "sim": reference["sim_sum_over_scales"] / (3 if recipe is PAPER else 1),
        "mse": reference["mse"],
        "z": reference["z_eq2_on_raw" if recipe is PAPER else "z_bce_on_sigmoid"],
    }
    assert {k: v.item() for k, v in terms.items()} == pytest.approx(
        {k: v.item() for k, v in expected.items()}, rel=1e-5
    )
    sim, mse, z = expected.values()
    assert total.item() == pytest.approx((sim + 0.1 * mse + 0.1 * z).item(), rel=1e-5)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_losses_through_stage_2_are_those_of_the_reference(reference, recipe):
    stage = Stage2(Given(reference["f_spa"]), Given(reference["h_rec"]), recipe)
    total, terms = stage(reference["h"], reference["f_spe"])
    expected = {name: reference[name].item() for name in ("cc", "cos", "var", "mse")}
    expected["ssim"] = reference["one_minus_ssim_win5_range1"].item() / (1 if recipe is PAPER else 2)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)
    cc, cos, var, mse, ssim = expected.values()
    assert total.item() == pytest.approx(cc + 0.1 * cos + 0.1 * var + mse + 0.01 * ssim, rel=1e-5)


def test_the_total_of_stage_1_is_the_papers_sum_for_tensors_made_up_here():
    h, f, g = torch.zeros(2, 1, 2, 2), torch.ones(2, 3, 2, 2), torch.ones(2, 3, 2, 2)
    g[:, 0] = -1  # cosine (2 - 1) / 3
    total, terms = Stage1(Given(Outputs((f, f, f), (g, g, f), h + 2, torch.zeros(2, 1, 2, 2))))(h)
    expected = {"sim": 1 - (1 / 3 + 1 / 3 + 1) / 3, "mse": 4.0, "z": np.log(2)}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-6)
    assert total.item() == pytest.approx(expected["sim"] + 0.1 * 4 + 0.1 * np.log(2), rel=1e-6)
