"""Stage 2: its networks with the total loss, and the cache of the frozen teacher's features."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset

from fers.datasets.archive import require_room
from fers.networks import SpaFEN
from fers.networks.spa_fen import feature_figures
from fers.scenes.readers.base import free_memory
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
        teacher: The frozen Spe-FEN, where F_spe is not cached.
    """

    number = 2
    checkpoint = "spa_fen.safetensors"

    def __init__(
        self,
        spa_fen: SpaFEN,
        frn: nn.Module,
        recipe: Recipe = PAPER,
        losses: Sequence[str] = STAGE2_TERMS,
        teacher: nn.Module | None = None,
    ):
        super().__init__(losses)
        self.spa_fen = spa_fen
        self.frn = frn
        self.recipe = recipe
        self.teacher = teacher

    @property
    def branch(self) -> SpaFEN:
        """Spa-FEN."""
        return self.spa_fen

    def fixed_layers(self) -> list[nn.Module]:
        """Return the teacher, and the ResNet-34 unless the statistics of its batch norms adapt."""
        fixed: list[nn.Module] = [] if self.recipe.adapt_batch_norm else [self.spa_fen.backbone_layers()]
        return fixed if self.teacher is None else [*fixed, self.teacher]

    def loss(self, h: torch.Tensor, f_spe: torch.Tensor | None = None) -> tuple[torch.Tensor, Terms]:
        """Compute the total loss (eqs. 10, 11, 16) and its terms (eqs. 12-16), in float32 at any precision.

        Args:
            h: A batch of patches, ``(N, C, H, W)``.
            f_spe: Their F_spe, of the same shape; None to ask the teacher.
        """
        if f_spe is None:
            assert self.teacher is not None
            with torch.no_grad(), torch.autocast(h.device.type, enabled=False):  # as it would be cached
                f_spe = self.teacher(h)
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
        patches: H of every patch, ``(C, H, W)``.
        f_spe: F_spe of every patch, ``(patches, C, H, W)``, an array or a memory map.
    """

    def __init__(self, patches: Patches, f_spe: np.ndarray):
        self.patches, self.f_spe = patches, f_spe

    def __len__(self) -> int:
        return len(self.f_spe)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.patches[index]
        assert isinstance(h, torch.Tensor)
        return h, torch.from_numpy(np.array(self.f_spe[index]))


def cache_features(
    spe_fen: nn.Module, patches: Patches, batch_size: int, accelerator: Accelerator, path: Path
) -> CachedFeatures:
    """Compute F_spe of every patch once, and print what that saves.

    It is kept in memory, in float32, if this is the only process and it takes at most a quarter of the free memory.
    Otherwise it is kept in a file that all processes map.

    Args:
        spe_fen: The teacher, in eval mode.
        patches: The fixed patches.
        batch_size: Patches at a time.
        accelerator: Accelerator of this process.
        path: The file to map, ``.npy``, on a disk that every machine of the run sees.

    Raises:
        FersError: The disk has no room for the file.
    """
    first = patches[0]
    assert isinstance(first, torch.Tensor)
    shape = (len(patches), *first.shape)
    size = 4 * int(np.prod(shape))
    in_memory = accelerator.num_processes == 1 and size <= _CACHE_SHARE * free_memory()
    began = time.perf_counter()
    if in_memory:
        f_spe = np.empty(shape, dtype=np.float32)
        _fill_cache(f_spe, spe_fen, patches, batch_size, accelerator.device)
    else:
        if accelerator.is_main_process:
            path.unlink(missing_ok=True)  # that of a run that was killed
            require_room(path.parent, size, "choose another --save_dir, or compute F_spe in every step with --no_cache")
            with atomic_path(path) as temporary:
                mapped = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
                _fill_cache(mapped, spe_fen, patches, batch_size, accelerator.device)
                mapped.flush()
                del mapped
        accelerator.wait_for_everyone()
        f_spe = np.load(path, mmap_mode="r")
    where = "in memory" if in_memory else f"in {path}"
    accelerator.print(
        f"F_spe of {len(patches)} patches cached {where}, {size / 1e6:.0f} MB; it took {time.perf_counter() - began:.1f} s, "
        "which every epoch after the first saves"
    )
    return CachedFeatures(patches, f_spe)


@torch.no_grad()
def _fill_cache(out: np.ndarray, spe_fen: nn.Module, patches: Patches, batch_size: int, device: torch.device) -> None:
    spe_fen.to(device)
    start = 0
    for h in DataLoader(patches, batch_size):  # type: ignore[arg-type]  # any sequence will do
        out[start : start + len(h)] = spe_fen(h.to(device)).cpu().numpy()
        start += len(h)
    spe_fen.cpu()
