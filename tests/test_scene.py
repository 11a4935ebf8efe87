"""Reading cubes and masks, whatever file they come in."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image
from spectral.io import envi

from fers.scenes import Scene, SceneError, nodata_pixels, normalise, read_scene, read_truth
from fers.scenes.normalise import usable_pixels
from fers.scenes.scene import npy_bytes

ENVI_TYPES = ["uint8", "int16", "int32", "float32", "float64", "uint16", "uint32", "int64", "uint64"]


@pytest.fixture
def cube() -> np.ndarray:
    return np.random.RandomState(0).randint(0, 200, size=(11, 13, 7))


def write_envi(folder: Path, cube: np.ndarray, *, interleave="bil", ext=".img", byteorder=0, metadata=None) -> Path:
    header = folder / "scene.hdr"
    envi.save_image(
        str(header),
        cube,
        dtype=cube.dtype,
        interleave=interleave,
        ext=ext,
        byteorder=byteorder,
        metadata=metadata or {},
        force=True,
    )
    return header


@pytest.mark.parametrize("interleave", ["bil", "bip", "bsq"])
@pytest.mark.parametrize("dtype", ENVI_TYPES)
@pytest.mark.parametrize("byteorder", [0, 1])
def test_envi_of_every_interleave_type_and_byte_order(tmp_path, cube, interleave, dtype, byteorder):
    header = write_envi(tmp_path, cube.astype(dtype), interleave=interleave, byteorder=byteorder)
    scene = read_scene(header)
    assert np.array_equal(scene.cube, cube)
    assert scene.cube.dtype.newbyteorder("=") == np.dtype(dtype)


@pytest.mark.parametrize("ext", [".img", ".dat", ".raw", ".IMG", ""])
def test_envi_data_file_is_found_and_can_be_named_itself(tmp_path, cube, ext):
    header = write_envi(tmp_path, cube.astype("int16"), ext=".img")
    data = tmp_path / f"scene{ext}"
    (tmp_path / "scene.img").rename(data)
    assert np.array_equal(read_scene(header).cube, cube)
    assert np.array_equal(read_scene(data).cube, cube)
    header.rename(tmp_path / f"scene{ext}.hdr")  # the other custom, scene.img.hdr
    assert np.array_equal(read_scene(data).cube, cube)


def test_envi_is_memory_mapped(tmp_path, cube):
    array = read_scene(write_envi(tmp_path, cube.astype("int16"))).cube
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    assert isinstance(array, np.memmap)


def test_envi_metadata(tmp_path, cube):
    header = write_envi(
        tmp_path,
        cube.astype("float32"),
        metadata={
            "wavelength": [0.4 + 0.1 * i for i in range(7)],
            "wavelength units": "Micrometers",
            "data ignore value": -50,
            "map info": ["UTM", "1", "1", "500000", "4000000", "3.5", "3.5", "11", "North", "WGS-84"],
        },
    )
    scene = read_scene(header)
    assert scene.wavelengths == pytest.approx([400, 500, 600, 700, 800, 900, 1000])
    assert scene.nodata == (-50.0,)
    assert scene.map_info[:2] == ("UTM", "1") and scene.map_info[-1] == "WGS-84"


@pytest.mark.parametrize("unit, factor", [("Nanometers", 1), ("nm", 1), ("", 1), ("Micrometers", 1000), ("um", 1000)])
def test_wavelengths_are_nanometres_whatever_the_unit(tmp_path, cube, unit, factor):
    centres = np.linspace(400, 2500, 7) / factor
    header = write_envi(
        tmp_path, cube.astype("int16"), metadata={"wavelength": list(centres), "wavelength units": unit}
    )
    assert read_scene(header).wavelengths == pytest.approx(centres * factor)


def test_wavelengths_without_a_unit_are_told_by_their_size(tmp_path, cube):
    header = write_envi(tmp_path, cube.astype("int16"), metadata={"wavelength": list(np.linspace(0.4, 2.5, 7))})
    assert read_scene(header).wavelengths[-1] == pytest.approx(2500)


def test_envi_cut_short_names_file_and_sizes(tmp_path, cube):
    header = write_envi(tmp_path, cube.astype("int16"))
    data = tmp_path / "scene.img"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(SceneError, match=r"scene\.img: 2001 bytes, .* 2002 bytes"):
        read_scene(header)


@pytest.mark.parametrize(
    "text, message",
    [
        ("not a header", "ENVI header"),
        ("ENVI\nsamples = 3\n", "interleave"),
        ("ENVI\nsamples = 13\nlines = x\nbands = 7\ndata type = 2\ninterleave = bil\nbyte order = 0\n", "ENVI header"),
        (
            "ENVI\nsamples = 13\nlines = 11\nbands = 7\ndata type = 99\ninterleave = bil\nbyte order = 0\n",
            "ENVI header",
        ),
    ],
)
def test_damaged_envi_header_is_a_clear_error(tmp_path, text, message):
    (tmp_path / "scene.hdr").write_text(text)
    (tmp_path / "scene.img").write_bytes(b"\0" * 4000)
    with pytest.raises(SceneError, match=rf"scene\.hdr: .*{message}"):
        read_scene(tmp_path / "scene.hdr")


def test_envi_header_without_its_data_file(tmp_path, cube):
    header = write_envi(tmp_path, cube.astype("int16"))
    (tmp_path / "scene.img").unlink()
    with pytest.raises(SceneError, match=r"data file .* missing. Put scene\.img"):
        read_scene(header)


def test_wavelength_count_must_fit(tmp_path, cube):
    header = write_envi(tmp_path, cube.astype("int16"), metadata={"wavelength": [400, 500]})
    with pytest.raises(SceneError, match="2 wavelengths for 7 bands"):
        read_scene(header)


def test_mat_v5_cube_and_mask_are_found_by_shape(tmp_path, cube):
    mask = np.zeros((11, 13), np.uint8)
    mask[3, 4] = 1
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"whatever": cube.astype("uint16"), "gt": mask, "note": "text", "scale": 2.0})
    scene = read_scene(path)
    assert np.array_equal(scene.cube, cube) and scene.variable == "whatever" and scene.name == "a"
    assert np.array_equal(read_truth(path, shape=(11, 13)), mask.astype(bool))


def test_mat_v73_has_its_axes_put_right(tmp_path, cube):
    mask = np.zeros((11, 13), np.uint8)
    mask[2, 12] = 1
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:  # MATLAB writes HDF5 behind a header, axes reversed
        file["data"] = cube.astype("float64").T
        file["map"] = mask.T
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    assert np.array_equal(read_scene(path).cube, cube)
    assert np.array_equal(read_truth(path, shape=(11, 13)), mask.astype(bool))


def test_several_cubes_need_a_name(tmp_path, cube):
    path = tmp_path / "two.mat"
    scipy.io.savemat(path, {"a": cube, "b": cube + 1})
    with pytest.raises(SceneError, match=r"two\.mat: 2 variables .* a 11 x 13 x 7, b 11 x 13 x 7"):
        read_scene(path)
    assert np.array_equal(read_scene(path, variable="b").cube, cube + 1)
    with pytest.raises(SceneError, match="no variable named 'c'"):
        read_scene(path, variable="c")


def test_npy_is_memory_mapped_and_npz_read(tmp_path, cube):
    np.save(tmp_path / "a.npy", cube)
    np.savez(tmp_path / "a.npz", data=cube, other=np.arange(3))
    assert isinstance(read_scene(tmp_path / "a.npy").cube, np.memmap)
    assert np.array_equal(read_scene(tmp_path / "a.npz").cube, cube)


@pytest.mark.parametrize("name", ["a.mat", "a.npy", "a.npz", "a.png"])
def test_damaged_file_names_itself(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x93NUMPYgarbage that is no file of any kind" * 10)
    read = read_truth if name.endswith("png") else read_scene
    with pytest.raises(SceneError, match=name):
        read(tmp_path / name)


def test_npy_cut_short_names_itself(tmp_path, cube):
    np.save(tmp_path / "a.npy", cube)
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SceneError, match=r"a\.npy: cannot be read"):
        read_scene(tmp_path / "a.npy")


def test_pickled_arrays_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"code": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(SceneError, match=r"a\.npy"):
        read_scene(tmp_path / "a.npy")


def test_missing_unknown_flat_and_complex_files_are_refused(tmp_path, cube):
    with pytest.raises(SceneError, match="no such file"):
        read_scene(tmp_path / "none.mat")
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(SceneError, match=r"a\.jpg: not a cube format"):
        read_scene(tmp_path / "a.jpg")
    np.save(tmp_path / "flat.npy", cube[0])
    with pytest.raises(SceneError, match=r"shape \(13, 7\)"):
        read_scene(tmp_path / "flat.npy")
    np.save(tmp_path / "complex.npy", cube.astype(complex))
    with pytest.raises(SceneError, match="complex128"):
        read_scene(tmp_path / "complex.npy")


def test_png_masks(tmp_path):
    truth = np.zeros((6, 5), bool)
    truth[1:3, 2] = True
    rgb = np.zeros((6, 5, 3), np.uint8)
    rgb[..., 0] = 255  # the background of an RGB mask may have any red
    rgb[truth] = (255, 255, 0)
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    Image.fromarray(np.dstack([rgb, np.full((6, 5), 255, np.uint8)])).save(tmp_path / "rgba.png")
    Image.fromarray(truth.astype(np.uint8) * 255).save(tmp_path / "grey.png")
    Image.fromarray(truth.astype(np.uint8)).save(tmp_path / "ones.png")
    Image.fromarray(truth).save(tmp_path / "bits.png")
    for name in ("rgb", "rgba", "grey", "ones", "bits"):
        assert np.array_equal(read_truth(tmp_path / f"{name}.png"), truth), name


def test_mask_of_another_shape_or_with_several_classes_is_refused(tmp_path):
    np.save(tmp_path / "m.npy", np.eye(5, dtype=int))
    assert read_truth(tmp_path / "m.npy", shape=(5, 5)).sum() == 5
    with pytest.raises(SceneError, match="mask is 5 x 5 and its scene is 5 x 6"):
        read_truth(tmp_path / "m.npy", shape=(5, 6))
    np.save(tmp_path / "classes.npy", np.arange(25).reshape(5, 5))
    with pytest.raises(SceneError, match="found 25 values"):
        read_truth(tmp_path / "classes.npy")
    with pytest.raises(SceneError, match="no such file"):
        read_truth(tmp_path / "none.png")


def scene_of(cube: np.ndarray, **kwargs) -> Scene:
    return Scene("s", cube, Path("s.npy"), **kwargs)


def test_normalised_cube_is_the_closed_form():
    cube = np.random.RandomState(1).randint(-50, 3000, size=(9, 10, 6)).astype(np.int16)
    h = normalise(scene_of(cube), bands=4, start=1)
    chosen = cube[:, :, 1:5].astype(np.float64)
    expected = 0.1 * (2 * (chosen - chosen.min()) / (chosen.max() - chosen.min()) - 1)
    assert h.dtype == np.float32 and h.shape == (9, 10, 4)
    assert np.array_equal(h, expected.astype(np.float32))
    assert h.min() == np.float32(-0.1) and h.max() == np.float32(0.1)


def test_missing_bands_are_zero_in_raw_values_and_count_for_the_range():
    cube = np.random.RandomState(1).uniform(5, 10, size=(9, 9, 3))
    h = normalise(scene_of(cube), bands=5)
    padded = np.concatenate([cube, np.zeros((9, 9, 2))], axis=2)
    expected = 0.1 * (2 * padded / padded.max() - 1)
    assert h == pytest.approx(expected, abs=1e-7)
    assert np.array_equal(h[:, :, 3:], np.full((9, 9, 2), np.float32(-0.1)))


def test_unsigned_and_large_integers_do_not_overflow():
    cube = np.zeros((9, 9, 2), np.uint16)
    cube[0, 0] = 65535
    assert normalise(scene_of(cube), bands=2)[0, 0, 0] == np.float32(0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -9999.0])
def test_nan_infinity_and_nodata_inside_are_refused_with_their_place(bad):
    cube = np.random.RandomState(0).uniform(size=(9, 9, 3)).astype(np.float32)
    cube[4, 7, 1] = bad
    with pytest.raises(SceneError, match=r"s\.npy: 1 of 81 pixels .* row 4, column 7"):
        normalise(scene_of(cube), bands=3)
    assert np.argwhere(nodata_pixels(scene_of(cube))).tolist() == [[4, 7]]
    normalise(scene_of(cube), bands=1)  # a band that is not used does no harm


def test_declared_nodata_is_compared_in_the_precision_of_the_data():
    cube = np.random.RandomState(0).uniform(size=(9, 9, 3)).astype(np.float32)
    cube[2, 2, 0] = 1e-34
    with pytest.raises(SceneError, match="row 2, column 2"):
        normalise(scene_of(cube, nodata=(1e-34,)), bands=3)


def test_constant_small_and_out_of_range_are_refused():
    with pytest.raises(SceneError, match="constant"):
        normalise(scene_of(np.full((9, 9, 3), 7)), bands=3)
    with pytest.raises(SceneError, match="8 x 9 px; at least 9"):
        normalise(scene_of(np.arange(8 * 9 * 3).reshape(8, 9, 3)), bands=3)
    with pytest.raises(SceneError, match="no band 3; it has bands 0 to 2"):
        normalise(scene_of(np.arange(243).reshape(9, 9, 3)), bands=3, start=3)


def holed() -> tuple[Scene, np.ndarray]:
    """A scene with two pixels that lack data, and where it has data."""
    cube = np.random.RandomState(3).uniform(1, 2, size=(10, 9, 4)).astype(np.float32)
    cube[2, 3, 1], cube[5, 5, 2] = -9999, -50
    usable = np.ones((10, 9), bool)
    usable[2, 3] = usable[5, 5] = False
    return scene_of(cube, nodata=(-9999.0, -50.0)), usable


def test_pixels_without_data_are_left_out_of_the_range_and_filled_where_asked():
    scene, usable = holed()
    h = normalise(scene, bands=4, nodata="mask")
    inside = scene.cube[usable].astype(np.float64)
    expected = 0.1 * (2 * (inside - inside.min()) / (inside.max() - inside.min()) - 1)
    assert np.array_equal(h[usable], expected.astype(np.float32))
    assert np.array_equal(h[2, 3], h[2, 1]) or np.array_equal(h[2, 3], h[0, 3])  # the other side of a neighbour
    assert np.array_equal(usable_pixels(scene, bands=4), usable)
    assert usable_pixels(scene, bands=1).all()  # a band that is not used does no harm


@pytest.mark.parametrize("data", [slice(0, 12), slice(5, 17)])
def test_beyond_its_border_the_data_is_reflected_as_padding_does_and_far_away_is_the_mean(data):
    cube = np.random.RandomState(3).uniform(size=(12, 12, 4)).astype(np.float32)
    whole = np.full((17, 17, 4), np.nan, np.float32)
    whole[data, data] = cube
    h, bare = (normalise(scene_of(each), bands=4, nodata="mask") for each in (whole, cube))
    padded = np.pad(bare, ((3, 3), (3, 3), (0, 0)), mode="reflect")
    at = slice(0, 15) if data.start == 0 else slice(2, 17)
    assert np.array_equal(h[at, at], padded[3:, 3:] if data.start == 0 else padded[:-3, :-3])
    far = h[16, 16] if data.start == 0 else h[0, 0]
    np.testing.assert_allclose(far, bare.mean(axis=(0, 1)), atol=1e-7)


def test_a_lone_pixel_fills_its_surroundings():
    cube = np.full((12, 12, 3), np.nan, np.float32)
    cube[:2] = np.random.RandomState(3).uniform(size=(2, 12, 3))
    cube[8, 8] = 0.3
    h = normalise(scene_of(cube), bands=3, nodata="mask")
    assert np.array_equal(h[6:11, 6:11], np.broadcast_to(h[8, 8], (5, 5, 3)))


def test_pixels_without_data_keep_their_values_where_asked():
    scene, _ = holed()
    assert np.array_equal(normalise(scene, 4, nodata="keep"), normalise(scene_of(scene.cube, nodata=()), 4))
    scene.cube[0, 0, 0] = np.nan
    with pytest.raises(SceneError, match=r"3 of 90 pixels .*NaN and infinity cannot be kept"):
        normalise(scene, 4, nodata="keep")
    assert np.isfinite(normalise(scene, 4, nodata="mask")).all()


def test_a_scene_without_any_data_is_refused_even_where_holes_are_allowed():
    with pytest.raises(SceneError, match="no pixel has data"):
        normalise(scene_of(np.full((9, 9, 3), np.nan)), bands=3, nodata="mask")


def test_arrays_are_written_in_native_byte_order_and_c_order(tmp_path):
    cube = np.asfortranarray(np.arange(24, dtype=">i2").reshape(2, 3, 4))
    (tmp_path / "a.npy").write_bytes(npy_bytes(cube))
    back = np.load(tmp_path / "a.npy")
    assert back.dtype.isnative and back.flags.c_contiguous and np.array_equal(back, cube)
