"""Finished results on disk, read back and checked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fers.datasets.benchmarks import BENCHMARKS
from fers.detectors import DETECTORS
from fers.evaluation.results import FORMAT, RESULTS_FILE, is_scene_result, read_score
from fers.scoring.settings import SETTINGS
from fers.util.errors import FersError

_CONFIG = {
    "title": str,
    "view": str,
    "detect": str,
    "bands": int,
    "start_band": int,
    "benchmark": str,
    "data_path": str,
}
_TOLD_APART_BY = ("seed", "checkpoint_dir", "backbone", "start_band", "nodata", "options", "sensor", "checkpoints")


class ReportError(FersError):
    """There is nothing to report on, or it does not belong together."""


@dataclass(frozen=True)
class ResultSet:
    """One finished folder of results.

    Attributes:
        folder: Where it is.
        results: Its results.json.
        label: Its column's head; labels differ where settings do.
    """

    folder: Path
    results: dict
    label: str

    @property
    def order(self) -> tuple:
        """Columns go from the plain cube to what is added to it, detector by detector."""
        config = self.results["config"]
        names, views = list(DETECTORS), list(SETTINGS)
        detector = names.index(config["detect"]) if config["detect"] in names else len(names)
        return detector, views.index(config["view"]) if config["view"] in views else len(views), self.label

    @property
    def configuration(self) -> str:
        """The configuration as text."""
        return json.dumps(self.results["config"], indent=2)

    def score(self, name: str, mask: np.ndarray) -> np.ndarray:
        """A scene's score map: ``evaluate.read_score``, which has the errors."""
        return read_score(self.folder, name, self.results["scenes"][name], mask)


def find_result_sets(folder: str | Path) -> list[ResultSet]:
    """The finished results below a folder, in the order of the columns.

    Raises:
        ReportError: There are none, one is damaged, or they are of different data.
    """
    paths = [path for path in sorted(Path(folder).rglob(RESULTS_FILE)) if not path.parent.name.startswith(".")]
    read = {path: read_results(path) for path in paths}
    found = [
        ResultSet(path.parent, results, results["config"]["title"])
        for path, results in read.items()
        if results["complete"]
    ]
    if not found:
        raise ReportError(f"{folder}: no finished {RESULTS_FILE} here. Make one with test.py --save_dir {folder}/NAME.")
    for key in ("benchmark", "data_path", "bands", "start_band"):
        if len({str(each.results["config"][key]) for each in found}) > 1:
            raise ReportError(f"{folder}: the results differ in {key} and cannot stand in one table. Keep them apart.")
    return sorted(_told_apart(found), key=lambda each: each.order)


def read_results(path: Path) -> dict:
    """A results.json, checked as far as a report needs it.

    Raises:
        ReportError: It is damaged, or of another version.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        if results["format"] != FORMAT:
            raise ReportError(
                f"{path}: is of format {results['format']}, this version reads {FORMAT}. Run its test again."
            )
        config, scenes = results["config"], results["scenes"]
        right = all(isinstance(config[key], kind) for key, kind in _CONFIG.items())
        right &= all(is_scene_result(scene) for scene in scenes.values())
        right &= isinstance(results["complete"], bool) and isinstance(results["caveats"], list)
        right &= all(isinstance(caveat, str) for caveat in results["caveats"])
        right &= config["benchmark"] in BENCHMARKS and all(Path(name).name == name for name in scenes)
        right &= not results["complete"] or (bool(scenes) and isinstance(results["mean_seconds"], float))
    except ReportError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReportError(
            f"{path}: cannot be read as results ({error!r}). Run its test again, or remove it."
        ) from error
    if not right:
        raise ReportError(f"{path}: an entry is of the wrong type. Run its test again, or remove it.")
    return results


def _told_apart(found: list[ResultSet]) -> list[ResultSet]:
    """Where several have one title: add to each label what its configuration has that the others' have not."""
    labelled = []
    for each in found:
        same = [other for other in found if other.label == each.label]
        configs = [json.loads(json.dumps(other.results["config"])) for other in same]
        differing = [
            key
            for key in _TOLD_APART_BY
            if len({json.dumps(config.get(key), sort_keys=True) for config in configs}) > 1
        ]
        config = each.results["config"]
        details = [f"{key} {_short(config.get(key))}" for key in differing] or (
            [each.folder.name] if len(same) > 1 else []
        )
        labelled.append(ResultSet(each.folder, each.results, ", ".join([each.label, *details])))
    return labelled


def _short(value: object) -> str:
    if isinstance(value, dict) and all(isinstance(v, dict) for v in value.values()):
        return " ".join(str(v.get("sha256", v.get("seed", "")))[:8] for v in value.values())
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)
