"""The networks for inference: the same numbers as the plain ones, from less work."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import shared_file
from torch import nn
from torch.nn import functional as F

from fers.datasets import abu
from fers.detectors.rx import rx
from fers.evaluation.metrics import auc
from fers.fast import bounds
from fers.fast.deploy import deploy, pooling_weights, resizing_weights
from fers.fast.export import ExportError, export
from fers.networks import SpaFEN, SpeFEN, load_checkpoint
from fers.networks.import_released import import_released
from fers.scenes import normalise
from fers.weights import export_network as main


def cube(n=1, bands=10, height=24, width=31, seed=0) -> torch.Tensor:
    return torch.rand(n, bands, height, width, generator=torch.Generator().manual_seed(seed)) * 0.2 - 0.1


def difference(network: nn.Module, deployed: nn.Module, h: torch.Tensor) -> float:
    """Largest difference of the features as a share of their maximum."""
    with torch.no_grad():
        expected, features = network(h), deployed(h)
    assert features.shape == expected.shape
    return float((features - expected).abs().max() / expected.abs().max())


def with_batch_norms_of_a_trained_network(network: nn.Module) -> nn.Module:
    """Batch norms that scale, shift, and have statistics: a random network's do nothing."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.5, 0.5),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2.0),
            ):
                tensor.uniform_(low, high, generator=generator)
    return network.eval()


@pytest.fixture(scope="module", params=[SpeFEN, SpaFEN])
def network(request) -> nn.Module:
    return with_batch_norms_of_a_trained_network(request.param(10, "random"))


@pytest.mark.parametrize("size", [(9, 9), (17, 64), (64, 64), (33, 20)])
@pytest.mark.parametrize("n", [1, 3])
def test_deployed_network_is_the_plain_one(network, n, size):
    deployed, h = deploy(network), cube(n, 10, *size)
    assert difference(network, deployed, h) < 1e-5
    assert deployed(h).stride(1) == 1  # channels last, like the cubes that are read and what the other branch gives


@pytest.mark.parametrize("bands", [50, 100, 200])
def test_deployed_network_is_the_plain_one_at_the_published_band_numbers(bands):
    for network in (SpeFEN(bands, "random").eval(), SpaFEN(bands, "random").eval()):
        assert difference(network, deploy(network), cube(1, bands)) < 1e-5


def test_deploying_changes_nothing_in_the_network(network):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    deployed = deploy(network)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not deployed.training and not any(p.requires_grad for p in deployed.parameters())


def test_tiles_make_no_difference():
    network = with_batch_norms_of_a_trained_network(SpeFEN(10, "random"))
    deployed = deploy(network)
    for tile in (16, 23, 7):
        deployed.tile = tile
        assert difference(network, deployed, cube(2, 10, 50, 37)) < 1e-5


def test_dead_channels_are_found_and_cut_without_a_difference():
    network = with_batch_norms_of_a_trained_network(SpeFEN(10, "random"))
    block = network.layer1[1]
    with torch.no_grad():
        block.bn1.weight[:40] = 0  # zero at every pixel: no weight, and a bias that ReLU ends
        block.bn1.bias[:38] = -0.1
        block.bn1.bias[38] = 0
        block.bn1.bias[39] = 0.3  # the same at every pixel, but not zero: it must stay
        block.conv2.weight[7:25] = 0
        block.bn2.bias[7:25], block.bn2.running_mean[7:25] = -1, 0
    deployed = deploy(network)
    # 128 - 39 and 128 - 18 are alive; matrix products like multiples of 8
    assert [conv.out_channels for conv in (deployed.blocks[1].conv1, deployed.blocks[1].conv2)] == [96, 112]
    assert float(deployed.blocks[1].conv1.bias.max()) >= 0.3
    assert [conv.out_channels for conv in (deployed.blocks[0].conv1, deployed.blocks[0].conv2)] == [128, 128]
    assert difference(network, deployed, cube()) < 1e-5


@pytest.mark.parametrize("size", [1, 3])
def test_bounds_are_the_values_at_the_worst_input(size):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 64, size)
    x = torch.randn(2, 4, 12, 9) * 0.1
    low, high = x.amin((0, 2, 3)), x.amax((0, 2, 3))
    with torch.no_grad():
        most = bounds.upper_bound(conv, low, high)
        worst = [  # a patch that holds each weight's worst value
            conv(torch.where(weight > 0, high[:, None, None], low[:, None, None])[None])[0, k, 0, 0]
            for k, weight in enumerate(conv.weight)
        ]
        assert torch.allclose(most, torch.stack(worst), atol=1e-6)
        assert bool((conv(x).amax((0, 2, 3)) <= most + 1e-6).all())
        x[:, 3] = 0  # what lies behind the given channels is zero
        few = bounds.upper_bound(conv, low[:3], high[:3])
        assert bool((conv(x).amax((0, 2, 3)) <= few + 1e-6).all() and (few <= most + 1e-6).any())


def network_of_silent_channels() -> nn.Module:
    """Biases decide, as with ImageNet's layer1."""
    network = with_batch_norms_of_a_trained_network(SpeFEN(10, "random"))
    with torch.no_grad():
        for block in network.layer1:
            for norm in (block.bn1, block.bn2, block.bn3):
                norm.bias.uniform_(-3, 1, generator=torch.Generator().manual_seed(2))
    return network


