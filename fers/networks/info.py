"""The metadata of a checkpoint's safetensors file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

from fers.util.errors import FersError

_MAX_BANDS = 10_000
_BACKBONE = re.compile(r"imagenet|none|random(:\d{1,10})?|file:[^/\\:\0]+", re.ASCII)

DEAD_SPA_FEN = (
    "the Spa-FEN is dead: every channel of F_spa is constant on its training patches, so it adds nothing to a score. "
    "Use --features spectral, or train it again with a lower --lr; checkpoints/README.md says why."
)


class CheckpointError(FersError):
    """A checkpoint that cannot be used. The message names the file, what is wrong and what to do."""


@dataclass(frozen=True)
class CheckpointInfo:
    """A checkpoint's metadata.

    Attributes:
        branch: ``spe_fen``, ``spa_fen``, or a baseline: ``rd4ad``, ``rd4ad_a``, ``aetnet``.
        bands: C.
        sensor: Sensor of the training data, such as ``aviris_ng``.
        recipe: ``paper`` or ``released``.
        backbone: Source of the frozen layers while it was trained: ``imagenet``, ``random:SEED``, ``file:NAME``, or
            ``none`` for a network without such layers.
        backbone_sha256: ``state_hash`` of those frozen layers.
        seed: Training seed, None where it is not known.
        epoch: Epochs trained, None where it is not known.
        steps: Steps of the optimiser, likewise.
        patches: Training patches, likewise.
        teacher: ``fingerprint`` of the Spe-FEN that taught a Spa-FEN; empty for other branches and where it is not known.
        selection: The choice of the epoch: ``last``, or ``test-auc`` where the test set's ground truth chose it.
        origin: Who trained it and from what.
        git_revision: The commit of the project that wrote the file.
        metrics: Figures measured with it. A Spa-FEN has those of ``fers.networks.spa_fen.feature_figures``.
    """

    branch: str
    bands: int
    sensor: str
    recipe: str
    backbone: str
    backbone_sha256: str
    seed: int | None = None
    epoch: int | None = None
    steps: int | None = None
    patches: int | None = None
    teacher: str = ""
    selection: str = "last"
    origin: str = ""
    git_revision: str = ""
    metrics: dict[str, float] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """Convert to what safetensors stores: each value in JSON."""
        return {"format": "fers-1", **{key: json.dumps(value) for key, value in vars(self).items()}}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str] | None, path: Path) -> CheckpointInfo:
        """Read back what ``to_metadata`` wrote.

        Raises:
            CheckpointError: The file was not written by this project, or by a later version of it.
        """
        metadata = metadata or {}
        if metadata.get("format") != "fers-1":
            raise CheckpointError(
                f"{path}: not a checkpoint of this project (no metadata of format fers-1). Released .pt folders become "
                "one by: fers weights import FOLDER OUT.safetensors"
            )
        try:
            info = cls(**{key: json.loads(value) for key, value in metadata.items() if key != "format"})
        except (TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(
                f"{path}: its metadata is damaged or from a later version ({error}). Update FERS, or train again."
            ) from error
        if wrong := info._wrong_fields():
            raise CheckpointError(
                f"{path}: its metadata is damaged: {', '.join(f'{key} is {getattr(info, key)!r:.60}' for key in wrong)}. "
                "Train or import it again."
            )
        return info

    def _wrong_fields(self) -> list[str]:
        """List the fields whose values have another type or range than described above."""

        def text(value: object) -> bool:
            return isinstance(value, str)

        def count(value: object) -> bool:
            return value is None or (type(value) is int and 0 <= value < 2**32)

        valid = {
            "branch": text(self.branch) and re.fullmatch(r"\w{1,40}", self.branch) is not None,
            "bands": type(self.bands) is int and 1 <= self.bands <= _MAX_BANDS,
            "backbone": text(self.backbone) and _BACKBONE.fullmatch(self.backbone) is not None,
            "backbone_sha256": text(self.backbone_sha256) and re.fullmatch("[0-9a-f]{64}", self.backbone_sha256),
            "seed": count(self.seed),
            "epoch": count(self.epoch),
            "steps": count(self.steps),
            "patches": count(self.patches),
            "teacher": text(self.teacher) and re.fullmatch("([0-9a-f]{64})?", self.teacher) is not None,
            "selection": self.selection in ["last", "test-auc"],
            "metrics": isinstance(self.metrics, dict)
            and all(isinstance(value, (int, float)) for value in self.metrics.values()),
        }
        return [f.name for f in fields(self) if not valid.get(f.name, text(getattr(self, f.name)))]
