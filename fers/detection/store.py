"""Files of a run: range and background of a scene, and the blocks that are finished."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fers.detection.blocks import Block
from fers.detectors.background import Background, Moments
from fers.detectors.base import Sum
from fers.util.errors import FersError
from fers.util.files import atomic_path

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class BackgroundStatistics:
    """Range and background, against which the pixels of a scene are scored.

    Attributes:
        low, high: Range of the values.
        fill: Mean spectrum ``(C,)``, which replaces pixels without data.
        segments: Sums of what ``Pipeline.collect`` gives, for each segment; the last are the moments of H.
    """

    low: float
    high: float
    fill: np.ndarray
    segments: list[list[Any]]

    def background(self, segment: int = 0) -> Background:
        """Return mean and covariance of H in a segment."""
        return Background.from_moments([self.segments[segment][-1]])

    @property
    def counts(self) -> list[int]:
        """Number of pixels behind the moments of H, for each segment."""
        return [int(parts[-1].samples[0]) for parts in self.segments]

    def save(self, path: Path, about: dict[str, Any]) -> None:
        """Write to a .npz file, with a description in JSON."""
        arrays: Arrays = {"range": np.array([self.low, self.high]), "fill": self.fill}
        for segment, parts in enumerate(self.segments):
            for place, each in enumerate(parts):
                arrays |= packed(f"{segment}/{place}", each)
        with atomic_path(path) as temporary:
            np.savez(temporary, **(arrays | {"about": np.array(json.dumps(about))}))  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path, kinds: list[type] | None = None) -> tuple[BackgroundStatistics, dict[str, Any]]:
        """Read what ``save`` wrote.

        Args:
            path: The file.
            kinds: The types of the statistics, as ``Pipeline.statistics`` has them; by default only the moments of H are
                read.

        Returns:
            The statistics, and the description.

        Raises:
            FersError: The file is not such a background.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = {key: archive[key] for key in archive.files}
            about = json.loads(str(found.pop("about")))
            low, high = found.pop("range")
            fill = found.pop("fill")
            count = 1 + max(int(key.split("/")[0]) for key in found)
            places = 1 + max(int(key.split("/")[1]) for key in found)
            read = dict(enumerate(kinds)) if kinds is not None else {places - 1: Moments}
            segments = [
                [unpacked(f"{segment}/{place}", kind, found) for place, kind in read.items()]
                for segment in range(count)
            ]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise FersError(
                f"{path}: not a background that fers detect saved for this method ({error}). Give a background.npz."
            ) from error
        return cls(float(low), float(high), fill, segments), about


class Store:
    """Finished blocks in a folder.

    Args:
        folder: The folder.
        identity: Everything the blocks depend on; blocks of a run with another identity are removed.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self.folder = folder
        state, text = folder / "state.json", json.dumps(identity, sort_keys=True)
        if folder.exists() and not (state.is_file() and state.read_text() == text):
            shutil.rmtree(folder)
        with atomic_path(state) as temporary:
            temporary.write_text(text)

    def path(self, stage: str, block: Block) -> Path:
        """Return the file of one block."""
        return self.folder / f"{stage}-{block.index:05d}.npz"

    def holds(self, stage: str, block: Block) -> bool:
        """Tell whether a block is finished."""
        return self.path(stage, block).is_file()

    def load(self, stage: str, block: Block) -> Arrays:
        """Read a finished block."""
        with np.load(self.path(stage, block)) as archive:
            return {key: archive[key] for key in archive.files}

    def save(self, stage: str, block: Block, arrays: Arrays) -> None:
        """Write a block, whole or not at all."""
        with atomic_path(self.path(stage, block)) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def packed(name: str, statistics: Any) -> Arrays:
    """Turn statistics, a NamedTuple of tensors, into arrays for a .npz file; their keys begin with a name."""
    return {f"{name}/{key}": value.cpu().numpy() for key, value in statistics._asdict().items()}


def unpacked(name: str, kind: Any, arrays: Arrays) -> Any:
    """Turn the arrays of ``packed`` into statistics of a type again."""
    return kind(*(torch.from_numpy(arrays[f"{name}/{key}"]) for key in kind._fields))


def merged(parts: list[BackgroundStatistics]) -> BackgroundStatistics:
    """Merge the backgrounds of several scenes, in their order.

    Args:
        parts: Backgrounds with one segment each, the same range and the same bands.
    """
    counts = np.array([part.counts[0] for part in parts], float)
    fill = np.sum([part.fill * count for part, count in zip(parts, counts, strict=True)], axis=0) / counts.sum()
    sums = [Sum(each).total() for each in zip(*(part.segments[0] for part in parts), strict=True)]
    return BackgroundStatistics(min(p.low for p in parts), max(p.high for p in parts), fill, [sums])
