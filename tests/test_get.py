"""Scenes by command: whole and right, or a message that says what to do, and nothing that looks finished."""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from conftest import shared_file

from fers.cli import main
from fers.datasets import archive, catalogue, get
from fers.datasets.abu import scenes as abu_scenes
from fers.datasets.benchmarks import BENCHMARKS
from fers.datasets.catalogue import CATALOGUE
from fers.util.lock import locked

pytest_plugins = ("file_server",)
COMMIT = "0" * 40


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def content_of(name: str) -> bytes:
    """Small file of a scene, with noise that no compression takes away: more than one block of the downloader."""
    return np.random.RandomState(len(name)).bytes(1_500_000) + name.encode()


@pytest.fixture
def mirrors(server, tmp_path, monkeypatch):
    """Two scenes of ABU and two others on a server: two have a second address, and one is known by its git blob id."""
    monkeypatch.setattr(catalogue, "HOST", server.url)
    monkeypatch.setattr(catalogue, "home", lambda: tmp_path)
    monkeypatch.setattr(get, "CATALOGUE", {})
    for name, copies, blob in (
        ("airport-1", ("first", "second"), False),
        ("beach-4", ("first",), True),
        ("san-diego", ("first", "second"), False),
        ("hydice-urban", ("first",), False),
    ):
        content = content_of(name)
        row = replace(
            CATALOGUE[name],
            copies=tuple(f"an/{copy}@{COMMIT}:da ta/{name}.mat" for copy in copies),
            size=None if blob else len(content),
            sha256="" if blob else hashlib.sha256(content).hexdigest(),
            git_blob=hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest() if blob else "",
        )
        get.CATALOGUE[name] = row
        for copy in copies:
            server.files[address(name, copy)] = content
    return server


def address(name: str, copy: str = "first") -> str:
    return f"/an/{copy}/{COMMIT}/da%20ta/{name}.mat"


def call(*arguments: object) -> int:
    return main(["data", "get", *map(str, arguments)])


def test_a_set_is_fetched_checked_and_found_by_the_test_scripts(mirrors, tmp_path, monkeypatch, capsys):
    assert call("abu") == 0
    assert names(tmp_path / "data") == ["abu-airport-1.mat", "abu-beach-4.mat"]
    assert (tmp_path / "data/ABU/abu-airport-1.mat").read_bytes() == content_of("airport-1")
    told = capsys.readouterr().out
    assert "2 of 2 scenes, checked" in told and "No licence is stated" in told and "X. Kang" in told
    assert "https://github.com/an/first, a copy" in told
    monkeypatch.setattr("fers.datasets.benchmarks.home", lambda: tmp_path)
    found = abu_scenes(BENCHMARKS["ABU"].default_folder(), names="all")
    assert [scene.name for scene in found] == ["airport-1", "beach-4"]
    asked = len(mirrors.requests)
    assert call("abu") == 0 and len(mirrors.requests) == asked


def test_open_is_every_scene_that_has_an_address(mirrors, tmp_path):
    assert call("open") == 0
    assert names(tmp_path / "data/scenes") == ["hydice-urban.mat", "san-diego.mat"]
    assert names(tmp_path / "data/ABU") == ["abu-airport-1.mat", "abu-beach-4.mat"]


def test_scenes_go_to_a_folder_of_ones_own(mirrors, tmp_path):
    assert call("san-diego", "hydice", "abu-airport-1", "--out", tmp_path / "mine") == 0
    assert names(tmp_path) == ["abu-airport-1.mat", "hydice-urban.mat", "san-diego.mat"]


def test_an_interrupted_fetch_goes_on_by_range(mirrors, tmp_path, capsys):
    mirrors.break_after = 1_000_000
    assert call("hydice") == 2
    assert "Run the same command again to go on" in capsys.readouterr().err
    [part] = names(tmp_path)
    assert part.endswith(".part")
    kept = next(tmp_path.rglob("*.part")).stat().st_size
    mirrors.break_after = None
    assert call("hydice") == 0 and mirrors.requests[-1] == f"bytes={kept}-"
    assert names(tmp_path) == ["hydice-urban.mat"]


def test_a_server_that_cannot_go_on_is_asked_for_the_whole_file(mirrors, tmp_path, capsys):
    mirrors.break_after = 1_000_000
    assert call("hydice") == 2
    mirrors.break_after, mirrors.goes_on = None, False
    assert call("hydice") == 2
    assert "run the command again to start over" in capsys.readouterr().err and names(tmp_path) == []
    assert call("hydice") == 0


def test_the_second_address_is_asked_where_the_first_has_nothing_or_something_else(mirrors, tmp_path):
    del mirrors.files[address("airport-1")]
    mirrors.files[address("san-diego")] = content_of("another")
    assert call("airport-1", "san-diego", "--out", tmp_path) == 0
    assert (tmp_path / "san-diego.mat").read_bytes() == content_of("san-diego")


