"""The folder of a run: its state, and the file to resume from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from fers.training.log import LOG_FILE, Log, read_log
from fers.training.options import TrainingError, TrainOptions
from fers.training.stage import Stage
from fers.util.files import atomic_path, json_text

RESUME_FILE = "last.pt"
FINISHED_FILE = "finished.json"
_FIXED = ("batch_size", "lr", "seed", "precision", "recipe", "backbone", "train_ratio", "select")  # throughout a run
_START_AGAIN = "Start again with --overwrite."
_KEYS = {"config", "epoch", "best", "stage", "optimizer", "scaler", "generators"}


class RunFolder:
    """Folder of a run that starts or goes on in it.

    Args:
        path: Holds ``log.jsonl``, TensorBoard's events, ``last.pt`` to resume from, ``finished.json``.
        options: Options of the run.
        identity: Further values that cannot change when the run is resumed: stage, data and the like.
    """

    def __init__(self, path: Path, options: TrainOptions, identity: Mapping[str, object] | None = None):
        self.path, self.options = path, options
        self.resume_file, self.finished_file = path / RESUME_FILE, path / FINISHED_FILE
        fixed = {name: getattr(options, name) for name in (*_FIXED, "betas")} | {"losses": sorted(options.losses)}
        self.identity: dict = json.loads(json.dumps({**fixed, **(identity or {})}))

    def holds_run(self) -> bool:
        """Tell whether the folder holds anything of a run."""
        return any((self.path / name).is_file() for name in (RESUME_FILE, FINISHED_FILE, LOG_FILE))

    def check(self) -> None:
        """Make sure that no run is lost.

        Raises:
            TrainingError: The folder holds a run, and neither ``resume`` nor ``overwrite`` was asked for.
        """
        if self.holds_run() and not (self.options.resume or self.options.overwrite):
            entries, _ = read_log(self.path / LOG_FILE)
            raise TrainingError(
                f"{self.path}: holds a run already ({len(entries)} epochs in its log). Continue it with --resume, replace "
                "it with --overwrite, or give another --save_dir."
            )

    def finished(self) -> bool:
        """Tell whether the run to resume came to its end before.

        Raises:
            TrainingError: Another run finished here, or the run is to be trained further.
        """
        if not self.options.resume or not self.finished_file.is_file():
            return False
        try:
            entry = json.loads(self.finished_file.read_text())
            epochs, before = int(entry["epochs"]), dict(entry["config"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise TrainingError(f"{self.finished_file}: cannot be read ({error}). {_START_AGAIN}") from error
        self._require_same(self.finished_file, before)
        if epochs < self.options.epochs:
            raise TrainingError(
                f"{self.path}: this run is finished after {epochs} epochs and no longer has a resume file; --epochs is "
                f"{self.options.epochs}. {_START_AGAIN[:-1]}, or give another --save_dir."
            )
        self.resume_file.unlink(missing_ok=True)  # a kill may have come between the two steps of finish
        return True

    def begin(self, done: int) -> Log:
        """Open the log once an epoch is done; on a fresh start, delete what an earlier run left."""
        if not done:
            for old in (self.resume_file, self.finished_file, *self.path.glob("events.out.tfevents*")):
                old.unlink(missing_ok=True)
        return Log(self.path, done, self.options.epochs)

    def finish(self) -> None:
        """Mark the run as finished and delete the resume file, which is large and no longer needed."""
        with atomic_path(self.finished_file) as temporary:
            entry = {"epochs": self.options.epochs, "config": self.identity}
            temporary.write_text(json_text(self.finished_file, entry, indent=1) + "\n")
        self.resume_file.unlink(missing_ok=True)

    def store(
        self, stage: Stage, optimizer: torch.optim.Optimizer, accelerator: Accelerator, epoch: int, best: float
    ) -> None:
        """Write ``last.pt``, whole or not at all: weights, optimiser, random generators, position."""
        generators = gather_object([torch.get_rng_state()])
        if not accelerator.is_main_process:
            return
        state = {
            "config": json.dumps(self.identity),
            "epoch": epoch,
            "best": best,
            "stage": stage.resume_state(),
            "optimizer": optimizer.state_dict(),
            "scaler": accelerator.scaler.state_dict() if accelerator.scaler is not None else {},
            "generators": generators,
        }
        try:
            with atomic_path(self.resume_file) as temporary:
                torch.save(state, temporary)
        except RuntimeError as error:  # PyTorch's error for a full disk
            raise OSError(f"{self.resume_file}: cannot be written ({str(error).splitlines()[0]})") from error

    def restore(self, stage: Stage, optimizer: torch.optim.Optimizer, accelerator: Accelerator) -> tuple[int, float]:
        """Restore everything from ``last.pt``, once all of it is known to fit.

        Returns:
            The epochs done and the best score so far.

        Raises:
            TrainingError: The file is damaged, or belongs to another run.
        """
        path = self.resume_file
        if not path.is_file():
            accelerator.print(f"nothing to resume in {self.path}: starting from the beginning")
            return 0, -math.inf
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            problem = "" if isinstance(state, dict) and state.keys() == _KEYS else "it lacks parts, or has unknown ones"
            before = {} if problem else dict(json.loads(state["config"]))
        except Exception as error:  # a damaged file makes the unpickler raise almost anything
            problem = (str(error) or type(error).__name__).splitlines()[0]
        if problem:
            raise TrainingError(f"{path}: cannot be read as a run to resume ({problem}). {_START_AGAIN}")
        self._require_same(path, before)
        try:
            problem = _misfit(state, stage, optimizer, self.options.epochs)
            if not problem:
                stage.load_state_dict(state["stage"], strict=False)
                now = optimizer.state_dict()["param_groups"]  # _misfit has checked the file's
                optimizer.load_state_dict({"state": state["optimizer"]["state"], "param_groups": now})
                if accelerator.scaler is not None:
                    accelerator.scaler.load_state_dict(state["scaler"])
                if accelerator.process_index < len(state["generators"]):
                    torch.set_rng_state(state["generators"][accelerator.process_index])
        except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
            problem = (str(error) or type(error).__name__).splitlines()[0]
        if problem:
            raise TrainingError(f"{path}: does not fit this run ({problem}). {_START_AGAIN}")
        accelerator.print(f"resumed from {path} after epoch {state['epoch']}")
        return state["epoch"], state["best"]

    def _require_same(self, path: Path, before: dict) -> None:
        now = self.identity
        differing = [key for key in sorted(now | before) if before.get(key) != now.get(key)]
        if differing:
            changed = "; ".join(f"{key} was {before.get(key)!r}, is {now.get(key)!r}" for key in differing)
            raise TrainingError(
                f"{path}: belongs to another run ({changed}). Repeat its options, or give another --save_dir."
            )


def _misfit(state: dict, stage: Stage, optimizer: torch.optim.Optimizer, epochs: int) -> str:
    """Describe the first part of a resume file that does not fit; empty where all fit."""
    epoch, best = state["epoch"], state["best"]
    if type(epoch) is not int or epoch < 1 or not isinstance(best, float) or math.isnan(best):
        return f"epoch {epoch!r}, best {best!r}"
    if epoch > epochs:
        return f"it is at epoch {epoch}, --epochs is {epochs}"
    expected = stage.resume_state()
    if problem := _tensors_differ(state["stage"], expected):
        return problem
    [now], [group] = optimizer.param_groups, state["optimizer"]["param_groups"]
    if group["params"] != list(range(len(now["params"]))) or (group["lr"], *group["betas"]) != (
        now["lr"],
        *now["betas"],
    ):
        return "its optimiser has other settings"
    moments = state["optimizer"]["state"]
    for index, parameter in enumerate(now["params"]):
        like = {"exp_avg": parameter, "exp_avg_sq": parameter, "step": torch.zeros(())}
        if problem := _tensors_differ(moments.get(index, {}), like):
            return f"optimiser, tensor {index}: {problem}"
    return ""


def _tensors_differ(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> str:
    if odd := sorted(found.keys() ^ expected.keys()):
        return f"{'lacks' if odd[0] in expected else 'has an extra'} {odd[0]}"
    for key, value in expected.items():
        if (found[key].shape, found[key].dtype) != (value.shape, value.dtype):
            return f"{key} is {tuple(found[key].shape)} {found[key].dtype}, not {tuple(value.shape)} {value.dtype}"
        if value.is_floating_point() and not found[key].isfinite().all():
            return f"{key} holds values that are not finite"
    return ""
