"""RD4AD's score against its golden file and scipy, its networks, and their training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from baselines.rd4ad import RD4ADStage, distillation_loss
from fers.detectors.rd4ad import RD4AD, anomaly_maps, gaussian
from fers.networks import CheckpointError, CheckpointInfo, load_checkpoint, rd4ad, save_checkpoint
from fers.networks.backbones import state_hash
from fers.networks.rd4ad import READINGS
from fers.scoring.pipeline import DetectConfig, Pipeline
from fers.training.device import make_accelerator
from fers.training.loop import Trainer
from fers.training.options import TrainOptions
from fers.training.resume import RunFolder


class Fake:
    """Networks that are a function."""

    def __init__(self, function, padding: int = 0, multiple: int = 16):
        self.function, self.padding, self.multiple = function, padding, multiple

    def __call__(self, cube):
        return self.function(cube)


def features(z: dict[str, np.ndarray]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return tuple([torch.from_numpy(z[f"{name}{i}"]) for i in range(3)] for name in ("encoder", "decoder"))


def test_maps_score_and_loss_agree_with_the_reference(golden):
    z = golden("rd4ad")
    encoder, decoder = features(z)
    maps = anomaly_maps(encoder, decoder, (64, 64))
    for i in range(3):
        assert np.abs(maps[0, i].numpy() - z[f"part{i}"]).max() < 1e-12
    assert np.abs(maps.sum(1)[0].numpy() - z["map_add"]).max() < 1e-12
    detector = RD4AD(Fake(lambda cube: (encoder, decoder)))
    assert np.abs(detector(torch.zeros(1, 3, 64, 64))[0].numpy() - z["map_add_gauss4"]).max() < 1e-12
    assert distillation_loss(tuple(encoder), tuple(decoder)).item() == pytest.approx(z["loss"].item(), rel=1e-12)


@pytest.mark.parametrize("shape, sigma", [((64, 64), 4.0), ((33, 20), 4.0), ((9, 5), 4.0), ((12, 30), 1.3)])
def test_gaussian_is_scipys(shape, sigma):
    maps = np.random.RandomState(0).uniform(size=(2, *shape))
    found = gaussian(torch.from_numpy(maps), sigma)
    for one, expected in zip(found.numpy(), maps, strict=True):
        assert np.abs(one - gaussian_filter(expected, sigma)).max() < 1e-14
    assert torch.equal(gaussian(found, 0), found)


def test_maps_are_zero_where_directions_agree_and_two_where_they_are_opposite():
    f = torch.rand(1, 4, 3, 3, generator=torch.Generator().manual_seed(0)) + 0.1
    g = 2 * f
    g[..., 0, 0] *= -1
    maps = anomaly_maps([f], [g], (5, 5))
    assert maps[0, 0, 0, 0].item() == pytest.approx(2)
    assert maps[0, 0, 0, 1].item() == pytest.approx(1)  # half way between two corners of the grid
    assert maps[0, 0, 2:].abs().max().item() < 1e-6


def test_detector_cuts_off_padding_and_what_was_reflected():
    seen = []

    def distil(cube):
        seen.append(cube)
        g = torch.ones(1, 2, cube.shape[2] + 8, cube.shape[3] + 8)
        f = g.clone()
        f[0, 1, 4 + 18, 4 + 17] = -1  # row 18, column 17 of the cube
        return [f], [g]

    cube = torch.rand(1, 2, 20, 18)
    score = RD4AD(Fake(distil, padding=4, multiple=8), sigma=0)(cube)
    assert score.shape == (1, 20, 18)
    assert score[0].argmax().item() == 18 * 18 + 17 and score.sum().item() == pytest.approx(1, abs=1e-4)
    (padded,) = seen
    assert padded.shape == (1, 2, 24, 24) and torch.equal(padded[:, :, :20, :18], cube)
    assert torch.equal(padded[:, :, 20, :18], cube[:, :, 18])


def test_bad_input_is_refused_with_the_remedy():
    detector = RD4AD(Fake(lambda cube: ([cube], [cube])))
    with pytest.raises(ValueError, match="N x C x H x W"):
        detector(torch.zeros(3, 16, 16))
    with pytest.raises(ValueError, match="NaN"):
        detector(torch.full((1, 3, 16, 16), torch.nan))
    with pytest.raises(ValueError, match=r"8 x 20 px.*at least 9 px"):
        detector(torch.zeros(1, 3, 8, 20))
    assert detector(torch.zeros(1, 3, 9, 9)).shape == (1, 9, 9)
    with pytest.raises(ValueError, match="sigma"):
        RD4AD(Fake(lambda cube: ([cube], [cube])), sigma=-1)


class Embedding(nn.Module):
    """A small MFFM: the true one and its decoder have 84 million weights."""

    def __init__(self):
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(1024, 8, 1, stride=2, bias=False), nn.BatchNorm2d(8))

    def forward(self, f1, f2, f3):
        return self.reduce(f3)


class Widening(nn.Module):
    """A small decoder."""

    def __init__(self):
        super().__init__()
        self.widen = nn.ModuleList(nn.Conv2d(8, 256 * 2**i, 1, bias=False) for i in range(3))

    def forward(self, phi):
        return tuple(conv(nn.functional.interpolate(phi, scale_factor=8 // 2**i)) for i, conv in enumerate(self.widen))


@pytest.fixture(params=["B", "A"])
def network(request, monkeypatch):
    monkeypatch.setattr(rd4ad, "MFFM", Embedding)
    monkeypatch.setattr(rd4ad, "Decoder", Widening)
    return READINGS[request.param](10, "random", seed=3)


def shapes(network: nn.Module, height: int, width: int) -> list[tuple[int, ...]]:
    """Shapes of f1, f2, f3."""
    if network.padding:
        height, width = height + 8, width + 8
    else:
        height, width = height // 2, width // 2
    return [(1, 256 * 2**i, height // 2**i, width // 2**i) for i in range(3)]


def test_both_readings_compare_features_of_the_sizes_of_the_architecture(network):
    with torch.no_grad():
        encoder, decoder = network.eval()(torch.rand(1, 10, 32, 48) * 0.2 - 0.1)
    assert [tuple(f.shape) for f in encoder] == shapes(network, 32, 48)
    assert [f.shape for f in encoder] == [g.shape for g in decoder]


@pytest.mark.parametrize("reading", READINGS)
def test_the_whole_network_has_the_sizes_and_parameters_of_the_architecture(reading, monkeypatch):
    monkeypatch.setattr(rd4ad, "init_reverse_distillation", lambda *_: None)
    monkeypatch.setattr(rd4ad, "init_xavier", lambda *_: None)
    with torch.device("meta"):
        network = READINGS[reading](10, backbone=None)
        encoder, decoder = network(torch.zeros(1, 10, 64, 64))
    assert [tuple(f.shape) for f in encoder] == [tuple(g.shape) for g in decoder] == shapes(network, 64, 64)
    counts = {True: 0, False: 0}
    for parameter in network.parameters():
        counts[parameter.requires_grad] += parameter.numel()
    stem = 128 if reading == "B" else 0  # its batch norm
    assert counts == {True: 58_885_120 + 24_917_504 + 64 * 10, False: 634_368 + 3_482_624 + 20_736_000 + stem}


def config(folder) -> DetectConfig:
    return DetectConfig(10, "aviris", detect="RD4AD", features="original", checkpoint_dir=folder, device="cpu")


def save(network: nn.Module, folder) -> None:
    sha256 = state_hash(network.backbone_layers().state_dict())
    info = CheckpointInfo(network.BRANCH, 10, "aviris", "released", "random:0", sha256)
    save_checkpoint(network, folder / f"{network.BRANCH}.safetensors", info)


def test_a_folder_of_weights_is_all_it_takes_and_the_reading_stands_below_the_table(network, tmp_path):
    with pytest.raises(CheckpointError, match=r"no RD4AD checkpoint[^\n]*\n[^\n]*python -m baselines.train rd4ad"):
        Pipeline(config(tmp_path))
    network = type(network)(10, "random:0", seed=3)
    save(network, tmp_path)
    pipeline = Pipeline(config(tmp_path))
    assert f"RD4AD by the reading {'A' if network.padding else 'B'}, " in " ".join(pipeline.caveats)
    assert list(pipeline.provenance) == [network.BRANCH]
    h = np.random.RandomState(0).uniform(-0.1, 0.1, (20, 18, 10)).astype(np.float32)
    with torch.no_grad():
        expected = RD4AD(network.eval())(torch.from_numpy(h).permute(2, 0, 1)[None])[0].numpy()
    assert np.abs(pipeline.score(h) - expected).max() < 1e-4 * expected.max()


def test_a_folder_with_both_readings_is_refused(network, tmp_path):
    for reading in READINGS.values():
        save(reading(10, "random:0"), tmp_path)
    with pytest.raises(CheckpointError, match=r"rd4ad.safetensors and rd4ad_a.safetensors, and RD4AD takes one"):
        Pipeline(config(tmp_path))


@pytest.mark.slow
def test_training_moves_all_but_the_encoder_and_the_checkpoint_brings_it_back(network, tmp_path):
    stage = RD4ADStage(network)
    assert stage.checkpoint == ("rd4ad_a.safetensors" if network.padding else "rd4ad.safetensors")
    patches = torch.rand(4, 10, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.2 - 0.1
    sha256 = state_hash(network.backbone_layers().state_dict())
    before = {key: value.clone() for key, value in network.state_dict().items()}
    info = CheckpointInfo(stage.checkpoint.removesuffix(".safetensors"), 10, "aviris", "released", "random:0", sha256)
    folder = RunFolder(tmp_path, TrainOptions(epochs=2, batch_size=2, recipe="released"))
    Trainer(stage, folder, make_accelerator(device="cpu"), info).fit(patches)
    for key, value in network.named_parameters():
        assert value.requires_grad != key.startswith("encoder.")
        assert not value.requires_grad or not torch.equal(value, before[key]), key

    path = tmp_path / stage.checkpoint
    pipeline = Pipeline(config(tmp_path))
    for key, value in pipeline.networks.detector.state_dict().items():
        if key.startswith("encoder."):
            assert torch.equal(value, before[key]), key
    cube = patches[:1, :, :14]
    score = pipeline.score(cube[0].permute(1, 2, 0).numpy())
    assert score.shape == (14, 16) and (score > 0).all()
    with torch.no_grad():
        expected = RD4AD(network.eval())(cube)[0].numpy()
    assert np.abs(score - expected).max() < 1e-4 * score.max()
    with pytest.raises(CheckpointError, match=r"rd4ad.*expected spe_fen or spa_fen"):
        load_checkpoint(path)


def test_a_seed_means_the_same_weights(monkeypatch):
    for part in ("MFFM", "Decoder"):
        monkeypatch.setattr(rd4ad, part, lambda: nn.Conv2d(3, 4, 1, bias=False))
    first, again, other = (rd4ad.RD4ADNetwork(10, backbone=None, seed=seed) for seed in (1, 1, 2))
    for key, value in first.state_dict().items():
        if not key.startswith("encoder."):
            assert torch.equal(again.state_dict()[key], value) and not torch.equal(other.state_dict()[key], value)
