"""The cubes that a detector sees: what is added to H, and how several score maps become one.

A new kind of features is one row of ``VIEWS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from fers.detectors import Detector, minmax
from fers.scoring.fusion_c import fusion_c

FUSION_A_BANDS = 50  # the paper's choice for RX: fusion A up to this many bands, B above (section IV-C)


@dataclass(frozen=True)
class Features:
    """What the networks make of H, each ``(N, C, H, W)``; empty where the view needs none of it.

    Attributes:
        spe: F_spe (eq. 4).
        spa: F_spa (eq. 8).
        aetnet: The cube that AETNet makes of H.
    """

    spe: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    spa: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    aetnet: torch.Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True)
class View:
    """A row of ``VIEWS``.

    Attributes:
        cubes: From H and its features to the cubes that the detector scores (eqs. 18, 19, 23). Each pixel's values come
            from the same pixel's, so a large scene may be given in windows.
        needs: The branches whose features it takes: ``spe_fen``, ``spa_fen``, ``aetnet``.
        ours: Why it stands in no row of the paper; empty for what the paper has.
        unit: What its scores measure, where that is not what the detector's do.
        joined: A fusion that is no product of the cubes' maps: from the detector, H, its features and the pixels to
            leave out, or None, to the score map.
    """

    cubes: Callable[[torch.Tensor, Features], list[torch.Tensor]]
    needs: tuple[str, ...] = ()
    ours: str = ""
    unit: str = ""
    joined: Callable[[Detector, torch.Tensor, Features, torch.Tensor | None], torch.Tensor] | None = None

    def score(
        self, detector: Detector, h: torch.Tensor, features: Features, left_out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The score map ``(N, H, W)`` of H with its features, by the row's own fusion or the product of its maps."""
        if self.joined is not None:
            return self.joined(detector, h, features, left_out)
        return score(detector, self.cubes(h, features))


VIEWS: dict[str, View] = {
    "original": View(lambda h, f: [h]),
    "spectral": View(lambda h, f: [h + f.spe], ("spe_fen",)),  # eq. 19
    "spatial": View(lambda h, f: [h + f.spa], ("spa_fen",)),  # eq. 18
    "fused-A": View(
        lambda h, f: [h + f.spa, h + f.spe], ("spe_fen", "spa_fen"), unit="product of scaled maps"
    ),  # eqs. 18-22
    "fused-B": View(lambda h, f: [h + f.spa + f.spe], ("spe_fen", "spa_fen")),  # eq. 23
    "fused-C": View(
        lambda h, f: [h + f.spe],
        ("spe_fen",),
        unit="sum of log distances",
        ours="Fusion C is this project's own: local statistics of H instead of the spatial branch. The paper has no such row.",
        joined=lambda detector, h, f, left_out: fusion_c(detector, h, f.spe, left_out=left_out),
    ),
    "aetnet": View(lambda h, f: [f.aetnet], ("aetnet",)),  # Table I
}


def score(detector: Detector, cubes: Sequence[torch.Tensor]) -> torch.Tensor:
    """The score map of some cubes of the same scenes.

    One cube's map is the detector's. Several cubes' maps are each scaled to [0, 1] and multiplied (eqs. 20-22).

    Args:
        detector: See ``detectors.Detector``.
        cubes: Of a row of ``VIEWS``, each ``(N, C, H, W)``.

    Returns:
        ``(N, H, W)``.
    """
    if len(cubes) == 1:
        return detector(cubes[0])
    return math.prod((minmax(detector(cube)) for cube in cubes[1:]), start=minmax(detector(cubes[0])))


def view_name(features: str, fusion: str | None) -> str:
    """The key of ``VIEWS`` for the options ``--features`` and ``--fusion``; the untrained control is ``spectral``."""
    if fusion is not None:
        return f"fused-{fusion}"
    return "spectral" if features == "untrained" else features


def default_fusion(by: str, bands: int) -> str:
    """The fusion of a detector for so many bands; ``by`` as ``detectors.Entry.fusion`` has it."""
    return "A" if by == "by bands" and bands <= FUSION_A_BANDS else "B"
