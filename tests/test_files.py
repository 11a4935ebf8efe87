"""Files are whole or not there, on the disk when it is said, and nothing is left over."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fers.util import files
from fers.util.files import atomic_path, visible, write_whole

ROOT = Path(__file__).resolve().parents[1]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_whole(tmp_path / "a.txt", b"old")
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_bytes(b"ne")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_bytes() == b"old" and names(tmp_path) == ["a.txt"]


def test_file_and_folder_reach_the_disk_before_and_after_the_renaming(tmp_path, monkeypatch):
    steps: list[str] = []
    replace = os.replace
    monkeypatch.setattr(files.os, "fsync", lambda handle: steps.append(os.readlink(f"/proc/self/fd/{handle}")))
    monkeypatch.setattr(files.os, "replace", lambda *paths: steps.append("replace") or replace(*paths))
    write_whole(tmp_path / "a.txt", b"new")
    file, *rest = steps
    assert Path(file).parent == tmp_path and Path(file).name.startswith(".tmp-")
    assert rest == ["replace", str(tmp_path)]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), OSError("10 requested and 2 written")]
)
def test_an_error_that_names_no_file_gets_the_name(error, tmp_path):
    said = r"(No space left on device|10 requested and 2 written): '.*a\.npy'"
    with pytest.raises(OSError, match=said) as caught, atomic_path(tmp_path / "a.npy"):
        raise error
    assert caught.value.filename == str(tmp_path / "a.npy") and names(tmp_path) == []


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(OSError, match=r"f'"):
        write_whole(tmp_path / "f" / "a.txt", b"")


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path):
    program = (
        "import os, signal; from pathlib import Path; from fers.util.files import atomic_path\n"
        f"with atomic_path(Path({str(tmp_path)!r}) / 'last.pt') as temporary:\n"
        "    temporary.write_bytes(b'half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    [left] = names(tmp_path)
    assert left.startswith(".tmp-") and left.endswith(".pt")
    mine = tmp_path / f"{files.temporary_prefix()}-1.pt"
    for stays in (mine, tmp_path / ".tmp-anothermachine-1-1.pt"):
        stays.write_bytes(b"")
    write_whole(tmp_path / "last.pt", b"whole")
    assert names(tmp_path) == sorted([".tmp-anothermachine-1-1.pt", mine.name, "last.pt"])


def test_names_as_long_as_the_file_system_allows(tmp_path):
    write_whole(tmp_path / ("x" * 251 + ".npy"), b"long")
    assert (tmp_path / ("x" * 251 + ".npy")).read_bytes() == b"long"


def test_dotfiles_are_not_visible(tmp_path):
    for name in ("b.npy", "a.npy", ".tmp-1.npy", "c.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in visible(tmp_path, "*.npy")] == ["a.npy", "b.npy"]
    assert visible(tmp_path / "none", "*.npy") == []
