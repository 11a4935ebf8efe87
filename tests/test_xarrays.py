"""xarray and geopandas at both ends of a detection; what needs neither is tested without them."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from affine import Affine
from conftest import ROOT
from rasterio.crs import CRS

import fers
from fers.detection.xarrays import open_data_array
from fers.scenes.readers import LatLon
from fers.util.errors import FersError


def cube() -> np.ndarray:
    values = np.random.RandomState(0).normal(size=(40, 30, 8)).astype(np.float32)
    values[12, 7] += 9
    return values


def data_array(dims=("y", "x", "band"), **changes):
    xarray = pytest.importorskip("xarray", reason="xarray is not installed (pip install 'fers-had[xarray]')")
    order = [("y", "x", "band").index(name) for name in dims]
    coords = {
        "wavelength": ("band", np.linspace(0.4, 1.1, 8), {"units": "um"}),
        "fwhm": ("band", np.full(8, 0.01)),
        "y": 4_000_000 - 5.0 * (np.arange(40) + 0.5),
        "x": 500_000 + 5.0 * (np.arange(30) + 0.5),
        "spatial_ref": ((), 0, {"crs_wkt": CRS.from_epsg(32633).to_wkt()}),
    }
    return xarray.DataArray(cube().transpose(order), dims=dims, coords=coords, name="line", **changes)


@pytest.mark.parametrize("dims", [("y", "x", "band"), ("band", "y", "x"), ("x", "band", "y")])
def test_dimensions_are_told_by_their_names_in_any_order(dims):
    reader = open_data_array(data_array(dims))
    np.testing.assert_array_equal(reader.read(slice(3, 9), [2, 5]), cube()[3:9][:, :, [2, 5]])
    np.testing.assert_allclose(reader.wavelengths, np.linspace(400, 1100, 8))
    np.testing.assert_allclose(reader.fwhm, 10)
    assert reader.grid.transform.almost_equals(Affine(5, 0, 500_000, 0, -5, 4_000_000))
    assert CRS.from_wkt(reader.grid.crs).to_epsg() == 32633


def test_dimensions_that_cannot_be_told_are_refused():
    with pytest.raises(FersError, match="its dimensions are time, x, band; expected y, x and band"):
        open_data_array(data_array().rename(y="time"))


def test_a_data_array_is_detected_in_and_its_result_is_a_dataset_on_the_same_coordinates():
    array = data_array(("band", "y", "x"))
    result = fers.detect(array, features="original", far=1e-3)
    assert (result.targets[0].row, result.targets[0].column) == (12, 7) and result.name == "line"
    plain = fers.detect(cube(), features="original", far=1e-3)
    np.testing.assert_array_equal(result.score, plain.score)
    dataset = result.to_xarray()
    np.testing.assert_array_equal(dataset.score, result.score)
    np.testing.assert_allclose(dataset.x, array.x)
    np.testing.assert_allclose(dataset.y, array.y)
    assert int(dataset.target[12, 7]) == 1 and CRS.from_wkt(dataset.spatial_ref.attrs["crs_wkt"]).to_epsg() == 32633
    assert open_data_array(array * 0 + dataset.score).grid.transform == open_data_array(array).grid.transform


def test_a_rotated_grid_is_kept_by_geotransform():
    rotated = Affine(4.373, -2.424, 500_000, -2.424, -4.373, 4_600_000)
    result = fers.detect(cube(), features="original", transform=rotated, crs="EPSG:32632")
    pytest.importorskip("xarray", reason="xarray is not installed (pip install 'fers-had[xarray]')")
    dataset = result.to_xarray()
    found = Affine.from_gdal(*map(float, dataset.spatial_ref.attrs["GeoTransform"].split()))
    assert found.almost_equals(rotated) and "x" not in dataset.coords


def test_missing_values_and_dask_and_swaths():
    array = data_array()
    array.attrs["_FillValue"] = -1.0
    array[3, 4] = -1
    assert np.isnan(fers.detect(array, features="original").score[3, 4])
    dask = pytest.importorskip("dask.array", reason="dask is not installed")
    lazy = array.copy(data=dask.from_array(array.data, chunks=(8, 30, 8)))
    np.testing.assert_array_equal(open_data_array(lazy).read(), array.data)
    swath = array.drop_vars(["x", "y", "spatial_ref"]).assign_coords(
        lat=(("y", "x"), np.full((40, 30), 50.0)), lon=(("y", "x"), np.full((40, 30), 9.0))
    )
    assert isinstance(open_data_array(swath).geometry, LatLon)
    assert open_data_array(array.drop_vars(["x", "y"])).geometry is None


def test_without_the_packages_the_remedy_is_named(monkeypatch):
    result = fers.detect(cube(), features="original")
    for package, call in (("xarray", result.to_xarray), ("geopandas", result.geodataframe)):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(FersError, match=re.escape(f"pip install -e '{ROOT}[xarray]'")):
            call()


def test_targets_are_a_geodataframe_in_wgs84():
    pytest.importorskip("geopandas", reason="geopandas is not installed (pip install 'fers-had[xarray]')")
    result = fers.detect(
        cube(), features="original", far=1e-3, transform=Affine(5, 0, 500_000, 0, -5, 4_000_000), crs="EPSG:32633"
    )
    frame = result.geodataframe()
    assert frame.crs.to_epsg() == 4326 and frame.iloc[0]["row"] == 12
    point = frame.geometry.iloc[0].centroid
    assert (point.x, point.y) == pytest.approx((frame.iloc[0]["longitude"], frame.iloc[0]["latitude"]), abs=1e-5)
