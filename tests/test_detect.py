"""detect.py as its users run it: files and folders in, products out, and every error named."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import rasterio

from fers.detection.detect import detect
from fers.detection.inputs import find_scenes
from fers.detection.options import DetectOptions, Work
from fers.detection.several import detect_all
from fers.detection.store import BackgroundStatistics
from fers.scenes.normalise import normalise
from fers.scenes.scene import read_scene
from fers.scoring.config import DetectConfig
from fers.scoring.pipeline import Pipeline
from fers.scoring.settings import SPATIAL_MODES
from fers.util.errors import FersError
from fers.util.lock import locked

ROOT = Path(__file__).resolve().parent.parent
_specification = importlib.util.spec_from_file_location("detect_script", ROOT / "detect.py")
script = importlib.util.module_from_spec(_specification)
_specification.loader.exec_module(script)


def cube(seed=0, height=44, width=31, bands=7) -> np.ndarray:
    rng = np.random.RandomState(seed)
    values = 500 + rng.normal(size=(height, width, bands)) @ np.random.RandomState(9).normal(size=(bands, bands))
    values[20, 11 + seed] += 80
    return values.astype(np.float32)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "scenes").mkdir()
    for seed in range(3):
        np.save(tmp_path / "scenes" / f"line{seed}.npy", cube(seed))
    (tmp_path / "scenes" / "notes.txt").write_text("not a scene")
    return tmp_path / "scenes"


def run(*arguments) -> int:
    return script.main(["--quiet", *map(str, arguments)])


def products_of(folder: Path) -> dict[str, bytes]:
    """All files but the report and run.json, which hold times."""
    return {
        p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name not in ("report.html", "run.json")
    }


def test_a_folder_of_scenes_gives_each_its_products(folder, tmp_path, capsys):
    assert run(folder, "--out", tmp_path / "out", "--far", "1e-3") == 0
    for seed in range(3):
        out = tmp_path / "out" / f"line{seed}"
        assert {"score.tif", "score.qml", "detections.geojson", "detections.csv", "report.html", "run.json"} <= {
            p.name for p in out.iterdir()
        }
        feature = json.loads((out / "detections.geojson").read_text())["features"][0]["properties"]
        assert (feature["row"], feature["column"]) == (20, 11 + seed)
        assert not (out / ".work").exists()
    assert capsys.readouterr().out.count("realised") == 3


def test_finished_scenes_are_not_computed_again_unless_asked(folder, tmp_path, capsys):
    arguments = (folder / "line0.npy", "--out", tmp_path / "out", "--method", "rx")
    assert run(*arguments) == 0
    written = (tmp_path / "out" / "line0" / "run.json").stat().st_mtime_ns
    assert run(*arguments) == 0 and "finished already" in capsys.readouterr().out
    assert (tmp_path / "out" / "line0" / "run.json").stat().st_mtime_ns == written
    assert run(*arguments, "--far", "1e-2") == 0
    assert (tmp_path / "out" / "line0" / "run.json").stat().st_mtime_ns != written


def test_two_runs_never_write_to_one_folder(folder, tmp_path, capsys):
    with locked(tmp_path / "out" / "line0"):
        assert run(folder / "line0.npy", "--save_dir", tmp_path / "out") == 2
    assert "another run is writing to this folder" in capsys.readouterr().err
    assert not (tmp_path / "out" / "line0").exists()


def test_a_common_background_is_that_of_all_scenes(folder, tmp_path):
    assert run(folder, "--out", tmp_path / "out", "--method", "rx", "--common_background") == 0
    whole = np.concatenate([cube(seed) for seed in range(3)]).reshape(-1, 7).astype(float)
    difference = cube(1).reshape(-1, 7) - whole.mean(axis=0)
    expected = np.einsum("pi,ij,pj->p", difference, np.linalg.inv(np.cov(whole.T)), difference)
    with rasterio.open(tmp_path / "out" / "line1" / "score.tif") as raster:
        np.testing.assert_allclose(raster.read(1).ravel(), expected, rtol=1e-5)
    background, _ = BackgroundStatistics.load(tmp_path / "out" / "line2" / "background.npz")
    assert background.counts == [3 * 44 * 31]


def test_a_saved_background_scores_another_scene(folder, tmp_path):
    assert run(folder / "line0.npy", "--out", tmp_path / "a") == 0
    saved = tmp_path / "a" / "line0" / "background.npz"
    assert run(folder / "line0.npy", "--out", tmp_path / "b", "--background", saved) == 0
    first, second = (products_of(tmp_path / x / "line0")["score.tif"] for x in "ab")
    assert first == second
    assert run(folder / "line1.npy", "--out", tmp_path / "b", "--background", saved, "--seed", "1") == 2


def test_the_plan_computes_nothing(folder, tmp_path, capsys):
    assert run(folder, "--plan", "--out", tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert text.count("passes: range, statistics, scores") == 3 and "memory: about" in text and "time: about" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bands", "first:2"], r"2 band\(s\) are left"),
        (["--mask", "all.npy"], "no pixel is left"),
        (["--mask", "wrong.npy"], "4 x 4 and its scene is 44 x 31"),
        (["--mask", "auto"], "no EMIT mask file next to it"),
        (["--mask", "nowhere.png"], "nowhere.png: no such file"),
        (["--memory", "500MB"], "Give more --memory"),
        (["--far", "1e-3", "--top", "4"], "one rule for the threshold"),
        (["--far", "2"], "between 0 and 1"),
        (["--fdr", "0"], "between 0 and 1"),
        (["--anomalies_at_most", "0.5"], "a share above 0 and up to 0.3"),
        (["--chi2", "1e-3"], "has a chi-square law"),
        (["--background", "segment:x"], "rows of a segment"),
        (["--background", "robust:2"], "share to leave out"),
        (["--background", "nowhere.npz"], "no such file"),
        (["--checkpoint", "nowhere"], "holds no spe_fen.safetensors"),
        (["--range", "2,1"], "the first must be the lower"),
        (["--scheduler", "tcp://127.0.0.1:1"], "no Dask scheduler answers|distributed"),
    ],
)
def test_what_cannot_be_done_is_named_and_leaves_nothing(folder, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fers.detection.executors.SCHEDULER_TIMEOUT", 1)
    np.save("all.npy", np.ones((44, 31), bool))
    np.save("wrong.npy", np.ones((4, 4), bool))
    assert run(folder / "line0.npy", "--out", "out", *arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not [path for path in Path("out").glob("*/*") if path.is_file()]


def test_one_bad_scene_does_not_stop_the_others(folder, tmp_path, capsys):
    np.save(folder / "flat.npy", np.full((20, 20, 5), 3.0))
    assert run(folder, "--out", tmp_path / "out", "--method", "rx") == 2
    assert "1 of 4 scenes failed" in capsys.readouterr().err
    assert (tmp_path / "out" / "line2" / "run.json").is_file() and not (tmp_path / "out" / "flat" / "run.json").exists()


def test_a_full_disk_is_named_and_the_next_run_goes_on(folder, tmp_path, capsys, monkeypatch):
    write, calls = np.savez, []

    def full(*arguments, **arrays):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments, **arrays)

    monkeypatch.setattr(np, "savez", full)
    arguments = (folder / "line0.npy", "--out", tmp_path / "out")
    assert run(*arguments) == 2
    assert "No space left" in (error := capsys.readouterr().err) and "run the same command again" in error
    assert not [path for path in (tmp_path / "out" / "line0").iterdir() if path.is_file()]
    assert run(*arguments) == 0


def test_ctrl_c_keeps_what_is_finished(folder, tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    arguments = (folder / "line0.npy", "--out", tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr("fers.detection.streaming.scores_block", interrupted)
        assert run(*arguments) == 130
    assert "run the same command again" in capsys.readouterr().err
    kept = sorted(path.name for path in (tmp_path / "out" / "line0" / ".work").glob("*.npz"))
    assert kept == ["range-00000.npz", "statistics-00000.npz"]
    assert run(*arguments) == 0 and not (tmp_path / "out" / "line0" / ".work").exists()


def test_masked_pixels_and_those_of_a_robust_background_are_counted(tmp_path):
    values = cube()
    mask = np.zeros((44, 31), bool)
    mask[:5] = True
    np.save(tmp_path / "mask.npy", mask)
    result = detect(values, mask=str(tmp_path / "mask.npy"))
    assert result.about["counts"]["left_out"] == 155 and result.about["counts"]["background"] == [39 * 31]
    assert np.isnan(result.score[:5]).all()
    robust = detect(values, background="robust:0.02", method="rx")
    left_out = robust.about["counts"]["left_out_of_robust_background"]
    assert left_out == pytest.approx(0.02 * 44 * 31, abs=1) and robust.about["counts"]["background"] == [
        44 * 31 - left_out
    ]
    assert robust.detections[0]["score"] > detect(values, method="rx").detections[0]["score"]


def test_segments_are_backgrounds_of_their_own():
    values = cube(height=1300, width=40)
    result = detect(values, background="segment:600", method="rx")
    assert len(result.about["counts"]["background"]) == 2


def test_a_trained_network_is_used_where_its_bands_fit(checkpoints):
    values = cube(bands=12)
    result = detect(values, checkpoint=str(checkpoints), method="spectral")
    assert len(result.about["bands"]["used"]) == 10 and result.about["networks"]["spe_fen"]["sha256"]
    padded = detect(values, checkpoint=str(checkpoints), method="spectral", bands="first:8")
    assert padded.about["bands"]["padded"] == 2 and len(padded.detections[0]["spectrum"]["y"]) == 8


@pytest.mark.parametrize("method", ["spatial", "fused-A", "fused-B"])
def test_the_spatial_branch_by_blocks_is_the_pipeline_on_the_whole_scene(checkpoints, tmp_path, method):
    values = cube(bands=10)
    result = detect(values, checkpoint=str(checkpoints), method=method, memory="4GB")
    config = DetectConfig(
        10,
        "aviris_ng",
        features=method.partition("-")[0],
        fusion=method.partition("-")[2] or None,
        checkpoint_dir=checkpoints,
    )
    np.save(tmp_path / "a.npy", values)
    expected = Pipeline(config).score(normalise(read_scene(tmp_path / "a.npy"), 10))
    assert np.abs(result.score - expected).max() <= 2e-4 * expected.max()


@pytest.mark.parametrize("fusion", ["C", "D"])
def test_our_fusions_by_blocks_are_the_pipeline_on_the_whole_scene(tmp_path, fusion):
    values = cube(height=90, width=40, bands=10)
    np.save(tmp_path / "a.npy", values)
    config = DetectConfig(10, "aviris_ng", features="untrained", fusion=fusion, backbone="random")
    expected = Pipeline(config).score(normalise(read_scene(tmp_path / "a.npy"), 10))
    assert np.abs(detect(values, fusion=fusion).score - expected).max() <= 1e-6 * np.abs(expected).max()


def test_the_spatial_branch_is_off_on_large_scenes_unless_asked(checkpoints):
    values = cube(height=300, width=20, bands=10)
    with pytest.raises(FersError, match="fade to a constant"):
        detect(values, checkpoint=str(checkpoints), method="spatial")
    results = {
        mode: detect(values, checkpoint=str(checkpoints), method="spatial", spatial=mode) for mode in SPATIAL_MODES
    }
    assert results["window"].about["spatial_mode"] == "window"
    assert not np.allclose(results["window"].score, results["scene"].score)
    with pytest.raises(FersError, match="needs trained weights"):
        detect(values, method="fused-B", spatial="scene")


def test_files_that_are_no_scenes_are_told(folder):
    (folder / "broken.npy").write_bytes(b"\x93NUMPY")
    told = []
    assert len(find_scenes([folder, folder / "line0.npy"], say=told.append)) == 3
    assert len(told) == 1 and "broken.npy" in told[0]
    (folder / "empty").mkdir()
    with pytest.raises(FersError, match="no scene in this folder"):
        find_scenes([folder / "empty"])


@pytest.mark.slow
def test_a_killed_run_goes_on_and_leaves_equal_products(tmp_path):
    np.save(tmp_path / "line.npy", cube(height=400, width=200, bands=20))
    command = [sys.executable, str(ROOT / "detect.py"), str(tmp_path / "line.npy"), "--quiet", "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True, env=environment)
    killed = 0
    for blocks in (1, 3):
        process = subprocess.Popen([*command, "--out", str(tmp_path / "cut")], env=environment)
        work = tmp_path / "cut" / "line" / ".work"
        while process.poll() is None and len(list(work.glob("[!.s]*.npz"))) < blocks:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed == 2
    subprocess.run([*command, "--out", str(tmp_path / "cut")], check=True, env=environment)
    assert products_of(tmp_path / "cut" / "line") == products_of(tmp_path / "whole" / "line")


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_bits_even_when_a_worker_dies(tmp_path):
    distributed = pytest.importorskip("distributed")
    np.save(tmp_path / "line.npy", cube(height=400, width=200, bands=12))
    readers = find_scenes([tmp_path / "line.npy"])
    options = DetectOptions()

    def products(name: str, scheduler: str | None) -> dict[str, bytes]:
        detect_all(
            readers, options, Work(save_dir=tmp_path / name, scheduler=scheduler, quiet=True), say=lambda text: None
        )
        return products_of(tmp_path / name / "line")

    threads = products("threads", None)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        for workers in (1, 2, 3):
            cluster.scale(workers)
            assert products(f"dask{workers}", cluster.scheduler_address) == threads
        victim = next(iter(cluster.workers.values()))
        Timer(0.3, os.kill, (victim.pid, signal.SIGKILL)).start()
        assert products("killed", cluster.scheduler_address) == threads


def test_a_folder_with_files_that_cannot_be_read_is_planned_and_each_is_named_once(folder, tmp_path, capsys):
    (folder / "torn.hdr").write_text("ENVI\nsamples = 9\nlines = 9\nbands = 9\ndata type = 4\ninterleave = bsq\n")
    (folder / "torn.img").write_bytes(b"few")
    (folder / "junk.bin").write_bytes(b"nothing")
    np.save(folder / "narrow.npy", cube()[:, :, :2])  # opens, and has too few bands
    assert run(folder, "--plan") == 2
    printed = capsys.readouterr()
    assert printed.out.count("passes: range, statistics, scores") == 3
    assert printed.err.count("torn.img") == 1 and printed.err.count("junk.bin") == 1
    assert (printed.out + printed.err).count("narrow.npy") == 1 and "1 of 4 scenes failed" in printed.err


def test_a_file_that_is_refused_does_not_wait_for_pytorch(tmp_path):
    (tmp_path / "bad.tif").write_bytes(b"II*\0" + bytes(99))
    script = f"""
import sys
from fers.detection.command import main
assert main([{str(tmp_path / "bad.tif")!r}]) == 2
print("torch" in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert ended.stdout.strip() == "False" and "bad.tif: cannot be read as a GeoTIFF" in ended.stderr


def test_what_a_file_does_not_say_is_an_option_and_what_follows_is_printed(tmp_path, capsys):
    values = cube().transpose(2, 0, 1).copy()
    values[:, :, :5] = 0
    np.save(tmp_path / "a.npy", values)
    (tmp_path / "w.txt").write_text("\n".join(map(str, range(400, 1100, 100))))
    arguments = (tmp_path / "a.npy", "--out", tmp_path / "out", "--axes", "band,y,x", "--features", "original")
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    assert "hold 0 in every band" in printed and "no wavelengths are known" in printed
    assert run(*arguments, "--nodata", "0", "--wavelengths", tmp_path / "w.txt", "--bands", "all,-7") == 0
    about = json.loads((tmp_path / "out" / "a" / "run.json").read_text())
    assert about["shape"] == [44, 31, 7] and about["counts"]["without_data"] == 44 * 5
    assert about["wavelengths_nm"] == [400, 500, 600, 700, 800, 900] and "--nodata" not in " ".join(about["notes"])
