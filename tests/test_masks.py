"""Pixels to leave out: what the rest of the project takes, and shapes in the scene's own place."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import rasterio
import scene_files as files
from affine import Affine
from PIL import Image
from rasterio.warp import transform
from scene_files import HEIGHT, WIDTH

from fers.detection.detect import detect
from fers.detection.masks import read_left_out
from fers.scenes import read_truth
from fers.scenes.readers import LatLon, LookupTable, MapGrid
from fers.scenes.scene import truth_png_bytes
from fers.util.errors import FersError

SHAPE = (HEIGHT, WIDTH)
MASK = np.zeros(SHAPE, bool)
MASK[3:6, 4:7] = MASK[9, 1] = True
UTM = rasterio.crs.CRS.from_epsg(32633).to_wkt()


@pytest.mark.parametrize("kind", ["had100", "grey", "palette", "alpha", "npy", "mat", "tif", "envi", "bits"])
def test_every_format_of_a_mask_marks_the_same_pixels(tmp_path, kind):
    path = tmp_path / f"m.{'png' if kind in ('had100', 'grey', 'palette', 'alpha', 'bits') else kind}"
    if kind == "had100":
        path.write_bytes(truth_png_bytes(MASK))
        assert np.array_equal(read_truth(path), MASK)
    elif kind == "grey":
        Image.fromarray(MASK.astype(np.uint8) * 7).save(path)
    elif kind == "bits":
        Image.fromarray(MASK).save(path)
    elif kind == "palette":
        picture = Image.fromarray(MASK.astype(np.uint8), mode="P")
        picture.putpalette([0, 0, 0, 255, 255, 255])
        picture.save(path)
    elif kind == "alpha":
        Image.fromarray(np.dstack([MASK * np.uint8(255)] * 3 + [np.full(SHAPE, 255, np.uint8)])).save(path)
    elif kind == "npy":
        np.save(path, np.where(MASK, 2.5, np.where(np.arange(WIDTH) == 0, np.nan, 0)))
    elif kind == "mat":
        import scipy.io

        scipy.io.savemat(path, {"mask": MASK.astype(np.uint8)})
    elif kind == "tif":
        files.write_tiff(path, np.where(MASK, 3, 255).astype(np.uint8)[..., None], nodata=255)
    else:
        path = files.write_envi(tmp_path, MASK.astype(np.uint8)[..., None], "m")
    assert np.array_equal(read_left_out(path, SHAPE), MASK)


def test_a_mask_that_marks_nothing_by_its_colours_or_has_more_bands_is_refused(tmp_path):
    red = np.zeros((*SHAPE, 3), np.uint8)
    red[MASK] = 255, 0, 0
    Image.fromarray(red).save(tmp_path / "red.png")
    with pytest.raises(FersError, match=r"red\.png: no pixel of this colour picture has green 255.*green or white"):
        read_left_out(tmp_path / "red.png", SHAPE)
    Image.fromarray(red * 0).save(tmp_path / "black.png")
    assert not read_left_out(tmp_path / "black.png", SHAPE).any()
    for path, message in (
        (files.write_tiff(tmp_path / "rgb.tif", red), "has 3 bands"),
        (files.write_tiff(tmp_path / "other.tif", red[:5, :, :1]), "is 5 x 10 px and its scene is 12 x 10"),
    ):
        with pytest.raises(FersError, match=rf"{path.name}: {message}"):
            read_left_out(path, SHAPE)
    (tmp_path / "m.jpg").write_bytes(b"\xff\xd8\xff\xe0" * 9)
    with pytest.raises(FersError, match=r"m\.jpg: .*As pixels to leave out, give a raster of one band"):
        read_left_out(tmp_path / "m.jpg", SHAPE)


# ----- shapes

NORTH_UP = Affine(30, 0, 500000, 0, -30, 4000000)
TURNED = Affine.translation(500000, 4000000) @ Affine.rotation(25) @ Affine.scale(30, -30)


def outline(place: Affine, rows: tuple[float, float], columns: tuple[float, float]) -> list:
    corners = [
        (c, r) for r, c in ((rows[0], columns[0]), (rows[0], columns[1]), (rows[1], columns[1]), (rows[1], columns[0]))
    ]
    return [list(place @ corner) for corner in [*corners, corners[0]]]


def in_degrees(ring: list) -> list:
    return [
        list(point) for point in zip(*transform(UTM, "EPSG:4326", *map(list, zip(*ring, strict=True))), strict=True)
    ]


def write_shapes(path, *shapes, crs: str | None = None):
    features = [{"type": "Feature", "properties": {}, "geometry": shape} for shape in shapes]
    content = {"type": "FeatureCollection", "features": features}
    if crs:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(content))
    return path


def geometry_of(kind: str):
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    if kind == "north up":
        return MapGrid(NORTH_UP, UTM)
    if kind == "turned":
        return MapGrid(TURNED, UTM)
    if kind == "lookup":  # the map is the scene, upside down
        return LookupTable(Affine(30, 0, 500000, 0, 30, 4000000 - 30 * HEIGHT), UTM, rows[::-1], columns[::-1])
    x, y = NORTH_UP @ (columns + 0.5, rows + 0.5)
    longitude, latitude = (np.array(v).reshape(SHAPE) for v in transform(UTM, "EPSG:4326", x.ravel(), y.ravel()))
    return LatLon(latitude, longitude)


@pytest.mark.parametrize("kind", ["north up", "turned", "lookup", "swath"])
def test_shapes_meet_the_pixels_that_they_touch_wherever_the_scene_lies(tmp_path, kind):
    place = TURNED if kind == "turned" else NORTH_UP
    ring = outline(place, (3.2, 5.8), (4.2, 6.8))
    point = list(place @ (1.5, 9.5))
    polygon, dot = (
        {"type": "Polygon", "coordinates": [in_degrees(ring)]},
        {"type": "Point", "coordinates": in_degrees([point])[0]},
    )
    path = write_shapes(tmp_path / "m.geojson", polygon, dot)
    assert np.array_equal(read_left_out(path, SHAPE, geometry_of(kind)), MASK)
    if kind in ("north up", "turned"):
        projected = {"type": "Polygon", "coordinates": [ring]}
        path = write_shapes(tmp_path / "utm.json", projected, crs="urn:ogc:def:crs:EPSG::32633")
        expected = MASK & (np.arange(HEIGHT) < 9)[:, None]
        assert np.array_equal(read_left_out(path, SHAPE, geometry_of(kind)), expected)


@pytest.mark.parametrize(("kind", "driver"), [("shp", "ESRI Shapefile"), ("gpkg", "GPKG")])
def test_a_shapefile_or_geopackage_is_read(tmp_path, kind, driver):
    pyogrio = pytest.importorskip("pyogrio")
    polygon = {"type": "Polygon", "coordinates": [in_degrees(outline(NORTH_UP, (3.2, 5.8), (4.2, 6.8)))]}
    meta, _, geometry, _ = pyogrio.raw.read(write_shapes(tmp_path / "m.geojson", polygon), columns=[])
    about = {"driver": driver, "geometry_type": "Polygon", "crs": meta["crs"]}
    pyogrio.raw.write(tmp_path / f"m.{kind}", geometry, [], [], **about)
    expected = MASK & (np.arange(HEIGHT) < 9)[:, None]
    assert np.array_equal(read_left_out(tmp_path / f"m.{kind}", SHAPE, geometry_of("north up")), expected)


@pytest.mark.parametrize("kind", ["shp", "gpkg"])
def test_without_pyogrio_such_a_file_is_refused_with_the_remedy(tmp_path, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    (tmp_path / f"m.{kind}").write_bytes(
        b"\0\0\x27\x0a" + bytes(99) if kind == "shp" else b"SQLite format 3\0" + bytes(99)
    )
    with pytest.raises(
        FersError, match=rf"m\.{kind}: reading .* needs the package pyogrio.*ogr2ogr m\.geojson m\.{kind}"
    ):
        read_left_out(tmp_path / f"m.{kind}", SHAPE, geometry_of("north up"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as a GeoJSON file"),
        ('{"type": "FeatureCollection"}', "cannot be read as a GeoJSON file"),
        ('{"type": "Polygon", "coordinates": [[[1, 2], [3]]]}', "cannot be read as a"),
        ('{"type": "Point", "coordinates": [100, 10]}', "none of its 1 shapes lies in the scene"),
        (
            '{"type": "Point", "coordinates": [1, 2], "crs": {"properties": {"name": "http://h/crs"}}}',
            "reference system",
        ),
        ("[" * 100_000, "cannot be read as a GeoJSON file"),
    ],
)
def test_shapes_that_are_damaged_or_elsewhere_are_refused(tmp_path, content, message):
    (tmp_path / "m.geojson").write_text(content)
    with pytest.raises(FersError, match=rf"m\.geojson: .*{message}"):
        read_left_out(tmp_path / "m.geojson", SHAPE, geometry_of("north up"))


def test_shapes_need_a_scene_with_a_place(tmp_path):
    path = write_shapes(tmp_path / "m.geojson", {"type": "Point", "coordinates": [15, 36]})
    for geometry in (None, MapGrid(NORTH_UP, None)):
        with pytest.raises(FersError, match="the scene has no georeference, or no reference system"):
            read_left_out(path, SHAPE, geometry)
    virtual = "<OGRVRTDataSource>".ljust(68) + 'GP10<OGRVRTLayer name="other"/></OGRVRTDataSource>'
    for name, kind in (("m.shp", "shapefile"), ("m.gpkg", "GeoPackage")):
        (tmp_path / name).write_text(virtual)
        with pytest.raises(FersError, match=rf"{name}: not a {kind}"):
            read_left_out(tmp_path / name, SHAPE, geometry_of("north up"))


def test_a_point_marks_its_pixel_wherever_it_lies_in_it(tmp_path):
    """In a swath, also one over the date line."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    swath = LatLon(50 - 0.001 * rows, (179.995 + 0.001 * columns + 180) % 360 - 180)
    for dx, dy in ((0, 0), (0.4, -0.4), (-0.3, 0.3)):
        longitude = (179.995 + 0.001 * (7 + dx) + 180) % 360 - 180
        point = {"type": "Point", "coordinates": [longitude, 50 - 0.001 * (5 + dy)]}
        out = read_left_out(write_shapes(tmp_path / "m.geojson", point), SHAPE, swath)
        assert np.argwhere(out).tolist() == [[5, 7]]


def test_a_detection_leaves_the_shapes_out(tmp_path):
    cube = np.random.default_rng(0).random((30, 25, 5)).astype(np.float32)
    scene = files.write_tiff(tmp_path / "s.tif", cube, NORTH_UP)
    ring = in_degrees(outline(NORTH_UP, (2.1, 9.9), (0.1, 24.9)))
    shapes = write_shapes(tmp_path / "m.geojson", {"type": "Polygon", "coordinates": [ring]})
    result = detect(scene, features="original", top=1, left_out=str(shapes))
    assert result.about["counts"]["left_out"] == 8 * 25 and np.isnan(result.score[2:10]).all()
