"""The weights that the authors released: where each file is, its size and its sum. No PyTorch here."""

from __future__ import annotations

from dataclasses import dataclass

from fers.datasets.archive import Published, published

REPOSITORY = "xjpp2016/FERS"
COMMIT = "7911a857044053eb6ed16d102e8a1b8484c90e54"
RAW = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}"
PAGE = f"https://github.com/{REPOSITORY}/tree/{COMMIT}"


@dataclass(frozen=True)
class Release:
    """One folder of released weights."""

    folder: str  # in the authors' repository
    name: str  # in the metadata of the checkpoints
    checkpoints: str  # the folder below checkpoints/ for them
    sensor: str  # of the training data
    files: tuple[Published, ...]


def _release(folder: str, name: str, checkpoints: str, sensor: str) -> Release:
    return Release(folder, name, checkpoints, sensor, published(name, f"{RAW}/{folder}", f"{PAGE}/{folder}"))


RELEASES = {
    "50": _release("saved_models/50bands", "HAD100/50bands", "aviris_ng_50", "aviris_ng"),
    "100": _release("saved_models/100bands", "HAD100/100bands", "aviris_ng_100", "aviris_ng"),
    "200": _release("saved_models/200bands", "HAD100/200bands", "aviris_ng_200", "aviris_ng"),
    "abu": _release("FERS_ABU/saved_models/aviris/200bands", "ABU/200bands", "aviris_200_released", "aviris"),
}
