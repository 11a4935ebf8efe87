"""Fetching data: what comes whole is kept, what does not is told and leaves nothing that looks finished."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fers.datasets import archive, download, had100
from fers.datasets.archive import Published

pytest_plugins = ("file_server",)
ROOT = Path(__file__).resolve().parents[1]
CONTENT = np.random.RandomState(0).bytes(3_000_000)  # more than one block of the downloader


@pytest.fixture
def published(server, monkeypatch):
    """A small file in HAD100.zip's place."""
    server.files["/file"] = CONTENT
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    facts = Published("HAD100.zip", f"{server.url}/file", "http://page.example", len(CONTENT), sha256)
    monkeypatch.setattr(had100, "ARCHIVE", facts)
    return facts


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_download_is_checked_and_a_second_call_asks_for_nothing(published, server, tmp_path, capsys):
    assert download.main(["had100", "--out", str(tmp_path)]) == 0
    assert names(tmp_path) == ["HAD100.zip"] and (tmp_path / "HAD100.zip").read_bytes() == CONTENT
    assert "fers data had100 prepare" in capsys.readouterr().out
    asked = len(server.requests)
    assert download.main(["had100", "--out", str(tmp_path)]) == 0
    assert len(server.requests) == asked


def test_an_interrupted_download_goes_on_by_range(published, server, tmp_path, capsys):
    server.break_after = 1_000_000
    assert download.main(["had100", "--out", str(tmp_path)]) == 2
    assert "Run the same command again to go on" in capsys.readouterr().err
    [part] = names(tmp_path)
    assert part.endswith(".part")
    kept = (tmp_path / part).stat().st_size
    assert 0 < kept <= 1_000_000
    server.break_after = None
    assert download.main(["had100", "--out", str(tmp_path)]) == 0
    assert server.requests[-1] == f"bytes={kept}-"
    assert names(tmp_path) == ["HAD100.zip"] and (tmp_path / "HAD100.zip").read_bytes() == CONTENT


def test_a_connection_that_breaks_is_taken_up_within_the_call(published, server, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "RETRIES", 3)
    server.break_after = 2_000_000
    assert download.main(["had100", "--out", str(tmp_path)]) == 0
    assert len([asked for asked in server.requests if asked]) == 1
    assert (tmp_path / "HAD100.zip").read_bytes() == CONTENT


def test_a_download_that_ended_before_its_renaming_is_taken_as_it_is(published, server, tmp_path):
    (tmp_path / "HAD100.zip.unchecked12345678.part").write_bytes(CONTENT)
    assert download.main(["had100", "--out", str(tmp_path)]) == 0
    assert names(tmp_path) == ["HAD100.zip"] and not server.requests


def test_a_flipped_byte_is_found_and_the_file_removed(published, server, tmp_path, capsys):
    server.files["/file"] = CONTENT[:2_000_000] + bytes([CONTENT[2_000_000] ^ 1]) + CONTENT[2_000_001:]
    assert download.main(["had100", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "sha256" in error and published.sha256 in error and "damaged" in error
    assert names(tmp_path) == []


def test_offline_it_says_what_to_fetch_where_to_put_it_and_how_to_go_on(tmp_path, server, capsys):
    closed = server.url
    server.close()
    assert download.main(["had100", "--out", str(tmp_path), "--url", f"{closed}/file"]) == 2
    error = capsys.readouterr().err
    for fact in (
        "https://drive.google.com/open?id=10Z6f-8ELatxdAi31IDg2Mgbl92_4EnCJ",
        "https://zhaoxuli123.github.io/HAD100",
        "3,754,846,290 bytes",
        str(tmp_path / "HAD100.zip"),
        "6f91035543b7bc7806ebc555cd5411d320f2810f0af8dfcf20fe4f331227c19f",
        "fers data had100 prepare",
    ):
        assert fact in error
    assert names(tmp_path) == []


def test_without_gdown_it_says_what_to_install(published, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gdown", None)
    assert download.main(["had100", "--out", str(tmp_path)]) == 2
    assert f"pip install -e '{ROOT}[data]'" in capsys.readouterr().err


def test_a_file_put_there_by_hand_is_checked_and_never_removed(published, tmp_path, capsys):
    (tmp_path / "HAD100.zip").write_bytes(CONTENT[:-1])
    assert download.main(["had100", "--out", str(tmp_path)]) == 2
    assert "2,999,999 bytes, expected 3,000,000: it is incomplete" in capsys.readouterr().err
    assert names(tmp_path) == ["HAD100.zip"]


def test_an_archive_elsewhere_is_checked_where_it_is(published, server, tmp_path, capsys):
    (tmp_path / "mine.zip").write_bytes(CONTENT)
    assert download.main(["had100", "--out", str(tmp_path / "out"), "--archive", str(tmp_path / "mine.zip")]) == 0
    assert f"prepare {tmp_path / 'mine.zip'}" in capsys.readouterr().out
    assert not server.requests and not (tmp_path / "out").exists()
    assert download.main(["had100", "--archive", str(tmp_path / "no.zip")]) == 2


def test_a_disk_that_is_too_small_is_told_before_anything_is_asked_for(
    published, server, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert download.main(["had100", "--out", str(tmp_path)]) == 2
    assert "3,000,000 bytes are still to be written and 1,000 are free" in capsys.readouterr().err
    assert not server.requests and names(tmp_path) == []


def test_a_disk_that_fills_up_keeps_what_has_come(published, server, tmp_path):
    """A limit on file sizes stands for the full disk."""
    program = (
        "import resource, sys; from fers.datasets import archive, download, had100; from fers.datasets.archive import Published\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_600_000, resource.RLIM_INFINITY))\n"
        f"had100.ARCHIVE = {published!r}; archive.RETRIES = 0\n"
        f"sys.exit(download.main(['had100', '--out', {str(tmp_path)!r}]))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert (
        run.returncode == 2
        and "File too large" in run.stderr
        and str(tmp_path) in run.stderr
        and "Traceback" not in run.stderr
    )
    [part] = names(tmp_path)
    assert part.endswith(".part")
    assert download.main(["had100", "--out", str(tmp_path)]) == 0
    assert server.requests[-1].startswith("bytes=") and (tmp_path / "HAD100.zip").read_bytes() == CONTENT


def test_an_endless_answer_of_a_known_size_is_broken_off(published, server, tmp_path, capsys):
    server.endless.add("/file")
    assert download.main(["had100", "--out", str(tmp_path)]) == 2
    assert "the server sent more than the 3,000,000 bytes that the file can have" in capsys.readouterr().err
    assert names(tmp_path) == []
