"""The README's picture: what features change in the score map of two scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments import ROOT
from fers.datasets import abu
from fers.evaluation.figures import SceneMaps, comparison_figure
from fers.scenes import normalise
from fers.scoring.pipeline import DetectConfig, Pipeline

PICTURE = ROOT / "docs" / "picture.png"
SCENES = "airport-2,airport-4"
COLUMNS: dict[str, dict[str, Any]] = {
    "RX on the cube": {"features": "original"},
    "RX on H + F_spe, untrained": {"features": "untrained", "backbone": "random"},
    "RX on H + F_spe, trained": {"features": "spectral"},
}


def draw(folder: Path) -> Path:
    """Draw docs/picture.png from the ABU scenes of a folder, with the weights that are shipped; returns its path."""
    pipelines = {title: Pipeline(DetectConfig(200, "aviris", **options)) for title, options in COLUMNS.items()}
    rows = []
    for labelled in abu.scenes(folder, names=SCENES):
        scene, mask = labelled.load()
        h = normalise(scene, 200)
        rows.append(SceneMaps(scene, mask, {title: pipeline.score(h) for title, pipeline in pipelines.items()}))
    return comparison_figure(rows, PICTURE)
