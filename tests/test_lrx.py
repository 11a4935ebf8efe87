"""Local RX, and the dual window that it shares with CRD and 2S-GLRT."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fers.detectors.crd import CRD
from fers.detectors.glrt import TwoStepGLRT
from fers.detectors.krx import KRX
from fers.detectors.local_pc import LRXPC
from fers.detectors.lrx import LRX
from fers.detectors.rx import rx
from fers.detectors.windows import DualWindow


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
    for part in windows.blocks(9, 10, 17, torch.device("cpu")):
        for centre, inner, ring in zip(part.centre.tolist(), part.inner.tolist(), part.ring.tolist(), strict=True):
            expected_inner, expected_ring = around(centre // 10, centre % 10, 3, 7, 9, 10)
            assert inner == [r * 10 + c for r, c in expected_inner] and centre in inner
            assert ring == [r * 10 + c for r, c in expected_ring] and len(ring) == windows.ring_size


@pytest.mark.parametrize("make", [LRX, CRD, TwoStepGLRT, LRXPC])
def test_blocks_and_batches_make_no_difference(make, monkeypatch):
    cubes, detector = random_cubes(n=3), make(3, 7)
    whole = detector(cubes)
    monkeypatch.setattr("fers.detectors.windows._BLOCK_BYTES", 1 << 16)
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
