"""Every file of the reference data under golden/, recomputed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import joined, shared_file

import train_FERD.losses as stage1
import train_FERS.losses as stage2
from fers.detectors.rx import rx, rx_array
from fers.networks import load_checkpoint
from fers.networks.import_released import import_released
from fers.networks.spa_fen import ChannelAttention, LightSPP, SpectralCompression
from fers.training.recipe import PAPER, RELEASED
from train_FERS.network import FRN

RELEASED_WEIGHTS = {
    "aviris_200": "ABU/200bands",
    "aviris_ng_50": "HAD100/50bands",
    "aviris_ng_100": "HAD100/100bands",
    "aviris_ng_200": "HAD100/200bands",
}


def relative(found, expected) -> float:
    """Largest difference over the largest value."""
    found, expected = (x.detach().numpy() if isinstance(x, torch.Tensor) else x for x in (found, expected))
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", RELEASED_WEIGHTS)
def test_released_spe_fen_gives_the_reference_features(name, golden, tmp_path):
    z = golden(f"spe_fen_{name}")
    out = tmp_path / "spe_fen.safetensors"
    import_released(shared_file(f"weights/{RELEASED_WEIGHTS[name]}"), out)
    network, info = load_checkpoint(out, bands=z["x"].shape[1])
    with torch.inference_mode():
        f_spe = network(torch.from_numpy(z["x"]))
    assert relative(f_spe, z["f_spe"]) < 1e-4
    assert (info.selection, info.recipe) == ("test-auc", "released")


@pytest.fixture
def spatial(golden):
    return {key: torch.from_numpy(value) for key, value in golden("spatial_c16").items()}


def weights(spatial, prefix, renamed=()):
    state = {k.removeprefix(prefix): v for k, v in spatial.items() if k.startswith(prefix)}
    for theirs, ours in renamed:
        state = {k.replace(theirs, ours, 1): v for k, v in state.items()}
    return state


def test_compression(spatial):
    network = SpectralCompression(16)
    network.load_state_dict(weights(spatial, "w/compression/", [("conv.", "0."), ("hidden.", "2.")]))
    assert relative(network(spatial["compression_in"]), spatial["compression_out"]) < 1e-5


def test_light_spp_and_se_block(spatial):
    spp, se = LightSPP(16), ChannelAttention(16)
    spp.load_state_dict({k: v for k, v in weights(spatial, "w/spp/").items() if not k.startswith("se.")})
    se.load_state_dict(weights(spatial, "w/spp/se."))
    out = se(spp(spatial["spp_in"], tuple(spatial["spp_out"].shape[-2:])))
    assert relative(out, spatial["spp_out"]) < 1e-5


def test_frn(spatial):
    frn = FRN(16).eval()
    frn.load_state_dict(weights(spatial, "w/frn/"))
    assert relative(frn(spatial["frn_in"]), spatial["frn_out"]) < 1e-5


@pytest.fixture
def losses(golden):
    return {key: torch.from_numpy(np.asarray(value)) for key, value in golden("losses").items()}


def test_stage_2_losses(losses):
    f_spe, f_spa, h, h_hat = (losses[k] for k in ("f_spe", "f_spa", "h", "h_rec"))
    assert stage2.l_cc(f_spe, f_spa).item() == pytest.approx(losses["cc"].item(), rel=1e-5)
    assert stage2.l_cos(f_spe, f_spa).item() == pytest.approx(losses["cos"].item(), rel=1e-5)
    assert stage2.l_var(f_spa).item() == pytest.approx(losses["var"].item(), rel=1e-5)
    assert stage2.l_mse(h_hat, h).item() == pytest.approx(losses["mse"].item(), rel=1e-5)


def test_stage_2_ssim_of_both_recipes(losses):
    valid = losses["one_minus_ssim_win5_range1"].item()
    assert stage2.l_ssim(losses["h_rec"], losses["h"], PAPER).item() == pytest.approx(valid, rel=1e-5)
    assert stage2.l_ssim(losses["h_rec"], losses["h"], RELEASED).item() == pytest.approx(valid / 2, rel=1e-5)
    # the released code pads its windows at the borders: a known difference, immaterial at weight 0.01
    padded = losses["ssim_half_win5_range1"].item()
    assert stage2.l_ssim(losses["h_rec"], losses["h"], RELEASED).item() == pytest.approx(padded, abs=0.01)


def test_stage_1_losses_of_both_recipes(losses):
    encoder, decoder = ([losses[f"{n}{i}"] for i in (1, 2, 3)] for n in ("f_e", "g_d"))
    total = losses["sim_sum_over_scales"].item()
    assert stage1.l_sim(encoder, decoder, RELEASED).item() == pytest.approx(total, rel=1e-5)
    assert stage1.l_sim(encoder, decoder, PAPER).item() == pytest.approx(total / 3, rel=1e-5)
    o = losses["zcl_logits"]
    assert stage1.l_z(o, PAPER).item() == pytest.approx(losses["z_eq2_on_raw"].item(), rel=1e-5)
    assert stage1.l_z(o, RELEASED).item() == pytest.approx(losses["z_bce_on_sigmoid"].item(), rel=1e-5)
    assert stage1.l_mse(losses["h_rec"], losses["h"]).item() == pytest.approx(losses["mse"].item(), rel=1e-5)


def test_rx_and_fusions(golden):
    z = golden("rx_fusion")
    h, f_spe, f_spa = (torch.from_numpy(z[k]) for k in ("h", "f_spe", "f_spa"))
    assert relative(rx(h)[0], z["rx_h"]) < 1e-6
    assert relative(joined(rx, "fused-A", h, f_spe, f_spa)[0], z["fusion_a"]) < 1e-6
    assert relative(joined(rx, "fused-B", h, f_spe, f_spa)[0], z["fusion_b"]) < 1e-6
    assert relative(rx_array(np.moveaxis(z["h"][0], 0, -1)), z["rx_h"]) < 1e-6
