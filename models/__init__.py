"""What is deployed: the two feature extraction networks, their frozen backbones, their checkpoints."""

from models.backbones import BackboneError
from models.checkpoint import CheckpointError, CheckpointInfo, load_checkpoint, save_checkpoint
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
]
