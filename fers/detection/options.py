"""Options of a detection. The command line is built from these fields; no PyTorch here."""

from __future__ import annotations

import argparse
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fers.detectors.table import code_of
from fers.scoring.config import DetectConfig, Method, default_method
from fers.scoring.settings import SPATIAL_MODES
from fers.util.commandline import list_of, natural, positive
from fers.util.errors import FersError
from fers.util.options import option

DEFAULT_FAR = 1e-4
ROBUST_SHARE = 0.01
BACKGROUND_PIXELS = 1_000_000
FORMATS = ("tif", "envi")
RULES = ("far", "fdr", "top", "quantile", "score", "chi2")  # for the threshold
AFTER_SCORES = (
    *RULES,
    "candidates",
    "anomalies_at_most",
    "min_area",
    "max_area",
    "known",
    "known_from",
)  # no rescoring
KNOWN_FROM = ("list", "statistics")
LIKE_BY = ("ace", "mf", "sam")
RUN = "run.json"  # of a finished result
CANDIDATES = 20  # below the threshold, that are listed
ANOMALIES_AT_MOST = 0.03  # share of the scores that the first fit of the tail does not look at
METHODS: dict[str, dict[str, str]] = {  # meanings of --method of earlier versions
    "rx": {"features": "original"},
    "spectral": {},
    "rx-spectral": {"fusion": "H"},
    "spatial": {"features": "spatial"},
    "fused-A": {"features": "fused", "fusion": "A"},
    "fused-B": {"features": "fused", "fusion": "B"},
    "fused-C": {"fusion": "C"},
}
_OLD_NAMES = {"checkpoint": "checkpoint_dir", "mask": "left_out", "score_masked": "score_left_out"}
WITHOUT_PYOGRIO = "--gpkg needs the package pyogrio: pip install 'fers-had[gpkg]'."
_WORK_ONLY = ("memory", "workers", "device")  # change no number


def _value_range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not two numbers such as 0,1.2") from error
    return low, high


