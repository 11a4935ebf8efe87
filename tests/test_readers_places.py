"""Where pixels lie: control points, tables beside a flight line, datums; and what is no place is refused."""

from __future__ import annotations

import json
import re

import h5py
import numpy as np
import pytest
import rasterio
import scene_files as files
from affine import Affine
from rasterio.control import GroundControlPoint
from scene_files import HEIGHT, WIDTH

from fers.detection.detect import detect
from fers.detection.inputs import find_scenes
from fers.scenes import SceneError
from fers.scenes.readers import LatLon, LookupTable, MapGrid, open_scene
from fers.scenes.readers.projection import on_earth

MARS = (
    'PROJCS["Mars",GEOGCS["Mars 2000",DATUM["D_Mars_2000",SPHEROID["Mars_2000",3396190,169.89444722361179]],'
    'PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433]],PROJECTION["Equirectangular"],'
    'PARAMETER["standard_parallel_1",0],PARAMETER["central_meridian",0],UNIT["metre",1]]'
)
MOON = 'GEOGCS["Moon 2000",DATUM["D_Moon_2000",SPHEROID["Moon_2000",1737400,0]],PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433]]'


@pytest.mark.parametrize(
    ("zone", "datum", "epsg"),
    [
        ("32, North", "European 1950", 23032),
        ("32, North", "ED50", 23032),
        ("32, North", "ETRS-89", 25832),
        ("55, South", "GDA94", 28355),
        ("55, South", "Geocentric Datum of Australia 1994", 28355),
        ("55, South", "GDA2020", 7855),
        ("11, North", "NAD27", 26711),
        ("11, South", "WGS-72", 32311),
    ],
)
def test_utm_on_other_datums(tmp_path, zone, datum, epsg):
    info = ["UTM", "1", "1", "380000", "5820000", "2", "2", *zone.split(", "), datum, "units=Meters"]
    geometry = open_scene(files.write_envi(tmp_path, files.values(3), map_info=info)).geometry
    assert rasterio.crs.CRS.from_wkt(geometry.crs).to_epsg() == epsg


def test_a_datum_that_is_missing_or_unknown_is_named_and_not_guessed(tmp_path):
    for datum in ([], ["Atlantis 1900"]):
        info = ["UTM", "1", "1", "380000", "5820000", "2", "2", "33", "North", *datum]
        reader = open_scene(files.write_envi(tmp_path, files.values(3), map_info=info))
        assert reader.grid.crs is None and f"UTM, 33, North{', Atlantis' if datum else ''}" in reader.notes[0]
        assert "coordinate system string" in reader.notes[0] and reader.located


def test_geo_points_of_a_header_place_the_scene_as_gdal_does(tmp_path):
    points = [1, 1, 35, -117, WIDTH, 1, 35.01, -116.9, 1, HEIGHT, 34.9, -117.02, WIDTH, HEIGHT, 34.91, -116.92]
    path = files.write_envi(tmp_path, files.values(3), geo_points=[str(p) for p in points])
    reader = open_scene(path)
    with rasterio.open(path.with_suffix(".img"), driver="ENVI") as source:
        for point in source.gcps[0]:
            assert reader.geometry.transform @ (point.col, point.row) == pytest.approx((point.x, point.y), abs=1e-9)
    assert "4 geo points" in reader.notes[0] and reader.located
    bent = [*points[:-2], 34.95, -116.9]  # not affine: bilinear through all four
    geometry = open_scene(
        files.write_envi(tmp_path, files.values(3), "bent", geo_points=[str(p) for p in bent])
    ).geometry
    assert isinstance(geometry, LatLon) and geometry.latitude.shape == (HEIGHT, WIDTH)
    assert geometry.xy(0, 0) == pytest.approx((-117, 35), abs=0.02)


