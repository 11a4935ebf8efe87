"""The scenes of a comparison are found in every layout, or a message names the file that lacks something."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from comparing import make_pair, write_pair
from conftest import write_had100
from PIL import Image
from scipy.io import savemat
from spectral.io import envi

from fers.comparison.places import compared_scenes
from fers.scenes.scene import SceneError, truth_png_bytes

CUBE, TRUTH = make_pair("a")


def loaded(place):
    """Names of the scenes of a place, each loaded and compared with the one pair of this file."""
    scenes = compared_scenes(place).scenes
    for one in scenes:
        scene, truth = one.labelled.load()
        assert scene.name == one.labelled.name and truth.dtype == bool and truth.shape == scene.cube.shape[:2]
    return [one.labelled.name for one in scenes]


def save_cube(path):
    if path.suffix == ".npy":
        np.save(path, CUBE)
    elif path.suffix == ".npz":
        np.savez(path, cube=CUBE)
    elif path.suffix == ".mat":
        savemat(path, {"data": CUBE})
    elif path.suffix == ".hdr":
        envi.save_image(str(path), CUBE.astype("f4"))
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["cube"] = CUBE
            for axis, name in enumerate("yxb"):
                file["cube"].dims[axis].label = name
    else:
        write_tif(path, CUBE.astype("f4"))


def save_truth(path):
    values = TRUTH.astype(np.uint8) * 255
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, mask=values)
    elif path.suffix == ".mat":
        savemat(path, {"gt": values, "note": "text"})
    elif path.suffix == ".hdr":
        envi.save_image(str(path), values)
    elif path.suffix == ".png":
        path.write_bytes(truth_png_bytes(TRUTH)) if "_rgb" in path.stem else Image.fromarray(values).save(path)
    else:
        write_tif(path, values[..., None])


def test_a_file_whose_axes_nobody_knows_needs_a_scene_list_that_says_them(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["cube"] = CUBE.transpose(2, 0, 1)
    save_truth(tmp_path / "x_gt.npy")
    with pytest.raises(SceneError, match=r"no cubes here .* Not a cube: .*x\.h5.*--axes"):
        compared_scenes(tmp_path)
    (tmp_path / "list.csv").write_text("cube,truth,axes\nx.h5,x_gt.npy,band y x\n")
    [one] = compared_scenes(tmp_path / "list.csv").scenes
    assert np.array_equal(one.labelled.load()[0].cube, CUBE)


def write_tif(path, cube):
    import rasterio

    height, width, bands = cube.shape
    facts = {"height": height, "width": width, "count": bands, "dtype": cube.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **facts) as file:
        file.write(cube.transpose(2, 0, 1))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("cube", "truth"),
    [
        ("x.npy", "x.png"),
        ("x.npy", "x_gt.npy"),
        ("x.npy", "x_mask.png"),
        ("x.hdr", "x_gt.mat"),
        ("x.img.hdr", "x_truth.hdr"),
        ("x.tif", "x-GT.tif"),
        ("x.npz", "gt_x.npz"),
        ("x.mat", "map.mat"),
        ("x.npy", "mask.png"),
        ("X.mat", "x_gt.mat"),
        ("x.mat", "x.npy"),
        ("x.h5", "x_map.npy"),
        ("x.npy", "gt/x.png"),
        ("x.npy", "Masks/x_mask.png"),
    ],
)
def test_a_truth_is_found_beside_its_cube(tmp_path, cube, truth):
    (tmp_path / truth).parent.mkdir(exist_ok=True)
    save_cube(tmp_path / cube)
    save_truth(tmp_path / truth)
    for place in (tmp_path, tmp_path / cube, str(tmp_path)):
        [one] = compared_scenes(place).scenes
        scene, found = one.labelled.load()
        assert one.labelled.name.lower() == "x" and np.array_equal(found, TRUTH)
        assert np.allclose(scene.cube, CUBE)


def test_every_layout_and_several_places_are_found(tmp_path):
    write_pair(tmp_path / "abu", "abu-urban-3")
    write_pair(tmp_path / "abu", "other")
    write_pair(tmp_path / "pairs", "urban-3")
    write_had100(tmp_path / "own", sensor="camera")
    assert loaded(tmp_path / "abu") == ["urban-3", "other"]
    assert [one.sensor for one in compared_scenes(tmp_path / "abu").scenes] == ["aviris", ""]
    assert loaded(tmp_path / "abu" / "abu-urban-3.mat") == ["urban-3"]
    assert loaded(tmp_path / "own") == ["a", "b"]
    assert [one.sensor for one in compared_scenes(tmp_path / "own").scenes] == ["camera"] * 2
    both = f"{tmp_path / 'abu'}, {tmp_path / 'pairs'},{tmp_path / 'own'}"
    assert [one.labelled.name for one in compared_scenes(both).scenes] == [
        "abu-urban-3",
        "other",
        "pairs-urban-3",
        "a",
        "b",
    ]
    assert [one.labelled.name for one in compared_scenes([("c", CUBE, TRUTH), tmp_path / "pairs"]).scenes] == [
        "c",
        "urban-3",
    ]
    with pytest.raises(SceneError, match=r"several scenes are named c\. Give each a name"):
        compared_scenes([("c", CUBE, TRUTH)] * 2)


def test_a_scene_list_names_what_no_rule_finds(tmp_path):
    savemat(tmp_path / "one.mat", {"a": CUBE, "b": CUBE + 1, "gt": TRUTH * 1, "gt2": ~TRUTH * 1})
    np.save(tmp_path / "two.npy", CUBE)
    np.save(tmp_path / "anomalies_of_2.npy", TRUTH * 255)
    table = tmp_path / "scenes.csv"
    table.write_text(
        "cube, truth, sensor, group, name, cube_variable, truth_variable\n"
        "one.mat,, AVIRIS, line 1, first, b, gt2\n"
        "two.npy, anomalies_of_2.npy, , line 1\n"
    )
    first, second = compared_scenes(str(table)).scenes
    assert (first.labelled.name, first.sensor, first.group) == ("first", "AVIRIS", "line 1")
    assert (second.labelled.name, second.sensor, second.group) == ("two", "", "line 1")
    (scene, truth), (_, other) = first.labelled.load(), second.labelled.load()
    assert np.array_equal(scene.cube, CUBE + 1) and np.array_equal(truth, ~TRUTH) and np.array_equal(other, TRUTH)
    for text, told in (
        ("truth\na.mat\n", "a scene list has the columns cube, truth"),
        ("cube,mask\na.mat,b\n", "found cube, mask"),
        ("cube,truth\n,x\n", "scene 1 names no cube"),
        ("cube,truth\ntwo.npy,none.png\n", "scene 1: there is no .*none.png. Paths are relative"),
        ("cube,truth\n", "names no scene"),
    ):
        table.write_text(text)
        with pytest.raises(SceneError, match=told):
            compared_scenes(table)


def test_what_lacks_something_is_named(tmp_path):
    np.save(tmp_path / "bare.npy", CUBE)
    savemat(tmp_path / "cube_only.mat", {"data": CUBE})
    savemat(tmp_path / "two.mat", {"data": CUBE, "one": TRUTH * 1, "other": TRUTH * 1})
    write_pair(tmp_path, "good")
    with pytest.raises(SceneError) as told:
        compared_scenes(tmp_path)
    message = str(told.value)
    assert "bare.npy: lacks a truth" in message and "cube_only.mat: lacks a truth" in message
    assert "two.mat: lacks a truth" in message and "one 20 x 24, other 20 x 24" in message
    assert "good.mat" not in message and "scene list" in message
    assert loaded(tmp_path / "good.mat") == ["good"]
    save_truth(tmp_path / "good_gt.png")
    with pytest.raises(SceneError, match=r"good\.mat: several files could hold its truth \(good_gt\.png, good\.mat\)"):
        compared_scenes(tmp_path / "good.mat")
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    with pytest.raises(SceneError, match=r"no cubes here .*There are folders: sub; give these"):
        compared_scenes(tmp_path / "empty")
    with pytest.raises(SceneError, match=r"--scenes nowhere: no such folder or file\. Give HAD100, ABU"):
        compared_scenes("nowhere")
    with pytest.raises(SceneError, match="no scene was named"):
        compared_scenes(",")


def test_files_that_belong_to_no_cube_are_told(tmp_path):
    write_pair(tmp_path, "a")
    np.save(tmp_path / "endmembers.npy", np.ones((4, 8)))
    save_truth(tmp_path / "b_gt.npy")
    notes = compared_scenes(tmp_path).notes
    assert notes == [
        f"Not used, as no cube has its name: {tmp_path / name}." for name in ("b_gt.npy", "endmembers.npy")
    ]


def test_scenes_in_memory_are_checked():
    for scene, told in (
        (("a", CUBE[0], TRUTH), "the cube of a is float64"),
        (("a", CUBE, TRUTH.T), r"the truth of a is \(24, 20\), its cube \(20, 24, 8\)\. It looks transposed"),
        (("a", CUBE, TRUTH[1:]), "Rows come first"),
        (("a", CUBE, TRUTH + np.arange(24)), "0 for background and one other number"),
        (("a", CUBE), "is no scene"),
        (3, "is no scene"),
    ):
        with pytest.raises(SceneError, match=told):
            compared_scenes([scene])
    for truth in (TRUTH * 1, TRUTH.astype(np.uint8) * 255, TRUTH.astype(float), TRUTH.astype(np.int16)):
        [one] = compared_scenes(("a", CUBE, truth)).scenes
        assert np.array_equal(one.labelled.load()[1], TRUTH)
