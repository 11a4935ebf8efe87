"""The one training loop: any ``Stage`` on one device or many, resumable, with its curves on disk.

Hugging Face Accelerate places tensors, splits each batch over the processes and averages gradients. A batch of
``batch_size`` patches is the same batch however many processes share it. Statistics of a batch are computed over the whole
batch: stages gather features (``gather_batch``), batch norms become SyncBatchNorm. PyTorch has SyncBatchNorm only for GPUs;
processes on CPUs keep batch-norm statistics of their own share, and the loop says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm

from fers.fast.training import fold_batch_norms, memory_format
from fers.networks import CheckpointInfo, save_checkpoint
from fers.training.options import TrainingError
from fers.training.resume import RunFolder
from fers.training.stage import Stage, batch_statistics

_LOOK_EVERY = {"cpu": 1}  # steps between two reads of the losses, 20 elsewhere: reading them synchronises with the GPU


class Patches(Sized, Protocol):
    """A data set whose items are tensors, or tuples of them: the arguments of a stage's loss, one sample each."""

    def __getitem__(self, index: int, /) -> torch.Tensor | tuple[torch.Tensor, ...]: ...


class Trainer:
    """Training of a stage.

    Args:
        stage: Stage on the CPU; it is trained in place.
        folder: Folder of log, resume file and checkpoint; its ``options`` say how to train.
        accelerator: Result of ``make_accelerator``.
        info: Metadata for the checkpoint of the stage's branch, without epoch and metrics; None writes no checkpoint.
            With it the branch is written after every epoch, or, with ``score``, after each one that is the best so far.
        score: Function that scores the stage in its present state, higher is better. With it the best epoch is kept
            instead of the last.
    """

    def __init__(
        self,
        stage: Stage,
        folder: RunFolder,
        accelerator: Accelerator,
        info: CheckpointInfo | None = None,
        score: Callable[[], float] | None = None,
    ):
        self.stage, self.folder, self.accelerator, self.info, self.score = stage, folder, accelerator, info, score
        self.options = folder.options
        self._layout = memory_format(self.options.input_channel, accelerator.device)

    def fit(self, train: Patches, held_out: Patches | None = None) -> None:
        """Train from the beginning, or from where the run to resume was stopped.

        Args:
            train: Patches to train on.
            held_out: Patches whose loss is only logged; None or empty for none.

        Raises:
            TrainingError: The batch does not fit the data or the processes, the folder holds another run, or the loss
                is not finite.
        """
        stage, options, folder, accelerator = self.stage, self.options, self.folder, self.accelerator
        _check_batch(len(train), options.batch_size, accelerator.num_processes)
        folder.check()
        self._prepare_stage()
        trained = [parameter for parameter in stage.parameters() if parameter.requires_grad]
        fused = accelerator.device.type in ("cpu", "cuda")
        on_gpu = accelerator.device.type == "cuda"
        workers = options.workers if options.workers is not None else 4 if on_gpu else 0
        order = EpochOrder(len(train), options.seed)
        model, optimizer, loader = accelerator.prepare(
            stage,
            torch.optim.Adam(trained, options.lr, options.betas, fused=fused),
            DataLoader(
                train,  # type: ignore[arg-type]  # any sequence will do
                options.batch_size,
                sampler=order,
                drop_last=True,
                num_workers=workers,
                persistent_workers=workers > 0,
                pin_memory=on_gpu,
            ),
        )
        done, best = folder.restore(stage, optimizer, accelerator) if options.resume else (0, -math.inf)
        log = None
        for epoch in range(done + 1, options.epochs + 1):
            order.epoch = epoch
            began = time.perf_counter()
            losses = self._train_epoch(model, loader, optimizer, epoch)
            seconds = time.perf_counter() - began
            _check_weights(stage, epoch, folder.resume_file)  # those of the last step have given no loss yet
            if accelerator.is_main_process:
                log = log or folder.begin(done)
                entry: dict[str, Any] = {
                    "epoch": epoch,
                    "step": epoch * len(loader),
                    **losses,
                    "held_out": self._held_out_losses(held_out),
                    "lr": options.lr,
                    "seconds": round(seconds, 3),
                    "patches_per_second": round(len(loader) * options.batch_size / seconds, 2),
                    "selection": "last",
                }
                if self.score is not None:
                    stage.eval()
                    entry |= {"selection": "test-auc", "test_auc": self.score()}
                if self.score is None or entry["test_auc"] > best:
                    best = entry.get("test_auc", best)
                    self._keep(entry)
                log.write(entry)
            accelerator.wait_for_everyone()
            folder.store(stage, optimizer, accelerator, epoch, best)
        if log is not None:
            log.close()
        accelerator.wait_for_everyone()

    def _train_epoch(
        self, model: nn.Module, loader: DataLoader, optimizer: torch.optim.Optimizer, epoch: int
    ) -> dict[str, object]:
        """Train for one epoch; return the mean loss and its terms."""
        model.train()
        accelerator = self.accelerator
        bar = tqdm(
            loader,
            desc=f"epoch {epoch}/{self.options.epochs}",
            unit="step",
            leave=False,
            disable=None if accelerator.is_main_process else True,  # None: no bar where stderr is not a terminal
        )
        look_every = _LOOK_EVERY.get(accelerator.device.type, 20)
        sums, unseen = torch.zeros((), dtype=torch.float64), []  # unseen: losses of the last steps, still on the device
        for step, batch in enumerate(bar, start=1):
            total, terms = model(*self._laid_out(batch))
            optimizer.zero_grad()
            accelerator.backward(total)
            unseen.append(accelerator.reduce(torch.stack([total, *terms.values()]).detach(), "mean"))
            if len(unseen) == look_every or step == len(loader):
                for back, values in enumerate(torch.stack(unseen).cpu().double(), start=1 - len(unseen)):
                    if not values.isfinite().all():
                        raise TrainingError(
                            _not_finite(values, tuple(terms), epoch, step + back, self.folder.resume_file)
                        )
                    sums = sums + values
                bar.set_postfix(loss=f"{values[0]:.4f}", refresh=False)
                unseen.clear()
            optimizer.step()
        loss, *means = (sums / len(loader)).tolist()
        return {"loss": loss, "terms": dict(zip(terms, means, strict=True))}

    @torch.no_grad()
    def _held_out_losses(self, data: Patches | None) -> dict[str, object] | None:
        """Compute mean loss and terms over held-out patches, normalised as in training, in this process only."""
        if data is None or not len(data):
            return None
        sums = torch.zeros((), dtype=torch.float64)
        with batch_statistics(self.stage):
            for batch in DataLoader(data, self.options.batch_size):  # type: ignore[arg-type]
                batch = [tensor.to(self.accelerator.device) for tensor in self._laid_out(batch)]
                total, terms = self.stage(*batch)
                sums = sums + torch.stack([total, *terms.values()]).cpu().double() * len(batch[0])
        loss, *means = (sums / len(data)).tolist()
        return {"loss": loss, "terms": dict(zip(terms, means, strict=True))}

    def _prepare_stage(self) -> None:
        """Adapt the stage to the device and the number of processes. The result of training stays the same."""
        stage, accelerator = self.stage, self.accelerator
        for layers in stage.fixed_layers():
            if any(isinstance(module, nn.BatchNorm2d) for module in layers.modules()):  # else it is done already
                fold_batch_norms(layers)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(stage)
        elif accelerator.num_processes > 1:
            stage.train()
            if any(isinstance(module, nn.BatchNorm2d) and module.training for module in stage.modules()):
                accelerator.print("note: on CPUs each process normalises by the batch statistics of its own share.")
        stage.to(memory_format=self._layout)  # type: ignore[call-overload]

    def _laid_out(self, batch: torch.Tensor | list | tuple) -> tuple[torch.Tensor, ...]:
        """Make a batch a tuple, its images in the layout of the stage."""
        batch = (batch,) if isinstance(batch, torch.Tensor) else batch
        return tuple(x.contiguous(memory_format=self._layout) if x.ndim == 4 else x for x in batch)

    def _keep(self, entry: dict) -> None:
        if self.info is None:
            return
        metrics = {"train_loss": entry["loss"], **{name: float(value) for name, value in self.stage.figures.items()}}
        if entry["held_out"]:
            metrics["held_out_loss"] = entry["held_out"]["loss"]
        if "test_auc" in entry:
            metrics["test_auc"] = entry["test_auc"]
        info = replace(self.info, epoch=entry["epoch"], steps=entry["step"], metrics=metrics)
        save_checkpoint(self.stage.branch, self.folder.path / self.stage.checkpoint, info)


