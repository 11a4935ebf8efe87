"""The product against golden files that ``python -m tests.reference`` wrote with random weights: they come with the code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import joined

import train_FERD.losses as stage1
import train_FERS.losses as stage2
from fers.detectors.rx import rx
from fers.fast.deploy import deploy
from fers.networks import SpaFEN, SpeFEN
from fers.training.recipe import RECIPES
from tests import reference
from train_FERD.stage import Stage1
from train_FERS.network import FRN
from train_FERS.stage import Stage2

FILES = ("spe_fen", "spa_fen", "frn", "stage1_losses", "stage2_losses", "detection")


def read(name: str) -> dict[str, torch.Tensor]:
    with np.load(reference.GOLDEN / f"{name}.npz") as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive.files}


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference over the largest value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def test_the_files_are_what_the_reference_gives_today():
    made = reference.golden()
    assert tuple(made) == FILES
    for name, arrays in made.items():
        stored = read(name)
        assert stored.keys() == arrays.keys()
        assert all(relative(arrays[key], stored[key]) < 1e-5 for key in stored), name


@pytest.mark.parametrize("form", [lambda network: network, deploy], ids=["plain", "deployed"])
@pytest.mark.parametrize("name, make, bands", [("spe_fen", SpeFEN, 10), ("spa_fen", SpaFEN, 8)])
@torch.no_grad()
def test_branches(name, make, bands, form):
    z = read(name)
    assert relative(form(make(bands, "random").eval())(z["h"]), z["f_spe" if name == "spe_fen" else "f_spa"]) < 1e-5


@torch.no_grad()
def test_frn():
    z = read("frn")
    assert relative(FRN(8).eval()(z["features"]), z["h_hat"]) < 1e-5


def test_stage_1_losses():
    z = read("stage1_losses")
    encoder, decoder = ([z[f"{letter}{i}"] for i in (1, 2, 3)] for letter in "fg")
    assert relative(stage1.l_sim(encoder, decoder), z["l_sim"]) < 1e-5
    assert relative(stage1.l_z(z["o"]), z["l_z"]) < 1e-5


def test_stage_2_losses():
    z = read("stage2_losses")
    both, decoded = (z["f_spe"], z["f_spa"]), (z["h_hat"], z["h"])
    assert relative(stage2.l_cc(*both), z["l_cc"]) < 1e-5
    assert relative(stage2.l_cos(*both), z["l_cos"]) < 1e-5
    assert relative(stage2.l_var(z["f_spa"]), z["l_var"]) < 1e-5
    assert relative(stage2.l_mse(*decoded), z["l_mse"]) < 1e-5
    assert relative(stage2.l_ssim(*decoded), z["l_ssim"]) < 1e-5


def test_ssim_is_that_of_plain_gaussian_windows():
    z = read("stage2_losses")
    weights = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 1.5**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2

    def mean(x):
        return (np.lib.stride_tricks.sliding_window_view(x, (5, 5), axis=(2, 3)) * weights).sum((4, 5))

    a, b = (z[name].double().numpy() for name in ("h_hat", "h"))
    contrast = 2 * (mean(a * b) - mean(a) * mean(b)) + 0.03**2
    contrast /= mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2 + 0.03**2
    ssim = (2 * mean(a) * mean(b) + 0.01**2) / (mean(a) ** 2 + mean(b) ** 2 + 0.01**2) * contrast
    assert stage2.l_ssim(z["h_hat"], z["h"]).item() == pytest.approx(1 - ssim.mean(), rel=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_total_of_stage_1_is_the_papers_sum(recipe):
    z = read("stage1_losses")
    encoder, decoder = (tuple(z[f"{letter}{i}"] for i in (1, 2, 3)) for letter in "fg")
    h = torch.zeros(2, 1, 8, 8)
    stage = Stage1(lambda _: (encoder, decoder, h + 0.5, z["o"]), RECIPES[recipe])
    total, terms = stage(h)
    expected = {"sim": z["l_sim"].item(), "mse": 0.25, "z": z["l_z"].item()}
    if recipe == "released":
        expected |= {"sim": 3 * expected["sim"], "z": torch.log1p(z["o"].sigmoid().exp()).mean().item()}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)
    assert total.item() == pytest.approx(expected["sim"] + 0.1 * 0.25 + 0.1 * expected["z"], rel=1e-6)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_total_of_stage_2_is_the_papers_sum(recipe):
    z = read("stage2_losses")
    total, terms = Stage2(lambda _: z["f_spa"], lambda _: z["h_hat"], RECIPES[recipe])(z["h"], z["f_spe"])
    expected = {name: z[f"l_{name}"].item() for name in ("cc", "cos", "var", "mse", "ssim")}
    expected["ssim"] /= 1 if recipe == "paper" else 2
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)
    cc, cos, var, mse, ssim = expected.values()
    assert total.item() == pytest.approx(cc + 0.1 * cos + 0.1 * var + 1.0 * (mse + 0.01 * ssim), rel=1e-6)


def test_rx_and_fusions():
    z = read("detection")
    features = z["f_spe"], z["f_spa"]
    assert relative(rx(z["h"]), z["rx"]) < 1e-9
    for fusion in "AB":
        assert relative(joined(rx, f"fused-{fusion}", z["h"], *features), z[fusion]) < 1e-9
