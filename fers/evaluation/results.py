"""A run's results: what results.json holds, what it may depend on, and how it is read back.

``evaluate`` writes them; the report and the experiments read them.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fers.evaluation.metrics import auc
from fers.networks.checkpoint import git_revision
from fers.scoring.pipeline import Pipeline
from fers.util.errors import FersError
from fers.util.files import atomic_path, sha256_of

RESULTS_FILE = "results.json"


FORMAT = 2  # of results.json


SCENE_TYPES = {
    "auc": float | None,
    "seconds": float,
    "height": int,
    "width": int,
    "bands": int,
    "anomalous_pixels": int,
    "left_out_pixels": int,
    "cut": bool,
    "note": str,
}


@dataclass(frozen=True)
class Results:
    """What a run found.

    Attributes:
        scenes: By name: ``auc`` (None without both classes), ``seconds``, ``height``, ``width``, ``bands``,
            ``anomalous_pixels``, ``left_out_pixels``, ``mask_sha256``, ``note``, ``cut`` (a part of the paper's scene),
            ``band_use`` (see there), ``score_sha256`` (of the score map's file).
        config: The full configuration, checkpoints and versions.
        caveats: Sentences that belong under the table.
    """

    scenes: dict[str, dict]
    config: dict
    caveats: list[str]

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

    def to_json(self, complete: bool) -> dict:
        """As results.json stores it."""
        return {
            "format": FORMAT,
            "complete": complete,
            "scenes": self.scenes,
            "mean_auc": self.mean_auc,
            "mean_seconds": self.mean_seconds if self.scenes else None,
            "scenes_without_auc": sorted(self.scenes.keys() - self.aucs.keys()),
            "caveats": self.caveats,
            "config": self.config,
        }


def full_config(pipeline: Pipeline) -> dict:
    """Everything a result may depend on: the settings, the checkpoints by their bytes, versions, device."""
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(pipeline.config).items()}
    settings["options"] = dict(pipeline.config.options)
    device = pipeline.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        **settings,
        "title": pipeline.config.title,
        "view": pipeline.config.setting_name,
        "fusion": pipeline.config.chosen_fusion,
        "checkpoints": pipeline.provenance,
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
        "git_revision": git_revision(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def config_hash(config: dict) -> str:
    """Eight hexadecimal digits of what makes a configuration: two that differ in a result's meaning differ in it."""
    skip = ("device", "device_name", "threads", "git_revision", "versions", "compile")
    text = json.dumps({key: value for key, value in config.items() if key not in skip}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write_json(path: Path, content: dict) -> None:
    """Write a file of JSON, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def mask_sha256(mask: np.ndarray) -> str:
    """Of a mask's shape and values."""
    return hashlib.sha256(f"{mask.shape}".encode() + np.packbits(mask).tobytes()).hexdigest()


def read_score(save_dir: Path, name: str, found: dict, mask: np.ndarray) -> np.ndarray:
    """A scene's score map, seen to be the one that its entry in results.json is about.

    Args:
        save_dir: The folder of results.
        name: The scene.
        found: Its entry.
        mask: ``(H, W)``, its ground truth now.

    Raises:
        FersError: It is missing or damaged, or of another shape or AUC.
    """
    path = save_dir / "scores" / f"{name}.npy"
    again = "The results or the ground truth have changed. Run its test again."
    try:
        score = np.load(path, allow_pickle=False)
        same = sha256_of(path) == found.get("score_sha256", sha256_of(path))  # earlier versions have none
    except Exception as error:  # numpy raises many kinds on a damaged file
        raise FersError(f"{path}: cannot be read as a score map ({error}). Run its test again.") from error
    if score.shape != mask.shape or score.dtype.kind not in "fiu" or not np.isfinite(score).all():
        raise FersError(
            f"{path}: a score map is {mask.shape[0]} x {mask.shape[1]} finite numbers; found {score.dtype} {score.shape}. {again}"
        )
    value = auc(score, mask)
    if not same:
        raise FersError(f"{path}: is not the score map that {RESULTS_FILE} is about. {again}")
    # where pixels are left out, only the scene itself says which
    if not found["left_out_pixels"] and abs((value or 0) - (found["auc"] or 0)) > 1e-9:
        raise FersError(f"{path}: its AUC is {value}, {RESULTS_FILE} says {found['auc']}. {again}")
    return score


def is_scene_result(found: object) -> bool:
    """Whether an entry of results.json has everything with the right type."""
    return (
        isinstance(found, dict)
        and all(isinstance(found.get(key, ...), kind) for key, kind in SCENE_TYPES.items())
        and (found["auc"] is None or 0 <= found["auc"] <= 1)
    )
