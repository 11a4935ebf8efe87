"""Numbers of finished jobs: AUC by scene and seed, score maps, and those of other people's methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from experiments.jobs import Score
from experiments.rows import TableRow
from experiments.workspace import Workspace
from fers.evaluation.metrics import auc
from fers.util.errors import FersError


@dataclass(frozen=True)
class Measured:
    """A row in one column: every scene's AUC, seed by seed."""

    aucs: tuple[dict[str, float], ...]  # for each seed; scenes without both classes are not in it
    maps: Path  # folder of the first seed's score maps
    seconds: float | None = None  # mean time per scene; None where it is not known
    caveats: tuple[str, ...] = ()  # what the runs say of themselves
    cut: frozenset[str] = frozenset()  # scenes that are only a part of the paper's

    def mark(self, of_row: str) -> str:
        """What a reader must know: what the row says, and what the runs say beyond it."""
        known = ("--select oracle", "RX as inside") if of_row else ()
        return " ".join([of_row, *(text for text in self.caveats if not any(part in text for part in known))]).strip()

    def table(self, names: Sequence[str]) -> np.ndarray:
        """AUCs ``(seeds, scenes)``."""
        return np.array([[one[name] for name in names] for one in self.aucs])

    def score(self, name: str) -> np.ndarray:
        """The first seed's score map of a scene, ``(H, W)``."""
        return load_map(self.maps, name)


Rows = Sequence[tuple[TableRow, Measured]]


def measured(jobs: Sequence[Score]) -> Measured:
    """Read what the seeds of a row gave."""
    results = [job.results() for job in jobs]
    aucs = [{k: s["auc"] for k, s in one["scenes"].items() if s["auc"] is not None} for one in results]
    seconds = float(np.mean([one["mean_seconds"] for one in results]))
    caveats = tuple(dict.fromkeys(text for one in results for text in one["caveats"]))
    options = {k: v for k, v in results[0]["config"]["options"].items() if k not in ("checkpoint", "solver")}
    if options:
        caveats = (*caveats, f"Not by default: {', '.join(f'{key} {value}' for key, value in options.items())}.")
    cut = frozenset(name for name, scene in results[0]["scenes"].items() if scene["cut"])
    return Measured(tuple(aucs), jobs[0].folder / "scores", seconds, caveats, cut)


def others(workspace: Workspace, name: str, folder: Path, bands: int) -> Measured:
    """Score the maps of somebody's method; ``folder`` may hold a folder of them for each number of bands.

    Raises:
        FersError: A map is missing, of another shape than its scene, or not finite.
    """
    folder = folder / str(bands) if (folder / str(bands)).is_dir() else folder
    aucs = {}
    for scene, truth in workspace.truths.items():
        try:
            score = load_map(folder, scene)
            value = auc(score, truth)
        except ValueError as error:
            raise FersError(f"--scores {name}: {folder / scene}: {error}") from error
        if value is not None:
            aucs[scene] = value
    return Measured((aucs,), folder)


def load_map(folder: Path, name: str) -> np.ndarray:
    """Read a score map ``(H, W)`` from ``<name>.npy``, or from the only array in ``<name>.mat``.

    Raises:
        FersError: There is none, or it is not one map.
    """
    path = next((path for suffix in (".npy", ".mat") if (path := folder / f"{name}{suffix}").is_file()), None)
    if path is None:
        raise FersError(f"{folder}: no {name}.npy and no {name}.mat. Every scene of the table needs its score map.")
    try:
        if path.suffix == ".npy":
            score = np.load(path, allow_pickle=False)
        else:
            (score,) = (value for key, value in loadmat(path).items() if not key.startswith("__"))
    except (NotImplementedError, ValueError, TypeError, OSError) as error:
        raise FersError(f"{path}: cannot be read as a score map ({error}).") from error
    if score.ndim != 2 or not np.issubdtype(score.dtype, np.number) or np.iscomplexobj(score):
        raise FersError(f"{path}: holds {score.dtype} {score.shape}; expected one map of numbers, rows by columns.")
    return score


def common_scenes(rows: Rows, among: Iterable[str]) -> list[str]:
    """The scenes for which every row has an AUC.

    Raises:
        FersError: There is none.
    """
    names = [name for name in among if all(name in aucs for _, found in rows for aucs in found.aucs)]
    if not names:
        raise FersError("no scene has both anomalies and background, so there is no AUC to put into a table.")
    return names
