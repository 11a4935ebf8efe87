"""Local RX, and the dual window that it shares with CRD and 2S-GLRT."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
import torch
from conftest import shared_file

from fers.detectors.crd import CRD
from fers.detectors.glrt import TwoStepGLRT
from fers.detectors.krx import KRX
from fers.detectors.local_pc import LRXPC
from fers.detectors.lrx import LRX
from fers.detectors.rx import rx
from fers.detectors.windows import DualWindow, RingSums


def random_cubes(n=2, bands=4, height=11, width=13, seed=0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(bands, bands, generator=generator, dtype=torch.float64)
    return torch.einsum("ab,nbhw->nahw", mix, torch.randn(n, bands, height, width, generator=generator).double()) + 5


def around(row: int, column: int, inner: int, outer: int, height: int, width: int):
    """The inner window and the ring of a pixel as lists of (row, column), by the definition."""

    def window(side):
        first_row = min(max(row - side // 2, 0), height - side)
        first_column = min(max(column - side // 2, 0), width - side)
        return [(first_row + i, first_column + j) for i in range(side) for j in range(side)]

    inside = window(inner)
    return inside, [pixel for pixel in window(outer) if pixel not in set(inside)]


def loop(cube: np.ndarray, inner: int, outer: int) -> np.ndarray:
    _, height, width = cube.shape
    scores = np.empty((height, width))
    for row in range(height):
        for column in range(width):
            _, ring = around(row, column, inner, outer, height, width)
            samples = np.array([cube[:, r, c] for r, c in ring])
            d = (cube[:, row, column] - samples.mean(0)) / samples.std(0, ddof=1)
            scores[row, column] = d @ np.linalg.pinv(np.corrcoef(samples, rowvar=False), hermitian=True) @ d
    return scores


@pytest.mark.parametrize("inner, outer", [(1, 5), (3, 7), (5, 11)])
def test_lrx_is_the_mahalanobis_distance_to_the_ring(inner, outer):
    cubes = random_cubes()
    scores = LRX(inner, outer)(cubes)
    assert scores.shape == (2, 11, 13) and scores.dtype == torch.float64
    for cube, score in zip(cubes.numpy(), scores.numpy(), strict=True):
        assert score == pytest.approx(loop(cube, inner, outer), rel=1e-9)


def test_lrx_with_fewer_ring_pixels_than_bands_uses_the_pseudo_inverse():
    cubes = random_cubes(n=1, bands=12, height=6, width=6)
    assert LRX(1, 3)(cubes)[0].numpy() == pytest.approx(loop(cubes[0].numpy(), 1, 3), rel=1e-6)


def test_ring_of_a_scene_without_structure_gives_what_global_rx_gives_nearly():
    """White noise has one background everywhere: with a ring of 720 of 961 pixels the two maps agree but for noise."""
    cube = torch.randn(1, 3, 31, 31, generator=torch.Generator().manual_seed(0))
    ours, theirs = LRX(3, 27)(cube), rx(cube)
    assert np.corrcoef(ours.flatten(), theirs.flatten())[0, 1] > 0.99


def test_windows_hold_the_pixel_and_never_share_one():
    windows = DualWindow(3, 7)
    [image] = windows.images(random_cubes(n=1, height=9, width=10), None)
    for centre in torch.arange(90).split(17):
        inside, rings = windows.inner_pixels(centre, image).tolist(), windows.ring_pixels(centre, image).tolist()
        for pixel, inner, ring in zip(centre.tolist(), inside, rings, strict=True):
            expected_inner, expected_ring = around(pixel // 10, pixel % 10, 3, 7, 9, 10)
            assert inner == [r * 10 + c for r, c in expected_inner] and pixel in inner
            assert ring == [r * 10 + c for r, c in expected_ring] and len(ring) == windows.ring_size


def scene_with_a_past() -> torch.Tensor:
    """Seventy columns of 12 bands, some nearly collinear: a part without one band, a dim one, and a spike."""
    cube = random_cubes(n=1, bands=12, height=15, width=70)
    cube[:, 3] = cube[:, :3].sum(1) + 1e-2 * cube[:, 3]
    cube[:, 5, :, 20:40] = 3.7
    cube[:, :, :, 50:] *= 1e-3
    cube[0, :, 7, 12] = 1e5
    return cube


@pytest.mark.parametrize("kept", [0, 0.3])
@pytest.mark.parametrize(("make", "inner"), [(LRX, 3), (LRX, 1), (TwoStepGLRT, 3)])
def test_sums_that_are_kept_from_column_to_column_are_those_made_afresh(make, inner, kept, monkeypatch):
    """A ring remembers nothing: not a spike that has gone through it, nor a band that varied before."""
    cube, detector = scene_with_a_past(), make(inner, 7)
    left_out = None
    if kept:
        left_out = torch.rand(1, 15, 70, generator=torch.Generator().manual_seed(1)) < kept
        left_out[:, :, 60:] = True
    scores = detector(cube, left_out)
    monkeypatch.setattr(RingSums, "worn", lambda sums: torch.ones_like(sums.count, dtype=torch.bool))
    afresh = detector(cube, left_out)
    windows = DualWindow(inner, 7)
    [image] = windows.images(cube, left_out)
    holds_spike = (windows.ring_pixels(torch.arange(15 * 70), image) == 7 * 70 + 12).any(1)
    assert 0 < holds_spike.sum() < 60
    assert torch.equal(scores.isnan(), afresh.isnan()) and bool(scores.isnan().any()) == bool(kept)
    apart = ((scores - afresh).abs() / afresh).flatten()[
        ~holds_spike
    ]  # with the spike in it, a ring has no digits left
    apart = apart[~apart.isnan()]
    assert apart.quantile(0.9) < 1e-8 and apart.max() < 1e-4  # the largest where a ring is half bright, half dim


def test_sums_are_kept_where_nothing_wears_them(monkeypatch):
    """Else nothing is gained: on noise a ring is summed afresh for a small part of the pixels."""
    summed = []
    of = RingSums.of
    monkeypatch.setattr(RingSums, "of", lambda image, ring: summed.append(len(ring)) or of(image, ring))
    LRX(5, 15)(random_cubes(n=1, bands=12, height=15, width=60))
    assert 15 <= sum(summed) < 15 * 60 / 5


def test_where_the_rank_rule_drops_something_it_is_asked(monkeypatch):
    """A band that is another's double has no variance of its own: Cholesky alone would divide by rounding errors."""
    cube = random_cubes(n=1, bands=5, height=11, width=20)
    cube[:, 4] = cube[:, 0] * 2
    assert torch.allclose(LRX(3, 9)(cube), LRX(3, 9)(cube[:, :4]), rtol=1e-7)
    lacking = torch.zeros(1, 11, 20, dtype=torch.bool)
    lacking[:, :, 8:] = True  # leaves fewer pixels than bands in some rings
    assert torch.isfinite(LRX(3, 9)(cube, lacking)[0, :, :12]).all()


