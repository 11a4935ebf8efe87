"""Cutting patches from one's own scenes, and reading them for training."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch

from fers.datasets import patches as patches_module
from fers.datasets.manifest import MANIFEST, ManifestError
from fers.datasets.patches import BackgroundPatches, main
from fers.datasets.synthetic.benchmark import write_benchmark
from fers.scenes import SceneError


@pytest.fixture
def cube():
    return np.random.RandomState(0).randint(1, 1000, (48, 40, 6)).astype(np.int16)


def cut(folder, *arguments: str) -> int:
    return main([*arguments, "--out", str(folder / "out"), "--size", "16", "--stride", "8"])


def kept(folder) -> set[tuple[int, int]]:
    entries = json.loads((folder / "out/train/custom" / MANIFEST).read_text())["files"]
    return {(entry["row"], entry["column"]) for entry in entries.values()}


def test_patches_are_the_scene_at_the_places_the_manifest_names(cube, tmp_path):
    np.save(tmp_path / "field.npy", cube)
    assert cut(tmp_path, str(tmp_path / "field.npy")) == 0
    manifest = json.loads((tmp_path / "out/train/custom" / MANIFEST).read_text())
    assert len(manifest["files"]) == 5 * 4 == manifest["scenes"][0]["kept"]
    for file, entry in manifest["files"].items():
        patch = np.load(tmp_path / "out/train/custom" / file)
        assert np.array_equal(patch, cube[entry["row"] :, entry["column"] :][:16, :16])
        assert (patch.dtype, entry["scene"]) == (np.int16, "field")


def test_patches_touching_a_mask_no_data_or_a_constant_area_are_left_out_and_counted(cube, tmp_path, capsys):
    mask = np.zeros((48, 40), dtype=np.uint8)
    mask[0, 0] = 1  # in one patch
    cube[47, 39, 3] = -9999  # in the last one
    cube[47, 0] = 0  # fill: one value in every band
    np.savez(tmp_path / "a.npz", cube=cube, mask=mask)
    assert cut(tmp_path, str(tmp_path / "a.npz"), "--mask", str(tmp_path / "a.npz")) == 0
    places = {(row, column) for row in range(0, 33, 8) for column in range(0, 25, 8)}
    assert kept(tmp_path) == places - {(0, 0), (32, 24), (32, 0)}
    assert "17 patches  left out: 1 masked, 1 no data, 1 constant" in capsys.readouterr().out


def test_a_scene_without_a_mask_is_named_by_a_dash(cube, tmp_path):
    np.save(tmp_path / "a.npy", cube)
    np.savez(tmp_path / "b.npz", cube=cube, mask=np.eye(48, 40, dtype=bool))
    scenes = [str(tmp_path / "a.npy"), str(tmp_path / "b.npz")]
    assert cut(tmp_path, *scenes, "--mask", "-", scenes[1]) == 0
    counts = {
        s["scene"]: s["kept"] for s in json.loads((tmp_path / "out/train/custom" / MANIFEST).read_text())["scenes"]
    }
    assert counts["a"] == 20 > counts["b"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.npy"], "missing.npy: no such file"),
        (["a.npy", "--mask", "-", "-"], "2 masks for 1 scenes"),
        (["a.npy", "--size", "20"], "multiple of 8"),
        (["a.npy", "--size", "64"], "smaller than a patch"),
        (["a.npy", "b/a.npy"], "two scenes of this name"),
        (["flat.npy"], "no patch is left"),
    ],
)
def test_bad_input_is_an_error_with_its_name_and_leaves_nothing(arguments, says, cube, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b").mkdir()
    for name in ("a.npy", "b/a.npy"):
        np.save(name, cube)
    np.save("flat.npy", np.zeros_like(cube))
    assert main(["--out", "out", "--size", "16", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.glob("out/train/*"))


def test_an_existing_folder_is_not_touched(cube, tmp_path, capsys):
    np.save(tmp_path / "a.npy", cube)
    assert cut(tmp_path, str(tmp_path / "a.npy")) == 0
    before = sorted(p.stat().st_mtime_ns for p in (tmp_path / "out/train/custom").iterdir())
    assert cut(tmp_path, str(tmp_path / "a.npy")) == 2
    assert "exists already" in capsys.readouterr().err
    assert before == sorted(p.stat().st_mtime_ns for p in (tmp_path / "out/train/custom").iterdir())


def had100_folder(folder, scenes=10, side=16, bands=12):
    """``train/aviris_ng/<scene>_<1 to 4>.npy`` as HAD100's archive is laid out."""
    rng = np.random.RandomState(1)
    (folder / "train/aviris_ng").mkdir(parents=True)
    for scene in range(scenes):
        for corner in range(1, 5):
            cube = rng.randint(0, 5000, (side, side, bands)).astype(np.float32)
            np.save(folder / f"train/aviris_ng/ang2017_{scene}_{corner}.npy", cube)
    return folder


