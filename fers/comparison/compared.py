"""Cells, score maps and scenes of a comparison, and how it was made; ``result`` adds the files that show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fers.evaluation.metrics import MEASURES

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("detector", "setting", "label", "scene", "seed")  # say which cell a row is
COSTS = ("seconds", "cpu_seconds", "peak_mb")  # what it took


@dataclass(frozen=True)
class ComparedScene:
    """A scene of a comparison, without its cube.

    Attributes:
        name: Its name in the table.
        sensor: Its sensor; empty if nobody said.
        group: Place whose scenes share pixels or a flight line; empty for a place of its own.
        fingerprint: ``catalogue.fingerprint`` of cube and truth.
        known: Catalogue name of the very same cube and truth; empty if there is none.
        truth: ``(H, W)`` bool, True at anomalies.
        left_out: ``(H, W)`` bool, True = does not count; None for none.
        picture: ``(H, W, 3)`` uint8, true colour.
    """

    name: str
    sensor: str = ""
    group: str = ""
    fingerprint: str = ""
    known: str = ""
    truth: np.ndarray = None  # type: ignore[assignment]
    left_out: np.ndarray | None = None
    picture: np.ndarray | None = None


@dataclass(frozen=True)
class Compared:
    """Cells, score maps and scenes of a comparison.

    Attributes:
        rows: One for each detector, setting, scene and seed: ``KEYS``, the measures of ``MEASURES``, ``COSTS`` and
            ``note``; None where a value is missing, and ``note`` says why.
        maps: Score maps ``(H, W)`` by label, scene and seed; NaN = left out. A label is the detector, or detector and
            setting where there are several settings.
        scenes: The scenes by name.
        caveats: Sentences that belong under every table.
        provenance: ``version``, ``command``, ``data`` (its fingerprint), ``machine``, ``threads``, ``loaded`` (True if
            other work ran on the machine while something was timed).
    """

    rows: list[dict[str, Any]]
    maps: dict[tuple[str, str, int], np.ndarray]
    scenes: dict[str, ComparedScene]
    caveats: list[str]
    provenance: dict[str, Any]

    def table(self) -> pd.DataFrame:
        """One row for each detector, setting, scene and seed, as ``rows`` has them."""
        import pandas as pd

        numbers = [*MEASURES, *COSTS]
        return pd.DataFrame(self.rows, columns=[*KEYS, *numbers, "note"]).astype(dict.fromkeys(numbers, float))

    def long(self) -> pd.DataFrame:
        """One row for each detector, setting, scene, seed and measure: ``KEYS``, ``measure``, ``value``, ``note``."""
        return self.table().melt([*KEYS, "note"], [*MEASURES, *COSTS], "measure", "value")[
            [*KEYS, "measure", "value", "note"]
        ]
