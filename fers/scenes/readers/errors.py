"""Refusals that all readers share: what is no file, what is damaged."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fers.util.errors import FersError

_REMOTE = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]+:/|/vsi[a-z0-9]+/|\\\\"
)  # a URL also after pathlib has joined its slashes


class SceneError(FersError):
    """Scene or truth that cannot be used. The message names the file, what was found and what to do."""


def local_file(path: str | Path, what: str = "scene") -> Path:
    """Check that a name is one of a file or folder on a disk.

    Raises:
        SceneError: It is a URL, has no name in UTF-8, is missing, or is a pipe or a device, which would be waited for without end.
    """
    if _REMOTE.match(str(path)):
        raise SceneError(
            f"{path}: only files on a disk are read. Download it (curl, aws s3 cp, gdal_translate), or mount the store "
            "(rclone mount, s3fs) and give the path there."
        )
    path = Path(path)
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:  # GDAL and every product would fail on it later
        raise SceneError(f"{path}: its name is not text in UTF-8. Rename it (convmv, mv).") from None
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error})"
        raise SceneError(f"{path}: {reason}. Check the path of the {what}.") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise SceneError(f"{path}: a pipe, a socket or a device, not a file. Save the {what} as a file and give that.")
    return path


def check_length(path: Path, most: int) -> None:
    """Refuse a file of text that is longer than any of its kind, before it is read."""
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{size} bytes")


@contextmanager
def refusing(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a library raises on a damaged file, read as a kind such as "MATLAB file", into a `SceneError`."""
    try:
        yield
    except FersError:
        raise
    except MemoryError as error:
        raise SceneError(
            f"{path}: the memory is too small to read it as a {kind}. Give a smaller cut of the scene."
        ) from error
    except Exception as error:  # the libraries raise a dozen kinds of error on a damaged file
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise SceneError(
            f"{path}: cannot be read as a {kind} ({reason}). Is it complete? Copy or save it again."
        ) from error
