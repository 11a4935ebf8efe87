"""The step after a detection: another threshold, a search for a spectrum, places that are known."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_files
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as warp_transform

import fers
from fers.detection.command import main
from fers.detection.kept import KEPT, Kept
from fers.detection.products.place import Place
from fers.detection.reopen import FinishedRun
from fers.scenes.readers import LatLon, LookupTable, MapGrid
from fers.util.errors import FersError

BANDS, X = 40, np.linspace(450, 900, 40)
ROOF = 0.25 * np.sin(X / 60)
PLANTED = [(10, 8), (20, 30), (33, 12), (40, 25)]  # one material; the fifth target is another
OTHER = (50, 30)
ROTATED = Affine(4.373, -2.424, 500_000, -2.424, -4.373, 4_600_000)


def cube(seed: int = 0, scale: float = 1.0) -> np.ndarray:
    rng = np.random.RandomState(seed)
    mixing = np.random.RandomState(9).normal(size=(BANDS, BANDS))
    values = 0.4 + 0.005 * rng.normal(size=(64, 48, BANDS)) @ mixing
    for (row, column), strength in zip(PLANTED, (1.0, 0.9, 0.8, 0.7), strict=True):
        values[row, column] += strength * ROOF
    values[OTHER] += 0.4 * np.cos(X / 35)
    return (scale * values).astype(np.float32)


def save_scene(folder: Path, name: str = "line", **changes) -> Path:
    folder.mkdir(exist_ok=True)
    info = "UTM, 1.0, 1.0, 500000.0, 4000000.0, 5.0, 5.0, 33, North, WGS-84, units=Meters"
    header = {"wavelength": [f"{x:.4f}" for x in X], "wavelength_units": "Nanometers", "fwhm": [12.0] * BANDS}
    values = changes.pop("cube", cube())
    return scene_files.write_envi(folder, values, name, **(header | {"map_info": info.split(", ")} | changes))


def run(*arguments) -> int:
    return main(["--quiet", "--features", "original", *map(str, arguments)])


def again(*arguments) -> int:
    return main(["--quiet", *map(str, arguments)])


def peaks(folder: Path, name: str = "detections") -> list[tuple[int, int]]:
    features = json.loads((folder / f"{name}.geojson").read_text())["features"]
    kept = [f["properties"] for f in features if f["properties"]["status"] != "candidate"]
    return [(p["row"], p["column"]) for p in kept]


@pytest.fixture
def made(tmp_path) -> Path:
    """The folder of a result with its three best targets."""
    assert run(save_scene(tmp_path / "scenes"), "--save_dir", tmp_path / "out", "--top", "3") == 0
    return tmp_path / "out" / "line"


# another threshold


def test_another_threshold_gives_what_a_fresh_run_gives_and_leaves_the_scores_as_they_are(made, tmp_path):
    before = {name: (made / name).read_bytes() for name in ("background.npz", KEPT)}
    with rasterio.open(made / "score.tif") as raster:
        score, rarity = raster.read()
    assert again(made, "--top", "5") == 0
    assert sorted(peaks(made)) == sorted([*PLANTED, OTHER])
    assert {name: (made / name).read_bytes() for name in before} == before
    with rasterio.open(made / "score.tif") as raster:
        np.testing.assert_array_equal(raster.read(1), score)
        np.testing.assert_allclose(raster.read(2), rarity, rtol=1e-4)
    assert run(tmp_path / "scenes" / "line.hdr", "--save_dir", tmp_path / "fresh", "--top", "5", "--force") == 0
    fresh, thrown = (
        [f["properties"] for f in json.loads((folder / "detections.geojson").read_text())["features"]]
        for folder in (tmp_path / "fresh" / "line", made)
    )
    for one, other in zip(fresh, thrown, strict=True):
        assert one["spectrum"] == other["spectrum"] and one["background"] == other["background"]
        assert all(other[key] == one[key] for key in ("score", "score_sum", "status"))
    about = json.loads((made / "run.json").read_text())
    assert about["options"]["top"] == 5 and about["again"]["from"] == str(made)
    assert about["again"]["threshold_before"].startswith("top 3") and about["again"]["notes"] == []


@pytest.mark.parametrize(("change", "reason"), [("gone", "is gone"), ("touched", "has changed since")])
def test_without_the_scene_spectra_are_those_of_earlier_targets_and_it_is_said(made, tmp_path, change, reason):
    source = tmp_path / "scenes" / "line.hdr"
    assert again(made, "--top", "3", "--candidates", "0") == 0
    first = json.loads((made / "detections.geojson").read_text())["features"]
    source.unlink() if change == "gone" else source.write_text(source.read_text() + "\n")
    assert again(made, "--top", "5") == 0
    features = [f["properties"] for f in json.loads((made / "detections.geojson").read_text())["features"]]
    assert [p["spectrum"] for p in features[:3]] == [f["properties"]["spectrum"] for f in first]
    assert features[0]["top_wavelengths"] == first[0]["properties"]["top_wavelengths"]
    assert features[3]["spectrum"] is None
    note = json.loads((made / "run.json").read_text())["notes"][-1]
    assert reason in note and "Spectra are those of the earlier targets" in (made / "report.html").read_text()
    assert again(made, "--top", "4") == 0
    assert json.loads((made / "run.json").read_text())["notes"].count(note) == 1


def test_a_result_may_go_to_another_folder_and_be_named_by_its_run_json(made, tmp_path):
    before = (made / "run.json").read_bytes()
    assert again(made / "run.json", "--far", "1e-2", "--save_dir", tmp_path / "more") == 0
    assert (made / "run.json").read_bytes() == before
    assert {p.name for p in (tmp_path / "more" / "line").iterdir()} == {p.name for p in made.iterdir()}


def test_a_scene_whose_scores_are_there_is_not_scored_again(made, tmp_path, capsys):
    scene = tmp_path / "scenes" / "line.hdr"
    assert run(scene, "--save_dir", tmp_path / "out", "--top", "5") == 0
    assert "its scores are used again" in capsys.readouterr().out and len(peaks(made)) == 5
    assert run(scene, "--save_dir", tmp_path / "out", "--top", "5") == 0
    assert "finished already" in capsys.readouterr().out
    assert run(scene, "--save_dir", tmp_path / "out", "--top", "5", "--bands", "first:9") == 0
    assert "again" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bands", "all"], "--bands needs the scores computed again. Give the scene"),
        (["--seed", "3"], "--seed needs the scores computed again"),
        (["--method", "rx-spectral"], "needs the scores computed again"),
        (["--not", "known.csv", "--not_from", "statistics"], "--not_from statistics needs"),
        (["--plan"], "nothing is computed"),
        (["--far", "1e-3", "--top", "2"], "one rule"),
        (["--like", "99"], "no such target"),
        (["--like", "64,0"], "rows 0 to 63"),
        (["--like", "nowhere.sli"], "no such file"),
        (["--library", "nowhere.sli"], "no such file"),
    ],
)
def test_what_needs_the_scores_again_is_refused_with_the_remedy(made, capsys, arguments, message):
    before = {p.name: p.read_bytes() for p in made.iterdir()}
    assert again(made, *arguments) == 2
    assert re.search(message, error := capsys.readouterr().err), error
    assert {p.name: p.read_bytes() for p in made.iterdir()} == before


@pytest.mark.parametrize(
    "options",
    [
        {"detect": "LRX", "options": (("inner", 3), ("outer", 7)), "features": "original"},
        {"features": "original", "background": "robust:0.02", "value_range": (-1.0, 3.0)},
        {"features": "original", "background": "segment:20", "fdr": 0.2},
        {"bands": "first:20", "min_area": 20.0},
    ],
    ids=["another detector", "robust", "segments", "fusion C"],
)
def test_a_result_of_any_options_is_opened_again(tmp_path, options):
    first = fers.detect(save_scene(tmp_path / "scenes"), tmp_path / "out", **options)
    second = fers.detect(tmp_path / "out", candidates=3)
    assert [(t.row, t.column) for t in second.targets] == [(t.row, t.column) for t in first.targets]
    for one, other in zip(first.detections, second.detections, strict=True):
        assert one["spectrum"] == other["spectrum"] and one["top_wavelengths"] == other["top_wavelengths"]
    assert len(second.below) == 3 and second.scene.options.candidates == 3


def test_a_background_file_that_is_gone_is_that_of_the_result(made, tmp_path):
    given = made / "background.npz"
    scene = tmp_path / "scenes" / "line.hdr"
    kept = tmp_path / "given.npz"
    kept.write_bytes(given.read_bytes())
    assert run(scene, "--save_dir", tmp_path / "b", "--background", kept) == 0
    kept.unlink()
    assert again(tmp_path / "b" / "line", "--top", "2") == 0
    assert json.loads((tmp_path / "b" / "line" / "run.json").read_text())["options"]["background"] == str(kept)


def test_a_result_that_fails_does_not_stop_the_others(made, tmp_path, capsys):
    assert run(save_scene(tmp_path / "scenes", "other"), "--save_dir", tmp_path / "out") == 0
    (made / "score.tif").unlink()
    assert again(made, tmp_path / "out" / "other", "--top", "5") == 2
    said = capsys.readouterr()
    assert "1 of 2 results failed" in said.err and "score.tif is missing" in said.out
    assert len(peaks(tmp_path / "out" / "other")) == 5


def test_options_that_are_as_they_were_are_no_reason_to_refuse(made):
    assert again(made, "--bands", "good", "--features", "original", "--top", "4") == 0


def test_scenes_and_results_are_not_mixed_and_a_damaged_result_is_named(made, tmp_path, capsys):
    assert run(made, tmp_path / "scenes" / "line.hdr") == 2
    assert "one kind at a time" in capsys.readouterr().err
    (made / KEPT).unlink()
    assert again(made, "--top", "2") == 2
    assert "run fers detect on its scene again" in capsys.readouterr().err


def test_a_scene_with_a_lookup_table_keeps_its_rows_and_columns(tmp_path):
    path = scene_files.emit_file(tmp_path).path
    first = fers.detect(path, tmp_path / "out", features="original", bands="first:4", top=2)
    second = fers.detect(tmp_path / "out")
    assert [(t.row, t.column) for t in second.targets] == [(t.row, t.column) for t in first.targets]
    np.testing.assert_array_equal(second.score.astype(np.float32), first.score.astype(np.float32))


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        MapGrid(ROTATED, None),
        LookupTable(ROTATED, CRS.from_epsg(32633).to_wkt(), np.full((3, 4), 2), np.full((3, 4), -1)),
        LatLon(np.ones((5, 7)), np.zeros((5, 7))),
    ],
    ids=["none", "grid", "table", "swath"],
)
def test_what_is_kept_of_a_scene_is_read_as_it_was(geometry, tmp_path):
    left_out = np.random.RandomState(0).rand(5, 7) < 0.3
    Kept(Place(geometry, (5, 7)), np.ones((3, 4, 3)), 2, left_out, left_out * 0.5).save(tmp_path / KEPT)
    kept = Kept.load(tmp_path / KEPT)
    assert type(kept.place.geometry) is type(geometry) and kept.thinning == 2 and kept.place.shape == (5, 7)
    for name, value in vars(geometry).items() if geometry else ():
        np.testing.assert_array_equal(getattr(kept.place.geometry, name), value)
    np.testing.assert_array_equal(kept.left_out, left_out)
    np.testing.assert_array_equal(kept.score, left_out * 0.5)


def test_maps_with_north_up_are_read_again_on_the_scene_s_own_grid(tmp_path):
    path = tmp_path / "line.npy"
    np.save(path, cube())
    result = fers.detect(cube(), features="original", top=3, transform=ROTATED, crs="EPSG:32632")
    result.write(tmp_path / "out", north_up=True)
    with (
        rasterio.open(tmp_path / "out" / "score.tif") as raster,
        rasterio.open(tmp_path / "out" / "quicklook.tif") as look,
    ):
        assert raster.transform.b == 0 == look.transform.b and look.count == 4
    assert peaks(tmp_path / "out") == [(t.row, t.column) for t in result.targets]
    assert FinishedRun(tmp_path / "out").score.shape == (64, 48)
    assert main(["--quiet", str(path), "--north_up", "--save_dir", str(tmp_path / "x")]) == 2


# a search


def test_a_search_finds_the_other_places_of_the_material_and_marks_its_own(made, tmp_path, capsys):
    rank = peaks(made).index(PLANTED[0]) + 1
    assert again(made, "--like", rank) == 0
    assert f"3 places like target {rank}, by signed ACE" in capsys.readouterr().out
    places = [f["properties"] for f in json.loads((made / "like_places.geojson").read_text())["features"]]
    assert len(places) == 20
    assert [p["status"] for p in places[:5]] == ["itself", "like it", "like it", "like it", "candidate"]
    assert sorted((p["row"], p["column"]) for p in places[:4]) == PLANTED
    assert places[0]["ace"] == pytest.approx(1, abs=1e-5) and places[0]["mf"] == pytest.approx(1, abs=1e-5)
    assert places[0]["sam"] == pytest.approx(0, abs=1e-3) and places[0]["target"] == rank
    shares = {(p["row"], p["column"]): p["mf"] for p in places[:4]}
    assert [shares[at] for at in PLANTED] == pytest.approx([1, 0.9, 0.8, 0.7], abs=0.15)  # of the pixel
    with rasterio.open(made / "like.tif") as raster:
        assert raster.descriptions == ("signed ACE", "matched filter", "spectral angle in radians")
        values = raster.read()
        x, y = raster.transform @ (places[1]["column"] + 0.5, places[1]["row"] + 0.5)
        (longitude,), (latitude,) = warp_transform(raster.crs, "EPSG:4326", [x], [y])
    assert (places[1]["longitude"], places[1]["latitude"]) == pytest.approx((longitude, latitude), abs=1e-6)
    assert values[0].argmax() == PLANTED[0][0] * 48 + PLANTED[0][1] and values[0].min() < 0
    page = (made / "report.html").read_text()
    assert f"3 places like target {rank}" in page and page.count("data-row=") == 20
    about = json.loads((made / "run.json").read_text())
    assert about["like"]["places"] == 3 and about["like"]["sought"] == f"target {rank}"
    assert about["like"]["threshold"]["value"] >= about["like"]["threshold"]["nominal_law"] > 0


@pytest.mark.parametrize("by", ["mf", "sam"])
def test_other_measures_rank_the_places_too(made, by):
    assert again(made, "--like", "10,8", "--like_by", by) == 0
    places = [f["properties"] for f in json.loads((made / "like_places.geojson").read_text())["features"]]
    assert (places[0]["row"], places[0]["column"]) == PLANTED[0] and places[0]["status"] == "itself"
    values = [p[by] for p in places]
    assert values == sorted(values, reverse=by == "mf")


def test_the_background_of_a_search_leaves_out_the_highest_scores_and_is_kept(made, monkeypatch):
    assert again(made, "--like", "10,8") == 0
    first = (made / "like.tif").read_bytes()
    statistics = FinishedRun(made)  # the cube without the 2 % of the highest scores, by hand
    kept = statistics.score <= np.quantile(statistics.score, 0.98)
    low, high = statistics.about["range"]
    h = 0.1 * (2 * (cube()[kept].astype(float) - low) / (high - low) - 1)
    with np.load(made / "search.npz") as archive:
        mean, samples = archive["0/0/mean"][0], int(archive["0/0/samples"][0])
    assert samples == kept.sum()
    np.testing.assert_allclose(mean, h.mean(axis=0), rtol=1e-5)
    monkeypatch.setattr("fers.detection.like._background", lambda *_: pytest.fail("a pass that is not needed"))
    assert again(made, "--like", "10,8") == 0
    assert (made / "like.tif").read_bytes() == first


def test_another_threshold_drops_the_products_of_a_search_but_not_its_background(made):
    assert again(made, "--like", "1") == 0
    assert again(made, "--top", "4") == 0
    assert not list(made.glob("like*")) and (made / "search.npz").is_file()


def test_the_spectrum_travels_to_another_scene_of_the_sensor(made, tmp_path):
    assert again(made, "--like", "10,8") == 0
    rows = (made / "like.csv").read_text().splitlines()
    assert rows[0] == "wavelength_nm,fwhm_nm,value,unit"
    assert all(row.split(",")[1] == "12" and row.split(",")[3] == "reflectance" for row in rows[1:])
    np.testing.assert_allclose([float(row.split(",")[2]) for row in rows[1:]], cube()[10, 8], rtol=1e-6)
    other = save_scene(tmp_path / "scenes", "other", cube=(1e4 * cube(seed=1)).round().astype(np.int16))
    assert run(other, "--save_dir", tmp_path / "out", "--like", made / "like.csv") == 0
    places = [
        f["properties"]
        for f in json.loads((tmp_path / "out" / "other" / "like_places.geojson").read_text())["features"]
    ]
    alike = [(p["row"], p["column"]) for p in places if p["status"] == "like it"]
    assert set(PLANTED) <= set(alike) and len(alike) <= len(PLANTED) + 1
    assert places[0]["ace"] > 0.9


def library_file(folder: Path) -> Path:
    fine = np.linspace(400, 1000, 301)
    entries = {
        "red roof": 0.4 + 0.25 * np.sin(fine / 60),
        "tarp": 0.4 + 0.4 * np.cos(fine / 35),
        "flat": 0.4 + 0 * fine,
    }
    lines = ["wavelength," + ",".join(entries)]
    lines += [f"{x}," + ",".join(f"{values[i]:.6f}" for values in entries.values()) for i, x in enumerate(fine)]
    (folder / "library.csv").write_text("\n".join(lines))
    return folder / "library.csv"


def test_a_library_s_spectrum_is_sought_and_targets_name_their_nearest_entries(made, tmp_path, capsys):
    library = library_file(tmp_path)
    assert again(made, "--like", library) == 2
    assert "holds 3 spectra (red roof, tarp, flat, ...). Say which" in capsys.readouterr().err
    assert again(made, "--top", "5", "--like", f"{library}:red roof", "--library", library) == 0
    places = [f["properties"] for f in json.loads((made / "like_places.geojson").read_text())["features"]]
    assert [(p["row"], p["column"]) for p in places[:4]] == PLANTED and places[0]["status"] == "like it"
    targets = [f["properties"] for f in json.loads((made / "detections.geojson").read_text())["features"]][:5]
    for target in targets:
        expected = "tarp" if (target["row"], target["column"]) == OTHER else "red roof"
        assert target["library"][0].startswith(f"{expected} (") and len(target["library"]) == 3
    assert "red roof (0.0" in (made / "detections.csv").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cube": cube(scale=100)}, "does not look like it: 1 % of its values are above"),
        ({"wavelength": None}, "has no wavelengths"),
        ({"wavelength": [str(x + 400) for x in X]}, "of the scene's 40 bands; 80% are needed"),
    ],
)
def test_a_spectrum_of_another_kind_is_refused(tmp_path, capsys, changes, message):
    kept = {key: value for key, value in changes.items() if value is not None}
    scene = save_scene(tmp_path / "scenes", **kept)
    if "wavelength" in changes and changes["wavelength"] is None:
        text = scene.read_text()
        scene.write_text(re.sub(r"(wavelength|fwhm)( units)? = (\{[^}]*\}|\w+)", "", text))
    assert run(scene, "--save_dir", tmp_path / "out", "--like", f"{library_file(tmp_path)}:flat") == 2
    assert message in (error := capsys.readouterr().err), error


def test_a_search_in_a_scene_that_is_gone_is_refused(made, tmp_path, capsys):
    (tmp_path / "scenes" / "line.hdr").unlink()
    assert again(made, "--like", "1") == 2
    assert "is gone. Put it back" in capsys.readouterr().err


def test_a_result_in_python_is_searched_and_thresholded_again(made):
    result = fers.detect(made, top=5)
    found = result.like(PLANTED[0])
    assert sorted((p["row"], p["column"]) for p in found.alike) == PLANTED[1:] and "3 places like row 10" in str(found)
    from_array = fers.detect(cube(), features="original", top=5)
    assert [(p["row"], p["column"]) for p in from_array.like(1).places[:1]] == [
        (from_array.targets[0].row, from_array.targets[0].column)
    ]
    with pytest.raises(FersError, match="no such target"):
        from_array.like(99)


# known places


def test_known_places_are_left_out_of_the_list(made, tmp_path):
    first = json.loads((made / "detections.geojson").read_text())
    assert again(made, "--top", "5") == 0
    best = peaks(made)[0]
    first["features"] = first["features"][:1]  # as the page exports what was ticked
    (tmp_path / "known.geojson").write_text(json.dumps(first))
    assert again(made, "--not", tmp_path / "known.geojson") == 0
    assert best not in peaks(made) and len(peaks(made)) == 5  # the rule is still that of the result
    about = json.loads((made / "run.json").read_text())
    assert about["known"].startswith("1 known place from") and about["known"] in about["notes"]
    assert about["known"] in (made / "report.html").read_text()


def test_known_places_do_not_count_in_statistics_where_that_is_asked_and_are_scored(tmp_path):
    scene = save_scene(tmp_path / "scenes")
    (tmp_path / "known.csv").write_text("row,column\n50,30\n10,8\n")
    left_out = np.zeros((64, 48), bool)
    left_out[0] = True
    np.save(tmp_path / "out.npy", left_out)
    plain = fers.detect(scene, features="original", left_out=str(tmp_path / "out.npy"))
    known = fers.detect(
        scene,
        features="original",
        left_out=str(tmp_path / "out.npy"),
        known=str(tmp_path / "known.csv"),
        known_from=("statistics",),
    )
    assert known.about["counts"]["background"] == [plain.about["counts"]["background"][0] - 2]
    assert known.score[OTHER] > plain.score[OTHER] and OTHER in [(t.row, t.column) for t in known.targets]
    assert known.tail.count == plain.tail.count - 2
    assert np.isnan(known.score[0]).all() and np.isfinite(known.score[1:]).all()


def test_a_page_s_export_in_pixels_is_a_file_of_known_places(made, tmp_path):
    row, column = peaks(made)[0]
    ring = [[column, row], [column + 1, row], [column + 1, row + 1], [column, row + 1], [column, row]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    content = {"type": "FeatureCollection", "fers_coordinates": "pixel", "features": [feature]}
    (tmp_path / "ticks.geojson").write_text(json.dumps(content))
    assert again(made, "--not", tmp_path / "ticks.geojson") == 0
    assert (row, column) not in peaks(made)
