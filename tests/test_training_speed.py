"""What makes a training step faster changes nothing but rounding: convolutions, folded batch norms, losses, resuming."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fast import training as speed
from fast.training import MatrixConv2d, MatrixConvTranspose2d, WinogradConv2d, fold_batch_norms, use_matrix_products
from fast.winograd import transform_filters
from models import SpaFEN
from models.backbones import backbone_state, frozen_layers, load_frozen
from train_FERD.losses import l_sim
from train_FERS.losses import l_cc, l_cos
from train_FERS.network import FRN
from train_FERS.train import Stage2
from training.config import TrainConfig
from training.device import make_accelerator
from training.loop import Trainer
from training.stage import Stage


def worst(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Largest difference over the largest value, of the worst pair."""
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(found, expected, strict=True))


def value_and_gradients(function, *tensors: torch.Tensor) -> list[torch.Tensor]:
    tensors = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    value = function(*tensors)
    return [value, *torch.autograd.grad((value * torch.linspace(-1, 2, value.numel()).view_as(value)).sum(), tensors)]


@pytest.mark.parametrize("size", [(8, 9), (10, 10), (16, 16), (17, 22)], ids=str)
def test_winograd_is_the_convolution_and_its_gradients_to_float32s_rounding(size):
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(100, 96, 3, padding=1)
    x = torch.randn(2, 100, *size, generator=generator)
    weight = torch.randn(96, 100, 3, 3, generator=generator) / 30

    def run(x, weight, bias):
        return torch.func.functional_call(conv, {"weight": weight, "bias": bias}, x)

    exact = value_and_gradients(lambda *t: F.conv2d(*t, padding=1), *(t.double() for t in (x, weight, conv.bias)))
    use_matrix_products(conv)
    assert type(conv) is WinogradConv2d
    assert worst(value_and_gradients(run, x, weight, conv.bias), exact) < 1e-5
    channels_last = x.contiguous(memory_format=torch.channels_last)
    assert worst(value_and_gradients(run, channels_last, weight, conv.bias), exact) < 1e-5


def test_frozen_filters_are_transformed_once_and_anew_when_they_are_others(monkeypatch):
    generator, counted = torch.Generator().manual_seed(0), []
    monkeypatch.setattr(speed, "transform_filters", lambda *a: counted.append(a) or transform_filters(*a))
    conv = nn.Conv2d(96, 128, 3, padding=1, bias=False).requires_grad_(False)
    use_matrix_products(conv)

    def check(side: int, transformed: int) -> None:
        x = torch.randn(2, 96, side, side, generator=generator)
        exact = value_and_gradients(lambda x: F.conv2d(x, conv.weight.double(), padding=1), x.double())
        for _ in range(2):
            assert worst(value_and_gradients(conv, x), exact) < 1e-5
        assert len(counted) == transformed

    check(16, 1)
    check(10, 2)  # another size of tile
    conv.load_state_dict({"weight": conv.weight + 1})
    check(10, 3)
    conv.weight = nn.Parameter(conv.weight - 2, requires_grad=False)
    check(10, 4)
    conv.requires_grad_(True)
    check(10, 6)  # once a step


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(512, 256, 1, bias=False),
        nn.Conv2d(256, 512, 1, stride=2),
        nn.Conv2d(96, 192, 3, padding=1, stride=2),
        nn.Conv2d(256, 128, (3, 2), padding=(0, 1)),
        nn.Conv2d(128, 128, 3, padding=1),  # on maps too small for Winograd
        nn.ConvTranspose2d(7, 5, 2, stride=2, bias=False),
    ],
    ids=str,
)
def test_convolutions_by_matrix_products_have_the_gradients_of_the_plain_ones(conv):
    conv, generator = copy.deepcopy(conv), torch.Generator().manual_seed(0)
    x = torch.randn(2, conv.in_channels, 6, 7, generator=generator)
    tensors = {"x": x, **{name: parameter.detach() for name, parameter in conv.named_parameters()}}

    def run(x, *parameters):
        return torch.func.functional_call(conv, dict(zip(list(tensors)[1:], parameters, strict=True)), x)

    exact = value_and_gradients(run, *(t.double() for t in tensors.values()))
    use_matrix_products(conv)
    assert isinstance(conv, (MatrixConv2d, MatrixConvTranspose2d))
    for layout in (torch.contiguous_format, torch.channels_last):
        found = value_and_gradients(
            run, *(t.contiguous(memory_format=layout) if t.ndim == 4 else t for t in tensors.values())
        )
        assert worst(found, exact) < 1e-5


