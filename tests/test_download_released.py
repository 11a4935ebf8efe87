"""The authors' weights from their repository: whole and right, or nothing and a word about what to do."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import shared_file
from test_checkpoint import released_folder

from fers.datasets.releases import RELEASES
from fers.networks import SpaFEN, SpeFEN, load_checkpoint
from fers.networks import download_released as module
from fers.util.files import sha256_of
from fers.weights import download as main

pytest_plugins = ("file_server",)
BANDS = 12


def git_blob(content: bytes) -> str:
    """Hash of a file as ``git hash-object`` gives it."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@pytest.fixture(scope="module")
def networks():
    return SpeFEN(BANDS, "random:1").eval(), SpaFEN(BANDS, "random:2").eval()


@pytest.fixture(scope="module")
def theirs(networks, tmp_path_factory) -> dict[str, bytes]:
    """Files of the released layout, with random weights."""
    folder = tmp_path_factory.mktemp("made") / "50bands"
    released_folder(folder, *networks)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def release(server, theirs, monkeypatch):
    """These files on a server, in the place of the published ones."""
    folder = RELEASES["50"].folder
    files = []
    for published in RELEASES["50"].files:
        content = theirs[published.name]
        server.files[f"/{folder}/{published.name}"] = content
        sums = {"git_blob": git_blob(content)}
        if published.sha256:
            sums = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
        files.append(replace(published, url=f"{server.url}/{folder}/{published.name}", **sums))
    monkeypatch.setitem(RELEASES, "50", replace(RELEASES["50"], files=tuple(files)))
    return server


def call(out: Path, *options: str) -> int:
    return main(["--bands", "50", "--out", str(out), *options])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_the_files_are_fetched_checked_and_imported_once(release, networks, tmp_path, capsys):
    assert call(tmp_path) == 0
    assert f"python test.py --input_channel 50 --checkpoint_dir {tmp_path}" in capsys.readouterr().out
    h = torch.rand(1, BANDS, 20, 20)
    for network, branch in zip(networks, ("spe_fen", "spa_fen"), strict=True):
        loaded, info = load_checkpoint(tmp_path / f"{branch}.safetensors", bands=BANDS)
        assert (info.sensor, info.recipe, info.selection) == ("aviris_ng", "released", "test-auc")
        assert info.origin == "the authors' released weights, HAD100/50bands"
        with torch.no_grad():
            assert torch.equal(loaded(h), network(h))
    asked = len(release.requests)
    assert call(tmp_path) == 0 and len(release.requests) == asked


def test_an_interrupted_download_goes_on_by_range(release, theirs, tmp_path, capsys):
    largest = max(theirs, key=lambda name: len(theirs[name]))
    release.break_after = len(theirs[largest]) - 1000
    assert call(tmp_path) == 2
    assert "Run the same command again to go on" in capsys.readouterr().err
    [part] = [path for path in tmp_path.rglob("*.part")]
    assert part.name.startswith(largest) and not list(tmp_path.glob("*.safetensors"))
    kept = part.stat().st_size
    release.break_after = None
    assert call(tmp_path) == 0
    assert f"bytes={kept}-" in release.requests
    assert {path.name: path.read_bytes() for path in (tmp_path / "released/HAD100/50bands").iterdir()} == theirs


@pytest.mark.parametrize(("file", "kind"), [("pc.pt", "sha256"), ("spa_fen.pt", "git blob id")])
def test_a_wrong_sum_is_found_and_nothing_is_imported(file, kind, release, theirs, tmp_path, capsys):
    content = bytearray(theirs[file])
    content[len(content) // 2] ^= 1
    release.files[f"/{RELEASES['50'].folder}/{file}"] = bytes(content)
    assert call(tmp_path) == 2
    error = capsys.readouterr().err
    assert f"{file}.unchecked: {kind} " in error and "damaged or another file" in error
    assert file not in names(tmp_path) and not list(tmp_path.glob("*.safetensors"))


def test_offline_it_says_what_to_fetch_and_where_to_put_it(release, theirs, tmp_path, capsys):
    release.close()
    assert call(tmp_path) == 2
    error = capsys.readouterr().err
    folder = tmp_path / "released" / "HAD100" / "50bands"
    page = "https://github.com/xjpp2016/FERS/tree/7911a857044053eb6ed16d102e8a1b8484c90e54/saved_models/50bands"
    assert "could not be fetched" in error and page in error and str(folder) in error and "spa_fen.pt" in error
    assert not list(tmp_path.rglob("*.pt"))
    for name, content in theirs.items():  # as the message says
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert call(tmp_path) == 0


def test_a_mirror_is_checked_the_same_way(release, tmp_path):
    before = list(release.files)
    release.files.update({path.replace("/saved_models/50bands", "/mirror"): release.files.pop(path) for path in before})
    assert call(tmp_path / "a") == 2
    assert call(tmp_path / "b", "--url", f"{release.url}/mirror/") == 0


def test_other_weights_are_not_overwritten(checkpoints, release, capsys):
    before = (checkpoints / "spe_fen.safetensors").read_bytes()
    assert call(checkpoints) == 2
    assert "spe_fen.safetensors: holds other weights than the authors'" in capsys.readouterr().err
    assert (checkpoints / "spe_fen.safetensors").read_bytes() == before and not release.requests


def test_the_addresses_are_of_one_commit_of_the_authors_repository():
    host = "https://raw.githubusercontent.com/xjpp2016/FERS/7911a857044053eb6ed16d102e8a1b8484c90e54"
    assert RELEASES["100"].files[0].url == f"{host}/saved_models/100bands/convh.pt"
    assert RELEASES["abu"].files[3].url == f"{host}/FERS_ABU/saved_models/aviris/200bands/spa_fen.pt"
    assert {name: release.checkpoints for name, release in RELEASES.items()} == {
        "50": "aviris_ng_50",
        "100": "aviris_ng_100",
        "200": "aviris_ng_200",
        "abu": "aviris_200_released",
    }


def test_the_sums_are_those_of_the_reference_files():
    for release in RELEASES.values():
        for file in release.files[:3]:
            path = shared_file(f"weights/{release.name}/{file.name}")
            assert (path.stat().st_size, sha256_of(path)) == (file.size, file.sha256)


def test_a_wrong_number_of_bands_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--bands", "60"])
    assert stop.value.code == 2 and "Choose from 50, 100, 200, abu" in capsys.readouterr().err


def test_where_the_commit_is_gone_the_branch_is_asked(release, tmp_path, monkeypatch):
    wanted = RELEASES["50"]
    files = tuple(
        replace(file, url=file.url.replace(release.url, f"{release.url}/{module.COMMIT}")) for file in wanted.files
    )
    monkeypatch.setitem(RELEASES, "50", replace(wanted, files=files))
    release.files = {f"/main{path}": content for path, content in release.files.items()}
    assert call(tmp_path) == 0
    assert (tmp_path / "spe_fen.safetensors").is_file()
