"""The rows of the paper's tables as settings, and what the user asked for: which of them, and the jobs behind each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments import ROOT
from experiments.jobs import SHIPPED, STAGE_FILES, Score, Weights, given, training
from experiments.workspace import Workspace
from fers.datasets.releases import RELEASES
from fers.detectors import find_detector
from fers.networks.download_released import is_released
from fers.scoring.settings import default_fusion
from fers.util.errors import FersError, did_you_mean

ORACLE = "Its iteration is chosen by the ground truth of each test scene, as the paper's AE numbers are."
AS_RELEASED = (
    "Fusion A as the authors' code computes it: RX in single precision and of truncated rank. The paper's fusion A "
    "numbers come from it; equations 17 to 22 say otherwise."
)
EQUATIONS = (
    "Fusion A by equations 17 to 22. The paper's fusion A numbers come from the RX of the authors' code, so they do not stand "
    "beside this row."
)
CONTROL = "Spe-FEN that was never trained. The paper does not have this row."
LAST = "The paper's AE numbers choose the iteration by the ground truth, so they do not stand beside this row."


@dataclass(frozen=True)
class TableRow:
    """A row of a table."""

    name: str  # as the table calls it
    config: Mapping[str, Any] = field(default_factory=dict)  # arguments of DetectConfig
    network: str = ""  # to train for it: nothing, spectral, fused, aetnet, rd4ad
    paper: tuple[str, str] = ("", "")  # method and features in published.csv; empty where the paper has no such row
    mark: str = ""  # what a reader must know
    losses: str = ""  # to train with, separated by commas; empty for all
    paper_losses: str = ""  # the same in published.csv
    recipe: str = "paper"  # of the training

    @property
    def oracle(self) -> bool:
        """True where the test set's ground truth had a part in it."""
        return self.config.get("select") == "oracle"


