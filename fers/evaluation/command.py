"""The command ``fers test``: score a test set, and report AUC and its kin.

fers test HAD100 --input_channel 50     as python test.py --input_channel 50
fers test ABU --detect AE               as python FERS_ABU/test.py --detect AE
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fers.datasets.benchmarks import BENCHMARKS
from fers.datasets.had100 import published_test_scenes
from fers.fast.process import prepare_process
from fers.scoring.config import DetectConfig
from fers.util.commandline import Parser, positive, run
from fers.util.options import add_options, option, read_options
from fers.util.paths import folder_name, home


def _sensor(text: str) -> str:
    if not text or Path(text).name != text or text.startswith("."):
        raise argparse.ArgumentTypeError(f"'{text}' is not the name of a folder, such as aviris_ng")
    return text


@dataclass(frozen=True, kw_only=True)
class TestRun:
    """A test: the scenes, and what is kept of it."""

    data_path: Path = option(Path("."), "the data set's folder", group="data", type=Path)
    scene_sensor: str | None = option(
        None, "sensor of data and checkpoint", group="data", flag="--sensor", type=_sensor
    )
    scenes: str = option("all", "which scenes", group="data")
    rx: str = option(
        "float64",
        "RX by eq. 17, or as inside the released code's fusion A: float32 of truncated rank; marked",
        group="method",
        choices=("float64", "released"),
    )
    save_dir: Path | None = option(
        None, "default: a folder of its own for each configuration, below results/<data set>", group="run", type=Path
    )
    batch_size: int = option(8, "scenes of one size that are scored together", group="run", type=positive)
    maps: str = option("png", "a picture of each scene's result", group="run", choices=("png", "pdf", "none"))
    threads: int | None = option(
        None, "CPU threads of each process (default: PyTorch's choice)", group="run", type=positive
    )


def main(arguments: Sequence[str]) -> int:
    """Run a benchmark's test; returns the exit code."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=list(BENCHMARKS), help="the test set; --help after it has its options")
    named = {name.lower(): name for name in BENCHMARKS}
    if arguments and arguments[0].lower() in named:
        return test_benchmark(named[arguments[0].lower()], __doc__ or "", arguments[1:])
    parser.parse_args(arguments)
    return 2


def test_benchmark(name: str, description: str, arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark's test script; returns the exit code."""
    options = parser_of(name, description).parse_args(arguments)
    return run(lambda: _test(name, options), how_to_resume="run the same command again")


def parser_of(name: str, description: str) -> argparse.ArgumentParser:
    """The options of a benchmark's test script, grouped by concern."""
    benchmark = BENCHMARKS[name]
    parser = Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, TestRun, {"data_path": benchmark.default_folder(), "scenes": benchmark.names})
    add_options(parser, DetectConfig, {"bands": benchmark.bands})
    parser.add_argument("--no_maps", dest="maps", action="store_const", const="none", help="the same as --maps none")
    return parser


def _test(name: str, given: argparse.Namespace) -> None:
    """Score the scenes as the options say."""
    prepare_process()
    # PyTorch and what needs it: --help does not wait for them
    import torch

    from fers.evaluation.evaluate import evaluate
    from fers.evaluation.published import published_by_rule
    from fers.evaluation.results import config_hash, full_config
    from fers.scoring.pipeline import Pipeline

    test = read_options(TestRun, given)
    benchmark = BENCHMARKS[name]
    config = read_options(DetectConfig, given, sensor=test.scene_sensor or benchmark.sensor)
    if test.rx == "released":
        config = replace(config, options=(*config.options, ("solver", test.rx)))
    if test.threads:
        torch.set_num_threads(test.threads)
    scenes = benchmark.scenes(test.data_path, test.scene_sensor, test.scenes)
    dataset = benchmark.title(test.data_path, scenes)
    pipeline = Pipeline(config)
    about = {
        "benchmark": name,
        "dataset": dataset,
        "data_path": str(test.data_path.resolve()),
        "scenes": test.scenes,
        "scene_sensor": test.scene_sensor,
    }
    readable = "_".join([config.detect_name.replace(":", "."), config.setting_name, f"{config.bands}bands"])
    folder = home() / "results" / folder_name(dataset) / f"{readable}-{config_hash({**full_config(pipeline), **about})}"
    published, why = published_by_rule(name, config) if dataset == name else ({}, "")
    if name == "HAD100" and len(scenes) < len(published_test_scenes()):
        published = {}  # the paper has only the mean over all
    same = benchmark.known(scenes) if published else {}  # a cut of a published scene has another name
    published = {scene: value for scene, value in published.items() if same.get(scene, scene) == scene}
    evaluate(
        scenes,
        pipeline,
        test.save_dir or folder,
        dataset=dataset,
        published=published or None,
        batch_size=test.batch_size,
        maps=test.maps != "none",
        map_format=test.maps,
        config=about,
    )
    if why:
        print(f"Note: {why}")
