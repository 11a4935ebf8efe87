"""Files that are published: fetched, known by size and checksum, and unzipped only where every name stays inside."""

from __future__ import annotations

import csv
import glob
import hashlib
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm import tqdm

from fers.util.errors import FersError
from fers.util.paths import how_to_install

RETRIES = 3  # of a connection that breaks, within one call
TIMEOUT = (15, 60)  # s to connect, s between two blocks
_BLOCK = 1 << 20  # bytes read at a time
_UNCHECKED = ".unchecked"  # the end of a file's name until its checksum is known to be right
_LARGEST = 1 << 30  # bytes, of an answer whose size nobody has published


class ArchiveError(FersError):
    """Archive that cannot be used. The message names the file, what was found, what was expected and what to do."""


class NoConnection(ArchiveError):
    """No server answered, or the connection broke: what else is there cannot be fetched now either."""


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
    with path.open("rb") as file:
        page = file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html"))
    if page:
        raise ArchiveError(
            f"{path}: a web page, not the file: its address has moved, or a network asks for a login. {advice}"
        )
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
    without a connection. An answer of more than ``size`` bytes is broken off and removed.

    Raises:
        NoConnection: There is no connection, or it broke.
        ArchiveError: The server refused or sent too much; or there is no room on the disk.
    """
    try:
        import gdown
        import requests
        from gdown.exceptions import DownloadError
    except ImportError as error:
        raise ArchiveError(f"{error}: gdown is needed to fetch it: {how_to_install('data')}") from error

    def parts() -> dict[Path, int]:
        found = target.parent.glob(f"{glob.escape(target.name)}????????.part")
        return {part: part.stat().st_size for part in found}

    def fresh(cause: str) -> ArchiveError:
        for part in parts():
            part.unlink()
        return ArchiveError(f"{url}: {cause}. What had come was removed.\n\n{by_hand}".rstrip())

    target.parent.mkdir(parents=True, exist_ok=True)
    if size is not None:
        # whole, but the call ended before it was renamed: asking for the bytes past its end would only fail
        if whole := next((part for part, length in parts().items() if length >= size), None):
            whole.replace(target)
            return
        require_room(target.parent, size - sum(parts().values()))
    most = size or _LARGEST
    bar = tqdm(total=size, desc=target.name.removesuffix(_UNCHECKED), unit="B", unit_scale=True, disable=None)

    def progress(so_far: int, _: int | None) -> None:
        bar.update(so_far - bar.n)
        if so_far > most:
            raise OverflowError(f"the server sent more than the {most:,} bytes that the file can have")

    try:
        with bar:
            gdown.download(
                url=url,
                output=str(target),
                resume=True,
                retries=RETRIES,
                timeout=TIMEOUT,
                quiet=True,
                progress=progress,
            )
    except OverflowError as error:
        raise fresh(str(error)) from error
    except requests.HTTPError as error:
        raise ArchiveError(f"{url} could not be fetched ({error}).\n\n{by_hand}".rstrip()) from error
    except (requests.RequestException, DownloadError) as error:
        if "byte range" in str(error):  # a server that cannot begin in the middle would refuse for ever
            raise fresh(
                "the server cannot go on in the middle of a file; run the command again to start over"
            ) from error
        cause = " ".join(str(error).split())
        raise NoConnection(f"{url} could not be fetched ({cause}).\n\n{by_hand}".rstrip()) from error
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
    unchecked = final.with_name(final.name + _UNCHECKED)
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


def copy_member(archive: zipfile.ZipFile, name: str, target: Path, most: int = _LARGEST) -> None:
    """Unpack one member of a zip file, checked by the zip's checksum, to a temporary ``target``: a failure leaves a part.

    No more is written than the zip file declares, and that is at most ``most`` bytes.

    Raises:
        ArchiveError: The member is missing, damaged, encrypted, too large, or of a compression that is not read here.
        OSError: The target cannot be written.
    """
    try:
        declared = archive.getinfo(name).file_size
        if declared > most:
            raise ArchiveError(
                f"{archive.filename}: {name} would unpack to {declared:,} bytes, more than the {most:,} that it may have. "
                "Nothing was unpacked. This is not the published archive; fetch it from its author's page."
            )
        require_room(target.parent, declared)
        with archive.open(name) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError(
            f"{archive.filename}: {name} cannot be unpacked ({error}). The archive is damaged; fetch it again."
        ) from error
    except OSError as error:  # of a full disk, which names no file
        raise OSError(error.errno, error.strerror, error.filename or str(target)) from error


def require_room(folder: Path, needed: int, remedy: str = "choose another folder with --out") -> None:
    """Refuse what surely does not fit on the disk that holds a folder, or would hold it; ``needed`` is in bytes."""
    place = next(each for each in (folder.resolve(), *folder.resolve().parents) if each.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ArchiveError(
            f"{folder}: at least {needed:,} bytes are still to be written and {free:,} are free on this disk. "
            f"Free some space, or {remedy}."
        )
