"""Train Stage 2 (FERS): a Spa-FEN that differs from the frozen Spe-FEN of Stage 1.

One process, CPU or GPU:

    cd train_FERS && python train.py --input_channel 50 --data_path ../data/HAD100Dataset

All GPUs of a machine, then two machines of four GPUs each (run on both, NODE = 0 and 1; --save_dir on a shared disk):

    torchrun --nproc_per_node gpu train.py --precision bf16
    torchrun --nnodes 2 --nproc_per_node 4 --node_rank NODE --master_addr HOST --master_port 29500 train.py --save_dir /disk/run1

--batch_size is shared by all processes: 16 on one GPU and 16 on eight are the same training. L_cc and L_var are statistics
of the batch and are computed over the whole of it; so are those of batch norms on GPUs (SyncBatchNorm), while processes on
CPUs use those of their own share.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from data.files import atomic_path
from detection.views import VIEWS, Features, default_fusion, score, view_name
from detectors import rx
from evaluation.metrics import auc
from fast.training import fold_batch_norms
from models import CheckpointError, CheckpointInfo, SpaFEN, SpeFEN, load_checkpoint, save_checkpoint
from models.backbones import state_hash
from models.checkpoint import file_sha256, git_revision
from train_FERS.losses import WEIGHTS, l_cc, l_cos, l_mse, l_ssim, l_var
from train_FERS.network import FRN
from training.loop import Task, fit, gather_batch, make_accelerator
from training.options import Run, add_train_options, backbone_name, publish, run_script, test_auc
from training.recipe import PAPER, Recipe

PRODUCT = "spa_fen.safetensors"
TEACHER = "spe_fen.safetensors"
_CACHE_SHARE = 0.25  # of the free memory: the cache is kept in memory up to this size


class Stage2(Task):
    """Stage 2's networks and loss, ``L = L_cc + 0.1 L_cos + 0.1 L_var + 1.0 (L_mse + 0.01 L_ssim)`` (eqs. 10-16).

    Args:
        spa_fen: The student.
        frn: Decodes H from F_spe + F_spa.
        recipe: See ``training.recipe``.
        losses: The terms in force; the others are logged and train nothing.
    """

    def __init__(
        self, spa_fen: nn.Module, frn: nn.Module, recipe: Recipe = PAPER, losses: tuple[str, ...] = tuple(WEIGHTS)
    ):
        super().__init__()
        self.spa_fen = spa_fen
        self.frn = frn
        self.recipe = recipe
        self.frozen = () if recipe.adapt_batch_norm else ("spa_fen.backbone.",)
        self.weights = {name: weight if name in losses else 0.0 for name, weight in WEIGHTS.items()}

    def forward(self, h: torch.Tensor, f_spe: torch.Tensor) -> dict[str, torch.Tensor]:
        """Loss terms of a batch of patches and their F_spe, each ``(N, C, H, W)``."""
        f_spa = self.spa_fen(h)
        return self.terms(h, f_spe, f_spa, self.frn(f_spe + f_spa))

    def terms(
        self, h: torch.Tensor, f_spe: torch.Tensor, f_spa: torch.Tensor, h_rec: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The terms, in float32 whatever the networks compute in."""
        with torch.autocast(h.device.type, enabled=False):
            f_spa, h_rec = f_spa.float(), h_rec.float()
            # cc and var are not means over samples: a share of the batch would give another value than the whole
            all_spe, all_spa = (gather_batch(f_spe), gather_batch(f_spa)) if self.training else (f_spe, f_spa)
            return {
                "cc": l_cc(all_spe, all_spa),
                "cos": l_cos(f_spe, f_spa),
                "var": l_var(all_spa),
                "mse": l_mse(h_rec, h),
                "ssim": l_ssim(h_rec, h, self.recipe),
            }


class CachedFeatures(Dataset):
    """Patches with their F_spe, which never changes while Spe-FEN is frozen (SPEC 5), so it is computed once.

    Args:
        both: H and F_spe of every patch, ``(patches, 2, C, H, W)``, an array or a memory map.
    """

    def __init__(self, both: np.ndarray):
        self.both = both

    def __len__(self) -> int:
        return len(self.both)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(np.array(self.both[index])).unbind()