def test_a_patch_is_normalised_by_its_own_range_over_the_chosen_bands(tmp_path):
    patches = BackgroundPatches(had100_folder(tmp_path), "aviris_ng", bands=5, start=2)
    raw = np.load(patches.files[7])[:, :, 2:7].astype(np.float64)
    h = 0.1 * (2 * (raw - raw.min()) / (raw.max() - raw.min()) - 1)
    assert np.abs(patches[7].numpy() - h.transpose(2, 0, 1)).max() < 1e-7
    assert len(patches) == 40 and patches.size == (16, 16)


def test_missing_bands_become_zero_bands_before_normalising(tmp_path):
    patches = BackgroundPatches(had100_folder(tmp_path), "aviris_ng", bands=15)
    assert patches[0].shape == (15, 16, 16)
    assert np.allclose(patches[0][12:], -0.1)


@pytest.mark.parametrize("manifest", [False, True])
def test_the_split_keeps_the_patches_of_a_scene_together(manifest, tmp_path, cube):
    if manifest:
        names = [f"s{i}_1" for i in range(10)]  # names that look like crops of one scene count for nothing here
        for name in names:
            np.save(tmp_path / f"{name}.npy", cube)
        assert cut(tmp_path, *(str(tmp_path / f"{name}.npy") for name in names)) == 0
        patches = BackgroundPatches(tmp_path / "out", "custom", bands=6)
    else:
        patches = BackgroundPatches(had100_folder(tmp_path), "aviris_ng", bands=6)
    train, held_out = patches.split(0.8, seed=3)
    assert sorted(train + held_out) == list(range(len(patches)))
    scenes = [{patches.sources[i] for i in part} for part in (train, held_out)]
    assert len(scenes[0]) == 8 and len(scenes[1]) == 2 and not scenes[0] & scenes[1]
    assert patches.split(0.8, seed=3) == (train, held_out) != patches.split(0.8, seed=4)
    assert patches.split(1.0, seed=3) == (list(range(len(patches))), [])


def test_patches_of_two_sizes_are_an_error_that_names_the_file(tmp_path):
    folder = had100_folder(tmp_path)
    np.save(folder / "train/aviris_ng/z_1.npy", np.ones((24, 24, 12), np.float32))
    with pytest.raises(SceneError, match=r"z_1\.npy: \(24, 24\) px, the first patch has \(16, 16\)"):
        BackgroundPatches(folder, "aviris_ng", bands=5)


def test_patches_of_fewer_bands_than_the_others_are_an_error_that_names_the_file(tmp_path):
    folder = had100_folder(tmp_path)
    np.save(folder / "train/aviris_ng/z_1.npy", np.arange(16 * 16 * 10, dtype=np.float32).reshape(16, 16, 10))
    assert len(BackgroundPatches(folder, "aviris_ng", bands=9)) == 41  # all have these
    with pytest.raises(SceneError, match=r"z_1\.npy: 10 bands, the first patch has 12"):
        BackgroundPatches(folder, "aviris_ng", bands=12)


def test_a_patch_that_changed_at_its_old_size_and_time_changes_the_fingerprint(tmp_path):
    folder = had100_folder(tmp_path)
    before = BackgroundPatches(folder, "aviris_ng", bands=9).fingerprint()
    path = folder / "train/aviris_ng/ang2017_0_1.npy"
    times, cube = path.stat(), np.load(path)
    cube[3, 4, 5] += 1
    np.save(path, cube)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert BackgroundPatches(folder, "aviris_ng", bands=9).fingerprint() != before


