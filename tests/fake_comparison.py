"""A comparison that nothing was run for: scores are noise, brighter at the anomalies."""

from __future__ import annotations

import numpy as np

from fers.comparison.result import ComparedScene, CompareResult
from fers.evaluation.metrics import MEASURES, scene_measures


def fake_comparison(
    detectors=("RX", "CRD", "fusion C"), scenes=3, seeds=(0,), side=30, missing=(), left_out=False, **provenance
):
    """A result; ``missing`` lists (detector, scene) without a value. Scenes are s1, s2, ...; the first two share a group."""
    rng = np.random.RandomState(0)
    rows, maps, found = [], {}, {}
    for j in range(scenes):
        name = f"s{j + 1}"
        truth = np.zeros((side, side + 4), bool)
        truth[5:7, 5:8] = truth[15, 20] = truth[16, 21] = True
        out = np.zeros_like(truth)
        out[-3:] = left_out
        picture = rng.randint(0, 255, size=(*truth.shape, 3)).astype(np.uint8)
        group = "shared" if j < 2 else ""
        known = f"airport-{j + 1}"
        found[name] = ComparedScene(
            name, "AVIRIS", group, f"print-{j}", known, truth, out if left_out else None, picture
        )
        for i, detector in enumerate(detectors):
            for seed in seeds:
                keys = {"detector": detector, "setting": "original", "label": detector, "scene": name, "seed": seed}
                if (detector, name) in missing:
                    costs = dict.fromkeys(("seconds", "cpu_seconds", "peak_mb"))
                    rows.append({**keys, **dict.fromkeys(MEASURES), **costs, "note": "more than 20 <columns>. Cut it."})
                    continue
                score = rng.gamma(2, size=truth.shape) + (1 + i % 4 + rng.uniform()) * truth
                score[out] = np.nan
                seconds = 0.01 * 3.0**i
                costs = {"seconds": seconds, "cpu_seconds": 0.9 * seconds, "peak_mb": None}
                rows.append({**keys, **scene_measures(score, truth, out if left_out else None), **costs, "note": ""})
                maps[detector, name, seed] = score
    about = {"version": "0.3.0", "command": "fers compare --scenes x", "data": "0123456789abcdef", "loaded": False}
    return CompareResult(rows, maps, found, ["A caveat with <b> & 5 %."], {**about, **provenance})
