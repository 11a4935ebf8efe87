"""PDBSNet against its golden file, and its blind spot by gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fers.detectors.base import minmax
from fers.detectors.pdbsnet import BlindConv, PDBSNet, PDBSNetwork, fit_blindly, thin, unthin


def name_here(key: str) -> str:
    return key.replace("branch2.body.", "branch3.", 1).replace("branch1.body.", "branch2.", 1)


def test_mosaic_network_and_training_agree_with_the_reference(golden):
    z = golden("pdbsnet")
    image, network = torch.from_numpy(z["image"])[None], PDBSNetwork(10, width=12, blocks=2)
    network.load_state_dict({name_here(key[2:]): torch.from_numpy(z[key]) for key in z if key.startswith("w/")})
    assert np.array_equal(thin(torch.arange(36.0).view(1, 1, 6, 6), 3)[0, 0].numpy(), z["pd_of_arange36"])
    assert np.abs(network(image)[0].detach().numpy() - z["forward"]).max() < 1e-6
    assert list(fit_blindly(network, image, 50)) == pytest.approx(z["losses"].tolist(), rel=2e-6)
    score = (network(image).detach() - image).square().mean(1)
    assert np.abs(minmax(score)[0].numpy() - z["map"]).max() < 2e-6
    trained = network.state_dict()
    assert np.abs(trained["head.0.weight"].numpy() - z["w_after/head.0.weight"]).max() < 1e-7
    difference = np.abs(trained["branch2.0.weight"].numpy() - z["w_after/branch1.body.0.weight"])
    difference[:, :, 1, 1] = 0  # a weight that never counts
    assert difference.max() < 1e-7


@pytest.mark.parametrize("bands, count", [(102, 677702), (189, 686141), (205, 687693)])
def test_parameters_are_as_many_as_the_architecture_has(bands, count):
    assert sum(p.numel() for p in PDBSNetwork(bands).parameters()) == count


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_no_output_depends_on_the_input_at_its_pixel(factor):
    network = PDBSNetwork(2, factor, width=6, blocks=3).double()
    image = torch.rand(1, 2, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    output = network(image)[0].sum(0)
    for row, column in [(0, 0), (5, 7), (11, 3)]:
        (gradient,) = torch.autograd.grad(output[row, column], image, retain_graph=True)
        assert (gradient[0, :, row, column] == 0).all()
        assert gradient.abs().sum() > 0


def test_a_blind_convolution_is_one_with_its_centre_cut_out():
    x = torch.rand(1, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    conv = BlindConv(2, 3, 3, padding=1)
    weight = conv.weight.detach().clone()
    weight[:, :, 1, 1] = 0
    assert torch.equal(conv(x), F.conv2d(x, weight, conv.bias, padding=1))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_mosaics_are_put_back(factor):
    image = torch.rand(2, 3, 6, 12)
    mosaic = thin(image, factor)
    assert torch.equal(unthin(mosaic, factor), image)
    assert torch.equal(mosaic[:, :, : 6 // factor, : 12 // factor], image[:, :, ::factor, ::factor])


def test_training_moves_towards_the_image_and_small_scenes_are_refused():
    image = torch.rand(1, 3, 7, 8, generator=torch.Generator().manual_seed(0))
    losses = list(fit_blindly(PDBSNetwork(3, width=8, blocks=1), image, 60))
    assert len(losses) == 60 and losses[-1] < losses[0]
    with pytest.raises(ValueError, match=r"2 x 9 px; at least 3 px.*larger cut"):
        PDBSNet(epochs=1)(torch.rand(1, 3, 2, 9))
    with pytest.raises(ValueError, match="factor"):
        PDBSNet(factor=0)


def test_a_pixel_unlike_its_neighbours_scores_highest():
    rows, columns = torch.meshgrid(torch.linspace(0, 1, 15), torch.linspace(0, 1, 18), indexing="ij")
    image = torch.stack([0.3 + 0.2 * (rows * (b + 1) + columns * (4 - b)) / 4 for b in range(4)])[None]
    image[0, :, 6, 9] = torch.tensor([0.9, 0.1, 0.9, 0.1])
    network = PDBSNetwork(4, width=16, blocks=2)
    list(fit_blindly(network, image, 200))
    error = (network(image) - image).square().mean(1)
    assert error.argmax() == 6 * 18 + 9
