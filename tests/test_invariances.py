"""What a score map must not depend on, as properties: the units of the cube, and how the computer goes about it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_streaming import run

from fers.detection.detect import detect
from fers.detectors.rx import rx_array
from fers.util.errors import FersError

few = settings(max_examples=10, deadline=None, derandomize=True)


def cube_of(seed: int, height: int = 24, width: int = 21, bands: int = 6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(height, width, bands)) @ rng.normal(size=(bands, bands)) + rng.uniform(1, 9, bands)


@few
@given(
    st.integers(0, 10**6),
    st.floats(1e-3, 1e3),
    st.sampled_from(["bands", "pixels", "mixed", "both"]),
)
def test_rx_is_the_same_under_affine_maps_of_the_bands_and_orders_of_bands_and_pixels(seed, scale, kind):
    rng, cube = np.random.default_rng(seed), cube_of(seed)
    mixing = np.linalg.qr(rng.normal(size=(6, 6)))[0] * rng.uniform(0.1, 10, 6) * scale
    bands, pixels = rng.permutation(6), rng.permutation(24 * 21)
    expected = rx_array(cube)
    if kind in ("mixed", "both"):
        cube = cube @ mixing + rng.normal(size=6) * scale
    if kind in ("bands", "both"):
        cube = cube[:, :, bands]
    if kind == "pixels":
        cube = cube.reshape(-1, 6)[pixels].reshape(cube.shape)
        expected = expected.reshape(-1)[pixels].reshape(expected.shape)
    assert rx_array(cube) == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
@few
@given(st.integers(0, 10**6), st.integers(-12, 12), st.integers(-4, 4))
def test_fusion_c_is_the_same_under_a_scale_of_the_cube_and_nearly_so_under_an_offset(seed, power, offset):
    """A power of two changes no bit of the normalised cube; an offset costs it some of its last digits."""
    cube = cube_of(seed, 20, 20).astype(np.float32)
    plain = detect(cube).score
    assert np.array_equal(detect(cube * np.float32(2.0**power)).score, plain)
    assert detect(cube + np.float32(offset)).score == pytest.approx(plain, abs=1e-3 * np.ptp(plain))


@cache
def whole(features: str) -> tuple[np.ndarray, np.ndarray]:
    cube = cube_of(3, 48, 17).astype(np.float32)
    return cube, detect(cube, features=features).score


@few
@given(
    features=st.sampled_from(["original", "untrained"]),
    workers=st.integers(1, 4),
    memory=st.sampled_from(["400MB", "2GB", "20GB"]),
)
def test_workers_and_memory_change_no_bit(features, workers, memory):
    cube, expected = whole(features)
    try:
        found = detect(cube, features=features, workers=workers, memory=memory)
    except FersError as error:
        assert "memory" in str(error) and memory == "400MB"
        return
    assert np.array_equal(found.score, expected)


@pytest.mark.slow
@few
@given(
    rows=st.integers(1, 48),
    strips=st.integers(1, 9),
    workers=st.integers(1, 3),
    features=st.sampled_from(["original", "untrained"]),
)
def test_strips_change_rounding_only_and_blocks_nothing(rows, strips, workers, features):
    cube, expected = whole(features)
    with TemporaryDirectory() as folder:
        cut, _, _ = run(cube, Path(folder), features, strip_rows=rows, background_rows=rows)
        again, _, _ = run(
            cube, Path(folder), features, strip_rows=rows, background_rows=rows, block_strips=strips, workers=workers
        )
    assert np.array_equal(again, cut)
    assert cut == pytest.approx(expected, abs=1e-6 * np.ptp(expected))
