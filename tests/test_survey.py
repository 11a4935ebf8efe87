"""What a first look at a scene tells: bands without data, values that may mean none, saturation, unknown wavelengths."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import scene_files as files

from fers.detection.detect import detect
from fers.scenes import SceneError, survey
from fers.scenes.bands import choose_bands
from fers.scenes.readers import open_scene

SIDE, BANDS = 40, 12


def cube(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = 0.3 + 0.02 * rng.normal(size=(SIDE, SIDE, BANDS))
    values[20, 11] += 0.5
    return values.astype(np.float32)


def as_int16(folder, nodata: float | None) -> tuple:
    stored = np.round(cube() * 1e4).astype(np.int16)
    stored[:, :, [0, 5, 6]] = -32768
    return files.write_tiff(folder / "a.tif", stored, nodata=nodata), stored


# ----- bands without data anywhere


@pytest.mark.parametrize("kind", ["declared", "undeclared", "nan", "npy"])
def test_bands_without_data_are_left_out_and_named(tmp_path, kind):
    if kind in ("declared", "undeclared"):
        path, _ = as_int16(tmp_path, -32768 if kind == "declared" else None)
    else:
        values = cube()
        values[:, :, [0, 5, 6]] = np.nan if kind == "nan" else -9999
        path = tmp_path / "a.npy"
        np.save(path, values)
    choice = choose_bands(open_scene(path), "good")
    assert choice.empty == (0, 5, 6) and choice.used == (1, 2, 3, 4, 7, 8, 9, 10, 11)
    assert "3 without data anywhere left out (from 1: 1, 6:7)" in choice.describe()
    assert choose_bands(open_scene(path), "all").used == choice.used
    [target] = detect(path, features="original", top=1).detections
    assert (target["row"], target["column"]) == (20, 11)


def test_a_band_with_data_in_one_pixel_is_not_empty_even_where_no_window_sees_it(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "_LOOKED_AT", 4 * SIDE * BANDS)  # four rows of forty
    values = cube()
    values[:, :, 3] = np.nan
    values[13, 5, 3] = 0.2
    values[:, :, 8] = np.nan
    np.save(tmp_path / "a.npy", values)
    assert choose_bands(open_scene(tmp_path / "a.npy"), "all").empty == (8,)


def test_bands_that_leave_no_pixel_whole_are_named_with_the_option(tmp_path):
    values = cube()
    values[:25, :, 2] = values[20:, :, 7] = np.nan
    np.save(tmp_path / "a.npy", values)
    [note, _] = choose_bands(open_scene(tmp_path / "a.npy"), "all").notes
    assert "bands 3 in 62%, 8 in 50%" in note and "--bands all,-3" in note
    assert len(choose_bands(open_scene(tmp_path / "a.npy"), "all,-3").notes) == 1


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("all,-2:4", [0, 4, 5, 6, 7, 8, 9, 10, 11]),
        ("-1,-12", list(range(1, 11))),
        ("3:5", [2, 3, 4]),
        ("3:5,9", [2, 3, 4, 8]),
        ("all,-1:6,first:2", [6, 7]),
    ],
)
def test_bands_by_number_are_counted_from_one_with_both_ends(tmp_path, text, used):
    np.save(tmp_path / "a.npy", cube())
    assert list(choose_bands(open_scene(tmp_path / "a.npy"), text).used) == used


@pytest.mark.parametrize(("text", "message"), [("13", "no band 13; it has 1 to 12"), ("0:3", "not understood"), ("5:3", "not understood"), ("-1:12", "leaves none")])  # fmt: skip
def test_numbers_of_no_band_are_refused(tmp_path, text, message):
    np.save(tmp_path / "a.npy", cube())
    with pytest.raises(SceneError, match=message):
        choose_bands(open_scene(tmp_path / "a.npy"), text)


# ----- values that may mean no data


@pytest.mark.parametrize("value", [0, -100, 65535])
def test_one_value_in_every_band_is_told_with_the_option_that_makes_it_no_data(tmp_path, value):
    values = cube() * 1e4
    outside = np.abs(np.subtract.outer(np.arange(SIDE), np.arange(SIDE))) > 15
    values[outside] = value
    np.save(tmp_path / "a.npy", values)
    [note, _] = choose_bands(open_scene(tmp_path / "a.npy"), "all").notes
    assert note.startswith(f"{outside.mean():.0%} of the pixels") and note.endswith(f"give --nodata {value}")
    reader = open_scene(tmp_path / "a.npy", nodata=(float(value),))
    assert np.array_equal(~reader.read_valid()[1], outside)
    assert len(choose_bands(reader, "all").notes) == 1
    result = detect(tmp_path / "a.npy", features="original", top=1, nodata=(float(value),))
    assert result.about["counts"]["without_data"] == outside.sum()


def test_a_single_zero_stays_a_measurement_where_zero_is_named(tmp_path):
    values = np.round(cube() * 1e4).astype(np.int16)
    values[3, 3], values[5, 5, 2] = 0, 0
    path = files.write_envi(tmp_path, values)
    assert np.argwhere(~open_scene(path, nodata=(0.0,)).read_valid()[1]).tolist() == [[3, 3]]


def test_enmap_without_its_xml_has_no_data_at_the_lowest_value_and_says_so(tmp_path):
    written = files.enmap_file(tmp_path)
    next(tmp_path.glob("*METADATA.XML")).unlink()
    reader = open_scene(written.path)
    assert (~reader.read_valid()[1]).sum() == 4
    assert "no no-data value is declared; -9999 and -32768 are taken as one" in reader.notes


# ----- saturation


@pytest.mark.parametrize("top", [4095, 65535])
def test_pixels_at_the_highest_value_of_several_bands_are_told(tmp_path, top):
    stored = np.round(cube() * 10000).astype(np.uint16)
    assert len(choose_bands(open_scene(files.write_envi(tmp_path, stored, "fine")), "all").notes) == 1
    stored[5:9, 5:9, 3:9] = 65535
    stored = np.minimum(stored, top)
    [note, _] = choose_bands(open_scene(files.write_envi(tmp_path, stored)), "all").notes
    assert note.startswith("16 of the pixels" if top == 65535 else "17 of the pixels")  # the target is as bright
    assert f"share the highest value, {top}, of 3 or more bands: saturated?" in note


def test_constant_bands_are_not_saturated(tmp_path):
    stored = np.round(cube() * 10000).astype(np.uint16)
    stored[:, :, 4:8] = 7
    assert len(choose_bands(open_scene(files.write_envi(tmp_path, stored)), "all").notes) == 1


# ----- wavelengths

CENTRES = np.linspace(400, 2500, BANDS)


def tiff(folder, descriptions=(), per_band=(), **domains):
    path = files.write_tiff(folder / "a.tif", cube())
    with rasterio.open(path, "r+") as target:
        for band in range(BANDS):
            for namespace, tags in per_band:
                target.update_tags(band + 1, ns=namespace, **{k: v[band] for k, v in tags.items()})
            if descriptions:
                target.set_band_description(band + 1, descriptions[band])
        for namespace, tags in domains.items():
            target.update_tags(ns=None if namespace == "default" else namespace, **tags)
    return path


def braced(values) -> str:
    return "{" + ", ".join(map(str, values)) + "}"


GOOD = [1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0]
IMAGERY = {"CENTRAL_WAVELENGTH_UM": [f"{c / 1000:.6f}" for c in CENTRES], "FWHM_UM": ["0.01"] * BANDS}
ENVI = {"wavelength": braced(CENTRES / 1000), "wavelength_units": "Micrometers", "bbl": braced(GOOD), "fwhm": braced([0.01] * BANDS)}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "flags"),
    [
        ({"per_band": [("IMAGERY", IMAGERY)]}, None),
        ({"ENVI": ENVI}, GOOD),
        ({"default": {"wavelengths": braced(CENTRES), "fwhm": braced([10] * BANDS)}}, None),
    ],
)
def test_wavelengths_of_a_geotiff_wherever_programs_write_them(tmp_path, facts, flags):
    reader = open_scene(tiff(tmp_path, **facts))
    assert reader.wavelengths == pytest.approx(CENTRES, abs=1e-3) and reader.fwhm == pytest.approx([10] * BANDS)
    assert (reader.good is None) == (flags is None) and (
        flags is None or reader.good.tolist() == [bool(f) for f in flags]
    )


def test_wavelengths_in_names_of_bands_are_said_and_plain_counts_are_none(tmp_path):
    reader = open_scene(tiff(tmp_path, [f"Band_{c:.0f}" for c in CENTRES]))
    assert reader.wavelengths == pytest.approx(CENTRES, abs=0.5) and "names of the bands" in reader.notes[-1]
    assert open_scene(tiff(tmp_path, [f"Band_{n}" for n in range(400, 400 + BANDS)])).wavelengths is None


@pytest.mark.parametrize(
    ("values", "unit", "message"),
    [
        ([0] * BANDS, "Nanometers", "all wavelengths are 0"),
        (CENTRES / 1000, "Nanometers", "0.4 to 2.5 nm are impossible"),
        (CENTRES, "Micrometers", "are impossible"),
    ],
)
def test_impossible_wavelengths_are_none_and_it_is_said(tmp_path, values, unit, message):
    path = files.write_envi(tmp_path, cube(), wavelength=[str(v) for v in values], wavelength_units=unit)
    reader = open_scene(path)
    assert reader.wavelengths is None and message in reader.notes[0]
    result = detect(path, features="original", top=1)
    assert any("no wavelengths are known" in note for note in result.about["notes"])
    assert result.detections[0]["spectrum"]["xUnit"] == "Index"


def test_the_key_wavelengths_and_a_no_data_value_that_is_empty(tmp_path):
    path = files.write_envi(tmp_path, cube(), wavelengths=[str(c) for c in CENTRES])
    path.write_text(path.read_text() + "data ignore value =\nwavelength units =\n")
    reader = open_scene(path)
    assert reader.wavelengths == pytest.approx(CENTRES) and reader.nodata == (-9999.0,)


@pytest.mark.parametrize("form", ["column", "list", "table", "csv", "npy", "hdr", "array"])
def test_wavelengths_of_a_file_of_the_users(tmp_path, form):
    np.save(tmp_path / "a.npy", cube())
    given = tmp_path / f"w.{'txt' if form in ('column', 'list', 'table') else form}"
    if form == "column":
        given.write_text("# nm\n" + "\n".join(map(str, CENTRES)))
    elif form == "list":
        given.write_text(braced(CENTRES / 1000))
    elif form == "table":
        given.write_text("\n".join(f"{n} {c} 10" for n, c in enumerate(CENTRES)))
    elif form == "csv":
        given.write_text("band,wavelength,fwhm\n" + "\n".join(f"{n},{c},10" for n, c in enumerate(CENTRES, start=1)))
    elif form == "npy":
        np.save(given, CENTRES)
    elif form == "hdr":
        given = files.write_envi(tmp_path, cube(), wavelength=[str(c) for c in CENTRES], wavelength_units="nm")
    reader = open_scene(tmp_path / "a.npy", wavelengths=CENTRES if form == "array" else given)
    assert reader.wavelengths == pytest.approx(CENTRES)
    assert form not in ("table", "csv") or reader.fwhm == pytest.approx([10] * BANDS)
    assert form == "array" or given in reader.files


@pytest.mark.parametrize(("text", "message"), [("400 500", "2 wavelengths for 12 bands"), ("0\n" * BANDS, "all wavelengths are 0"), ("", "0 wavelengths")])  # fmt: skip
def test_wavelengths_of_the_users_that_do_not_fit_are_refused(tmp_path, text, message):
    np.save(tmp_path / "a.npy", cube())
    (tmp_path / "w.txt").write_text(text)
    with pytest.raises(SceneError, match=message):
        open_scene(tmp_path / "a.npy", wavelengths=tmp_path / "w.txt")


# ----- water vapour is the Earth's


def test_windows_of_water_vapour_are_cut_over_the_earth_or_when_asked(tmp_path):
    wet = int(((CENTRES >= 1350) & (CENTRES <= 1440) | (CENTRES >= 1800) & (CENTRES <= 1960)).sum())
    facts = {"wavelength": [str(c) for c in CENTRES], "wavelength_units": "nm"}
    laboratory = open_scene(files.write_envi(tmp_path, cube(), **facts))
    choice = choose_bands(laboratory, "good")
    assert (
        wet > 0
        and len(choice.used) == BANDS
        and f"{wet} bands lie in them. --bands dry leaves them out" in choice.notes[0]
    )
    assert len(choose_bands(laboratory, "dry").used) == BANDS - wet
    info = ["UTM", "1", "1", "500000", "4000000", "5", "5", "11", "North", "WGS-84"]
    placed = open_scene(files.write_envi(tmp_path, cube(), "placed", map_info=info, **facts))
    flown = open_scene(files.write_envi(tmp_path, cube(), "flown", sensor_type="AVIRIS-NG", **facts))
    for reader in (placed, flown):
        assert len(choose_bands(reader, "good").used) < BANDS and not choose_bands(reader, "good").notes
    np.save(tmp_path / "a.npy", cube())
    with pytest.raises(SceneError, match="--bands dry goes by them"):
        choose_bands(open_scene(tmp_path / "a.npy"), "dry")
