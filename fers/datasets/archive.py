"""Files that are published: fetched, known by size and checksum, and unzipped only where every name stays inside."""

from __future__ import annotations

import csv
import hashlib
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm import tqdm

from fers.util.errors import FersError

RETRIES = 3  # of a connection that breaks, within one call
TIMEOUT = (15, 60)  # s to connect, s between two blocks
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


def published(group: str, address: str, page: str) -> tuple[Published, ...]:
    """Read the files of one group of ``published.csv``, each below an address."""
    with Path(__file__).with_name("published.csv").open(encoding="utf-8", newline="") as table:
        return tuple(
            Published(name, f"{address}/{name}", page, int(size) if size else None, sha256 or None, git_blob or None)
            for known, name, size, sha256, git_blob in csv.reader(table)
            if known == group
        )


def check_sum(path: Path, published: Published, advice: str) -> None:
    """Check that a file is the one that was published; ``advice`` ends the message if it is not.

    Raises:
        ArchiveError: Its size or a checksum is another.
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    if published.size not in (None, size):
        cause = "it is incomplete" if size < (published.size or 0) else "it is another file"
        raise ArchiveError(f"{path}: {size:,} bytes, expected {published.size:,}: {cause}. {advice}")
    if expected := published.git_blob:
        kind, digest = "git blob id", hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    else:
        kind, expected, digest = "sha256", published.sha256, hashlib.sha256()
    bar = tqdm(total=size, desc=f"checking {path.name}", unit="B", unit_scale=True, leave=False)
    with path.open("rb") as file, bar:
        while block := file.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    if digest.hexdigest() != expected:
        raise ArchiveError(
            f"{path}: {kind} {digest.hexdigest()}, expected {expected}: it is damaged or another file. {advice}"
        )


def fetch(url: str, target: Path, by_hand: str, size: int | None = None) -> None:
    """Fetch a file over HTTP, or from Google Drive, going on from what an earlier call has left.

    Until ``target`` is whole, its bytes are beside it in ``<name>????????.part``. ``by_hand`` ends the message: what to do
    without a connection.

    Raises:
        ArchiveError: There is no connection, it broke, or the server refused; or there is no room on the disk.
    """
    try:
        import gdown
        import requests
        from gdown.exceptions import DownloadError
    except ImportError as error:
        raise ArchiveError(f"{error}: gdown is needed to fetch it: pip install 'fers-had[data]'") from error

    target.parent.mkdir(parents=True, exist_ok=True)
    parts = {part: part.stat().st_size for part in target.parent.glob(f"{target.name}????????.part")}
    if size is not None:
        # whole, but the call ended before it was renamed: asking for the bytes past its end would only fail
        if whole := next((part for part, length in parts.items() if length >= size), None):
            whole.replace(target)
            return
        require_room(target.parent, size - sum(parts.values()))
    try:
        gdown.download(url=url, output=str(target), resume=True, retries=RETRIES, timeout=TIMEOUT)
    except (requests.RequestException, DownloadError) as error:
        raise ArchiveError(f"{url} could not be fetched ({' '.join(str(error).split())}).\n\n{by_hand}") from error
    except OSError as error:  # of a full disk, which names no file
        raise OSError(error.errno, error.strerror or str(error), error.filename or str(target)) from error


def fetch_published(published: Published, final: Path, by_hand: str, url: str | None = None) -> Path:
    """Fetch a published file to ``final``, or check the one there. It gets its name when its checksum is right.

    ``by_hand`` is the end of the message without a connection, ``url`` another address of the same file.

    Raises:
        ArchiveError: It could not be fetched, or it is not the published file.
        OSError: A file cannot be read or written.
    """
    if final.is_file():
        check_sum(final, published, "Remove it and run the command again.")
        return final
    unchecked = final.with_name(f"{final.name}.unchecked")
    if not unchecked.is_file():
        fetch(url or published.url, unchecked, by_hand, published.size)
    try:
        check_sum(unchecked, published, "It was removed; run the command again.")
    except ArchiveError:
        unchecked.unlink()
        raise
    unchecked.replace(final)
    return final


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip file whose names all stay inside the folder it would be unpacked to; the caller closes it.

    Raises:
        ArchiveError: It is missing, no zip file or cut short, or one of its names is absolute or holds ``..``.
    """
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
        if any(kind.anchor or ".." in kind.parts for kind in (PurePosixPath(name), PureWindowsPath(name))):
            archive.close()
            raise ArchiveError(
                f"{path}: it holds the name '{name}', which leads out of the folder it is unpacked to. Nothing was "
                "unpacked. This is not the published archive; fetch it from its author's page."
            )
    return archive


def copy_member(archive: zipfile.ZipFile, name: str, target: Path) -> None:
    """Unpack one member of a zip file, checked by the zip's checksum, to a temporary ``target``: a failure leaves a part.

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


def require_room(folder: Path, needed: int) -> None:
    """Refuse what surely does not fit on the disk that holds a folder, or would hold it; ``needed`` is in bytes."""
    place = next(each for each in (folder.resolve(), *folder.resolve().parents) if each.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ArchiveError(
            f"{folder}: at least {needed:,} bytes are still to be written and {free:,} are free on this disk. "
            "Free some space, or choose another folder with --out."
        )
