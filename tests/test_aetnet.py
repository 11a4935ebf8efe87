"""AETNet against its golden file: network, loss, gradients; its masks and its training."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch
from conftest import run_had100, write_had100
from scipy.ndimage import label

from baselines.aetnet import AETNetStage, gradient_magnitude, grow_targets, msgms_loss, msgms_terms, random_masks
from baselines.train import AETNetOptions, main
from fers.comparison.command import main as compare_main
from fers.detectors.aetnet import EnhancedRX
from fers.detectors.rx import RX
from fers.networks import CheckpointError, CheckpointInfo, save_checkpoint
from fers.networks.aetnet import AETNet
from fers.networks.backbones import state_hash
from fers.networks.checkpoint import load_branch
from fers.scenes import normalise, read_scene
from fers.scoring.pipeline import DetectConfig, Pipeline
from fers.training.device import make_accelerator
from fers.training.loop import Trainer
from fers.training.resume import RunFolder
from fers.util.errors import FersError


def by_rule(network: AETNet) -> None:
    """Weights from a rule, so that they need no file."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("norm2.weight"):
                low, high = 0.5, 1.5
            elif name.endswith("bias"):
                low, high = -0.2, 0.2
            elif name.endswith("table"):
                low, high = -1.0, 1.0
            else:
                bound = np.prod(parameter.shape[1:]) ** -0.5
                low, high = -bound, bound
            draw = np.random.RandomState(zlib.crc32(name.encode())).uniform(low, high, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(draw))


def test_network_loss_and_gradients_agree_with_the_reference(golden):
    z = golden("aetnet")
    network = AETNet(6).double()
    by_rule(network)
    parameters = dict(network.named_parameters())
    assert {name: str(tuple(p.shape)) for name, p in parameters.items()} == dict(
        zip(z["names"], z["shapes"], strict=True)
    )
    sums = np.array([parameters[name].sum().item() for name in z["names"]])
    assert sums == pytest.approx(z["weight_sums"], abs=1e-10)
    steps = {}
    for name, module in network.named_children():
        module.register_forward_hook(lambda _, __, out, name=name: steps.update({name: out.detach()}))
    output = network(torch.from_numpy(z["x"]))
    for name, out in steps.items():
        assert tuple(out.shape) == tuple(z[f"shape/{name}"]), name
        assert np.abs(out[0, :2, :4, :4].numpy() - z[f"corner/{name}"]).max() < 1e-12, name
        assert [out.mean().item(), out.std(correction=0).item()] == pytest.approx(z[f"mean_std/{name}"], rel=1e-3), name
    assert (output - torch.from_numpy(z["output"])).abs().max() < 1e-12
    loss = msgms_loss(torch.from_numpy(z["target"]), output)
    loss.backward()
    assert loss.item() == pytest.approx(z["msgms"].item(), rel=1e-10)
    norms = np.array([parameters[name].grad.norm().item() for name in z["names"]])
    assert norms == pytest.approx(z["grad_norms"], rel=1e-8)


def test_loss_at_each_scale_agrees_with_the_reference(golden):
    z = golden("aetnet")
    terms = msgms_terms(torch.from_numpy(z["x"]), torch.from_numpy(z["target"]))
    assert terms.numpy() == pytest.approx(z["msgms_terms_input_vs_target"], rel=1e-10)
    assert terms.mean().item() == pytest.approx(z["msgms_input_vs_target"].item(), rel=1e-10)


@pytest.mark.parametrize("bands, count", [(50, 893_192), (100, 921_992), (200, 979_592)])
def test_parameters_are_as_many_as_the_architecture_has(bands, count):
    assert sum(p.numel() for p in AETNet(bands).parameters()) == count


def test_gradient_magnitude_of_a_ramp_is_its_closed_form():
    """A ramp of slope s gives 2 s across, 0 along, and 1.5 s in both diagonals."""
    ramp = 0.3 * torch.arange(8.0).expand(1, 1, 8, 8)
    expected = 0.3 * ((2**2 + 0 + 1.5**2 + 1.5**2) / 4) ** 0.5
    assert gradient_magnitude(ramp).unique().tolist() == pytest.approx(
        [expected] * gradient_magnitude(ramp).unique().numel()
    )
    assert gradient_magnitude(ramp).shape == (1, 1, 6, 6)


def test_loss_is_zero_for_equal_cubes_and_finite_where_there_is_no_gradient():
    cube = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert msgms_loss(cube, cube + 0.5).item() == pytest.approx(0, abs=1e-6)
    flat = torch.zeros(1, 3, 64, 64, requires_grad=True)
    loss = msgms_loss(flat, cube[:1])
    loss.backward()
    assert loss.item() > 0 and flat.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(64, 64), (100, 100), (80, 100), (37, 64)])
