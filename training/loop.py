"""The one training loop: any ``Task`` on one device or many, resumable, with its curves on disk.

Hugging Face Accelerate places things, splits each batch over the processes and averages gradients; a batch of
``batch_size`` patches is the same batch however many processes share it. What is a statistic of the batch is computed
over the whole of it: tasks gather features (``gather_batch``), batch norms become SyncBatchNorm. PyTorch has that for
GPUs only; processes on CPUs keep batch-norm statistics of their own share, and the loop says so.
"""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed.nn.functional as distributed
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, gather_object
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Dataset, Sampler
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from data.files import atomic_path
from fast.process import keep_freed_memory
from fast.training import use_matrix_products

RESUME_FILE = "last.pt"
LOG_FILE = "log.jsonl"
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
_LOOK_EVERY = {"cpu": 1}  # steps between two looks at the losses, 20 elsewhere: to look is to wait for the device
TEST_CHOICE = "chosen by the test set's ground truth"


class TrainingError(RuntimeError):
    """Training that cannot start or go on. The message says where, why, and what to do."""


class Task(nn.Module):
    """What a stage gives the loop: the networks, and their loss.

    ``forward`` takes a batch and returns the loss terms by name, scalars without their weights.

    Attributes:
        weights: Weight of each term in the loss. A term with weight 0 is computed and logged, and trains nothing.
        frozen: Prefixes of the state dict that never change, which a resume file leaves out.
    """

    weights: dict[str, float]
    frozen: tuple[str, ...] = ()

    def resume_state(self) -> dict[str, torch.Tensor]:
        """All that training changes."""
        return {key: value for key, value in self.state_dict().items() if not key.startswith(self.frozen)}


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        save_dir: Folder of the run: ``log.jsonl``, TensorBoard's events, ``last.pt`` to resume from.
        epochs: Passes over the training patches.
        batch_size: Patches in a step, over all processes together. The last, incomplete batch of an epoch is left out;
            the order is drawn anew each epoch.
        lr: Adam's learning rate, constant.
        betas: Adam's.
        seed: Of the order of the patches (weights are the task's business).
        precision: ``fp32``, ``bf16`` or ``fp16``: of the networks; losses are always fp32.
        workers: Processes that read patches ahead.
        resume: Go on from ``last.pt`` if there is one.
        identity: What else must be the same to go on with a run: recipe, data, backbone and the like.
    """

    save_dir: Path
    epochs: int
    batch_size: int = 16
    lr: float = 0.005
    betas: tuple[float, float] = (0.9, 0.95)
    seed: int = 0
    precision: str = "fp32"
    workers: int = 0
    resume: bool = False
    identity: dict[str, object] = field(default_factory=dict)

    def must_match(self) -> dict[str, object]:
        """Everything a run cannot change when it is resumed, as JSON keeps it."""
        fixed = {
            k: v for k, v in asdict(self).items() if k not in ("save_dir", "epochs", "workers", "resume", "identity")
        }
        return json.loads(json.dumps({**fixed, **self.identity}))


def make_accelerator(precision: str = "fp32", cpu: bool = False) -> Accelerator:
    """The accelerator of this process, alone or one of those that ``torchrun`` or ``accelerate launch`` started."""
    try:
        return Accelerator(
            mixed_precision=PRECISIONS[precision],
            cpu=cpu,
            dataloader_config=DataLoaderConfiguration(split_batches=True),
        )
    except ValueError as error:  # such as fp16 where the device has none
        raise TrainingError(f"--precision {precision}: {error} Use --precision fp32.") from error


def gather_batch(x: torch.Tensor) -> torch.Tensor:
    """The whole batch's rows of ``x`` from all processes, with their gradients, as VICReg does; alone: ``x``."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return x
    return torch.cat(distributed.all_gather(x.contiguous()))


def fit(
    task: Task,
    train: Dataset,
    held_out: Dataset | None,
    settings: Settings,
    accelerator: Accelerator,
    save: Callable[[int, dict[str, float]], None],
    score: Callable[[], float] | None = None,
) -> None:
    """Train a task.

    Args:
        task: On the CPU; it is trained in place.
        train: Its items are tensors, or tuples of them: the arguments of ``task.forward``, one sample each.
        held_out: The same, for a loss that is only looked at; None for none.
        settings: How.
        accelerator: From ``make_accelerator``.
        save: Called on the main process with the epoch and its metrics: after every epoch, or, with ``score``, after
            each one that is the best so far.
        score: Of the task as it is, higher is better; with it the best epoch is kept instead of the last.

    Raises:
        TrainingError: The batch does not fit the data or the processes, a run to resume is another one, or the loss is
            not finite.
    """
    _check_batch(len(train), settings.batch_size, accelerator.num_processes)
    main = accelerator.is_main_process
    if accelerator.num_processes > 1:
        if accelerator.device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(task)
        elif any(isinstance(m, nn.BatchNorm2d) and m.training for m in task.train().modules()):
            accelerator.print("note: on CPUs each process normalises by the batch statistics of its own share.")
    if accelerator.device.type == "cpu":
        keep_freed_memory()
        if settings.precision == "fp32":
            use_matrix_products(task)
    task.to(memory_format=torch.channels_last)
    fused = accelerator.device.type in ("cpu", "cuda")
    trained = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, settings.lr, settings.betas, fused=fused)
    order = EpochOrder(len(train), settings.seed)
    loader = DataLoader(
        train,
        settings.batch_size,
        sampler=order,
        drop_last=True,
        num_workers=settings.workers,
        persistent_workers=settings.workers > 0,
        pin_memory=accelerator.device.type == "cuda",
    )
    model, optimizer, loader = accelerator.prepare(task, optimizer, loader)
    done, best = _restore(task, optimizer, settings, accelerator) if settings.resume else (0, -math.inf)
    log = _Log(settings.save_dir, done) if main else None

    for epoch in range(done + 1, settings.epochs + 1):
        order.epoch = epoch
        began = time.perf_counter()
        train_loss = _train_epoch(model, task.weights, loader, optimizer, epoch, settings, accelerator)
        seconds = time.perf_counter() - began
        if main:
            entry = {
                "epoch": epoch,
                **train_loss,
                "held_out": _held_out_loss(task, held_out, settings.batch_size, accelerator.device),
                "lr": settings.lr,
                "seconds": round(seconds, 3),
                "patches_per_second": round(len(loader) * settings.batch_size / seconds, 2),
                "selection": "last",
            }
            if score is not None:
                task.eval()
                entry |= {"selection": "test-auc", "test_auc": score()}
            if score is None or entry["test_auc"] > best:
                best = entry.get("test_auc", best)
                save(epoch, _metrics(entry))
            log.write(entry, settings.epochs)
        accelerator.wait_for_everyone()
        _store(task, optimizer, settings, accelerator, epoch, best)
    if main:
        log.close()
    accelerator.wait_for_everyone()