def cache_features(
    spe_fen: SpeFEN, patches: Dataset, batch_size: int, accelerator: Accelerator, path: Path
) -> CachedFeatures:
    """Read every patch and compute its F_spe, once, and say what that saves.

    Both are kept in memory if they take at most a quarter of what is free and this is the only process, else in a file
    that all processes map.

    Args:
        spe_fen: In eval mode.
        patches: The fixed patches.
        batch_size: Patches at a time.
        accelerator: Where to compute.
        path: The file to map, ``.npy``, on a disk that every machine of the run sees.
    """
    shape = (len(patches), 2, *patches[0].shape)
    size = 4 * int(np.prod(shape))
    in_memory = accelerator.num_processes == 1 and size <= _CACHE_SHARE * _free_memory()
    began = time.perf_counter()
    if in_memory:
        both = np.empty(shape, dtype=np.float32)
        _fill(both, spe_fen, patches, batch_size, accelerator.device)
    else:
        if accelerator.is_main_process:
            with atomic_path(path) as temporary:
                mapped = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
                _fill(mapped, spe_fen, patches, batch_size, accelerator.device)
                mapped.flush()
                del mapped
        accelerator.wait_for_everyone()
        both = np.load(path, mmap_mode="r")
    where = "in memory" if in_memory else f"in {path}"
    accelerator.print(
        f"{len(patches)} patches and their F_spe cached {where}, {size / 1e6:.0f} MB; it took {time.perf_counter() - began:.1f} s, "
        "which every epoch after the first saves"
    )
    return CachedFeatures(both)


@torch.no_grad()
def _fill(out: np.ndarray, spe_fen: SpeFEN, patches: Dataset, batch_size: int, device: torch.device) -> None:
    spe_fen.to(device)
    start = 0
    for h in DataLoader(patches, batch_size):
        out[start : start + len(h), 0] = h.numpy()
        out[start : start + len(h), 1] = spe_fen(h.to(device)).cpu().numpy()
        start += len(h)
    spe_fen.cpu()


def _free_memory() -> float:
    """Bytes of memory that are free, as far as this system tells."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not on every system
        return 4e9


def train(options: argparse.Namespace, accelerator: Accelerator) -> Path:
    """Train as the options say; returns the checkpoint written."""
    run = Run.from_options(options, stage=2, device=accelerator.device)
    teacher = options.spe_fen or run.checkpoint_dir / TEACHER
    if not teacher.is_file():
        raise CheckpointError(
            f"{teacher}: no Spe-FEN to be the teacher. Train Stage 1 first (python train.py --stage all does both), or "
            "name one with --spe_fen."
        )
    spe_fen, spe_info = load_checkpoint(teacher, bands=options.input_channel)
    spe_fen.requires_grad_(False)
    run.settings.identity["spe_fen"] = teacher_hash = file_sha256(teacher)
    run.describe(accelerator, "Stage 2 (FERS)")

    bands, recipe = options.input_channel, run.recipe
    spa_fen = SpaFEN(bands, options.backbone, options.seed, adapt_batch_norm=recipe.adapt_batch_norm)
    frozen = {key: value.clone() for key, value in spa_fen.backbone.state_dict().items()}  # before anything adapts
    backbone, frozen_hash = backbone_name(options.backbone), state_hash(frozen)
    task = Stage2(spa_fen, FRN(bands, options.seed), recipe, options.losses)
    if not recipe.adapt_batch_norm:
        fold_batch_norms(spa_fen.backbone)
    product = run.settings.save_dir / PRODUCT
    cache = cache_features(
        spe_fen, run.patches, options.batch_size, accelerator, run.settings.save_dir / "f_spe_cache.npy"
    )

    def save(epoch: int, metrics: dict[str, float]) -> None:
        info = CheckpointInfo(
            branch="spa_fen",
            bands=bands,
            sensor=options.sensor,
            recipe=recipe.name,
            backbone=backbone,
            backbone_sha256=frozen_hash,
            seed=options.seed,
            epoch=epoch,
            selection=options.select,
            origin=f"{run.origin()}; Spe-FEN {teacher_hash[:12]} ({spe_info.recipe} recipe, {spe_info.origin})",
            git_revision=git_revision(),
            metrics=metrics,
        )
        save_checkpoint(spa_fen, product, info)

    scorer = None
    if options.select == "test-auc":
        spe_fen.to(accelerator.device)
        view = VIEWS[view_name("fused", default_fusion("by bands", bands))]
        score_map = lambda h: score(rx, view.cubes(h, Features(spe_fen(h), spa_fen(h))))  # noqa: E731
        scorer = test_auc(options, score_map, auc, accelerator.device)
    fit(task, Subset(cache, run.train), Subset(cache, run.held_out), run.settings, accelerator, save, scorer)

    if accelerator.is_main_process:
        kept = frozen if backbone.startswith("file:") else None
        print(f"wrote {publish(product, run.checkpoint_dir, SpaFEN.ARCHITECTURE, kept)}")
    accelerator.wait_for_everyone()
    return run.checkpoint_dir / PRODUCT


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_train_options(parser, WEIGHTS)
    parser.add_argument("--spe_fen", type=Path, help=f"Stage 1's checkpoint (default: {TEACHER} in --checkpoint_dir)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = parser().parse_args(arguments)
    return run_script(lambda: train(options, make_accelerator(options.precision, options.cpu)))


if __name__ == "__main__":
    sys.exit(main())
