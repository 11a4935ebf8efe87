"""The only place that scores: a normalised cube, or a stream of its strips, becomes a score map.

    H -> the cubes of a setting (H and what networks make of it) -> a detector each -> their maps joined

A scene in memory is scored at once (``Pipeline.score``). A larger one comes in strips of whole rows: ``collect`` takes
statistics of each strip, ``fit`` turns their sum into each detector's state, and ``scores`` gives the maps of a strip. For a
detector that streams, ``score`` does the same with the scene as one strip.

Pixels without data are filled (``fers.scenes.normalise.fill_no_data``), count in no statistics and are not scored: their score
is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from fers.detectors.background import Moments
from fers.detectors.base import Detector, StripDetector, Where, halo_of, product, takes_left_out
from fers.detectors.own import RULE, blaming, is_ours, place_of
from fers.detectors.table import find_detector, make_detector
from fers.scenes import Scene
from fers.scenes.normalise import REFLECTED, normalise, usable_pixels
from fers.scoring import fusion_c, fusion_d
from fers.scoring.config import DetectConfig
from fers.scoring.networks import Networks, choose_device, load_networks, sent
from fers.scoring.settings import Cube
from fers.util.errors import FersError

REACH = REFLECTED  # px: Spe-FEN's three 3x3 convolutions
AROUND = (
    REACH + 2 * REFLECTED
)  # rows that decide a row's features: what fills pixels without data comes from twice as far
_NO_SPA_FEN = "Only the spectral branch is used (H + F_spe): {folder} holds no Spa-FEN; checkpoints/README.md says why."
_OWN = {  # fusions whose last cube has a detector of its own, and how its map is joined to that of the first
    "C": (fusion_c.LogDistances, fusion_c.join),
    "D": (fusion_d.LogDistancesAndContrast, fusion_d.join_in_contrast),
}

Choice = Callable[[Iterable[torch.Tensor]], torch.Tensor]
"""A function that picks one of the score maps ``(1, H, W)`` that a detector gives, one for each iteration."""


@dataclass(frozen=True, eq=False)
class Strip:
    """Some whole rows of a scene with their surroundings.

    Attributes:
        h: ``(1, C, rows, W)`` normalised, with as many rows of the halo above and below as the scene has.
        inner: The rows of ``h`` that are the strip's own.
        where: Position of ``h`` in the scene.
        no_data: ``(1, rows, W)`` bool, pixels without data; None where there is none.
        left_out: ``(1, rows, W)`` bool, other pixels that the user leaves out of statistics; None where there is none.
        f_spa: Function from numbers of the scene's rows to their F_spa, ``(1, C, n, W)``.
    """

    h: torch.Tensor
    inner: slice
    where: Where
    no_data: torch.Tensor | None = None
    left_out: torch.Tensor | None = None
    f_spa: Callable[[np.ndarray], torch.Tensor] | None = None

    def around(self, halo: int) -> slice:
        """Return the strip's own rows of ``h``, and ``halo`` more above and below as far as the scene has them."""
        return slice(max(self.inner.start - halo, 0), min(self.inner.stop + halo, self.h.shape[2]))

    def uncounted(self, rows: slice) -> torch.Tensor | None:
        """Return the pixels ``(1, n, W)`` of some rows of ``h`` that count in no statistics; None for none."""
        no_data, left_out = _rows_of(self.no_data, rows), _rows_of(self.left_out, rows)
        return left_out if no_data is None else no_data if left_out is None else no_data | left_out


