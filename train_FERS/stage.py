"""Stage 2: its networks with the total loss, and the cache of the frozen teacher's features."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset

from fers.networks import SpaFEN
from fers.networks.spa_fen import feature_figures
from fers.training.loop import Patches
from fers.training.recipe import PAPER, STAGE2_TERMS, Recipe
from fers.training.stage import Stage, Terms, gather_batch
from fers.util.files import atomic_path
from train_FERS import losses

_CACHE_SHARE = 0.25  # of the free memory: the cache is kept in memory up to this size


class Stage2(Stage):
    """Stage 2's networks and loss, ``L = L_cc + 0.1 L_cos + 0.1 L_var + 1.0 (L_mse + 0.01 L_SSIM)`` (eqs. 10, 11, 16).

    Args:
        spa_fen: The student.
        frn: Network that decodes H from F_spe + F_spa.
        recipe: See ``fers.training.recipe``.
        losses: The terms in force; the others are only logged.
    """

    number = 2
    checkpoint = "spa_fen.safetensors"

    def __init__(self, spa_fen: SpaFEN, frn: nn.Module, recipe: Recipe = PAPER, losses: Sequence[str] = STAGE2_TERMS):
        super().__init__(losses)
        self.spa_fen = spa_fen
        self.frn = frn
        self.recipe = recipe

    @property
    def branch(self) -> SpaFEN:
        """Spa-FEN."""
        return self.spa_fen

    def fixed_layers(self) -> list[nn.Module]:
        """Return the ResNet-34, unless the statistics of its batch norms adapt."""
        return [] if self.recipe.adapt_batch_norm else [self.spa_fen.backbone_layers()]

    def loss(self, h: torch.Tensor, f_spe: torch.Tensor) -> tuple[torch.Tensor, Terms]:
        """Compute the total loss (eqs. 10, 11, 16) and its terms (eqs. 12-16), in float32 at any precision.

        Args:
            h: A batch of patches, ``(N, C, H, W)``.
            f_spe: Their F_spe, of the same shape.
        """
        f_spa = self.spa_fen(h)
        h_hat = self.frn(f_spe + f_spa)
        with torch.autocast(h.device.type, enabled=False):
            f_spa, h_hat = f_spa.to(h), h_hat.to(h)
            # cc and var are not means over samples: a share of the batch would give another value than the whole
            all_spe, all_spa = (gather_batch(f_spe), gather_batch(f_spa)) if self.training else (f_spe, f_spa)
            if self.training:
                self.figures = feature_figures(all_spe, all_spa)
            terms = {
                "cc": losses.l_cc(all_spe, all_spa),
                "cos": losses.l_cos(f_spe, f_spa),
                "var": losses.l_var(all_spa),
                "mse": losses.l_mse(h_hat, h),
                "ssim": losses.l_ssim(h_hat, h, self.recipe),
            }
            l_cc, l_cos, l_var, l_mse, l_ssim = self.in_force(terms)
            total = l_cc + 0.1 * l_cos + 0.1 * l_var + l_mse + 0.01 * l_ssim  # eqs. 10 (lambda_recon = 1), 11, 16
        return total, terms


class CachedFeatures(Dataset):
    """Patches with their F_spe, which never changes while Spe-FEN is frozen, so it is computed once.

    Args:
        both: H and F_spe of every patch, ``(patches, 2, C, H, W)``, an array or a memory map.
    """

    def __init__(self, both: np.ndarray):
        self.both = both

    def __len__(self) -> int:
        return len(self.both)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        h, f_spe = torch.from_numpy(np.array(self.both[index]))
        return h, f_spe


def cache_features(
    spe_fen: nn.Module, patches: Patches, batch_size: int, accelerator: Accelerator, path: Path
) -> CachedFeatures:
    """Read every patch and compute its F_spe once, and print what that saves.

    Both are kept in memory if this is the only process and they take at most a quarter of the free memory. Otherwise they
    are kept in a file that all processes map.

    Args:
        spe_fen: The teacher, in eval mode.
        patches: The fixed patches.
        batch_size: Patches at a time.
        accelerator: Accelerator of this process.
        path: The file to map, ``.npy``, on a disk that every machine of the run sees.
    """
    first = patches[0]
    assert isinstance(first, torch.Tensor)
    shape = (len(patches), 2, *first.shape)
    size = 4 * int(np.prod(shape))
    in_memory = accelerator.num_processes == 1 and size <= _CACHE_SHARE * _free_memory()
    began = time.perf_counter()
    if in_memory:
        both = np.empty(shape, dtype=np.float32)
        _fill_cache(both, spe_fen, patches, batch_size, accelerator.device)
    else:
        if accelerator.is_main_process:
            with atomic_path(path) as temporary:
                mapped = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
                _fill_cache(mapped, spe_fen, patches, batch_size, accelerator.device)
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
def _fill_cache(out: np.ndarray, spe_fen: nn.Module, patches: Patches, batch_size: int, device: torch.device) -> None:
    spe_fen.to(device)
    start = 0
    for h in DataLoader(patches, batch_size):  # type: ignore[arg-type]  # any sequence will do
        out[start : start + len(h), 0] = h.numpy()
        out[start : start + len(h), 1] = spe_fen(h.to(device)).cpu().numpy()
        start += len(h)
    spe_fen.cpu()


def _free_memory() -> float:
    """Return the bytes of free memory, as far as this system reports them."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not on every system
        return 4e9
