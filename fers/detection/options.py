"""What a user can ask of a detection."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fers.scoring.maps import DEFAULT_METHOD, METHODS
from fers.util.errors import FersError

DEFAULT_FAR = 1e-4
ROBUST_SHARE = 0.01
_WORK_ONLY = ("memory", "workers", "device")  # change no number


@dataclass(frozen=True)
class DetectOptions:
    """Options of ``detect``.

    Attributes:
        method: A key of ``METHODS``: ``rx`` on the values, ``spectral`` features, or the product of both maps.
        checkpoint: Folder of trained weights; None for the network that was never trained, for any number of bands.
        backbone: Frozen layers, ``imagenet``, ``random[:SEED]`` or a path; None for what the checkpoint says, or random.
        seed: Of the untrained network.
        spatial: How the spatial branch sees the scene, ``scene`` or ``window``; None for ``scene``, up to 256 px.
        bands: ``good``, ``all``, ``first:N``, ``400-900nm``, or several with commas.
        background: ``scene``, ``segment:ROWS``, ``robust`` or ``robust:SHARE``, or a background.npz of another run.
        mask: A file of pixels to leave out of range and statistics; ``auto`` for the EMIT mask beside the scene.
        score_masked: Score these pixels nevertheless.
        value_range: Lowest and highest value for the network's input; None for those of the scene.
        far, top, quantile, score, chi2: Exactly one rule for the threshold: a false-alarm rate, a number of targets, a share of
            the pixels below it, a score, or a nominal rate by the chi-square law. None of them: ``far`` of 1e-4.
        min_area, max_area: Of a target, in m2 where the scene is georeferenced, else in pixels.
        memory: What this process may take, such as ``2GB``.
        workers: Blocks computed at a time; None for one a core, as far as the memory allows.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        variable: Of a file that holds several cubes.

    Raises:
        FersError: The choices do not fit together.
    """

    method: str = DEFAULT_METHOD
    checkpoint: str | None = None
    backbone: str | None = None
    seed: int = 0
    spatial: str | None = None
    bands: str = "good"
    background: str = "scene"
    mask: str | None = None
    score_masked: bool = False
    value_range: tuple[float, float] | None = None
    far: float | None = None
    top: int | None = None
    quantile: float | None = None
    score: float | None = None
    chi2: float | None = None
    min_area: float | None = None
    max_area: float | None = None
    memory: str = "2GB"
    workers: int | None = None
    device: str = "auto"
    variable: str | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise FersError(f"--method {self.method}: no such method. Choose among {', '.join(METHODS)}.")
        rules = [name for name in ("far", "top", "quantile", "score", "chi2") if getattr(self, name) is not None]
        if len(rules) > 1:
            raise FersError(f"--{' and --'.join(rules)}: give one rule for the threshold.")
        if not rules:
            object.__setattr__(self, "far", DEFAULT_FAR)
        for name in ("far", "quantile", "chi2"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < 1:
                raise FersError(f"--{name} {rate:g}: give a number between 0 and 1.")
        if self.chi2 is not None and (len(METHODS[self.method]) > 1 or self.method == "fused-C"):
            raise FersError("--chi2: a product of several maps has no chi-square law. Use --far, or --method rx.")
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            raise FersError(f"--range {self.value_range[0]:g},{self.value_range[1]:g}: the first must be the lower.")
        _ = self.segment_rows, self.robust_share, self.background_file

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
        """The file of a background that another run saved."""
        if self.background == "scene" or self.background.partition(":")[0] in ("segment", "robust"):
            return None
        if not Path(self.background).is_file():
            raise FersError(
                f"--background {self.background}: no such file. Give scene, segment:ROWS, robust, or a background.npz."
            )
        return Path(self.background)

    @property
    def identity(self) -> dict[str, Any]:
        """The options that the numbers depend on."""
        return {key: value for key, value in asdict(self).items() if key not in _WORK_ONLY}
