"""How fast the product is, against a plain reference in the same run.

    python -m benchmarks.bench                                    everything, some minutes
    python -m benchmarks.bench --quick --sections stages,rx       a first look
    python -m benchmarks.bench --data_path data/ABU --scene airport-2 --out results/bench.json

The reference (tests/reference.py) is the method's equations as one would first write them. Both sides are timed in
turn and compared by their medians. Ratios are what counts: absolute times are this machine's. docs/performance.md
explains each row.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks import measure
from benchmarks.sections import BANDS, SECTIONS, Options, Row
from benchmarks.subjects import Subjects
from data import SceneError
from data.commandline import list_of, positive, run
from data.files import atomic_path
from detection.pipeline import USER_ERRORS, choose_device
from models.checkpoint import ROOT
from training.loop import TrainingError

RELEASED = ROOT.parent / "shared" / "weights"
TITLES = {
    "stages": "Stages of detection and end to end, one 64 x 64 scene",
    "rx": "RX, 64 x 64 x 200",
    "scaling": "Scaling, end to end, fusion B, float32",
    "peak": "Share of the machine's measured peak, 64 x 64 px",
    "training": "Training step, batch 16, float32",
}
_DISTURBED = 0.03  # of the cores, taken by other processes
Column = tuple[str, Callable[[Row], str]]


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1000 * seconds:.{1 if seconds >= 0.01 else 2}f}"


def _extra(key: str, form: str = "") -> Callable[[Row], str]:
    return lambda row: format(row.extra[key], form) if key in row.extra else "-"


def _aucs(row: Row) -> str:
    return f"{row.extra['auc_reference']:.4f} / {row.extra['auc_product']:.4f}" if "auc_product" in row.extra else "-"


_WHERE: list[Column] = [("device", lambda row: row.device), ("precision", lambda row: row.precision)]
_TIMES: list[Column] = [
    ("reference ms", lambda row: _milliseconds(row.reference and row.reference.median)),
    ("product ms", lambda row: _milliseconds(row.product.median)),
    ("ratio", lambda row: "-" if row.ratio is None else f"{row.ratio:.2f}"),
    ("n", lambda row: str(len(row.product.seconds)) + ("" if row.product.warm else " cold")),
]
_WHAT: list[Column] = [("what", lambda row: row.what)]
COLUMNS: dict[str, list[Column]] = {
    "stages": [
        *_WHERE,
        ("bands", _extra("bands")),
        *_WHAT,
        *_TIMES,
        ("difference", _extra("difference", ".0e")),
        ("AUC reference / product", _aucs),
    ],
    "rx": [*_WHERE[:1], ("cube", _extra("cube")), *_WHAT, *_TIMES, ("difference", _extra("difference", ".0e"))],
    "training": [
        *_WHERE[:1],
        ("bands", _extra("bands")),
        ("patch px", _extra("patch")),
        *_WHAT,
        *_TIMES,
        ("60 epochs of 65 steps, h", _extra("hours_of_full_training", ".2f")),
    ],
    "scaling": [*_WHERE[:1], *_WHAT, *_TIMES, ("Mpixel/s", _extra("megapixels_per_second", ".3f"))],
    "peak": [
        *_WHERE,
        *_WHAT,
        ("ms", lambda row: _milliseconds(row.product.median)),
        ("GFLOP (GB)", _extra("work", ".3g")),
        ("GFLOP/s (GB/s)", _extra("rate", ".4g")),
        ("share of peak", _extra("share", ".0%")),
        ("floor ms", lambda row: _milliseconds(row.extra.get("floor"))),
    ],
}


def table(rows: Iterable[Row], columns: list[Column]) -> str:
    """Rows as an aligned Markdown table."""
    cells = [[name for name, _ in columns], *([show(row) for _, show in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    return "\n".join([lines[0], "| " + " | ".join("-" * width for width in widths) + " |", *lines[1:]])


def bench(options: argparse.Namespace) -> None:
    """Measure, print, and write what was asked for."""
    if options.threads:
        torch.set_num_threads(options.threads)
    devices = [choose_device(name) for name in _device_names(options.device)]
    on_gpu = devices[-1].type == "cuda"
    settings = Options(
        devices=devices,
        precisions=options.precision,
        repeats=options.repeats or (3 if options.quick else 9),
        budget=options.budget or (10 if options.quick else 30),
        bands=(200,) if options.quick else BANDS,
        patch=options.patch or (64 if on_gpu and not options.quick else 32),
        largest=options.largest or (128 if options.quick else 1024),
        compiled=options.compile,
    )
    environment = measure.environment(devices)
    released = options.released if options.released.is_dir() else None
    results: dict[str, list[Row]] = {}
    disturbed: list[str] = []
    with Subjects(options.data_path, options.scene, released, options.checkpoint_dir, options.backbone) as subjects:
        cases = [(section, case) for section in options.sections for case in SECTIONS[section](subjects, settings)]
        with tqdm(cases, unit="case", disable=None) as bar:
            for section, case in bar:
                bar.set_postfix_str(f"{section}: {case.name}")
                with warnings.catch_warnings(), measure.Neighbours() as neighbours:
                    warnings.simplefilter("ignore")
                    rows = case.run()
                for row in rows:
                    row.extra["others_share"] = round(neighbours.share, 3)
                if neighbours.share > _DISTURBED:
                    disturbed.append(f"{section} {case.name} ({neighbours.share:.0%})")
                results.setdefault(section, []).extend(rows)
        marks = subjects.marks
    print(_header(environment))
    for section, rows in results.items():
        print(f"\n{TITLES[section]}\n\n{table(rows, COLUMNS[section])}")
    print()
    for mark in marks:
        print(f"Note: {mark}")
    if disturbed:
        print(f"Note: other processes took part of the cores, so these cannot be relied on: {', '.join(disturbed)}.")
    if not on_gpu:
        print("Note: no GPU was measured.")
    if options.out:
        content = {
            "environment": environment,
            "notes": marks,
            "repeats": settings.repeats,
            "budget_seconds": settings.budget,
            "sections": {section: [row.as_json() for row in rows] for section, rows in results.items()},
        }
        with atomic_path(options.out) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")
        print(f"wrote {options.out}")


def _header(environment: dict) -> str:
    bf16 = "has" if environment["bf16_instructions"] else "has no"
    libraries = ", ".join(f"{name} {environment[name]}" for name in measure.LIBRARIES)
    gpus = "".join(f", {name}" for name in environment["gpus"])
    return (
        f"{environment['cpu']}, {environment['cores']} cores, {environment['threads']} threads, "
        f"{environment['instructions']} ({bf16} bf16 instructions){gpus}\n"
        f"Python {environment['python']}, {libraries}\n{environment['git_revision'] or 'no git'}, {environment['date']}\n"
        f"{environment['command']}"
    )


def _device_names(name: str) -> list[str]:
    if name != "all":
        return [name]
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _patch(text: str) -> int:
    if positive(text) % 8:
        raise argparse.ArgumentTypeError(f"'{text}' is not a multiple of 8, as Stage 1 needs it")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    group = parser.add_argument_group("what")
    group.add_argument("--sections", type=list_of(SECTIONS), default=tuple(SECTIONS), help=f"of {','.join(SECTIONS)}")
    group.add_argument(
        "--precision",
        type=list_of(("fp32", "bf16")),
        default=("fp32", "bf16"),
        help="of the product's networks (default: fp32,bf16)",
    )
    group.add_argument("--compile", action="store_true", help="torch.compile in the first section")
    group.add_argument(
        "--device", default="all", help="all (CPU, and CUDA if there is one), cpu, cuda, cuda:1 (default: all)"
    )
    group.add_argument("--threads", type=positive, help="of the CPU (default: PyTorch's choice)")
    group.add_argument(
        "--patch", type=_patch, help="side of training patches in px, a multiple of 8 (default: 32; 64 with a GPU)"
    )
    group.add_argument(
        "--largest", type=positive, help="side of the largest scene in px (default: 1024, if it fits in memory)"
    )

    group = parser.add_argument_group("how long")
    group.add_argument("--quick", action="store_true", help="200 bands, few repetitions, small scenes")
    group.add_argument(
        "--repeats", type=positive, help="repetitions, of which the median counts (default: 9; 3 with --quick)"
    )
    group.add_argument(
        "--budget", type=positive, help="seconds for a case, fewer repetitions beyond (default: 30; 10 with --quick)"
    )

    group = parser.add_argument_group("scene and weights")
    group.add_argument(
        "--data_path", type=Path, help="a folder of abu-*.mat or in HAD100's layout (default: a synthetic scene)"
    )
    group.add_argument("--scene", help="its name (default: the first)")
    group.add_argument(
        "--checkpoint_dir", type=Path, help="holds <sensor>_<bands>/spe_fen.safetensors and spa_fen.safetensors"
    )
    group.add_argument(
        "--backbone", help="untrained networks on these frozen layers: imagenet, random[:SEED] or a path"
    )
    group.add_argument(
        "--released",
        type=Path,
        default=RELEASED,
        help="the authors' released weights, used where neither of these is given and it exists (default: %(default)s); else a random layer1, which the output says",
    )

    parser.add_argument("--out", type=Path, help="JSON with every number, the machine and versions")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = parser().parse_args(arguments)
    errors = (SceneError, TrainingError, *USER_ERRORS)
    return run(lambda: bench(options), errors)


if __name__ == "__main__":
    sys.exit(main())
