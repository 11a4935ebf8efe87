"""Each product's reader finds what its file holds, on files written as the products are described."""

from __future__ import annotations

import pickle
import shutil

import h5py
import numpy as np
import pytest
import rasterio
import scene_files as files
from conftest import shared_file
from rasterio.warp import transform
from scene_files import HEIGHT, MISSING, PRODUCTS, WIDTH

from fers.scenes import SceneError, read_scene
from fers.scenes.readers import LatLon, LookupTable, MapGrid, base, open_scene
from fers.scenes.readers.products import mask_file_of, read_emit_mask


@pytest.fixture(params=PRODUCTS)
def written(request, tmp_path):
    return PRODUCTS[request.param](tmp_path)


def test_samples_wavelengths_and_flags_are_those_of_the_product(written):
    reader = open_scene(written.path)
    assert (reader.shape == written.cube.shape and reader.sensor) or written.path.name.startswith("scene")
    assert reader.read() == pytest.approx(written.cube, rel=1e-6, nan_ok=True)
    assert reader.read().dtype == reader.dtype
    assert reader.wavelengths == pytest.approx(written.wavelengths, abs=0.01)
    if written.fwhm is not None:
        assert reader.fwhm == pytest.approx(written.fwhm, abs=1e-4)
    assert (reader.good is None) == (written.good is None) and (reader.good_source != "") == (reader.good is not None)
    if written.good is not None:
        assert reader.good.tolist() == written.good.tolist()


def test_pixels_without_data_are_known(written):
    _, valid = open_scene(written.path).read_valid()
    expected = np.ones((HEIGHT, WIDTH), bool)
    expected[MISSING] = False
    assert np.array_equal(valid, expected)


def test_blocks_of_rows_and_any_bands_are_parts_of_the_whole(written):
    reader = open_scene(written.path)
    whole, count = reader.read(), reader.bands
    for rows in (slice(0, 1), slice(3, 8), slice(HEIGHT - 2, HEIGHT)):
        for bands in (None, slice(1, 3), [count - 1, 0], np.arange(count)[::-1], [1]):
            if isinstance(bands, list) and len(bands) == 1 and reader.missing_if == "all":
                continue  # a single band cannot tell a measured 0 from none
            index = slice(None) if bands is None else bands
            assert np.array_equal(reader.read(rows, bands), whole[rows][:, :, index], equal_nan=True)
    assert reader.read(slice(5, 5)).shape == (0, WIDTH, count)
    block, valid = reader.read_valid(slice(2, 3))
    assert block.shape == (1, WIDTH, count) and (~valid).sum() == 2


def test_a_reader_travels_to_another_process(written):
    reader = open_scene(written.path)
    copy = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(copy.read(slice(4, 6)), reader.read(slice(4, 6)), equal_nan=True)


def test_place_of_the_first_pixel(written):
    geometry = open_scene(written.path).geometry
    if written.centre is not None:
        assert isinstance(geometry, MapGrid)
        assert geometry.transform @ (0, 0) == pytest.approx(written.corner, abs=1e-6)
        assert geometry.xy(0, 0) == pytest.approx(written.centre, abs=1e-6)
        assert rasterio.crs.CRS.from_wkt(geometry.crs).to_epsg() == 32633
    elif written.corner is not None:
        assert isinstance(geometry, LookupTable) and geometry.transform @ (0, 0) == pytest.approx(written.corner)
    elif geometry is not None:
        assert isinstance(geometry, LatLon) and geometry.xy(3, 4) == (15.0, 40.0)


def test_scene_in_memory_is_what_the_reader_reads(written):
    scene, reader = read_scene(written.path), open_scene(written.path)
    assert np.array_equal(scene.cube, reader.read(), equal_nan=True)
    assert np.array_equal(scene.wavelengths, reader.wavelengths) and scene.nodata == reader.nodata


@pytest.mark.parametrize("product", ["emit-l2a", "prisma-l2d", "tanager-ortho", "neon", "geotiff", "aviris-netcdf"])
def test_a_renamed_file_is_recognised_by_what_it_holds(tmp_path, product):
    written = PRODUCTS[product](tmp_path)
    renamed = shutil.move(written.path, tmp_path / "data.bin")
    assert open_scene(renamed).shape == written.cube.shape