class EpochOrder(Sampler):
    """A permutation of the patches for each epoch, drawn from the seed and the epoch alone.

    So an epoch's order needs no history: a resumed run, and any number of processes, see the same batches.
    """

    def __init__(self, length: int, seed: int):
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.RandomState([self.seed, self.epoch]).permutation(self.length).tolist())


def _train_epoch(
    model: nn.Module,
    weights: dict[str, float],
    loader: DataLoader,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    settings: Settings,
    accelerator: Accelerator,
) -> dict:
    """One pass; returns the mean loss and its terms."""
    model.train()
    total = torch.zeros(len(weights) + 1, dtype=torch.float64)
    bar = tqdm(
        loader,
        desc=f"epoch {epoch}/{settings.epochs}",
        unit="step",
        leave=False,
        disable=None if accelerator.is_main_process else True,  # None: no bar where stderr is not a terminal
    )
    look_every = _LOOK_EVERY.get(accelerator.device.type, 20)
    unseen = []  # losses of the last steps, still on the device
    for step, batch in enumerate(bar, start=1):
        terms = model(*_channels_last(batch))
        loss = sum(weight * terms[name] for name, weight in weights.items())
        values = torch.stack([loss, *(terms[name] for name in weights)]).detach()
        unseen.append(accelerator.reduce(values, "mean"))
        if len(unseen) == look_every or step == len(loader):
            for back, values in enumerate(torch.stack(unseen).cpu().double(), start=1 - len(unseen)):
                if not values.isfinite().all():
                    raise TrainingError(_not_finite(values, weights, epoch, step + back, settings))
                total += values
            unseen.clear()
            bar.set_postfix(loss=f"{values[0]:.4f}", refresh=False)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
    loss, *terms = (total / len(loader)).tolist()
    return {"step": epoch * len(loader), "loss": loss, "terms": dict(zip(weights, terms, strict=True))}


