"""What cannot be read is refused by name: no traceback, hang, crash, memory filled, or other file read."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scene_files as files
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from campaign.formats import read_whole
from fers.scenes import SceneError, read_scene, read_truth
from fers.scenes.readers import base, open_scene

TESTS = Path(__file__).parent


def in_child(code: str, *arguments: object, seconds: int = 60) -> str:
    """Run Python in another process, so that a crash or a hang is a failed test; what it prints."""
    prelude = f"import sys; sys.path[:0] = [{str(TESTS)!r}, {str(TESTS.parent)!r}]\n"
    command = [sys.executable, "-c", prelude + code, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


# ----- MATLAB


def matrix_element(tag: int, shape=(2, 2, 2), count=None, kind=6) -> bytes:
    """One uncompressed matrix element of a version 5 file whose data has this tag type."""
    data = np.arange(8.0).tobytes()
    body = struct.pack("<IIII", 6, 8, kind, 0)
    body += struct.pack("<II3iI", 5, 12, *shape, 0) + struct.pack("<II8s", 1, 4, b"cube")
    body += struct.pack("<II", tag, len(data) if count is None else count) + data
    return struct.pack("<II", 14, len(body)) + body


def mat_file(path: Path, *elements: bytes) -> Path:
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(elements))
    return path


def compressed(element: bytes) -> bytes:
    packed = zlib.compress(element)
    return struct.pack("<II", 15, len(packed)) + packed


def test_a_mat_file_made_by_hand_is_read(tmp_path):
    for elements in ([matrix_element(9)], [compressed(matrix_element(9))]):
        scene = read_scene(mat_file(tmp_path / "a.mat", *elements))
        assert np.array_equal(scene.cube, np.arange(8.0).reshape((2, 2, 2), order="F"))


def test_tags_that_crash_scipy_are_refused_before_it_sees_them(tmp_path):
    tags = (0, 8, 10, 11, 14, 15, 99, 1 << 20)
    for tag in tags:
        mat_file(tmp_path / f"plain{tag}.mat", matrix_element(tag))
        mat_file(tmp_path / f"zip{tag}.mat", compressed(matrix_element(tag)))
    refused = in_child(
        """
from pathlib import Path
from fers.scenes import SceneError, read_scene
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_scene(path)
    except SceneError as error:
        assert path.name in str(error), error
        print(path.name)
""",
        tmp_path,
    )
    assert len(refused.split()) == 2 * len(tags)


@pytest.mark.parametrize(
    "element",
    [
        matrix_element(9, shape=(2, 2, -2)),
        matrix_element(9, shape=(2, 2, 3)),
        matrix_element(9, shape=(1 << 20, 1 << 20, 1 << 20)),
        matrix_element(9, count=1 << 31),
        struct.pack("<II", 14, 1 << 30),
        compressed(b"\0" * 64),
        struct.pack("<II", 15, 8) + b"no zlib!",
    ],
)
def test_dimensions_and_sizes_that_contradict_each_other(tmp_path, element):
    with pytest.raises(SceneError, match=r"a\.mat: cannot be read as a MATLAB file"):
        read_scene(mat_file(tmp_path / "a.mat", element))


def test_other_variables_of_a_mat_file_are_not_read(tmp_path):
    damaged = matrix_element(9, kind=2)  # a structure whose fields make no sense
    scene = read_scene(mat_file(tmp_path / "a.mat", damaged.replace(b"cube", b"odd_"), matrix_element(9)))
    assert scene.variable == "cube"


def zeros_of(nbytes: int) -> bytes:
    """A compressed matrix of zeros that declares so many bytes."""
    body = struct.pack("<IIII", 6, 8, 9, 0) + struct.pack("<II3iI", 5, 12, 16, 16, nbytes // 256, 0)
    body += struct.pack("<II8s", 1, 4, b"cube") + struct.pack("<II", 2, nbytes) + b"\0" * 4096
    return compressed(struct.pack("<II", 14, len(body) - 4096 + nbytes) + body)


def test_a_small_file_that_declares_gigabytes_is_refused_before_they_are_allocated(tmp_path):
    mat_file(tmp_path / "a.mat", zeros_of(1 << 30))
    with h5py.File(tmp_path / "b.mat", "w") as file:
        file.create_dataset("cube", (1000, 1000, 800), "f4", chunks=(10, 10, 10), compression="gzip")
    header = {"descr": "<f4", "fortran_order": False, "shape": (1000, 1000, 800)}
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, header)
    (tmp_path / "c.npy").write_bytes(buffer.getvalue())
    text = in_child(
        """