ORIGINAL = {"features": "original"}
PLAIN_RX = TableRow("RX", ORIGINAL, paper=("RX", "original"))
UNTRAINED = TableRow("untrained control", {"features": "untrained"}, mark=CONTROL)
RELEASED_RX: dict[str, Any] = {"fusion": "A", "options": {"solver": "released"}}
TABLE1 = [
    PLAIN_RX,
    TableRow("AE, last iteration", {**ORIGINAL, "detect": "AE"}, mark=LAST),
    TableRow("AE, oracle iteration", {**ORIGINAL, "detect": "AE", "select": "oracle"}, "", ("AE", "original"), ORACLE),
    TableRow("Auto-AD", {**ORIGINAL, "detect": "Auto-AD"}, paper=("Auto-AD", "original")),
    TableRow("LREN", {**ORIGINAL, "detect": "LREN"}, paper=("LREN", "original")),
    TableRow("RD4AD", {**ORIGINAL, "detect": "RD4AD"}, "rd4ad", ("RD4AD", "original")),
    TableRow("AETNet", {**ORIGINAL, "detect": "AETNet"}, "aetnet", ("AETNet", "original")),
    UNTRAINED,
    TableRow("FERD", {"features": "spectral"}, "spectral", ("FERD", "spectral")),
    TableRow("FERS", {"features": "fused"}, "fused", ("FERS", "fused")),
    TableRow(
        "FERS, fusion A as released", {"features": "fused", **RELEASED_RX}, "fused", ("FERS", "fused"), AS_RELEASED
    ),
]
TABLE3 = [
    PLAIN_RX,
    UNTRAINED,
    TableRow("spectral", {"features": "spectral"}, "spectral", ("RX", "spectral")),
    TableRow("spatial", {"features": "spatial"}, "fused", ("RX", "spatial")),
    TableRow("fusion A, equations", {"features": "fused", "fusion": "A"}, "fused", ("RX", "fused-A")),
    TableRow("fusion A, as released", {"features": "fused", **RELEASED_RX}, "fused", ("RX", "fused-A"), AS_RELEASED),
    TableRow("fusion B", {"features": "fused", "fusion": "B"}, "fused", ("RX", "fused-B")),
]
TABLE4 = [UNTRAINED] + [
    TableRow(name, {"features": "spectral"}, "spectral", ("RX", "spectral"), "", losses, paper)
    for name, losses, paper in (
        ("L_Z", "z", "Z"),
        ("L_mse + L_sim", "mse,sim", "mse+sim"),
        ("L_Z + L_mse", "z,mse", "Z+mse"),
        ("L_Z + L_sim", "z,sim", "Z+sim"),
        ("L_Z + L_mse + L_sim", "", "Z+mse+sim"),
    )
]
TABLE5 = [UNTRAINED] + [
    TableRow(name, {"features": "fused", "fusion": "A"}, "fused", ("RX", "fused-A"), "", losses, paper)
    for name, losses, paper in (
        ("L_cc + L_cos + L_var", "cc,cos,var", "cc+cos+var"),
        ("L_recon", "mse,ssim", "recon"),
        ("L_cc + L_cos + L_recon", "cc,cos,mse,ssim", "cc+cos+recon"),
        ("L_cc + L_var + L_recon", "cc,var,mse,ssim", "cc+var+recon"),
        ("L_cos + L_var + L_recon", "cos,var,mse,ssim", "cos+var+recon"),
        ("L_cc + L_cos + L_var + L_recon", "", "cc+cos+var+recon"),
    )
]
SEEN: dict[
    str, tuple[dict[str, Any], str, str]
] = {  # what a detector of Table II sees: features, network, the paper's name
    "original": (ORIGINAL, "", "original"),
    "untrained control": ({"features": "untrained"}, "", ""),
    "spectral": ({"features": "spectral"}, "spectral", ""),
    "enhanced": ({"features": "fused", "fusion": "B"}, "fused", "fused-B"),
}
TABLE2 = {  # detector: its settings, and whether the paper's numbers may stand beside it
    "RX": ({"detect": "RX"}, True),
    "AE, last": ({"detect": "AE"}, False),
    "AE, oracle": ({"detect": "AE", "select": "oracle"}, True),
    "Auto-AD": ({"detect": "Auto-AD"}, True),
}


RECIPES = ("paper", "released")
ROW_NAMES = {row.name for row in (*TABLE1, *TABLE3, *TABLE4, *TABLE5)} | set(TABLE2)
ROW_NAMES |= {f"{name}, {recipe} recipe" for name in ROW_NAMES for recipe in RECIPES[1:]}


def row_names(text: str) -> tuple[str, ...]:
    """Split a list of rows at its commas, but for those that stand in the name of a row.

    Example:
        >>> row_names("RX,fusion A, equations,AE")
        ('RX', 'fusion A, equations', 'AE')
    """
    parts, found = text.split(","), []
    while parts:
        several = (n for n in range(len(parts), 1, -1) if _is_a_row(",".join(parts[:n])))
        count = next(several, 1)
        found.append(",".join(parts[:count]).strip())
        parts = parts[count:]
    return tuple(filter(None, found))


def _is_a_row(text: str) -> bool:
    return any(_matches(row, text.strip()) for row in ROW_NAMES)


def table2_row(detector: str, seen: str) -> TableRow:
    """Make a row of Table II: a key of ``TABLE2`` on a key of ``SEEN``."""
    config, comparable = TABLE2[detector]
    features, network, published = SEEN[seen]
    marks = (
        ORACLE if "oracle" in detector else LAST if not comparable else "",
        CONTROL if features == UNTRAINED.config else "",
    )
    paper = (str(config["detect"]), published) if comparable and published else ("", "")
    return TableRow(f"{detector}: {seen}", {**config, **features}, network, paper, " ".join(filter(None, marks)))


