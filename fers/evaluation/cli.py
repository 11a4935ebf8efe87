"""The command line of both test scripts: a benchmark's row decides what they differ in."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fers.datasets.benchmarks import BENCHMARKS, Benchmark
from fers.fast.process import prepare
from fers.scoring.names import DETECTORS, FEATURES, FUSIONS, PRECISIONS
from fers.util.commandline import Parser, add_device_options, natural, positive, run
from fers.util.errors import FersError, did_you_mean
from fers.util.paths import home

if TYPE_CHECKING:
    from fers.scoring.pipeline import DetectConfig


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """The options of a benchmark's test script, grouped by concern."""
    benchmark = BENCHMARKS[name]
    found = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = found.add_argument_group("data")
    group.add_argument(
        "--data_path",
        type=Path,
        default=benchmark.default_folder(),
        help=f"the dataset's folder (default: {benchmark.folders[0]})",
    )
    group.add_argument("--sensor", type=_sensor, help=f"sensor of data and checkpoint (default: {benchmark.sensor})")
    group.add_argument(
        "--input_channel",
        type=positive,
        default=benchmark.bands,
        help="bands given to the networks (default: %(default)s)",
    )
    group.add_argument(
        "--start_band", "--start_channel_id", type=natural, default=0, help="the first of them (default: 0)"
    )
    group.add_argument("--scenes", default=benchmark.names, help=f"{benchmark.names_help} (default: {benchmark.names})")
    group.add_argument(
        "--nodata",
        choices=("refuse", "keep", "mask"),
        default="refuse",
        help="pixels without data: refuse the scene; keep them, as the released code does; or mask them, so that they count nowhere (default: refuse)",
    )

    group = found.add_argument_group("method")
    group.add_argument(
        "--detect",
        type=_detector,
        default="RX",
        help=f"{', '.join(DETECTORS)}, or module:Name of your own (default: RX)",
    )
    group.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the detector, as often as needed, such as --option iterations=50",
    )
    group.add_argument(
        "--rx",
        choices=("float64", "released"),
        default="float64",
        help="RX by eq. 17, or as inside the released code's fusion A: float32 of truncated rank; marked (default: float64)",
    )
    group.add_argument(
        "--features", choices=FEATURES, default="fused", help="what is added to the cube (default: fused)"
    )
    group.add_argument(
        "--fusion",
        choices=FUSIONS,
        type=str.upper,
        help="of fused features; C is this project's own and needs no spatial branch "
        "(default: A up to 50 bands and B above with RX; B with detectors that are trained on the scene)",
    )
    group.add_argument(
        "--seed",
        type=natural,
        default=0,
        help="of the untrained control and of detectors with random weights (default: 0)",
    )
    group.add_argument(
        "--select",
        "--ae_select",
        choices=("last", "oracle"),
        default="last",
        help="iteration of AE: the last, or the one with the best AUC against the ground truth, as published tables have it; marked (default: last)",
    )

    group = found.add_argument_group("weights")
    group.add_argument("--checkpoint_dir", type=Path, help="default: checkpoints/<sensor>_<input_channel>")
    group.add_argument(
        "--backbone",
        help="frozen layers: imagenet, random[:SEED] or a path (default: what the checkpoint says; else imagenet)",
    )

    group = found.add_argument_group("run")
    group.add_argument(
        "--save_dir", type=Path, help="default: a folder of its own for each configuration, below results/<dataset>"
    )
    add_device_options(group)
    group.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp32",
        help="of the networks; bf16 is faster on hardware made for it and changes the result; marked (default: fp32)",
    )
    group.add_argument("--compile", action="store_true", help="compile the networks with torch.compile")
    group.add_argument(
        "--batch_size", type=positive, default=8, help="scenes of one size that are scored together (default: 8)"
    )
    group.add_argument(
        "--maps", choices=("png", "pdf", "none"), default="png", help="a picture of each scene's result (default: png)"
    )
    group.add_argument("--no_maps", dest="maps", action="store_const", const="none", help="the same as --maps none")
    return found


def main(name: str, description: str, arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark's test script; returns the exit code."""
    options = parser(name, description).parse_args(arguments)
    return run(lambda: work(name, options), how_to_resume="run the same command again")


def work(name: str, options: argparse.Namespace) -> None:
    """Score the scenes as the options say.

    Raises:
        FersError: An option, a scene or a checkpoint cannot be used.
    """
    prepare()
    # PyTorch and what needs it: --help does not wait for them
    import torch

    from fers.evaluation.evaluate import evaluate
    from fers.evaluation.published import published_aucs
    from fers.evaluation.results import config_hash, full_config
    from fers.scoring.pipeline import Pipeline

    if options.threads:
        torch.set_num_threads(options.threads)
    benchmark = BENCHMARKS[name]
    scenes = benchmark.scenes(options.data_path, options.sensor, options.scenes)
    dataset = benchmark.title(options.data_path)
    pipeline = Pipeline(config_of(options, benchmark))
    settings = pipeline.config
    extra = {
        "benchmark": name,
        "dataset": dataset,
        "data_path": str(options.data_path.resolve()),
        "scenes": options.scenes,
        "scene_sensor": options.sensor,
    }
    readable = "_".join([settings.detect.replace(":", "."), settings.view, f"{settings.bands}bands"])
    folder = home() / "results" / dataset / f"{readable}-{config_hash({**full_config(pipeline), **extra})}"
    paper = dataset == name and settings.start_band == 0 and not settings.options and settings.features != "untrained"
    evaluate(
        scenes,
        pipeline,
        options.save_dir or folder,
        dataset=dataset,
        published=published_aucs(name, settings.detect, settings.view, settings.bands) or None if paper else None,
        batch_size=options.batch_size,
        maps=options.maps != "none",
        map_format=options.maps,
        config=extra,
    )


def config_of(options: argparse.Namespace, benchmark: Benchmark) -> DetectConfig:
    """The configuration that the options ask for."""
    from fers.scoring.pipeline import DetectConfig

    pairs = [text.partition("=") for text in options.option]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise FersError(f"--option {wrong[0]}: expected NAME=VALUE, such as --option iterations=50.")
    chosen = {name: value for name, _, value in pairs}
    if options.rx == "released":
        chosen["solver"] = options.rx
    return DetectConfig(
        bands=options.input_channel,
        sensor=options.sensor or benchmark.sensor,
        detect=options.detect,
        options=chosen,
        features=options.features,
        fusion=options.fusion,
        select=options.select,
        nodata=options.nodata,
        start_band=options.start_band,
        checkpoint_dir=options.checkpoint_dir,
        backbone=options.backbone,
        seed=options.seed,
        device=options.device,
        precision=options.precision,
        compile=options.compile,
    )


def _sensor(text: str) -> str:
    if not text or Path(text).name != text or text.startswith("."):
        raise argparse.ArgumentTypeError(f"'{text}' is not the name of a folder, such as aviris_ng")
    return text


def _detector(text: str) -> str:
    """A detector by its name in the table, whatever the case; or ``module:Name``, which is looked for later."""
    if ":" in text:
        return text
    known: Sequence[str] = DETECTORS
    if text.lower() not in (name.lower() for name in known):
        from fers.detectors import DETECTORS as TABLE

        known = tuple(TABLE)
    for name in known:
        if name.lower() == text.lower():
            return name
    raise argparse.ArgumentTypeError(
        f"no detector '{text}'.{did_you_mean(text, known)} Choose from {', '.join(known)}, or module:Name of your own."
    )
