"""A folder of results, or of a training run, belongs to one process at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fers.util.errors import FersError

LOCK = ".running"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder until the block ends; the lock of a dead process does not count.

    A folder that was made for nothing is removed.

    Args:
        folder: The folder; it is created if need be.

    Raises:
        FersError: Another run is writing to it, or its name is not text in UTF-8, which its results could not name.
    """
    try:
        os.fspath(folder).encode()
    except UnicodeEncodeError:
        raise FersError(f"{folder}: the name of this folder is not text in UTF-8. Choose another folder.") from None
    there = folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    with path.open("a") as file:  # closing the file, or process exit, releases the lock
        if not _lock(file.fileno()):
            raise FersError(
                f"{folder}: another run is writing to this folder. Wait for it, or choose another folder (--save_dir, --out)."
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            if not there:
                with suppress(OSError):  # unless something was written
                    folder.rmdir()


def _lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows has none
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return os.fstat(descriptor).st_nlink > 0  # else its owner removed it just now