def test_any_size_from_37_px_is_enhanced_and_the_input_is_in_the_output(shape):
    network = AETNet(3, seed=1).eval()
    h = torch.rand(1, 3, *shape) * 0.2 - 0.1
    with torch.no_grad():
        assert network(h).shape == h.shape
        network.conv_decoder.weight.zero_()
        assert torch.equal(network(h), h)


def test_a_scene_too_small_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"36 x 64 px.*37 px.*larger cut"):
        AETNet(3)(torch.zeros(1, 3, 36, 64))


def test_windows_of_shifted_blocks_do_not_join_opposite_borders():
    """A change at the upper border reaches the windows beside it, never those at the lower border."""
    block = AETNet(3, seed=2).encoder1.block_b.attn.eval()
    x = torch.rand(1, 16, 16, 64, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[0, 0, 0] += 1
    with torch.no_grad():
        difference = (block(changed) - block(x)).abs().amax(-1)[0]
    assert difference[:2, :2].min() > 1e-5
    difference[:2, :2] = 0
    assert difference.max() < 1e-7


def test_a_seed_means_the_same_weights():
    first, again, other = (AETNet(4, seed=seed).state_dict() for seed in (1, 1, 2))
    drawn = [key for key, value in first.items() if value.ndim > 1]
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in drawn)
    assert first["encoder0.block_a.attn.qkv.weight"].std().item() == pytest.approx(0.02, rel=0.05)


def test_masks_hold_the_number_and_area_of_targets_that_the_method_asks_for():
    masks = ~random_masks(300, np.random.RandomState(0))
    masked = masks.sum((1, 2))
    assert masks.shape == (300, 64, 64) and masked.min() >= 2 and masked.max() <= 32 * 20
    # 16.5 targets of 11.5 px; what overlaps and what the border cuts off takes a little away
    assert 0.85 * 16.5 * 11.5 < masked.mean() < 16.5 * 11.5
    parts = [label(mask)[1] for mask in masks]
    assert min(parts) == 1 and max(parts) <= 32
    assert abs(masks.mean(0)[8:56, 8:56].mean() / masks.mean() - 1) < 0.2  # all over the patch


def test_targets_are_connected_and_of_their_areas():
    area = np.arange(3, 21).repeat(20)
    shapes = grow_targets(area, np.random.RandomState(1))
    assert (shapes.sum((1, 2)) == area).all()
    assert all(label(shape)[1] == 1 and shape[9, 9] for shape in shapes)


def test_masks_depend_on_their_generator_only_and_fit_other_sizes():
    first, again = (random_masks(4, np.random.RandomState(5), 32, 48) for _ in range(2))
    assert first.shape == (4, 32, 48) and (first == again).all()
    assert (first != random_masks(4, np.random.RandomState(6), 32, 48)).any()
    assert not random_masks(50, np.random.RandomState(0), 8, 8).all((1, 2)).any()  # one cell: one target


