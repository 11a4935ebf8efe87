"""What is deployed: the two feature enhancement networks, their frozen backbones, their checkpoints."""

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