def holed_folder(tmp_path, *values: float):
    """A folder in which patch (i, i + 1) holds value i in band 1 of one pixel."""
    folder = had100_folder(tmp_path)
    for number, value in enumerate(values):
        path = folder / f"train/aviris_ng/ang2017_{number}_{number + 1}.npy"
        cube = np.load(path)
        cube[3, 4, 1] = value
        np.save(path, cube)
    return folder


def test_patches_without_data_are_refused_by_name(tmp_path):
    folder = holed_folder(tmp_path, 1e-34, -9999)
    with pytest.raises(
        SceneError, match=r"ang2017_0_1\.npy: holds .* as 2 of 40 patches do\. --nodata mask .*--nodata keep"
    ):
        BackgroundPatches(folder, "aviris_ng", bands=5, nodata="refuse")
    assert (
        len(BackgroundPatches(folder, "aviris_ng", bands=5, start=2, nodata="refuse")) == 40
    )  # a band that is not used does no harm
    with pytest.raises(SceneError, match="nodata is 'drop'; expected refuse, keep, mask"):
        BackgroundPatches(folder, "aviris_ng", bands=5, nodata="drop")


def test_masked_patches_are_left_out_and_counted(tmp_path):
    folder = holed_folder(tmp_path, 1e-34, -9999, np.nan)
    np.save(folder / "train/aviris_ng/ang2017_3_4.npy", np.full((16, 16, 12), 7, np.float32))
    patches = BackgroundPatches(folder, "aviris_ng", bands=5)
    assert len(patches) == len(patches.sources) == 36
    assert patches.reasons == {"no data": 3, "constant": 1}
    assert patches.describe() == "3 patches are left out: no data. 1 patches are left out: constant."
    assert not {"ang2017_0_1.npy", "ang2017_3_4.npy"} & {path.name for path in patches.files}
    assert len([patches[i] for i in range(len(patches))]) == 36


def test_kept_patches_are_used_as_they_are_and_counted(tmp_path):
    folder = holed_folder(tmp_path, 1e-34, -9999)
    patches = BackgroundPatches(folder, "aviris_ng", bands=5, nodata="keep")
    assert (len(patches), patches.kept_nodata) == (40, 2)
    assert "2 patches with no-data pixels are used as they are" in patches.describe()
    h = patches[[path.name for path in patches.files].index("ang2017_1_2.npy")]
    assert h[1, 3, 4] == h.min() == np.float32(-0.1)  # -9999 is the minimum of the range
    cube = np.load(folder / "train/aviris_ng/ang2017_2_1.npy")
    cube[0, 0, 0] = np.nan
    np.save(folder / "train/aviris_ng/ang2017_2_1.npy", cube)
    with pytest.raises(SceneError, match=r"ang2017_2_1\.npy: holds NaN or infinity .* as 1 of 40 patches do"):
        BackgroundPatches(folder, "aviris_ng", bands=5, nodata="keep")


def test_a_patch_that_is_constant_in_the_chosen_bands_only_is_left_out(tmp_path):
    folder = had100_folder(tmp_path)
    path = folder / "train/aviris_ng/ang2017_0_1.npy"
    cube = np.load(path)
    cube[:, :, 2:6] = 3
    cube[:, :, 6] = 4
    np.save(path, cube)
    lengths = {bands: len(BackgroundPatches(folder, "aviris_ng", bands=bands, start=2)) for bands in (3, 4, 5)}
    assert lengths == {3: 39, 4: 39, 5: 40}


def count_reads(monkeypatch) -> list[str]:
    read: list[str] = []
    read_scene = patches_module.read_scene
    monkeypatch.setattr(
        patches_module, "read_scene", lambda path, **how: read.append(path.name) or read_scene(path, **how)
    )
    return read


