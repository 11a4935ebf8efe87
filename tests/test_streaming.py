"""Large scenes by blocks: the same numbers for any cut, any workers, and after any interruption."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fers.detection.blocks import PlanError, make_plan, parse_size
from fers.detection.detect import detect
from fers.detection.executors import thread_pool
from fers.detection.job import Job, normalised_rows
from fers.detection.options import DetectOptions
from fers.detection.store import BackgroundStatistics, Store
from fers.detection.streaming import Stream, without_highest, without_hot_pixels
from fers.detectors.background import Background, Moments
from fers.detectors.base import Sum, product
from fers.detectors.rx import rx, rx_array
from fers.networks import SpeFEN
from fers.scenes.bands import BandChoice
from fers.scenes.normalise import scaled
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
    features="untrained",
    fusion=None,
    detect="RX",
    block_strips=1,
    workers=1,
    left_out=None,
    strip_rows=10,
    segment_strips=None,
    background_rows=None,
    background_every=1,
    **job,
):
    reader = cube if isinstance(cube, ArrayReader) else ArrayReader(cube)
    bands = reader.shape[2]
    options = DetectOptions(features=features, fusion=fusion, detect=detect, device="cpu")
    made = Job(reader, BandChoice("all", bands, tuple(range(bands))), options.config(bands), **job)
    plan = make_plan(reader.shape, 4 * bands, MEMORY, workers)
    strips = -(-plan.height // strip_rows)
    plan = replace(plan, strip_rows=strip_rows, block_strips=block_strips, segment_strips=segment_strips or strips)
    plan = replace(plan, background_rows=background_rows or strip_rows, background_every=background_every)
    left_out = left_out or (lambda rows: np.zeros((rows.stop - rows.start, reader.shape[1]), bool))
    with thread_pool(workers) as pool:
        stream = Stream(made, plan, pool, Store(tmp_path / "work", {}), left_out)
        ready, _ = stream.range()
        statistics = stream.statistics(ready)
        score, colours = stream.scores(ready, statistics)
    stream.store.clear()
    return score, colours, statistics


def normalised(cube: np.ndarray) -> torch.Tensor:
    h = (0.1 * (2 * (cube.astype(float) - cube.min()) / (float(cube.max()) - cube.min()) - 1)).astype(np.float32)
    return torch.from_numpy(h).permute(2, 0, 1)[None]


def test_scores_are_the_same_bits_for_any_block_height_and_number_of_threads(tmp_path):
    cube = scene()
    whole, colours, _ = run(cube, tmp_path, block_strips=8)
    for block_strips, workers in ((1, 1), (2, 3), (4, 2)):
        maps, others, _ = run(cube, tmp_path, block_strips=block_strips, workers=workers)
        np.testing.assert_array_equal(maps, whole)
        np.testing.assert_array_equal(others, colours)


@pytest.mark.parametrize(
    "setting", [{"fusion": "C"}, {"fusion": "D"}, {"fusion": "H"}, {"features": "original", "detect": "LRX-PC"}]
)
def test_the_cut_changes_no_bit_by_blocks_and_only_rounding_by_strips(tmp_path, setting):
    cube = scene(height=120, width=40)
    cube[50:52, 20] = np.nan
    one, _, _ = run(cube, tmp_path, strip_rows=120, **setting)
    score, _, _ = run(cube, tmp_path, strip_rows=20, **setting)
    again, _, _ = run(cube, tmp_path, strip_rows=20, block_strips=4, workers=2, **setting)
    np.testing.assert_array_equal(again, score)
    np.testing.assert_allclose(score, one, atol=1e-6 * np.nanmax(np.abs(one)))


@pytest.mark.parametrize("hot", [1e3, 1e9, -1e6])
@pytest.mark.parametrize("setting", [{}, {"features": "original"}, {"features": "untrained", "fusion": None}], ids=str)
def test_a_hot_pixel_hides_no_target(hot, setting):
    rng = np.random.default_rng(0)
    mixed = rng.dirichlet(np.ones(4), size=(60, 50)) @ rng.normal(0.3, 0.05, (4, 20))
    cube = (mixed + rng.normal(0, 0.002, mixed.shape)).astype(np.float32)
    places = [(10, 10), (20, 40), (35, 12), (45, 30), (52, 45)]
    for place in places:
        cube[place] = 0.3 + 0.05 * np.cos(np.arange(20))
    plain = detect(cube, backbone="random", top=6, **setting)
    cube[25, 25] = hot
    result = detect(cube, backbone="random", top=6, **setting)
    assert [note for note in result.about["notes"] if "count neither in the range" in note and "--range" in note]
    assert not [note for note in plain.about["notes"] if "range" in note]
    found = {(target["row"], target["column"]) for target in result.detections}
    assert set(places) <= {(row + i, column + j) for row, column in found for i in (-1, 0, 1) for j in (-1, 0, 1)}


def test_the_range_leaves_out_one_in_ten_thousand_only_where_they_take_most_of_it():
    values = np.linspace(0.0, 1.0, 30_000)

    def range_of(*hot: float) -> tuple[float, float, str]:
        ordered = np.sort(np.append(values, hot))
        return without_hot_pixels(ordered[:2048], ordered[::-1][:2048], len(ordered))

    assert range_of(1.9) == (0.0, 1.9, "")
    low, high, note = range_of(2.5)
    assert (low, high) == (0.0, 2.5) and "take 60.0% of the range" in note and "--range 0.0001" in note  # told only
    low, high, note = range_of(2.5, 900.0)
    assert (low, high) == pytest.approx((4 / 30_000, 1.0), abs=1e-3) and "count neither" in note
    assert range_of(12, 13, 14, 19, 19)[1] == 19  # five of 30,000 are more than that
    values = values[::20]  # of a small scene, four
    assert range_of(12, 13, 14, 19)[1] <= 1 and range_of(12, 13, 14, 19, 19)[1] == 19


@pytest.mark.parametrize("every", [1, 2])
def test_a_background_of_some_rows_is_theirs_and_only_they_are_read_again(tmp_path, every):
    reader = ArrayReader(cube := scene(height=120, width=40))
    cut = {"strip_rows": 20, "background_rows": 6, "background_every": every}
    score, _, statistics = run(reader, tmp_path, features="original", **cut)
    chosen = (np.arange(120) % 20 >= 7) & (np.arange(120) % 20 < 13) & (np.arange(120) // 20 % every == 0)
    assert reader.reads[6 : 6 + 6 // every] == [
        slice(max(top - 2, 0), min(top + 22, 120)) for top in range(0, 120, 20 * every)
    ]
    np.testing.assert_allclose(statistics.background().mean[0], normalised(cube)[0, :, chosen].mean((1, 2)), atol=1e-7)
    assert statistics.counts == [6 * 6 * 40 // every]
    expected = rx_array(cube, left_out=np.repeat(~chosen[:, None], 40, 1))
    np.testing.assert_allclose(score, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "pixels", "segment_rows", "rows", "every"),
    [
        ((400, 600, 9), 1_000_000, None, 54, 1),
        ((20_000, 600, 9), 1_000_000, None, 16, 3),
        ((4_000, 600, 9), 1_000_000, None, 23, 1),
        ((20_000, 600, 9), None, None, 54, 1),
        ((20_000, 600, 9), 10_000, 2_000, 16, 35),
        ((20_000, 600, 9), 1, 2_000, 16, 37),
    ],
)
def test_large_scenes_give_some_rows_of_some_strips_to_their_background(shape, pixels, segment_rows, rows, every):
    plan = make_plan(shape, 36, MEMORY, background_pixels=pixels, segment_rows=segment_rows)
    assert (plan.background_rows, plan.background_every) == (rows, every)
    chosen = [part for block in plan.blocks for part in plan.background_strips(block)]
    counted = sum(strip.stop - strip.start for strip in chosen) * shape[1]
    assert counted >= min(pixels or shape[0] * shape[1], shape[0] * shape[1]) * 0.99
    assert {part.segment for part in chosen} == set(range(len(plan.segments)))
    strips = {strip.start // plan.strip_rows: strip for strip in plan.strips}
    for part in chosen:
        own = strips[part.start // plan.strip_rows]
        assert own.start <= part.start < part.stop <= own.stop and own.segment == part.segment


@pytest.mark.parametrize("kind", ["u1", "u2", ">i2", "f4", ">f4", "f8", "i4", "u8"])
def test_h_is_that_of_float64_for_every_type_and_order_of_axes(kind):
    rng, cpu = np.random.default_rng(0), torch.device("cpu")
    offset = 0 if kind == "u1" else 20_000 if np.dtype(kind).itemsize < 4 else 10**6
    values = (offset + rng.integers(0, 200, (5, 4, 6))).astype(kind)
    low, high = float(values.min()), float(values.max())
    h = normalised_rows(values.transpose(0, 2, 1), low, high, cpu)
    assert h.is_contiguous() and h.dtype == torch.float32
    np.testing.assert_allclose(h, scaled(values.transpose(0, 2, 1), low, high), atol=4e-9)


def test_scores_by_strips_are_those_of_the_whole_scene(tmp_path):
    cube = scene()
    np.testing.assert_allclose(run(cube, tmp_path, features="original")[0], rx_array(cube), rtol=1e-5)
    score, _, _ = run(cube, tmp_path)
    h = normalised(cube)
    with torch.no_grad():
        expected = rx(h + SpeFEN(cube.shape[2], "random").eval()(h))[0].numpy()
    assert np.abs(score - expected).max() <= 1e-6 * expected.max()


def test_a_strip_that_reflects_its_own_border_would_show(tmp_path):
    """The test above can fail: without the halo the seams differ."""
    cube = scene()
    score, _, whole = run(cube, tmp_path)
    top, _, statistics = run(cube[:10], tmp_path)
    assert statistics.low != whole.low or not np.allclose(top, score[:10], rtol=1e-6)


def test_scores_do_not_depend_on_pixels_without_data(tmp_path):
    cube = scene()
    cube[20:22, 3:5] = np.nan
    missing = np.isnan(cube[..., 0])
    score, colours, statistics = run(cube, tmp_path, block_strips=2)
    assert np.isnan(score[20:22, 3:5]).all() and np.isfinite(score).sum() == 61 * 17 - 4
    assert np.isnan(colours[20:22, 3:5]).all()
    assert int(statistics.segments[0][0].samples) == 61 * 17 - 4 and statistics.counts == [61 * 17 - 4]
    plain, _, _ = run(cube, tmp_path, features="original")
    expected = np.where(missing, np.nan, rx_array(np.nan_to_num(cube), left_out=missing))
    np.testing.assert_allclose(plain, expected, rtol=1e-5)


def test_pixels_left_out_count_for_nothing_and_are_scored_only_on_request(tmp_path):
    cube = scene()
    out = np.zeros((61, 17), bool)
    out[30, 5] = True
    cube[30, 5] = 1e6
    score, _, statistics = run(cube, tmp_path, features="original", left_out=lambda rows: out[rows])
    assert np.isnan(score[30, 5]) and statistics.high < 1e6
    all_scored, _, _ = run(cube, tmp_path, features="original", left_out=lambda rows: out[rows], score_left_out=True)
    assert np.nanargmax(all_scored) == 30 * 17 + 5
    np.testing.assert_array_equal(all_scored[~out], score[~out])


def test_segments_follow_the_line_without_steps(tmp_path):
    cube = scene(height=120)
    cube[60:] = 5 * cube[60:] + 300
    score, _, _ = run(cube, tmp_path, features="original", segment_strips=3)
    first, last = rx_array(cube[:30])[:15], rx_array(cube[90:])[15:]
    np.testing.assert_allclose(score[:15], first, rtol=1e-4)
    np.testing.assert_allclose(score[105:], last, rtol=1e-4)
    again, _, _ = run(cube, tmp_path, features="original", segment_strips=3, block_strips=4)
    np.testing.assert_array_equal(again, score)


def test_a_stopped_run_goes_on_and_gives_the_same(tmp_path):
    cube = scene()
    whole, _, _ = run(cube, tmp_path / "a")
    broken = ArrayReader(cube, bad_rows=(49,))
    with pytest.raises(FersError, match="rows 40 to 49: the disk is broken"):
        run(broken, tmp_path / "b")
    repaired = ArrayReader(cube)
    score, _, _ = run(repaired, tmp_path / "b")
    np.testing.assert_array_equal(score, whole)
    assert len(repaired.reads) < 3 * 7


def test_another_identity_starts_anew(tmp_path):
    block = make_plan((20, 20, 3), 12, MEMORY).blocks[0]
    Store(tmp_path / "w", {"a": 1}).save("x", block, {"v": np.arange(3)})
    assert Store(tmp_path / "w", {"a": 1}).load("x", block)["v"].tolist() == [0, 1, 2]
    assert not Store(tmp_path / "w", {"a": 2}).holds("x", block)


def test_a_background_comes_back_from_its_file(tmp_path):
    _, _, statistics = run(scene(), tmp_path)
    statistics.save(tmp_path / "background.npz", {"method": "x"})
    read, about = BackgroundStatistics.load(tmp_path / "background.npz", [Moments, Moments])
    assert about == {"method": "x"} and (read.low, read.high) == (statistics.low, statistics.high)
    for ours, theirs in zip(read.segments[0], statistics.segments[0], strict=True):
        assert torch.equal(ours.scatter, theirs.scatter)
    of_h, _ = BackgroundStatistics.load(tmp_path / "background.npz")
    assert of_h.counts == [61 * 17]
    (tmp_path / "other.npz").write_bytes(b"text")
    with pytest.raises(FersError, match=r"other\.npz: not a background"):
        BackgroundStatistics.load(tmp_path / "other.npz")


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


def test_moments_of_parts_are_those_of_all_pixels():
    pixels = np.random.RandomState(0).normal(size=(7, 50, 4)) + 1e3
    total = Sum(Moments.of(torch.from_numpy(p.T[None, :, None])) for p in pixels).total()
    background = Background.from_moments([total])
    np.testing.assert_allclose(background.covariance[0], np.cov(pixels.reshape(-1, 4).T), rtol=1e-10)
    spectrum = pixels[0, 0]
    difference = spectrum - background.mean[0].numpy()
    score = difference @ np.linalg.inv(background.covariance[0].numpy()) @ difference
    np.testing.assert_allclose(background.contributions(spectrum).sum(), score)


def test_few_pixels_have_moments_too():
    cube = torch.arange(8.0).view(1, 2, 2, 2)
    one = Moments.of(cube, np.array([[True, False], [True, True]]))
    assert int(one.samples) == 1 and one.mean.tolist() == [[1.0, 5.0]] and not one.scatter.any()
    none = Moments.of(cube, np.ones((2, 2), bool))
    assert none.combine(one).mean.tolist() == [[1.0, 5.0]] and int(one.combine(none).samples) == 1


def test_a_robust_background_leaves_out_the_highest_scores():
    score = np.arange(100.0).reshape(10, 10)
    score[0, 0] = np.nan
    out, count = without_highest(lambda rows: np.zeros((10, 10), bool)[rows], score, 0.05)
    assert count == 5 and out(slice(0, 10)).sum() == 5 and out(slice(9, 10))[0, -5:].all()


def test_maps_are_multiplied_after_scaling():
    maps = [torch.tensor([[[0.0, 5.0, 10.0, np.nan]]]), torch.tensor([[[3.0, 1.0, 2.0, np.nan]]])]
    np.testing.assert_array_equal(product(maps)[0], [[0.0, 0.0, 0.5, np.nan]])


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
    with pytest.raises(PlanError, match="takes the whole scene at once"):
        make_plan(shape, 1700, parse_size("2GB"), whole=True)
    with pytest.raises(PlanError, match="not a size"):
        parse_size("2 apples")


@pytest.mark.parametrize("chunk", [1, 10, 42, 256, 336])
def test_strips_are_made_of_whole_chunks_or_are_parts_of_them(chunk):
    rows = make_plan((20_000, 600, 10), 40, MEMORY, chunk_rows=chunk).strip_rows
    assert rows % chunk == 0 or chunk % rows == 0
