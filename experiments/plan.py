"""The rows of the paper's tables as settings, and the jobs behind each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fers.scoring.views import default_fusion

from experiments import ROOT
from experiments.jobs import STAGE_FILES, Given, Score, Training, Weights
from experiments.workspace import Workspace
from fers.detectors import find_detector
from fers.networks.download_released import is_released
from fers.util.errors import FersError

ORACLE = "Its iteration is chosen by the ground truth of each test scene, as the paper's AE numbers are."
AS_RELEASED = (
    "Fusion A as the authors' code computes it: RX in single precision and of truncated rank. The paper's fusion A "
    "numbers come from it; equations 17 to 22 say otherwise."
)
CONTROL = "Spe-FEN that was never trained. The paper does not have this row."
LAST = "The paper's AE numbers choose the iteration by the ground truth, so they do not stand beside this row."


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        name: As the table calls it.
        config: Arguments of ``DetectConfig``.
        network: What must be trained for it: nothing, ``spectral``, ``fused``, ``aetnet``, ``rd4ad``.
        paper: Method and features in ``published.csv``; empty where the paper has no such row.
        mark: What a reader must know.
        losses: Terms to train with, separated by commas; empty for all.
        paper_losses: The same as ``published.csv`` has it.
        recipe: Of the training.
    """

    name: str
    config: Mapping[str, object] = field(default_factory=dict)
    network: str = ""
    paper: tuple[str, str] = ("", "")
    mark: str = ""
    losses: str = ""
    paper_losses: str = ""
    recipe: str = "paper"

    @property
    def oracle(self) -> bool:
        """Whether the test set's ground truth had a part in it."""
        return self.config.get("select") == "oracle"


ORIGINAL = {"features": "original"}
RX = Row("RX", ORIGINAL, paper=("RX", "original"))
UNTRAINED = Row("untrained control", {"features": "untrained"}, mark=CONTROL)
RELEASED_RX: dict[str, object] = {"fusion": "A", "options": {"solver": "released"}}
TABLE1 = [
    RX,
    Row("AE, last iteration", {**ORIGINAL, "detect": "AE"}, mark=LAST),
    Row("AE, oracle iteration", {**ORIGINAL, "detect": "AE", "select": "oracle"}, "", ("AE", "original"), ORACLE),
    Row("Auto-AD", {**ORIGINAL, "detect": "Auto-AD"}, paper=("Auto-AD", "original")),
    Row("LREN", {**ORIGINAL, "detect": "LREN"}, paper=("LREN", "original")),
    Row("RD4AD", {**ORIGINAL, "detect": "baselines.rd4ad:RD4ADDetector"}, "rd4ad", ("RD4AD", "original")),
    Row("AETNet", {"features": "aetnet"}, "aetnet", ("AETNet", "aetnet")),
    UNTRAINED,
    Row("FERD", {"features": "spectral"}, "spectral", ("FERD", "spectral")),
    Row("FERS", {"features": "fused"}, "fused", ("FERS", "fused")),
    Row("FERS, fusion A as released", {"features": "fused", **RELEASED_RX}, "fused", ("FERS", "fused"), AS_RELEASED),
]
TABLE3 = [
    RX,
    UNTRAINED,
    Row("spectral", {"features": "spectral"}, "spectral", ("RX", "spectral")),
    Row("spatial", {"features": "spatial"}, "fused", ("RX", "spatial")),
    Row("fusion A, equations", {"features": "fused", "fusion": "A"}, "fused", ("RX", "fused-A")),
    Row("fusion A, as released", {"features": "fused", **RELEASED_RX}, "fused", ("RX", "fused-A"), AS_RELEASED),
    Row("fusion B", {"features": "fused", "fusion": "B"}, "fused", ("RX", "fused-B")),
]
TABLE4 = [UNTRAINED] + [
    Row(name, {"features": "spectral"}, "spectral", ("RX", "spectral"), "", losses, paper)
    for name, losses, paper in (
        ("L_Z", "z", "Z"),
        ("L_mse + L_sim", "mse,sim", "mse+sim"),
        ("L_Z + L_mse", "z,mse", "Z+mse"),
        ("L_Z + L_sim", "z,sim", "Z+sim"),
        ("L_Z + L_mse + L_sim", "", "Z+mse+sim"),
    )
]
TABLE5 = [UNTRAINED] + [
    Row(name, {"features": "fused", "fusion": "A"}, "fused", ("RX", "fused-A"), "", losses, paper)
    for name, losses, paper in (
        ("L_cc + L_cos + L_var", "cc,cos,var", "cc+cos+var"),
        ("L_recon", "mse,ssim", "recon"),
        ("L_cc + L_cos + L_recon", "cc,cos,mse,ssim", "cc+cos+recon"),
        ("L_cc + L_var + L_recon", "cc,var,mse,ssim", "cc+var+recon"),
        ("L_cos + L_var + L_recon", "cos,var,mse,ssim", "cos+var+recon"),
        ("L_cc + L_cos + L_var + L_recon", "", "cc+cos+var+recon"),
    )
]
ENHANCED = {"features": "fused", "fusion": "B"}
TABLE2 = {  # detector: its settings, and whether the paper's numbers may stand beside it
    "RX": ({"detect": "RX"}, True),
    "AE, last": ({"detect": "AE"}, False),
    "AE, oracle": ({"detect": "AE", "select": "oracle"}, True),
    "Auto-AD": ({"detect": "Auto-AD"}, True),
}


