"""The deployed networks, their frozen backbones, their checkpoints. ``models/README.md`` lists where each equation is.

Read in this order:

1. ``spe_fen``, ``spa_fen``   the spectral and the spatial branch (eqs. 4-8); ``aetnet`` and ``rd4ad`` are baselines' networks
2. ``backbones``, ``resnet``  ``Branch``, and the frozen layers from ImageNet, a seed or a file; ``reverse_distillation``, what
                             Stage 1 and RD4AD train behind them
3. ``init``                   initial weights, each tensor drawn from its own generator
4. ``info``, ``checkpoint``   a checkpoint's metadata and file
5. ``import_released``, ``download_released``  the authors' weights

``init``, ``resnet`` and the branches decide the bits of every trained network: a change makes checkpoints unreadable
or wrong. Only messages and ``info``'s checks may change.
"""

from fers.networks.backbones import BackboneError
from fers.networks.checkpoint import load_checkpoint, save_checkpoint, shipped
from fers.networks.info import CheckpointError, CheckpointInfo
from fers.networks.spa_fen import SpaFEN
from fers.networks.spe_fen import SpeFEN

__all__ = [
    "BackboneError",
    "CheckpointError",
    "CheckpointInfo",
    "SpaFEN",
    "SpeFEN",
    "load_checkpoint",
    "save_checkpoint",
    "shipped",
]
