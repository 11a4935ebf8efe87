"""Archives that came over a network: known by size and sha256, opened only where every name stays inside the folder."""

from __future__ import annotations

import errno
import hashlib
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm import tqdm

_BLOCK = 1 << 20  # bytes read at a time
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ArchiveError(Exception):
    """An archive that cannot be used. The message names the file, what was found, what was expected and what to do."""


@dataclass(frozen=True)
class Published:
    """A file as it was published.

    Attributes:
        name: File name.
        size: Bytes.
        sha256: 64 hexadecimal digits.
        url: Where it is fetched from.
        page: The page that links to it.
    """

    name: str
    size: int
    sha256: str
    url: str
    page: str


def sha256_of(path: str | Path, progress: bool = False) -> str:
    """The sha256 of a file, as sha256sum prints it.

    Args:
        path: The file.
        progress: Show a progress bar, for files of gigabytes.

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
    path = Path(path)
    digest = hashlib.sha256()
    with (
        path.open("rb") as file,
        tqdm(
            total=path.stat().st_size,
            desc=f"checking {path.name}",
            unit="B",
            unit_scale=True,
            disable=not progress,
        ) as bar,
    ):
        while block := file.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def check_sum(path: str | Path, published: Published, advice: str) -> None:
    """Make sure that a file is the one that was published.

    Args:
        path: The file.
        published: What it has to be.
        advice: What to do if it is another file; the end of the message.

    Raises:
        ArchiveError: Its size or its sha256 is another.
        OSError: The file cannot be read.
    """
    path = Path(path)
    found = path.stat().st_size
    if found != published.size:
        cause = "it is incomplete" if found < published.size else "it is another file"
        raise ArchiveError(f"{path}: {found:,} bytes, expected {published.size:,}: {cause}. {advice}")
    found = sha256_of(path, progress=True)
    if found != published.sha256:
        raise ArchiveError(
            f"{path}: sha256 {found}, expected {published.sha256}: it is damaged or another file. {advice}"
        )


def open_zip(path: str | Path) -> zipfile.ZipFile:
    """Open a zip file whose names all stay inside the folder it would be unpacked to.

    Args:
        path: The zip file.

    Returns:
        The open archive; the caller closes it.

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
    """Unpack one member to a file of the caller's choice, block by block; the zip's checksum is checked.

    Args:
        archive: The open archive.
        name: The member.
        target: The file to write. Where this fails it may hold a part, so it belongs in a temporary folder.

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


def explain(error: OSError, folder: Path) -> str:
    """What a failed write means and what to do about it, in one sentence or two.

    Args:
        error: The error; a full disk, an exceeded quota and a file-size limit are told from the others.
        folder: The folder that was written to; it need not exist.

    Returns:
        The message.
    """
    if error.errno not in _NO_ROOM:
        named = f"{error.filename}: " if error.filename else f"{folder}: "
        return f"{named}{error.strerror or error}."
    return f"{folder}: no room left to write to ({error.strerror}; {free_bytes(folder):,} bytes free on this disk)."


def free_bytes(folder: Path) -> int:
    """Free space in bytes on the disk that holds a folder, or would hold it."""
    folder = folder.resolve()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
