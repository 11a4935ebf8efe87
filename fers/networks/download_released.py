"""Fetch the authors' released weights, check them, and import them as checkpoints.

    python -m models.download_released --bands 50      for HAD100; also 100 and 200
    python -m models.download_released --bands abu     for ABU, 200 bands

The files come from the authors' repository at one commit. Size and checksum of each are known here; Spa-FEN's is known by
its git blob id. Interrupted, the same command goes on where it stopped. The checkpoints go to
``checkpoints/<sensor>_<bands>``, where the test scripts look. ABU's go to ``checkpoints/aviris_200_released``, since
``checkpoints/aviris_200`` holds this project's own.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from fers.datasets.archive import ArchiveError, Published
from fers.datasets.download import fetch_published
from fers.networks.checkpoint import CheckpointError
from fers.networks.import_released import ORIGIN, import_released
from fers.util.commandline import run
from fers.util.paths import home

REPOSITORY = "xjpp2016/FERS"
COMMIT = "7911a857044053eb6ed16d102e8a1b8484c90e54"
RAW = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}"
PAGE = f"https://github.com/{REPOSITORY}/tree/{COMMIT}"


@dataclass(frozen=True)
class Release:
    """One folder of released weights.

    Attributes:
        folder: Its place in the authors' repository.
        name: Its name in the metadata of the checkpoints.
        checkpoints: The folder below ``checkpoints/`` for the checkpoints.
        sensor: Sensor of the training data.
        files: The published files.
    """

    folder: str
    name: str
    checkpoints: str
    sensor: str
    files: tuple[Published, ...]


def _release(
    folder: str, name: str, checkpoints: str, sensor: str, spa_fen: str, convh: str, pc: str, enc: str
) -> Release:
    """A row of ``RELEASES``; the files' sums are ``BYTES SHA256``, Spa-FEN's is a git blob id."""
    source, page = f"{RAW}/{folder}", f"{PAGE}/{folder}"
    files = []
    for file, both in (("convh.pt", convh), ("enc.pt", enc), ("pc.pt", pc)):
        size, sha256 = both.split()
        files.append(Published(file, f"{source}/{file}", page, size=int(size), sha256=sha256))
    files.append(Published("spa_fen.pt", f"{source}/spa_fen.pt", page, git_blob=spa_fen))
    return Release(folder, name, checkpoints, sensor, tuple(files))


_HAD100 = {  # bands: Spa-FEN, CWL, FPL with ZCL; layer1 is the same file in all three
    50: (
        "30d1c7b4df477c4dc55f9da4189c8358e2a67cd5",
        "13605 64859f3aa3b65352bc881e6c103e6d5131a765adf45cadff6ebea405f0649540",
        "159599 adc3601bfe865cb5d60734ce32a2359d50a64671644aa418687fa118e494bf8d",
    ),
    100: (
        "0e74bb9282b301ee00d2e9f7fe41a6b3dca35cb0",
        "26405 08e837f7e04c5f4982edb25a29f69877f7b7387404ffac3722682b52875adcda",
        "185583 ac04ef92c5ace09365d60f7e729385eca9149299a3c6d3981c8c0d3b62c1f0a5",
    ),
    200: (
        "d4bca8523b97ff1a771537020460e08a75831f6e",
        "52005 18cebf832b4d740c7b34c2ab049f505e0e418c316940bbadd143131cc4f36da5",
        "471535 e15f12739cbca0cf7eead7e9adeee785fe70e62ca36266178edc9891d50d7b56",
    ),
}
_HAD100_LAYER1 = "2567801 c333f48607543486a380ba900a57ea20559b40ef2e7f25dd246de3369371978c"
RELEASES = {
    str(n): _release(f"saved_models/{n}bands", f"HAD100/{n}bands", f"aviris_ng_{n}", "aviris_ng", *sums, _HAD100_LAYER1)
    for n, sums in _HAD100.items()
}
RELEASES["abu"] = _release(
    *("FERS_ABU/saved_models/aviris/200bands", "ABU/200bands", "aviris_200_released", "aviris"),
    "1b1f724ec0718dcb0e4cccaf20911d00e831ff51",
    "52005 ccd4286945c93829fdb3ccce4bb27599adf9f3e01c303cb3ea09827100e58ee4",
    "471535 1351abeb56ccdece61c0fbac7ecc2f5f53f8d5714af77087114615f9fe263e57",
    "2567801 142e80d8d16893a279cbece11bb1c4520e5f178a54207e5d628e3da826e71fe5",
)


def download_released(bands: str, out: str | Path | None = None, url: str | None = None) -> list[Path]:
    """Fetch one folder of released weights, check every file, and import them.

    Args:
        bands: ``50``, ``100``, ``200`` (HAD100) or ``abu``.
        out: Folder for the checkpoints; by default as the module says. The files as they came are kept below it, in
            ``released``, so that a second call asks for nothing.
        url: Another address of that folder of the repository.

    Returns:
        The checkpoints written.

    Raises:
        ArchiveError: A file could not be fetched, or it is not the published one. The message says how to go on.
        CheckpointError: The folder holds other weights already.
        OSError: A file cannot be written. What has come is kept.
    """
    release = RELEASES[bands]
    out = Path(out) if out is not None else home() / "checkpoints" / release.checkpoints
    for name in ("spe_fen", "spa_fen"):
        there = out / f"{name}.safetensors"
        if there.is_file() and not is_released(there):
            raise CheckpointError(f"{there}: holds other weights than the authors'. Choose another folder with --out.")
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
        "Run the same command again to go on from the bytes that have come. To fetch the files by hand:\n"
        f"  1. Open {release.files[0].page} in a browser, and download {names}.\n"
        f"  2. Put them into {folder}\n"
        "  3. Run the same command again: it checks and imports them."
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m models.download_released",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bands", choices=tuple(RELEASES), required=True, help="which weights")
    parser.add_argument("--out", type=Path, help="folder for the checkpoints (default: as above)")
    parser.add_argument("--url", help="another address of the folder with the .pt files; they are checked the same way")
    options = parser.parse_args(arguments)

    def work() -> None:
        written = download_released(options.bands, options.out, options.url)
        for path in written:
            print(f"wrote {path} ({path.stat().st_size / 1000:.0f} kB)")
        script = "FERS_ABU/test.py" if options.bands == "abu" else f"test.py --input_channel {options.bands}"
        print(f"Next: python {script} --checkpoint_dir {written[0].parent}")

    return run(work, how_to_resume="run the same command again")


if __name__ == "__main__":
    sys.exit(main())