# ----- traps


def test_glt_counts_from_one_and_negative_means_a_neighbour(tmp_path):
    geometry = open_scene(files.emit_file(tmp_path).path).geometry
    score = np.arange(HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    ortho = geometry.orthorectify(score)
    assert ortho.shape == (HEIGHT + 1, WIDTH + 1)
    assert np.array_equal(ortho[:HEIGHT, 1:], score)
    assert np.isnan(ortho[:, 0]).all() and np.isnan(ortho[HEIGHT, 2:]).all()
    assert ortho[HEIGHT, 1] == score[HEIGHT - 1, 0]


def test_aviris_lookup_table_puts_the_swath_on_the_map(tmp_path):
    geometry = open_scene(files.aviris_swath_file(tmp_path).path).geometry
    score = np.arange(HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    assert np.array_equal(geometry.orthorectify(score), score[::-1, ::-1])


def test_emit_l1b_takes_its_bad_bands_from_the_reflectance_beside_it(tmp_path):
    radiance = files.emit_file(tmp_path, "L1B_RAD").path
    assert open_scene(radiance).good is None
    old = files.emit_file(tmp_path, stem="000_20220827T091626_2223906_007")
    reader = open_scene(radiance)
    assert reader.good.tolist() == old.good.tolist() and old.path.name in reader.good_source
    newer = files.emit_file(tmp_path, stem="002_20220827T091626_2223906_007")
    assert newer.path.name in open_scene(radiance).good_source
    files.emit_file(tmp_path, stem="003_20220827T091626_2223906_008")  # another scene
    assert newer.path.name in open_scene(radiance).good_source


def test_emit_mask_is_found_and_its_flags_are_read(tmp_path):
    scene, mask = files.emit_file(tmp_path), files.emit_mask_file(tmp_path)
    assert mask_file_of(scene.path) == mask
    flags = read_emit_mask(mask)
    assert len(flags) == 6 and np.argwhere(flags["Cloud flag"]).tolist() == [[1, 2]]
    with pytest.raises(SceneError, match="a mask file, not a scene"):
        open_scene(mask)


def test_prisma_says_which_bands_it_leaves_out(tmp_path):
    assert open_scene(files.prisma_file(tmp_path).path).notes == (
        "2 bands that were not acquired are left out",
        "1 VNIR bands that overlap with the SWIR arm are left out",
    )


@pytest.mark.parametrize("product, missing", [("prisma-l1", True), ("enmap-l1c", True), ("hyperion", True)])
def test_a_single_zero_is_a_measurement_where_zero_marks_whole_pixels(tmp_path, product, missing):
    cube = open_scene(PRODUCTS[product](tmp_path).path).read()
    assert np.isnan(cube).all(axis=2).sum() == 4 and np.isnan(cube).any(axis=2).sum() == 4


def test_rotated_map_info_gives_the_longitude_and_latitude_that_gdal_gives(tmp_path):
    written = files.envi_file(tmp_path)
    geometry = open_scene(written.path).geometry
    with rasterio.open(written.path.with_suffix(".img"), driver="ENVI") as source:
        expected = source.xy(7, 3)
        crs = source.crs
    assert geometry.xy(7, 3) == pytest.approx(expected, abs=1e-6)
    found = transform(geometry.crs, "EPSG:4326", *[[v] for v in geometry.xy(7, 3)])
    assert np.ravel(found) == pytest.approx(np.ravel(transform(crs, "EPSG:4326", *[[v] for v in expected])), abs=1e-9)


def test_map_info_without_a_reference_system_is_no_georeference(tmp_path):
    info = ["Arbitrary", "1", "1", "0", "0", "1", "1", "0", "North"]
    reader = open_scene(files.write_envi(tmp_path, files.values(3), map_info=info))
    assert reader.geometry is None and "Arbitrary" in reader.notes[0]


@pytest.mark.parametrize(
    "parts, epsg",
    [
        (["UTM", "1", "1", "500000", "4000000", "5", "5", "11", "South", "WGS-84"], 32711),
        (["UTM", "1", "1", "500000", "4000000", "5", "5", "11", "North", "North America 1983"], 26911),
        (["Geographic Lat/Lon", "1.5", "1.5", "10.5", "49.5", "1", "1", "WGS-84", "units=Degrees"], 4326),
    ],
)
def test_map_info_names_the_reference_system(tmp_path, parts, epsg):
    geometry = open_scene(files.write_envi(tmp_path, files.values(3), map_info=parts)).geometry
    assert rasterio.crs.CRS.from_wkt(geometry.crs).to_epsg() == epsg
    if epsg == 4326:  # the reference pixel 1.5, 1.5 is the centre of the first one
        assert geometry.transform @ (0, 0) == pytest.approx((10, 50))


@pytest.mark.parametrize(
    "unit, written, expected",
    [
        ("Nanometer", [500, 600, 700], [500, 600, 700]),
        ("microns", [0.5, 0.6, 0.7], [500, 600, 700]),
        ("Unknown", [0.5, 0.6, 0.7], [500, 600, 700]),
        ("Wavenumber", [20000, 12500, 10000], [500, 800, 1000]),
        ("cm", [5e-5, 6e-5, 7e-5], [500, 600, 700]),
        ("µm".encode().decode("latin-1"), [0.5, 0.6, 0.7], [500, 600, 700]),
    ],
)
def test_units_of_wavelength_as_people_write_them(tmp_path, unit, written, expected):
    path = files.write_envi(tmp_path, files.values(3), wavelength=written, wavelength_units=unit)
    assert open_scene(path).wavelengths == pytest.approx(expected)


def test_wavelengths_that_are_an_index_are_none(tmp_path):
    path = files.write_envi(tmp_path, files.values(3), wavelength=[1, 2, 3], wavelength_units="Index")
    assert open_scene(path).wavelengths is None


def test_envi_header_as_people_write_it(tmp_path):
    cube = files.values(3)
    cube.tofile(tmp_path / "s.hyspex")
    (tmp_path / "s.hdr").write_bytes(
        b"ENVI\r\n; a comment = 5\r\n  Samples = 10\r\nLINES= 12\r\nbands   =3\r\ndata type = 4\r\ninterleave = BIP\r\n"
        b"byte order = 0\r\nmap info ={UTM, 1, 1,\r\n 500000, 4000000, 5, 5, 33, North, WGS-84}\r\n"
        b"description = {na\xefve = {text}}\r\nwavelength = {500,\r\n; no comment\r\n 600, 700}\r\n"
    )
    reader = open_scene(tmp_path / "s.hyspex")
    assert np.array_equal(reader.read(), cube) and reader.wavelengths.tolist() == [500, 600, 700]
    assert reader.geometry.transform @ (0, 0) == (500000, 4000000)


def test_a_large_envi_scene_of_several_gains_is_measured_by_its_data_and_not_by_its_header(tmp_path, monkeypatch):
    path = files.write_envi(tmp_path, np.ones((2000, 100, 3), np.float32), data_gain_values=[0.1, 0.2, 0.3])
    monkeypatch.setattr(base, "_ALWAYS_ALLOWED", 1)
    assert read_scene(path).cube.shape == (2000, 100, 3)


def test_scale_factor_is_applied_by_the_reader_and_not_by_a_memory_map(tmp_path):
    stored = (files.values(3) * 10000).astype(np.int16)
    path = files.write_envi(tmp_path, stored, reflectance_scale_factor=10000)
    assert open_scene(path).read() == pytest.approx(stored / 10000, rel=1e-6)
    assert np.array_equal(read_scene(path).cube, stored)  # one factor for all changes neither range nor scores


def test_gains_of_each_band_are_applied_everywhere(tmp_path):
    stored = (files.values(3) * 1000).astype(np.int16)
    gains, offsets = [0.1, 0.2, 0.3], [1, 2, 3]
    path = files.write_envi(tmp_path, stored, data_gain_values=gains, data_offset_values=offsets)
    expected = stored * np.array(gains) + offsets
    assert open_scene(path).read() == pytest.approx(expected, rel=1e-6)
    assert read_scene(path).cube == pytest.approx(expected, rel=1e-6)


def test_nan_and_a_declared_value_are_both_missing_and_saturation_is_not(tmp_path):
    cube = files.values(3)
    cube[1, 1, 0], cube[2, 2, 1] = np.nan, -1
    path = files.write_envi(tmp_path, cube, data_ignore_value=-1)
    assert np.argwhere(~open_scene(path).read_valid()[1]).tolist() == [[1, 1], [2, 2]]
    stored = np.full((HEIGHT, WIDTH, 3), 55537, np.uint16)  # what -9999 wraps to
    stored[0, 0] = 65535
    path = files.write_envi(tmp_path, stored, "other", data_ignore_value=-9999)
    assert open_scene(path).read_valid()[1].all()


def test_enmap_vnir_of_l1b_alone_has_no_georeference(tmp_path):
    name = "ENMAP01-____L1B-DT1"
    stored = np.ones((HEIGHT, WIDTH, 3), np.int16)
    path = files.write_tiff(tmp_path / f"{name}-SPECTRAL_IMAGE_VNIR.TIF", stored)
    (tmp_path / f"{name}-METADATA.XML").write_text(files.enmap_xml([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))
    reader = open_scene(path)
    assert reader.wavelengths.tolist() == [500, 900, 960] and reader.geometry is None and reader.notes
    assert reader.read()[0, 0] == pytest.approx([0.101, 0.201, 0.301])


def test_geotiff_wavelengths_from_descriptions(tmp_path):
    path = files.write_tiff(tmp_path / "a.tif", files.values(3))
    with rasterio.open(path, "r+") as target:
        for band in (1, 2, 3):
            target.set_band_description(band, f"band {band} ({400 + band}.5 Nanometers)")
    assert open_scene(path).wavelengths.tolist() == [401.5, 402.5, 403.5]


def test_hyperion_folder_and_one_of_two_scenes(tmp_path):
    written = files.hyperion_file(tmp_path)
    assert open_scene(tmp_path).shape == written.cube.shape
    shutil.copy(written.path, tmp_path / "EO1H0440352012141110KF_B008_L1T.TIF")
    assert open_scene(written.path).shape == written.cube.shape
    with pytest.raises(SceneError, match="2 Hyperion scenes"):
        open_scene(tmp_path)


def test_hdf5_of_no_known_product_is_told_by_its_wavelengths(tmp_path):
    cube = files.values(7)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["deep/cube"], file["deep/wavelength"] = cube.transpose(2, 0, 1), np.linspace(0.4, 1, 7)
    reader = open_scene(tmp_path / "a.h5")
    assert np.array_equal(reader.read(), cube) and reader.wavelengths[-1] == pytest.approx(1000)


def test_formats_that_cannot_be_read_say_what_to_do(tmp_path):
    (tmp_path / "a.L1R").write_bytes(b"\x0e\x03\x13\x01" + b"\0" * 200)
    with pytest.raises(SceneError, match=r"a\.L1R: an HDF4 file.*L1T"):
        open_scene(tmp_path / "a.L1R")
    (tmp_path / "a.nc").write_bytes(b"CDF\x01" + b"\0" * 200)
    with pytest.raises(SceneError, match=r"a\.nc: a classic netCDF file.*nccopy"):
        open_scene(tmp_path / "a.nc")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "name, shape, first, last",
    [
        ("ang20160910t185702_2rdn_img", (25, 30, 425), 376.44, 2500.12),
        ("ang20170323t202244_rdn_7000-7010", (10, 10, 425), 376.86, 2500.54),
    ],
)
def test_real_aviris_ng_files(name, shape, first, last):
    reader = open_scene(shared_file(f"envi/{name}"))
    assert reader.shape == shape and reader.wavelengths[[0, -1]] == pytest.approx([first, last], abs=0.01)
    with rasterio.open(shared_file(f"envi/{name}"), driver="ENVI") as source:
        assert np.array_equal(reader.read(), np.moveaxis(source.read(), 0, 2))
        if source.crs is not None:
            assert reader.geometry.transform.almost_equals(source.transform)
            assert rasterio.crs.CRS.from_wkt(reader.geometry.crs).to_epsg() == source.crs.to_epsg()
        else:
            assert reader.geometry is None


@pytest.mark.parametrize("name", ["salinas-a.mat", "san-diego.mat", "hydice-urban.mat", "indian-pines.npz"])
def test_real_arrays_are_what_their_library_reads(name):
    import scipy.io

    path = shared_file(f"aviris/{name}")
    scene = read_scene(path)
    expected = (np.load(path) if name.endswith("npz") else scipy.io.loadmat(path))[scene.variable]
    assert np.array_equal(scene.cube, expected) and scene.cube.dtype == expected.dtype


def test_real_wavelengths_beside_the_cube_of_a_mat_file():
    scene = read_scene(shared_file("aviris/town-224-with-wavelengths.mat"))
    assert scene.cube.shape == (90, 90, 224) and len(scene.wavelengths) == 224
    assert 350 < scene.wavelengths.min() < 400 and 2400 < scene.wavelengths.max() < 2550
    assert (np.diff(scene.wavelengths) < 0).any()  # its spectrometers overlap


@pytest.mark.parametrize("name", ["a.mat", "a.npz", "v73.mat"])
def test_wavelengths_beside_a_cube_are_its_band_centres(tmp_path, name):
    import scipy.io

    content = {"data": files.values(4), "wavelengths": np.array([0.4, 0.5, 0.6, 0.7]), "gt": np.eye(12, 10)}
    if name == "v73.mat":
        with h5py.File(tmp_path / name, "w") as file:
            for key, value in content.items():
                file[key] = value.T
    else:
        (np.savez if name.endswith("npz") else lambda p, **c: scipy.io.savemat(p, c))(tmp_path / name, **content)
    reader = open_scene(tmp_path / name)
    assert reader.wavelengths == pytest.approx([400, 500, 600, 700]) and np.array_equal(reader.read(), content["data"])


# ----- ENVI headers beside files of other names


@pytest.mark.parametrize("ending", ["rfl", "L1R", "cub", "sc", "hyper"])
def test_the_only_file_of_a_headers_name_and_size_is_its_data(tmp_path, ending):
    path = files.write_envi(tmp_path, files.values(3))
    path.with_suffix(".img").rename(path.with_suffix(f".{ending}"))
    path.with_suffix(".xml").write_text("<a/>")
    assert np.array_equal(open_scene(path).read(), files.values(3))
    with open(path.with_suffix(f".{ending}"), "ab") as data:
        data.write(b"trailer")
    with pytest.raises(SceneError, match=rf"Found scene\.{ending}.* give that file itself"):
        open_scene(path)
    assert np.array_equal(open_scene(path.with_suffix(f".{ending}")).read(), files.values(3))


def test_a_header_may_begin_with_blank_lines_and_an_esri_header_is_named_as_such(tmp_path):
    path = files.write_envi(tmp_path, files.values(3))
    path.write_text("\n \n" + path.read_text())
    assert open_scene(path).shape == (HEIGHT, WIDTH, 3)
    (tmp_path / "e.bil").write_bytes(bytes(720))
    (tmp_path / "e.hdr").write_text("BYTEORDER I\nLAYOUT BIL\nNROWS 12\nNCOLS 10\nNBANDS 3\nNBITS 16\n")
    for name in ("e.hdr", "e.bil"):
        with pytest.raises(
            SceneError, match=r"e\.hdr: an ESRI \(ArcGIS\) header, not one of ENVI.*gdal_translate -of ENVI"
        ):
            open_scene(tmp_path / name)


def test_every_file_that_a_scene_is_read_from_is_known(tmp_path):
    written = files.classic_file(tmp_path)
    names = {path.suffix for path in open_scene(written.path).files}
    assert names == {".hdr", ".img", ".spc", ".gain"}
    (tmp_path / "enmap").mkdir()
    assert len(open_scene(files.enmap_file(tmp_path / "enmap").path).files) == 2