def test_channels_are_left_out_where_a_scene_leaves_them_silent(monkeypatch):
    """The path by active channels is the plain one on scenes that need many channels and on ones that need few."""
    network, widths, conv2d = network_of_silent_channels(), [], F.conv2d
    deployed = deploy(network)
    total = []
    for scale in (0, 1, 20):
        widths.clear()
        with monkeypatch.context() as patch:
            patch.setattr(F, "conv2d", lambda *a: widths.append(len(a[1])) or conv2d(*a))
            assert difference(network, deployed, cube(2) * scale) < 1e-5
        total.append(sum(widths))
    assert total[0] < total[1] < total[2]


def test_bounds_are_used_only_where_a_network_has_silent_channels():
    untrained, silent = SpeFEN(10, "random").eval(), network_of_silent_channels()
    assert (deploy(untrained).bounds, deploy(silent).bounds, deploy(silent, bounds=False).bounds) == (
        False,
        True,
        False,
    )


def test_a_missing_value_is_not_taken_for_a_silent_channel():
    h = cube()
    h[:, :, 12, 15] = float("nan")
    with torch.no_grad():
        assert deploy(network_of_silent_channels())(h)[:, :, 12, 15].isnan().all()


@pytest.mark.parametrize("height, width", [(5, 5), (5, 6), (6, 7)])  # the extremes are taken of four pixels at a time
def test_any_number_of_pixels_is_the_same_with_and_without_bounds(height, width):
    network = network_of_silent_channels()
    with torch.no_grad():
        for scale in (1, 5):
            h = cube(1, 10, height, width) * scale
            expected = deploy(network, bounds=False)(h)
            assert torch.allclose(deploy(network)(h), expected, atol=1e-5 * float(expected.max()))


def test_what_is_deployed_moves_as_a_whole_and_its_state_is_weights_only():
    deployed = deploy(network_of_silent_channels())
    moved = deployed.to("meta")
    tensors = [*moved.parameters(), *moved.buffers()]
    held = [v for m in moved.modules() for v in vars(m).values() if isinstance(v, torch.Tensor)]
    assert all(tensor.device.type == "meta" for tensor in tensors) and not held
    assert all(key.endswith(("weight", "bias")) for key in moved.state_dict())


@pytest.mark.parametrize("bins", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 64])
def test_pooling_and_resizing_matrices_are_torchs_operations(length, bins):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, length, length + 3, generator=generator)
    pooled = pooling_weights(length, bins) @ x @ pooling_weights(length + 3, bins).T
    assert torch.allclose(pooled, F.adaptive_avg_pool2d(x, bins), atol=1e-5)
    x = torch.rand(1, 3, bins, bins, generator=generator)
    resized = resizing_weights(length, bins) @ x @ resizing_weights(length + 3, bins).T
    expected = F.interpolate(x, (length, length + 3), mode="bilinear", align_corners=False)
    assert torch.allclose(resized, expected, atol=1e-5)


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> SpeFEN:
    path = tmp_path_factory.mktemp("released") / "spe_fen.safetensors"
    import_released(shared_file("weights/ABU/200bands"), path)
    return load_checkpoint(path)[0]


def test_released_weights_have_silent_channels(released):
    assert deploy(released).bounds


def test_imagenets_dead_channels_are_cut(released):
    def dead(conv: torch.nn.Conv2d) -> int:
        return int((conv.weight.flatten(1).eq(0).all(1) & (conv.bias <= 0)).sum())

    pairs = [(block.conv1, block.conv2) for block in deploy(released).blocks]
    # 32 and 27, 24 and 17, 36 and 4 are dead; the others alone, in groups of 8, are left
    assert [[conv.out_channels for conv in pair] for pair in pairs] == [[96, 104], [104, 112], [96, 128]]
    assert [[dead(conv) for conv in pair] for pair in pairs] == [[0, 3], [0, 1], [4, 4]]


@pytest.mark.slow
def test_every_abu_scene_has_the_same_auc(released):
    deployed = deploy(released)
    for labelled in abu.scenes(shared_file("abu"), names="all"):
        scene, mask = labelled.load()
        h = torch.from_numpy(normalise(scene, 200).transpose(2, 0, 1).copy())[None]
        assert difference(released, deployed, h) < 1e-5
        with torch.no_grad():
            plain, fast = (auc(rx(h + network(h))[0].numpy(), mask) for network in (released, deployed))
        assert fast == pytest.approx(plain, abs=1e-4), labelled.name


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_exported_file_gives_the_same_features_at_any_size(network, tmp_path, suffix):
    path = export(network, tmp_path / f"network{suffix}")
    if suffix == ".onnx":
        session = onnxruntime.InferenceSession(path)

        def exported(h: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(session.run(["features"], {"h": h.numpy()})[0])
    else:
        exported = torch.export.load(path).module()
    for n, height, width in ((1, 64, 64), (3, 33, 90), (1, 17, 200)):
        assert difference(network, exported, cube(n, 10, height, width)) < 1e-5


@pytest.mark.slow
def test_export_command(checkpoints, tmp_path, capsys):
    assert main([str(checkpoints / "spe_fen.safetensors"), str(tmp_path / "spe.onnx")]) == 0
    assert "wrote" in capsys.readouterr().out and (tmp_path / "spe.onnx").is_file()
    assert main([str(tmp_path / "none.safetensors"), str(tmp_path / "spe.onnx")]) == 2
    assert "no such checkpoint" in capsys.readouterr().err
    assert main([str(checkpoints / "spe_fen.safetensors"), str(tmp_path / "spe.txt")]) == 2
    assert "must end in .onnx or .pt2" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.txt"))
    with pytest.raises(ExportError):
        export(SpeFEN(10, "random"), np.str_("x"))
