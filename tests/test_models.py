"""The two networks: layers, counts, sizes, seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fers.networks import SpaFEN, SpeFEN
from fers.networks.backbones import frozen_layers
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
