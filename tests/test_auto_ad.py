"""Auto-AD against its golden files and closed forms."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
import torch

from fers.detectors import auto_ad
from fers.detectors.auto_ad import (
    AutoAD,
    AutoADNetwork,
    adaptive_weights,
    fit,
    has_settled,
    residual,
    weighted_loss,
)


def by_rule(network: torch.nn.Module) -> None:
    """Weights from a rule, so that the wide network needs none on disk."""
    with torch.no_grad():
        parameters = dict(network.named_parameters())
        for name, parameter in parameters.items():
            if ".conv." in name:
                fan_in = np.prod(parameters[name.rsplit(".", 1)[0] + ".weight"].shape[1:])
                low, high = -(fan_in**-0.5), fan_in**-0.5
            else:
                low, high = (0.5, 1.5) if name.endswith("weight") else (-0.2, 0.2)
            draw = np.random.RandomState(zlib.crc32(name.encode())).uniform(low, high, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(draw))


def narrow() -> AutoADNetwork:
    network = AutoADNetwork(6, channels=8).double()
    by_rule(network)
    return network


@pytest.mark.parametrize("size", ["37x44", "64x64"])
def test_network_and_loss_agree_with_the_reference(size, golden):
    z = golden("autoad_narrow")
    network = narrow()
    x, target, mask, output = (torch.from_numpy(z[f"{size}/{key}"]) for key in ("x", "target", "mask", "output"))
    found = network(x)
    loss = weighted_loss(found, target, mask[0])
    loss.backward()
    assert (found - output).abs().max() < 1e-12
    assert loss.item() == pytest.approx(z[f"{size}/loss"].item(), rel=1e-12)
    if size == "37x44":
        for name, parameter in network.named_parameters():
            assert np.abs(parameter.grad.numpy() - z[f"{size}/grad/{name}"]).max() < 1e-12, name


@pytest.mark.parametrize("size", [(100, 100), (80, 100)])
def test_network_agrees_with_the_reference_at_sizes_that_do_not_halve(size, golden):
    z = golden("autoad_narrow")
    network = AutoADNetwork(6, channels=8).double()
    name = f"{size[0]}x{size[1]}"
    network.load_state_dict({key: torch.from_numpy(z[f"w/{key}"]) for key in z["order"]})
    x = np.random.RandomState(int(z[f"{name}/x_seed"])).uniform(0, 0.1, (1, 6, *size))
    with torch.no_grad():
        found = network(torch.from_numpy(x))
    assert (found[0, :, ::9, ::9] - torch.from_numpy(z[f"{name}/output_sub"])).abs().max() < 1e-12


def test_network_of_full_width_agrees_with_the_reference(golden):
    z = golden("autoad_full50")
    network = AutoADNetwork(50).double()
    by_rule(network)
    parameters = dict(network.named_parameters())
    assert set(parameters) == set(z["order"])
    assert sum(p.numel() for p in parameters.values()) == z["parameters"]
    draws = np.random.RandomState(50)
    x = torch.from_numpy(draws.uniform(0, 0.1, (1, 50, 64, 64)))
    target = torch.from_numpy(draws.uniform(0, 1, (1, 50, 64, 64)))
    output = network(x)
    loss = weighted_loss(output, target, torch.ones(64, 64, dtype=torch.float64))
    loss.backward()
    assert (output[0, :, ::4, ::4] - torch.from_numpy(z["output"])).abs().max() < 1e-12
    assert loss.item() == pytest.approx(z["loss"].item(), rel=1e-12)
    norms = np.array([parameters[name].grad.norm().item() for name in z["order"]])
    assert norms == pytest.approx(z["grad_norms"], rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("bands, count", [(50, 3031730), (100, 3102180), (162, 3189538), (205, 3250125)])
def test_parameters_are_as_many_as_the_architecture_has(bands, count):
    with torch.device("meta"):
        network = AutoADNetwork(bands)
    assert sum(p.numel() for p in network.parameters()) == count


def recorded_inputs(z: dict[str, np.ndarray]):
    j = 0
    while True:
        yield torch.from_numpy(z["net_input"] + 0.1 * np.random.RandomState(1000 + j).standard_normal((1, 6, 36, 40)))
        j += 1


def test_first_iterations_agree_with_the_reference(golden):
    z = golden("autoad_run")
    image = torch.from_numpy(z["image"]).permute(2, 0, 1)[None]
    steps = fit(narrow(), image, recorded_inputs(z))
    losses = [step.loss for step, _ in zip(steps, range(12), strict=False)]
    assert losses == pytest.approx(z["a/losses"][:12], rel=1e-6)


def test_weights_and_stopping_rule_agree_with_the_reference(golden):
    z = golden("autoad_run")
    for run, at in (("a", 100), ("a", 200), ("a", 300), ("b", 100)):
        found = adaptive_weights(torch.from_numpy(z[f"{run}/residual_{at}"]))
        assert np.abs(found.numpy() - z[f"{run}/weights_{at}"]).max() < 1e-12
    losses = z["b/losses"].tolist()
    stops = [j for j in range(len(losses)) if has_settled(losses[: j + 1], z["b/threshold"].item())]
    assert stops == [150]


def test_stopping_rule_averages_fifty_differences_at_multiples_of_fifty():
    falling = [1 - 0.01 * j for j in range(101)]
    assert not has_settled(falling, 0.01 - 1e-9) and has_settled(falling, 0.01 + 1e-9)
    assert not has_settled(falling[:100], 1)  # j = 99
    assert not has_settled([0.0], 1)
    early = [float(j == 0) for j in range(101)]  # one jump, 50 differences before the last look
    assert has_settled(early, 1e-9) and not has_settled(early[:51], 1 / 50)


def test_weights_are_one_for_the_best_pixel_and_zero_for_the_worst():
    error = torch.tensor([[1.0, 3.0], [2.0, 5.0]])
    assert adaptive_weights(error).tolist() == [[1.0, 0.5], [0.75, 0.0]]
    assert adaptive_weights(torch.full((2, 2), 4.0)).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_residual_sums_over_bands_and_the_loss_averages():
    output, image = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    assert residual(output, image).tolist() == [[3.0, 3.0], [3.0, 3.0]]
    weights = torch.tensor([[1.0, 0.5], [0.0, 0.0]])
    assert weighted_loss(output, image, weights).item() == pytest.approx((1 + 0.25) / 4)


class Echo(torch.nn.Module):
    """Gives its parameter whatever comes in: the reconstruction is known in every iteration."""

    def __init__(self, value: float):
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.value.expand_as(x)


def test_residual_is_renewed_in_every_hundredth_iteration_only():
    image = torch.zeros(1, 2, 3, 3)
    image[0, :, 0, 0] = 1
    steps = list(fit(Echo(0.5), image, [image] * 130, threshold=0, learning_rate=0.0))
    assert len(steps) == 130
    assert all((step.residual == 1).all() for step in steps[:100])
    assert steps[100].loss == pytest.approx(0.25)  # a constant residual: all weights stay 1
    assert all(step.residual.unique().tolist() == [0.5] for step in steps[100:])


def test_fit_stops_where_the_loss_settles():
    image = torch.zeros(1, 2, 3, 3)
    assert len(list(fit(Echo(0.5), image, [image] * 500, learning_rate=0.0))) == 51


def toy_scene() -> torch.Tensor:
    """A smooth background of six bands with one odd pixel."""
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 33), torch.linspace(0, 1, 34), indexing="ij")
    cube = torch.stack([rows * (b + 1) / 6 + columns * (6 - b) / 6 for b in range(6)])
    cube[:, 16, 20] = torch.tensor([2.0, 0, 2, 0, 2, 0])
    return cube[None]


def test_an_odd_pixel_scores_highest():
    score = AutoAD(channels=16, iterations=101)(toy_scene())
    assert score.shape == (1, 33, 34) and score.dtype == torch.float32
    assert score[0].argmax().item() == 16 * 34 + 20


def losses(cube: torch.Tensor, **options) -> list[float]:
    return [step.loss for step in AutoAD(channels=4, iterations=3, **options).train(cube)]


def test_seed_alone_decides_the_training_and_leaves_the_global_generator():
    state = torch.get_rng_state()
    first = losses(toy_scene(), seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert losses(toy_scene(), seed=3) == first
    assert losses(toy_scene(), seed=4) != first


def test_each_image_of_a_batch_is_fitted_by_itself(monkeypatch):
    monkeypatch.setattr(auto_ad, "REWEIGHT_EVERY", 2)
    cube = toy_scene()
    detector = AutoAD(channels=4, iterations=3)
    both = detector(torch.cat([cube.flip(3), cube]))
    assert both[1].unique().numel() > 1000
    assert torch.equal(both[1], detector(cube)[0])


def test_scaling_by_band_ignores_the_bands_own_ranges():
    cube = toy_scene()
    stretched = cube * torch.tensor([1.0, 2, 4, 8, 16, 32]).view(1, 6, 1, 1)  # powers of two: no rounding
    assert losses(cube, scaling="band") == losses(stretched, scaling="band")
    assert losses(cube) == losses(2 * cube)
    assert losses(cube) != losses(stretched)


def test_detection_works_where_gradients_are_switched_off(monkeypatch):
    monkeypatch.setattr(auto_ad, "REWEIGHT_EVERY", 2)
    cube, detector = toy_scene(), AutoAD(channels=4, iterations=3)
    expected = detector(cube)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(detector(cube.clone()), expected)


def test_last_step_is_the_score(monkeypatch):
    monkeypatch.setattr(auto_ad, "REWEIGHT_EVERY", 2)
    cube, detector = toy_scene(), AutoAD(channels=4, iterations=3)
    with torch.no_grad():
        steps = list(detector.steps(cube))
    assert [bool((step == 1).all()) for step in steps] == [True, True, False]
    assert torch.equal(steps[-1], detector(cube))


def test_a_run_that_ends_before_iteration_100_gives_a_constant_map():
    assert (AutoAD(channels=4, iterations=20)(toy_scene()) == 1).all()


@pytest.mark.parametrize("shape", [(33, 33), (33, 64), (47, 38)])
def test_sizes_from_33_px_work(shape):
    assert AutoAD(channels=4, iterations=2)(torch.rand(1, 3, *shape)).shape == (1, *shape)


def test_bad_input_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"32 x 64 px.*33 px.*larger cut"):
        AutoAD()(torch.rand(1, 3, 32, 64))
    with pytest.raises(ValueError, match="N x C x H x W"):
        AutoAD()(torch.rand(3, 40, 40))
    cube = torch.rand(1, 3, 40, 40)
    cube[0, 1, 2, 3] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        AutoAD()(cube)
    with pytest.raises(ValueError, match="'cube' or 'band'"):
        AutoAD(scaling="scene")
    with pytest.raises(ValueError, match="at least 1 iteration"):
        AutoAD(iterations=0)