def patches(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.2 - 0.1


def test_a_sample_is_the_turned_patch_with_masked_pixels_zero():
    stage = AETNetStage(AETNet(3), seed=7).train()
    h = patches(16)
    target, masked = stage.sample(h)
    kept = (masked == target).all(1)
    assert (masked.abs().amax(1)[~kept] == 0).all() and 0 < (~kept).sum() < kept.sum()
    for before, after in zip(h, target, strict=True):
        turned = [before.rot90(turns, (1, 2)).flip(axes) for turns in range(4) for axes in ([], [1])]
        assert sum(torch.equal(after, one) for one in turned) == 1
    assert not torch.equal(target, h)


def test_samples_follow_from_seed_and_step_and_held_out_ones_stay():
    h = patches()
    stage, again = (AETNetStage(AETNet(3), seed=7).train() for _ in range(2))
    state = torch.get_rng_state()
    first, second = stage.sample(h)[1], stage.sample(h)[1]
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(first, second)
    again.load_state_dict({**again.state_dict(), "steps": torch.tensor(1)})
    assert torch.equal(again.sample(h)[1], second)
    stage.eval()
    assert torch.equal(stage.sample(h)[1], stage.sample(h)[1])


def test_decay_is_a_part_of_the_gradient():
    stage = AETNetStage(AETNet(3))
    total, terms = stage(patches())
    assert total.item() == pytest.approx(sum(term.item() for term in terms.values()))
    terms["decay"].backward()
    for parameter in stage.network.parameters():
        assert torch.allclose(parameter.grad, 5e-6 * parameter)


@pytest.mark.slow
def test_training_moves_every_weight_and_the_checkpoint_brings_the_network_back(tmp_path):
    stage = AETNetStage(AETNet(3, seed=1))
    before = {key: value.clone() for key, value in stage.network.state_dict().items()}
    info = CheckpointInfo("aetnet", 3, "aviris", "released", "none", state_hash({}))
    folder = RunFolder(tmp_path, AETNetOptions(epochs=3, batch_size=4, lr=1e-3))
    Trainer(stage, folder, make_accelerator(device="cpu"), info).fit(patches())
    assert int(stage.steps) == 3
    assert not any(torch.equal(value, before[key]) for key, value in stage.network.state_dict().items())
    loaded = load_branch(tmp_path / stage.checkpoint, {"aetnet": AETNet}, bands=3)[0]
    h = patches(1)
    with torch.no_grad():
        assert torch.allclose(loaded(h), stage.network.eval()(h), atol=1e-6)


def write_patches(folder, side: int) -> str:
    (folder / "train" / "toy").mkdir(parents=True)
    for i in range(2):
        patch = np.random.RandomState(i).uniform(size=(side, side, 3)).astype(np.float32)
        np.save(folder / "train" / "toy" / f"{i}_1.npy", patch)
    return str(folder)


def command(data: str, out) -> int:
    options = [
        "--data_path",
        data,
        "--sensor",
        "toy",
        "--input_channel",
        "3",
        "--epochs",
        "1",
        "--batch_size",
        "2",
        "--cpu",
    ]
    return main(["aetnet", *options, "--save_dir", str(out / "run"), "--checkpoint_dir", str(out / "weights")])


def test_command_trains_and_writes_the_checkpoint(tmp_path):
    assert command(write_patches(tmp_path / "data", 48), tmp_path) == 0
    assert load_branch(tmp_path / "weights" / "aetnet.safetensors", {"aetnet": AETNet})[1].bands == 3


def test_command_refuses_patches_that_do_not_fit(tmp_path, capsys):
    assert command(write_patches(tmp_path / "data", 40), tmp_path) == 2
    assert "40 x 40 px; AETNet needs sides that are multiples of 8, at least 48 px" in capsys.readouterr().err


@pytest.fixture
def weights(tmp_path):
    """A folder with an untrained AETNet of ten bands, and the network."""
    network = AETNet(10, seed=4).eval()
    info = CheckpointInfo("aetnet", 10, "aviris_ng", "released", "none", state_hash({}))
    save_checkpoint(network, tmp_path / "weights" / "aetnet.safetensors", info)
    return tmp_path / "weights", network


def expected_score(network: AETNet, h: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return RX()(network(torch.from_numpy(h).permute(2, 0, 1)[None]))[0].numpy()


def test_the_detector_is_rx_on_the_cube_that_the_network_makes(weights):
    folder, network = weights
    h = np.random.RandomState(0).uniform(-0.1, 0.1, (40, 44, 10)).astype(np.float32)
    config = DetectConfig(10, "toy", features="original", detect="AETNet", checkpoint_dir=folder, device="cpu")
    pipeline = Pipeline(config)
    assert pipeline.score(h) == pytest.approx(expected_score(network, h), rel=1e-4)
    assert pipeline.provenance["aetnet"]["path"] == str(folder / "aetnet.safetensors") and not pipeline.streams


def test_pixels_left_out_are_out_of_its_statistics():
    cube = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(0)).double()
    out = torch.zeros(1, 12, 12, dtype=torch.bool)
    out[0, 2:4, 5] = True
    assert torch.equal(EnhancedRX(lambda h: h)(cube, out), RX()(cube.float(), out))
    with pytest.raises(ValueError, match="AETNet takes cubes"):
        EnhancedRX(lambda h: h)(cube[0])


def test_the_command_lines_take_it_with_a_folder_of_weights(tmp_path, weights):
    folder, network = weights
    data = write_had100(tmp_path / "data", names=("a",), shape=(40, 44, 10))
    given = ["--detect", "aetnet", "--checkpoint_dir", str(folder), "--device", "cpu"]
    assert run_had100(data, tmp_path / "out", *given, "--features", "original", "--no_maps") == 0
    score = np.load(tmp_path / "out" / "scores" / "a.npy")
    assert score == pytest.approx(
        expected_score(network, normalise(read_scene(data / "test/aviris_ng/a.npy"), 10)), rel=1e-4
    )
    assert compare_main(["--scenes", str(data), "--save_dir", str(tmp_path / "compare"), *given]) == 0
    assert "AETNet" in (tmp_path / "compare" / "compare.csv").read_text()


def test_without_weights_it_names_the_command_that_trains_them(tmp_path):
    method = {"features": "original", "detect": "AETNet", "checkpoint_dir": tmp_path, "device": "cpu"}
    with pytest.raises(
        CheckpointError, match=r"no AETNet checkpoint[^\n]*\n\s+train one:\s+python -m baselines.train aetnet"
    ):
        Pipeline(DetectConfig(10, "toy", **method))
    with pytest.raises(FersError, match=r"trained on the cube itself\. Give --features original"):
        DetectConfig(10, "toy", **{**method, "features": "untrained"})
