"""Zip files: no name leads out, no member is larger than it may be, and damage is told."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from fers.datasets import archive
from fers.datasets.archive import ArchiveError, copy_member, open_zip

CONTENT = bytes(1000) + b"end"


@pytest.fixture
def path(tmp_path) -> Path:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("folder/a", CONTENT)
        file.writestr("folder/b", b"b" * 50)
    return tmp_path / "a.zip"


@pytest.mark.parametrize("name", ["../a", "a/../../x", "/x", "..\\x", "C:\\x"])
def test_a_zip_with_a_name_that_leads_out_is_refused_whole(name, path):
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, "x")
    with pytest.raises(ArchiveError, match="leads out"):
        open_zip(path)


def test_a_truncated_zip_is_told(path):
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArchiveError, match="no complete zip file"):
        open_zip(path)


def test_a_member_larger_than_it_may_be_is_refused_before_anything_is_written(path, tmp_path):
    with open_zip(path) as file:
        with pytest.raises(ArchiveError, match=r"folder/a would unpack to 1,003 bytes, more than the 1,002"):
            copy_member(file, "folder/a", tmp_path / "out", most=1002)
        assert not (tmp_path / "out").exists()
        copy_member(file, "folder/a", tmp_path / "out", most=1003)
    assert (tmp_path / "out").read_bytes() == CONTENT


def test_a_member_for_which_the_disk_has_no_room_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.setattr(archive.shutil, "disk_usage", lambda _: archive.shutil._ntuple_diskusage(1, 1, 900))
    with open_zip(path) as file, pytest.raises(ArchiveError, match="1,003 bytes are still to be written and 900"):
        copy_member(file, "folder/a", tmp_path / "out")


def test_a_member_that_unpacks_to_more_than_it_declares_stops_there(path, tmp_path):
    path.write_bytes(path.read_bytes().replace(len(CONTENT).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with open_zip(path) as file, pytest.raises(ArchiveError, match="cannot be unpacked"):
        copy_member(file, "folder/a", tmp_path / "out")
    assert (tmp_path / "out").stat().st_size <= 10


def test_a_flipped_byte_and_a_missing_member_are_told(path, tmp_path):
    content = bytearray(path.read_bytes())
    content[len("folder/a") + 30 + 4] ^= 0xFF
    path.write_bytes(content)
    with open_zip(path) as file:
        with pytest.raises(ArchiveError, match=r"folder/a cannot be unpacked .*fetch it again"):
            copy_member(file, "folder/a", tmp_path / "out")
        with pytest.raises(ArchiveError, match="folder/c cannot be unpacked"):
            copy_member(file, "folder/c", tmp_path / "out")
