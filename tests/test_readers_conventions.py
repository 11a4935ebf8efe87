"""HDF5 and netCDF4 files of no known product: axes, wavelengths, scale and place are those that the file says."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
import scene_files as files
import scipy.io

from fers.scenes import SceneError, read_scene
from fers.scenes.readers import LatLon, MapGrid, open_scene
from fers.scenes.readers.axes import order_of, parse_axes, role_of

ROWS, COLUMNS, BANDS = 12, 10, 7
CUBE = np.random.default_rng(3).random((ROWS, COLUMNS, BANDS)).astype(np.float32)
CENTRES = np.linspace(400, 1000, BANDS)
WGS84 = rasterio.crs.CRS.from_epsg(4326).to_wkt()


def write(path: Path, names: str, coordinates: dict | None = None, attributes: dict | None = None, **of_cube) -> Path:
    """A cube whose axes, "time y x", have dimension scales of these names, in the order of the names."""
    sides = {"y": ROWS, "x": COLUMNS}
    order = [("y", "x", "b")["yx".find(_kind(name))] for name in names.split()]
    data = CUBE.transpose(["yxb".index(axis) for axis in order])
    with h5py.File(path, "w") as file:
        cube = file.create_dataset("cube", data=of_cube.pop("stored", data))
        cube.attrs.update(of_cube)
        for place, (name, axis) in enumerate(zip(names.split(), order, strict=True)):
            given = (coordinates or {}).get(name)
            scale = file.create_dataset(name, data=np.zeros(sides.get(axis, BANDS)) if given is None else given)
            if given is None:
                scale.attrs["NAME"] = "This is a netCDF dimension but not a netCDF variable.         7"
            scale.make_scale(name if given is not None else "This is a netCDF dimension but not a netCDF variable.")
            scale.attrs.update((attributes or {}).get(name, {}))
            cube.dims[place].attach_scale(scale)
    return path


def _kind(name: str) -> str:
    return {"latitude": "y", "longitude": "x", "lines": "y", "samples": "x", "north": "y", "east": "x"}.get(name, name)


@pytest.mark.parametrize(
    "names", ["y x band", "band y x", "y band x", "time y x", "latitude longitude wavelengths", "lines samples z"]
)
def test_axes_are_those_of_the_dimension_scales(tmp_path, names):
    reader = open_scene(write(tmp_path / "a.nc", names))
    assert reader.shape == CUBE.shape and np.array_equal(reader.read(), CUBE)
    assert np.array_equal(reader.read(slice(3, 5), [6, 0]), CUBE[3:5][:, :, [6, 0]])
    assert read_scene(tmp_path / "a.nc").cube == pytest.approx(CUBE)
    if names.split()[0] == "time":
        assert "its axis time is taken as the bands" in reader.notes


def test_axis_attributes_and_standard_names_come_before_names(tmp_path):
    said = {"north": {"axis": "Y"}, "east": {"standard_name": "projection_x_coordinate"}}
    given = {"north": np.arange(ROWS) * -2.0, "east": np.arange(COLUMNS) * 2.0}
    reader = open_scene(write(tmp_path / "a.nc", "scans north east", given, said))
    assert np.array_equal(reader.read(), CUBE)


@pytest.mark.parametrize("names", ["a b2 c", "y p q"])
def test_axes_that_cannot_be_told_are_refused_with_the_option_that_tells_them(tmp_path, names):
    stored = CUBE.transpose(2, 0, 1)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"] = stored
        for place, name in enumerate(names.split()):
            file["cube"].dims[place].label = name
    with pytest.raises(SceneError, match=r"a\.h5: the axes of cube, 7 x 12 x 10 .*--axes y,x,band"):
        open_scene(tmp_path / "a.h5")
    assert np.array_equal(open_scene(tmp_path / "a.h5", axes="band,y,x").read(), CUBE)
    assert np.array_equal(open_scene(tmp_path / "a.h5", axes="band,x,y").read(), stored.transpose(2, 1, 0))


@pytest.mark.parametrize("axes", ["y,x", "y,y,x", "rows,columns,depth", ""])
def test_axes_that_are_no_axes_are_refused(axes):
    with pytest.raises(SceneError, match="name rows, columns and bands once each"):
        parse_axes(axes)


def test_a_vector_of_wavelengths_tells_the_bands_only_where_its_length_is_that_of_one_axis(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"], file["wavelength"] = CUBE.transpose(2, 0, 1), CENTRES
    reader = open_scene(tmp_path / "a.h5")
    assert np.array_equal(reader.read(), CUBE) and reader.wavelengths == pytest.approx(CENTRES)
    assert "rows are taken to come before columns" in reader.notes
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["cube"], file["wavelength"] = np.zeros((7, 7, 12), "f4"), CENTRES
    with pytest.raises(SceneError, match="cannot be told"):
        open_scene(tmp_path / "b.h5")


def test_tables_of_latitude_tell_rows_and_columns_and_place_the_swath(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["cube"] = CUBE.transpose(2, 0, 1)
        file["lat"], file["lon"] = np.full((ROWS, COLUMNS), 40.0), np.full((ROWS, COLUMNS), 15.0)
    reader = open_scene(tmp_path / "a.h5")
    assert np.array_equal(reader.read(), CUBE) and isinstance(reader.geometry, LatLon) and reader.located


def test_one_value_a_name_decides_an_axis():
    assert [role_of(n, {}) for n in ("lat", "cross_track", "wavelength", "q")] == ["y", "x", "b", ""]
    assert role_of("q", {"units": "degrees_north"}) == "y" and role_of("x", {"axis": "Y"}) == "y"
    assert order_of(["y", "y", "x"]) == ("", "") and order_of(["", "x", ""]) == ("", "")


# ----- what the numbers mean


def test_scale_offset_and_both_kinds_of_missing_are_followed(tmp_path):
    stored = np.round(CUBE * 10000).astype(np.int16)
    stored[1, 2, 3], stored[4, 5, 6] = -32768, -1
    path = write(tmp_path / "a.nc", "y x band", stored=stored, scale_factor=1e-4, add_offset=0.5, _FillValue=np.int16(-32768), missing_value=np.int16(-1))  # fmt: skip
    values, valid = open_scene(path).read_valid()
    assert np.argwhere(~valid).tolist() == [[1, 2], [4, 5]]
    assert values[valid] == pytest.approx((stored * 1e-4 + 0.5)[valid], rel=1e-5)
    with pytest.raises(SceneError, match="scale_factor of cube is 0"):
        open_scene(write(tmp_path / "b.nc", "y x band", scale_factor=0.0))


def test_wavelengths_widths_and_flags_of_a_file_as_emits_own_tool_writes_it(tmp_path):
    given = {
        "latitude": 35 - np.arange(ROWS) * 5e-4,
        "longitude": -117 + np.arange(COLUMNS) * 5e-4,
        "wavelengths": CENTRES,
    }
    path = write(tmp_path / "a.nc", "latitude longitude wavelengths", given, grid_mapping="spatial_ref")
    with h5py.File(path, "r+") as file:
        file["good_wavelengths"] = np.array([1, 1, 0, 1, 1, 1, 1.0])
        file["fwhm"], file["elev"] = np.full(BANDS, 8.5), np.zeros((ROWS, COLUMNS))
        mapping = file.create_dataset("spatial_ref", data=0)
        mapping.attrs["spatial_ref"], mapping.attrs["GeoTransform"] = (
            WGS84,
            "-117.00025 0.0005 0.0 35.00025 0.0 -0.0005",
        )
        file.attrs["instrument"] = "EMIT"
    reader = open_scene(path)
    assert reader.wavelengths == pytest.approx(CENTRES) and reader.fwhm == pytest.approx([8.5] * BANDS)
    assert np.flatnonzero(~reader.good).tolist() == [2] and reader.good_source == "good_wavelengths of the file"
    assert reader.geometry.xy(0, 0) == pytest.approx((-117, 35)) and reader.geometry.xy(3, 4) == pytest.approx(
        (-116.998, 34.9985)
    )
    assert reader.sensor == "EMIT" and reader.located


def test_a_vector_of_wavelengths_of_another_length_is_told_and_not_read(tmp_path):
    path = write(tmp_path / "a.nc", "band y x")
    with h5py.File(path, "r+") as file:
        file.create_dataset("wavelength", (300_000_000,), "f8", chunks=(1000,))  # a few kB on the disk
    reader = open_scene(path)
    assert reader.wavelengths is None and "wavelength has 300000000 values for 7 bands" in reader.notes[0]


# ----- place


def grid_of(path: Path) -> MapGrid:
    geometry = open_scene(path).geometry
    assert isinstance(geometry, MapGrid)
    return geometry


def mapped(path: Path, **attributes) -> Path:
    with h5py.File(path, "r+") as file:
        file["cube"].attrs["grid_mapping"] = "crs"
        file.create_dataset("crs", data=0).attrs.update(attributes)
    return path


def test_coordinates_are_centres_and_the_mapping_names_the_reference_system(tmp_path):
    given = {"y": 4000000 - 15.0 - 30 * np.arange(ROWS), "x": 500000 + 15.0 + 30 * np.arange(COLUMNS)}
    wkt = rasterio.crs.CRS.from_epsg(32633).to_wkt()
    grid = grid_of(mapped(write(tmp_path / "a.nc", "band y x", given), crs_wkt=wkt))
    assert tuple(grid.transform)[:6] == pytest.approx((30, 0, 500000, 0, -30, 4000000))
    assert rasterio.crs.CRS.from_wkt(grid.crs).to_epsg() == 32633
    upside_down = given | {"y": given["y"][::-1]}
    grid = grid_of(mapped(write(tmp_path / "b.nc", "band y x", upside_down), GeoTransform="500000 30 0 4000000 0 -30"))
    assert grid.xy(0, 0) == pytest.approx((500015, given["y"][-1]))  # not the transform's, which is of the other order
    grid = grid_of(mapped(write(tmp_path / "c.nc", "band y x"), GeoTransform="500000 30 0 4000000 0 -30"))
    assert grid.transform @ (0, 0) == (500000, 4000000)


def test_longitude_and_latitude_are_wgs84_and_uneven_ones_are_no_grid(tmp_path):
    given = {"latitude": 50 - np.arange(ROWS) * 0.01, "longitude": (10 + np.arange(COLUMNS) * 0.01).astype(np.float32)}
    grid = grid_of(write(tmp_path / "a.nc", "latitude longitude band", given))
    assert rasterio.crs.CRS.from_wkt(grid.crs).to_epsg() == 4326 and grid.xy(0, 0) == pytest.approx((10, 50), abs=1e-5)
    uneven = given | {"latitude": 50 - np.arange(ROWS) ** 2 * 0.01}
    assert open_scene(write(tmp_path / "b.nc", "latitude longitude band", uneven)).geometry is None


# ----- several cubes in one file


def hdf5_of(path: Path, **arrays: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name.replace("__", "/")] = array
    return path


def test_the_largest_cube_is_read_and_said_and_a_picture_is_no_scene(tmp_path):
    small, picture = CUBE[:, :, :3].copy(), np.zeros((200, 200, 3), np.uint8)
    path = hdf5_of(tmp_path / "a.h5", cube=CUBE, small=small, Preview__Image=picture)
    reader = open_scene(path, axes="y,x,band")
    assert (
        reader.variable == "cube"
        and "the largest cube; --variable names another of small 12 x 10 x 3" in reader.notes[0]
    )
    assert open_scene(path, "small", axes="y,x,band").shape == small.shape
    only = hdf5_of(tmp_path / "b.h5", Preview__Image=picture)
    with pytest.raises(SceneError, match=r"no cube .*Preview/Image 200 x 200 x 3.*--variable NAME"):
        open_scene(only)
    assert open_scene(only, "Preview/Image", axes="y,x,band").shape == picture.shape
    scipy.io.savemat(tmp_path / "c.mat", {"cube": CUBE, "small": small, "rgb": picture})
    assert read_scene(tmp_path / "c.mat").variable == "cube"
    np.savez(tmp_path / "d.npz", cube=CUBE, small=small, rgb=picture)
    assert np.array_equal(read_scene(tmp_path / "d.npz").cube, CUBE)


def test_sides_of_one_are_dropped_and_other_axes_refused(tmp_path):
    stored = CUBE.transpose(2, 0, 1)[:, None, None]
    path = hdf5_of(tmp_path / "a.h5", Data__Image=stored, Preview=np.zeros((99, 99, 3), np.uint8))
    with h5py.File(path, "r+") as file:
        for place, label in enumerate("CTZYX"):
            file["Data/Image"].dims[place].label = {"C": "wavelength"}.get(label, label)
    reader = open_scene(path)
    assert np.array_equal(reader.read(), CUBE) and np.array_equal(reader.read(slice(2, 4), [5]), CUBE[2:4, :, 5:6])
    assert np.array_equal(read_scene(path).cube, CUBE)
    many = hdf5_of(tmp_path / "b.h5", movie=np.zeros((3, 5, 12, 10), "f4"), cube=CUBE[:5])
    with pytest.raises(
        SceneError, match=r"'movie' is 3 x 5 x 12 x 10; a scene has three axes .*cube 5 x 10 x 7.*--variable"
    ):
        open_scene(many)
    assert open_scene(many, "cube", axes="y,x,band").shape == (5, 10, 7)
    np.save(tmp_path / "c.npy", stored)
    assert np.array_equal(open_scene(tmp_path / "c.npy", axes="band,y,x").read(), CUBE)


@pytest.mark.parametrize("order", ["C", "F"])
def test_axes_of_plain_arrays(tmp_path, order):
    stored = np.array(CUBE.transpose(2, 0, 1), order=order)
    np.save(tmp_path / "a.npy", stored)
    np.savez(tmp_path / "a.npz", cube=stored)
    scipy.io.savemat(tmp_path / "a.mat", {"cube": stored})
    with h5py.File(tmp_path / "b.mat", "w", userblock_size=512) as file:
        file["cube"] = stored.transpose()
    for name in ("a.npy", "a.npz", "a.mat", "b.mat"):
        assert np.array_equal(open_scene(tmp_path / name, axes="band,y,x").read(slice(1, 7)), CUBE[1:7])
        assert np.array_equal(read_scene(tmp_path / name, axes="band,y,x").cube, CUBE)
    assert open_scene(tmp_path / "a.npy").shape == (7, 12, 10)


def test_a_file_that_knows_its_axes_takes_no_others(tmp_path):
    with pytest.raises(SceneError, match="--axes"):
        open_scene(files.envi_file(tmp_path).path, axes="band,y,x")