def test_patches_are_read_once_and_then_known_by_the_manifest(tmp_path, monkeypatch):
    folder = had100_folder(tmp_path)
    read = count_reads(monkeypatch)
    first = BackgroundPatches(folder, "aviris_ng", bands=5)
    assert len(read) == 40 and (folder / "train/aviris_ng" / MANIFEST).is_file()
    read.clear()
    again = BackgroundPatches(folder, "aviris_ng", bands=5)
    assert not read and again.fingerprint() == first.fingerprint()
    assert torch.equal(first[3], again[3])
    read.clear()
    changed = folder / "train/aviris_ng/ang2017_5_2.npy"
    np.save(changed, np.load(changed) + 1)  # of the same size: its time tells
    later = (folder / "train/aviris_ng" / MANIFEST).stat().st_mtime_ns + 1
    os.utime(changed, ns=(later, later))
    assert BackgroundPatches(folder, "aviris_ng", bands=5).fingerprint() != first.fingerprint()
    assert read == [changed.name]


@pytest.mark.parametrize("made_by", ["synthetic", "fers.datasets.patches"])
def test_the_manifest_of_whoever_made_the_patches_is_enough(made_by, tmp_path, cube, monkeypatch):
    if made_by == "synthetic":
        write_benchmark(tmp_path / "out", n_train=8, n_test=0, size=32, sensor="custom")
    else:
        np.save(tmp_path / "field.npy", cube)
        assert cut(tmp_path, str(tmp_path / "field.npy")) == 0
    read = count_reads(monkeypatch)
    patches = BackgroundPatches(tmp_path / "out", "custom", bands=5)
    assert not read and set(patches.sources) == (
        {"synthetic_b0000", "synthetic_b0001"} if made_by == "synthetic" else {"field"}
    )
    before = patches.fingerprint()
    for manifest in (tmp_path / "out").rglob(MANIFEST):
        manifest.unlink()
    without = BackgroundPatches(tmp_path / "out", "custom", bands=5)
    assert (without.sources, without.fingerprint()) == (patches.sources, before) and len(read) == len(patches)


def test_a_folder_that_cannot_be_written_is_read_at_each_launch(tmp_path, monkeypatch):
    folder = had100_folder(tmp_path, scenes=1)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(patches_module, "write_manifest", refuse)
    read = count_reads(monkeypatch)
    assert [len(BackgroundPatches(folder, "aviris_ng", bands=5)) for _ in range(2)] == [4, 4]
    assert len(read) == 8


def test_dotfiles_are_no_patches(tmp_path):
    folder = had100_folder(tmp_path, scenes=1)
    np.save(folder / "train/aviris_ng/.tmp-1234-1.npy", np.ones((16, 16, 12)))
    assert len(BackgroundPatches(folder, "aviris_ng", bands=5)) == 4


@pytest.mark.parametrize(
    "content",
    [
        "null",
        "[]",
        "{",
        '{"format": "fers-patches-1", "patches": []}',
        '{"format": "fers-dataset-1", "files": {"a.npy": 3}}',
        '{"format": "fers-dataset-1", "files": {"a.npy": {"shape": [1, 1, 1]}}}',
        '{"format": "fers-dataset-1", "files": []}',
    ],
)
def test_a_damaged_manifest_is_named_with_its_remedy(content, tmp_path):
    folder = had100_folder(tmp_path, scenes=1)
    (folder / "train/aviris_ng" / MANIFEST).write_text(content)
    with pytest.raises(ManifestError, match=r"manifest\.json: not a manifest of this project .*Remove it"):
        BackgroundPatches(folder, "aviris_ng", bands=5)


@pytest.mark.parametrize(("key", "value"), [("shape", [16]), ("nodata_bands", [[1]]), ("bytes", "1"), ("scene", None)])
def test_an_entry_of_a_wrong_kind_is_named(key, value, tmp_path):
    folder = had100_folder(tmp_path, scenes=1)
    BackgroundPatches(folder, "aviris_ng", bands=5)  # writes the manifest
    path = folder / "train/aviris_ng" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["files"]["ang2017_0_3.npy"][key] = value
    path.write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match=r"the entry of 'ang2017_0_3\.npy' is incomplete"):
        BackgroundPatches(folder, "aviris_ng", bands=5)


@pytest.mark.parametrize("sensor", ["../../x", "a/b", "", "."])
def test_a_sensor_that_is_no_folders_name_is_refused(sensor, tmp_path):
    with pytest.raises(SceneError, match="expected the name of a folder"):
        patches_module.write_patches([], tmp_path, 16, 16, sensor)