class EpochOrder(Sampler):
    """A permutation of the patches for each epoch, drawn from the seed and the epoch only.

    An epoch's order needs no history: a resumed run, and any number of processes, see the same batches.
    """

    def __init__(self, length: int, seed: int):
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.RandomState([self.seed, self.epoch]).permutation(self.length).tolist())


def _check_batch(patches: int, batch_size: int, processes: int) -> None:
    if batch_size % processes:
        raise TrainingError(
            f"--batch_size {batch_size}: {processes} processes share a batch. Give a multiple of {processes}."
        )
    if patches < batch_size:
        raise TrainingError(
            f"{patches} training patches are fewer than one batch of {batch_size}. Give a smaller --batch_size, a larger "
            "--train_ratio, or more patches."
        )


def _check_weights(stage: nn.Module, epoch: int, last: Path) -> None:
    bad = [name for name, values in stage.state_dict().items() if not bool(values.isfinite().all())]
    if bad:
        raise TrainingError(f"epoch {epoch}: {bad[0]} is not finite after the last step. {_remedy(epoch, last)}")


def _remedy(epoch: int, last: Path) -> str:
    good = f"{last} (epoch {epoch - 1})" if epoch > 1 else "none, this was the first epoch"
    return f"Last good checkpoint: {good}. Try a smaller --lr, or --precision fp32."


def _not_finite(values: torch.Tensor, names: Sequence[str], epoch: int, step: int, last: Path) -> str:
    bad = [name for name, value in zip(names, values[1:], strict=True) if not value.isfinite()]
    return (
        f"epoch {epoch}, step {step}: the loss is not finite; term {', '.join(bad) or 'none, but their weighted sum'}. "
        f"{_remedy(epoch, last)}"
    )
