"""Train Stage 2 (FERS): a Spa-FEN that differs from the frozen Spe-FEN of Stage 1.

One process, CPU or GPU:

    cd train_FERS && python train.py --input_channel 50 --data_path ../data/HAD100Dataset

All GPUs of a machine, then two machines of four GPUs each (run on both, NODE = 0 and 1; --save_dir on a shared disk):

    torchrun --nproc_per_node gpu train.py --precision bf16
    torchrun --nnodes 2 --nproc_per_node 4 --node_rank NODE --master_addr HOST --master_port 29500 train.py --save_dir /disk/run1

--batch_size is shared by all processes: 16 on one GPU and 16 on eight are the same training. L_cc and L_var are computed over
the whole batch, and so are the statistics of batch norms on GPUs (SyncBatchNorm). Processes on CPUs use batch-norm statistics
of their own share.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fers.training.launch import launch
from fers.training.options import TrainOptions, add_train_options, loss_option
from fers.training.recipe import STAGE2_TERMS
from fers.util.checkout import run_script
from fers.util.commandline import Parser
from fers.util.options import option, read_options

if TYPE_CHECKING:
    from accelerate import Accelerator

    from fers.networks import CheckpointInfo
    from fers.training.loop import Patches


@dataclass(frozen=True)
class Stage2Options(TrainOptions):
    """Options of Stage 2."""

    losses: tuple[str, ...] = loss_option(*STAGE2_TERMS)
    spe_fen: Path | None = option(
        None, "Stage 1's checkpoint (default: spe_fen.safetensors in --checkpoint_dir)", type=Path, group="method"
    )
    no_cache: bool = option(False, "compute F_spe in every step, instead of once for memory or disk", group="training")


def parser() -> argparse.ArgumentParser:
    """Make the command line's parser."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_train_options(parser, Stage2Options)
    return parser


def train(given: argparse.Namespace, accelerator: Accelerator) -> None:
    """Train Stage 2 as the command line says."""
    # imported here, so that --help does not wait for PyTorch
    from fers.networks import CheckpointError, SpaFEN, SpeFEN, load_checkpoint
    from fers.networks.checkpoint import read_info
    from fers.training.run import TrainRun, places, scene_scorer
    from fers.util.files import sha256_of
    from train_FERS.network import FRN
    from train_FERS.stage import Stage2, cache_features

    options = read_options(Stage2Options, given)
    _, checkpoint = places(options, Stage2)
    path = options.spe_fen or checkpoint.with_name("spe_fen.safetensors")
    if not path.is_file():
        raise CheckpointError(
            f"{path}: does not exist; Stage 2 needs a Spe-FEN as its teacher. Train Stage 1 first (python train.py --stage all does both), or "
            "name one with --spe_fen."
        )
    spe_fen, teacher = load_checkpoint(path, bands=options.input_channel)
    if not isinstance(spe_fen, SpeFEN):
        raise CheckpointError(f"{path}: holds a {teacher.branch}, not a spe_fen. Name a Spe-FEN with --spe_fen.")
    spe_fen.requires_grad_(False)
    sha256 = sha256_of(path)
    # F_spe of other batches may differ in the last bit, so a run keeps to its way
    run = TrainRun(options, Stage2, accelerator, spe_fen=sha256, **({"no_cache": True} if options.no_cache else {}))
    if run.finished():
        return
    run.describe("Stage 2 (FERS)")

    bands, recipe = options.input_channel, run.recipe
    spa_fen = SpaFEN(bands, options.backbone, options.seed, adapt_batch_norm=recipe.adapt_batch_norm)
    teacher_in_step = spe_fen if options.no_cache else None
    stage = Stage2(spa_fen, FRN(bands, options.seed), recipe, options.losses, teacher_in_step)
    scorer = scene_scorer(options, {"spe_fen": spe_fen, "spa_fen": spa_fen}, "fused", accelerator.device)
    cache_file = run.folder.path / "f_spe_cache.npy"
    data: Patches = run.patches
    if not options.no_cache:
        data = cache_features(spe_fen, run.patches, options.batch_size, accelerator, cache_file)
    spe_fen.to(accelerator.device)
    origin = f"; Spe-FEN {sha256[:12]} ({teacher.recipe} recipe, {teacher.origin})"
    run.train(stage, data, scorer, origin, teacher=spe_fen.fingerprint())
    if accelerator.is_main_process:
        cache_file.unlink(missing_ok=True)
        print(_verdict(read_info(run.checkpoint)))


def _verdict(info: CheckpointInfo) -> str:
    """Say what became of F_spa, with a warning where it is dead."""
    from fers.networks.info import DEAD_SPA_FEN

    figures = info.metrics
    told = (
        f"F_spa on the last batch: {figures['live_channels']:.0f} of {info.bands} channels vary over space; energy "
        f"{figures['spa_energy']:.3g} (F_spe {figures['spe_energy']:.3g}), spatial energy "
        f"{figures['spa_spatial_energy']:.3g} (F_spe {figures['spe_spatial_energy']:.3g})."
    )
    return told if figures["live_channels"] else f"{told}\nWARNING: {DEAD_SPA_FEN}"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    return launch(train, parser().parse_args(arguments))


if __name__ == "__main__":  # through train.py, which finds all packages from any folder
    sys.exit(run_script("train_FERS/train.py", "train.py", ["--stage", "2", *sys.argv[1:]]))
