r"""Energies of F_spa, and the scores of H + F_spe + a F_spa for several factors a: what a Spa-FEN adds to a Spe-FEN.

    python -m experiments.spatial_features checkpoints/aviris_200_released/spe_fen.safetensors \
        114-steps=spa_fen.safetensors --abu data/ABU --scenes airport-3,airport-4 --factors 0.1,1 --ae airport-3,airport-4

writes one row a Spa-FEN, scene, factor and measure to experiments/results/spatial_features.csv; rows that are there already
are not made again. Checkpoints of one run may share a name: ``steps`` tells them apart, 0 where it is not known. Factor 0 is
the spectral branch without any Spa-FEN, named ``none``. The measures:

    spa_energy, ..., live_channels   of F_spa itself, as ``fers.networks.spa_fen.feature_figures`` has them
    rank                             of H + a F_spa in float32, as the RX of the released fusion A sees it
    fusion_b                         AUC of RX on H + F_spe + a F_spa; with a = 0 the spectral branch
    fusion_a, fusion_a_released      AUC of fusion A by the equations, and as released
    ae_last, ae_best                 AUC of AE on H + F_spe + a F_spa: the last iteration, and the one that the truth chooses

The truth of the scenes has a part in ``ae_best`` only. Nothing here chooses a Spa-FEN.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from experiments import RESULTS
from fers.datasets import abu
from fers.detectors.ae import AE
from fers.detectors.base import Detector, product
from fers.detectors.rx import RX
from fers.evaluation.metrics import auc
from fers.evaluation.tables import markdown
from fers.fast.deploy import deploy
from fers.networks import SpaFEN, SpeFEN, load_checkpoint
from fers.networks.spa_fen import feature_figures
from fers.scenes.normalise import normalise
from fers.util.commandline import Parser, run
from fers.util.errors import FersError
from fers.util.files import atomic_path

_KEY = ["bands", "spa_fen", "steps", "scene", "factor", "what"]
COLUMNS = [*_KEY, "teacher", "value"]


_TABLE = {  # measure: its head in the documents, and its digits
    "factor": ("a", "g"),
    "live_channels": ("live channels", ".0f"),
    "energy_ratio": ("energy of F_spa / F_spe", ".3f"),
    "rank": ("rank of H + a F_spa in float32", ".0f"),
    "fusion_b": ("RX, fusion B", ".4f"),
    "fusion_a": ("RX, fusion A, equations", ".4f"),
    "fusion_a_released": ("RX, fusion A, as released", ".4f"),
    "ae_last": ("AE, last", ".4f"),
    "ae_best": ("AE, best by the truth", ".4f"),
}
TAUGHT = ["airport-3", "airport-4"]  # scenes of the curve
LEFT_OUT = ["urban-1", "urban-2", "urban-4", "beach-2"]  # neither the paper's nor among the training patches


def spatial_scale() -> str:
    """Render what a share of F_spa does at 200 bands, a scene and a factor a line; a = 0 is the spectral branch."""
    numbers = _side_by_side(pd.read_csv(RESULTS / "spatial_features.csv").query("bands == 200 and steps in (0, 114)"))
    lines = numbers[numbers.scene.isin(TAUGHT)].sort_values(["scene", "factor"])
    return _markdown(lines, ["scene"])


def spatial_means() -> str:
    """Render the means of ``spatial_scale`` over the paper's six scenes."""
    numbers = _side_by_side(pd.read_csv(RESULTS / "spatial_features.csv").query("bands == 200 and steps in (0, 114)"))
    means = (
        numbers[numbers.scene.isin(abu.TABLE_SCENES.split(","))]
        .groupby("factor")[["rank", "fusion_b", "fusion_a", "fusion_a_released"]]
        .mean()
        .reset_index()
    )
    return _markdown(means, [])


def spatial_steps() -> str:
    """Render F_spa against the steps of training, mean over two scenes; 0 steps are the spectral branch."""
    return _by_steps(TAUGHT)


def spatial_left_out() -> str:
    """Render the same over the scenes that no choice saw, at the steps that were scored there."""
    return _by_steps(LEFT_OUT)


RENDERED: dict[str, Callable[[], str]] = {
    each.__name__: each for each in (spatial_scale, spatial_means, spatial_steps, spatial_left_out)
}


def _by_steps(scenes: list[str]) -> str:
    frame = pd.read_csv(RESULTS / "spatial_features.csv")
    numbers = _side_by_side(frame[frame.scene.isin(scenes) & frame.factor.isin([0, 1]) & (frame.steps != 114)])
    groups = numbers.drop(columns=["scene", "factor"]).groupby(["bands", "spa_fen", "steps"])
    means = groups.agg(lambda values: values.mean(skipna=False)).reset_index()
    order = means.assign(first=means.spa_fen != "none").sort_values(["bands", "first", "spa_fen", "steps"])
    return _markdown(order.drop(columns="first"), ["bands", "spa_fen", "steps"])


def _side_by_side(frame: pd.DataFrame) -> pd.DataFrame:
    """Bring the measures side by side, with the ratio of the energies."""
    wide = frame.pivot_table("value", _KEY[:-1], "what").reset_index()
    return wide.assign(energy_ratio=wide.spa_energy / wide.spe_energy) if "spa_energy" in wide else wide