def _values(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number, or several such as 0,-9999") from error


@dataclass(frozen=True, kw_only=True)
class DetectOptions(Method):
    """Options of ``fers.detect``, beyond those of ``fers.scoring.config.Method``.

    Attributes:
        features: As in ``Method``; None for an untrained network, or the spectral branch of ``checkpoint_dir``, with
            fusion D.
        spatial: How the spatial branch sees the scene, ``scene`` or ``window``; None for ``scene``, up to 256 px.
        bands: ``good``, ``all``, ``first:N``, ``dry``, ``400-900nm``, ``10:90``, ``-26:29``, or several with commas; see
            ``fers.scenes.bands.choose_bands``.
        background: ``scene``, ``segment:ROWS``, ``robust`` or ``robust:SHARE``, or a background.npz of another run.
        background_pixels: About how many pixels mean and covariance of a background come from; 0 for all.
        left_out: A file of pixels to leave out of range and statistics; ``auto`` for the EMIT mask file next to the scene.
        score_left_out: Score these pixels nevertheless.
        value_range: Lowest and highest value for the normalised cube; None for those of the scene.
        far, fdr, top, quantile, score, chi2: Rule for the threshold, at most one: a false-alarm rate, a share of false pixels
            among those detected, a number of targets, a share of the pixels below it, a score, or a nominal rate by the
            chi-square law. Without one, ``far`` is 1e-4.
        candidates: Number of candidates below the threshold that are listed.
        anomalies_at_most: Share of the pixels that may be anomalies; see ``fers.detection.thresholds.Tail.fit``.
        min_area, max_area: Size of a target, in m2 where the scene is georeferenced, else in pixels.
        known: File of known places, as ``fers.detection.known.read_known`` reads it; on the command line ``--not``.
        known_from: What they are left out of: ``list`` of targets and candidates, or ``statistics`` of background, range and
            tail, or both.
        memory: Memory that this process may take, such as ``2GB``.
        workers: Blocks computed at a time; None for one on each core, as far as the memory allows.
        variable: Name of the cube in a file that holds several.
        axes, nodata, wavelengths, glt: What the file does not say, see ``fers.scenes.readers.open_scene``.

    Raises:
        FersError: The choices do not fit together.
    """

    features: str | None = option(
        None,
        "features to add to the cube: original, untrained, spectral, spatial or fused (default: fusion D of untrained, or "
        "of spectral with --checkpoint_dir)",
        group="method",
    )
    spatial: str | None = option(
        None, "how the spatial branch sees a scene above 256 px", group="method", choices=SPATIAL_MODES
    )
    bands: str = option(
        "good",
        "bands to use: good, all, first:N, 400-900nm, dry (no water vapour), 10:90 by number from 1, -26:29 to leave out; "
        "several with commas",
        group="method",
    )
    background: str = option(
        "scene", "background: scene, segment:ROWS, robust[:SHARE], or a background.npz", group="method"
    )
    background_pixels: int = option(
        BACKGROUND_PIXELS,
        "mean and covariance of a background come from about this many pixels, spread evenly; 0: from all",
        group="method",
        type=int,
    )
    value_range: tuple[float, float] | None = option(
        None,
        "range of the values, instead of the scene's own",
        group="method",
        flag="--range",
        type=_value_range,
        metavar="LOW,HIGH",
    )
    left_out: str | None = option(
        None,
        "file of pixels to leave out of the statistics: a raster, .png, .npy, .mat, shapes, or auto for EMIT's",
        group="pixels",
        names=("--mask",),
    )
    score_left_out: bool = option(
        False, "score the pixels of --left_out nevertheless", group="pixels", names=("--score_masked",)
    )
    far: float | None = option(
        None,
        f"false-alarm rate, by the fitted tail of the scores (default: {DEFAULT_FAR:g})",
        group="threshold (one of them)",
        type=float,
    )
    fdr: float | None = option(
        None,
        "expected share of false pixels among those detected, by the fitted tail",
        group="threshold (one of them)",
        type=float,
    )
    top: int | None = option(
        None, "report the N highest-scoring targets", group="threshold (one of them)", type=positive, metavar="N"
    )
    quantile: float | None = option(
        None, "set the threshold above this share of the pixels", group="threshold (one of them)", type=float
    )
    score: float | None = option(None, "set the threshold to this score", group="threshold (one of them)", type=float)
    chi2: float | None = option(
        None,
        "nominal rate by the chi-square law, which real scenes do not follow",
        group="threshold (one of them)",
        type=float,
    )
    candidates: int = option(
        CANDIDATES, "candidates below the threshold that are listed", group="targets", type=natural, metavar="K"
    )
    anomalies_at_most: float = option(
        ANOMALIES_AT_MOST, "share of the pixels that may be anomalies, for the fitted tail", group="targets", type=float
    )
    min_area: float | None = option(
        None, "smallest target: m2, or pixels without a georeference", group="targets", type=float
    )
    max_area: float | None = option(
        None, "largest target: m2, or pixels without a georeference", group="targets", type=float
    )
    known: str | None = option(
        None,
        "file of known places, such as false alarms: GeoJSON, a shapefile, a GeoPackage, or CSV with row and column",
        group="targets",
        flag="--not",
    )
    known_from: tuple[str, ...] = option(
        ("list",),
        "what the places of --not are left out of: list, statistics, or both with a comma (default: list)",
        group="targets",
        flag="--not_from",
        type=list_of(KNOWN_FROM),
    )
    memory: str = option("2GB", "memory for this process, or for each worker of a cluster", group="run")
    workers: int | None = option(
        None,
        "blocks to compute at a time (default: one on each core, as far as the memory allows)",
        group="run",
        type=positive,
    )
    variable: str | None = option(
        None, "name of the cube in a .mat, .npz or HDF5 file that holds several", group="data"
    )
    # what a file does not say about itself
    axes: str | None = option(None, "order of the axes of the cube, such as y,x,band", group="data")
    nodata: tuple[float, ...] | None = option(
        None, "value that means no data, instead of the file's; several with commas", group="data", type=_values
    )
    wavelengths: str | None = option(
        None, "file of the bands' wavelengths: text, .npy, or the .hdr of another scene", group="data", metavar="FILE"
    )
    glt: str | None = option(
        None, "file of the place of each pixel: a GLT, IGM or LOC; none for none", group="data", metavar="FILE"
    )

    def __post_init__(self) -> None:
        chosen = default_method(self.features, self.fusion, self.checkpoint_dir)
        object.__setattr__(self, "features", chosen["features"])
        object.__setattr__(self, "fusion", chosen["fusion"])
        if self.backbone is None and "backbone" in chosen:
            object.__setattr__(self, "backbone", chosen["backbone"])
        super().__post_init__()
        if self.features in ("spectral", "spatial", "fused") and self.checkpoint_dir is None:
            raise FersError(
                f"--features {self.features}: needs trained weights. Give --checkpoint_dir, or --features untrained."
            )
        rules = [name for name in RULES if getattr(self, name) is not None]
        if len(rules) > 1:
            raise FersError(f"--{' and --'.join(rules)}: give one rule for the threshold.")
        if not rules:
            object.__setattr__(self, "far", DEFAULT_FAR)
        for name, value in vars(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
                flag = "range" if name == "value_range" else name
                raise FersError(f"--{flag} {','.join(map(str, numbers))}: give finite numbers.")
        for name in ("far", "fdr", "quantile", "chi2"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < 1:
                raise FersError(f"--{name} {rate:g}: give a number between 0 and 1.")
        if wrong := set(self.known_from) - set(KNOWN_FROM) or (not self.known_from and {"nothing"}):
            raise FersError(f"--not_from {', '.join(wrong)}: give list, statistics, or both with a comma.")
        if not 0 < self.anomalies_at_most <= 0.3:
            raise FersError(f"--anomalies_at_most {self.anomalies_at_most:g}: give a share above 0 and up to 0.3.")
        if self.candidates < 0:
            raise FersError(f"--candidates {self.candidates}: give a number, 0 or more.")
        if self.chi2 is not None and not self.follows_chi2:
            raise FersError("--chi2: only RX on one cube has a chi-square law. Use --far, or --features original.")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise FersError(f"--range {self.value_range[0]:g},{self.value_range[1]:g}: the first must be the lower.")
        if self.background_pixels < 0:
            raise FersError(f"--background_pixels {self.background_pixels}: give a number of pixels, or 0 for all.")
        _ = self.segment_rows, self.robust_share, self.background_file

    def config(self, bands: int, device: str | None = None) -> DetectConfig:
        """Return the configuration that scores a scene of this number of bands."""
        shared = {name: getattr(self, name) for name in Method.__dataclass_fields__}
        return DetectConfig(bands, **(shared | {"device": device or self.device}))

    @property
    def follows_chi2(self) -> bool:
        """True where a Gaussian background's scores would have a chi-square law: RX on one cube."""
        return self.detect == "RX" and len(self.config(3).setting.cubes) == 1

    @property
    def segment_rows(self) -> int | None:
        """Rows of a segment; None for one background for the whole scene."""
        kind, _, value = self.background.partition(":")
        if kind != "segment":
            return None
        if not value.isdigit() or int(value) < 1:
            raise FersError(f"--background {self.background}: give the rows of a segment, such as segment:1000.")
        return int(value)

    @property
    def robust_share(self) -> float | None:
        """Share of the highest scores that a robust background leaves out; None for another background."""
        kind, _, value = self.background.partition(":")
        if kind != "robust":
            return None
        try:
            share = float(value) if value else ROBUST_SHARE
        except ValueError:
            share = 0.0
        if not 0 < share < 0.5:
            raise FersError(f"--background {self.background}: give the share to leave out, such as robust:0.01.")
        return share

    @property
    def background_file(self) -> Path | None:
        """File of a background that another run saved; None for another background."""
        if self.background == "scene" or self.background.partition(":")[0] in ("segment", "robust"):
            return None
        if not Path(self.background).is_file():
            raise FersError(
                f"--background {self.background}: no such file. Give scene, segment:ROWS, robust, or a background.npz."
            )
        return Path(self.background)

    @property
    def reading(self) -> dict[str, Any]:
        """Arguments of ``open_scene``."""
        return {name: getattr(self, name) for name in ("variable", "axes", "nodata", "wavelengths", "glt")}

    def record(self) -> dict[str, Any]:
        """Return all options in the form that JSON keeps, and the fingerprint of the detector's code."""
        given = {key: str(value) if isinstance(value, Path) else value for key, value in vars(self).items()}
        return {**given, "detect": self.detect_name, "code": code_of(self.detect)}

    @property
    def identity(self) -> dict[str, Any]:
        """Options on which the numbers depend."""
        return {key: value for key, value in self.record().items() if key not in _WORK_ONLY}


@dataclass(frozen=True, kw_only=True)
class Work:
    """Options of products and of the workers that compute them.

    Attributes:
        save_dir: Folder of results; each scene gets a folder of its name in it.
        format: Formats of the score map.
        gpkg: Write GeoPackages too.
        north_up: Write maps with north up instead of on the scene's own grid.
        force: Compute finished scenes again.
        common_background: One range and one background for all scenes.
        scheduler, scheduler_file: Address or file of a Dask cluster; without one, threads of this process compute.
        plan: Print what would be done; compute nothing.
        quiet: Show no progress bars.

    Raises:
        FersError: A GeoPackage is asked for and pyogrio is not installed.
    """

    save_dir: Path = option(Path("results/detect"), "folder of results", group="products", type=Path, names=("--out",))
    format: tuple[str, ...] = option(
        ("tif",), "format of the score map: tif, envi, or tif,envi", group="products", type=list_of(FORMATS)
    )
    gpkg: bool = option(False, "write the targets as a GeoPackage too (needs pyogrio)", group="products")
    force: bool = option(False, "compute finished scenes again", group="products")
    north_up: bool = option(
        False, "write maps with north up; the quick look always has it", group="products", names=("--north-up",)
    )
    common_background: bool = option(False, "score all scenes against one background", group="method")
    scheduler: str | None = option(None, "address of a Dask scheduler, such as tcp://10.0.0.1:8786", group="run")
    scheduler_file: str | None = option(
        None, "file that a Dask scheduler wrote", group="run", names=("--scheduler-file",)
    )
    plan: bool = option(False, "print what would be done and how long it would take; compute nothing", group="run")
    quiet: bool = option(False, "show no progress bars", group="run")

    def __post_init__(self) -> None:
        if self.gpkg and importlib.util.find_spec("pyogrio") is None:
            raise FersError(WITHOUT_PYOGRIO)  # now, instead of when all is computed


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Options of the step after a detection: where else is a spectrum, and what is it?

    Attributes:
        like: Number of a target, ``row,column``, or a file of spectra, with ``:NAME`` where it holds several.
        like_by: Measure that ranks the places.
        library: Spectral library whose nearest entries each target names.

    Raises:
        FersError: The measure is unknown.
    """

    like: str | None = option(
        None, "search for a spectrum: a target's number, row,column, or FILE[:NAME]", group="search", metavar="SPECTRUM"
    )
    like_by: str = option("ace", "measure of the search", group="search", choices=LIKE_BY)
    library: str | None = option(
        None, "spectral library whose nearest entries each target names", group="search", metavar="FILE"
    )

    def __post_init__(self) -> None:
        if self.like_by not in LIKE_BY:
            raise FersError(f"--like_by {self.like_by}: choose among {', '.join(LIKE_BY)}.")


def is_result(path: str | Path) -> bool:
    """Tell whether a path is the folder of a finished run, or the run.json in it."""
    path = Path(path)
    return (path / RUN).is_file() or (path.name == RUN and path.is_file())


def in_todays_words(given: dict[str, Any]) -> dict[str, Any]:
    """Rename the options of earlier versions.

    Raises:
        FersError: The method is unknown.
    """
    words = {_OLD_NAMES.get(name, name): value for name, value in given.items()}
    method = words.pop("method", None)
    if method is None:
        return words
    if method not in METHODS:
        raise FersError(f"--method {method}: no such method. Choose among {', '.join(METHODS)}.")
    one_branch = "untrained" if words.get("checkpoint_dir") is None else "spectral"
    return words | {"features": one_branch, "fusion": None} | METHODS[method]
