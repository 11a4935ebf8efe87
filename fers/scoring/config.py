"""Options that a score map is made with. No PyTorch here: command lines are built from these fields."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fers.detectors.table import DETECTORS, detector_name, find_detector, known_name
from fers.scoring.settings import (
    BRANCHES,
    FEATURES,
    FUSIONS,
    SETTINGS,
    WITHOUT_SPATIAL,
    Setting,
    default_fusion,
    setting_name,
)
from fers.util.commandline import device, natural, positive
from fers.util.errors import FersError
from fers.util.options import option
from fers.util.paths import checkpoint_folder

if TYPE_CHECKING:
    from fers.scenes.normalise import NoData

PRECISIONS = ("fp32", "bf16")


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"'{text}': expected NAME=VALUE, such as iterations=50")
    return name, value


def _detector(text: str) -> str:
    try:
        return known_name(text)
    except FersError as error:
        raise argparse.ArgumentTypeError(str(error).partition(": ")[2]) from error


@dataclass(frozen=True, kw_only=True)
class Method:
    """A detector on a setting, and the weights it needs: the options that every command shares.

    Attributes:
        detect: A detector, as ``fers.detectors.find_detector`` takes it: a name, or in Python a class, instance or function.
        options: The detector's own options, name and text; a dict will do.
        features: Features to add to the cube: nothing (``original``), F_spe of an untrained network (``untrained``, the
            control), F_spe (``spectral``), F_spa (``spatial``), or both (``fused``). A detector that is trained on background takes
            ``original`` only. None takes what ``DetectConfig.chosen_features`` says.
        fusion: How fused features are joined; None takes the detector's default. ``C``, ``D`` and ``H`` need no spatial branch,
            so they go with ``spectral`` and ``untrained`` features too.
        seed: Seed of the untrained network and of detectors with random weights.
        checkpoint_dir: Folder of the checkpoints; None for the default.
        backbone: Frozen layers instead of what a checkpoint says.
        strict: Refuse a Spa-FEN that another Spe-FEN taught, or that does not say which; else it is marked.
        device: ``auto``, ``gpu``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.

    Raises:
        FersError: The choices do not fit together.
    """

    detect: Any = option("RX", f"{', '.join(DETECTORS)}, or module:Name of your own", group="method", type=_detector)
    options: Any = option(
        (),
        "an option of the detector, such as --option iterations=50; give it as often as needed",
        group="method",
        flag="--option",
        type=_pair,
        metavar="NAME=VALUE",
        many=True,
    )
    features: str | None = option(
        None,
        "features to add to the cube (default: fused; spectral where the folder of the weights holds no Spa-FEN)",
        group="method",
        choices=FEATURES,
    )
    fusion: str | None = option(
        None,
        "how maps or features of two branches are joined; C, D and H are this project's own and need no spatial branch "
        "(default: A up to 50 bands and B above with RX; B with detectors that are trained on the scene)",
        group="method",
        choices=FUSIONS,
        type=str.upper,
    )
    seed: int = option(
        0, "seed of the untrained control and of detectors with random weights", group="method", type=natural
    )
    checkpoint_dir: Path | None = option(
        None, "folder of the weights (default: checkpoints/<sensor>_<bands>)", group="weights", type=Path
    )
    backbone: str | None = option(
        None,
        "frozen layers: imagenet, random[:SEED] or a path (default: what the checkpoint says; else imagenet)",
        group="weights",
    )
    strict: bool = option(
        False, "refuse a Spa-FEN that was taught by another Spe-FEN, instead of marking it", group="weights"
    )
    device: str = option(
        "auto",
        "auto (a GPU if there is one), gpu (stop if there is none), cpu, cuda, cuda:1, mps",
        group="run",
        type=device,
        names=("--device_ids",),
    )

    def __post_init__(self) -> None:
        pairs = self.options.items() if isinstance(self.options, dict) else self.options
        object.__setattr__(self, "options", tuple((str(name), str(value)) for name, value in pairs))
        if self.features not in (None, *FEATURES):
            raise FersError(f"--features {self.features}: choose among {', '.join(FEATURES)}.")
        if self.fusion is not None and self.fusion not in FUSIONS:
            raise FersError(f"--fusion {self.fusion}: choose among {', '.join(FUSIONS)}.")
        joins_one = self.fusion in WITHOUT_SPATIAL and self.features in ("spectral", "untrained")
        if self.fusion is not None and self.features not in (None, "fused") and not joins_one:
            raise FersError(
                f"--fusion {self.fusion} joins both branches; with --features {self.features} there is only one. Leave --fusion out."
            )
        row = DETECTORS.get(self.detect)
        if (
            row is not None
            and row.trains_on == "background"
            and (self.fusion or self.features not in (None, "original"))
        ):
            raise FersError(
                f"--detect {self.detect}: its network is trained on the cube itself. Give --features original and no --fusion."
            )

    @property
    def detect_name(self) -> str:
        """Name of the detector in tables and messages."""
        return detector_name(self.detect)


@dataclass(frozen=True)
class DetectConfig(Method):
    """A method, and the scenes it is for.

    Attributes:
        bands: C, given to the networks and detectors.
        sensor: Sensor of the checkpoint, for its default folder ``checkpoints/<sensor>_<bands>``.
        start_band: The first of the bands.
        select: ``last``, or ``oracle``: the iteration with the best AUC against the ground truth, for detectors that
            are trained on the scene.
        nodata: ``refuse`` scenes with pixels without data, ``keep`` them as the released code does, or ``mask`` them.
        precision: Precision of the networks: ``fp32`` or ``bf16``. It does not change the detectors.
        compile: Compile the networks with ``torch.compile``.

    Raises:
        FersError: The choices do not fit together.
    """

    bands: int = option(50, "bands given to the networks", group="data", flag="--input_channel", type=positive)
    sensor: str = "unknown"
    start_band: int = option(0, "the first of these bands", group="data", type=natural, names=("--start_channel_id",))
    nodata: NoData = option(
        "refuse",
        "pixels without data: refuse the scene, keep them as the released code does, or mask them so that they count nowhere",
        group="data",
        choices=("refuse", "keep", "mask"),
    )
    select: str = option(
        "last",
        "iteration of AE: the last, or, as in published tables, the one with the best AUC against the ground truth; marked",
        group="method",
        choices=("last", "oracle"),
        names=("--ae_select",),
    )
    precision: str = option(
        "fp32",
        "precision of the networks; bf16 is faster on hardware made for it and changes the result; marked",
        group="run",
        choices=PRECISIONS,
    )
    compile: bool = option(False, "compile the networks with torch.compile", group="run")

    @property
    def chosen_features(self) -> str:
        """The features in force: by default both branches, as in the paper, or the spectral one where there is no Spa-FEN."""
        if self.features is not None:
            return self.features
        row = DETECTORS.get(self.detect)
        if row is not None and row.trains_on == "background":
            return "original"
        spe_fen, spa_fen = (
            (self.checkpoint_folder / f"{branch}.safetensors").is_file() for branch in BRANCHES.values()
        )
        return "spectral" if spe_fen and not spa_fen and self.fusion is None else "fused"

    @property
    def chosen_fusion(self) -> str | None:
        """The fusion in force; None where only one branch is used."""
        if self.chosen_features != "fused":
            return self.fusion
        return self.fusion or default_fusion(find_detector(self.detect).fusion, self.bands)

    @property
    def setting_name(self) -> str:
        """The key of ``SETTINGS``."""
        return setting_name(self.chosen_features, self.chosen_fusion)

    @property
    def setting(self) -> Setting:
        """The row of ``SETTINGS``."""
        return SETTINGS[self.setting_name]

    @property
    def has_random_weights(self) -> bool:
        """True where the result depends on the seed."""
        return self.features == "untrained" or find_detector(self.detect).trains_on == "scene"

    @property
    def title(self) -> str:
        """Short name of the method, such as ``RX, fusion B``; methods with different results have different names."""
        what = f"fusion {self.chosen_fusion}" if self.chosen_fusion else self.chosen_features
        if self.chosen_fusion and self.features == "untrained":
            what += ", untrained"
        details = [f"{key} {value}" for key, value in self.options]
        if self.select != "last":
            details.append("oracle iteration")
        if self.precision != "fp32":
            details.append(self.precision)
        if self.nodata != "refuse":
            details.append(f"no-data {self.nodata}")
        seed = f", seed {self.seed}" if self.has_random_weights and self.seed else ""
        return f"{self.detect_name}{' (' + ', '.join(details) + ')' if details else ''}, {what}{seed}"

    @property
    def unit(self) -> str:
        """Unit of the scores, for the colour bar of a map."""
        return self.setting.unit or find_detector(self.detect).unit

    @property
    def checkpoint_folder(self) -> Path:
        """Folder in which the checkpoints are looked for."""
        return Path(self.checkpoint_dir or checkpoint_folder(self.sensor, self.bands))


def default_method(features: str | None, fusion: str | None, checkpoint_dir: object) -> dict[str, Any]:
    """Complete the method for a scene of the user's own, where little or nothing was chosen.

    Without any choice it is fusion D of an untrained network, which needs no weights and takes any number of bands
    (docs/beyond.md). With a folder of weights it is fusion D of the trained network.

    Returns:
        ``features``, ``fusion`` and ``backbone``, as ``Method`` takes them.
    """
    one_branch = "untrained" if checkpoint_dir is None else "spectral"
    if features is None:
        features = "fused" if fusion in ("A", "B") else one_branch
        fusion = fusion or "D"
    return {"features": features, "fusion": fusion} | ({"backbone": "random"} if features == "untrained" else {})