def curved(row: float, column: float) -> tuple[float, float]:
    return 15 + 0.01 * column + 1e-4 * row * column, 50 - 0.01 * row + 2e-4 * column**2


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32633"])
def test_control_points_of_a_tiff_place_the_scene(tmp_path, crs):
    path = files.write_tiff(tmp_path / "a.tif", files.values(3), Affine.identity(), None)
    points = []
    for row in range(0, HEIGHT + 1, 4):
        for column in range(0, WIDTH + 1, 5):
            (x,), (y,) = rasterio.warp.transform("EPSG:4326", crs, *[[v] for v in curved(row, column)])
            points.append(GroundControlPoint(row, column, x, y))
    with rasterio.open(path, "r+") as source:
        source.gcps = points, rasterio.crs.CRS.from_string(crs)
    geometry = open_scene(path).geometry
    for row, column in ((0, 0), (5, 7), (11, 9)):
        assert geometry.xy(row, column) == pytest.approx(curved(row + 0.5, column + 0.5), abs=1e-6)
    affine = [
        GroundControlPoint(r, c, 500000 + 30 * c, 4000000 - 30 * r) for r, c in ((0, 0), (0, 10), (12, 0), (12, 10))
    ]
    with rasterio.open(path, "r+") as source:
        source.gcps = affine, rasterio.crs.CRS.from_epsg(32633)
    reader = open_scene(path)
    assert (
        reader.geometry.transform @ (0, 0) == pytest.approx((500000, 4000000)) and "4 control points" in reader.notes[0]
    )


# ----- a kit of AVIRIS: radiance, and tables of places beside it

LINE = "ang20200101t000000_rdn_v1"
INFO = ["UTM", "1", "1", "500000", "4000000", "5", "5", "11", "North", "WGS-84", "units=Meters"]


def kit(folder, glt=True, igm=True):
    scene = files.write_envi(folder, files.values(5), f"{LINE}_img")
    columns, rows = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    if glt:
        table = np.zeros((HEIGHT + 4, WIDTH + 6, 2), np.int32)
        table[3 : 3 + HEIGHT, 5 : 5 + WIDTH] = np.dstack([columns + 1, rows + 1])
        table[3, 5] *= -1  # filled from a neighbour
        files.write_envi(folder, table, f"{LINE}_glt", map_info=INFO)
    if igm:
        places = np.dstack([-117 + 0.001 * columns, 36 - 0.001 * rows, 0 * rows])
        files.write_envi(folder, places, f"{LINE}_igm")
    return scene


def test_the_table_beside_a_line_is_found_by_name_and_can_be_named_or_left(tmp_path):
    scene = kit(tmp_path)
    reader = open_scene(scene)
    assert (
        isinstance(reader.geometry, LookupTable) and f"placed by {LINE}_glt.hdr" in reader.notes[0] and reader.located
    )
    score = np.arange(HEIGHT * WIDTH, dtype=float).reshape(HEIGHT, WIDTH)
    assert np.array_equal(reader.geometry.orthorectify(score)[3 : 3 + HEIGHT, 5 : 5 + WIDTH], score)
    assert tmp_path / f"{LINE}_glt.img" in reader.files
    igm = open_scene(scene, glt=tmp_path / f"{LINE}_igm.img").geometry
    assert isinstance(igm, LatLon) and igm.xy(2, 3) == pytest.approx((-116.997, 35.998))
    assert open_scene(scene, glt="none").geometry is None
    corrected = files.write_envi(tmp_path, files.values(5), "ang20200101t000000_corr_v1_img")
    assert isinstance(open_scene(corrected).geometry, LookupTable)
    other = files.write_envi(tmp_path, files.values(5), "ang20200102t000000_rdn_v1_img")
    assert open_scene(other).geometry is None
    mapped = files.write_envi(tmp_path, files.values(5), "ang20200101t000000_rdn_v1_ort_img", map_info=INFO)
    assert isinstance(open_scene(mapped).geometry, MapGrid)


