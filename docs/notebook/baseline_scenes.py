"""Auto-AD and LREN on the scenes for which results of their authors' own code are known.

Frozen record: it ran at commit 1d0dd8c, whose tree it needs.

    python docs/notebook/baseline_scenes.py --abu data/ABU --hydice data/hydice-urban.mat --out baselines.jsonl

runs three seeds of each and appends a line for each run. Runs that the file holds already are not repeated.
``--print`` shows the table of the file instead.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data.scene import read_mask, read_scene
from detectors.auto_ad import REWEIGHT_EVERY, AutoAD
from detectors.lren import LREN
from evaluation.metrics import auc


@dataclass(frozen=True)
class Case:
    """A scene, how it is detected on, and the AUC of the authors' code with one seed."""

    method: str
    file: str
    bands: int | None
    options: dict[str, Any]
    reference: float


CASES = [
    Case("Auto-AD", "abu-airport-4.mat", None, {"scaling": "cube"}, 0.9517),
    Case("LREN", "abu-beach-4.mat", None, {"lambda_": 1e-4}, 0.99270),
    Case("LREN", "abu-urban-2.mat", 198, {"lambda_": 0.01}, 0.99838),
    Case("Auto-AD", "abu-airport-1.mat", None, {"scaling": "cube"}, 0.9096),
    Case("Auto-AD", "hydice-urban.mat", None, {"scaling": "band"}, 0.9969),
]


def measure(case: Case, path: Path, seed: int) -> dict[str, object]:
    """One run; returns its line."""
    cube = np.asarray(read_scene(path).cube, dtype=np.float32)[:, :, : case.bands]
    mask = read_mask(path, shape=cube.shape[:2])
    image = torch.from_numpy(np.ascontiguousarray(cube.transpose(2, 0, 1)))[None]
    began = time.perf_counter()
    extra: dict[str, object] = {}
    if case.method == "Auto-AD":
        by_hundred = []
        for j, step in enumerate(AutoAD(seed=seed, **case.options).train(image)):
            if j and j % REWEIGHT_EVERY == 0:
                by_hundred.append(auc(step.residual.numpy(), mask))
        score = step.residual
        extra = {"iterations": j + 1, "last_loss": step.loss, "auc_by_hundred": by_hundred}
    else:
        score = LREN(seed=seed, **case.options)(image)[0]
    return {
        "method": case.method,
        "file": case.file,
        "bands": cube.shape[2],
        **case.options,
        "seed": seed,
        "auc": auc(score.numpy(), mask),
        "reference": case.reference,
        "seconds": round(time.perf_counter() - began, 1),
        **extra,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def table(lines: list[dict]) -> str:
    """The runs as a Markdown table, a row for each scene."""
    rows = ["| method | scene | setting | authors' code, one seed | here, by seed | iterations |", "| --- " * 6 + "|"]
    for case in CASES:
        runs = sorted(
            (r for r in lines if (r["method"], r["file"]) == (case.method, case.file)), key=lambda r: r["seed"]
        )
        setting = ", ".join(f"{key.rstrip('_')} {value}" for key, value in case.options.items())
        found = ", ".join(f"{run['auc']:.4f}" for run in runs)
        iterations = ", ".join(str(run.get("iterations", "")) for run in runs).strip(", ")
        rows.append(f"| {case.method} | {case.file} | {setting} | {case.reference:.4f} | {found} | {iterations} |")
    return "\n".join(rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--abu", type=Path, default=Path("data/ABU"), help="folder of abu-*.mat")
    parser.add_argument("--hydice", type=Path, default=Path("data/hydice-urban.mat"))
    parser.add_argument("--method", choices=["Auto-AD", "LREN"], help="only this one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("baselines.jsonl"))
    parser.add_argument("--print", action="store_true", help="show the table of --out; run nothing")
    options = parser.parse_args()

    lines = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.is_file() else []
    if options.print:
        print(table(lines))
        return
    done = {(line["method"], line["file"], line["seed"]) for line in lines}
    for seed in options.seeds:
        for case in CASES:
            if (case.method, case.file, seed) in done or options.method not in (None, case.method):
                continue
            path = options.hydice if case.file.startswith("hydice") else options.abu / case.file
            line = json.dumps(measure(case, path, seed))
            print(line, flush=True)
            with options.out.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
