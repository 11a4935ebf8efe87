"""The settings: their cubes, made window by window, are those of the whole features to the last bit."""

from __future__ import annotations

import pytest
import torch

from fers.fast.deploy import deploy
from fers.networks import SpaFEN, SpeFEN
from fers.scoring import networks
from fers.scoring.networks import Networks
from fers.scoring.settings import FEATURES, FUSIONS, SETTINGS, setting_name


@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("name", SETTINGS)
def test_windows_make_no_difference(name, together, monkeypatch):
    monkeypatch.setattr(networks, "TILE", 7)
    spe, spa = deploy(SpeFEN(10, "random")), deploy(SpaFEN(10, "random"))
    spe.tile = 16
    h = torch.rand(2, 41, 30, 10, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2) * 0.2 - 0.1
    before = h.clone()
    with torch.no_grad():
        found = list(Networks(spe=spe, spa=spa).cubes(SETTINGS[name].cubes, h, together))
        parts = {"h": h, "f_spe": torch.cat([spe(one) for one in h.split(1)]), "f_spa": spa(h)}
    assert torch.equal(h, before) and len(found) == 2 // together
    for place, kind in enumerate(SETTINGS[name].cubes):
        whole = parts[kind[0]]
        for part in kind[1:]:
            whole = whole + parts[part]
        made = torch.cat([cubes[place] for cubes in found])
        if together == 1:  # several scenes at a time round otherwise
            assert torch.equal(made, whole)
        torch.testing.assert_close(made, whole)


def test_features_and_fusions_name_every_setting():
    fused = {setting_name("fused", fusion) for fusion in FUSIONS}
    assert {setting_name(features, None) for features in FEATURES if features != "fused"} | fused == set(SETTINGS)