def test_another_run_of_the_same_flight_is_another_line(tmp_path):
    files.write_envi(tmp_path, np.zeros((5, 5, 2), np.int32), "f970619t01p02_r03_c_glt", map_info=INFO)
    assert open_scene(files.write_envi(tmp_path, files.values(5), "f970619t01p02_r02_sc01_img")).table is None


def test_a_folder_with_a_kit_holds_one_scene(tmp_path):
    kit(tmp_path)
    files.write_envi(tmp_path, np.zeros((HEIGHT, WIDTH, 10)), f"{LINE}_obs")
    told: list[str] = []
    readers = find_scenes([tmp_path], say=told.append)
    assert [reader.path.name for reader in readers] == [f"{LINE}_img.hdr"]
    assert len(told) == 3 and all("belongs to a flight line" in text for text in told)


def test_tables_that_do_not_fit_are_refused_or_told(tmp_path):
    scene = kit(tmp_path, glt=False, igm=False)
    files.write_envi(tmp_path, np.zeros((3, 4, 3)), f"{LINE}_loc")
    reader = open_scene(scene)
    assert reader.geometry is None and f"{LINE}_loc.hdr beside it is of another size" in reader.notes[0]
    with pytest.raises(SceneError, match=r"_loc\.hdr: is 3 x 4 px; expected a GLT"):
        _ = open_scene(scene, glt=tmp_path / f"{LINE}_loc.hdr").geometry
    beyond = np.full((4, 4, 2), 99, np.int32)
    files.write_envi(tmp_path, beyond, f"{LINE}_glt", map_info=INFO)
    with pytest.raises(
        SceneError, match=r"_glt\.hdr: the lookup table leads to row 99, column 99; the scene has 12 x 10"
    ):
        _ = open_scene(scene).geometry
    eastings = np.dstack([np.full((HEIGHT, WIDTH), 5e5), np.full((HEIGHT, WIDTH), 4e6)])
    path = files.write_envi(tmp_path, eastings, "east_igm")
    with pytest.raises(SceneError, match="names no reference system"):
        _ = open_scene(scene, glt=path).geometry


# ----- tables inside a file


LATLON = {
    "tanager": (lambda folder: files.tanager_file(folder, "SWATHS"), "HDFEOS/SWATHS/HYP/Geolocation Fields/{}", True),
    "prisma": (
        lambda folder: files.prisma_file(folder, "L1"),
        "HDFEOS/SWATHS/PRS_L1_HCO/Geolocation Fields/{}_VNIR",
        True,
    ),
    "pace": (files.pace_l1b_file, "geolocation_data/{}", False),
}


@pytest.mark.parametrize("product", LATLON)
@pytest.mark.parametrize("shape", [(HEIGHT - 1, WIDTH), (HEIGHT + 5, WIDTH + 5), (3, 3), (HEIGHT * WIDTH,)])
def test_tables_of_another_size_than_the_scene_are_refused(tmp_path, product, shape):
    write, key, capital = LATLON[product]
    path = write(tmp_path).path
    with h5py.File(path, "r+") as file:
        for name in ("Latitude", "Longitude"):
            place = key.format(name if capital else name.lower())
            del file[place]
            file[place] = np.full(shape, 40.0)
    with pytest.raises(SceneError, match=rf"{path.name}: .*the scene is 12 x 10"):
        _ = open_scene(path).geometry


@pytest.mark.parametrize(("value", "refused"), [(1e6, True), (91.0, True), (np.nan, False), (-9999.0, False)])
def test_impossible_places_are_refused_and_fill_values_are_no_place(tmp_path, value, refused):
    path = files.pace_l1b_file(tmp_path).path
    with h5py.File(path, "r+") as file:
        file["geolocation_data/latitude"][2, 3] = value
    if refused:
        with pytest.raises(SceneError, match=rf"{path.name}: 1 pixels have no possible .*row 2, column 3"):
            _ = open_scene(path).geometry
    else:
        geometry = open_scene(path).geometry
        assert np.argwhere(np.isnan(geometry.latitude)).tolist() == [[2, 3]]


