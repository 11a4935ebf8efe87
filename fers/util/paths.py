"""Folders of this project, in a checkout or as an installed package."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "train_FERD").is_dir() else None  # None for an installed copy


def home() -> Path:
    """Find the folder of data, runs, results and own checkpoints: the checkout, or the current folder if installed."""
    return CHECKOUT or Path.cwd()


def shipped_checkpoints() -> Path:
    """Find the folder of the weights that this project ships."""
    return CHECKOUT / "checkpoints" if CHECKOUT else PACKAGE / "checkpoints"


def checkpoint_folder(sensor: str, bands: int) -> Path:
    """Find the checkpoints for a sensor and a number of bands: the user's own if any, else the shipped ones."""
    own = home() / "checkpoints" / f"{sensor}_{bands}"
    return own if own.is_dir() else shipped_checkpoints() / own.name


def folder_name(title: str) -> str:
    """Make the name of a folder from a title.

    Example:
        >>> folder_name("own scenes in HAD100's layout")
        'own-scenes-in-HAD100s-layout'
    """
    return re.sub(r"[^\w.-]+", "-", title.replace("'", ""))


def how_to_install(extra: str) -> str:
    """Return the command that installs the packages of an extra, such as ``train``, from the checkout if this is one."""
    return f"pip install 'fers-had[{extra}]'" if CHECKOUT is None else f"pip install -e '{CHECKOUT}[{extra}]'"
