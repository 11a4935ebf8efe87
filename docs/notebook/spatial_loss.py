"""What living costs a channel of F_spa, what it pays, and whether F_spa depends on the scene: spatial_loss.csv.

    python docs/notebook/spatial_loss.py PATCHES SPE_FEN [NAME=SPA_FEN ...]

PATCHES holds train/<sensor>/*.npy of 64 x 64 px, SPE_FEN is the teacher. One batch of 64 patches (seed 0) is looked at.
An unrelated field is what a student that has learnt nothing can give: the sum of random maps of 1, 2 x 2 and 4 x 4 knots,
resized as LightSPP does, drawn without a look at the patch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import interpolate

from fers.datasets.patches import BackgroundPatches
from fers.fast.deploy import deploy
from fers.networks import SpaFEN, SpeFEN, load_checkpoint
from fers.networks.spa_fen import varying_channels
from train_FERS import losses

BATCH = 64


@torch.no_grad()
def main() -> None:
    """Write spatial_loss.csv beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patches", type=Path)
    parser.add_argument("spe_fen", type=Path)
    parser.add_argument("spa_fens", nargs="*", metavar="NAME=FILE")
    parser.add_argument("--sensor", default="aviris")
    options = parser.parse_args()
    spe_fen, info = load_checkpoint(options.spe_fen)
    assert isinstance(spe_fen, SpeFEN)
    patches = BackgroundPatches(options.patches, options.sensor, info.bands, 0, "refuse")
    chosen = np.random.RandomState(0).permutation(len(patches))[:BATCH]
    h = torch.stack([torch.as_tensor(patches[int(index)]) for index in chosen])
    rows: list[tuple[str, str, float]] = [
        ("any", "contrast of H: standard deviation over space", float(h.std((2, 3)).mean()))
    ]
    features = deploy(spe_fen)
    f_spe = torch.cat([features(patch[None]) for patch in h])

    generator = torch.Generator().manual_seed(1)
    knots = (torch.randn(BATCH, info.bands, n, n, generator=generator) for n in (1, 2, 4))
    field = torch.stack([interpolate(k, h.shape[2:], mode="bilinear", align_corners=False) for k in knots]).sum(0)
    for batch in (8, 16, 64):
        costs = [losses.l_cc(*parts) for parts in zip(f_spe.split(batch), field.split(batch), strict=True)]
        rows.append(
            (f"an unrelated field, batches of {batch}", "L_cc a channel", float(sum(costs)) / len(costs) / info.bands)
        )
    rows.append(("any", "most that L_var pays a channel", 0.1 / info.bands))
    named: list[tuple[str, SpaFEN]] = [
        (f"untrained, frozen seed {seed}", SpaFEN(info.bands, f"random:{seed}").eval()) for seed in (0, 1, 2)
    ]
    for text in options.spa_fens:
        name, _, path = text.partition("=")
        spa_fen, about = load_checkpoint(path, bands=info.bands)
        assert isinstance(spa_fen, SpaFEN)
        named.append((f"{name}, {about.steps} steps", spa_fen))
    for name, spa_fen in named:
        f_spa = spa_fen(h)
        live = max(int(varying_channels(f_spa).any(0).sum()), 1)
        over_space = f_spa.flatten(2).var(2).mean(0)
        rows += [
            (name, "live channels", int(varying_channels(f_spa).any(0).sum())),
            (name, "contrast of H_3c: standard deviation over space", float(spa_fen.compression(h).std((2, 3)).mean())),
            (name, "variance over space", float(over_space.sum())),
            (name, "variance between patches at a place", float(f_spa.var(0).mean((1, 2)).sum())),
            (name, "L_cc a live channel, batches of 16", float(losses.l_cc(f_spe[:16], f_spa[:16])) / live),
            (name, "what L_var pays a live channel", 0.1 * float(over_space.clamp(max=1).sum()) / info.bands / live),
            (name, "weighted L1 of a live channel", 0.1 * float(f_spa.abs().mean()) / live),
        ]
    table = pd.DataFrame(rows, columns=["F_spa", "what", "value"])
    table.to_csv(Path(__file__).with_suffix(".csv"), index=False, float_format="%.4g", lineterminator="\n")
    print(table.to_string())


if __name__ == "__main__":
    main()
