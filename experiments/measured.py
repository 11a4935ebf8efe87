"""From finished jobs to numbers: AUC by scene and seed, score maps, and those of other people's methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from experiments.jobs import Score
from experiments.workspace import Workspace
from fers.evaluation.metrics import auc, measures
from fers.util.errors import FersError


@dataclass(frozen=True)
class Measured:
    """A row in one column: every scene's AUC, seed by seed.

    Attributes:
        aucs: For each seed, AUC by scene; scenes without both classes are not in it.
        maps: Folder of the first seed's score maps.
        seconds: Mean time per scene; None where it is not known.
        cut: Scenes that are a part of the paper's only.
        caveats: What the runs say of themselves.
    """

    aucs: tuple[dict[str, float], ...]
    maps: Path
    seconds: float | None = None
    caveats: tuple[str, ...] = ()
    cut: frozenset[str] = frozenset()

    def mark(self, of_row: str) -> str:
        """What a reader must know: what the row says, and what the runs say beyond it."""
        known = ("--select oracle", "RX as inside") if of_row else ()
        return " ".join([of_row, *(text for text in self.caveats if not any(part in text for part in known))]).strip()

    def by_scene(self, names: Sequence[str]) -> np.ndarray:
        """``(S,)``: each scene's mean over seeds."""
        return np.array([[one[name] for name in names] for one in self.aucs]).mean(0)

    def by_seed(self, names: Sequence[str]) -> np.ndarray:
        """``(seeds,)``: each seed's mean over scenes."""
        return np.array([[one[name] for name in names] for one in self.aucs]).mean(1)

    def score(self, name: str) -> np.ndarray:
        """``(H, W)``: the first seed's score map of a scene."""
        return load_map(self.maps, name)


def measured(scores: Sequence[Score]) -> Measured:
    """What the seeds of a row gave."""
    results = [score.results() for score in scores]
    aucs = [{k: s["auc"] for k, s in found["scenes"].items() if s["auc"] is not None} for found in results]
    seconds = float(np.mean([found["mean_seconds"] for found in results]))
    caveats = tuple(dict.fromkeys(text for found in results for text in found["caveats"]))
    options = {k: v for k, v in results[0]["config"]["options"].items() if k not in ("checkpoint", "solver")}
    if options:
        caveats = (*caveats, f"Not by default: {', '.join(f'{key} {value}' for key, value in options.items())}.")
    cut = frozenset(name for name, scene in results[0]["scenes"].items() if scene["cut"])
    return Measured(tuple(aucs), scores[0].folder / "scores", seconds, caveats, cut)


def others(workspace: Workspace, name: str, folder: Path, bands: int) -> Measured:
    """The score maps of somebody's method.

    Args:
        workspace: Has the scenes.
        name: As the table calls the method.
        folder: Holds ``<scene>.npy`` or ``<scene>.mat`` for every scene, or a folder of them for each number of bands.
        bands: C.

    Raises:
        FersError: A map is missing, of another shape than its scene, or not finite.
    """
    folder = folder / str(bands) if (folder / str(bands)).is_dir() else folder
    found = {}
    for scene in workspace.scenes:
        mask = _mask(workspace, scene.name)
        try:
            score = load_map(folder, scene.name)
            value = auc(score, mask)
        except ValueError as error:
            raise FersError(f"--scores {name}: {folder / scene.name}: {error}") from error
        if value is not None:
            found[scene.name] = value
    return Measured((found,), folder)


def load_map(folder: Path, name: str) -> np.ndarray:
    """A score map ``(H, W)`` from ``<name>.npy``, or from the only picture in ``<name>.mat``.

    Raises:
        FersError: There is none, or it is not one map.
    """
    for suffix in (".npy", ".mat"):
        path = folder / f"{name}{suffix}"
        if not path.is_file():
            continue
        try:
            found = np.load(path, allow_pickle=False) if suffix == ".npy" else _only_array(path)
        except (NotImplementedError, ValueError, TypeError, OSError) as error:
            raise FersError(f"{path}: cannot be read as a score map ({error}).") from error
        if found.ndim != 2 or not np.issubdtype(found.dtype, np.number) or np.iscomplexobj(found):
            raise FersError(f"{path}: holds {found.dtype} {found.shape}; expected one map of numbers, rows by columns.")
        return found
    raise FersError(f"{folder}: no {name}.npy and no {name}.mat. Every scene of the table needs its score map.")


def _only_array(path: Path) -> np.ndarray:
    arrays = {key: value for key, value in loadmat(path).items() if not key.startswith("__")}
    if len(arrays) != 1:
        raise ValueError(f"it holds {', '.join(arrays) or 'nothing'}; expected one variable")
    return np.asarray(next(iter(arrays.values())))


def metrics(workspace: Workspace, row: Measured, names: Sequence[str]) -> dict[str, float]:
    """Mean over scenes of every measure of ``fers.evaluation.metrics.measures``, of the first seed's maps."""
    values = [measures(row.score(name), _mask(workspace, name)) for name in names]
    return {key: float(np.mean([one[key] for one in values])) for key in values[0]}


def common_scenes(rows: Mapping[str, Measured], among: Sequence[str]) -> list[str]:
    """The scenes for which every row has an AUC.

    Raises:
        FersError: There is none.
    """
    found = [name for name in among if all(name in one for row in rows.values() for one in row.aucs)]
    if not found:
        raise FersError("no scene has both anomalies and background, so there is no AUC to put into a table.")
    return found


def mask_of(workspace: Workspace, name: str) -> np.ndarray:
    """``(H, W)`` bool, True at anomalies."""
    return _mask(workspace, name)


@cache
def _mask(workspace: Workspace, name: str) -> np.ndarray:
    return next(scene for scene in workspace.scenes if scene.name == name).load()[1]
