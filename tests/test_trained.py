"""What every detector that is trained on each image promises, and the control beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fers.detectors.base import Extent
from fers.detectors.distance import Distance
from fers.detectors.gaed import GAED
from fers.detectors.gt_had import GTHAD
from fers.detectors.pdbsnet import PDBSNet
from fers.detectors.rgae import RGAE
from fers.detectors.trained import SceneTrained, tenths

TRAINED: list[type[SceneTrained]] = [GAED, RGAE, GTHAD, PDBSNet]
LEAVES_OUT = [GAED, RGAE]


def toy_scene(height: int = 24, width: int = 21) -> torch.Tensor:
    """Two smooth materials of eight bands in noise, and one odd pixel."""
    rng = np.random.RandomState(0)
    cube = np.where(np.arange(height)[:, None, None] < height // 2, np.linspace(0.2, 1, 8), np.linspace(1, 0.3, 8))
    cube = np.broadcast_to(cube, (height, width, 8)) + 0.02 * rng.normal(size=(height, width, 8))
    cube[5, 7] = [1, 0, 1, 0, 1, 0, 1, 0]
    return torch.from_numpy(cube.transpose(2, 0, 1).copy())[None]


@pytest.mark.parametrize("detector", [GAED(epochs=5), RGAE(epochs=300), GTHAD(epochs=60)])
def test_an_odd_pixel_scores_highest(detector):
    score = detector(toy_scene())
    assert score.shape == (1, 24, 21) and score.dtype == torch.float32 and (score >= 0).all()
    row, column = divmod(int(score[0].argmax()), 21)
    reach = 1 if isinstance(detector, GTHAD) else 0  # its score is blurred by 3 x 3 px
    assert abs(row - 5) <= reach and abs(column - 7) <= reach


@pytest.mark.parametrize("make", TRAINED)
def test_seed_alone_decides_the_map_and_leaves_the_global_generator(make):
    cube = toy_scene()
    state = torch.get_rng_state()
    first = make(seed=1, epochs=2)(cube)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(make(seed=1, epochs=2)(cube), first)
    assert not torch.equal(make(seed=2, epochs=2)(cube), first)


@pytest.mark.parametrize("make", TRAINED)
def test_each_image_is_trained_on_by_itself_whatever_the_mode_and_range(make):
    cube, detector = toy_scene(), make(epochs=2)
    expected = detector(cube)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(detector(torch.cat([cube.flip(2), cube]))[1:], expected)
    torch.testing.assert_close(detector(cube * 4e3 - 500), expected, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("make", TRAINED)
def test_no_epoch_gives_the_untrained_networks_score(make):
    cube = toy_scene()
    untrained, trained = make(epochs=0)(cube), make(epochs=2)(cube)
    with torch.enable_grad():
        first = next(make(epochs=2).train(cube.float()))()
    assert torch.equal(untrained, first) and not torch.equal(untrained, trained)


@pytest.mark.parametrize("make", TRAINED)
@pytest.mark.parametrize("shape", [(1, 3, 3), (2, 4, 11), (1, 20, 5)])
def test_small_scenes_and_few_bands_are_scored(make, shape):
    cube = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    assert make(epochs=1)(cube).isfinite().all()


@pytest.mark.parametrize("make", TRAINED)
def test_bad_input_is_refused_with_the_remedy(make):
    with pytest.raises(ValueError, match=rf"{make.name} takes cubes N x C x H x W"):
        make()(torch.rand(3, 9, 9))
    with pytest.raises(ValueError, match=r"NaN or infinity\. Fill or cut"):
        make()(torch.full((1, 3, 9, 9), torch.nan))
    with pytest.raises(ValueError, match="same spectrum"):
        make()(torch.ones(1, 3, 9, 9))
    with pytest.raises(ValueError, match="epochs is at least 0; got -1"):
        make(epochs=-1)


@pytest.mark.parametrize("make", LEAVES_OUT)
def test_what_is_left_out_counts_in_no_check_but_all_cannot_be(make):
    cube, out = torch.ones(1, 3, 9, 9), torch.zeros(1, 9, 9, dtype=torch.bool)
    cube[0, 1, 4, 4], out[0, 4, 4] = 2, True
    with pytest.raises(ValueError, match="same spectrum"):
        make()(cube, out)
    with pytest.raises(ValueError, match="all pixels are left out"):
        make()(cube, torch.ones_like(out))


@pytest.mark.parametrize("count", [1, 9, 10, 24, 100])
def test_ten_batches_cover_an_order_and_the_last_ones_are_larger(count):
    batches = tenths(torch.arange(count))
    assert torch.equal(torch.cat(batches), torch.arange(count))
    sizes = [len(batch) for batch in batches]
    assert sizes == sorted(sizes) and len(sizes) == min(count, 10) and sizes[-1] - sizes[0] <= 1


@pytest.mark.parametrize("scaling", ["cube", "band"])
def test_distance_is_that_to_the_mean_of_the_scaled_pixels(scaling):
    cube, out = toy_scene(), torch.zeros(1, 24, 21, dtype=torch.bool)
    out[0, 2:6, 3:9] = True
    cube[:, :, out[0]] *= 9
    pixels = cube[0].flatten(1).T.numpy()
    used = pixels[~out.flatten().numpy()]
    axis = None if scaling == "cube" else 0
    span = used.max(axis) - used.min(axis)
    expected = (((pixels - used.mean(0)) / span) ** 2).sum(1)
    assert Distance(scaling)(cube, out).flatten().numpy() == pytest.approx(expected, rel=1e-9)
    assert Extent.of(cube, out).high.max() < 2
    with pytest.raises(ValueError, match="'cube' or 'band'"):
        Distance("pixel")