@torch.no_grad()
def _held_out_loss(task: Task, data: Dataset | None, batch_size: int, device: torch.device) -> dict | None:
    """Mean loss and terms over held-out patches, normalised as in training; this process alone computes it."""
    if data is None or not len(data):
        return None
    total = torch.zeros(len(task.weights), dtype=torch.float64)
    with _batch_statistics(task):
        for batch in DataLoader(data, batch_size):
            batch = [tensor.to(device) for tensor in _channels_last(batch)]
            terms = task(*batch)
            total += torch.stack([terms[name] for name in task.weights]).cpu().double() * len(batch[0])
    means = dict(zip(task.weights, (total / len(data)).tolist(), strict=True))
    return {"loss": sum(weight * means[name] for name, weight in task.weights.items()), "terms": means}


@contextmanager
def _batch_statistics(task: Task) -> Iterator[None]:
    """Eval mode, but batch norms that train normalise by their batch and take nothing from it.

    Their running statistics are far off for many steps: what each layer lacks multiplies through the layers after it.
    """
    norms = [module for module in task.train().modules() if isinstance(module, _BatchNorm) and module.training]
    running = [(norm.running_mean, norm.running_var) for norm in norms]
    task.eval()
    try:
        for norm in norms:
            norm.running_mean = norm.running_var = None
        yield
    finally:
        for norm, (mean, variance) in zip(norms, running, strict=True):
            norm.running_mean, norm.running_var = mean, variance


def _channels_last(batch: torch.Tensor | list | tuple) -> tuple[torch.Tensor, ...]:
    """A batch as a tuple, its images in the layout in which convolutions are fastest."""
    batch = (batch,) if isinstance(batch, torch.Tensor) else batch
    return tuple(x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in batch)


def _metrics(entry: dict) -> dict[str, float]:
    """What a checkpoint says of its own training."""
    metrics = {"train_loss": entry["loss"]}
    if entry["held_out"]:
        metrics["held_out_loss"] = entry["held_out"]["loss"]
    if "test_auc" in entry:
        metrics["test_auc"] = entry["test_auc"]
    return metrics


def _check_batch(patches: int, batch_size: int, processes: int) -> None:
    if batch_size % processes:
        raise TrainingError(
            f"--batch_size {batch_size}: is shared by {processes} processes, so it must be a multiple of {processes}."
        )
    if patches < batch_size:
        raise TrainingError(
            f"{patches} training patches are fewer than one batch of {batch_size}. Give a smaller --batch_size, a larger "
            "--train_ratio, or more patches."
        )


def _not_finite(values: torch.Tensor, weights: dict[str, float], epoch: int, step: int, settings: Settings) -> str:
    bad = [name for name, value in zip(weights, values[1:], strict=True) if not value.isfinite()]
    last = settings.save_dir / RESUME_FILE
    good = f"{last} (epoch {epoch - 1})" if epoch > 1 else "none, this was the first epoch"
    return (
        f"epoch {epoch}, step {step}: the loss is not finite; term {', '.join(bad) or 'none, but their weighted sum'}. "
        f"Last good checkpoint: {good}. Try a smaller --lr, or --precision fp32."
    )


