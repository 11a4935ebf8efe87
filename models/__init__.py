"""The paper's networks, where a reader of the paper looks for them. ``README.md`` lists where each equation is."""

from fers.networks import SpaFEN, SpeFEN
from train_FERD.network import FERD
from train_FERS.network import FRN

__all__ = ["FERD", "FRN", "SpaFEN", "SpeFEN"]