def damage(server, kind: str, name: str) -> str:
    """Spoil the answer for a scene; returns the words of the message."""
    path, content = address(name), content_of(name)
    if kind == "404":
        del server.files[path]
        return "404 Client Error"
    if kind == "loop":
        server.moved[path] = path
        return "Exceeded 30 redirects"
    if kind == "endless":
        server.endless.add(path)
        return "the server sent more than the"
    page = b"\n<!DOCTYPE html><html>Sign in</html>"
    flipped = bytes([content[0] ^ 1]) + content[1:]
    server.files[path] = {"page": page, "flipped": flipped, "short": content[:-1], "long": content + b"x"}[kind]
    told = {
        "page": "a web page",
        "flipped": "damaged or another file",
        "short": "is incomplete",
        "long": "sent more than",
    }
    return told[kind]


@pytest.mark.parametrize("kind", ["404", "loop", "endless", "page", "flipped", "short", "long"])
def test_a_broken_mirror_is_told_and_leaves_nothing(kind, mirrors, tmp_path, capsys):
    told = damage(mirrors, kind, "hydice-urban")
    assert call("hydice") == 2
    error = capsys.readouterr().err
    assert told in error and "hydice-urban" in error and "put it at" in error and "Traceback" not in error
    assert f"https://github.com/an/first/blob/{COMMIT}/da%20ta/hydice-urban.mat" in error
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["page", "flipped", "short", "long"])
def test_a_file_of_unknown_size_is_known_by_its_git_blob_id(kind, mirrors, tmp_path, capsys):
    damage(mirrors, kind, "beach-4")
    assert call("beach-4") == 2
    error = capsys.readouterr().err
    assert ("a web page" if kind == "page" else "git blob id") in error and names(tmp_path) == []


def test_an_endless_answer_of_unknown_size_is_broken_off(mirrors, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(archive, "_LARGEST", 2_000_000)
    damage(mirrors, "endless", "beach-4")
    assert call("beach-4") == 2
    assert "more than the 2,000,000 bytes" in capsys.readouterr().err and names(tmp_path) == []


def test_one_broken_scene_does_not_keep_the_others_away(mirrors, tmp_path, capsys):
    damage(mirrors, "404", "beach-4")
    damage(mirrors, "page", "hydice-urban")
    assert call("open") == 2
    told = capsys.readouterr()
    assert names(tmp_path) == ["abu-airport-1.mat", "san-diego.mat"]
    assert "1 of 2 scenes, checked" in told.out and "beach-4" in told.err and "hydice-urban" in told.err


def test_offline_it_says_where_each_copy_is_and_asks_for_nothing_else(mirrors, tmp_path, capsys):
    mirrors.close()
    assert call("abu") == 2
    error = capsys.readouterr().err
    assert error.count("could not be fetched") == 2  # the addresses of the first scene
    for fact in (
        "https://github.com/an/first/blob/",
        "https://github.com/an/second/blob/",
        "abu-airport-1.mat",
        "sha256 ",
    ):
        assert fact in error
    assert "beach-4" not in error and names(tmp_path) == []


def test_a_file_put_there_by_hand_is_checked_and_never_removed(mirrors, tmp_path, capsys):
    target = tmp_path / "data/scenes/hydice-urban.mat"
    target.parent.mkdir(parents=True)
    target.write_bytes(content_of("hydice-urban"))
    assert call("hydice") == 0 and not mirrors.requests
    target.write_bytes(content_of("hydice-urban")[:-1])
    assert call("hydice") == 2
    assert "is incomplete. Move it away" in capsys.readouterr().err and target.is_file() and not mirrors.requests


def test_two_calls_do_not_write_to_one_folder(mirrors, tmp_path, capsys):
    with locked(tmp_path / "data/scenes"):
        assert call("hydice") == 2
    assert "another run is writing to this folder" in capsys.readouterr().err and not mirrors.requests


def test_a_disk_that_is_too_small_is_told_first(mirrors, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))
    assert call("hydice") == 2
    assert "1,000 are free" in capsys.readouterr().err and not mirrors.requests


def test_an_unknown_scene_and_one_without_an_address_are_refused(capsys):
    assert call("airpot-2") == 2
    assert "Did you mean airport-2?" in capsys.readouterr().err
    assert call("beach-4-cut") == 2
    assert "no address of this scene is known" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(["data", "download", "abu"])
    assert stop.value.code == 2 and "fers data get abu" in capsys.readouterr().err


def test_the_list_shows_every_scene_and_which_are_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(catalogue, "home", lambda: tmp_path)
    (tmp_path / "data/ABU").mkdir(parents=True)
    (tmp_path / "data/ABU/abu-urban-3.mat").touch()
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : len(CATALOGUE) + 1]] == list(CATALOGUE)
    assert [line.split()[0] for line in lines if re.search(r"  yes\b", line)] == ["urban-3"]
    assert any("134" in line and "77 pixels" in line for line in lines)


def test_what_is_fetched_is_read_with_the_variables_of_its_row(mirrors, tmp_path):
    """The whole way with a real scene: server, checksum, file, cube and truth."""
    path = shared_file("aviris/san-diego.mat")
    scene = CATALOGUE["san-diego"]
    mirrors.files[address("san-diego")] = path.read_bytes()
    get.CATALOGUE["san-diego"] = replace(scene, copies=get.CATALOGUE["san-diego"].copies)
    assert call("san-diego", "--out", tmp_path) == 0
    content = scipy.io.loadmat(tmp_path / "san-diego.mat")
    known_by = catalogue.fingerprint(content[scene.cube], content[scene.truth])
    assert catalogue.recognise(known_by) is scene
