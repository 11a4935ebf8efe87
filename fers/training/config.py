"""How to train: what the command line, or a caller, settles before the loop starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fers.util.errors import FersError

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # ours: Accelerate's
_MAY_CHANGE = ("save_dir", "epochs", "workers", "resume", "overwrite", "identity")


class TrainingError(FersError):
    """Training that cannot start or go on. The message says where, why, and what to do."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Attributes:
        save_dir: Folder of the run: ``log.jsonl``, TensorBoard's events, ``last.pt`` to resume from.
        epochs: Passes over the training patches.
        batch_size: Patches in a step, over all processes together. The last, incomplete batch of an epoch is left out;
            the order is drawn anew each epoch.
        lr: Adam's learning rate, constant.
        betas: Adam's.
        seed: Of the order of the patches; initial weights are the stage's business.
        precision: ``fp32``, ``bf16`` or ``fp16``: of the networks; losses are always fp32.
        workers: Processes that read patches ahead.
        resume: Go on from ``last.pt`` if there is one.
        overwrite: Start anew over a run that is in ``save_dir``. Its files stay until the first new epoch is done.
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
    overwrite: bool = False
    identity: Mapping[str, object] = field(default_factory=dict)

    def must_match(self) -> dict[str, object]:
        """Everything a run cannot change when it is resumed, as JSON keeps it."""
        fixed = {key: value for key, value in asdict(self).items() if key not in _MAY_CHANGE}
        return json.loads(json.dumps({**fixed, **self.identity}))
