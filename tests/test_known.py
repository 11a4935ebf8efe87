"""Places that are known already: points and polygons, in degrees or pixels, on all three kinds of georeference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS

from fers.detection.known import AREA, POINT, read_known
from fers.detection.products.place import Place
from fers.detection.targets import find_targets, threshold_for_count
from fers.scenes.readers import LatLon, LookupTable, MapGrid
from fers.util.errors import FersError

UTM = CRS.from_epsg(32632).to_wkt()
ROTATED = Place(MapGrid(Affine(4.373, -2.424, 500_000, -2.424, -4.373, 4_600_000), UTM), (20, 30))
ROW, COLUMN = np.mgrid[0:20, 0:30].astype(float)
SWATH = Place(LatLon(50 - 0.001 * ROW, (179.99 + 0.001 * COLUMN + 180) % 360 - 180), (20, 30))
_CELLS = np.mgrid[0:24, 0:34]
_FILLED = (_CELLS[0] >= 2) & (_CELLS[0] < 22) & (_CELLS[1] >= 3) & (_CELLS[1] < 33)
TABLE = Place(
    LookupTable(
        Affine(0.001, 0, 10, 0, -0.001, 50),
        CRS.from_epsg(4326).to_wkt(),
        np.where(_FILLED, 21 - _CELLS[0], -1),  # upside down
        np.where(_FILLED, _CELLS[1] - 3, -1),
    ),
    (20, 30),
)
NOWHERE = Place(None, (20, 30))


def collection(*geometries, **members) -> str:
    features = [{"type": "Feature", "properties": {}, "geometry": geometry} for geometry in geometries]
    return json.dumps({"type": "FeatureCollection", "features": features, **members})


def save(folder: Path, content: str, name: str = "known.geojson") -> Path:
    (folder / name).write_text(content)
    return folder / name


@pytest.mark.parametrize("place", [ROTATED, SWATH, TABLE], ids=["rotated", "swath", "table"])
def test_outlines_that_a_run_wrote_mark_the_same_pixels_again(tmp_path, place):
    labels = np.zeros((20, 30), np.int32)
    labels[4:7, 8:12] = 1
    labels[5, 9] = 0
    labels[15, 20] = 2
    known, text = read_known(save(tmp_path, collection(*place.polygons(labels).values())), place, (20, 30))
    np.testing.assert_array_equal(known, np.where(labels > 0, AREA, 0))
    assert text.startswith("2 known places from")


@pytest.mark.parametrize("place", [ROTATED, SWATH, TABLE], ids=["rotated", "swath", "table"])
def test_a_point_marks_its_pixel_and_one_outside_is_said(tmp_path, place):
    points = [{"type": "Point", "coordinates": place.lonlat(7, 11)}, {"type": "Point", "coordinates": [-60, 10]}]
    known, text = read_known(save(tmp_path, collection(*points)), place, (20, 30))
    assert np.argwhere(known == POINT).tolist() == [[7, 11]] and known.sum() == POINT
    assert "1 of them outside" in text


def test_pixel_coordinates_are_column_and_row(tmp_path):
    square = {"type": "Polygon", "coordinates": [[[3, 5], [6, 5], [6, 7], [3, 7], [3, 5]]]}
    small = {"type": "MultiPolygon", "coordinates": [[[[20.1, 9.1], [20.2, 9.1], [20.2, 9.2], [20.1, 9.1]]]]}
    path = save(tmp_path, collection(square, small, fers_coordinates="pixel"))
    for place in (NOWHERE, ROTATED):
        known, _ = read_known(path, place, (20, 30))
        expected = np.zeros((20, 30))
        expected[5:7, 3:6] = expected[9, 20] = AREA
        np.testing.assert_array_equal(known, expected)


@pytest.mark.parametrize("text", ["4,7\n9,2\n", "rank,row,col\n1,4,7\n2,9,2\n", "row,column\n4,7\n9,2"])
def test_a_table_has_rows_and_columns(tmp_path, text):
    known, _ = read_known(save(tmp_path, text, "known.csv"), NOWHERE, (20, 30))
    assert np.argwhere(known == POINT).tolist() == [[4, 7], [9, 2]]


@pytest.mark.parametrize("place", [ROTATED, SWATH, TABLE], ids=["rotated", "swath", "table"])
@pytest.mark.parametrize(("kind", "driver"), [("shp", "ESRI Shapefile"), ("gpkg", "GPKG")])
def test_known_places_of_a_shapefile_or_geopackage_are_those_of_the_geojson(tmp_path, kind, driver, place):
    pyogrio = pytest.importorskip("pyogrio")
    labels = np.zeros((20, 30), np.int32)
    labels[4:7, 8:12] = 1
    path = save(tmp_path, collection(*place.polygons(labels).values()))
    meta, _, geometry, _ = pyogrio.raw.read(path, columns=[])
    about = {"driver": driver, "geometry_type": "Polygon", "crs": meta["crs"]}
    pyogrio.raw.write(tmp_path / f"known.{kind}", geometry, [], [], **about)
    known, text = read_known(tmp_path / f"known.{kind}", place, (20, 30))
    assert text.startswith("1 known place from")
    np.testing.assert_array_equal(known, labels)


@pytest.mark.parametrize("name", ["column", "col"])
def test_targets_without_a_geometry_are_given_by_row_and_column(tmp_path, name):
    feature = {"type": "Feature", "geometry": None, "properties": {"row": 4, name: 7}}
    known, _ = read_known(
        save(tmp_path, json.dumps({"type": "FeatureCollection", "features": [feature]})), NOWHERE, (20, 30)
    )
    assert np.argwhere(known).tolist() == [[4, 7]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as a GeoJSON file"),
        ("a,b\n1,2", "no columns named row and column"),
        ("1,x", "cannot be read"),
        (collection({"type": "Circle", "coordinates": [[0, 0], [1, 1]]}), "holds a Circle"),
        (collection({"type": "Point", "coordinates": [9, 45]}), "no georeference"),
        (collection({"type": "Polygon", "coordinates": [[["a", 1]]]}, fers_coordinates="pixel"), "cannot be read"),
    ],
)
def test_what_holds_no_places_is_refused(tmp_path, content, message):
    with pytest.raises(FersError, match=message):
        read_known(save(tmp_path, content), NOWHERE, (20, 30))
    with pytest.raises(FersError, match="no such file"):
        read_known(tmp_path / "nowhere.csv", NOWHERE, (20, 30))


def test_a_known_target_is_not_listed_and_does_not_count_among_the_wanted():
    score = np.zeros((20, 30))
    score[4:7, 8:12], score[5, 9], score[15, 20], score[2, 2] = 5, 9, 8, 7
    known = np.zeros((20, 30), np.uint8)
    known[6, 8] = AREA  # not at the peak
    assert len(find_targets(score, 4, known=known)[0]) == 3
    known[5, 9] = AREA
    targets, labels = find_targets(score, 4, known=known)
    assert [(t.rank, t.row) for t in targets] == [(1, 15), (2, 2)] and labels[5, 9] == 0
    known[5, 9], known[6, 8] = 0, POINT  # anywhere on it
    assert len(find_targets(score, 4, known=known)[0]) == 2
    known[5, 9] = AREA
    assert threshold_for_count(score, 2, known=known) == 7
    assert threshold_for_count(score, 2) == 8