@pytest.mark.parametrize("name", ["abu/abu-airport-2.mat", "aviris/hydice-urban.mat"])
def test_lrx_on_a_real_scene_is_its_plain_loop(name):
    """Some pixels of a few rows; a ring's covariance is nearly singular here."""
    cube = torch.from_numpy(scipy.io.loadmat(shared_file(name))["data"][:27, :60].astype(float)).permute(2, 0, 1)[None]
    scores, [image] = LRX()(cube), DualWindow(15, 25).images(cube, None)
    centre = torch.arange(5, 27 * 60, 331)
    for pixel, ring in zip(centre, image.pixels[DualWindow(15, 25).ring_pixels(centre, image)], strict=True):
        d = image.pixels[pixel] - ring.mean(0)
        q = np.linalg.solve(np.cov(ring.numpy(), rowvar=False), d.numpy())
        assert float(scores.flatten()[pixel]) == pytest.approx(float(d.numpy() @ q), rel=3e-8)


@pytest.mark.parametrize("make", [LRX, CRD, TwoStepGLRT, LRXPC])
def test_blocks_and_batches_make_no_difference(make, monkeypatch):
    cubes, detector = random_cubes(n=3), make(3, 7)
    whole = detector(cubes)
    monkeypatch.setattr("fers.detectors.windows.BLOCK_BYTES", 1 << 16)
    monkeypatch.setattr("fers.detectors.local_pc._BYTES", 1 << 12)
    for index in range(3):
        assert torch.allclose(detector(cubes[index : index + 1])[0], whole[index], rtol=1e-9)


@pytest.mark.parametrize("make", [LRX, CRD, TwoStepGLRT, LRXPC])
def test_what_no_dual_window_can_do_is_refused(make):
    with pytest.raises(ValueError, match="odd number"):
        make(inner=4, outer=9)
    with pytest.raises(ValueError, match="odd number"):
        make(inner=3, outer=10)
    with pytest.raises(ValueError, match="smaller than the outer"):
        make(inner=9, outer=9)
    with pytest.raises(ValueError, match=r"larger than the scene \(11 x 13 px\)"):
        make(inner=3, outer=13)(random_cubes())


@pytest.mark.parametrize("detector", [LRX(3, 7), CRD(3, 7), TwoStepGLRT(3, 7), LRXPC(3, 7), KRX(50)])
def test_cubes_of_another_shape_or_with_nan_are_refused(detector):
    cube = random_cubes()
    cube[0, 1, 2, 3] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinite values\. Cut"):
        detector(cube)
    with pytest.raises(ValueError, match="N x C x H x W"):
        detector(cube[0])


@pytest.mark.parametrize("detector", [LRX(3, 7), TwoStepGLRT(3, 7), LRXPC(3, 7), KRX(50)])
def test_a_constant_cube_is_refused(detector):
    with pytest.raises(ValueError, match=r"no band|the same"):
        detector(torch.ones(1, 3, 11, 11))


def test_lrx_says_where_nothing_varies():
    cube = random_cubes(n=1, height=20, width=20)
    cube[:, :, :8, :8] = 1
    with pytest.raises(ValueError, match=r"no band varies around \d+ pixels.*larger outer window"):
        LRX(1, 5)(cube)
