"""HAD100Dataset from the archive: the right pixels of the right bands, resumable, and no half-written file."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import fake_had100
import numpy as np
import pytest
from conftest import shared_file
from PIL import Image

from experiments.standin import truth_file
from fers.datasets import had100
from fers.datasets.archive import Published
from fers.datasets.had100 import prepare as had100_prepare
from fers.util.files import sha256_of

ROOT = Path(__file__).resolve().parents[1]

# written down a second time, as the archive describes it
NG_BANDS = np.r_[15:109, 118:145, 158:187, 227:274, 328:407]
CLASSIC_BANDS = np.r_[7:57, 65:79, 85:104, 122:149, 172:224]
SCENES = fake_had100.scenes(ng=2, classic=4, targets=20)
FEW = [scene for scene in SCENES if scene.folder != "aviris_ng_target"] + SCENES[-2:]  # 8 scenes, 26 crops
LEAST = [next(scene for scene in SCENES if scene.folder == "aviris_normal"), SCENES[-1]]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """What prepare makes of every scene that the archive crops, two scenes at a time."""
    folder = tmp_path_factory.mktemp("whole")
    fake_had100.write(folder / "FAKE.zip", SCENES)
    assert prepare(folder / "FAKE.zip", folder / "HAD100Dataset", "--jobs", "2") == 0
    return folder / "HAD100Dataset"


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """A smaller archive, for what goes wrong."""
    path = tmp_path_factory.mktemp("few") / "FEW.zip"
    fake_had100.write(path, FEW)
    return path


@pytest.fixture(scope="module")
def few_prepared(few) -> Path:
    assert prepare(few, few.parent / "HAD100Dataset") == 0
    return few.parent / "HAD100Dataset"


def prepare(archive: Path | None, out: Path, *options: str) -> int:
    """The command line, in this process and in one thread unless it is said."""
    jobs = [] if {"--jobs", "--workers"} & {*options} else ["--workers", "1"]
    given = [] if archive is None else [str(archive)]
    return had100_prepare.main(["prepare", *given, "--out", str(out), "--any_archive", *jobs, *options])


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder and its sha256, hidden ones too."""
    return {str(p.relative_to(folder)): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_nothing_half_written(out: Path, complete: Path) -> None:
    """What is there under a final name is what a run without trouble writes there; and nothing else but the record."""
    expected = tree(complete)
    for name, digest in tree(out).items():
        assert name == ".unfinished.json" or expected[name] == digest, name
    assert not (out / "manifest.json").exists()


# ---- what is written


def test_training_patches_are_the_four_corners_in_the_kept_bands(prepared):
    for scene in SCENES:
        if scene.folder == "aviris_ng_target":
            continue
        sensor, bands = ("aviris_ng", NG_BANDS) if scene.folder == "aviris_ng_normal" else ("aviris", CLASSIC_BANDS)
        cube = scene.cube()[:, :, bands]
        corners = (cube[:64, :64], cube[:64, -64:], cube[-64:, :64], cube[-64:, -64:])
        for number, corner in enumerate(corners, start=1):
            patch = np.load(prepared / "train" / sensor / f"{scene.name}_{number}.npy")
            assert patch.dtype == scene.dtype and patch.dtype.isnative
            np.testing.assert_array_equal(patch, corner)
    assert len(list((prepared / "train").rglob("*.npy"))) == 4 * 6


def test_test_scenes_and_masks_are_cropped_where_the_archive_says(prepared):
    files = set()
    for scene in SCENES:
        if scene.folder != "aviris_ng_target":
            continue
        places = had100.TEST_CROPS.get(scene.name, [(0, 0)])
        for number, (row, column) in enumerate(places, start=1):
            name = scene.name if len(places) == 1 else f"{scene.name}_{number}"
            files.add(name)
            at = np.s_[row : row + 64, column : column + 64]
            cube = np.load(prepared / "test" / "aviris_ng" / f"{name}.npy")
            np.testing.assert_array_equal(cube, scene.cube()[at][:, :, NG_BANDS])
            png = np.asarray(Image.open(prepared / "ground_truth" / "aviris_ng" / f"{name}.png"))
            assert png.shape == (64, 64, 3)
            np.testing.assert_array_equal(png[:, :, 1] == 255, scene.mask()[at])
    assert {p.stem for p in (prepared / "test").rglob("*.npy")} == files
    assert [scene.name for scene in had100.scenes(prepared)] == sorted(files)


def test_the_manifest_says_sum_scene_and_place_of_every_file(prepared):
    manifest = json.loads((prepared / "manifest.json").read_text())
    found = tree(prepared)
    del found["manifest.json"]
    assert {name: entry["sha256"] for name, entry in manifest["files"].items()} == found
    assert manifest["bands"]["aviris_ng"] == [[15, 109], [118, 145], [158, 187], [227, 274], [328, 407]]
    assert sum(stop - start for start, stop in manifest["bands"]["aviris"]) == 162
    assert manifest["published_archive"] is False
    entry = manifest["files"]["test/aviris_ng/ang20180227t082814_17_2.npy"]
    assert (entry["scene"], entry["row"], entry["column"]) == ("ang20180227t082814_17", 36, 5)
    wide = next(scene for scene in SCENES if (scene.height, scene.width) == (81, 79))
    entry = manifest["files"][f"train/aviris/{wide.name}_4.npy"]
    assert (entry["scene"], entry["row"], entry["column"], entry["dtype"]) == (wide.name, 17, 15, wide.dtype)


def test_pixels_without_data_are_kept_and_counted(prepared):
    files = json.loads((prepared / "manifest.json").read_text())["files"]
    counted = {n: e["nodata_pixels"] for n, e in files.items() if e.get("nodata_pixels")}
    holed = [scene for scene in SCENES if scene.nodata is not None]
    assert {scene.nodata for scene in holed} == {-9999.0, 1e-34}
    sensors = {"aviris_ng_normal": "aviris_ng", "aviris_normal": "aviris"}
    assert counted == {f"train/{sensors[scene.folder]}/{scene.name}_1.npy": 1 for scene in holed}  # the top left pixel
    patch = np.load(prepared / next(iter(counted)))
    assert (patch[0, 0] == np.array(holed[-1].nodata, patch.dtype)).all()


def test_raw_takes_the_first_200_bands_of_aviris_classic_and_names_them(few, tmp_path):
    assert prepare(few, tmp_path / "out", "--bands", "raw", "--sensor", "aviris") == 0
    assert not (tmp_path / "out" / "test").exists() and not (tmp_path / "out" / "train" / "aviris_ng").exists()
    scene = next(scene for scene in FEW if scene.folder == "aviris_normal")
    patch = np.load(tmp_path / "out" / "train" / "aviris" / f"{scene.name}_4.npy")
    np.testing.assert_array_equal(patch, scene.cube()[-64:, -64:, :200])
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["bands"] == {"aviris": [[0, 200]]}
    assert prepare(None, tmp_path / "out", "--verify") == 0


def test_one_sensor_after_the_other_gives_what_both_at_once_give(few, few_prepared, tmp_path):
    assert prepare(few, tmp_path / "out", "--sensor", "aviris") == 0
    assert prepare(few, tmp_path / "out", "--sensor", "aviris_ng") == 0
    assert tree(tmp_path / "out") == tree(few_prepared)


def test_the_published_numbers_of_scenes_give_the_published_numbers_of_crops(tmp_path):
    path = tmp_path / "names.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for scene in fake_had100.scenes(260, 262, 94):
            archive.writestr(f"HAD100/data/{scene.folder}/{scene.name}.hdr", "")
            archive.writestr(f"HAD100/data/{scene.folder}/{scene.name}", "")
            if scene.folder == "aviris_ng_target":
                archive.writestr(f"HAD100/gt/aviris_ng_gt/{scene.name}.mat", "")
    files = [file for source in had100_prepare.list_scenes(path) for file in source.files()]
    assert len(set(files)) == len(files)
    counts = [sum(f.startswith(folder) for f in files) for folder in ("train/aviris_ng/", "train/aviris/", "test/")]
    assert counts == [1040, 1048, 100]


# ---- interrupted


def count_scenes(monkeypatch, stop_after: int | None = None) -> list[str]:
    """The scenes that are unpacked from now on; Ctrl-C instead of the one after ``stop_after``."""
    made: list[str] = []
    crops = had100_prepare.crops

    def counted(source, *beside):
        if len(made) == stop_after:
            raise KeyboardInterrupt
        made.append(source.name)
        return crops(source, *beside)

    monkeypatch.setattr(had100_prepare, "crops", counted)
    return made


def test_an_interrupted_prepare_goes_on_with_what_is_missing(few, few_prepared, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        first = count_scenes(patch, stop_after=4)
        assert prepare(few, out) == 130
    assert "run the same command again" in capsys.readouterr().err
    assert_nothing_half_written(out, few_prepared)
    second = count_scenes(monkeypatch)
    assert prepare(few, out) == 0
    assert len(first) == 4 and sorted(first + second) == sorted(scene.name for scene in FEW)
    assert tree(out) == tree(few_prepared)
    second.clear()
    assert prepare(few, out) == 0 and second == []  # a third call finds the work done
    (out / "train" / "aviris_ng" / f"{FEW[0].name}_2.npy").unlink()
    flip_last_byte(out / "ground_truth" / "aviris_ng" / f"{FEW[-1].name}.png")
    assert prepare(few, out) == 0 and sorted(second) == sorted([FEW[0].name, FEW[-1].name])
    assert tree(out) == tree(few_prepared)


def test_a_record_that_is_damaged_is_named(few, tmp_path, capsys):
    (tmp_path / ".unfinished.json").write_text('{"format": "fers-dataset-1", "files": {"train/aviris_ng/cut sho')
    assert prepare(few, tmp_path) == 2
    assert ".unfinished.json: not a manifest" in capsys.readouterr().err


def test_a_killed_prepare_leaves_whole_files_and_goes_on(few, few_prepared, tmp_path):
    out = tmp_path / "out"
    program = (  # slow enough to be killed between two scenes
        "import time; from fers.datasets import manifest; from fers.datasets.had100 import prepare as h; crops = h.crops; manifest._SAVE_EVERY = 0.1\n"
        "def slow(*given): time.sleep(0.2); return crops(*given)\n"
        "h.crops = slow\n"
        f"h.main(['prepare', {str(few)!r}, '--out', {str(out)!r}, '--any_archive', '--workers', '1'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while len(list(out.rglob("*.npy"))) < 10:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    known = json.loads((out / ".unfinished.json").read_text())["files"]
    leftovers = [name for name in tree(out) if "/.tmp-" in f"/{name}"]
    for name, digest in tree(out).items():
        assert name in leftovers or name in (".unfinished.json", ".running") or tree(few_prepared)[name] == digest
    assert 4 <= len(known) < 26 and not (out / "manifest.json").exists()
    assert prepare(few, out) == 0
    assert tree(out) == tree(few_prepared)


def test_a_disk_that_fills_up_within_a_patch_leaves_no_part_of_it(few, few_prepared, tmp_path, monkeypatch, capsys):
    out, write, written = tmp_path / "out", Path.write_bytes, []

    def fill(path, content):
        written.append(path)
        if len(written) == 7:
            write(path, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fill)
    assert prepare(few, out) == 2
    error = capsys.readouterr().err
    assert "No space left" in error and f"{FEW[1].name}_3.npy" in error
    monkeypatch.undo()
    assert_nothing_half_written(out, few_prepared)
    assert 6 <= len(list(out.rglob("*.npy"))) < 26  # the scene after it may have begun
    assert prepare(few, out) == 0 and tree(out) == tree(few_prepared)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(few, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    assert prepare(few, tmp_path / "out") == 2
    assert "still to be written and 10,000,000 are free" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.npy"))


# ---- archives that are not right


def test_a_flipped_byte_is_found_by_the_zips_checksum(few, few_prepared, tmp_path, capsys):
    scene = FEW[2]
    with zipfile.ZipFile(few) as archive:
        at = archive.getinfo(f"HAD100/data/{scene.folder}/{scene.name}").header_offset + 5000
    content = bytearray(few.read_bytes())
    content[at] ^= 1
    (tmp_path / "flipped.zip").write_bytes(content)
    assert prepare(tmp_path / "flipped.zip", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert f"{scene.name} cannot be unpacked" in error and "CRC" in error and "Traceback" not in error
    assert_nothing_half_written(tmp_path / "out", few_prepared)


def test_only_the_published_archive_is_taken_unless_it_is_said(few, tmp_path, monkeypatch, capsys):
    call = ["prepare", str(few), "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert had100_prepare.main(call) == 2
    assert "expected 3,754,846,290" in capsys.readouterr().err
    facts = Published("HAD100.zip", "", "", few.stat().st_size, "0" * 64)
    monkeypatch.setattr(had100, "ARCHIVE", facts)
    assert had100_prepare.main(call) == 2
    assert "sha256" in capsys.readouterr().err
    monkeypatch.setattr(had100, "ARCHIVE", replace(facts, sha256=sha256_of(few)))
    assert had100_prepare.main(call) == 2
    assert "2 scenes in aviris_ng_normal, expected 260" in capsys.readouterr().err
    assert had100_prepare.main(["prepare", str(tmp_path / "no.zip"), "--out", str(tmp_path / "out")]) == 2
    assert "fers data download had100" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("member", "change", "message"),
    [
        ("_0.hdr", lambda c: c.replace(b"bands   = 224", b"bands   = 220").split(b"wavelength")[0], "expected 224"),
        ("_0.hdr", lambda c: c.replace(b"lines   = 81", b"lines   = 60"), "does not fit"),
        ("t111111_1.mat", lambda c: None, "no ground truth aviris_ng_gt/"),
        ("t111111_1", lambda c: None, "has no data file"),
        ("t111111_1", lambda c: c[:-9], "cut short"),
        ("t111111_1.mat", lambda c: truth_file(np.eye(60)), "the mask is 60 x 60"),
        ("t111111_1.mat", lambda c: truth_file(np.arange(4096).reshape(64, 64)), "4096 values"),
        (".hdr", lambda c: None, "no ENVI scenes found"),
    ],
)
def test_a_scene_that_is_not_as_the_archive_says_is_named(member, change, message, tmp_path, capsys):
    fake_had100.write(tmp_path / "least.zip", LEAST)
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(tmp_path / "least.zip") as source, zipfile.ZipFile(path, "w") as copy:
        for name in source.namelist():
            content = change(source.read(name)) if name.endswith(member) else source.read(name)
            if content is not None:
                copy.writestr(name, content)
    assert prepare(path, tmp_path / "out") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error and str(path) in error and ".tmp-" not in error
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_test_scene_that_needs_a_crop_nobody_has_named_is_refused(tmp_path, capsys):
    path = tmp_path / "big.zip"
    fake_had100.write(path, [fake_had100.FakeScene("aviris_ng_target", "ang20200202t111111_1", 70, 64, 425)])
    assert prepare(path, tmp_path / "out") == 2
    assert "70 x 64 px; expected 64 x 64" in capsys.readouterr().err


def test_a_folder_with_other_files_or_other_bands_is_left_alone(few, few_prepared, tmp_path, capsys):
    other = tmp_path / "out" / "train" / "aviris" / "mine.npy"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"mine")
    assert prepare(few, tmp_path / "out") == 2
    assert "train/aviris/mine.npy" in capsys.readouterr().err
    assert list(tree(tmp_path / "out")) == ["train/aviris/mine.npy"] and other.read_bytes() == b"mine"
    before = tree(few_prepared)
    assert prepare(few, few_prepared, "--bands", "raw") == 2
    assert "aviris 162 bands" in capsys.readouterr().err
    assert tree(few_prepared) == before


# ---- verify


def flip_last_byte(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_verify_finds_a_changed_a_missing_and_a_strange_file(few, few_prepared, tmp_path, capsys):
    assert prepare(None, tmp_path, "--verify") == 2
    assert "no HAD100Dataset here" in capsys.readouterr().err
    out = Path(shutil.copytree(few_prepared, tmp_path / "out"))
    assert prepare(None, out, "--verify") == 0 and prepare(few, out, "--verify") == 0
    flip_last_byte(out / "train" / "aviris_ng" / f"{FEW[0].name}_1.npy")
    (out / "test" / "aviris_ng" / f"{FEW[-1].name}.npy").unlink()
    np.save(out / "train" / "aviris" / "more.npy", np.zeros((64, 64, 162), np.float32))
    (out / "ground_truth" / "aviris_ng" / f"{FEW[-2].name}.png").write_bytes(b"no image")
    capsys.readouterr()
    for archive in (None, few):
        assert prepare(archive, out, "--verify") == 2
        said = capsys.readouterr().out
        assert f"{FEW[0].name}_1.npy: its values are not those of the crop at row 0, column 0 of {FEW[0].name}" in said
        assert f"{FEW[-1].name}.npy: missing" in said and "more.npy: not in" in said and "image" in said


def test_verify_recognises_a_folder_that_another_program_made(few, few_prepared, tmp_path, capsys):
    """Other patch names, types and memory order, other PNG files, no manifest."""
    out = Path(shutil.copytree(few_prepared, tmp_path / "out"))
    (out / "manifest.json").unlink()
    for number, path in enumerate(sorted(out.rglob("*.npy"))):
        cube = np.asfortranarray(np.load(path).astype(np.float64))
        path.unlink()
        np.save(path if "test" in path.parts else path.with_name(f"patch{number:04d}.npy"), cube)
    for path in out.rglob("*.png"):
        pixels = np.asarray(Image.open(path)).copy()
        pixels[pixels[:, :, 1] == 255] = (255, 255, 0)
        Image.fromarray(pixels).save(path, compress_level=0)
    assert prepare(few, out, "--verify") == 0
    assert "24 training patches have other names" in capsys.readouterr().out
    assert prepare(None, out, "--verify") == 0
    assert "only counts, shapes and masks" in capsys.readouterr().out
    assert had100_prepare.main(["prepare", "--out", str(out), "--verify", "--jobs", "1"]) == 2
    assert "train/aviris_ng: 8 files that can be read, expected 1,040" in capsys.readouterr().out
    mask = next(out.rglob("*.png"))
    Image.new("RGB", (64, 64)).save(mask)
    assert prepare(few, out, "--verify") == 2
    assert f"{mask.name}: its values are not those of the crop" in capsys.readouterr().out


# ---- the published ground truth


def test_the_published_table_gives_the_crops_of_each_scene():
    table = had100.published_test_scenes()
    assert sha256_of(Path(had100.__file__).with_name("test_scenes.csv")).startswith("d85bc249c0b3abb219b0fa25f462de08")
    assert (len(table), len(had100.TEST_CROPS)) == (100, 94) and sum(s.anomalous_pixels for s in table.values()) == 3567
    assert sum(places != ((0, 0),) for places in had100.TEST_CROPS.values()) == 14
    for name, scene in table.items():
        places = had100.TEST_CROPS[scene.scene]
        number = places.index((scene.row, scene.column)) + 1
        assert name == (scene.scene if len(places) == 1 else f"{scene.scene}_{number}")


def test_the_table_in_the_repository_says_what_the_reference_says():
    rows = shared_file("had100/test_scenes.csv").read_text().split()[1:]
    found = {n: f"{n},{s.row},{s.column},{s.anomalous_pixels}" for n, s in had100.published_test_scenes().items()}
    assert sorted(found.values()) == sorted(rows)


def test_prepare_and_verify_hold_names_places_and_pixels_against_the_published_table(
    few, tmp_path, monkeypatch, capsys
):
    """A small archive in the place of the published one."""
    published = Published("HAD100.zip", "", "", few.stat().st_size, sha256_of(few))
    monkeypatch.setattr(had100, "ARCHIVE", published)
    counts = {"train/aviris_ng": (2, 8), "train/aviris": (4, 16), "test/aviris_ng": (2, 2)}
    groups = {group: had100.Group(had100.GROUPS[group].source, *numbers) for group, numbers in counts.items()}
    monkeypatch.setattr(had100_prepare, "GROUPS", groups)
    table = {s.name: had100.TestScene(s.name, 0, 0, int(s.mask().sum())) for s in FEW[-2:]}
    monkeypatch.setattr(had100, "published_test_scenes", lambda: table)

    def call(*options: str) -> str:
        code = had100_prepare.main(["prepare", str(few), "--out", str(tmp_path / "out"), *options])
        captured = capsys.readouterr()
        assert code == (2 if captured.err.count("error:") else 0)
        return captured.out + captured.err

    name = FEW[-1].name
    pixels = table[name].anomalous_pixels
    table[name] = had100.TestScene(name, 0, 0, pixels + 1)
    assert f"{name}: {pixels} anomalous pixels, expected {pixels + 1}" in call()
    assert not (tmp_path / "out" / "manifest.json").exists()
    table[name] = had100.TestScene(name, 0, 0, pixels)
    assert "complete, 28 files" in call() and ": right" in call("--verify")
    table[name] = had100.TestScene(name, 0, 1, pixels)
    assert f"{name}: cut at row 0, column 0, expected 0 and 1" in call("--verify")
    del table[name]
    table["other"] = had100.TestScene("other", 0, 0, 1)
    said = call("--verify")
    assert f"{name}: no test scene of HAD100" in said and "other: missing" in said
