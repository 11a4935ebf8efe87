"""The command ``detect.py``, or ``fers-detect`` where the project is installed.

Detect anomalies in scenes of your own: a score map, a list of targets, and a page that explains them.

    python detect.py scene.hdr                                  products in results/detect/scene/; open report.html
    python detect.py EMIT_L2A_RFL_....nc --mask auto            clouds left out, by the EMIT mask file beside it
    python detect.py folder/ --common_background                all scenes of a folder against one background
    python detect.py line.hdr --memory 4GB --background segment:1000
    python detect.py line.hdr --plan                            blocks, passes, memory and time; computes nothing
    python detect.py line.hdr --scheduler tcp://10.0.0.1:8786   on a Dask cluster

No training and no download is needed. Files may be larger than the memory. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fers.detection.options import DEFAULT_FAR, DetectOptions
from fers.detection.result import FORMATS
from fers.detection.scene_run import SceneRun
from fers.detection.several import Products, describe_plan, detect_all, find_scenes
from fers.scoring.maps import DEFAULT_METHOD, METHODS
from fers.scoring.spatial import MODES
from fers.util.commandline import list_of, natural, positive, run


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)

    def script() -> None:
        chosen = DetectOptions(**{name: getattr(options, name) for name in DetectOptions.__dataclass_fields__})
        readers = find_scenes(options.scenes, options.variable, say=lambda text: print(text, file=sys.stderr))
        if options.plan:
            print("\n".join(describe_plan(SceneRun(reader, chosen)) for reader in readers))
            return
        products = Products(options.out, options.format, options.gpkg, options.force)
        detect_all(
            readers,
            chosen,
            products,
            options.scheduler,
            options.scheduler_file,
            options.common_background,
            progress=not options.quiet,
        )

    return run(script, how_to_resume="run the same command again")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="+", help="files of any known format, or folders of them")
    parser.add_argument("--out", type=Path, default=Path("results/detect"), help="folder of results (%(default)s)")
    parser.add_argument("--variable", help="name of the cube in a .mat, .npz or HDF5 file that holds several")

    group = parser.add_argument_group("method")
    group.add_argument(
        "--method",
        choices=list(METHODS),
        default=DEFAULT_METHOD,
        help="raw values, features, or the product of both (%(default)s)",
    )
    group.add_argument("--checkpoint", help="folder of trained weights; without it the network is untrained")
    group.add_argument("--backbone", help="frozen layers: imagenet, random[:SEED], or a path")
    group.add_argument("--seed", type=natural, default=0, help="of the untrained network (%(default)s)")
    group.add_argument("--spatial", choices=MODES, help="how the spatial branch sees a scene above 256 px")
    group.add_argument(
        "--bands", default="good", help="good, all, first:N, 400-900nm, or several with commas (%(default)s)"
    )
    group.add_argument(
        "--background", default="scene", help="scene, segment:ROWS, robust[:SHARE], or a background.npz (%(default)s)"
    )
    group.add_argument("--common_background", action="store_true", help="one background for all scenes")
    group.add_argument(
        "--range", dest="value_range", type=_pair, metavar="LOW,HIGH", help="of the values, instead of the scene's own"
    )

    group = parser.add_argument_group("mask")
    group.add_argument("--mask", help="pixels to leave out of the statistics: a raster, .npy, .mat, or auto for EMIT's")
    group.add_argument("--score_masked", action="store_true", help="score these pixels nevertheless")

    group = parser.add_argument_group("threshold (one of them)")
    group.add_argument(
        "--far", type=float, help=f"false-alarm rate, by the fitted tail of the scores ({DEFAULT_FAR:g})"
    )
    group.add_argument("--top", type=positive, help="the so many highest targets")
    group.add_argument("--quantile", type=float, help="share of the pixels below the threshold")
    group.add_argument("--score", type=float, help="the threshold itself")
    group.add_argument("--chi2", type=float, help="nominal rate by the chi-square law, which real scenes do not follow")
    group.add_argument("--min_area", type=float, help="of a target: m2, or pixels without a georeference")
    group.add_argument("--max_area", type=float, help="likewise")

    group = parser.add_argument_group("products")
    group.add_argument(
        "--format", type=list_of(FORMATS), default=("tif",), help="of the score map: tif, envi, or tif,envi"
    )
    group.add_argument("--gpkg", action="store_true", help="targets as a GeoPackage too (needs pyogrio)")
    group.add_argument("--force", action="store_true", help="compute finished scenes again")

    group = parser.add_argument_group("machine")
    group.add_argument(
        "--memory", default="2GB", help="for this process, or for each worker of a cluster (%(default)s)"
    )
    group.add_argument("--workers", type=positive, help="blocks at a time; by default one a core, as the memory allows")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (%(default)s)")
    group.add_argument("--scheduler", help="address of a Dask scheduler, such as tcp://10.0.0.1:8786")
    group.add_argument("--scheduler_file", "--scheduler-file", help="file that a Dask scheduler wrote")
    group.add_argument("--plan", action="store_true", help="print what would be done and how long it would take")
    group.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def _pair(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not two numbers such as 0,1.2") from error
    return low, high