class Pipeline:
    """The networks and the detector of a configuration, loaded once for any number of scenes.

    Args:
        config: Configuration.
        networks: Networks to use instead of those that the configuration names, such as networks in training.
        detector: Detector to use instead of the one that the configuration names.

    Attributes:
        cubes: The cubes of the setting.
        detectors: One for each of them.
        halo: Rows that a strip needs above and below.
        local: Whether a strip's pixels are compared with their surroundings, in windows of a detector.
        streams: Whether a scene may come in strips; else it must be one strip.
        signed: Whether scores are logarithms or have a sign; else they are positive.
        statistics: The types that ``collect`` gives.
        samples: Whether statistics of a share of the pixels can stand for those of all: so for mean and covariance.
        provenance: For results.json: the checkpoints by their sha256 and metadata.

    Raises:
        CheckpointError: A checkpoint that is needed is missing or does not fit.
        BackboneError: Its frozen layers cannot be loaded.
        DeviceError: The device cannot be used.
        FersError: The detector is unknown, or has no such option.
    """

    def __init__(self, config: DetectConfig, networks: Networks | None = None, detector: Detector | None = None):
        self.config = config
        self.setting = config.setting
        self.device = choose_device(config.device)
        trained = () if detector else find_detector(config.detect).network
        self.networks = networks or load_networks(
            self.setting.needs,
            config.bands,
            config.checkpoint_folder,
            self.device,
            sensor=config.sensor,
            backbone=config.backbone,
            untrained_seed=config.seed if config.features == "untrained" else None,
            precision=config.precision,
            compiled=config.compile,
            detector=trained,
            strict=config.strict,
        )
        self.detector = detector or make_detector(config.detect, config.seed, config.options, self.networks.detector)
        if config.select == "oracle" and not hasattr(self.detector, "steps"):
            raise FersError(f"--select oracle: {config.detect_name} has no iterations to choose from. Leave it out.")
        own = [_OWN[self.setting.join][0]()] if self.setting.join in _OWN else []
        self.cubes = self.setting.cubes
        self.detectors: list[Detector] = [*[self.detector] * (len(self.cubes) - len(own)), *own]
        halos = [halo_of(detector) for detector in self.detectors]
        self.halo = max(
            (halo or 0) + (0 if cube == ("h",) else AROUND) for halo, cube in zip(halos, self.cubes, strict=True)
        )
        self.local = any(halos)
        self.streams = None not in halos
        self.signed = bool(own) or (len(self.cubes) == 1 and getattr(self.detector, "signed", False))
        self.statistics = [*(d.statistics for d in self.detectors if isinstance(d, StripDetector)), Moments]
        self.samples = self.streams and all(kind is Moments for kind in self.statistics)
        self.provenance = self.networks.provenance
        self._caveats = list(getattr(self.detector, "caveats", ()))
        if config.features is None and config.chosen_features == "spectral":
            self._caveats.append(_NO_SPA_FEN.format(folder=config.checkpoint_folder.name))
        if detector is None and (note := find_detector(config.detect).note):
            self._caveats.append(f"{config.detect_name}: {note}")
        if self.setting.ours:
            self._caveats.append(self.setting.ours)
        if config.select == "oracle":
            self._caveats.append(
                f"{config.detect_name} iteration chosen by the ground truth of each test scene (--select oracle)."
            )

    @property
    def caveats(self) -> list[str]:
        """Sentences that belong under every table made with this pipeline; scoring may add to them."""
        return [*self.networks.caveats, *self._caveats]

    def join(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Join the score maps of a setting's cubes, ``(N, H, W)`` each, NaN where nothing is scored, to one."""
        return _OWN[self.setting.join][1](maps) if self.setting.join in _OWN else product(maps)

    @torch.no_grad()
    def score(self, h: np.ndarray, left_out: np.ndarray | None = None, choice: Choice | None = None) -> np.ndarray:
        """Score scenes of one size.

        Args:
            h: ``(H, W, C)`` or ``(N, H, W, C)`` float32, each scene normalised.
            left_out: Pixels without data, of ``h``'s shape without bands: bool, or numbers that are not zero where a pixel
                is left out.
            choice: Picks the iteration whose map is kept, for a detector with ``steps``; None keeps the last.

        Returns:
            ``(H, W)`` or ``(N, H, W)`` score map, higher is more anomalous; NaN where a pixel is left out.

        Raises:
            ValueError: The detector cannot score one of the scenes, or cannot leave pixels out; or ``left_out`` is of
                another shape or holds no numbers.
        """
        if left_out is not None:
            left_out = np.asarray(left_out)
            if left_out.dtype.kind not in "biuf" or left_out.shape != h.shape[:-1]:
                raise FersError(f"left_out is {left_out.dtype} {left_out.shape}; give bool of {h.shape[:-1]}.")
            left_out = left_out != 0
        if h.ndim == 3:
            return self.score(h[None], None if left_out is None else left_out[None], choice)[0]
        cubes = sent(h, self.device).permute(0, 3, 1, 2)  # channels-last, as the networks like it
        no_data = sent(left_out, self.device) if left_out is not None and left_out.any() else None
        together = 1 if self.device.type == "cpu" or no_data is not None or choice is not None else len(cubes)
        maps: list[torch.Tensor] = []
        for number, made in enumerate(self.networks.cubes(self.cubes, cubes, together)):
            missing = None if no_data is None or not bool(no_data[number].any()) else no_data[number][None]
            parts = [
                self._whole(detector, cube, missing, choice)
                for detector, cube in zip(self.detectors, made, strict=True)
            ]
            if missing is not None:
                parts = [part.masked_fill(missing.to(part.device), torch.nan) for part in parts]
            maps.append(self.join(parts))
        return torch.cat(maps).cpu().numpy()

    @torch.no_grad()
    def collect(self, strip: Strip) -> list[Any]:
        """Compute the statistics of a strip: those of each detector that streams, and the moments of H."""
        found = []
        for number, detector in enumerate(self.detectors):
            if isinstance(detector, StripDetector):
                left_out = strip.uncounted(strip.inner)
                where = Where(strip.where.row + strip.inner.start, strip.where.height)
                cube = self._cube(strip, number, strip.inner)
                with blaming(detector, self.config.detect_name):
                    found.append(detector.collect(cube, left_out, where))
        if found and self.cubes[-1] == ("h",) and isinstance(found[-1], Moments):
            return [*found, found[-1]]
        return [*found, Moments.of(strip.h[:, :, strip.inner], strip.uncounted(strip.inner))]

    def fit(self, statistics: Sequence[Any], height: int) -> list[Any]:
        """Fit the detectors to the whole scene, given the sum of its strips' statistics; return their states.

        Raises:
            ValueError: The scene cannot be scored.
        """
        there, states = iter(statistics), []
        for detector in self.detectors:
            with blaming(detector, self.config.detect_name):
                states.append(
                    detector.fit(next(there), Where(0, height)) if isinstance(detector, StripDetector) else None
                )
        return states

    @torch.no_grad()
    def scores(self, strip: Strip, backgrounds: Sequence[Sequence[Any]]) -> list[list[torch.Tensor]]:
        """Score a strip's own rows against one or more backgrounds. Each cube is made once.

        Args:
            strip: The strip.
            backgrounds: States of the detectors, as ``fit`` gives them, for each background.

        Returns:
            For each cube the maps against each background, ``(1, rows, W)``; NaN where there is no data.
        """
        missing = _rows_of(strip.no_data, strip.inner)
        found = []
        for number, detector in enumerate(self.detectors):
            halo = halo_of(detector)
            rows = slice(0, strip.h.shape[2]) if halo is None else strip.around(halo)
            own = slice(strip.inner.start - rows.start, strip.inner.stop - rows.start)
            cube, left_out = self._cube(strip, number, rows), strip.uncounted(rows)
            maps = []
            for states in backgrounds:
                if halo is None or not isinstance(detector, StripDetector):
                    scored = self._whole(detector, cube, left_out, None)
                else:
                    with blaming(detector, self.config.detect_name):
                        scored = detector.score(cube, states[number], left_out)
                    self._check(detector, scored, cube, left_out)
                scored = scored[:, own]
                maps.append(scored if missing is None else scored.masked_fill(missing.to(scored.device), torch.nan))
            found.append(maps)
        return found

    def _cube(self, strip: Strip, number: int, rows: slice) -> torch.Tensor:
        """Make a cube of some rows of a strip; networks see as many rows more as they reach."""
        kind = self.cubes[number]
        reach = _reach(kind)
        outer = slice(max(rows.start - reach, 0), min(rows.stop + reach, strip.h.shape[2]))
        f_spa = None
        if "f_spa" in kind and strip.f_spa is not None:
            f_spa = strip.f_spa(np.arange(outer.start, outer.stop) + strip.where.row)
        [[cube]] = self.networks.cubes([kind], strip.h[:, :, outer], f_spa=f_spa)
        return cube[:, :, rows.start - outer.start :][:, :, : rows.stop - rows.start]

    def _whole(
        self, detector: Detector, cube: torch.Tensor, left_out: torch.Tensor | None, choice: Choice | None
    ) -> torch.Tensor:
        """Score whole images with a detector, and check the map."""
        name = self.config.detect_name
        if left_out is not None and not takes_left_out(detector):
            raise FersError(
                f"--detect {name}: cannot leave pixels out, and {int(left_out.sum())} pixels lack data or are left out. "
                "Cut them away, or choose a detector that can, such as RX."
            )
        arguments = {} if left_out is None else {"left_out": left_out}
        cube = cube if is_ours(detector) else cube.clone()  # which others may change
        with blaming(detector, name):
            chosen = detector.steps if choice is not None else detector  # type: ignore[attr-defined]
            scored = chosen(cube, **arguments)
            scored = scored if choice is None else choice(scored)
        self._check(detector, scored, cube, left_out)
        return scored

    def _check(self, detector: Detector, scored: Any, cube: torch.Tensor, left_out: torch.Tensor | None) -> None:
        """Refuse what is no score map of a cube, or lacks scores of pixels that count."""
        says = f"--detect {self.config.detect_name}: gave"
        if not isinstance(scored, torch.Tensor) or scored.shape != (len(cube), *cube.shape[2:]) or scored.is_complex():
            raise FersError(
                f"{says} {type(scored).__name__} {tuple(np.shape(scored))} for a cube {tuple(cube.shape)}"
                f"{place_of(detector)}. {RULE}"
            )
        lacking = ~torch.isfinite(scored)
        if left_out is not None:
            lacking &= ~left_out.to(lacking.device)
        if bool(lacking.any()):
            raise FersError(
                f"{says} NaN or infinite scores at {int(lacking.sum())} of {lacking.numel()} pixels{place_of(detector)}. "
                "Every pixel that counts needs a finite score."
            )


def read_h(config: DetectConfig, scene: Scene) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a scene as its normalised cube ``(H, W, C)``, and ``left_out`` ``(H, W)`` with ``nodata="mask"``.

    Raises:
        SceneError: The scene cannot be normalised, or lacks data where that is refused.
    """
    h = normalise(scene, config.bands, config.start_band, nodata=config.nodata)
    return h, ~usable_pixels(scene, config.bands, config.start_band) if config.nodata == "mask" else None


@lru_cache(maxsize=4)
def cached_pipeline(config: DetectConfig) -> Pipeline:
    """Make the pipeline of a configuration, once in each process."""
    return Pipeline(config)


def _reach(cube: Cube) -> int:
    return REACH if "f_spe" in cube else 0


def _rows_of(out: torch.Tensor | None, rows: slice) -> torch.Tensor | None:
    """Cut rows out of a map of pixels; None where none of them is marked."""
    return None if out is None or not bool(out[:, rows].any()) else out[:, rows]
