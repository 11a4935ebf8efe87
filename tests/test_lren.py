"""LREN against its golden files and closed forms."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch

from fers.detectors.lren import (
    LREN,
    LRENNetwork,
    TensorFlowAdam,
    dictionary_pixels,
    energy,
    low_rank_representation,
    lren_loss,
    mixture,
    standardise,
)

SIZES = {"small": (20, 3, 4, 12, 6), "fast": (20, 3, 4, 12, 6), "full": (50, 7, 9, 400, 60)}
PIXELS = {"small": 200, "fast": 200, "full": 300}


def key_of(name: str) -> str:
    """Name of a layer in torch, which counts the tanh between dense layers; the reference does not."""
    return name.replace(".2.", ".1.")


def reference_pixels(case: str) -> torch.Tensor:
    n, bands = PIXELS[case], SIZES[case][0]
    x = np.random.RandomState(5).standard_normal((n, bands))
    x = x @ np.random.RandomState(6).standard_normal((bands, bands)) / math.sqrt(bands)
    return torch.from_numpy(((x - x.mean(0)) / x.std(0)).astype(np.float32))


def reference_network(case: str) -> LRENNetwork:
    network = LRENNetwork(*SIZES[case])
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            shape = tuple(parameter.shape)[::-1]
            bound = math.sqrt(6 / sum(shape)) if name.endswith("weight") else 0.1
            draw = np.random.RandomState(zlib.crc32(key_of(name).encode())).uniform(-bound, bound, shape)
            parameter.copy_(torch.from_numpy(draw.T.astype(np.float32)))
    return network


def near(found: torch.Tensor, expected: np.ndarray, tolerance: float) -> bool:
    return np.abs(found.detach().numpy() - expected).max() <= tolerance * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("case", SIZES)
def test_networks_mixture_and_loss_agree_with_the_reference(case, golden):
    z = {key.removeprefix(f"{case}/"): value for key, value in golden("lren").items() if key.startswith(case)}
    x, network = reference_pixels(case), reference_network(case)
    latent, x_rec, gamma = network(x)
    parts = mixture(latent, gamma)
    loss = lren_loss(x, x_rec, latent, gamma)
    if case == "small":
        assert near(x, z["x"], 1e-6) and near(x_rec, z["x_rec"], 1e-6)
        for name, parameter in network.named_parameters():
            assert np.array_equal(parameter.detach().numpy().T, z[f"w/{key_of(name)}"]), name
    else:
        assert near(x_rec[:5], z["x_rec_head"], 1e-6)
    for found, key in ((latent, "z"), (gamma, "gamma"), *((getattr(parts, k), k) for k in parts._fields)):
        assert near(found, z[key], 5e-6), key
    assert near(energy(latent, parts), z["energy"], 5e-6)
    for term, key in ((loss.total, "loss"), (loss.reconstruction, "rec"), (loss.covariance, "cov")):
        assert term.item() == pytest.approx(z[key].item(), rel=5e-6), key
    loss.total.backward()
    gradients = {key_of(name): parameter.grad for name, parameter in network.named_parameters()}
    if case == "small":
        for key, gradient in gradients.items():
            assert near(gradient.permute(*range(gradient.ndim)[::-1]), z[f"grad/{key}"], 2e-5), key
    else:
        order = [
            f"{n}.{i}.{k}" for n in ("encoder", "decoder", "estimator") for i in (0, 1) for k in ("weight", "bias")
        ]
        assert [gradients[key].norm().item() for key in order] == pytest.approx(z["grad_norms"].tolist(), rel=1e-4)


@pytest.mark.parametrize("case", SIZES)
def test_twenty_steps_and_the_score_agree_with_the_reference(case, golden):
    z = {key.removeprefix(f"{case}/"): value for key, value in golden("lren").items() if key.startswith(case)}
    x, network = reference_pixels(case), reference_network(case)
    optimiser = TensorFlowAdam(network.parameters(), float(z["learning_rate"]))
    trajectory = []
    for step in range(20):
        latent, x_rec, gamma = network(x)
        loss = lren_loss(x, x_rec, latent, gamma)
        trajectory.append([loss.total.item(), loss.reconstruction.item(), loss.energy.item()])
        optimiser.zero_grad()
        loss.total.backward()
        optimiser.step()
        if step == 0 and case == "small":
            for name, parameter in network.named_parameters():
                assert near(
                    parameter.detach().permute(*range(parameter.ndim)[::-1]), z[f"after_one_step/{key_of(name)}"], 1e-6
                ), name
    assert np.array(trajectory) == pytest.approx(z["trajectory_loss_rec_meanenergy"], rel=1e-6)
    with torch.no_grad():
        latent, _, gamma = network(x)
    assert near(latent, z["z_after_20"], 1e-5) and near(gamma, z["gamma_after_20"], 1e-5)
    assert dictionary_pixels(gamma).tolist() == z["dictionary_rows"].tolist()
    samples = torch.from_numpy(z["z_after_20"]).T
    solved = low_rank_representation(samples, torch.from_numpy(z["dictionary"]).T, float(z["lrr_lambda"]))
    assert solved.iterations == z["lrr_iterations"]
    assert near(solved.error, z["lrr_E"], 1e-9) and near(solved.coefficients, z["lrr_X"], 1e-9)
    score = torch.linalg.vector_norm(solved.error, dim=0)
    assert near((score - score.min()) / (score.max() - score.min()), z["score"], 1e-9)


@pytest.mark.parametrize("lambda_", ["0.01", "0.0001", "1.0"])
def test_low_rank_solver_agrees_with_the_reference(lambda_, golden):
    z = golden("lrr")
    samples, dictionary = torch.from_numpy(z["S"]), torch.from_numpy(z["D"])
    solved = low_rank_representation(samples, dictionary, float(lambda_))
    assert solved.iterations == z[f"iterations_{lambda_}"]
    assert near(solved.error, z[f"E_{lambda_}"], 1e-12) and near(solved.coefficients, z[f"X_{lambda_}"], 1e-12)
    objective = torch.linalg.matrix_norm(solved.coefficients, "nuc")
    objective = objective + float(lambda_) * torch.linalg.vector_norm(solved.error, dim=0).sum()
    assert objective.item() == pytest.approx(z[f"objective_{lambda_}"].item(), rel=1e-6)


@pytest.mark.parametrize("bands, count", [(50, 49086), (102, 90738), (205, 173241)])
def test_parameters_are_as_many_as_the_architecture_has(bands, count):
    network = LRENNetwork(bands)
    assert sum(p.numel() for p in network.parameters()) == count


def test_mixture_of_sure_memberships_is_each_clusters_own_mean_and_covariance():
    rng = np.random.RandomState(0)
    z = rng.normal(size=(60, 3))
    member = rng.randint(2, size=60)
    parts = mixture(torch.from_numpy(z), torch.from_numpy(np.eye(2)[member]))
    for k in range(2):
        own = z[member == k]
        assert parts.phi[k].item() == pytest.approx(len(own) / 60)
        assert parts.mu[k].numpy() == pytest.approx(own.mean(0))
        assert parts.sigma[k].numpy() == pytest.approx(np.cov(own.T, bias=True))
        assert (parts.cholesky[k] @ parts.cholesky[k].T).numpy() == pytest.approx(
            np.cov(own.T, bias=True) + 1e-6 * np.eye(3)
        )


def test_energy_is_the_negative_log_density_of_the_mixture():
    rng = np.random.RandomState(1)
    z = torch.from_numpy(rng.normal(size=(40, 3)))
    parts = mixture(z, torch.from_numpy(rng.dirichlet(np.ones(4), 40)))
    gaussians = torch.distributions.MultivariateNormal(parts.mu, scale_tril=parts.cholesky)
    density = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(parts.phi), gaussians)
    assert energy(z, parts).numpy() == pytest.approx(-density.log_prob(z).numpy())


def test_dictionary_takes_the_most_and_the_least_sure_pixel_of_each_cluster_that_has_any():
    gamma = torch.tensor([[0.6, 0.1, 0.3], [0.9, 0.0, 0.1], [0.3, 0.2, 0.5], [0.7, 0.1, 0.2]])
    assert dictionary_pixels(gamma).tolist() == [1, 0, 2, 2]


def test_dictionary_takes_the_first_pixel_with_the_value_of_any_cluster():
    """The official look-up: with memberships of 1 the first saturated pixel is the atom of every such cluster."""
    gamma = torch.tensor([[0.1, 0.2, 0.7], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.6, 0.1, 0.3]])
    assert dictionary_pixels(gamma).tolist() == [1, 3, 1, 1, 0, 0]
    rng = np.random.RandomState(0)
    for _ in range(50):
        gamma = np.round(rng.dirichlet([0.05] * 4, 30), 2).astype(np.float32)  # many ties
        expected = []
        for k in range(4):
            values = [row[k] for row in gamma if row.argmax() == k]
            for value in [max(values), min(values)] if values else []:
                expected.append(next(i for i, row in enumerate(gamma) if value in row))
        assert dictionary_pixels(torch.from_numpy(gamma)).tolist() == expected


def test_solver_puts_a_column_outside_the_dictionary_into_the_error():
    """Columns inside the span cost less as coefficients; the one across it can only be an error."""
    dictionary = torch.tensor([[1.0], [0.0]])
    samples = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 2.0]])
    solved = low_rank_representation(samples, dictionary, lambda_=1.0)
    assert solved.error.norm(dim=0).tolist() == pytest.approx([0, 0, 0, 2], abs=1e-6)
    assert solved.coefficients[0].tolist() == pytest.approx([1, 1, 1, 0], abs=1e-6)
    everything = low_rank_representation(samples, dictionary, lambda_=1e-3)
    assert everything.coefficients.abs().max().item() < 1e-6


def test_solution_is_a_stationary_point():
    """The constraint holds, and D^T Y is a subgradient of the nuclear norm where lambda E / |E| is Y."""
    rng = np.random.RandomState(2)
    dictionary, samples = torch.from_numpy(rng.normal(size=(4, 3))), torch.from_numpy(rng.normal(size=(4, 30)))
    lambda_ = 0.3
    solved = low_rank_representation(samples, dictionary, lambda_, iterations=2000)
    assert (samples - dictionary @ solved.coefficients - solved.error).abs().max() < 1e-7
    norms = solved.error.norm(dim=0)
    assert (norms > 1e-6).all()  # four equations, three atoms: every column has an error, so Y is known
    subgradient = dictionary.T @ (lambda_ * solved.error / norms)
    assert torch.linalg.matrix_norm(subgradient, 2) <= 1 + 2e-2
    inner = (subgradient * solved.coefficients).sum()
    assert inner.item() == pytest.approx(torch.linalg.matrix_norm(solved.coefficients, "nuc").item(), rel=2e-2)


def scene() -> torch.Tensor:
    """Two smooth materials of eight bands in noise, and one odd pixel."""
    rng = np.random.RandomState(0)
    cube = np.where(np.arange(20)[:, None, None] < 10, np.linspace(0, 1, 8), np.linspace(1, 0.3, 8))
    cube = np.broadcast_to(cube, (20, 18, 8)) + 0.02 * rng.normal(size=(20, 18, 8))
    cube[5, 7] = [1, 0, 1, 0, 1, 0, 1, 0]
    return torch.from_numpy(cube.transpose(2, 0, 1).copy())[None]


def test_an_odd_pixel_scores_highest():
    score = LREN(epochs=100, clusters=3)(scene())
    assert score.shape == (1, 20, 18) and score.dtype == torch.float32
    assert score[0].argmax().item() == 5 * 18 + 7


def test_training_lowers_the_loss():
    with torch.enable_grad():
        losses = [loss.item() for _, loss in LREN(epochs=40, clusters=3).train(standardise(scene()))]
    assert len(losses) == 40 and losses[-1] < 0.8 * losses[0]


def test_standardised_bands_have_mean_0_and_deviation_1_and_a_constant_band_is_0():
    cube = scene()
    cube[:, 3] = 0.7
    x = standardise(cube * 4e3 + 1e4).double()
    assert x.shape == (360, 8)
    assert x.mean(0).numpy() == pytest.approx(np.zeros(8), abs=1e-6)
    assert x.std(0, correction=0).numpy() == pytest.approx([1, 1, 1, 0, 1, 1, 1, 1], abs=1e-6)
    assert x[:, 0].view(20, 18)[5, 7] == x[:, 0][5 * 18 + 7]  # rows first


def test_seed_alone_decides_the_map_and_leaves_the_global_generator():
    cube, options = scene(), {"epochs": 3, "clusters": 3, "batch": 100}
    state = torch.get_rng_state()
    first = LREN(seed=1, **options)(cube)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(LREN(seed=1, **options)(cube), first)
    assert not torch.equal(LREN(seed=2, **options)(cube), first)


def test_each_image_of_a_batch_is_detected_by_itself_and_without_gradients():
    cube, detector = scene(), LREN(epochs=2, clusters=3)
    expected = detector(cube)
    with torch.inference_mode():
        both = detector(torch.cat([cube.flip(2), cube]))
    assert torch.equal(both[1:], expected)


def test_a_last_batch_too_small_for_a_covariance_is_left_out():
    odd = LREN(epochs=2, clusters=2, batch=359)(scene())  # 360 px: one is left
    assert odd.isfinite().all()


def test_bad_input_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="N x C x H x W"):
        LREN()(torch.rand(3, 4, 4))
    with pytest.raises(ValueError, match="NaN"):
        LREN()(torch.full((1, 3, 8, 8), torch.nan))
    with pytest.raises(ValueError, match=r"9 pixels.*larger cut"):
        LREN()(torch.rand(1, 3, 3, 3))
    with pytest.raises(ValueError, match="same spectrum"):
        LREN()(torch.ones(1, 3, 8, 8))
    for options in ({"lambda_": 0}, {"clusters": 0}, {"epochs": 0}, {"batch": 0}, {"latent": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            LREN(**options)
    with pytest.raises(ValueError, match="above 0"):
        low_rank_representation(torch.eye(2), torch.eye(2), 0)
    with pytest.raises(ValueError, match="d x N"):
        low_rank_representation(torch.eye(2), torch.eye(3))
