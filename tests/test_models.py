"""The two networks: layers, counts, sizes, seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fers.networks import SpaFEN, SpeFEN
from fers.networks.backbones import frozen_layers
from fers.networks.spa_fen import ChannelAttention, LightSPP, SpectralCompression
from train_FERS.network import FRN


def count(network: nn.Module, trainable_only: bool = False) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad or not trainable_only)


@pytest.mark.parametrize("bands, expected", [(50, 676_965), (100, 686_665), (200, 764_561)])
def test_spe_fen_parameter_count(bands, expected):
    assert count(SpeFEN(bands, backbone=None)) == expected


@pytest.mark.parametrize("bands, expected", [(50, 119_131), (100, 140_131), (200, 186_131)])
def test_spa_fen_trainable_parameter_count(bands, expected):
    assert count(SpaFEN(bands, backbone=None), trainable_only=True) == expected


@pytest.mark.parametrize("bands, expected", [(50, 139_950), (100, 558_500), (200, 2_232_600)])
def test_frn_parameter_count(bands, expected):
    assert count(FRN(bands)) == expected


@pytest.fixture(scope="module")
def networks() -> tuple[SpeFEN, SpaFEN]:
    return SpeFEN(10, "random").eval(), SpaFEN(10, "random").eval()


@pytest.mark.parametrize("size", [(9, 9), (9, 31), (33, 20), (64, 64)])
def test_any_size_of_scene(networks, size):
    h = torch.rand(2, 10, *size) * 0.2 - 0.1
    for network in networks:
        with torch.no_grad():
            features = network(h)
        assert features.shape == h.shape
        assert features.min() >= 0  # both end in a ReLU, scaled by a gate in (0, 1) at the most
        assert torch.isfinite(features).all() and features.std() > 0


def drawn(layer: nn.Module) -> tuple[nn.Module, dict[str, np.ndarray]]:
    """A layer with weights of mixed sign, and these weights without the kernel's axes."""
    generator = torch.Generator().manual_seed(0)
    for weight in layer.parameters():
        weight.data.copy_(
            torch.randn(weight.shape, generator=generator) / weight.shape[-1 if weight.ndim < 2 else 1] ** 0.5
        )
    return layer, {name: weight.detach().double().numpy().squeeze() for name, weight in layer.named_parameters()}


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@torch.no_grad()
def test_the_compression_is_two_linear_maps_of_each_pixel():
    layer, w = drawn(SpectralCompression(9))
    h = np.random.RandomState(0).uniform(-1, 1, size=(2, 9, 4, 5))
    found = layer(torch.from_numpy(h).float()).numpy()
    for n, row, column in np.ndindex(2, 4, 5):
        hidden = np.maximum(w["0.weight"] @ h[n, :, row, column] + w["0.bias"], 0)
        assert found[n, :, row, column] == pytest.approx(sigmoid(w["2.weight"] @ hidden + w["2.bias"]), abs=1e-5)


@torch.no_grad()
def test_the_gate_of_a_channel_comes_from_all_channels_means():
    layer, w = drawn(ChannelAttention(64))
    rng = np.random.RandomState(0)
    x = rng.normal(size=(2, 64, 4, 5)) + 3 * rng.normal(size=(2, 64, 1, 1))
    found = layer(torch.from_numpy(x).float()).numpy()
    for one, gated in zip(x, found, strict=True):
        gate = sigmoid(w["fc.2.weight"] @ np.maximum(w["fc.0.weight"] @ one.mean((1, 2)), 0))
        assert np.ptp(gate) > 0.05 and gated == pytest.approx(one * gate[:, None, None], abs=1e-5)


def resized(level: np.ndarray, size: int) -> np.ndarray:
    """A square map, ``(C, s, s)``, to ``size`` x ``size`` px by bilinear interpolation between centres of pixels."""
    at = np.clip((np.arange(size) + 0.5) * level.shape[1] / size - 0.5, 0, level.shape[1] - 1)
    share = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(level.shape[1])))  # of each pixel in each place
    return share @ level @ share.T


