"""What makes a training step faster changes nothing but rounding: folded batch norms, and losses that take less memory."""

from __future__ import annotations

import copy
import shutil
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional as F

from fers.fast.training import fold_batch_norms
from fers.networks import SpaFEN, SpeFEN
from fers.networks.backbones import backbone_state, frozen_layers, load_frozen
from fers.training.device import make_accelerator
from fers.util.errors import FersError
from train_FERD.losses import l_sim
from train_FERS import stage
from train_FERS.losses import l_cc, l_cos
from train_FERS.network import FRN
from train_FERS.stage import Stage2


def worst(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Largest difference over the largest value, of the worst pair."""
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, expected, strict=True))


def value_and_gradients(function, *tensors: torch.Tensor) -> list[torch.Tensor]:
    tensors = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    value = function(*tensors)
    return [value, *torch.autograd.grad((value * torch.linspace(-1, 2, value.numel()).view_as(value)).sum(), tensors)]


@pytest.mark.parametrize("architecture, layers", [("wide_resnet101_2", ("layer1",)), ("resnet34", SpaFEN.FROZEN)])
def test_folded_frozen_layers_are_the_layers(architecture, layers):
    generator = torch.Generator().manual_seed(0)
    state = backbone_state(architecture, layers, "random")
    for key, value in state.items():
        if key.endswith(("running_mean", "running_var", "bn1.bias")):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.1)
    network = frozen_layers(architecture, layers)
    load_frozen(network, state)
    network.double()  # in float32 a ReLU's input next to zero may fall on either side
    folded = copy.deepcopy(network)
    fold_batch_norms(folded)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    x = torch.randn(2, 64 if layers == ("layer1",) else 3, 32, 32, generator=generator).double()
    assert worst(value_and_gradients(folded, x), value_and_gradients(network, x)) < 1e-10


def test_a_fast_stage_2_step_has_the_gradients_of_the_plain_one():
    generator = torch.Generator().manual_seed(0)
    h = torch.rand(2, 96, 32, 32, generator=generator).double() * 0.2 - 0.1
    f_spe = torch.rand(2, 96, 32, 32, generator=generator).double() * 5

    def gradients(task: Stage2, *batch: torch.Tensor) -> list[torch.Tensor]:
        task.train()(*batch)[0].backward()
        return [parameter.grad for parameter in task.parameters() if parameter.requires_grad]

    plain = Stage2(SpaFEN(96, "random"), FRN(96)).double()  # in float32 rounding grows through 34 layers
    fast = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    fold_batch_norms(fast.spa_fen.backbone)
    found = gradients(fast, *(x.contiguous(memory_format=torch.channels_last) for x in (h, f_spe)))
    for a, b in zip(found, gradients(plain, h, f_spe), strict=True):
        assert (a - b).norm() < 1e-9 * b.norm()


class Cubes:
    """Patches to teach from."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.rand(10, 16, 16, generator=torch.Generator().manual_seed(index)) * 0.2 - 0.1


@pytest.fixture
def accelerator() -> Accelerator:
    return make_accelerator(device="cpu")


@pytest.mark.parametrize("free", [1 << 40, 1], ids=["in memory", "mapped"])
def test_cached_features_are_the_teachers_to_the_last_bit(accelerator, tmp_path, monkeypatch, capsys, free):
    monkeypatch.setattr(stage, "free_memory", lambda: free)
    teacher, path = SpeFEN(10, "random").eval(), tmp_path / "f_spe.npy"
    cache = stage.cache_features(teacher, Cubes(), 2, accelerator, path)
    assert f"cached in {'memory' if free > 1 else path}, 0 MB" in capsys.readouterr().out
    assert path.is_file() == (free == 1) and len(cache) == 5
    if free == 1:
        assert path.stat().st_size == pytest.approx(5 * 10 * 16 * 16 * 4, abs=200)  # F_spe only
    with torch.no_grad():
        for start in (0, 2, 4):
            h = torch.stack([Cubes()[i] for i in range(start, min(start + 2, 5))])
            for index, (each, f_spe) in enumerate(zip(h, teacher(h), strict=True), start):
                assert torch.equal(cache[index][0], each) and torch.equal(cache[index][1], f_spe)


def test_a_cache_for_which_the_disk_has_no_room_is_refused_before_it_is_made(accelerator, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "free_memory", lambda: 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(FersError, match=r"51,200 bytes .* 1,000 are free .*another --save_dir, .* --no_cache"):
        stage.cache_features(SpeFEN(10, "random"), Cubes(), 2, accelerator, tmp_path / "f_spe.npy")
    assert not list(tmp_path.iterdir())


def test_a_stage_with_its_teacher_has_the_loss_of_one_with_a_cache():
    h, teacher = torch.stack([Cubes()[i] for i in range(4)]), SpeFEN(10, "random").eval().requires_grad_(False)
    networks = SpaFEN(10, "random"), FRN(10)
    cached, asking = Stage2(*networks).train(), Stage2(*networks, teacher=teacher).train()
    assert torch.allclose(cached(h, teacher(h))[0], asking(h)[0], rtol=1e-5)
    assert cached.resume_state().keys() == asking.resume_state().keys()  # the teacher is not in the resume file


def test_losses_with_less_memory_are_the_formulas_even_for_dead_channels_and_pixels():
    generator = torch.Generator().manual_seed(0)
    f, g = (torch.randn(3, 5, 6, 7, generator=generator, dtype=torch.float64).relu() for _ in "fg")
    f[:, 2], g[:, 3], g[:, :, 0, 0] = 0, 0, 0

    def cc(f, g):  # eqs. 12 and 13 as they are written
        z = [x.transpose(0, 1).flatten(1) for x in (f, g)]
        z = [(x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-6) for x in z]
        return (z[0] @ z[1].T / z[0].shape[1]).square().sum()

    def sim(f, g):
        return 1 - F.cosine_similarity(f.flatten(1), g.flatten(1)).mean()

    for function, formula in (
        (l_cc, cc),
        (l_cos, lambda f, g: 1 + F.cosine_similarity(f, g).mean()),
        (lambda f, g: l_sim([f], [g]), sim),
    ):
        assert worst(value_and_gradients(function, f, g), value_and_gradients(formula, f, g)) < 1e-6