# ----- other bodies than the Earth


@pytest.mark.parametrize("crs", [MARS, MOON])
def test_a_map_of_another_body_gives_products_without_longitude_and_latitude(tmp_path, crs):
    assert not on_earth(crs)
    cube = np.random.default_rng(0).random((30, 25, 5)).astype(np.float32)
    cube[12, 7] += 3
    transform = Affine(0.01, 0, 10, 0, -0.01, 20) if crs == MOON else Affine(18, 0, -190000, 0, -18, -160000)
    path = files.write_tiff(tmp_path / "body.tif", cube, transform, rasterio.crs.CRS.from_wkt(crs))
    result = detect(path, tmp_path / "out", features="original", top=1)
    [target] = result.detections
    assert (target["row"], target["column"]) == (12, 7) and target["longitude"] is None and target["area_m2"] is None
    assert (target["x"], target["y"]) == pytest.approx(transform @ (7.5, 12.5))
    assert any("not of the Earth" in note for note in result.about["notes"])
    with rasterio.open(tmp_path / "out" / "score.tif") as raster:
        assert raster.transform == transform and ("Mars" in raster.crs.to_wkt() or "Moon" in raster.crs.to_wkt())
    assert '"geometry":null' in (tmp_path / "out" / "detections.geojson").read_text()


def test_a_target_among_pixels_without_a_place_has_no_outline_and_everything_is_written(tmp_path):
    cube = np.random.default_rng(0).random((30, 25, 5)).astype(np.float32)
    cube[12, 7:9] += 3
    cube[20, 20] += 2
    rows, columns = np.mgrid[:30, :25]
    latitude, longitude = 40 - 0.01 * rows, 10 + 0.01 * columns
    latitude[12:14, 8:10] = -9999
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"], file["latitude"], file["longitude"] = cube, latitude, longitude
    result = detect(tmp_path / "a.h5", tmp_path / "out", features="original", top=2, axes="y,x,band")
    assert [(d["row"], d["column"]) for d in result.detections] == [(12, 7), (20, 20)]
    assert all(0.9e6 < d["area_m2"] / d["pixels"] < 1e6 for d in result.detections)  # 1.11 km by 0.85 km
    features = json.loads((tmp_path / "out" / "detections.geojson").read_text())["features"][:2]
    assert [feature["geometry"] is None for feature in features] == [True, False]


@pytest.mark.parametrize(
    ("x", "width", "said"),
    [
        ("nan", "5", "holds NaN or infinity"),
        ("-inf", "5", "holds NaN or infinity"),
        ("5e5", "nan", "holds NaN or infinity"),
        ("5e5", "0", "have no size"),
        ("5e50", "5", "lies nowhere on the Earth"),
        ("5e5", "1e300", "holds NaN or infinity|lies nowhere on the Earth"),
    ],
)
def test_a_map_grid_that_cannot_be_is_told_and_not_used(tmp_path, x, width, said):
    info = ["UTM", "1", "1", x, "4e6", width, width, "11", "North", "WGS-84"]
    cube = np.random.default_rng(0).random((30, 20, 5)).astype(np.float32)
    path = files.write_envi(tmp_path, cube, map_info=info)
    reader = open_scene(path)
    assert reader.geometry is None and re.search(f"map grid.* {said}; it is not used", " ".join(reader.notes))
    result = detect(path, tmp_path / "out", features="original", top=2)
    assert result.detections[0]["longitude"] is None and result.about["notes"][0] == reader.notes[0]


def test_a_grid_of_degrees_beyond_the_poles_is_not_used(tmp_path):
    path = files.write_tiff(tmp_path / "a.tif", files.values(3), Affine(1, 0, 10, 0, -1, 1000), "EPSG:4326")
    assert open_scene(path).geometry is None
