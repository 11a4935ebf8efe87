"""Files that lead elsewhere, never end, or declare more than they hold are refused, and nothing is fetched or waited for."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
import scene_files as files
from PIL import Image

from fers.detection.inputs import find_scenes
from fers.detection.known import read_known
from fers.detection.masks import read_left_out
from fers.detection.products.place import Place
from fers.scenes import SceneError, read_truth
from fers.scenes.libraries import read_library
from fers.scenes.readers import open_scene
from fers.scenes.readers.projection import crs_wkt
from fers.scenes.readers.rasters import open_raster

ROOT = Path(__file__).resolve().parent.parent


def test_only_one_module_opens_rasters_for_reading():
    opening = re.compile(r"rasterio\.open\((?![^)]*\"w\")|gdal\.Open|MemoryFile", re.DOTALL)
    found = [p.name for p in (ROOT / "fers").rglob("*.py") if opening.search(p.read_text())]
    assert found == ["rasters.py"]


@pytest.mark.parametrize(
    "name",
    ["s3://bucket/a.nc", "https://host/a.tif", "/vsicurl/https://host/a.tif", "/vsis3/b/a.tif", "zip+https://h/a.zip"],
)
def test_a_scene_that_is_not_on_a_disk_gets_one_sentence(name):
    def enter(name):
        with open_raster(name):
            pass

    readings = [open_scene, enter, lambda n: read_left_out(n, (9, 9)), lambda n: find_scenes([n])]
    for reading in (*readings, lambda n: open_scene(Path(n))):  # pathlib joins the slashes of a URL
        with pytest.raises(SceneError, match=r"only files on a disk are read.*mount"):
            reading(name)


def test_a_name_is_not_that_of_a_subdataset(tmp_path, monkeypatch):
    other = files.write_tiff(tmp_path / "other.tif", files.values(3, seed=5))
    mine = files.write_tiff(tmp_path / "mine.tif", files.values(3, seed=6))
    monkeypatch.chdir(tmp_path)
    for name in ("GTIFF_DIR:1:other.tif", "GTIFF_RAW:other.tif", "a?b#c!.tif", "a{b}.tif"):
        shutil.copy(mine, name)
        assert np.array_equal(open_scene(name).read(), files.values(3, seed=6))
    with pytest.raises(SceneError, match="no such file"):
        open_scene("GTIFF_DIR:2:other.tif")
    assert np.array_equal(open_scene(other).read(), files.values(3, seed=5))


@pytest.fixture
def server():
    """A port on this machine that counts who calls."""
    calls = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        ending = threading.Event()

        def count() -> None:
            while not ending.is_set():
                try:
                    listening.accept()[0].close()
                    calls.append(1)
                except TimeoutError:
                    pass

        thread = threading.Thread(target=count)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", calls
        ending.set()
        thread.join()


def test_virtual_rasters_and_services_fetch_nothing_and_read_no_other_file(tmp_path, server):
    address, calls = server
    (tmp_path / "secret.txt").write_text("root" * 100)
    band = '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
    secret = f'<VRTDataset rasterXSize="10" rasterYSize="12">{band}<SourceFilename>{tmp_path}/secret.txt</SourceFilename></VRTRasterBand></VRTDataset>'
    source = f"<SimpleSource><SourceFilename>/vsicurl/{address}/a.tif</SourceFilename></SimpleSource>"
    fetching = f'<VRTDataset rasterXSize="10" rasterYSize="12"><VRTRasterBand dataType="Byte" band="1">{source}</VRTRasterBand></VRTDataset>'
    service = f'<GDAL_WMS><Service name="TMS"><ServerUrl>{address}/${{z}}</ServerUrl></Service></GDAL_WMS>'
    for content in (secret, fetching, service):
        for name in ("a.tif", "a.png", "a.img", "a.bsq", "a.vrt", "a.xml"):
            (tmp_path / name).write_text(content)
            for reading in (open_scene, lambda p: read_left_out(p, (12, 10))):
                with pytest.raises(SceneError, match=name):
                    reading(tmp_path / name)
            (tmp_path / name).unlink()
    assert crs_wkt(f"{address}/crs") is None and crs_wkt(str(tmp_path / "secret.txt")) is None
    assert not calls


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_devices_are_refused_and_not_waited_for(tmp_path):
    np.save(tmp_path / "a.npy", files.values(3))
    for name in ("pipe.npy", "pipe.tif", "pipe.hdr", "scene.spc"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "zero.tif").symlink_to("/dev/zero")
    for name in ("pipe.npy", "pipe.tif", "pipe.hdr", "zero.tif"):
        for reading in (open_scene, lambda p: read_left_out(p, (12, 10))):
            with pytest.raises(SceneError, match=rf"{name}: a pipe, a socket or a device"):
                reading(tmp_path / name)
    told: list[str] = []
    assert [reader.path.name for reader in find_scenes([tmp_path], say=told.append)] == ["a.npy"] and len(told) == 4
    files.write_envi(tmp_path, files.values(3))
    assert open_scene(tmp_path / "scene.hdr").shape == (12, 10, 3)  # the pipe scene.spc beside it is no side file


def test_hard_links_to_the_root_are_followed_once(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number in range(12):
            file[f"link{number}"] = file["/"]
        file["x/cube"] = files.values(4)
        file["y"] = file["x"]
    reader = open_scene(tmp_path / "a.h5", axes="y,x,band")
    assert reader.variable.endswith("x/cube") and not reader.notes


def test_more_groups_than_any_scene_has_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file
        for _ in range(40):
            group = group.create_group("g")
        group["cube"] = files.values(3)
    with pytest.raises(SceneError, match=r"a\.h5: has over 10000 groups and datasets, or over 30 levels"):
        open_scene(tmp_path / "a.h5")


HUGE = (300_000_000,)  # values of which none is stored


@pytest.mark.parametrize(
    ("write", "key"),
    [
        (files.tanager_file, "HDFEOS/GRIDS/HYP/Data Fields/surface_reflectance@wavelengths"),
        (files.emit_file, "sensor_band_parameters/wavelengths"),
        (files.emit_file, "location/glt_x"),
        (files.neon_file, "SJER/Reflectance/Metadata/Spectral_Data/Wavelength"),
        (lambda folder: files.prisma_file(folder, "L1"), "HDFEOS/SWATHS/PRS_L1_HCO/Geolocation Fields/Longitude_VNIR"),
        (files.pace_l1b_file, "geolocation_data/longitude"),
        (files.pace_l1b_file, "sensor_band_parameters/red_wavelength"),
    ],
)
def test_vectors_and_tables_that_declare_more_than_the_scene_has_are_refused_before_they_are_read(tmp_path, write, key):
    path = write(tmp_path).path
    if "@" in key:
        with h5py.File(path, "r+") as file:
            file[key.partition("@")[0]].attrs["wavelengths"] = np.zeros(7000)
    else:
        with h5py.File(path, "r+") as file:
            del file[key]
            file.create_dataset(key, HUGE, "f8", chunks=(1000,))
    script = f"""
