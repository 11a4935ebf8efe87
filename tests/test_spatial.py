"""Spa-FEN on large scenes: equal to the network on the whole scene, and to training patches by windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fers.fast.deploy import deploy
from fers.networks import SpaFEN
from fers.scoring import spatial
from fers.scoring.spatial import false_rgb, layer3, spatial_state


@pytest.fixture(scope="module")
def network():
    return deploy(SpaFEN(9, "random", seed=3).eval())


def scene(height, width) -> torch.Tensor:
    return torch.rand(1, 9, height, width, generator=torch.Generator().manual_seed(0)) * 0.2 - 0.1


def by_blocks(network, h, mode) -> torch.Tensor:
    cuts = range(0, h.shape[2], 20)
    rgb = torch.cat([false_rgb(network, h[:, :, row : row + 20]) for row in cuts], dim=2)[0]
    state = spatial_state(network, rgb, mode)
    rows = [np.arange(row, min(row + 20, h.shape[2])) for row in cuts]
    return torch.cat([state.features(network, some) for some in rows], dim=2)


@pytest.mark.parametrize("shape", [(64, 64), (50, 131)])
def test_scene_mode_is_the_network_on_the_whole_scene(network, shape):
    h = scene(*shape)
    expected = network(h)
    assert float(expected.max()) > 0
    assert (by_blocks(network, h, "scene") - expected).abs().max() <= 1e-5 * expected.max()


def test_window_mode_is_the_network_on_a_training_patch(network):
    h = scene(64, 64)
    expected = network(h)
    assert (by_blocks(network, h, "window") - expected).abs().max() <= 1e-5 * expected.max()


def test_window_mode_does_not_see_what_is_far_and_scene_mode_does(network):
    h = scene(600, 24)
    other = h.clone()
    other[:, :, 500:] = 0.1
    for mode, same in (("window", True), ("scene", False)):
        first, second = (by_blocks(network, x, mode)[:, :, :64] for x in (h, other))
        assert torch.equal(first, second) == same


def test_tiles_with_their_halo_are_the_whole_map(network, monkeypatch):
    rgb = torch.rand(3, 500, 40, generator=torch.Generator().manual_seed(0))
    whole = layer3(network, rgb)
    monkeypatch.setattr(spatial, "_TILE", 64)
    tiled = layer3(network, rgb)
    assert (tiled - whole).abs().max() <= 1e-5 * whole.max()
    monkeypatch.setattr(spatial, "HALO", 64)
    assert (layer3(network, rgb) - whole).abs().max() > 1e-3 * whole.max()
