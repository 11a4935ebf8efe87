"""The settings: which cubes a detector sees, and how their score maps are joined.

A new kind of features is one row of ``SETTINGS``. The table loads no PyTorch, so command lines can show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fers.util.errors import FersError, did_you_mean

FUSION_A_BANDS = 50  # the paper's choice for RX: fusion A up to this many bands, B above (section IV-C)
BRANCHES = {"f_spe": "spe_fen", "f_spa": "spa_fen"}  # part of a cube -> the network that makes it

Cube = tuple[str, ...]
"""A cube as the sum of its parts: ``h``, ``f_spe`` (eq. 4), or ``f_spa`` (eq. 8)."""


@dataclass(frozen=True)
class Setting:
    """A row of ``SETTINGS``.

    Attributes:
        cubes: Cubes that detectors see (eqs. 18, 19, 23).
        join: How the maps of the cubes are joined: by ``product`` of the scaled maps (eqs. 20-22), or as fusion ``C`` or ``D``.
        ours: Why the paper has no such row; empty if the paper has it.
        unit: Unit of its scores, where it differs from the detector's.
    """

    cubes: tuple[Cube, ...]
    join: Literal["product", "C", "D"] = "product"
    ours: str = ""
    unit: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """Branches whose features the setting needs."""
        parts = {part for cube in self.cubes for part in cube}
        return tuple(branch for part, branch in BRANCHES.items() if part in parts)


SETTINGS: dict[str, Setting] = {
    "original": Setting((("h",),)),
    "spectral": Setting((("h", "f_spe"),)),  # eq. 19
    "spatial": Setting((("h", "f_spa"),)),  # eq. 18
    "fused-A": Setting((("h", "f_spa"), ("h", "f_spe")), unit="product of scaled maps"),  # eqs. 18-22
    "fused-B": Setting((("h", "f_spa", "f_spe"),)),  # eq. 23
    "fused-C": Setting(
        (("h", "f_spe"), ("h",)),
        join="C",
        ours="Fusion C is this project's own: local statistics of H instead of the spatial branch. The paper has no such row.",
        unit="sum of log distances",
    ),
    "fused-D": Setting(
        (("h", "f_spe"), ("h",)),
        join="D",
        ours="Fusion D is this project's own: fusion C, and contrasts that objects shorter than 21 px have. The paper has no "
        "such row.",
        unit="sum of log distances",
    ),
    "fused-H": Setting(
        (("h",), ("h", "f_spe")),
        ours="Fusion H is this project's own: fusion A with the cube itself instead of the spatial branch.",
        unit="product of scaled maps",
    ),
}
FUSIONS = tuple(name.removeprefix("fused-") for name in SETTINGS if name.startswith("fused-"))
FEATURES = ("untrained", "fused", *(name for name in SETTINGS if not name.startswith("fused-")))
WITHOUT_SPATIAL = ("C", "D", "H")  # fusions that need no spatial branch, so they go with features of one branch
SPATIAL_MODES = ("scene", "window")  # how Spa-FEN sees a large scene; see fers.scoring.spatial


def setting_name(features: str, fusion: str | None) -> str:
    """Return the key of ``SETTINGS`` for ``--features`` and ``--fusion``; the untrained control is ``spectral``."""
    if fusion is not None:
        return f"fused-{fusion}"
    return "spectral" if features == "untrained" else features


def parse_setting(text: str) -> tuple[str, str | None]:
    """Split the name of a setting, such as ``original``, ``untrained-C`` or ``fused-A``, into features and fusion.

    Raises:
        FersError: There is no such setting.

    Example:
        >>> parse_setting("untrained-c"), parse_setting("fused")
        (('untrained', 'C'), ('fused', None))
    """
    features, dash, fusion = text.strip().lower().partition("-")
    fusion = fusion.upper()
    fits = (
        fusion in FUSIONS
        if features == "fused"
        else features in ("spectral", "untrained") and fusion in WITHOUT_SPATIAL
    )
    if features not in FEATURES or (dash and not fits):
        one_branch = [f"{name}-{fusion}" for name in ("untrained", "spectral") for fusion in WITHOUT_SPATIAL]
        choices = [*FEATURES, *one_branch, *(f"fused-{fusion}" for fusion in FUSIONS)]
        raise FersError(
            f"--settings {text}: no such setting.{did_you_mean(text, choices)} Choose among {', '.join(choices)}."
        )
    return features, fusion or None


def default_fusion(by: str, bands: int) -> str:
    """Return a detector's fusion for this number of bands; ``by`` is ``fusion`` of its row in ``DETECTORS``."""
    return "A" if by == "by bands" and bands <= FUSION_A_BANDS else "B"