import resource
from pathlib import Path
from fers.scenes import SceneError, read_truth, read_scene
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_scene(path)
    except SceneError as error:
        assert path.name in str(error), error
        print(path.name)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
""",
        tmp_path,
    ).split()
    assert text[:3] == ["a.mat", "b.mat", "c.npy"] and int(text[3]) < 200  # MB


def test_an_npz_bomb_is_refused_by_its_declared_size(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", cube=np.zeros((100, 100, 200), np.uint8))
    assert read_scene(tmp_path / "a.npz").cube.shape == (100, 100, 200)
    monkeypatch.setattr(base, "_ALWAYS_ALLOWED", 1 << 20)
    with pytest.raises(SceneError, match=r"a\.npz: declares an array of 0\.0 GB"):
        read_scene(tmp_path / "a.npz")


def test_a_block_larger_than_the_memory_is_refused(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros((10, 10, 100), np.float32))
    reader = open_scene(tmp_path / "a.npy")
    monkeypatch.setattr(base, "_ALWAYS_ALLOWED", 1000)
    monkeypatch.setattr(base, "free_memory", lambda: 20000)
    assert reader.read(slice(0, 4)).shape == (4, 10, 100)
    with pytest.raises(SceneError, match="Read fewer rows"):
        reader.read()


def test_damaged_mat_73_does_not_lock_other_threads(tmp_path):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("a", data=np.eye(12, 10))
        file.create_dataset(
            "cube", data=np.random.default_rng(0).random((5, 10, 12)), chunks=(5, 10, 12), compression="gzip"
        )
        file.create_dataset("null", dtype="f8", data=h5py.Empty("f8"))
        place = file["cube"].id.get_chunk_info(0).byte_offset + 512
    content = bytearray(path.read_bytes())
    content[place + 100 : place + 110] = b"\xff" * 10
    path.write_bytes(bytes(content))
    ended = in_child(
        """
import threading, h5py
from fers.scenes import SceneError, read_scene
errors = []
def work():
    try:
        read_scene(sys.argv[1])
    except SceneError as error:
        errors.append(error)
thread = threading.Thread(target=work)
thread.start(); thread.join(30)
with h5py.File(sys.argv[1]) as file:  # hangs where the library is still locked
    print(len(errors), file["a"].shape)
