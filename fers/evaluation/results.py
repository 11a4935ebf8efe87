"""Results of a run: what results.json holds, what it may depend on, and how finished results are read back and checked."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fers.datasets.benchmarks import BENCHMARKS
from fers.detectors.table import DETECTORS, code_of
from fers.evaluation.metrics import SCENE_MEASURES, as_truth, auc
from fers.networks.checkpoint import git_revision
from fers.scoring.pipeline import Pipeline
from fers.scoring.settings import SETTINGS
from fers.util.cite import citation, data_hash, release
from fers.util.errors import FersError
from fers.util.files import json_text, sha256_of, write_whole

RESULTS_FILE = "results.json"
RESULTS_FORMAT = 3
_SCENE_TYPES = {
    **dict.fromkeys(SCENE_MEASURES, float | None),
    **dict.fromkeys(("height", "width", "bands", "anomalous_pixels", "left_out_pixels"), int),
    "seconds": float,
    "cut": bool,
    "note": str,
}
_CONFIG_TYPES = {
    **dict.fromkeys(("title", "view", "detect", "benchmark", "data_path"), str),
    **dict.fromkeys(("bands", "start_band"), int),
}
_TOLD_APART_BY = ("seed", "checkpoint_dir", "backbone", "start_band", "nodata", "options", "sensor", "checkpoints")


class ReportError(FersError):
    """There is nothing to report on, or it does not belong together."""


@dataclass(frozen=True)
class Results:
    """The result of a run: the content of results.json.

    Scenes have, by their names, ``SCENE_MEASURES``, ``seconds``, ``height``, ``width``, ``bands``, ``anomalous_pixels``,
    ``left_out_pixels`` (those without a score), ``truth_sha256``, ``fingerprint`` (of cube and truth), ``note``, ``cut``
    (a part of the paper's scene), ``band_use`` (see there) and ``score_sha256`` (of the score map's file).
    """

    scenes: dict[str, dict]
    config: dict  # the full configuration, checkpoints and versions
    caveats: list[str]  # sentences that belong under the table
    complete: bool = True  # whether every scene is in it
    command: str = ""  # that made it
    release: str = ""  # version of FERS that made it; empty for the installed one

    @property
    def aucs(self) -> dict[str, float]:
        """AUC of the scenes that have one."""
        return {name: scene["auc"] for name, scene in self.scenes.items() if scene["auc"] is not None}

    @property
    def mean_auc(self) -> float | None:
        """Mean AUC over the scenes that have one."""
        return float(np.mean(list(self.aucs.values()))) if self.aucs else None

    @property
    def mean_seconds(self) -> float:
        """Mean seconds per scene, features and detector, without reading; of scenes scored together each has its share."""
        return float(np.mean([scene["seconds"] for scene in self.scenes.values()]))

    @property
    def citation(self) -> str:
        """Line to cite these numbers by; see ``fers.util.cite``."""
        marks = [scene.get("fingerprint", "") for scene in self.scenes.values()]
        return citation(self.command, data_hash(marks) if all(marks) else "", self.release)

    def write(self, save_dir: Path, complete: bool) -> None:
        """Write results.json into a folder, whole or not at all."""
        content = {
            "format": RESULTS_FORMAT,
            "complete": complete,
            "command": self.command,
            "release": self.release or release(),
            "scenes": self.scenes,
            "mean_auc": self.mean_auc,
            "mean_seconds": self.mean_seconds if self.scenes else None,
            "scenes_without_auc": sorted(self.scenes.keys() - self.aucs.keys()),
            "caveats": self.caveats,
            "config": self.config,
        }
        path = save_dir / RESULTS_FILE
        write_whole(path, (json_text(path, content, indent=2) + "\n").encode())


def full_config(pipeline: Pipeline) -> dict:
    """Everything that a result may depend on: the settings, the checkpoints by their bytes, versions, device."""
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(pipeline.config).items()}
    settings["options"] = dict(pipeline.config.options)
    settings["detect"] = pipeline.config.detect_name
    settings["features"] = pipeline.config.chosen_features
    del settings["strict"]  # it changes no result
    device = pipeline.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        **settings,
        "title": pipeline.config.title,
        "view": pipeline.config.setting_name,
        "fusion": pipeline.config.chosen_fusion,
        "code": code_of(pipeline.config.detect),
        "checkpoints": pipeline.provenance,
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
        "git_revision": git_revision(),
        "versions": {
            "fers": release(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }


def config_hash(config: dict) -> str:
    """Eight hexadecimal digits of a configuration: two that differ in a result's meaning differ in them."""
    skip = ("device", "device_name", "threads", "git_revision", "versions", "compile")
    text = json.dumps({key: value for key, value in config.items() if key not in skip}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def truth_sha256(truth: np.ndarray) -> str:
    """Fingerprint of a truth: the sha256 of its shape and values."""
    return hashlib.sha256(f"{truth.shape}".encode() + np.packbits(as_truth(truth)).tobytes()).hexdigest()


def read_score(save_dir: Path, name: str, found: dict, truth: np.ndarray) -> np.ndarray:
    """Read a scene's score map ``(H, W)``, and check that its entry in results.json, ``found``, is about it.

    Raises:
        FersError: It is missing or damaged, or another one by its shape, checksum, pixels without a score (NaN), or AUC.
    """
    path = save_dir / "scores" / f"{name}.npy"
    again = "The results or the ground truth have changed. Run its test again."
    try:
        score = np.load(path, allow_pickle=False)
        same = sha256_of(path) == found["score_sha256"]
    except Exception as error:  # numpy raises many kinds on a damaged file
        raise FersError(f"{path}: cannot be read as a score map ({error}). Run its test again.") from error
    if score.shape != truth.shape or score.dtype.kind not in "fiu" or np.isinf(score).any():
        raise FersError(
            f"{path}: a score map is {truth.shape[0]} x {truth.shape[1]} finite numbers; found {score.dtype} "
            f"{score.shape}. {again}"
        )
    left_out = np.isnan(score)
    if not same or left_out.sum() != found["left_out_pixels"]:
        raise FersError(f"{path}: is not the score map that {RESULTS_FILE} is about. {again}")
    value = auc(score, truth, left_out)
    if abs((value or 0) - (found["auc"] or 0)) > 1e-9:
        raise FersError(f"{path}: its AUC is {value}, {RESULTS_FILE} says {found['auc']}. {again}")
    return score


def read_results(path: Path) -> Results:
    """Read a results.json, checked as far as a report needs it.

    Raises:
        ReportError: It is damaged, or of another version.
    """
    again = "Run its test again, or remove it."
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != RESULTS_FORMAT:
            raise ReportError(f"{path}: is of format {found['format']}, this version reads {RESULTS_FORMAT}. {again}")
        made_by = str(found.get("command", "")), str(found.get("release", "unknown"))
        results = Results(found["scenes"], found["config"], found["caveats"], found["complete"], *made_by)
        if missing := [key for key in ("benchmark", "data_path") if key not in results.config]:
            raise ReportError(
                f"{path}: its config has no {' and no '.join(missing)}, so its scenes cannot be read again. Make it with "
                'test.py, or call evaluate(..., config={"benchmark": "ABU", "data_path": FOLDER}).'
            )
        typed: list[tuple[dict, dict]] = [
            (results.config, _CONFIG_TYPES),
            *((scene, _SCENE_TYPES) for scene in results.scenes.values()),
        ]
        right = all(isinstance(entry.get(key, ...), kind) for entry, kinds in typed for key, kind in kinds.items())
        right &= all(0 <= value <= 1 for value in results.aucs.values())
        right &= isinstance(results.complete, bool) and isinstance(results.caveats, list)
        right &= all(isinstance(caveat, str) for caveat in results.caveats)
        right &= results.config["benchmark"] in BENCHMARKS and all(Path(name).name == name for name in results.scenes)
        right &= not results.complete or (bool(results.scenes) and isinstance(found["mean_seconds"], float))
    except ReportError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ReportError(f"{path}: cannot be read as results ({error!r}). {again}") from error
    if not right:
        raise ReportError(f"{path}: an entry is of the wrong type. {again}")
    return results


@dataclass(frozen=True)
class ResultSet:
    """One finished folder of results."""

    folder: Path
    results: Results
    label: str  # head of its column; labels differ where settings do

    @property
    def configuration(self) -> str:
        """The configuration as text."""
        return json.dumps(self.results.config, indent=2)

    def score(self, name: str, truth: np.ndarray) -> np.ndarray:
        """Score map of a scene; see ``read_score``."""
        return read_score(self.folder, name, self.results.scenes[name], truth)


def find_result_sets(folder: str | Path) -> list[ResultSet]:
    """Find the finished results below a folder, in the order of the columns: from the plain cube to what is added to it.

    Raises:
        ReportError: There are none, one is damaged, or they are of different data.
    """
    paths = [path for path in sorted(Path(folder).rglob(RESULTS_FILE)) if not path.parent.name.startswith(".")]
    read = [(path.parent, read_results(path)) for path in paths]
    found = [ResultSet(place, results, results.config["title"]) for place, results in read if results.complete]
    if not found:
        raise ReportError(f"{folder}: no finished {RESULTS_FILE} here. Make one with test.py --save_dir {folder}/NAME.")
    for key in ("benchmark", "data_path", "bands", "start_band"):
        if len({str(each.results.config[key]) for each in found}) > 1:
            raise ReportError(f"{folder}: the results differ in {key} and cannot stand in one table. Keep them apart.")
    return sorted((_told_apart(each, found) for each in found), key=_column_order)


def _column_order(each: ResultSet) -> tuple[int, int, str]:
    config, names, views = each.results.config, list(DETECTORS), list(SETTINGS)
    detector = names.index(config["detect"]) if config["detect"] in names else len(names)
    return detector, views.index(config["view"]) if config["view"] in views else len(views), each.label


def _told_apart(one: ResultSet, found: list[ResultSet]) -> ResultSet:
    """Add to its label what its configuration has that others of the same label have not."""
    same = [each for each in found if each.label == one.label]
    if len(same) == 1:
        return one
    values = {key: [each.results.config.get(key) for each in same] for key in _TOLD_APART_BY}
    differing = [key for key, all_of in values.items() if any(value != all_of[0] for value in all_of)]
    details = [f"{key} {_brief(one.results.config.get(key))}" for key in differing] or [one.folder.name]
    return replace(one, label=", ".join([one.label, *details]))


def _brief(value: object) -> str:
    if isinstance(value, dict) and all(isinstance(v, dict) for v in value.values()):
        return " ".join(str(v.get("sha256", v.get("seed", "")))[:8] for v in value.values())
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)
