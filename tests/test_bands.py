"""Which bands are used, why, and how they become a model's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scene_files as files
from spectral import BandResampler

from fers.scenes import Scene, SceneError, read_scene
from fers.scenes.bands import choose_bands, good_bands, select
from fers.scenes.readers import open_scene

CENTRES = np.array([400.0, 600, 800, 1000, 1400, 1600, 1900, 2200])


def scene(cube: np.ndarray | None = None, wavelengths: np.ndarray | None = CENTRES, **options) -> Scene:
    if cube is None:
        cube = np.random.default_rng(0).random((9, 9, 8)).astype(np.float32)
    options = {"map_info": ("UTM", "1", "1", "0", "0", "1", "1", "33", "North", "WGS-84")} | options
    return Scene("s", cube, Path("s.npy"), wavelengths=wavelengths, **options)


@pytest.mark.parametrize(
    "text, used",
    [
        ("all", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("good", [0, 1, 2, 3, 5, 7]),
        ("first:3", [0, 1, 2]),
        ("good,first:5", [0, 1, 2, 3, 5]),
        ("400-800nm", [0, 1, 2]),
        ("0.5-1.5um", [1, 2, 3, 4]),
        ("good, 0.5-1.5um", [1, 2, 3]),
        ("400-600nm,2000-2500nm", [0, 1, 7]),
    ],
)
def test_bands_by_quality_position_and_wavelength(text, used):
    choice = choose_bands(scene(), text)
    assert list(choice.used) == used and sorted(used + list(choice.dropped)) == list(range(8))
    assert np.array_equal(select(scene(), choice).cube, scene().cube[:, :, used])
    assert np.array_equal(select(scene(), choice).wavelengths, CENTRES[used])


@pytest.mark.parametrize("text", ["", "best", "first:0", "first:x", "900-400nm", "400-900", "first:-1", "good,"])
def test_what_is_not_understood_is_refused_with_what_is(text):
    with pytest.raises(SceneError, match=r"not understood\. Give all, good, first:N"):
        choose_bands(scene(), text)


def test_the_providers_flags_come_before_the_windows():
    flags = np.array([True, False, True, True, True, True, True, True])
    good, who = good_bands(scene(good=flags, good_source="bbl of the header"))
    assert good.tolist() == flags.tolist() and who == "bbl of the header"
    good, who = good_bands(scene())
    assert np.flatnonzero(~good).tolist() == [4, 6] and "1350-1440 nm" in who
    good, who = good_bands(scene(wavelengths=None))
    assert good.all() and who == ""


AROUND_WATER = np.array([1339, 1340, 1349, 1350, 1440, 1441, 1799, 1800, 1960, 1961, 1975, 1976], float)  # nm


@pytest.mark.parametrize(
    "sensor, bad",
    [("EMIT", {1350, 1440, 1800, 1960}), ("AVIRIS-Classic", {1340, 1349, 1350, 1440, 1800, 1960, 1961, 1975})],
)
def test_avirises_have_water_windows_of_their_own(sensor, bad):
    lines = scene(np.ones((9, 9, 12)), AROUND_WATER, sensor=sensor)
    good, who = good_bands(lines)
    assert set(AROUND_WATER[~good]) == bad and f"{min(bad)}-1440 nm and 1800-{max(bad)} nm" in who
    assert set(select(lines, choose_bands(lines, "good")).wavelengths) == set(AROUND_WATER) - bad


@pytest.mark.parametrize("write", [files.emit_file, files.tanager_file])
def test_bad_bands_that_hold_finite_values_are_left_out(tmp_path, write):
    written = write(tmp_path)
    reader = open_scene(written.path)
    choice = choose_bands(reader, "good")
    assert list(choice.used) == np.flatnonzero(written.good).tolist()
    block, valid = reader.read_valid(slice(0, 12), choice.used)
    assert not (block == np.float32(-0.01)).any() and (~valid).sum() == 4


def test_too_few_bands_are_padded_and_it_is_said():
    choice = choose_bands(scene(), "all", count=10)
    assert choice.padded == 2 and choice.count == 10 and "2 zero-valued bands appended" in choice.describe()
    choice = choose_bands(scene(), "good", count=4)
    assert choice.used == (0, 1, 2, 3) and choice.padded == 0
    assert choose_bands(scene(), "first:10").padded == 2


def test_the_record_of_a_choice_is_plain_and_complete():
    record = choose_bands(scene(), "good", count=4).record()
    assert json.loads(json.dumps(record)) == record
    assert record["used"] == [0, 1, 2, 3] and record["dropped"] == [4, 5, 6, 7] and record["bad"] == [4, 6]
    assert choose_bands(scene(), "good").describe() == (
        "bands: 6 of 8 used (good); 2 marked bad by the water vapour windows 1350-1440 nm and 1800-1960 nm, 2 of them left out"
    )


def test_bands_of_the_models_own_wavelengths_are_taken_as_they_are():
    choice = choose_bands(scene(), "all", centres=np.array([600.4, 400, 2199.5]))
    assert choice.matrix is None and choice.used == (1, 0, 7) and choice.coverage == 1
    assert np.array_equal(select(scene(), choice).cube, scene().cube[:, :, [1, 0, 7]])


def test_other_wavelengths_are_resampled_as_spy_does_it():
    own, targets = np.linspace(400, 2400, 201), np.linspace(403.3, 1296.7, 100)
    cube = np.random.default_rng(1).random((9, 9, 201))
    fwhm, target_fwhm = np.full(201, 11.0), np.full(100, 8.0)
    source = scene(cube, own, fwhm=fwhm)
    choice = choose_bands(source, "all", centres=targets, fwhm=target_fwhm)
    expected = cube @ BandResampler(own, targets, fwhm, target_fwhm).matrix.T
    same = np.abs(own[None] - targets[:, None]).min(axis=1) <= 1
    result = select(source, choice)
    assert 0 < same.sum() < 100 and choice.coverage == 1
    assert result.cube[:, :, ~same] == pytest.approx(expected[:, :, ~same], abs=1e-6)
    assert result.cube[:, :, same] == pytest.approx(
        cube[:, :, np.abs(own[None] - targets[:, None]).argmin(axis=1)[same]], abs=1e-6
    )
    assert result.wavelengths == pytest.approx(targets)


def test_resampling_does_not_depend_on_how_the_scene_is_cut_or_on_the_order_of_bands():
    own = np.linspace(400, 2400, 120)
    cube = np.random.default_rng(2).random((9, 9, 120)).astype(np.float32)
    choice, valid = choose_bands(scene(cube, own), "all", centres=np.linspace(500, 1500, 77)), np.ones((9, 9), bool)
    whole = choice.apply(cube, valid)
    parts = [choice.apply(cube[:2], valid[:2]), choice.apply(cube[2:], valid[2:])]
    assert np.array_equal(np.concatenate(parts), whole)
    shuffled = np.random.default_rng(3).permutation(120)  # such as AVIRIS, whose spectrometers overlap
    other = choose_bands(scene(cube[:, :, shuffled], own[shuffled]), "all", centres=np.linspace(500, 1500, 77))
    assert other.apply(cube[:, :, shuffled], valid) == pytest.approx(whole, abs=1e-6)


def test_a_gap_in_the_scene_is_not_covered_by_wide_neighbours():
    own, targets = np.linspace(400, 2400, 201), np.linspace(403.3, 2396.7, 200)
    choice = choose_bands(scene(np.ones((9, 9, 201)), own), "good", centres=targets)
    gap = (targets > 1355) & (targets < 1435) | (targets > 1805) & (targets < 1955)
    filled = np.zeros(200, bool)
    filled[list(choice.filled)] = True
    assert filled[gap].all() and filled.sum() <= gap.sum() + 4 and choice.coverage == 1
    assert "copied from the nearest band" in choice.describe()


def test_a_scene_that_covers_too_little_of_the_models_wavelengths_is_refused():
    own = np.linspace(400, 1000, 61)
    with pytest.raises(
        SceneError, match=r"s\.npy: its bands \(400-1000 nm\) cover 3\d% of the model's 200 .*90% are needed"
    ):
        choose_bands(scene(np.ones((9, 9, 61)), own), "all", centres=np.linspace(400, 2400, 200))
    for request, options in [("400-900nm", {}), ("all", {"centres": own})]:
        with pytest.raises(SceneError, match=r"no wavelengths.*first:N"):
            choose_bands(scene(wavelengths=None), request, **options)
    with pytest.raises(SceneError, match="leaves none of its 8 bands"):
        choose_bands(scene(), "3000-4000nm")


def test_by_position_no_wavelengths_are_needed():
    choice = choose_bands(scene(wavelengths=None), "first:3", centres=np.linspace(400, 500, 3))
    assert choice.used == (0, 1, 2) and choice.matrix is None


def test_pixels_without_data_are_not_mixed_into_others():
    cube = np.ones((9, 9, 8), np.float32)
    cube[3, 4, 1] = -9999
    choice = choose_bands(scene(cube), "all", centres=np.linspace(450, 2200, 30), fwhm=np.full(30, 300.0))
    result = select(scene(cube), choice)
    assert np.argwhere(np.isnan(result.cube).any(axis=2)).tolist() == [[3, 4]]
    assert result.cube[np.isfinite(result.cube)] == pytest.approx(1)


def test_wavelengths_that_step_back_are_no_obstacle(tmp_path):
    written = files.classic_file(tmp_path)
    source = read_scene(written.path)
    choice = choose_bands(source, "all", centres=np.sort(written.wavelengths))
    assert choice.matrix is None
    assert np.all(np.diff(select(source, choice).wavelengths) > 0)
