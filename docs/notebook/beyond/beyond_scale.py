"""Do the windows of fusion C fit objects of twice the size? Scenes enlarged twice, bilinearly; the untrained network.

Frozen record: it ran at commit 1d0dd8c, whose tree it needs.

python docs/notebook/beyond_scale.py FOLDER-OF-SCENES scene scene ...
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data.normalise import normalise
from data.scene import read_mask, read_scene
from detection.fusion_c import LOCAL_RANK, Components, global_log_distance, local_log_distance
from detectors import RX
from evaluation.metrics import auc

from models import SpeFEN

WINDOWS = {
    "5-15-35": ((5, 15), (15, 35)),
    "5-15-35-75": ((5, 15), (15, 35), (35, 75)),
    "11-27, 25-55": ((11, 27), (25, 55)),
    "7-19, 21-47": ((7, 19), (21, 47)),
}


@torch.no_grad()
def main(folder: Path, names: list[str]) -> None:
    """Print the mean AUC of each set of windows, and of the largest instead of the mean over windows."""
    network, rx = SpeFEN(200, "random").eval(), RX()
    found: dict[str, list[float]] = {}
    for name in names:
        scene = read_scene(folder / f"{name}.mat")
        mask = read_mask(folder / f"{name}.mat", shape=scene.cube.shape[:2])
        h = torch.from_numpy(normalise(scene, 200)).permute(2, 0, 1)[None]
        h = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
        large = torch.from_numpy(mask.astype(np.float32))[None, None]
        mask = F.interpolate(large, scale_factor=2, mode="bilinear", align_corners=False)[0, 0].numpy() > 0.5
        z = Components.of(h[0])(h[0])
        both = (rx(h + network(h))[0].log() + global_log_distance(z)) / 2
        for label, windows in WINDOWS.items():
            local = torch.stack([local_log_distance(z[:LOCAL_RANK], (window,)) for window in windows])
            for how, joined in (("mean", local.mean(0)), ("largest", local.amax(0))):
                found.setdefault(f"{label}, {how}", []).append(auc((both + joined).numpy(), mask) or np.nan)
    for label, values in found.items():
        print(f"{label:24s} mean {np.mean(values):.4f}  worst {min(values):.4f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