@dataclass(frozen=True)
class Request:
    """A user's request; ``reproduce.py --help`` says what the options mean."""

    weights: str = "own"
    seeds: tuple[int, ...] = (0,)
    training: tuple[str, ...] = ()  # options of the training scripts, such as ("--epochs", "60")
    nodata: str | None = None  # pixels without data, of patches and scenes; None for each script's default
    backbone: str = "imagenet"
    recipes: tuple[str, ...] = ("paper",)
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # the detectors' own, by detector
    names: tuple[str, ...] = ()  # of the rows to make; empty for all
    released: Path = ROOT / "checkpoints"
    had100: Workspace | None = None
    abu: Workspace | None = None
    bands: tuple[int, ...] = (50, 100, 200)
    positions: tuple[int, ...] = (58, 76, 87, 90)
    scores: tuple[tuple[str, Path], ...] = ()  # other people's score maps, a folder by the method's name
    own: tuple[str, ...] = ()  # detectors of the user's, module:Name
    device: str = "auto"
    facts: tuple[str, ...] = ()  # sentences below every table

    @property
    def first(self) -> Workspace:
        """HAD100, or what stands for it; a FersError where it is not there."""
        if self.had100 is None:
            raise FersError("--data: no HAD100 here. Give its folder, or make one up: fers data synthetic FOLDER")
        return self.had100

    @property
    def second(self) -> Workspace:
        """ABU, or what stands for it; a FersError where it is not there."""
        if self.abu is None:
            raise FersError("--abu: no ABU scenes here. Give their folder; to get them: fers data get abu")
        return self.abu

    @property
    def both(self) -> list[Workspace]:
        """The test sets that are there; a FersError where none is."""
        return [workspace for workspace in (self.had100, self.abu) if workspace is not None] or [self.first]

    @property
    def table1(self) -> list[TableRow]:
        """Rows of Table I, with those of the user's detectors."""
        return [*TABLE1, *(TableRow(name, {**ORIGINAL, "detect": name}) for name in self.own)]

    def wants(self, row: str) -> bool:
        """Tell whether a row was asked for: by its name, or by what its name begins with."""
        return not self.names or any(_matches(row, name) for name in self.names)

    def chosen(self, rows: Iterable[TableRow], bands: int) -> list[TableRow]:
        """The rows of a table for so many bands that were asked for, once for each recipe."""
        if default_fusion("by bands", bands) != "A":  # Table I has the fusion of each number of bands
            rows = [row for row in rows if row.mark != AS_RELEASED or "FERS" not in row.name]
        found = []
        for row in rows:
            trained = row.network in ("spectral", "fused") and self.weights == "own"
            for recipe in self.recipes if trained else ("paper",):
                name = row.name if recipe == "paper" else f"{row.name}, {recipe} recipe"
                found.append(replace(row, name=name, recipe=recipe))
        return [row for row in found if self.wants(row.name)]

    def check(self) -> None:
        """Refuse rows, options and names of score maps that fit no table."""
        for name in self.own:
            find_detector(name)
        known = {*ROW_NAMES, *self.own}
        for name in self.names:
            if not any(_matches(row, name) for row in known):
                hint = did_you_mean(name, known)
                there = ", ".join(sorted(row for row in known if not row.endswith(" recipe")))
                raise FersError(f"--rows {name}: no table has such a row.{hint} There are: {there}.")
        detectors = {str(row.config.get("detect", "RX")) for row in self.table1}
        for name in self.options:
            if name not in detectors:
                raise FersError(f"--option {name}: no detector of the tables. Choose among {', '.join(detectors)}.")
        for name, _ in self.scores:
            if name in {row.name for row in self.table1}:
                raise FersError(f"--scores {name}: the table has a row of this name. Give another.")

    def seen(self, workspace: Workspace, bands: int) -> list[str]:
        """The keys of ``SEEN`` that can be made: ``enhanced`` needs both branches."""
        return [seen for seen in SEEN if seen != "enhanced" or self.has_both(workspace, bands)]

    def has_both(self, workspace: Workspace, bands: int) -> bool:
        """Tell whether rows of both branches can be made: they need training patches, or a Spa-FEN that is there already."""
        released = self._released(workspace, bands) if self.weights == "released" else None
        places = [released, ROOT / "checkpoints" / SHIPPED if workspace.benchmark == "ABU" else None]
        return workspace.has_patches or any((place / STAGE_FILES["stage2"]).is_file() for place in places if place)

    def jobs(self, workspace: Workspace, row: TableRow, bands: int) -> list[Score]:
        """Score jobs of a row, one a seed where the seed has a part in the result."""
        config = dict(row.config)
        detector = str(config.get("detect", "RX"))
        if options := {**self.options.get(detector, {}), **config.get("options", {})}:
            config["options"] = options
        if config["features"] == "untrained":
            config["backbone"] = self.backbone
        if self.nodata:
            config["nodata"] = self.nodata
        weights = self._weights(workspace, row, bands, self.seeds[0])
        random = config["features"] == "untrained" or find_detector(detector).trains_on == "scene"
        varies = random or (weights is not None and weights.log is not None)
        return [
            Score(workspace, row.name, bands, seed, config, self._weights(workspace, row, bands, seed))
            for seed in (self.seeds if varies else self.seeds[:1])
        ]

    def _weights(self, workspace: Workspace, row: TableRow, bands: int, seed: int) -> Weights | None:
        if not row.network:
            return None
        backbone = ("--backbone", self.backbone)
        if row.network not in ("spectral", "fused"):
            options = (*self.training, *(backbone if row.network == "rd4ad" else ()))
            return training(workspace, row.network, bands, seed, options)
        options = (*self.training, "--recipe", row.recipe, *backbone)
        losses = ("--losses", row.losses) if row.losses else ()
        ablated = losses if row.network == "spectral" else ()
        place, shipped = workspace.folder / "weights", ROOT / "checkpoints" / SHIPPED
        first = second = None  # files of Spe-FEN and Spa-FEN that are there already
        if self.weights == "released" and not ablated:
            first = self._released(workspace, bands) / STAGE_FILES["stage1"]
            spa_fen = first.with_name(STAGE_FILES["stage2"])
            second = spa_fen if spa_fen.is_file() and not losses else None
        if workspace.benchmark == "ABU" and not workspace.has_patches:  # the weights that are shipped
            first = first or shipped / STAGE_FILES["stage1"]
            if (own := shipped / STAGE_FILES["stage2"]).is_file():  # none is shipped; a user may have trained one
                second = second or own
        if row.network == "fused" and first and second:
            return given((first, second), place)
        teacher = given((first,), place) if first else training(workspace, "stage1", bands, seed, (*options, *ablated))
        if row.network == "spectral":
            return teacher
        return training(workspace, "stage2", bands, seed, (*options, *losses), teacher)

    def _released(self, workspace: Workspace, bands: int) -> Path:
        folder = self.released / (RELEASES["abu"].checkpoints if workspace.benchmark == "ABU" else f"aviris_ng_{bands}")
        found = folder / STAGE_FILES["stage1"]
        if found.is_file() and not is_released(found):
            raise FersError(f"{found}: holds other weights than the authors'. Name their folder with --released.")
        return folder


def beside_paper(row: TableRow, bands: int) -> TableRow:
    """Take the paper's number from a row of fusion A by the equations, and mark it: that number was computed otherwise."""
    config = row.config
    fusion = config.get("fusion") or default_fusion("by bands", bands)
    if config.get("features") != "fused" or fusion != "A" or "options" in config:
        return row
    return replace(row, paper=("", ""), mark=EQUATIONS)


def _matches(row: str, name: str) -> bool:
    return row.lower() == name.lower() or row.lower().startswith(name.lower() + ",")
