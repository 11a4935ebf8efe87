"""AUC and seconds of the classical detectors on the ABU scenes, each with its default windows: two Markdown tables.

Run from the repository's root: ``PYTHONPATH=$PWD python docs/notebook/classical.py data/ABU``. No ground truth is
used but for the AUC.
"""

from __future__ import annotations

import argparse
import time

import torch

from data import abu, normalise
from detectors import KRX, LRXPC, make_detector
from evaluation.metrics import auc

BANDS = 200
DETECTORS = {name: make_detector(name) for name in ("RX", "LRX", "KRX", "CRD", "2S-GLRT", "LRX-PC")}
VARIANTS = {
    "KRX, rtol 1e-2": KRX(rtol=1e-2),
    "KRX, rtol 1e-8": KRX(rtol=1e-8),
    "KRX, seed 1": KRX(seed=1),
    "LRX-PC, 9, 21": LRXPC(9, 21),
    "LRX-PC, 15, 35": LRXPC(15, 35),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_path", help="folder of abu-*.mat")
    torch.set_num_threads(1)
    scenes = abu.test_scenes(parser.parse_args().data_path, names="all")
    for detectors in (DETECTORS, VARIANTS):
        print("| scene |", " | ".join(detectors), "|", flush=True)
        print("| --- |" + " --- |" * len(detectors), flush=True)
        rows = []
        for labelled in scenes:
            scene, mask = labelled.load()
            h = torch.from_numpy(normalise(scene, BANDS)).permute(2, 0, 1)[None]
            row = []
            for detector in detectors.values():
                start = time.perf_counter()
                score = detector(h)[0].numpy()
                row.append((auc(score, mask), time.perf_counter() - start))
            rows.append(row)
            print(f"| {labelled.name} |", " | ".join(f"{a:.4f}, {s:.1f} s" for a, s in row), "|", flush=True)
        means = torch.tensor(rows).mean(0)
        print("| mean |", " | ".join(f"{a:.4f}, {s:.1f} s" for a, s in means), "|", flush=True)


if __name__ == "__main__":
    main()
