"""Where this project lies on the disk: in a checkout, or as an installed package."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "train_FERD").is_dir() else None  # None for an installed copy


def home() -> Path:
    """Find the folder of data, runs, results and own checkpoints: the checkout, or, for an installed copy, the current folder."""
    return CHECKOUT or Path.cwd()


def shipped_checkpoints() -> Path:
    """Find the folder of the weights that this project ships."""
    return CHECKOUT / "checkpoints" if CHECKOUT else PACKAGE / "checkpoints"


def checkpoint_folder(sensor: str, bands: int) -> Path:
    """Default folder of the checkpoints for a sensor and a number of bands: one's own if there is one, else the shipped."""
    own = home() / "checkpoints" / f"{sensor}_{bands}"
    return own if own.is_dir() else shipped_checkpoints() / own.name
