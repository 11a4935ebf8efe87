"""A result belongs to the files that it was computed from: each one that changes is noticed."""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from scene_files import write_envi

from fers.detection import streaming
from fers.detection.command import main
from fers.detection.detect import detect
from fers.util.errors import FersError
from fers.util.files import fingerprint_of
from fers.util.lock import locked


def cube(seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(500, 5, (44, 31, 6)).astype(np.float32)
    values[20, 11 + seed] += 80
    return values


@pytest.fixture
def arguments(tmp_path) -> list[str]:
    """Options of a run over an ENVI scene, with pixels left out and the background of another run."""
    detect(cube(5), tmp_path / "other", features="original")
    np.save(tmp_path / "out.npy", np.eye(44, 31))
    scene = write_envi(tmp_path, cube(), "scene")
    background = tmp_path / "other" / "background.npz"
    files = ["--left_out", tmp_path / "out.npy", "--background", background]
    return [str(a) for a in (scene, *files, "--features", "original", "--save_dir", tmp_path / "results", "--quiet")]


def replace_data(tmp_path, seed: int) -> None:
    """Replace an ENVI scene's samples; size, header and time stay as they were."""
    [data] = [path for path in tmp_path.glob("scene.*") if path.suffix != ".hdr"]
    before = data.stat()
    data.write_bytes(np.ascontiguousarray(cube(seed).transpose(0, 2, 1)).tobytes())
    assert data.stat().st_size == before.st_size
    os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))


def change_left_out(tmp_path) -> None:
    np.save(tmp_path / "out.npy", np.eye(44, 31, 1))


def change_background(tmp_path) -> None:
    detect(cube(6), tmp_path / "other", features="original")


def change_data(tmp_path) -> None:
    replace_data(tmp_path, 3)


@pytest.mark.parametrize("change", [change_data, change_left_out, change_background])
def test_a_finished_run_is_repeated_after_any_of_its_files_changed(tmp_path, arguments, capsys, change):
    assert main(arguments) == 0
    assert main(arguments) == 0 and "is finished already" in capsys.readouterr().out
    score = (tmp_path / "results" / "scene" / "score.tif").read_bytes()
    change(tmp_path)
    assert main(arguments) == 0 and "is finished already" not in capsys.readouterr().out
    assert (tmp_path / "results" / "scene" / "score.tif").read_bytes() != score


def test_a_stopped_run_never_goes_on_with_another_scene(tmp_path, arguments, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    plain = [arguments[0], *arguments[5:]]  # the scene's own background, which is kept before the scores
    with monkeypatch.context() as patched:
        patched.setattr(streaming, "scores_block", interrupted)
        assert main(plain) == 130
    assert list((tmp_path / "results" / "scene" / ".work").glob("statistics-*.npz"))
    replace_data(tmp_path, 3)
    assert main(plain) == 0
    fresh = detect(plain[0], features="original")
    assert re.search(r'"range": \[\n\s*([\d.]+)', (tmp_path / "results" / "scene" / "run.json").read_text())[1] == str(
        fresh.about["range"][0]
    )


def test_a_scene_that_changes_during_a_run_leaves_nothing(tmp_path, arguments, monkeypatch, capsys):
    compute = streaming.scores_block

    def replaced(*given):
        replace_data(tmp_path, 3)
        return compute(*given)

    with monkeypatch.context() as patched:
        patched.setattr(streaming, "scores_block", replaced)
        assert main(arguments) == 2
    assert "changed while it was read; nothing is written" in capsys.readouterr().err
    assert not (tmp_path / "results" / "scene" / "run.json").exists()
    assert main(arguments) == 0


def test_the_library_keeps_other_runs_out_of_its_folder(tmp_path):
    with locked(tmp_path / "results"), pytest.raises(FersError, match="another run is writing"):
        detect(cube(), tmp_path / "results", features="original")


def test_an_envi_score_map_says_nothing_of_where_it_was_made(tmp_path):
    detect(cube(), features="original").write(tmp_path / "a" / "b", formats=("envi",))
    header = (tmp_path / "a" / "b" / "score.hdr").read_text()
    assert re.search(r"description = \{\nscore\.img\}", header) and ".part" not in header


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_a_fingerprint_sees_size_time_head_tail_and_middle(tmp_path, size):
    path = tmp_path / "file"
    content = np.zeros(size, np.uint8)
    content.tofile(path)
    before = fingerprint_of(path)
    assert fingerprint_of(path) == before and before[0] == size
    for place in (0, size - 1, (size - 65536) * 8 // 17 if size > 100 else 5):
        content[:] = 0
        content[place] = 1
        content.tofile(path)
        os.utime(path, ns=(before[1], before[1]))
        assert fingerprint_of(path) != before