def _markdown(frame: pd.DataFrame, first: list[str]) -> str:
    shown = frame[[name for name in first if name not in _TABLE]].astype(str).rename(columns={"spa_fen": "run"})
    for key, (head, digits) in _TABLE.items():
        if key in frame:
            shown[head] = [f"{value:{digits}}".replace("nan", "-") for value in frame[key]]
    return markdown(list(shown), shown.to_numpy().tolist())


def _parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spe_fen", type=Path, help="the Spe-FEN in use")
    parser.add_argument("spa_fens", nargs="+", metavar="NAME=FILE", help="Spa-FENs for as many bands")
    parser.add_argument("--abu", type=Path, required=True, help="folder of the ABU scenes")
    parser.add_argument("--scenes", default="paper", help="which of them (default: %(default)s)")
    parser.add_argument("--factors", default="1", help="factors of F_spa, with commas (default: %(default)s)")
    parser.add_argument("--ae", default="", help="scenes on which AE runs too, with commas")
    parser.add_argument("--out", type=Path, default=RESULTS / "spatial_features.csv", help="default: %(default)s")
    return parser


@torch.no_grad()
def scene_rows(
    h: torch.Tensor, truth: np.ndarray, f_spe: torch.Tensor, f_spa: torch.Tensor, factor: float, with_ae: bool
) -> Iterator[tuple[str, float]]:
    """Yield the measures of a scene for one factor, by name.

    Args:
        h: ``(1, C, H, W)``.
        truth: ``(H, W)`` bool.
        f_spe, f_spa: Of ``h``'s shape.
        factor: a.
        with_ae: Train AE as well.
    """
    spatial, spectral, fused = h + factor * f_spa, h + f_spe, h + f_spe + factor * f_spa
    yield "rank", float(torch.linalg.matrix_rank(torch.cov(spatial[0].flatten(1)), hermitian=True))
    measured = partial(_auc, truth)
    yield "fusion_b", measured(RX()(fused))
    detectors: dict[str, Detector] = {"fusion_a": RX(), "fusion_a_released": RX(solver="released")}
    for name, detector in detectors.items():
        yield name, measured(product([detector(spatial), detector(spectral)]))
    if with_ae:
        with torch.enable_grad():
            steps = [measured(score) for score in AE(seed=0).steps(fused)]
        yield "ae_last", steps[-1]
        yield "ae_best", max(steps)


def _auc(truth: np.ndarray, score: torch.Tensor) -> float:
    value = auc(score[0].numpy(), truth)
    assert value is not None  # every ABU scene has both classes
    return value


def _named(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if not equals:
        raise FersError(f"{text}: give NAME=FILE, such as 114-steps=spa_fen.safetensors.")
    return name, Path(file)


def _main(options: argparse.Namespace) -> None:
    spe_fen, about = load_checkpoint(options.spe_fen)
    if not isinstance(spe_fen, SpeFEN):
        raise FersError(f"{options.spe_fen}: holds a {about.branch}. Give a Spe-FEN first.")
    factors = [float(factor) for factor in options.factors.split(",")]
    table = pd.read_csv(options.out) if options.out.is_file() else pd.DataFrame(columns=COLUMNS)
    there = {tuple(key) for key in table[_KEY].itertuples(index=False)}
    teacher, features = spe_fen.fingerprint(), deploy(spe_fen)
    scenes = []
    for labelled in abu.scenes(options.abu, names=options.scenes):
        scene, truth = labelled.load()
        h = torch.from_numpy(normalise(scene, spe_fen.bands)).permute(2, 0, 1)[None].contiguous()
        scenes.append((labelled.name, truth, h, features(h)))
    for text in options.spa_fens:
        name, path = _named(text)
        spa_fen, info = load_checkpoint(path, bands=spe_fen.bands)
        if not isinstance(spa_fen, SpaFEN):
            raise FersError(f"{path}: holds a {info.branch}. Give a Spa-FEN.")
        taught = "not told" if not info.teacher else "this Spe-FEN" if info.teacher == teacher else "another Spe-FEN"
        for scene_name, truth, h, f_spe in scenes:
            f_spa = deploy(spa_fen)(h)
            figures = {key: float(value) for key, value in feature_figures(f_spe, f_spa).items()}
            for factor in factors:
                label, steps, by = (name, info.steps or 0, taught) if factor else ("none", 0, "")
                key = (spe_fen.bands, label, steps, scene_name, factor)
                with_ae = scene_name in options.ae.split(",")
                if (*key, "ae_last" if with_ae else "fusion_b") in there:
                    continue
                measured = dict(scene_rows(h, truth, f_spe, f_spa, factor, with_ae)) | (figures if factor == 1 else {})
                rows = [(*key, what, by, round(value, 6)) for what, value in measured.items()]
                table = pd.concat([table, pd.DataFrame(rows, columns=COLUMNS)]).drop_duplicates(_KEY, keep="last")
                there |= {(*key, what) for what in measured}
                with atomic_path(options.out) as temporary:
                    table.to_csv(temporary, index=False, lineterminator="\n")
                print(*key, {what: round(v, 4) for what, v in measured.items()}, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    return run(lambda: _main(options), how_to_resume="run the same command again")


if __name__ == "__main__":
    sys.exit(main())
