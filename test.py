"""Detect anomalies in HAD100, or any test set in its layout, and report the mean AUC.

    python test.py --input_channel 50                          RX on the fused features (fusion A at 50 bands)
    python test.py --input_channel 200 --fusion B --detect RX
    python test.py --input_channel 50 --features original      RX on the cube itself
    python test.py --detect AE                                 the autoencoder detector

The dataset's folder holds test/<sensor>/*.npy (H x W x B) and ground_truth/<sensor>/*.png (anomaly where green is 255).
"""

from __future__ import annotations

import argparse
import sys

from data import had100
from evaluation.cli import add_test_options, build, run_script
from evaluation.evaluate import evaluate

SENSOR, BANDS = "aviris_ng", 50


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_test_options(
        parser,
        bands=BANDS,
        data_path="data/HAD100Dataset",
        sensor=SENSOR,
        scenes="all",
        scenes_help="all, or names separated by commas",
    )
    options = parser.parse_args(arguments)

    def script() -> None:
        scenes = had100.test_scenes(options.data_path, options.sensor or SENSOR, options.scenes)
        dataset = had100.dataset_name(options.data_path)
        pipeline, save_dir = build(options, SENSOR, dataset)
        evaluate(
            scenes,
            pipeline,
            save_dir,
            dataset=dataset,
            start_band=options.start_band,
            batch_size=options.batch_size,
            maps=not options.no_maps,
            config={"layout": "had100", "data_path": str(options.data_path), "scenes": options.scenes},
        )

    return run_script(script)


if __name__ == "__main__":
    sys.exit(main())
