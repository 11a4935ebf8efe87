"""What a run keeps on the disk: the range and background of a scene, and the blocks that are finished."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fers.scoring.blocks import Block
from fers.scoring.moments import Moments, combined
from fers.util.errors import FersError
from fers.util.files import atomic_path

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Statistics:
    """What the scores of a scene depend on beside its pixels.

    Attributes:
        low, high: Range of the values.
        fill: ``(C,)`` mean spectrum, given to the network where there is no data.
        backgrounds: For each view, the moments of each segment.
    """

    low: float
    high: float
    fill: np.ndarray
    backgrounds: dict[str, list[Moments]]

    def save(self, path: Path, about: dict[str, Any]) -> None:
        """Write to a .npz file, with a description in JSON."""
        arrays: Arrays = {"range": np.array([self.low, self.high]), "fill": self.fill}
        for view, segments in self.backgrounds.items():
            for index, moments in enumerate(segments):
                arrays |= packed(f"{view}/{index}", moments)
        with atomic_path(path) as temporary:
            np.savez(temporary, **(arrays | {"about": np.array(json.dumps(about))}))  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> tuple[Statistics, dict[str, Any]]:
        """Read what ``save`` wrote.

        Raises:
            FersError: It is no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = {key: archive[key] for key in archive.files}
            about = json.loads(str(found.pop("about")))
            low, high = found.pop("range")
            fill = found.pop("fill")
            segments: dict[str, dict[int, Moments]] = {}
            for key in [key for key in found if key.endswith("/count")]:
                view, index, _ = key.split("/")
                segments.setdefault(view, {})[int(index)] = unpacked(key.removesuffix("/count"), found)
        except (OSError, ValueError, KeyError) as error:
            raise FersError(
                f"{path}: not a background that detect.py saved ({error}). Give a background.npz."
            ) from error
        return cls(float(low), float(high), fill, {v: [s[i] for i in sorted(s)] for v, s in segments.items()}), about


class Store:
    """Finished blocks in a folder.

    Args:
        folder: Where.
        identity: What the blocks depend on; what another run with another identity left there is removed.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self.folder = folder
        state, text = folder / "state.json", json.dumps(identity, sort_keys=True)
        if folder.exists() and not (state.is_file() and state.read_text() == text):
            shutil.rmtree(folder)
        with atomic_path(state) as temporary:
            temporary.write_text(text)

    def path(self, stage: str, block: Block) -> Path:
        """The file of one block."""
        return self.folder / f"{stage}-{block.index:05d}.npz"

    def load(self, stage: str, block: Block) -> Arrays | None:
        """What was saved, or None."""
        if not self.path(stage, block).is_file():
            return None
        with np.load(self.path(stage, block)) as archive:
            return {key: archive[key] for key in archive.files}

    def save(self, stage: str, block: Block, arrays: Arrays) -> None:
        """Write a block, whole or not at all."""
        with atomic_path(self.path(stage, block)) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def packed(name: str, moments: Moments) -> Arrays:
    """Moments as arrays for a .npz file, their keys beginning with a name."""
    parts = {"count": np.array(moments.count), "mean": moments.mean, "scatter": moments.scatter}
    return {f"{name}/{key}": value for key, value in parts.items()}


def unpacked(name: str, arrays: Arrays) -> Moments:
    """What ``packed`` made."""
    return Moments(int(arrays[f"{name}/count"]), arrays[f"{name}/mean"], arrays[f"{name}/scatter"])


def merged(parts: list[Statistics]) -> Statistics:
    """One background for several scenes, in their order.

    Args:
        parts: Of each scene, with one segment each and the same bands.
    """
    first = parts[0]
    counts = np.array([part.backgrounds["original"][0].count for part in parts], float)
    fill = np.sum([part.fill * count for part, count in zip(parts, counts, strict=True)], axis=0) / counts.sum()
    backgrounds = {view: [combined(part.backgrounds[view][0] for part in parts)] for view in first.backgrounds}
    return Statistics(min(p.low for p in parts), max(p.high for p in parts), fill, backgrounds)
