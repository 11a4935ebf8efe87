"""What every detector is, and the scaling that several share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch


class Detector(Protocol):
    """A cube in, a score map out.

    ``(N, C, H, W)`` of any real type to ``(N, H, W)``; higher is more anomalous. Raises ValueError for a cube that it
    cannot score; the message says why and what to do.
    """

    def __call__(self, cube: torch.Tensor, /) -> torch.Tensor: ...


@dataclass(frozen=True)
class Entry:
    """A row of ``DETECTORS``.

    Attributes:
        make: Makes the detector; takes ``seed`` by name, which a detector without random weights ignores.
        trains_on: What is fitted, and when: ``nothing``; the ``scene`` itself, anew for each one, so results depend on
            the seed; or ``background`` scenes, before the test, so it needs a checkpoint.
        fusion: The fusion that fused features get by default: ``by bands`` is A up to 50 bands and B above.
        cite: Source.
        unit: What its scores measure, for the colour bar of a map.
    """

    make: Callable[..., Detector]
    trains_on: Literal["nothing", "scene", "background"] = "nothing"
    fusion: Literal["by bands", "B"] = "by bands"
    cite: str = ""
    unit: str = "score"


def minmax(score: torch.Tensor) -> torch.Tensor:
    """Scale each map to [0, 1] by its own minimum and maximum; a constant map becomes zero (eqs. 20, 21).

    Args:
        score: ``(N, H, W)``.
    """
    low, high = score.amin((1, 2), keepdim=True), score.amax((1, 2), keepdim=True)
    return (score - low) / torch.where(high > low, high - low, torch.ones_like(high))