def _store(
    task: Task, optimizer: torch.optim.Optimizer, settings: Settings, accelerator: Accelerator, epoch: int, best: float
) -> None:
    """Write ``last.pt``, whole or not at all: weights, optimiser, random generators, position."""
    generators = gather_object([torch.get_rng_state()])
    if not accelerator.is_main_process:
        return
    state = {
        "settings": json.dumps(settings.must_match()),
        "epoch": epoch,
        "best": best,
        "task": task.resume_state(),
        "optimizer": optimizer.state_dict(),
        "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else {},
        "generators": generators,
    }
    with atomic_path(settings.save_dir / RESUME_FILE) as temporary:
        torch.save(state, temporary)


def _restore(
    task: Task, optimizer: torch.optim.Optimizer, settings: Settings, accelerator: Accelerator
) -> tuple[int, float]:
    """Read ``last.pt`` into everything; returns the epochs done and the best score so far."""
    path = settings.save_dir / RESUME_FILE
    if not path.is_file():
        accelerator.print(f"nothing to resume in {settings.save_dir}: starting from the beginning")
        return 0, -math.inf
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        before = json.loads(state["settings"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path}: cannot be read as a run to resume ({str(error).splitlines()[0]}). Start anew without --resume."
        ) from error
    now = settings.must_match()
    changed = [
        f"{k} was {before.get(k)!r}, is {now.get(k)!r}" for k in sorted(now | before) if before.get(k) != now.get(k)
    ]
    if changed:
        raise TrainingError(
            f"{path}: belongs to another run ({'; '.join(changed)}). Repeat its options, or give another --save_dir."
        )
    task.load_state_dict(state["task"], strict=False)
    optimizer.load_state_dict(state["optimizer"])
    if accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
    if accelerator.process_index < len(state["generators"]):
        torch.set_rng_state(state["generators"][accelerator.process_index])
    accelerator.print(f"resumed from {path} after epoch {state['epoch']}")
    return state["epoch"], state["best"]


class _Log:
    """One entry an epoch: to ``log.jsonl``, TensorBoard and the terminal."""

    def __init__(self, folder: Path, done: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / LOG_FILE
        kept = []
        if done and self.path.is_file():  # a run killed after its line was written repeats that epoch
            lines = self.path.read_text().splitlines()
            kept = [line for line in lines if json.loads(line)["epoch"] <= done]
        with atomic_path(self.path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept))
        self.board = SummaryWriter(folder, purge_step=done + 1)

    def write(self, entry: dict, epochs: int) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
        scalars = {"loss/train": entry["loss"], "lr": entry["lr"], "patches_per_second": entry["patches_per_second"]}
        scalars |= {f"train/{name}": value for name, value in entry["terms"].items()}
        terms = " ".join(f"{name} {value:.4g}" for name, value in entry["terms"].items())
        line = f"epoch {entry['epoch']}/{epochs}  loss {entry['loss']:.4f} ({terms})"
        if entry["held_out"]:
            scalars["loss/held_out"] = entry["held_out"]["loss"]
            scalars |= {f"held_out/{name}": value for name, value in entry["held_out"]["terms"].items()}
            line += f"  held-out {entry['held_out']['loss']:.5g}"
        if "test_auc" in entry:
            scalars["test_auc"] = entry["test_auc"]
            line += f"  test AUC {entry['test_auc']:.4f} ({TEST_CHOICE})"
        for name, value in scalars.items():
            self.board.add_scalar(name, value, entry["epoch"])
        self.board.flush()
        line += f"  lr {entry['lr']:g}  {entry['seconds']:.1f} s  {entry['patches_per_second']:.1f} patches/s"
        print(line, flush=True)

    def close(self) -> None:
        self.board.close()
