"""A large scene's cubes, made window by window, are those of the whole features, to the last bit."""

from __future__ import annotations

import pytest
import torch

from fers.fast.deploy import deploy
from fers.networks import SpaFEN, SpeFEN
from fers.scoring import networks
from fers.scoring.networks import Networks
from fers.scoring.views import VIEWS

ROWS = [name for name, view in VIEWS.items() if view.joined is None and "aetnet" not in view.needs]


@pytest.mark.parametrize("scenes", [1, 2])
@pytest.mark.parametrize("name", ROWS)
def test_windows_make_no_difference(name, scenes, monkeypatch):
    monkeypatch.setattr(networks, "TILE", 7)
    view = VIEWS[name]
    spe, spa = deploy(SpeFEN(10, "random")), deploy(SpaFEN(10, "random"))
    spe.tile = 16
    loaded = Networks(spe=spe if "spe_fen" in view.needs else None, spa=spa if "spa_fen" in view.needs else None)
    h = torch.rand(2, 41, 30, 10, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2) * 0.2 - 0.1
    before = h.clone()
    with torch.no_grad():
        expected = [view.cubes(cube, features) for cube, features in loaded.features(h, scenes)]
        found = list(loaded.views(view, h, scenes))
    assert torch.equal(h, before) and len(found) == len(expected) == 2 // scenes
    for cubes, whole in zip(found, expected, strict=True):
        assert len(cubes) == len(whole)
        for cube, other in zip(cubes, whole, strict=True):
            assert torch.equal(cube, other) and cube.stride() == other.stride()
