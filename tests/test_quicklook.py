"""Maps with north up, and the styles by which QGIS draws products."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import transform as warp_transform

from fers.detection.products.place import Place
from fers.detection.products.quicklook import north_up, refuse_without_place, write_quicklook
from fers.detection.products.raster import style
from fers.detection.products.vector import outline_style
from fers.scenes.readers import LatLon, LookupTable, MapGrid
from fers.util.errors import FersError

UTM = CRS.from_epsg(32632).to_wkt()
ROTATED = MapGrid(Affine(4.373, -2.424, 500_000, -2.424, -4.373, 4_600_000), UTM)
ROW, COLUMN = np.mgrid[0:20, 0:30].astype(float)
SWATH = LatLon(50 - 0.001 * ROW + 0.0002 * COLUMN, 10 + 0.001 * COLUMN + 0.0003 * ROW)


@pytest.mark.parametrize("geometry", [ROTATED, SWATH], ids=["rotated", "swath"])
def test_each_pixel_lies_where_its_georeference_puts_it_and_values_are_not_mixed(geometry):
    place = Place(geometry, (20, 30))
    numbers = np.arange(600, dtype=np.float32).reshape(1, 20, 30)
    out, transform, crs = north_up(numbers, place, np.nan)
    assert transform.b == transform.d == 0 and transform.e < 0
    assert set(out[np.isfinite(out)]) <= set(numbers.ravel())
    for row, column in [(3, 4), (10, 20), (16, 9)]:
        longitude, latitude = place.lonlat(row, column)
        (x,), (y,) = warp_transform("EPSG:4326", crs, [longitude], [latitude])
        at_column, at_row = ~transform @ (x, y)
        found = divmod(int(out[0, int(at_row), int(at_column)]), 30)
        assert max(abs(found[0] - row), abs(found[1] - column)) <= 1  # the cell's centre may lie in the next pixel


def test_a_grid_with_north_up_is_kept():
    grid = Place(MapGrid(Affine(5, 0, 500_000, 0, -5, 4_600_000), UTM), (20, 30))
    maps = np.ones((2, 20, 30), np.float32)
    out, transform, _ = north_up(maps, grid, np.nan)
    assert out is maps and transform == Affine(5, 0, 500_000, 0, -5, 4_600_000)


def test_a_lookup_table_is_thinned_with_its_scene():
    rows, columns = np.mgrid[0:20, 0:30]
    table = LookupTable(Affine(0.001, 0, 10, 0, -0.001, 50), CRS.from_epsg(4326).to_wkt(), rows, columns)
    numbers = np.arange(600, dtype=np.float32).reshape(20, 30)[::2, ::2]
    out, transform, _ = north_up(numbers[None], Place(table, (20, 30)), np.nan, 2)
    np.testing.assert_array_equal(out[0], numbers)
    assert transform.a == pytest.approx(0.002)


def test_the_quick_look_is_a_picture_on_the_map(tmp_path):
    colours = np.random.RandomState(0).rand(20, 30, 3)
    colours[0, 0] = np.nan
    overlay = np.zeros((20, 30, 4), np.uint8)
    overlay[9:12, 19:22] = (255, 0, 40, 255)
    place = Place(ROTATED, (20, 30))
    write_quicklook(tmp_path / "quicklook.tif", colours, overlay, place, 1)
    with rasterio.open(tmp_path / "quicklook.tif") as raster:
        assert raster.crs.to_epsg() == 32632 and raster.count == 4
        picture = raster.read()
        column, row = ~raster.transform @ ROTATED.xy(10, 20)
        corner = ~raster.transform @ ROTATED.xy(0, 0)
    assert picture[:, int(row), int(column)].tolist() == [255, 0, 40, 255]
    assert picture[3, int(corner[1]), int(corner[0])] == 0 and picture[3, 0, 0] == 0


def test_north_up_without_a_georeference_is_refused():
    with pytest.raises(FersError, match="needs a georeference"):
        refuse_without_place(Place(None, (20, 30)), "a.npy")


def test_the_style_of_scores_is_transparent_where_they_are_low():
    items = ET.fromstring(style(np.linspace(0, 10, 1001)).partition("\n")[2]).findall(".//item")
    assert [item.get("alpha") for item in items][:2] == ["0", "0"] and items[-1].get("alpha") == "255"
    assert float(items[1].get("value")) == pytest.approx(9.8) and float(items[-1].get("value")) == 10


def test_targets_are_outlines_without_filling():
    root = ET.fromstring(outline_style().partition("\n")[2])
    assert [c.get("value") for c in root.iter("category")] == ["above the threshold", "candidate", ""]
    looks = [{p.get("k"): p.get("v") for p in layer.iter("prop")} for layer in root.iter("layer")]
    assert {look["style"] for look in looks} == {"no"} and looks[0]["outline_color"] != looks[1]["outline_color"]
