"""AUC and CPU seconds of the classical detectors on the ABU scenes, each with its default windows.

Frozen record: it ran at commit 1d0dd8c, whose tree it needs.

Run from the repository's root: ``PYTHONPATH=$PWD python docs/notebook/classical.py data/ABU``. Each result is a line of
``classical.csv`` beside this file; what is there is not computed again. The tables are printed at the end. The ground
truth serves for the AUC and nothing else.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import torch
from detectors import KRX, LRXPC, make_detector
from evaluation.metrics import asnpr, auc

from data import abu, normalise

BANDS = 200
CSV = Path(__file__).with_suffix(".csv")
FIELDS = ("detector", "scene", "auc", "asnpr", "cpu_seconds")
DETECTORS = {name: make_detector(name) for name in ("RX", "LRX-PC", "KRX", "CRD", "2S-GLRT", "LRX")}
VARIANTS = {
    "LRX-PC, 9, 21": LRXPC(9, 21),
    "LRX-PC, 15, 35": LRXPC(15, 35),
    "KRX, seed 1": KRX(seed=1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_path", help="folder of abu-*.mat")
    parser.add_argument("--detectors", nargs="*", default=[*DETECTORS, *VARIANTS])
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = read()
    scenes = abu.scenes(options.data_path, names="all")
    for name in options.detectors:
        detector = (DETECTORS | VARIANTS)[name]
        for labelled in scenes:
            if (name, labelled.name) in done:
                continue
            scene, mask = labelled.load()
            h = torch.from_numpy(normalise(scene, BANDS)).permute(2, 0, 1)[None]
            start = time.process_time()
            score = detector(h)[0].numpy()
            seconds = time.process_time() - start
            row = [name, labelled.name, f"{auc(score, mask):.6f}", f"{asnpr(score, mask):.3f}", f"{seconds:.2f}"]
            with CSV.open("a", newline="") as file:
                csv.writer(file).writerow(row)
            print(*row, flush=True)
    done = read()
    for names in (DETECTORS, VARIANTS):
        print(f"| scene | {' | '.join(names)} |\n| --- |{' --- |' * len(names)}")
        for labelled in scenes:
            found = [done.get((name, labelled.name)) for name in names]
            cells = [f"{float(row['auc']):.4f}, {float(row['cpu_seconds']):.1f} s" if row else "" for row in found]
            print(f"| {labelled.name} | {' | '.join(cells)} |")


def read() -> dict[tuple[str, str], dict[str, str]]:
    """Read the finished rows, by detector and scene."""
    if not CSV.exists():
        CSV.write_text(",".join(FIELDS) + "\n")
    with CSV.open(newline="") as file:
        return {(row["detector"], row["scene"]): row for row in csv.DictReader(file)}


if __name__ == "__main__":
    main()
