"""What the two test scripts share: their options, and how they end."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from data import SceneError
from data.commandline import natural, positive, run
from detection.pipeline import DETECTORS, FEATURES, FUSIONS, PRECISIONS, USER_ERRORS, Pipeline, Settings
from models.checkpoint import ROOT


def add_test_options(
    parser: argparse.ArgumentParser, *, bands: int, data_path: str, sensor: str, scenes: str, scenes_help: str
) -> None:
    """Add the options of a test script, grouped by concern; the arguments are the defaults."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data_path", type=Path, default=ROOT / data_path, help=f"the dataset's folder (default: {data_path})"
    )
    group.add_argument("--sensor", default=None, help=f"sensor of data and checkpoint (default: {sensor})")
    group.add_argument(
        "--input_channel", type=positive, default=bands, help="bands given to the networks (default: %(default)s)"
    )
    group.add_argument("--start_band", type=natural, default=0, help="the first of them (default: 0)")
    group.add_argument("--scenes", default=scenes, help=f"{scenes_help} (default: {scenes})")

    group = parser.add_argument_group("method")
    group.add_argument("--detect", choices=DETECTORS, default="RX", type=str.upper, help="detector (default: RX)")
    group.add_argument(
        "--features", choices=FEATURES, default="fused", help="what is added to the cube (default: fused)"
    )
    group.add_argument(
        "--fusion", choices=FUSIONS, type=str.upper, help="default: A up to 50 bands, B above; B with AE"
    )
    group.add_argument("--seed", type=natural, default=0, help="of the untrained control and of AE (default: 0)")
    group.add_argument(
        "--ae_select",
        choices=("last", "oracle"),
        default="last",
        help="AE's iteration: the last, or the one with the best AUC against the ground truth, as published tables have "
        "it; that is marked in the output (default: last)",
    )

    group = parser.add_argument_group("weights")
    group.add_argument("--checkpoint_dir", type=Path, help="default: checkpoints/<sensor>_<input_channel>")
    group.add_argument(
        "--backbone",
        help="frozen layers: imagenet, random[:SEED] or a path (default: what the checkpoint says; else imagenet)",
    )

    group = parser.add_argument_group("run")
    group.add_argument("--save_dir", type=Path, help="default: results/<dataset>/<setting>")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    group.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        default="fp32",
        help="of the networks; bf16 is faster on hardware made for it and changes the result (default: fp32)",
    )
    group.add_argument("--compile", action="store_true", help="compile the networks with torch.compile")
    group.add_argument(
        "--batch_size", type=positive, help="scenes of one size at a time (default: as many as are fastest)"
    )
    group.add_argument("--no_maps", action="store_true", help="do not draw the maps, which takes longer than scoring")


def build(options: argparse.Namespace, sensor: str, dataset: str) -> tuple[Pipeline, Path]:
    """The pipeline and the results folder that the options ask for."""
    settings = Settings(
        bands=options.input_channel,
        sensor=options.sensor or sensor,
        detect=options.detect,
        features=options.features,
        fusion=options.fusion,
        ae_select=options.ae_select,
        checkpoint_dir=options.checkpoint_dir,
        backbone=options.backbone,
        seed=options.seed,
        device=options.device,
        precision=options.precision,
        compile=options.compile,
    )
    parts = [settings.detect, settings.features, settings.chosen_fusion, f"{settings.bands}bands"]
    if settings.detect == "AE" and settings.ae_select == "oracle":
        parts.insert(1, "oracle")
    if settings.features == "untrained" or settings.detect == "AE":
        parts.append(f"seed{settings.seed}")
    if settings.precision != "fp32":
        parts.append(settings.precision)
    return Pipeline(settings), options.save_dir or ROOT / "results" / dataset / "_".join(filter(None, parts))


def run_script(script: Callable[[], None]) -> int:
    """Run a test script's work; returns the exit code."""
    return run(script, (SceneError, *USER_ERRORS), go_on="run the same command again")
