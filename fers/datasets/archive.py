"""Files that came over a network: known by size and checksum, zip files opened only where every name stays inside."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm import tqdm

from fers.util.errors import FersError

_BLOCK = 1 << 20  # bytes read at a time


class ArchiveError(FersError):
    """Archive that cannot be used. The message names the file, what was found, what was expected and what to do."""


@dataclass(frozen=True)
class Published:
    """File as it was published, on a page that links to its address, with what is known of its content.

    ``git_blob`` is its id in a git repository: the SHA-1 of ``blob SIZE``, a zero byte, and the content.
    """

    name: str
    url: str
    page: str
    size: int | None = None
    sha256: str | None = None
    git_blob: str | None = None


def check_sum(path: str | Path, published: Published, advice: str) -> None:
    """Check that a file is the one that was published; ``advice`` ends the message if it is not.

    Raises:
        ArchiveError: Its size or a checksum is another.
        OSError: The file cannot be read.
    """
    path = Path(path)
    size = path.stat().st_size
    if published.size not in (None, size):
        cause = "it is incomplete" if size < (published.size or 0) else "it is another file"
        raise ArchiveError(f"{path}: {size:,} bytes, expected {published.size:,}: {cause}. {advice}")
    sums = [("sha256", hashlib.sha256(), published.sha256)]
    if published.git_blob:
        blob = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        sums.append(("git blob id", blob, published.git_blob))
    bar = tqdm(total=size, desc=f"checking {path.name}", unit="B", unit_scale=True, leave=False)
    with path.open("rb") as file, bar:
        while block := file.read(_BLOCK):
            for _, digest, _ in sums:
                digest.update(block)
            bar.update(len(block))
    for kind, digest, expected in sums:
        if expected not in (None, digest.hexdigest()):
            raise ArchiveError(
                f"{path}: {kind} {digest.hexdigest()}, expected {expected}: it is damaged or another file. {advice}"
            )


def open_zip(path: str | Path) -> zipfile.ZipFile:
    """Open a zip file whose names all stay inside the folder it would be unpacked to; the caller closes it.

    Raises:
        ArchiveError: It is missing, no zip file or cut short, or one of its names is absolute or holds ``..``.
    """
    path = Path(path)
    if not path.is_file():
        raise ArchiveError(f"{path}: no such file. Check the path of the archive.")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:  # the last two: a mangled directory
        raise ArchiveError(
            f"{path}: no complete zip file ({error}; {path.stat().st_size:,} bytes). The directory of a zip file comes "
            "last, so a download that was cut short looks like this. Fetch it again."
        ) from error
    for name in archive.namelist():
        # both kinds of path: a backslash or a drive letter is harmless here and not on Windows
        kinds = (PurePosixPath(name), PureWindowsPath(name))
        if any(kind.anchor or ".." in kind.parts for kind in kinds):
            archive.close()
            raise ArchiveError(
                f"{path}: it holds the name '{name}', which leads out of the folder it is unpacked to. Nothing was "
                "unpacked. This is not the published archive; fetch it from its author's page."
            )
    return archive


def copy_member(archive: zipfile.ZipFile, name: str, target: Path) -> None:
    """Unpack one member of a zip file to ``target``, block by block; the zip's checksum is checked.

    Where this fails, ``target`` may hold a part, so it belongs in a temporary folder.

    Raises:
        ArchiveError: The member is missing, damaged, encrypted, or of a compression that is not read here.
        OSError: The target cannot be written.
    """
    try:
        with archive.open(name) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError(
            f"{archive.filename}: {name} cannot be unpacked ({error}). The archive is damaged; fetch it again."
        ) from error
    except OSError as error:  # of a full disk, which names no file
        raise OSError(error.errno, error.strerror, error.filename or str(target)) from error


def free_bytes(folder: Path) -> int:
    """Ask for the free bytes of the disk that holds a folder, or would hold it."""
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
