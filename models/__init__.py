"""What is deployed: the two feature enhancement networks, their frozen backbones, their checkpoints."""

from models.backbones import BackboneError
from models.checkpoint import load_checkpoint, save_checkpoint, shipped
from models.info import CheckpointError, CheckpointInfo
from models.spa_fen import SpaFEN
from models.spe_fen import SpeFEN

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