@torch.no_grad()
def test_light_spp_pools_to_three_sizes_resizes_and_fuses():
    layer, w = drawn(LightSPP(7, channels=6))
    features = np.random.RandomState(0).normal(size=(1, 6, 8, 8))
    levels = [features[0].reshape(6, s, 8 // s, s, 8 // s).mean((2, 4)) for s in (1, 2, 4)]
    together = np.concatenate([resized(level, 11) for level in levels])
    fused = np.maximum(np.einsum("oi,ihw->ohw", w["fuse.0.weight"], together), 0)
    expected = np.maximum(np.einsum("oi,ihw->ohw", w["fuse.2.weight"], fused), 0)
    assert layer(torch.from_numpy(features).float(), (11, 11))[0].numpy() == pytest.approx(expected, abs=1e-5)
    assert (expected > 0).any() and (expected == 0).any()


def test_spe_fen_sees_its_surroundings_as_if_reflected(networks):
    # pad 4, crop 4: a scene reflected by hand has the same features in its middle.
    spe_fen = networks[0]
    h = torch.rand(1, 10, 16, 16) * 0.2 - 0.1
    outside = nn.functional.pad(h, [12] * 4, mode="reflect")
    with torch.no_grad():
        inside = spe_fen(outside)[:, :, 12:-12, 12:-12]
        # layer1 reaches 3 px: beyond 4 px of padding nothing is seen
        assert torch.allclose(spe_fen(h), inside, rtol=1e-4, atol=1e-4 * inside.abs().max())


def test_a_seed_is_the_same_weights_wherever_they_are_drawn():
    torch.manual_seed(1)
    first = SpeFEN(10, "random:3", seed=5).state_dict()
    torch.manual_seed(2)
    again = SpeFEN(10, "random:3", seed=5).state_dict()
    other = SpeFEN(10, "random:4", seed=6).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["cwl.weight"], other["cwl.weight"])
    key = "layer1.0.conv1.weight"
    assert not torch.equal(first[key], other[key])
    # numpy's RandomState is frozen, so this is the number on every version
    draw = np.random.RandomState([5, 0xCBD99B87]).standard_normal()  # crc32 of b"spe_fen.cwl.weight"
    assert first["cwl.weight"].flatten()[0].item() == pytest.approx(draw * (2 / 74) ** 0.5, rel=1e-6)


def test_initial_weights_have_the_distribution_described():
    spe_fen, spa_fen = SpeFEN(200, backbone=None), SpaFEN(200, backbone=None)
    assert spe_fen.cwl.weight.std().item() == pytest.approx((2 / 264) ** 0.5, rel=0.03)  # Xavier-normal
    assert spe_fen.fpl[0].weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.03)
    assert spe_fen.fpl[0].bias.abs().max() == 0
    assert spa_fen.spp.fuse[0].weight.abs().max().item() == pytest.approx(0.1, rel=0.01)
    assert spa_fen.spp.fuse[0].weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.03)
    assert spa_fen.compression[0].bias.abs().max().item() == pytest.approx(200**-0.5, rel=0.05)
    assert spa_fen.se.fc[0].weight.abs().max() <= 0.1


def test_frozen_layers_stay_frozen_and_in_eval_mode(networks):
    for network in (SpeFEN(10, "random"), SpaFEN(10, "random")):
        network.train()
        assert network.training and not any(m.training for m in network.backbone_layers().modules())
        assert not any(p.requires_grad for p in network.backbone_layers().parameters())
        before = {k: v.clone() for k, v in network.backbone_layers().state_dict().items()}
        network(torch.rand(2, 10, 16, 16)).square().mean().backward()
        assert all(torch.equal(v, before[k]) for k, v in network.backbone_layers().state_dict().items())
        trained = [n for n, p in network.named_parameters() if p.grad is not None]
        expected = [n for n, p in network.named_parameters() if not n.startswith((network.PREFIX, "zcl."))]
        assert trained == expected


def test_frozen_layers_hold_nothing_until_they_are_filled():
    layers = frozen_layers("wide_resnet101_2", ("layer1", "layer2", "layer3"))
    assert all(p.device.type == "meta" for p in layers.parameters())
    assert [len(stage) for stage in layers] == [3, 4, 23]