""",
        path,
    )
    assert ended.strip() == "1 (12, 10)"


# ----- HDF5 that leads elsewhere


def test_links_external_storage_and_virtual_datasets_are_refused(tmp_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\1" * 1000)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["cube"] = np.ones((5, 10, 12))
    with h5py.File(tmp_path / "link.mat", "w") as file:
        file["cube"] = h5py.ExternalLink("other.h5", "/cube")
    with h5py.File(tmp_path / "soft.mat", "w") as file:
        file["cube"] = h5py.SoftLink("/elsewhere")
    with h5py.File(tmp_path / "external.mat", "w") as file:
        file.create_dataset("cube", (10, 10, 10), "u1", external=[(str(secret), 0, 1000)])
    with h5py.File(tmp_path / "virtual.mat", "w") as file:
        layout = h5py.VirtualLayout((5, 10, 12), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "cube", (5, 10, 12))
        file.create_virtual_dataset("cube", layout)
    messages = {"link": "is a link", "soft": "is a link", "external": "another file", "virtual": "another file"}
    for name, message in messages.items():
        with pytest.raises(SceneError, match=rf"{name}\.mat: .*{message}"):
            read_scene(tmp_path / f"{name}.mat")


# ----- masks


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_or_infinity_in_a_mask_is_refused(tmp_path, bad):
    mask = np.zeros((9, 9))
    mask[1, 1], mask[2, 2] = 1, bad
    np.save(tmp_path / "m.npy", mask)
    scipy.io.savemat(tmp_path / "m.mat", {"gt": mask})
    for name in ("m.npy", "m.mat"):
        with pytest.raises(SceneError, match=rf"{name}: 1 pixels of the mask are NaN or infinite"):
            read_truth(tmp_path / name)


def test_only_png_images_are_opened(tmp_path, monkeypatch):
    (tmp_path / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    Image.new("L", (9, 9)).save(tmp_path / "jpeg.png", format="JPEG")
    Image.new("L", (9, 9)).save(tmp_path / "large.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "large.png").read_bytes()[:50])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # a decompression bomb
    monkeypatch.setattr(subprocess, "Popen", None)  # nothing is started
    for name in ("eps", "jpeg", "large", "cut"):
        with pytest.raises(SceneError, match=rf"{name}\.png: cannot be read as a PNG image"):
            read_truth(tmp_path / f"{name}.png")


# ----- ENVI headers


GOOD = dict(samples="10", lines="12", bands="3", interleave="bil") | {
    "data type": "4",
    "byte order": "0",
    "header offset": "0",
}


@pytest.mark.parametrize(
    "entry, value, message",
    [
        *[(entry, "{5}", "without braces") for entry in GOOD],
        *[
            (entry, value, f"'{entry}'")
            for entry in ("samples", "lines", "bands")
            for value in ("0", "-3", "", "3.5", "9" * 30)
        ],
        ("header offset", "-1", "'header offset' is '-1'"),
        ("data type", "6", "complex64"),
        ("data type", "7", "'data type' is '7'"),
        ("byte order", "2", "'byte order' is '2'"),
        ("interleave", "tile", "interleave"),
        ("lines", "999999999", "bytes"),
        ("file type", "ENVI Spectral Library", "spectral library"),
        ("file compression", "1", "compressed"),
        ("major frame offsets", "{1, 0}", "frame offsets"),
        ("wavelength", "{400, 500}", "2 wavelengths for 3 bands"),
        ("wavelength", "{400, 500, x}", "not a number"),
        ("wavelength", "{400, 500", "not closed"),
        ("wavelength", "{400, nan, 600}", "infinite"),
        ("bbl", "{1, 1}", "2 values of 'bbl' for 3 bands"),
        ("data ignore value", "none", "not a number"),
        ("reflectance scale factor", "0", "scale factor"),
    ],
)
def test_envi_header_faults_are_named(tmp_path, entry, value, message):
    files.values(3).tofile(tmp_path / "s.img")
    lines = [f"{key} = {text}" for key, text in (GOOD | {entry: value}).items()]
    (tmp_path / "s.hdr").write_text("\n".join(["ENVI", *lines]))
    with pytest.raises(SceneError, match=rf"s\.(hdr|img): .*{message}"):
        read_scene(tmp_path / "s.hdr")


OPTIONAL = ["wavelength", "fwhm", "bbl", "map info", "data ignore value", "data gain values", "wavelength units"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from([*GOOD, *OPTIONAL]),
        st.one_of(
            st.text(max_size=20), st.lists(st.floats().map(str), max_size=4).map(lambda v: "{" + ", ".join(v) + "}")
        ),
        max_size=3,
    )
)
def test_any_text_in_a_header_is_read_or_refused(tmp_path, entries):
    files.values(3).tofile(tmp_path / "s.img")
    lines = [f"{key} = {value}" for key, value in (GOOD | entries).items()]
    (tmp_path / "s.hdr").write_text("\n".join(["ENVI", *lines]), encoding="utf-8", errors="replace")
    try:
        reader = open_scene(tmp_path / "s.hdr")
    except SceneError as error:
        assert "s.hdr" in str(error) or "s.img" in str(error)
    else:
        assert reader.read().shape == reader.shape


def test_envi_map_info_that_makes_no_sense_is_a_note(tmp_path):
    reader = open_scene(files.write_envi(tmp_path, files.values(3), map_info=["UTM", "x"]))
    assert reader.geometry is None and "not understood" in reader.notes[0]


# ----- NumPy


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (12, 10, 3",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (12, -10, 3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 99999999999, 99999999999), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 12, }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (12, 10, 3), }",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (12, 10, 3), }",
        "{'descr': 3, 'fortran_order': False, 'shape': (12, 10, 3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 10, 3), }",
        "\0\0\0",
        "[" * 200,
    ],
)
def test_npy_header_faults_are_named(tmp_path, header):
    text = header.encode().ljust(117) + b"\n"
    (tmp_path / "a.npy").write_bytes(
        b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + files.values(3).tobytes()
    )
    with pytest.raises(SceneError, match=r"a\.npy"):
        read_scene(tmp_path / "a.npy")


def test_npz_faults_are_named_and_a_zip_by_another_name_is_read_as_what_it_is(tmp_path):
    np.savez(tmp_path / "a.npz", cube=files.values(3))
    (tmp_path / "a.npz").rename(tmp_path / "zip.npy")
    assert read_scene(tmp_path / "zip.npy").cube.shape == (12, 10, 3)
    with pytest.raises(SceneError, match=r"zip\.npy: cannot be read as a \.npy file"):
        read_truth(tmp_path / "zip.npy")
    (tmp_path / "b.npz").write_bytes(b"no zip")
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("cube.npy", b"\x93NUMPY\x01\x00")
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    np.savez(tmp_path / "e.npz", cube=np.array([[[{}]]], dtype=object))
    for name in "bcde":
        with pytest.raises(SceneError, match=rf"{name}\.npz"):
            read_scene(tmp_path / f"{name}.npz")


# ----- products that are not whole


def remove(path: Path, *keys: str) -> Path:
    with h5py.File(path, "r+") as file:
        for key in keys:
            if key.startswith("@"):
                del file.attrs[key[1:]]
            else:
                del file[key]
    return path


def test_products_that_lack_something_say_what(tmp_path):
    prisma = remove(files.prisma_file(tmp_path).path, "@List_Cw_Vnir")
    with pytest.raises(SceneError, match=r"PRS_L2D\.he5: attribute List_Cw_Vnir"):
        open_scene(prisma)
    pace = remove(files.pace_l1b_file(tmp_path).path, "sensor_band_parameters/red_wavelength")
    with pytest.raises(SceneError, match="lacks wavelengths"):
        open_scene(pace)
    enmap = files.enmap_file(tmp_path)
    xml = next(tmp_path.glob("ENMAP*METADATA.XML"))
    xml.write_text(xml.read_text().replace("500.0", "many"))
    with pytest.raises(SceneError, match=r"METADATA\.XML: cannot be read as a metadata file .*many"):
        open_scene(enmap.path)
    xml.write_text("<a>")
    with pytest.raises(SceneError, match=r"METADATA\.XML"):
        open_scene(enmap.path)
    classic = files.classic_file(tmp_path)
    gain = next(tmp_path.glob("*.gain"))
    gain.write_text("300 1\n")
    with pytest.raises(SceneError, match=r"\.gain: 1 rows for 6 bands"):
        open_scene(classic.path)


REPLACEMENTS = [
    None,  # removed
    np.bytes_("not what it was"),
    np.array([np.nan, -1.0]),
    np.zeros((2, 2, 2, 2)),
    np.zeros(3, dtype=[("a", "f4")]),
    h5py.Empty("f8"),
]


@pytest.mark.parametrize(
    "product", ["emit-l2a", "prisma-l2d", "prisma-l1", "aviris-netcdf", "tanager-ortho", "neon", "pace-l1b", "pace-l2"]
)
def test_each_part_of_a_product_missing_or_of_another_kind_is_read_or_refused(tmp_path, product):
    path = files.PRODUCTS[product](tmp_path).path
    good = path.read_bytes()
    parts: list[tuple[str, str | None]] = []
    with h5py.File(path, "r") as file:
        parts += [("/", name) for name in file.attrs]
        file.visititems(lambda key, item: parts.extend([(key, None), *((key, name) for name in item.attrs)]))
    refused = 0
    for key, name in parts:
        for replacement in REPLACEMENTS:
            path.write_bytes(good)
            with h5py.File(path, "r+") as file:
                holder, part = (file, key) if name is None else (file[key].attrs, name)
                del holder[part]
                if replacement is not None:
                    holder[part] = replacement
            try:
                read_whole(path)
            except SceneError as error:
                assert path.name in str(error)
                refused += 1
    assert 0 < refused < len(parts) * len(REPLACEMENTS)


def test_file_that_vanishes_between_opening_and_reading_is_named(tmp_path):
    for write in (files.envi_file, files.emit_file, files.geotiff_file):
        written = write(tmp_path)
        reader = open_scene(written.path)
        for one in tmp_path.iterdir():
            one.unlink()
        with pytest.raises(SceneError, match=str(written.path.stem)):
            reader.read()
