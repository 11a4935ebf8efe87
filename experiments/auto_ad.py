"""Auto-AD's spread over seeds, on cuts of two ABU scenes.

    python -m experiments.auto_ad data/ABU checkpoints/aviris_200_released

writes a row for each scene, features and seed to experiments/results/auto_ad.csv. Rows that are there already are not made
again. A scene is cut to the 48 x 48 px that hold the most anomalous pixels, for time. A run has 101 iterations: its
score is the residual of iteration 100, as it is of whole runs that stop before 200.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter

from experiments import RESULTS
from experiments.jobs import machine
from fers.datasets import abu
from fers.evaluation.metrics import SCENE_MEASURES, scene_measures
from fers.networks.backbones import BACKBONE_FILE
from fers.networks.checkpoint import git_revision
from fers.scenes.normalise import normalise
from fers.scenes.scene import LabelledScene, Scene
from fers.scoring.pipeline import DetectConfig, Pipeline
from fers.util.commandline import list_of, run
from fers.util.files import write_whole

FEATURES = ("original", "spectral", "untrained")
BANDS, SIDE, ITERATIONS = 200, 48, 101


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = ArgumentParser(prog="python -m experiments.auto_ad", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("abu", type=Path, help="folder of the ABU scenes")
    parser.add_argument("weights", type=Path, help="folder of the authors' Spe-FEN, with its frozen layers")
    parser.add_argument("--scenes", default="airport-4,beach-4", help="default: %(default)s")
    parser.add_argument("--features", type=list_of(FEATURES), default=FEATURES, help="default: all")
    parser.add_argument("--seeds", type=int, default=3, help="how many (default: %(default)s)")
    options = parser.parse_args(arguments)
    return run(lambda: _spread(options.abu, options.weights, options.scenes, options.features, options.seeds))


def _spread(folder: Path, weights: Path, names: str, kinds: Sequence[str], seeds: int) -> None:
    path = RESULTS / "auto_ad.csv"
    rows = pd.read_csv(path).to_dict("records") if path.is_file() else []
    there = {(row["scene"], row["features"], row["seed"]) for row in rows}
    for labelled in abu.scenes(folder, names=names):
        scene, truth = cut(labelled)
        for features in kinds:
            for seed in range(seeds):
                if (labelled.name, features, seed) in there:
                    continue
                config = DetectConfig(
                    BANDS,
                    "aviris",
                    features=features,
                    detect="Auto-AD",
                    seed=seed,
                    checkpoint_dir=weights,
                    backbone=str(weights / BACKBONE_FILE) if features == "untrained" else None,
                    options=(("iterations", ITERATIONS),),
                )
                found = scene_measures(Pipeline(config).score(normalise(scene, BANDS)), truth)
                rows.append(
                    {"scene": labelled.name, "features": features, "seed": seed}
                    | {key: f"{found[key]:.6f}" for key in SCENE_MEASURES}
                    | {"anomalies": int(truth.sum()), "machine": machine(), "revision": git_revision()[:12]}
                )
                table = pd.DataFrame(rows).sort_values(["scene", "features", "seed"])
                write_whole(path, table.to_csv(index=False, lineterminator="\n").encode())
                print(labelled.name, features, seed, f"{found['auc']:.4f}", flush=True)


def cut(labelled: LabelledScene) -> tuple[Scene, np.ndarray]:
    """Cut a scene and its truth to the ``SIDE`` x ``SIDE`` px with the most anomalous pixels, the first such window."""
    scene, truth = labelled.load()
    half = SIDE // 2
    inside = uniform_filter(truth.astype(float), SIDE, mode="constant")[half : half + truth.shape[0] - SIDE + 1]
    inside = inside[:, half : half + truth.shape[1] - SIDE + 1].round(9)
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    window = np.s_[row : row + SIDE, column : column + SIDE]
    return replace(scene, cube=scene.cube[window]), truth[window]


if __name__ == "__main__":
    sys.exit(main())
