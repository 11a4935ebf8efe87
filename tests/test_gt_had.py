"""GT-HAD against its golden file and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fers.detectors import gt_had
from fers.detectors.base import minmax
from fers.detectors.gt_had import GTHAD, GTHADNetwork, Trainee, cut, fold, matches

NAMES = {
    **{"conv_head": "head", "attn_layer.norm1": "norm1", "attn_layer.attn.fc": "query", "attn_layer.norm2": "norm2"},
    **{"attn_layer.mlp.fc1": "mlp.0", "attn_layer.mlp.fc2": "mlp.2", "conv_tail": "tail"},
}


def reference_network(z: dict[str, np.ndarray]) -> GTHADNetwork:
    network, state = GTHADNetwork(10, channels=8), {}
    for key in (key for key in z if key.startswith("w/")):
        layer, _, kind = key.removeprefix("w/").rpartition(".")
        state[f"{NAMES[layer]}.{kind}"] = torch.from_numpy(z[key])
    network.load_state_dict(state)
    return network


@torch.no_grad()
def test_blocks_network_fold_and_gate_agree_with_the_reference(golden):
    z = golden("gthad")
    image, network = torch.from_numpy(z["image"])[None], reference_network(z)
    blocks = cut(image)
    assert np.array_equal(blocks[:2].numpy(), z["blocks0"]) and gt_had._margins(image.shape) == z["paddings"].tolist()
    output = network(blocks, torch.zeros(42, dtype=torch.bool))
    assert np.abs(output[:4].numpy() - z["out_none"]).max() < 2e-6
    assert np.abs(network(blocks, torch.from_numpy(z["match"]) > 0)[:4].numpy() - z["out_match"]).max() < 2e-6
    assert np.abs(fold(output, image.shape).numpy() - z["fold"]).max() < 2e-6
    found = matches(cut(torch.from_numpy(z["search_back"])[None]), blocks)
    assert np.array_equal(found.numpy(), z["search_match"] > 0)


def test_training_agrees_with_the_reference(golden):
    z = golden("gthad")
    trainee = Trainee(reference_network(z), torch.from_numpy(z["image"])[None])
    losses, gates = [], []
    for epoch, order in enumerate(torch.from_numpy(z["order"]), 1):
        losses += trainee.epoch(order, gate=epoch in (10, 20), batch=16)
        if epoch in (10, 20):
            gates.append(trainee.matched.numpy())
    assert losses == pytest.approx(z["losses"].tolist(), rel=5e-6)
    assert np.array_equal(np.array(gates), z["matches"] > 0)
    assert np.abs(minmax(trainee.score())[0].numpy() - z["map"]).max() < 5e-6


@pytest.mark.parametrize("bands, count", [(102, 136582), (188, 235740), (205, 255341)])
def test_parameters_are_as_many_as_the_architecture_has(bands, count):
    assert sum(p.numel() for p in GTHADNetwork(bands).parameters()) == count


@pytest.mark.parametrize("shape", [(1, 1), (9, 10), (17, 20), (11, 3)])
def test_fold_puts_blocks_back_where_they_were(shape):
    image = torch.rand(1, 2, *shape, generator=torch.Generator().manual_seed(0))
    blocks = cut(image)
    assert blocks.shape == (-(-shape[0] // 3) * -(-shape[1] // 3), 2, 9, 9)
    torch.testing.assert_close(fold(blocks, image.shape), image)


def test_blocks_lie_at_a_stride_of_three_and_overlapping_values_are_averaged():
    image = torch.arange(12.0 * 12).view(1, 1, 12, 12)
    padded = np.pad(image[0, 0].numpy(), [(3, 3), (3, 3)], mode="edge")
    blocks = cut(image)
    assert all(
        np.array_equal(blocks[4 * i + j, 0].numpy(), padded[3 * i : 3 * i + 9, 3 * j : 3 * j + 9])
        for i in range(4)
        for j in range(4)
    )
    total, count = np.zeros((18, 18)), np.zeros((18, 18))
    values = torch.rand(16, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    for n, block in enumerate(values[:, 0].numpy()):
        rows, columns = slice(3 * (n // 4), 3 * (n // 4) + 9), slice(3 * (n % 4), 3 * (n % 4) + 9)
        total[rows, columns] += block
        count[rows, columns] += 1
    assert fold(values, image.shape)[0, 0].numpy() == pytest.approx((total / count)[3:15, 3:15], rel=1e-5)


@torch.no_grad()
def test_attention_is_a_mean_of_patches_that_leaves_out_the_own_one_in_the_anomaly_branch():
    network = GTHADNetwork(3, channels=4)
    z = torch.randn(2, 9, 9, 4, generator=torch.Generator().manual_seed(0))
    found = network._attend(z, torch.tensor([True, False])).numpy()
    weight, bias = network.query.weight.numpy(), network.query.bias.numpy()
    places = [(slice(3 * i, 3 * i + 3), slice(3 * j, 3 * j + 3)) for i in range(3) for j in range(3)]
    for n, background in enumerate((True, False)):
        image = z[n].numpy()
        queries = [(image[place] @ weight.T + bias).ravel() for place in places]
        for own, place in enumerate(places):
            likeness = np.array([queries[own] @ key / 18**0.5 for key in queries])
            weights = np.exp(likeness - likeness.max()) * (background | (np.arange(9) != own))
            expected = sum(w * image[other] for w, other in zip(weights / weights.sum(), places, strict=True))
            assert found[n][place] == pytest.approx(expected, abs=1e-5)


def test_a_block_is_matched_where_no_other_is_nearer():
    blocks = torch.rand(5, 2, 9, 9, generator=torch.Generator().manual_seed(0))
    rebuilt = blocks + 0.01
    rebuilt[3] = blocks[1]
    assert matches(rebuilt, blocks).tolist() == [True, True, True, False, True]


def test_the_score_smooths_each_blocks_error_over_bands_and_pixels():
    image = torch.rand(1, 6, 9, 9, generator=torch.Generator().manual_seed(0))
    trainee = Trainee(GTHADNetwork(6, channels=4), image)
    with torch.no_grad():
        error = (trainee.network(trainee.blocks, trainee.matched) - trainee.blocks).square().numpy()
    padded = np.pad(error, [(0, 0), (2, 2), (1, 1), (1, 1)])
    smooth = np.array([[[[padded[n, b : b + 5, r : r + 3, c : c + 3].sum() / 45 for c in range(9)] for r in range(9)] for b in range(6)] for n in range(9)])  # fmt: skip
    expected = fold(torch.from_numpy(smooth), image.shape).sum(1)
    torch.testing.assert_close(trainee.score(), expected, rtol=1e-5, atol=1e-7)


def test_the_gate_is_set_every_25_epochs_but_not_after_the_last(monkeypatch):
    gates = []
    monkeypatch.setattr(Trainee, "epoch", lambda self, order, gate: gates.append(gate))
    GTHAD(epochs=75)(torch.rand(1, 2, 9, 9))
    assert [epoch for epoch, gate in enumerate(gates, 1) if gate] == [25, 50]
