"""Writing files so that a crash leaves the old file or the new one, never half a file; listing and hashing files."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import socket
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fers.util.errors import FersError

_READ_BYTES = 1 << 20  # bytes read at a time
_SAMPLES, _SAMPLE_BYTES = 18, 1 << 16  # of a large file: its head, its tail, and 16 blocks evenly between
_HOST = f"{zlib.crc32(socket.gethostname().encode()):08x}"

_TEMPORARY = re.compile(rf"\.tmp-{_HOST}-(?P<process>\d+)-")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary name in the folder of ``path``, renamed to it when the block ends and removed if it fails.

    File and folder are synchronised to the disk, so a power cut loses the new file or keeps it whole. Leftovers of killed
    processes of this machine are removed from the folder.

    Args:
        path: The file to write; its folder is created.

    Yields:
        The name to write to: a dotfile, with the suffix of ``path``.

    Raises:
        OSError: The file cannot be written; the error names ``path``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_path(Path(folder) / "a.txt") as temporary:
        ...         _ = temporary.write_text("whole")
        ...     (Path(folder) / "a.txt").read_text()
        'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    # a digest: the name of the file itself may be as long as the file system allows
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:12]
    temporary = path.with_name(f"{temporary_prefix()}-{digest}{path.suffix}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors would make files that only their owner can read
        temporary.unlink()
        yield temporary
        temporary.chmod(mode)
        synchronise(temporary)
        os.replace(temporary, path)
        synchronise(path.parent)
    except OSError as error:  # on a full disk, Python's and numpy's own errors name no file
        if error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def temporary_prefix() -> str:
    """Return the prefix of this process's temporary files and folders: a dot, the machine, the process."""
    return f".tmp-{_HOST}-{os.getpid()}"


def remove_leftovers(folder: str | Path) -> None:
    """Remove temporary files that ended processes of this machine left in a folder, which may be missing."""
    if not os.path.isdir(folder):
        return
    for entry in list(os.scandir(folder)):
        match = _TEMPORARY.match(entry.name)
        if match and not _alive(int(match["process"])):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink(missing_ok=True)


def _alive(process: int) -> bool:
    if os.name == "nt":  # there, os.kill would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def synchronise(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows has no such call for folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by ``atomic_path``."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def json_text(path: Path, content: Any, **layout: Any) -> str:
    """Write JSON that every program reads, for a file: without NaN and infinity, which are no JSON.

    Args:
        path: The file that gets it.
        content: Tables, lists, text, numbers.
        **layout: Options of ``json.dumps``.

    Raises:
        FersError: A number is not finite; its place is named.

    Example:
        >>> json_text(Path("run.json"), {"range": [0, float("nan")]})
        Traceback (most recent call last):
        fers.util.errors.FersError: run.json: not written, as range/1 is nan. A number of the input is wrong, or too large.
    """
    try:
        return json.dumps(content, allow_nan=False, **layout)
    except ValueError as error:
        for place, number in _numbers_in(json.loads(json.dumps(content))):
            if not math.isfinite(number):
                raise FersError(
                    f"{path}: not written, as {place} is {number}. A number of the input is wrong, or too large."
                ) from error
        raise


def _numbers_in(content: Any, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(content, float):
        yield place, content
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inside:
        yield from _numbers_in(value, f"{place}/{key}".lstrip("/"))


def plain_cell(value: Any) -> Any:
    """Return a value for a table that no spreadsheet takes for a formula: text such as ``=1+1`` gets an apostrophe before it.

    Example:
        >>> plain_cell("=HYPERLINK(1)"), plain_cell("-0.5"), plain_cell(-1)
        ("'=HYPERLINK(1)", '-0.5', -1)
    """
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        try:
            float(value)
        except ValueError:
            return f"'{value}"
    return value


def visible(folder: str | Path, pattern: str) -> list[Path]:
    """List the files of a folder that match a pattern, sorted, without dotfiles: those are leftovers and never data.

    Args:
        folder: The folder; it may be missing.
        pattern: Such as ``*.npy``.

    Returns:
        Their paths.
    """
    return sorted(path for path in Path(folder).glob(pattern) if not path.name.startswith("."))


def sha256_of(path: str | Path) -> str:
    """Compute the sha256 of a file, as sha256sum prints it.

    Args:
        path: The file.

    Returns:
        64 hexadecimal digits.

    Raises:
        OSError: The file cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     sha256_of(file.name)[:16]
        'e3b0c44298fc1c14'
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def fingerprint_of(path: str | Path) -> list[int | str]:
    """Fingerprint a file by its size, its time and its content; of one above 1.1 MiB, 18 blocks of 64 KiB are read.

    Returns:
        Bytes, nanoseconds of the last change, and the sha256 of what was read.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        about = os.fstat(file.fileno())
        if about.st_size <= _SAMPLES * _SAMPLE_BYTES:
            digest.update(file.read())
        else:
            for number in range(_SAMPLES):
                file.seek((about.st_size - _SAMPLE_BYTES) * number // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return [about.st_size, about.st_mtime_ns, digest.hexdigest()]