import resource, sys
from fers.scenes import SceneError
from fers.scenes.readers import open_scene
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    open_scene({str(path)!r}).geometry
except SceneError as error:
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, error)
"""
    text = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert path.name in text and int(text.split()[0]) < 200  # MB


def test_a_picture_of_another_size_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    Image.new("1", (3000, 3000)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image.Image, "load", None)
    for reading in (lambda p: read_left_out(p, (12, 10)), lambda p: read_truth(p, shape=(12, 10))):
        with pytest.raises(SceneError, match=r"large\.png: the mask is 3000 x 3000 and its scene is 12 x 10"):
            reading(tmp_path / "large.png")
    np.save(tmp_path / "large.npy", np.zeros((30, 30), np.uint8))
    with pytest.raises(SceneError, match=r"large\.npy: the mask is 30 x 30 and its scene is 12 x 10"):
        read_left_out(tmp_path / "large.npy", (12, 10))
    with h5py.File(tmp_path / "large.mat", "w") as file:
        file.create_dataset("mask", (30_000, 30_000), "u1", chunks=(1000, 1000))
    with pytest.raises(SceneError, match=r"large\.mat: the mask is 30000 x 30000 and its scene is 12 x 10"):
        read_left_out(tmp_path / "large.mat", (12, 10))


def test_names_that_are_not_text_are_refused_by_name(tmp_path):
    for write, ending in ((files.geotiff_file, b"tif"), (files.emit_file, b"nc"), (files.envi_file, b"hdr")):
        moved = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9\xff." + ending))
        write(tmp_path).path.rename(moved)
        for reading in (open_scene, lambda p: read_left_out(p, (12, 10))):
            with pytest.raises(SceneError, match=r"its name is not text in UTF-8\. Rename it") as refused:
                reading(moved)
            assert str(refused.value).startswith(str(moved))


@pytest.mark.parametrize("entry", ["data gain values", "data offset values"])
def test_scales_that_are_no_numbers_are_refused(tmp_path, entry):
    path = files.write_envi(tmp_path, files.values(3), **{entry.replace(" ", "_"): ["nan", "1", "1"]})
    with pytest.raises(SceneError, match=r"\.hdr: the (scale|offset) of some bands is NaN or infinite"):
        open_scene(path)


def test_widths_of_bands_that_are_no_numbers_are_not_used(tmp_path):
    wavelengths = {"wavelength": ["500", "600", "700"], "fwhm": ["10", "inf", "10"]}
    assert open_scene(files.write_envi(tmp_path, files.values(3), **wavelengths)).fwhm is None


@pytest.mark.parametrize("name", ["a.csv", "a.geojson", "a.txt", "a.hdr"])
def test_texts_longer_than_any_of_their_kind_are_refused_before_they_are_read(tmp_path, monkeypatch, name):
    """The files are holes: nothing of them is on the disk."""
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 40)
    monkeypatch.setattr(Path, "read_bytes", None)
    monkeypatch.setattr(Path, "read_text", None)
    scene = files.write_tiff(tmp_path / "a.tif", files.values(3))
    readings = {
        "a.csv": (read_library, lambda path: read_known(path, Place(None, (12, 10)), (12, 10))),
        "a.geojson": (lambda path: read_left_out(path, (12, 10)),),
        "a.txt": (lambda path: open_scene(scene, wavelengths=path),),
        "a.hdr": (open_scene, read_library),
    }
    for reading in readings[name]:
        with pytest.raises(SceneError, match=rf"{name}: cannot be read as .*1099511627776 bytes"):
            reading(tmp_path / name)