def test_convolutions_are_replaced_where_they_can_be_and_computed_as_before_where_no_gradient_passes():
    network = nn.Sequential(
        nn.Conv2d(96, 96, 3, padding=1, groups=96),
        nn.Conv2d(96, 96, 3, padding=2, dilation=2),
        nn.ConvTranspose2d(96, 96, 3, stride=2, bias=False),
        nn.ConvTranspose2d(96, 96, 2, stride=2),
        nn.Conv2d(50, 50, 3, padding=1),
        nn.Conv2d(512, 256, 1),
        nn.Conv2d(96, 96, 3, padding=1),
    )
    frozen = nn.Conv2d(512, 256, 1).requires_grad_(False)
    keys = network.state_dict().keys()
    for module in (network, frozen):
        use_matrix_products(module)
    assert type(frozen) is nn.Conv2d
    assert [type(conv) for conv in network[:5]] == [nn.Conv2d] * 2 + [nn.ConvTranspose2d] * 2 + [nn.Conv2d]
    assert [type(conv) for conv in network[5:]] == [MatrixConv2d, WinogradConv2d]
    assert network.state_dict().keys() == keys
    x = torch.randn(1, 96, 16, 16)
    assert torch.equal(network[-1](x), F.conv2d(x, network[-1].weight, network[-1].bias, padding=1))


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
    h = torch.rand(2, 96, 32, 32, generator=generator) * 0.2 - 0.1
    f_spe = torch.rand(2, 96, 32, 32, generator=generator) * 5

    def gradients(task: Stage2, *batch: torch.Tensor) -> list[torch.Tensor]:
        task.train()(*batch)[0].backward()
        return [parameter.grad for parameter in task.parameters() if parameter.requires_grad]

    plain = Stage2(SpaFEN(96, "random"), FRN(96))
    fast = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    fold_batch_norms(fast.spa_fen.backbone)
    use_matrix_products(fast)
    assert sum(type(module) is WinogradConv2d for module in fast.frn.modules()) == 6
    found = gradients(fast, *(x.contiguous(memory_format=torch.channels_last) for x in (h, f_spe)))
    for a, b in zip(found, gradients(plain, h, f_spe), strict=True):  # by norm: some ReLU's input is next to zero
        assert (a - b).norm() < 1e-3 * b.norm()


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


class Wide(Stage):
    """A stage whose convolution goes by Winograd's algorithm."""

    def __init__(self):
        super().__init__(("mse",))
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(2, 96, 1), nn.Conv2d(96, 96, 3, padding=1), nn.BatchNorm2d(96))

    def loss(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        mse = (self.layers(x) - x[:, :1]).square().mean()
        return mse, {"mse": mse}


def test_a_resumed_run_on_fast_convolutions_is_the_same_to_the_last_bit(tmp_path):
    data = list(torch.randn(8, 2, 16, 16, generator=torch.Generator().manual_seed(1)))

    def run(folder: str, epochs: int, **changes) -> Stage:
        task = Wide()
        config = TrainConfig(tmp_path / folder, epochs, batch_size=4, **changes)
        Trainer(task, config, make_accelerator(device="cpu")).fit(data)
        assert type(task.layers[1]) is WinogradConv2d
        return task

    whole = run("whole", 3)
    run("parts", 1)
    parts = run("parts", 3, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True))