@dataclass(frozen=True)
class Plan:
    """What the user asked for.

    Attributes:
        weights: ``own``: both stages are trained. ``released``: the authors' Spe-FEN, and Spa-FEN where they are there.
        seeds: Of training, and of detectors with random weights.
        training: Options of the training scripts, such as ``("--epochs", "60")``.
        backbone: Frozen layers of what is trained, and of the untrained control.
        recipes: Of both stages.
        options: The detectors' own options, by detector.
        rows: Names of the rows to make; empty for all.
        released: Folder of the released weights: 50, 100, 200 and abu.
    """

    weights: str = "own"
    seeds: tuple[int, ...] = (0,)
    training: tuple[str, ...] = ()
    backbone: str = "imagenet"
    recipes: tuple[str, ...] = ("paper",)
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    rows: tuple[str, ...] = ()
    released: Path = ROOT / "checkpoints"

    def chosen(self, rows: Iterable[Row], bands: int) -> list[Row]:
        """The rows of a table for so many bands that were asked for, once for each recipe."""
        found = []
        for row in rows:
            if (
                row.config.get("options") == {"solver": "released"}
                and "FERS" in row.name
                and self._fusion(bands) != "A"
            ):
                continue  # Table I has the fusion of each number of bands
            recipes = self.recipes if row.network in ("spectral", "fused") and self.weights == "own" else ("paper",)
            for recipe in recipes:
                name = row.name if recipe == "paper" else f"{row.name}, {recipe} recipe"
                found.append(Row(**{**vars(row), "name": name, "recipe": recipe}))
        return [row for row in found if not self.rows or any(_matches(row.name, name) for name in self.rows)]

    def check_rows(self, own: Sequence[str] = ()) -> None:
        """Raise ``FersError`` for a row that no table has; ``own`` are the user's detectors."""
        for name in own:
            find_detector(name)
        known = {row.name for row in (*TABLE1, *TABLE3, *TABLE4, *TABLE5)} | set(TABLE2) | set(own)
        for name in self.rows:
            if not any(_matches(row, name) for row in known):
                near = difflib.get_close_matches(name, known, 1, 0.4)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise FersError(f"--rows {name}: no table has such a row.{hint} There are: {', '.join(sorted(known))}.")
        detectors = {str(row.config.get("detect", "RX")) for row in TABLE1} | set(own)
        for name in self.options:
            if name not in detectors:
                raise FersError(f"--option {name}: no detector of the tables. Choose among {', '.join(detectors)}.")

    def scores(self, workspace: Workspace, row: Row, bands: int) -> list[Score]:
        """A row's jobs, one a seed where the seed has a part in the result."""
        config = dict(row.config)
        own = self.options.get(str(config.get("detect", "RX")), {})
        options = {**own, **dict(config.get("options", {}))}  # type: ignore[call-overload]
        if options:
            config["options"] = options
        if config["features"] == "untrained":
            config["backbone"] = self.backbone
        found = []
        for seed in self.seeds:
            weights = self._weights(workspace, row, bands, seed)
            file = STAGE_FILES["rd4ad"] if row.network == "rd4ad" else ""
            found.append(Score(workspace, row.name, bands, seed, config, weights, file))
            given = weights is None or isinstance(weights, Given)
            scene = find_detector(str(config.get("detect", "RX"))).trains_on == "scene"
            if given and not scene and config["features"] != "untrained":
                break  # every seed gives the same
        return found

    def _weights(self, workspace: Workspace, row: Row, bands: int, seed: int) -> Weights | None:
        if not row.network:
            return None
        if row.network in ("rd4ad", "aetnet"):
            self._needs_patches(workspace)
            backbone = ("--backbone", self.backbone) if row.network == "rd4ad" else ()
            return Training(workspace, row.network, bands, seed, (*self.training, *backbone))
        stage1_losses = row.losses if row.network == "spectral" else ""
        teacher = self.spectral(workspace, bands, seed, row.recipe, stage1_losses)
        if row.network == "spectral":
            return teacher
        return self.fused(workspace, bands, seed, row.recipe, row.losses, teacher)

    def spectral(self, workspace: Workspace, bands: int, seed: int, recipe: str = "paper", losses: str = "") -> Weights:
        """What has a Spe-FEN."""
        if self.weights == "released" and not losses:
            return Given((("spe_fen", self._released(workspace, bands)),), workspace.folder / "weights")
        if not workspace.has_patches and workspace.benchmark == "ABU":
            return Given((("spe_fen", ROOT / "checkpoints" / "aviris_200"),), workspace.folder / "weights")
        self._needs_patches(workspace)
        return Training(workspace, "stage1", bands, seed, self._stage_options(recipe, losses))

    def fused(
        self,
        workspace: Workspace,
        bands: int,
        seed: int,
        recipe: str = "paper",
        losses: str = "",
        teacher: Weights | None = None,
    ) -> Weights:
        """What has both branches."""
        teacher = teacher or self.spectral(workspace, bands, seed, recipe)
        place = workspace.folder / "weights"
        released = self._released(workspace, bands)
        if self.weights == "released" and not losses and (released / "spa_fen.safetensors").is_file():
            return Given((("spe_fen", released), ("spa_fen", released)), place)
        if isinstance(teacher, Given) and not workspace.has_patches and workspace.benchmark == "ABU":
            return Given((*teacher.folders, ("spa_fen", ROOT / "checkpoints" / "aviris_200")), place)
        self._needs_patches(workspace)
        return Training(workspace, "stage2", bands, seed, self._stage_options(recipe, losses), teacher)

    def _stage_options(self, recipe: str, losses: str) -> tuple[str, ...]:
        chosen = ("--losses", losses) if losses else ()
        return (*self.training, "--recipe", recipe, "--backbone", self.backbone, *chosen)

    def _released(self, workspace: Workspace, bands: int) -> Path:
        folder = self.released / ("aviris_200_released" if workspace.benchmark == "ABU" else f"aviris_ng_{bands}")
        found = folder / "spe_fen.safetensors"
        if found.is_file() and not is_released(found):
            raise FersError(f"{found}: holds other weights than the authors'. Name their folder with --released.")
        return folder

    @staticmethod
    def _fusion(bands: int) -> str:
        return default_fusion("by bands", bands)

    @staticmethod
    def _needs_patches(workspace: Workspace) -> None:
        if not workspace.has_patches:
            raise FersError(
                f"{workspace.data / 'train' / workspace.row.sensor}: no training patches (*.npy) here. Give a data set "
                "that has them, or take --weights released, or leave out what is trained by --rows."
            )


def _matches(row: str, name: str) -> bool:
    """Whether a row was asked for: by its name, or by what its name begins with."""
    return row.lower() == name.lower() or row.lower().startswith(name.lower() + ",")
