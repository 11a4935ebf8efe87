"""Which weights the authors released: where each file is, its size and its sum. No PyTorch here."""

from __future__ import annotations

from dataclasses import dataclass

from fers.datasets.archive import Published

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
