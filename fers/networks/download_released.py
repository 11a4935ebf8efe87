"""Fetch the authors' released weights, check them, and import them as checkpoints; ``fers weights download``."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from fers.datasets.archive import ArchiveError, fetch_published
from fers.datasets.releases import COMMIT, RELEASES, Release
from fers.networks.checkpoint import CheckpointError
from fers.networks.import_released import ORIGIN, import_released
from fers.util.lock import locked
from fers.util.paths import home


def download_released(bands: str, out: str | Path | None = None, url: str | None = None) -> list[Path]:
    """Fetch one folder of released weights, check every file, and import them.

    Args:
        bands: ``50``, ``100``, ``200`` (HAD100) or ``abu``.
        out: Folder for the checkpoints; by default ``checkpoints/<sensor>_<bands>``. The original files are kept in its
            folder ``released``, so that a second call downloads nothing.
        url: Another address of that folder of the repository.

    Returns:
        The checkpoints written.

    Raises:
        ArchiveError: A file could not be fetched, or it is not the published one. The message says how to go on.
        CheckpointError: The folder holds other weights already.
        OSError: A file cannot be written. What was downloaded is kept.
    """
    release = RELEASES[bands]
    out = Path(out) if out is not None else home() / "checkpoints" / release.checkpoints
    with locked(out):
        for name in ("spe_fen", "spa_fen"):
            there = out / f"{name}.safetensors"
            if there.is_file() and not is_released(there):
                raise CheckpointError(
                    f"{there}: holds other weights than the authors'. Choose another folder with --out."
                )
        folder = out / "released" / release.name
        for file in release.files:
            address = file.url if url is None else f"{url.rstrip('/')}/{file.name}"
            try:
                fetch_published(file, folder / file.name, _by_hand(release, folder), address)
            except ArchiveError as error:
                if "404" not in str(error) or COMMIT not in address:
                    raise
                # the commit is gone: whatever the branch has now is as good, if its checksum is right
                fetch_published(file, folder / file.name, _by_hand(release, folder), address.replace(COMMIT, "main"))
        return import_released(folder, out / "spe_fen.safetensors", release.sensor)


def is_released(checkpoint: Path) -> bool:
    """Tell whether a checkpoint was imported from the authors' released weights, as its metadata says."""
    try:
        with safe_open(checkpoint, "pt") as file:
            return ORIGIN in (file.metadata() or {}).get("origin", "")
    except (SafetensorError, OSError):
        return False


def _by_hand(release: Release, folder: Path) -> str:
    names = ", ".join(file.name for file in release.files)
    return (
        "Run the same command again to go on with the download. To fetch the files by hand:\n"
        f"  1. Open {release.files[0].page} in a browser, and download {names}.\n"
        f"  2. Put them into {folder}\n"
        "  3. Run the same command again: it checks and imports them."
    )
