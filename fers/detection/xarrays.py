"""xarray at both ends of a detection: a DataArray as a scene, and the maps of a result as a Dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from fers.detection.findings import Findings
from fers.detection.inputs import ArrayReader
from fers.scenes.readers import Geometry, LatLon, MapGrid, SceneError
from fers.scenes.readers.base import UNDECLARED_NODATA
from fers.scenes.readers.projection import crs_wkt
from fers.scenes.readers.wavelengths import to_nm
from fers.util.errors import FersError
from fers.util.paths import how_to_install

AXES = {  # names of dimensions, in lower case
    "y": ("y", "row", "rows", "line", "lines", "lat", "latitude", "northing", "downtrack"),
    "x": ("x", "column", "columns", "col", "sample", "samples", "lon", "longitude", "easting", "crosstrack"),
    "band": ("band", "bands", "wavelength", "wavelengths", "wl", "channel"),
}
WITHOUT_XARRAY = f"to_xarray needs the package xarray: {how_to_install('xarray')}."


@dataclass(kw_only=True)
class DataArrayReader(ArrayReader):
    """An xarray.DataArray as a reader. One that Dask holds is computed block by block."""

    place: LatLon | None = None  # of a swath

    def _read(self, start: int, stop: int, index: np.ndarray) -> np.ndarray:
        return np.asarray(self.array[start:stop][:, :, index])

    @property
    def geometry(self) -> Geometry | None:
        """Place of the pixels on the Earth; None where the coordinates do not say."""
        return self.place or self.grid


def is_data_array(source: Any) -> bool:
    """Tell whether something is an xarray.DataArray, without importing xarray."""
    return all(hasattr(source, name) for name in ("dims", "coords", "transpose", "data"))


def open_data_array(array: Any) -> DataArrayReader:
    """Open a DataArray as a scene.

    Rows, columns and bands are told by the names of the dimensions (``AXES``). Band centres and widths are the coordinates
    ``wavelength`` and ``fwhm``. The place comes from ``spatial_ref`` as rioxarray writes it, or from the coordinates of y and x,
    or from latitude and longitude of each pixel. ``_FillValue`` marks missing data.

    Raises:
        SceneError: The dimensions cannot be told apart.
    """
    found = {axis: [d for d in array.dims if str(d).lower() in names] for axis, names in AXES.items()}
    if len(array.dims) != 3 or any(len(each) != 1 for each in found.values()):
        raise SceneError(
            f"DataArray: its dimensions are {', '.join(map(str, array.dims))}; expected y, x and band, in any order. "
            "Name them: array.rename({'old name': 'band'})."
        )
    y, x, band = (found[axis][0] for axis in ("y", "x", "band"))
    cube = array.transpose(y, x, band)
    centres, fwhm = _band_centres(cube, band)
    fills = [v for about in (cube.attrs, cube.encoding) for k, v in about.items() if k in ("_FillValue", "nodata")]
    place, grid = _swath(cube, y, x), _grid(cube, y, x)
    return DataArrayReader(
        path=Path(str(array.name or "array")),
        shape=cube.shape,
        stored=np.dtype(cube.dtype),
        array=cube.data,
        wavelengths=centres,
        fwhm=fwhm,
        grid=grid,
        place=place,
        declared_nodata=tuple(float(v) for v in fills) or (UNDECLARED_NODATA,),
    )


def to_dataset(result: Findings) -> Any:
    """Make an xarray.Dataset of a result: score, tail probability, and rank of the target of each pixel.

    It is on the grid of ``score.tif``, with the coordinates y and x, and ``spatial_ref`` as rioxarray reads it. A swath has
    latitude and longitude of each pixel.

    Raises:
        FersError: xarray is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise FersError(WITHOUT_XARRAY) from error
    place = result.scene.place
    ranks = np.zeros(int(result.labels.max(initial=0)) + 1, np.int32)
    for target in result.targets:
        ranks[target.label] = target.rank
    maps = {
        "score": place.to_raster(result.score),
        "probability": place.to_raster(result.probability),
        "target": place.to_raster(ranks[result.labels], 0),
    }
    dataset = xarray.Dataset({name: (("y", "x"), values) for name, values in maps.items()})
    height, width = maps["score"].shape
    transform, crs = place.raster
    if isinstance(swath := place.geometry, LatLon):
        dataset = dataset.assign_coords(latitude=(("y", "x"), swath.latitude), longitude=(("y", "x"), swath.longitude))
    elif transform is not None:
        about = {"GeoTransform": " ".join(map(repr, transform.to_gdal()))}
        if crs is not None:
            about |= {"crs_wkt": crs.to_wkt(), "spatial_ref": crs.to_wkt()}
        dataset = dataset.assign_coords(spatial_ref=((), 0, about))
        if transform.b == transform.d == 0:
            x = transform.c + transform.a * (np.arange(width) + 0.5)
            y = transform.f + transform.e * (np.arange(height) + 0.5)
            dataset = dataset.assign_coords(x=x, y=y)
    return dataset.assign_attrs(source=str(result.about["source"]), method=result.about["method"])


def _band_centres(cube: Any, band: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    along = {str(name).lower(): each for name, each in cube.coords.items() if each.dims == (band,)}
    centres = next((along[name] for name in along if name.startswith(("wavelength", "wl"))), None)
    if centres is None or np.asarray(centres).dtype.kind not in "iuf":
        return None, None
    unit = str(centres.attrs.get("units", ""))
    width = along.get("fwhm")
    return to_nm(np.asarray(centres, float), unit, None if width is None else np.asarray(width, float))


def _swath(cube: Any, y: Any, x: Any) -> LatLon | None:
    tables = {
        kind: next(
            (each for name, each in cube.coords.items() if str(name).lower() in names and each.dims == (y, x)), None
        )
        for kind, names in {"latitude": ("lat", "latitude"), "longitude": ("lon", "longitude")}.items()
    }
    if any(table is None for table in tables.values()):
        return None
    return LatLon(**{kind: np.asarray(table, float) for kind, table in tables.items()})


def _grid(cube: Any, y: Any, x: Any) -> MapGrid | None:
    name = cube.encoding.get("grid_mapping", cube.attrs.get("grid_mapping", "spatial_ref"))
    about = cube.coords[name].attrs if name in cube.coords else {}
    crs = crs_wkt(about.get("crs_wkt") or about.get("spatial_ref"))
    if "GeoTransform" in about:
        return MapGrid(Affine.from_gdal(*map(float, str(about["GeoTransform"]).split())), crs)
    if any(
        name not in cube.coords or cube.coords[name].dims != (name,) or len(cube.coords[name]) < 2 for name in (y, x)
    ):
        return None
    rows, columns = (np.asarray(cube.coords[name], float) for name in (y, x))
    down, right = ((ends[-1] - ends[0]) / (len(ends) - 1) for ends in (rows, columns))
    even = all(np.allclose(np.diff(v), step, rtol=1e-3) for v, step in ((rows, down), (columns, right)))
    if not even or down == 0 or right == 0:
        return None
    if crs is None and str(y).lower().startswith("lat"):
        crs = crs_wkt("EPSG:4326")
    if crs is None and np.array_equal(columns, np.arange(len(columns))):  # plain numbers of columns
        return None
    return MapGrid(Affine(right, 0, columns[0] - right / 2, 0, down, rows[0] - down / 2), crs)
