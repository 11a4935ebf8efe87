"""``Stage``, which the loop trains: networks with their loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
import torch.distributed.nn.functional as distributed
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fers.networks.backbones import Branch

Terms = dict[str, torch.Tensor]


class Stage(nn.Module):
    """Networks of a stage, and their loss.

    Args:
        losses: Names of the terms in force. The others are only computed and logged.

    Attributes:
        number: 1 or 2; the run's folder is named by it.
        checkpoint: Name of the file that ``branch`` is kept in: the branch's name and ``.safetensors``.
        loss: Method that computes the total and its terms by name, without their weights; all are float32 scalars.
        figures: What the last batch showed, for the checkpoint's metadata; scalars by name.
    """

    number: ClassVar[int] = 1
    checkpoint: str
    loss: Callable[..., tuple[torch.Tensor, Terms]]

    def __init__(self, losses: Sequence[str] = ()):
        super().__init__()
        self.losses = tuple(losses)
        self.figures: dict[str, torch.Tensor] = {}

    @property
    def branch(self) -> Branch:
        """Network that is kept when training is over."""
        raise NotImplementedError

    def fixed_layers(self) -> list[nn.Module]:
        """Return layers that never change, nor their batch norms' statistics. A resume file leaves them out."""
        return []

    def forward(self, *batch: torch.Tensor) -> tuple[torch.Tensor, Terms]:
        """Call ``loss``, by the name that wrappers for several processes use."""
        return self.loss(*batch)

    def in_force(self, terms: Terms) -> list[torch.Tensor]:
        """Return the values of the terms, zero for those that are switched off."""
        return [value if name in self.losses else 0.0 * value for name, value in terms.items()]

    def resume_state(self) -> dict[str, torch.Tensor]:
        """Return the tensors that training changes."""
        fixed = {id(tensor) for layers in self.fixed_layers() for tensor in (*layers.parameters(), *layers.buffers())}
        state = self.state_dict(keep_vars=True)
        return {key: value.detach() for key, value in state.items() if id(value) not in fixed}


def gather_batch(x: torch.Tensor) -> torch.Tensor:
    """Gather the whole batch's rows of ``x`` from all processes, with their gradients, as VICReg does."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return x
    return torch.cat(distributed.all_gather(x.contiguous()))


@contextmanager
def batch_statistics(stage: Stage) -> Iterator[None]:
    """Switch to eval mode, except that batch norms in training normalise by their batch; no running statistics change.

    Running statistics are far off for many steps: the error of each layer multiplies through the layers after it.
    """
    stage.train()
    norms = [module for module in stage.modules() if isinstance(module, _BatchNorm) and module.training]
    running = [(norm.running_mean, norm.running_var) for norm in norms]
    stage.eval()
    try:
        for norm in norms:
            norm.running_mean = norm.running_var = None
        yield
    finally:
        for norm, (mean, variance) in zip(norms, running, strict=True):
            norm.running_mean, norm.running_var = mean, variance
