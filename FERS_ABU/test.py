"""Detect anomalies in the Airport-Beach-Urban scenes and report their AUC.

    python FERS_ABU/test.py --data_path FOLDER                       RX on the fused features (fusion B)
    python FERS_ABU/test.py --data_path FOLDER --features original   RX on the cube itself
    python FERS_ABU/test.py --data_path FOLDER --detect AE           the autoencoder detector

FOLDER holds abu-airport-1.mat, abu-airport-2.mat, ... as their author publishes them, or test/<sensor>/*.npy and
ground_truth/<sensor>/*.png.
"""

from __future__ import annotations

import argparse
import sys

from data import abu
from evaluation.cli import add_test_options, build, run_script
from evaluation.evaluate import evaluate

SENSOR, BANDS = "aviris", 200

# Table II of the paper, 200 bands; its beach-4 is 150x150. "fused" is fusion B.
_SCENES = abu.TABLE_SCENES.split(",")
PUBLISHED = {
    ("RX", "original"): (0.8248, 0.8433, 0.9301, 0.9526, 0.9538, 0.9513),
    ("RX", "fused"): (0.9515, 0.9871, 0.9715, 0.9935, 0.9888, 0.9756),
    ("AE", "original"): (0.8530, 0.9260, 0.9429, 0.8478, 0.8747, 0.8662),
    ("AE", "fused"): (0.8773, 0.9872, 0.9596, 0.9541, 0.8283, 0.9734),
}


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_test_options(
        parser,
        bands=BANDS,
        data_path="data/ABU",
        sensor=SENSOR,
        scenes="paper",
        scenes_help="paper for the six of the paper's table, all, or names separated by commas",
    )
    options = parser.parse_args(arguments)

    def script() -> None:
        scenes = abu.test_scenes(options.data_path, options.sensor, options.scenes)
        pipeline, save_dir = build(options, SENSOR, "ABU")
        settings = pipeline.settings
        published = PUBLISHED.get((settings.detect, settings.features))
        comparable = published and settings.bands == BANDS and settings.chosen_fusion != "A" and options.start_band == 0
        evaluate(
            scenes,
            pipeline,
            save_dir,
            dataset="ABU",
            start_band=options.start_band,
            batch_size=options.batch_size,
            maps=not options.no_maps,
            published=dict(zip(_SCENES, published, strict=True)) if comparable else None,
            config={"layout": "abu", "data_path": str(options.data_path), "scenes": options.scenes},
        )

    return run_script(script)


if __name__ == "__main__":
    sys.exit(main())
