"""Large scenes by blocks: the same numbers for any cut, any workers, and after any interruption."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fers.detection.executors import thread_pool
from fers.detection.store import Statistics, Store
from fers.detection.streaming import Stream, combine_maps, robust_keep
from fers.detectors import rx, rx_array
from fers.networks import SpeFEN
from fers.scenes.bands import BandChoice
from fers.scoring.blocks import PlanError, make_plan, parse_size
from fers.scoring.maps import METHODS, Job, Network
from fers.scoring.moments import Moments, Tree
from fers.util.errors import FersError

MEMORY = 1 << 40


@dataclass(eq=False)
class ArrayReader:
    """As the readers of files offer themselves, over an array."""

    array: np.ndarray
    path: Path = Path("array")
    bad_rows: tuple[int, ...] = ()
    reads: list[slice] = field(default_factory=list)

    @property
    def shape(self):
        return self.array.shape

    def read_valid(self, rows, bands):
        self.reads.append(rows)
        if any(rows.start <= row < rows.stop for row in self.bad_rows):
            raise FersError("the disk is broken")
        values = self.array[rows][:, :, bands]
        return values, np.isfinite(values).all(axis=2)


def scene(height=61, width=17, bands=6, seed=0) -> np.ndarray:
    rng = np.random.RandomState(seed)
    mixing = rng.normal(size=(bands, bands))
    cube = 100 + rng.normal(size=(height, width, bands)) @ mixing
    cube[height // 2, 5] += 30
    return cube.astype(np.float32)


def run(
    cube,
    tmp_path,
    method="rx-spectral",
    block_strips=1,
    workers=1,
    keep=None,
    strip_rows=10,
    segment_strips=None,
    **job,
):
    reader = cube if isinstance(cube, ArrayReader) else ArrayReader(cube)
    bands = reader.shape[2]
    plan = make_plan(reader.shape, 4 * bands, MEMORY, workers)
    strips = -(-plan.height // strip_rows)
    plan = replace(plan, strip_rows=strip_rows, block_strips=block_strips, segment_strips=segment_strips or strips)
    network = Network(bands) if method != "rx" else None
    made = Job(reader, BandChoice("all", bands, tuple(range(bands))), METHODS[method], network=network, **job)
    keep = keep or (lambda rows: np.ones((rows.stop - rows.start, reader.shape[1]), bool))
    with thread_pool(workers) as pool:
        stream = Stream(made, plan, pool, Store(tmp_path / "work", {}), keep)
        ready = stream.range()
        statistics = stream.moments(ready)
        maps, colours = stream.scores(ready, statistics)
    stream.store.clear()
    return maps, colours, statistics


def test_scores_are_the_same_bits_for_any_block_height_and_number_of_threads(tmp_path):
    cube = scene()
    whole, colours, _ = run(cube, tmp_path, block_strips=8)
    for block_strips, workers in ((1, 1), (2, 3), (4, 2)):
        maps, others, _ = run(cube, tmp_path, block_strips=block_strips, workers=workers)
        np.testing.assert_array_equal(maps, whole)
        np.testing.assert_array_equal(others, colours)


def test_fusion_c_is_the_same_bits_for_any_block_height_and_that_of_one_strip(tmp_path):
    cube = scene(height=120, width=40)
    cube[50:52, 20] = np.nan
    one, _, _ = run(cube, tmp_path, method="fused-C", strip_rows=120)
    maps, _, _ = run(cube, tmp_path, method="fused-C", strip_rows=20)
    again, _, _ = run(cube, tmp_path, method="fused-C", strip_rows=20, block_strips=4, workers=2)
    np.testing.assert_array_equal(again, maps)
    np.testing.assert_allclose(maps, one, atol=1e-6 * np.nanmax(np.abs(one)))


def test_scores_by_strips_are_those_of_the_whole_scene(tmp_path):
    cube = scene()
    maps, _, _ = run(cube, tmp_path)
    np.testing.assert_allclose(maps[0], rx_array(cube), rtol=1e-9)
    h = (0.1 * (2 * (cube.astype(float) - cube.min()) / (float(cube.max()) - cube.min()) - 1)).astype(np.float32)
    h = torch.from_numpy(h).permute(2, 0, 1)[None]
    with torch.no_grad():
        features = SpeFEN(cube.shape[2], "random").eval()(h)
    expected = rx(h + features)[0].numpy()
    assert np.abs(maps[1] - expected).max() <= 1e-6 * expected.max()


def test_a_strip_that_reflects_its_own_border_would_show(tmp_path):
    """The test above can fail: without the halo the seams differ."""
    cube = scene()
    maps, _, _ = run(cube, tmp_path)
    top, _, statistics = run(cube[:10], tmp_path)
    _, _, whole = run(cube, tmp_path)
    assert statistics.low != whole.low or not np.allclose(top[1], maps[1, :10], rtol=1e-6)


def test_scores_do_not_depend_on_pixels_without_data(tmp_path):
    cube = scene()
    cube[20:22, 3:5] = np.nan
    maps, colours, statistics = run(cube, tmp_path, block_strips=2)
    assert np.isnan(maps[:, 20:22, 3:5]).all() and np.isfinite(maps).sum() == 2 * (61 * 17 - 4)
    assert np.isnan(colours[20:22, 3:5]).all()
    np.testing.assert_allclose(
        maps[0], rx_array(np.nan_to_num(cube), mask=np.isnan(cube[..., 0])) + 0 * maps[0], rtol=1e-9
    )
    assert statistics.backgrounds["spectral"][0].count == 61 * 17 - 8 * 8  # 3 px around the hole, cut at the left side


def test_masked_pixels_count_for_nothing_and_are_scored_only_on_request(tmp_path):
    cube = scene()
    masked = np.zeros((61, 17), bool)
    masked[30, 5] = True
    cube[30, 5] = 1e6
    keep = lambda rows: ~masked[rows]  # noqa: E731
    maps, _, statistics = run(cube, tmp_path, keep=keep)
    assert np.isnan(maps[:, 30, 5]).all() and statistics.high < 1e6
    scored, _, _ = run(cube, tmp_path, keep=keep, score_masked=True)
    assert np.nanargmax(scored[0]) == 30 * 17 + 5
    np.testing.assert_array_equal(scored[0][~masked], maps[0][~masked])


def test_segments_follow_the_line_without_steps(tmp_path):
    cube = scene(height=120)
    cube[60:] = 5 * cube[60:] + 300
    maps, _, _ = run(cube, tmp_path, method="rx", segment_strips=3)
    first, last = rx_array(cube[:30])[:15], rx_array(cube[90:])[15:]
    np.testing.assert_allclose(maps[0, :15], first, rtol=1e-8)
    np.testing.assert_allclose(maps[0, 105:], last, rtol=1e-8)
    again, _, _ = run(cube, tmp_path, method="rx", segment_strips=3, block_strips=4)
    np.testing.assert_array_equal(again, maps)


def test_a_stopped_run_goes_on_and_gives_the_same(tmp_path):
    cube = scene()
    whole, _, _ = run(cube, tmp_path / "a")
    broken = ArrayReader(cube, bad_rows=(45,))
    with pytest.raises(FersError, match="rows 40 to 49: the disk is broken"):
        run(broken, tmp_path / "b")
    repaired = ArrayReader(cube)
    maps, _, _ = run(repaired, tmp_path / "b")
    np.testing.assert_array_equal(maps, whole)
    assert len(repaired.reads) < 3 * 7


def test_another_identity_starts_anew(tmp_path):
    block = make_plan((20, 20, 3), 12, MEMORY).blocks[0]
    Store(tmp_path / "w", {"a": 1}).save("x", block, {"v": np.arange(3)})
    assert Store(tmp_path / "w", {"a": 1}).load("x", block)["v"].tolist() == [0, 1, 2]
    assert Store(tmp_path / "w", {"a": 2}).load("x", block) is None


def test_a_background_comes_back_from_its_file(tmp_path):
    _, _, statistics = run(scene(), tmp_path)
    statistics.save(tmp_path / "background.npz", {"method": "x"})
    read, about = Statistics.load(tmp_path / "background.npz")
    assert about == {"method": "x"} and (read.low, read.high) == (statistics.low, statistics.high)
    np.testing.assert_array_equal(
        read.backgrounds["spectral"][0].scatter, statistics.backgrounds["spectral"][0].scatter
    )
    (tmp_path / "other.npz").write_bytes(b"text")
    with pytest.raises(FersError, match=r"other\.npz: not a background"):
        Statistics.load(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("cube", "message"),
    [
        (np.full((20, 20, 4), 7.0), "every value of the chosen bands is 7"),
        (np.full((20, 20, 4), np.nan), "no pixel is left"),
        (scene(9, 9, 90), "81 pixels for"),
    ],
)
def test_scenes_without_a_background_are_named(cube, message, tmp_path):
    with pytest.raises(FersError, match=message):
        run(cube, tmp_path)


def test_moments_of_parts_are_those_of_all_pixels_in_any_order():
    pixels = np.random.RandomState(0).normal(size=(7, 50, 4)) + 1e3
    parts = [Moments.of(torch.from_numpy(p.T[None, :, None]), np.ones((1, 50), bool)) for p in pixels]
    totals = []
    for order in (range(7), (6, 2, 4, 0, 5, 1, 3)):
        tree = Tree(7)
        for number in order:
            tree.add(0, number, parts[number])
        totals.append(tree.total())
    np.testing.assert_array_equal(totals[0].scatter, totals[1].scatter)
    np.testing.assert_allclose(totals[0].covariance, np.cov(pixels.reshape(-1, 4).T), rtol=1e-10)
    spectrum = pixels[0, 0]
    score = (spectrum - totals[0].mean) @ np.linalg.inv(totals[0].covariance) @ (spectrum - totals[0].mean)
    np.testing.assert_allclose(totals[0].contributions(spectrum).sum(), score)
    with pytest.raises(ValueError, match="missing"):
        Tree(2).total()


def test_few_pixels_have_moments_too():
    cube = torch.arange(8.0).view(1, 2, 2, 2)
    one = Moments.of(cube, np.array([[False, True], [False, False]]))
    assert one.count == 1 and one.mean.tolist() == [1.0, 5.0] and not one.scatter.any()
    none = Moments.of(cube, np.zeros((2, 2), bool))
    assert (none + one).mean.tolist() == [1.0, 5.0] and (one + none).count == 1


def test_robust_background_leaves_out_the_highest_scores():
    score = np.arange(100.0).reshape(10, 10)
    score[0, 0] = np.nan
    keep, count = robust_keep(lambda rows: np.ones((10, 10), bool)[rows], score, 0.05)
    assert count == 5 and keep(slice(0, 10)).sum() == 95 and not keep(slice(9, 10))[0, -5:].any()


def test_maps_are_multiplied_after_scaling():
    maps = np.array([[[0.0, 5.0, 10.0, np.nan]], [[3.0, 1.0, 2.0, np.nan]]])
    np.testing.assert_array_equal(combine_maps(maps), [[0.0, 0.0, 0.5, np.nan]])


def test_the_plan_keeps_to_the_memory_and_refuses_too_little():
    shape = (20_000, 600, 425)
    small, large = (make_plan(shape, 1700, parse_size(text), workers=2) for text in ("2GB", "8GB"))
    assert small.peak <= parse_size("2GB") and small.block_strips < large.block_strips
    assert small.strip_rows == large.strip_rows
    assert sum(b.stop - b.start for b in small.blocks) == 20_000
    with pytest.raises(PlanError, match="Give more --memory"):
        make_plan(shape, 1700, parse_size("700MB"))
    with pytest.raises(PlanError, match="at least 9 px"):
        make_plan((8, 100, 3), 12, MEMORY)
    with pytest.raises(PlanError, match="not a size"):
        parse_size("2 apples")


@pytest.mark.parametrize("chunk", [1, 10, 42, 256, 336])
def test_strips_are_made_of_whole_chunks_or_are_parts_of_them(chunk):
    rows = make_plan((20_000, 600, 10), 40, MEMORY, chunk_rows=chunk).strip_rows
    assert rows % chunk == 0 or chunk % rows == 0
