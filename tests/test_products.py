"""What a detection leaves: georeferenced maps and targets, a report, provenance."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_files
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as warp_transform

from fers.detection.detect import detect
from fers.detection.options import Work
from fers.detection.products.place import Place
from fers.detection.products.raster import style, write_envi, write_geotiff
from fers.detection.products.report import overlay
from fers.scenes.readers import LatLon, LookupTable, MapGrid, open_scene
from fers.util.errors import FersError
from fers.util.pictures import stretched

ROTATED = Affine(4.373, -2.424, 500_000, -2.424, -4.373, 4_600_000)  # rotation -29 degrees, pixels of 5 m
UTM = CRS.from_epsg(32632).to_wkt()


def cube(height=40, width=30, bands=8) -> np.ndarray:
    rng = np.random.RandomState(0)
    values = 100 + rng.normal(size=(height, width, bands)) @ rng.normal(size=(bands, bands))
    values[12:14, 7] += 60
    values[30, 20] += 90
    values[0, :5] = np.nan
    return values.astype(np.float32)


@pytest.fixture(scope="module")
def products(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("products")
    wavelengths = np.linspace(420, 900, 8)
    options = {"wavelengths": wavelengths, "transform": ROTATED, "crs": "EPSG:32632", "candidates": 3}
    detect(cube(), out, method="rx", quantile=0.9977, **options)
    return out


def test_the_score_map_is_a_cloud_optimised_geotiff_on_the_scene_s_rotated_grid(products):
    with rasterio.open(products / "score.tif") as raster:
        assert raster.crs == CRS.from_epsg(32632) and raster.transform.almost_equals(ROTATED)
        assert raster.dtypes == ("float32", "float32") and np.isnan(raster.nodata)
        assert raster.descriptions[0] == "score"
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        score, rarity = raster.read()
    assert np.isnan(score[0, :5]).all() and np.isfinite(score).sum() == 40 * 30 - 5
    assert np.unravel_index(np.nanargmax(score), score.shape) == (30, 20)
    order = np.argsort(score[np.isfinite(score)])
    assert (np.diff(rarity[np.isfinite(score)][order]) >= 0).all()


def test_styles_are_well_formed(products):
    assert ET.parse(products / "score.qml").find(".//colorrampshader/item").get("color") == "#0d0887"
    fields = ET.parse(products / "detections.qml").findall(".//field")
    assert [field.get("name") for field in fields] == ["spectrum", "background"]
    assert all(field.find("editWidget").get("type") == "SpectralProfile" for field in fields)
    assert 'band="1"' in style(np.array([1.0, 2.0]), band=1)


def test_targets_lie_where_rasterio_puts_them_in_wgs84(products):
    collection = json.loads((products / "detections.geojson").read_text())
    assert "crs" not in collection and len(collection["features"]) == 5
    for feature in collection["features"]:
        about = feature["properties"]
        x, y = ROTATED @ (about["column"] + 0.5, about["row"] + 0.5)
        (longitude,), (latitude,) = warp_transform("EPSG:32632", "EPSG:4326", [x], [y])
        assert about["longitude"] == pytest.approx(longitude, abs=1e-6)
        assert about["latitude"] == pytest.approx(latitude, abs=1e-6)
        ring = np.array(feature["geometry"]["coordinates"][0])
        assert np.abs(ring - (longitude, latitude)).max() < 2e-4  # 15 m
        assert about["area_m2"] == pytest.approx(about["pixels"] * 25, rel=1e-3)
    found = [(f["properties"]["status"], f["properties"]["pixels"]) for f in collection["features"]]
    assert found[:3] == [("above the threshold", 1), ("above the threshold", 2), ("candidate", 1)]


def test_a_target_carries_its_spectrum_and_says_which_wavelengths_speak_for_it(products):
    about = json.loads((products / "detections.geojson").read_text())["features"][0]["properties"]
    spectrum = about["spectrum"]
    assert spectrum["xUnit"] == "Nanometers" and spectrum["x"] == pytest.approx(np.linspace(420, 900, 8), rel=1e-6)
    np.testing.assert_allclose(spectrum["y"], cube()[30, 20], rtol=1e-6)
    assert np.mean(about["background"]["y"]) == pytest.approx(100, abs=1)
    assert set(about["top_wavelengths"]) <= set(spectrum["x"]) and 0 < sum(about["top_shares"]) <= 1.001
    with open(products / "detections.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == 2 * ["above the threshold"] + 3 * ["candidate"]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"] and float(rows[0]["spectrum_420nm"]) == spectrum[
        "y"
    ][0]


def test_the_report_holds_everything_inside_and_escapes_what_it_shows(tmp_path):
    result = detect(cube(), method="rx", top=1)
    result.name = "<script>alert(1)</script>"
    result.write(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)
    assert page.count("data:image/") >= 3
    assert json.loads(re.search(r"const page = (\{.*\});", page)[1])["targets"][0]["pixels"] == 1


def test_provenance_says_what_was_used(products):
    about = json.loads((products / "run.json").read_text())
    assert about["bands"]["used"] == list(range(8)) and about["method"] == "RX, original"
    assert about["counts"] == {
        "pixels": 1200,
        "scored": 1195,
        "left_out": 0,
        "without_data": 5,
        "left_out_of_robust_background": 0,
        "background": [1195],
    }
    assert about["threshold"]["pixels"] == 1195 and "torch" in about["versions"]


def test_without_a_georeference_targets_have_rows_and_columns(tmp_path):
    detect(cube(), tmp_path, method="rx", top=1)
    feature = json.loads((tmp_path / "detections.geojson").read_text())["features"][0]
    assert feature["geometry"] is None and feature["properties"]["latitude"] is None
    assert (feature["properties"]["row"], feature["properties"]["column"]) == (30, 20)
    assert feature["properties"]["spectrum"]["xUnit"] == "Index"


def test_a_threshold_above_all_scores_leaves_candidates(tmp_path):
    result = detect(cube(), tmp_path, method="rx", score=1e9)
    assert result.detections == [] and len(result.candidates) == 20
    assert (result.candidates[0]["row"], result.candidates[0]["column"]) == (30, 20)
    features = json.loads((tmp_path / "detections.geojson").read_text())["features"]
    assert {f["properties"]["status"] for f in features} == {"candidate"} and len(features) == 20
    assert "0 targets above the threshold, 20 candidates" in str(result) and "30" in result.summary()


def test_neither_target_nor_candidate_leaves_empty_lists(tmp_path):
    result = detect(cube(), tmp_path, method="rx", score=1e9, candidates=0)
    assert result.detections == result.candidates == []
    assert json.loads((tmp_path / "detections.geojson").read_text())["features"] == []
    assert (tmp_path / "detections.csv").read_text().strip() == "rank"
    assert (tmp_path / "report.html").is_file()


def test_scores_are_pushed_through_the_lookup_table_and_targets_vectorised_on_its_grid(tmp_path):
    """A table that turns the scene upside down, repeats a row, and leaves a column void."""
    rows = np.repeat([[3], [2], [1], [1], [0]], 4, axis=1)
    columns = np.repeat([[0, 1, 2, -1]], 5, axis=0)
    rows[:, 3] = -1
    table = LookupTable(Affine(0.001, 0, 10, 0, -0.001, 50), CRS.from_epsg(4326).to_wkt(), rows, columns)
    place = Place(table, (4, 3))
    score = np.arange(12.0).reshape(4, 3)
    write_geotiff(tmp_path / "score.tif", score, np.full((4, 3), 0.5), place, {})
    with rasterio.open(tmp_path / "score.tif") as raster:
        written = raster.read(1)
        assert raster.transform.almost_equals(table.transform)
    assert np.isnan(written[:, 3]).all() and written[0, 0] == 9 and written[4, 2] == 2
    assert place.lonlat(1, 2) == pytest.approx((10.0025, 49.997))  # between the two cells of row 1
    assert place.lonlat(0, 0) == pytest.approx((10.0005, 49.9955))
    labels = np.zeros((4, 3), np.int32)
    labels[1, 2] = 7
    ring = np.array(place.polygons(labels)[7]["coordinates"][0])
    assert ring.min(axis=0) == pytest.approx((10.002, 49.996)) and ring.max(axis=0) == pytest.approx((10.003, 49.998))


def swath(longitude=10.0) -> LatLon:
    row, column = np.mgrid[0:20, 0:30].astype(float)
    return LatLon(latitude=50 - 0.001 * row + 0.0002 * column, longitude=longitude + 0.001 * column + 0.0003 * row)


def test_a_swath_places_targets_by_its_tables():
    geometry = swath()
    place = Place(geometry, (20, 30))
    labels = np.zeros((20, 30), np.int32)
    labels[5, 6] = 1
    labels[0, 0] = 2
    outlines = place.polygons(labels)
    ring = np.array(outlines[1]["coordinates"][0])[:-1]
    np.testing.assert_allclose(ring.mean(axis=0), (geometry.longitude[5, 6], geometry.latitude[5, 6]), atol=1e-9)
    corner = np.array(outlines[2]["coordinates"][0])
    assert corner[:, 0].min() == pytest.approx(10 - 0.0005 - 0.00015)  # half a pixel beyond the first centre
    side = 111_320.0 * np.cos(np.radians(50))
    assert place.pixel_area(5, 6) == pytest.approx((0.001 * 0.001 + 0.0003 * 0.0002) * side * 111_320, rel=1e-3)


def test_a_swath_over_the_date_line_keeps_its_polygons_small():
    geometry = swath(179.99)
    geometry = LatLon(geometry.latitude, (geometry.longitude + 180) % 360 - 180)
    labels = np.zeros((20, 30), np.int32)
    labels[5, 20] = 1
    ring = np.array(Place(geometry, (20, 30)).polygons(labels)[1]["coordinates"][0])
    assert np.ptp(ring[:, 0]) < 0.01 and ring[:, 0].min() >= -180 and ring[:, 0].max() < -179


def test_a_swath_s_score_map_has_control_points(tmp_path):
    place = Place(swath(), (20, 30))
    write_geotiff(tmp_path / "score.tif", np.ones((20, 30)), np.ones((20, 30)), place, {})
    with rasterio.open(tmp_path / "score.tif") as raster:
        points, crs = raster.gcps
    assert crs == CRS.from_epsg(4326) and len(points) == 144
    assert (points[0].x, points[0].y, points[0].row) == (10.0, 50.0, 0.5)


def test_envi_maps_keep_the_georeference(tmp_path):
    score = cube()[..., 0].astype(float)
    write_envi(
        tmp_path / "score.img",
        score,
        np.where(np.isnan(score), np.nan, 0.5),
        Place(MapGrid(ROTATED, UTM), (40, 30)),
        {},
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["score.hdr", "score.img"]
    with rasterio.open(tmp_path / "score.img") as raster:
        np.testing.assert_array_equal(raster.read(1), score.astype(np.float32))
        assert raster.transform.almost_equals(ROTATED, precision=1e-3) and raster.crs.to_epsg() == 32632


def test_areas_of_pixels_in_degrees_shrink_with_the_latitude():
    grid = MapGrid(Affine(0.001, 0, 10, 0, -0.001, 60), CRS.from_epsg(4326).to_wkt())
    assert Place(grid, (10, 10)).pixel_area(0, 0) == pytest.approx((111.32**2) * 0.5, rel=1e-4)


def test_a_hole_in_a_target_is_a_hole_in_its_polygon():
    labels = np.zeros((9, 9), np.int32)
    labels[2:5, 2:5] = 1
    labels[3, 3] = 0
    shape = Place(MapGrid(ROTATED, UTM), (9, 9)).polygons(labels)[1]
    assert shape["type"] == "Polygon" and len(shape["coordinates"]) == 2


def test_pictures_keep_the_rarest_of_what_they_leave_out():
    probability = np.ones((5, 5))
    probability[4, 4] = 1e-6
    picture = overlay(probability, 2)
    assert picture.shape == (3, 3, 4) and picture[2, 2, 3] == 255 and picture[0, 0, 3] == 0
    image = np.dstack([np.linspace(0, 1, 100).reshape(10, 10)] * 3)
    image[0, 0] = np.nan
    assert stretched(image)[0, 0].tolist() == [0, 0, 0] and stretched(image).max() == 255


def test_a_result_shows_itself_in_a_notebook():
    result = detect(cube(), method="rx", top=2)
    assert result._repr_png_().startswith(b"\x89PNG") and "2 targets" in result._repr_html_()
    assert [record["rank"] for record in result.detections] == [1, 2]
    assert not any(key.startswith("_") for key in result.detections[0])


@pytest.mark.parametrize("product", scene_files.PRODUCTS)
def test_every_product_of_a_sensor_gives_targets_where_its_georeference_puts_them(product, tmp_path):
    """Positions against the reader's own geometry, whichever of the three kinds it is."""
    path = scene_files.PRODUCTS[product](tmp_path).path
    reader = open_scene(path)
    result = detect(path, tmp_path / "out", method="rx", bands="first:4", top=1)
    record, geometry = result.detections[0], reader.geometry
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"score.tif", "detections.geojson", "report.html"}
    if geometry is None or (isinstance(geometry, MapGrid) and geometry.crs is None):
        assert record["longitude"] is None
        return
    if isinstance(geometry, LookupTable):
        cells = np.argwhere((geometry.rows == record["row"]) & (geometry.columns == record["column"]))
        row, column = cells.mean(axis=0)
        x, y = geometry.transform @ (column + 0.5, row + 0.5)
    else:
        x, y = geometry.xy(record["row"], record["column"])
    crs = "EPSG:4326" if isinstance(geometry, LatLon) else geometry.crs
    (longitude,), (latitude,) = warp_transform(crs, "EPSG:4326", [x], [y])
    assert (record["longitude"], record["latitude"]) == pytest.approx((longitude, latitude), abs=1e-6)


def test_emit_is_scored_without_its_clouds_and_bad_bands(tmp_path):
    scene, _ = scene_files.emit_file(tmp_path), scene_files.emit_mask_file(tmp_path)
    result = detect(scene.path, method="rx", mask="auto", top=1)
    assert result.about["counts"]["left_out"] == 1 and result.about["counts"]["without_data"] == 4
    assert np.isnan(result.score[1, 2])
    assert result.about["bands"]["used"] == np.flatnonzero(scene.good).tolist()


@pytest.mark.parametrize("rule", [{"top": 2}, {"score": 1e9}])
def test_a_geopackage_holds_the_same_targets(tmp_path, rule):
    pyogrio = pytest.importorskip("pyogrio")
    detect(cube(), method="rx", transform=ROTATED, crs="EPSG:32632", **rule).write(tmp_path, gpkg=True)
    meta, _, geometry, _ = pyogrio.raw.read(tmp_path / "detections.gpkg")
    count = len(json.loads((tmp_path / "detections.geojson").read_text())["features"])
    assert len(geometry) == count and (count == 0 or {"rank", "score", "latitude"} <= set(meta["fields"]))


def test_a_geopackage_without_its_library_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FersError, match="pip install"):
        Work(save_dir=tmp_path, gpkg=True)
