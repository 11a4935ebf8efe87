"""The residual layers are torchvision's, by name, shape, value and where their weights are."""

from __future__ import annotations

import pytest
import torch
import torchvision

from fers.networks.resnet import RESNETS
from fers.networks.spa_fen import SpaFEN

LAYERS = {"wide_resnet50_2": ("layer1", "layer2"), "wide_resnet101_2": ("layer1", "layer2"), "resnet34": SpaFEN.FROZEN}


@pytest.mark.parametrize("name", RESNETS)
def test_layers_are_torchvisions(name):
    ours = RESNETS[name].layers(LAYERS[name]).eval()
    with torch.device("meta"):
        whole = getattr(torchvision.models, name)(weights=None)
    theirs = torch.nn.Sequential()
    for layer in LAYERS[name]:
        theirs.add_module(layer, getattr(whole, layer))
    theirs.to_empty(device="cpu").eval()
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.rand(1, 3 if "conv1" in LAYERS[name] else 64, 33, 24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("name", RESNETS)
def test_every_stage_has_torchvisions_shapes(name):
    with torch.device("meta"):
        stages = ("layer1", "layer2", "layer3", "layer4")
        ours, whole = RESNETS[name].layers(stages), getattr(torchvision.models, name)(weights=None)
        theirs = torch.nn.ModuleDict({stage: getattr(whole, stage) for stage in stages})
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize("name", RESNETS)
def test_weights_are_where_torchvision_has_them(name):
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    assert RESNETS[name].url == weights.url
    assert RESNETS[name].megabytes == round(weights.meta["_file_size"])
