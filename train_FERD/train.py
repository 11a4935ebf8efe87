"""Train Stage 1 (FERD) and keep its Spe-FEN.

One process, CPU or GPU:

    cd train_FERD && python train.py --input_channel 50 --data_path ../data/HAD100Dataset

All GPUs of a machine, then two machines of four GPUs each (run on both, NODE = 0 and 1; --save_dir on a shared disk):

    torchrun --nproc_per_node gpu train.py --precision bf16
    torchrun --nnodes 2 --nproc_per_node 4 --node_rank NODE --master_addr HOST --master_port 29500 train.py --save_dir /disk/run1

--batch_size is shared by all processes: 16 on one GPU and 16 on eight are the same training. On GPUs batch norms use the
statistics of the whole batch (SyncBatchNorm); processes on CPUs use those of their own share.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from data import SceneError
from detectors import rx
from evaluation.metrics import auc
from fast.training import fold_batch_norms
from models import CheckpointInfo, SpeFEN, save_checkpoint
from models.backbones import state_hash
from models.checkpoint import git_revision
from train_FERD.losses import WEIGHTS, l_mse, l_sim, l_zcl
from train_FERD.network import FERD, Outputs
from training.loop import Task, fit, make_accelerator
from training.options import Run, add_train_options, backbone_name, publish, run_script, test_auc
from training.recipe import PAPER, Recipe

PRODUCT = "spe_fen.safetensors"
_HALVINGS = 8  # a padded patch is halved three times


class Stage1(Task):
    """Stage 1's network and loss, ``L = L_sim + 0.1 L_mse + 0.1 L_Z`` (eqs. 1-3).

    Args:
        network: The FERD.
        recipe: See ``training.recipe``.
        losses: The terms in force; the others are logged and train nothing.
    """

    frozen = ("network.spe_fen.backbone.", "network.deeper.")

    def __init__(self, network: FERD, recipe: Recipe = PAPER, losses: tuple[str, ...] = tuple(WEIGHTS)):
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.weights = {name: weight if name in losses else 0.0 for name, weight in WEIGHTS.items()}

    def forward(self, h: torch.Tensor) -> dict[str, torch.Tensor]:
        """Loss terms of a batch of patches, ``(N, C, H, W)``."""
        return self.terms(h, self.network(h))

    def terms(self, h: torch.Tensor, outputs: Outputs) -> dict[str, torch.Tensor]:
        """The terms, in float32 whatever the networks compute in."""
        with torch.autocast(h.device.type, enabled=False):
            return {
                "sim": l_sim([f.float() for f in outputs.encoder], [g.float() for g in outputs.decoder], self.recipe),
                "mse": l_mse(outputs.h_rec.float(), h),
                "zcl": l_zcl(outputs.logits.float(), self.recipe),
            }


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path:
    """Train as the options say; returns the checkpoint written."""
    run = Run.from_options(options, stage=1, device=accelerator.device)
    if any(side % _HALVINGS for side in run.patches.size):
        raise SceneError(
            f"{run.patches.folder}: patches of {run.patches.size[0]} x {run.patches.size[1]} px; Stage 1 needs sides that are "
            f"multiples of {_HALVINGS}. Cut them again with data.patches."
        )
    run.describe(accelerator, "Stage 1 (FERD)")

    task = Stage1(FERD(options.input_channel, options.backbone, options.seed), run.recipe, options.losses)
    spe_fen = task.network.spe_fen
    frozen = spe_fen.backbone.state_dict()
    backbone, frozen_hash = backbone_name(options.backbone), state_hash(frozen)
    fold_batch_norms(spe_fen.backbone)
    fold_batch_norms(task.network.deeper)
    product = run.settings.save_dir / PRODUCT

    def save(epoch: int, metrics: dict[str, float]) -> None:
        info = CheckpointInfo(
            branch="spe_fen",
            bands=options.input_channel,
            sensor=options.sensor,
            recipe=run.recipe.name,
            backbone=backbone,
            backbone_sha256=frozen_hash,
            seed=options.seed,
            epoch=epoch,
            selection=options.select,
            origin=run.origin(),
            git_revision=git_revision(),
            metrics=metrics,
        )
        save_checkpoint(spe_fen, product, info)

    score = None
    if options.select == "test-auc":
        score = test_auc(options, lambda h: rx(h + spe_fen(h)), auc, accelerator.device)
    fit(task, *run.subsets(), run.settings, accelerator, save, score)

    if accelerator.is_main_process:
        kept = {key: value.cpu() for key, value in frozen.items()} if backbone.startswith("file:") else None
        print(f"wrote {publish(product, run.checkpoint_dir, SpeFEN.ARCHITECTURE, kept)}")
    accelerator.wait_for_everyone()
    return run.checkpoint_dir / PRODUCT


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_train_options(parser, WEIGHTS)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = parser().parse_args(arguments)
    return run_script(lambda: train(options, make_accelerator(options.precision, options.cpu)))


if __name__ == "__main__":
    sys.exit(main())
