"""A synthetic benchmark in HAD100's layout: made from a seed, for use where the real archive is not at hand.

A scene is built the way an airborne spectrometer sees one. Ground cover is drawn first: fields, roads, shore,
crowns, roofs. Each pixel gets abundances of parametric materials: softmax of Gaussian random fields within a
parcel, blurred by the sensor's point spread. Materials vary smoothly within a class. Terrain and shadow shade
the surface, sun and atmosphere turn reflectance into radiance, and the sensor adds noise, stripes and digital
counts. Anomalies are small man-made objects of materials that no background holds.

It stands in for HAD100 in tests and examples. No number measured on it says anything about HAD100 itself.

    python -m data.synthetic data/Synthetic --seed 0 --train 48 --test 12
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.fft import next_fast_len
from tqdm import tqdm

from data.files import atomic_path
from data.had100_prepare import SENSORS

KEPT_BANDS = SENSORS["aviris_ng"].kept  # 0-based, half-open
WAVELENGTHS_NM = np.concatenate([376.86 + 5.0086 * np.arange(a, b) for a, b in KEPT_BANDS])
"""Band centres in nm, ``(276,)``: AVIRIS-NG's grid of 425 bands, the ones HAD100 keeps."""

DEFAULT_DIFFICULTY = 0.5
MASK_FRACTION = 0.3  # an anomaly: an object's footprint fills at least this share of what the sensor sees
MIN_OBJECT_PX, MAX_OBJECT_PX = 2, 40
MIN_SIZE = 32
CROP_MARGIN = 17  # training scenes are this much larger than their corner crops: 81 px for 64, as in HAD100
FIRST_TRAIN_INDEX = 100_000  # scene indices of the training scenes; the test scenes count from 0

_PSF_SIGMA = 0.55  # px
_MODES = 5  # smooth spectral modes by which one material varies
_COUNT = 1 / 1024  # one digital count, in uW cm-2 sr-1 nm-1
_LAYOUT, _SPECTRA, _OBJECTS, _NOISE = range(4)  # purposes of the random streams


@dataclass(frozen=True)
class SyntheticScene:
    """One synthetic scene.

    Attributes:
        cube: ``(H, W, 276)`` float32, radiance in uW cm-2 sr-1 nm-1, >= 0, typically below 20.
        mask: ``(H, W)`` bool, True at anomalies.
        wavelengths: ``(276,)`` float64, band centres in nm.
    """

    cube: np.ndarray
    mask: np.ndarray
    wavelengths: np.ndarray


# ---- spectra: reflectance in [0, 1] over WAVELENGTHS_NM, from smooth analytic curves


def _bump(centre: float, width: float, nm: np.ndarray = WAVELENGTHS_NM) -> np.ndarray:
    return np.exp(-0.5 * ((nm - centre) / width) ** 2)


def _step(centre: float, width: float, nm: np.ndarray = WAVELENGTHS_NM) -> np.ndarray:
    return 1 / (1 + np.exp(-(nm - centre) / width))


def _dips(*features: tuple[float, float, float]) -> np.ndarray:
    """Product of absorption features, each (centre in nm, width in nm, depth 0 to 1)."""
    curve = np.ones(WAVELENGTHS_NM.size)
    for centre, width, depth in features:
        curve *= 1 - depth * _bump(centre, width)
    return curve


def _ramp(*points: tuple[float, float]) -> np.ndarray:
    """A smooth continuum through (nm, reflectance) points: piecewise linear, rounded over about 100 nm."""
    grid = np.arange(0.0, 3000.0, 10.0)
    nm, value = zip(*points, strict=True)
    smooth = ndimage.gaussian_filter1d(np.interp(grid, nm, value), 8.0, mode="nearest")
    return np.interp(WAVELENGTHS_NM, grid, smooth)


# fmt: off
def _leaf(chlorophyll: float, nir: float, water: float, edge: float = 716.0) -> np.ndarray:
    visible = 0.035 + 0.065 * (1.4 - chlorophyll) * _bump(553, 33) + 0.05 * (1 - chlorophyll) * _step(590, 25)
    plateau = nir * _ramp((700, 0.96), (900, 1.0), (1250, 0.98), (1650, 0.74), (2200, 0.52), (2500, 0.36))
    edge_up = _step(edge, 11)
    dips = ((975, 24, 0.06), (1190, 42, 0.17), (1450, 62, 0.68), (1945, 85, 0.86), (2500, 190, 0.65))
    wet = _dips(*((centre, width, min(0.95, water * depth)) for centre, width, depth in dips))
    return visible * (1 - edge_up) + plateau * edge_up * wet


def _straw(level: float) -> np.ndarray:
    base = _ramp((400, 0.1), (550, 0.2), (750, 0.36), (1100, 0.5), (1650, 0.54), (2100, 0.42), (2500, 0.3))
    return level * base * _dips(
        (670, 18, 0.08), (1200, 35, 0.05), (1450, 45, 0.2), (1730, 28, 0.06),
        (1930, 50, 0.3), (2100, 48, 0.17), (2310, 38, 0.15),
    )


def _soil(level: float, iron: float, clay: float, carbonate: float, moisture: float) -> np.ndarray:
    base = _ramp((380, 0.16), (550, 0.4), (800, 0.68), (1300, 0.9), (1800, 1), (2200, 0.95), (2500, 0.82))
    rust = 1 - iron * (1 - _step(575, 28)) * 0.75
    return level * base * rust * _dips(
        (500, 35, 0.25 * iron), (660, 35, 0.06 * iron), (880, 70, 0.22 * iron),
        (1412, 22, 0.3 * clay), (2206, 22, 0.3 * clay), (2338, 26, 0.35 * carbonate),
        (1450, 60, 0.4 * moisture), (1925, 55, 0.2 + 0.5 * moisture),
    )


def endmembers() -> dict[str, np.ndarray]:
    """The background materials.

    Returns:
        Name -> reflectance ``(276,)`` float64 in [0, 1] over `WAVELENGTHS_NM`.
    """
    return {
        "grass": _leaf(0.75, 0.46, 0.95),
        "crop": _leaf(0.95, 0.55, 1.05, edge=720),
        "tree": 0.88 * _leaf(1.05, 0.42, 1.0, edge=718),
        "shrub": _leaf(0.55, 0.32, 0.75, edge=710),
        "dry_vegetation": _straw(0.95),
        "stubble": _straw(0.62),
        "loam": _soil(0.34, 0.25, 0.5, 0.0, 0.35),
        "red_soil": _soil(0.46, 0.95, 0.6, 0.0, 0.1),
        "sand": _soil(0.66, 0.3, 0.1, 0.3, 0.02),
        "clay": _soil(0.5, 0.15, 0.9, 0.7, 0.1),
        "clear_water": 0.004 + 0.05 * (1 - _step(590, 38)) + 0.012 * _bump(540, 40),
        "turbid_water": 0.006 + 0.09 * _bump(575, 75) + 0.035 * _bump(690, 45) + 0.015 * _bump(810, 30),
        "asphalt": _ramp((400, 0.07), (700, 0.105), (1200, 0.14), (1800, 0.17), (2500, 0.17))
        * _dips((2310, 40, 0.05)),
        "concrete": _ramp((380, 0.16), (550, 0.27), (800, 0.33), (1600, 0.38), (2500, 0.31))
        * _dips((900, 90, 0.03), (1430, 45, 0.08), (1930, 55, 0.16), (2338, 28, 0.09)),
        "tile_roof": (0.07 + 0.27 * _step(588, 24))
        * _ramp((400, 1), (1300, 1.35), (1800, 1.45), (2500, 1.35))
        * _dips((870, 65, 0.14), (1930, 50, 0.08), (2206, 20, 0.05)),
        "shingle_roof": _ramp((400, 0.11), (700, 0.145), (1300, 0.165), (2500, 0.2))
        * _dips((1730, 20, 0.04), (2310, 30, 0.08)),
    }


_CH = ((1212, 16, 0.09), (1395, 20, 0.12), (1727, 19, 0.34), (2310, 34, 0.45))  # C-H overtones of polymers


def object_materials() -> dict[str, np.ndarray]:
    """The materials of the anomalies; none of them is in the background.

    Returns:
        Name -> reflectance ``(276,)`` float64 in [0, 1] over `WAVELENGTHS_NM`.
    """
    binder = _dips((1727, 17, 0.12), (2310, 30, 0.2))  # paint: thin polymer on something else
    return {
        "white_paint": 0.72 * _step(412, 9) * binder
        * _ramp((400, 1), (1000, 0.97), (1700, 0.83), (2500, 0.6)),
        "red_paint": (0.045 + 0.46 * _step(607, 9)) * _dips((535, 25, 0.3)) * binder,
        "blue_paint": (0.05 + 0.22 * _bump(468, 34) + 0.38 * _step(752, 18))
        * _dips((622, 30, 0.5), (694, 18, 0.55)) * binder,
        "yellow_paint": (0.05 + 0.55 * _step(512, 10)) * _dips((880, 60, 0.08)) * binder,
        "green_paint": (0.05 + 0.17 * _bump(516, 26) + 0.33 * _step(790, 22))
        * _dips((645, 28, 0.45), (728, 20, 0.5)) * binder,
        "grey_paint": (0.26 + 0.05 * _bump(470, 60)) * _ramp((400, 1), (900, 0.93), (2500, 0.7)) * binder,
        "aluminium": _ramp((380, 0.6), (700, 0.56), (850, 0.53), (1200, 0.66), (2500, 0.74))
        * _dips((835, 50, 0.12)),
        "blue_tarp": (0.08 + 0.30 * _bump(462, 40) + 0.45 * _step(735, 14))
        * _dips((615, 24, 0.3), (680, 16, 0.35), *_CH),
        "orange_plastic": (0.05 + 0.66 * _step(578, 8)) * _dips(*_CH),
        "white_plastic": 0.8 * _step(405, 8) * _dips(*_CH)
        * _ramp((400, 1), (1100, 0.96), (1700, 0.86), (2500, 0.6)),
        "camouflage": (0.045 + 0.05 * _bump(545, 28) + 0.3 * _step(692, 9)) * _dips((1420, 40, 0.1), *_CH),
    }

# fmt: on


_LIBRARY = endmembers()
_NAMES = tuple(_LIBRARY)
_SPECTRUM = np.stack([_LIBRARY[name] for name in _NAMES])
_WATERS = [_NAMES.index("clear_water"), _NAMES.index("turbid_water")]


def _rng(seed: int, index: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, purpose])))


def _fields(rng: np.random.Generator, count: int, size: int, length: float) -> np.ndarray:
    """Gaussian random fields of unit variance, ``(count, size, size)``, correlated over about `length` px."""
    n = 2 * next_fast_len(size // 2 + 2 * int(np.ceil(length)) + 8)  # the transform is periodic, the cut is not
    ky, kx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :]
    spectrum = (1 + (2 * np.pi * length) ** 2 * (ky**2 + kx**2)) ** -1.4
    spectrum[0, 0] = 0
    weight = np.full(kx.size, 2.0)
    weight[[0, -1]] = 1
    spectrum /= np.sqrt((spectrum**2 * weight).sum() / n**2)
    white = np.fft.rfft2(rng.standard_normal((count, n, n)))
    return np.fft.irfft2(white * spectrum, s=(n, n))[:, :size, :size]


# ---- ground cover


class _Canvas:
    """Abundances, spectral offsets and shade of a scene while it is painted, layer over layer."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng, self.size = rng, size
        self.y, self.x = np.mgrid[:size, :size].astype(np.float64)
        self.abundance = np.zeros((len(_NAMES), size, size))
        self.offset = np.zeros((_MODES, size, size))
        self.shade = np.ones((size, size))
        self.sun = rng.uniform(0, 2 * np.pi)

    def paint(
        self,
        cover: np.ndarray | float,
        mix: dict[str, float],
        *,
        spread: float = 0.7,
        length: float = 5.0,
        variety: float = 0.6,
        texture: np.ndarray | float = 0.0,
    ) -> None:
        """Cover part of the ground with a mixture of materials.

        Args:
            cover: Share of each pixel that is covered, ``(H, W)`` or a number, in [0, 1].
            mix: Material -> mean logit of its abundance.
            spread: Standard deviation of the random fields that are added to the logits.
            length: Their correlation length in px.
            variety: Standard deviation of this layer's own shift along the materials' spectral modes.
            texture: Added to the first material's logit.
        """
        rows = [_NAMES.index(name) for name in mix]
        logits = spread * _fields(self.rng, len(rows), self.size, length)
        logits += np.array(list(mix.values()))[:, None, None]
        logits[0] += texture
        share = np.exp(logits - logits.max(axis=0))
        share /= share.sum(axis=0)
        self.abundance *= 1 - cover
        self.abundance[rows] += cover * share
        self.offset += cover * (variety * self.rng.standard_normal((_MODES, 1, 1)) - self.offset)

    def shadow(self, cover: np.ndarray, reach: float, depth: float) -> None:
        """Darken what lies behind a cover of some height, `reach` px away from the sun."""
        shift = (reach * np.sin(self.sun), reach * np.cos(self.sun))
        moved = ndimage.shift(cover, shift, order=1, mode="constant")
        self.shade *= 1 - depth * np.clip(moved - cover, 0, 1)

    def raise_cover(self, cover: np.ndarray, mix: dict[str, float], reach: float, depth: float, **how: float) -> None:
        """Paint rounded things of some height: crowns, shrubs. One side is lit, the other throws a shadow."""
        self.paint(cover, mix, **how)
        self.shadow(cover, reach, depth)
        rise_y, rise_x = np.gradient(ndimage.gaussian_filter(cover, 0.8))
        self.shade *= 1 + 0.9 * cover * (np.sin(self.sun) * rise_y + np.cos(self.sun) * rise_x)

    def axes(self, angle: float, cx: float | None = None, cy: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates in px along and across a direction, from a point or from the centre of the scene."""
        dx = self.x - (self.size / 2 if cx is None else cx)
        dy = self.y - (self.size / 2 if cy is None else cy)
        return np.cos(angle) * dx + np.sin(angle) * dy, -np.sin(angle) * dx + np.cos(angle) * dy

    def road(self, angle: float, at: float, width: float, mix: dict[str, float], bend: float = 0.0) -> None:
        """A road, straight or bent by `bend` px, `at` px from the centre."""
        u, v = self.axes(angle)
        centre = at + bend * np.sin(2 * np.pi * u / (1.3 * self.size) + self.rng.uniform(0, 6))
        self.paint(_inside(np.abs(v - centre) - width / 2), mix, spread=0.3, variety=0.4)

    def crowns(self, count: int, radius: tuple[float, float], where: np.ndarray) -> np.ndarray:
        """Cover of scattered discs, placed with the probability `where`."""
        chosen = self.rng.choice(where.size, size=count, p=where.ravel() / where.sum())
        cover = np.zeros_like(self.x)
        for place, r in zip(chosen, self.rng.uniform(*radius, count), strict=True):
            cy, cx = np.divmod(place, self.size) + self.rng.uniform(-0.5, 0.5, 2)
            near = np.s_[max(0, int(cy - r - 1)) : int(cy + r + 3), max(0, int(cx - r - 1)) : int(cx + r + 3)]
            disc = _inside(np.hypot(self.x[near] - cx, self.y[near] - cy) - r)
            cover[near] = np.maximum(cover[near], disc)
        return cover


def _inside(distance: np.ndarray) -> np.ndarray:
    """Share of each pixel inside a shape, from the signed distance to its edge in px."""
    return np.clip(0.5 - distance, 0, 1)


def _box(u: np.ndarray, v: np.ndarray, length: float, width: float) -> np.ndarray:
    return _inside(np.maximum(np.abs(u) - length / 2, np.abs(v) - width / 2))


def _split(rng: np.random.Generator, box: tuple[float, ...], smallest: float) -> list[tuple[float, ...]]:
    """Cut a rectangle (u0, u1, v0, v1) into parcels, each side at least about `smallest` px."""
    u0, u1, v0, v1 = box
    long, short = max(u1 - u0, v1 - v0), min(u1 - u0, v1 - v0)
    if long < 2 * smallest or (long * short < 6 * smallest**2 and rng.random() < 0.35):
        return [box]
    cut = rng.uniform(0.35, 0.65)
    if u1 - u0 > v1 - v0:
        middle = u0 + cut * (u1 - u0)
        halves = (u0, middle, v0, v1), (middle, u1, v0, v1)
    else:
        middle = v0 + cut * (v1 - v0)
        halves = (u0, u1, v0, middle), (u0, u1, middle, v1)
    return [leaf for half in halves for leaf in _split(rng, half, smallest)]


_CROPS = (
    {"crop": 2.5, "loam": 0.0},
    {"crop": 0.8, "loam": 0.8},
    {"grass": 2.2, "dry_vegetation": 0.3, "loam": -0.5},
    {"stubble": 2.0, "loam": 0.8},
    {"dry_vegetation": 2.2, "grass": 0.2, "clay": 0.0},
    {"loam": 2.5, "stubble": 0.0},
    {"clay": 2.2, "loam": 0.5, "stubble": 0.0},
)
_ASPHALT = {"asphalt": 3.0, "concrete": 0.0}
_TRACK = {"clay": 1.5, "sand": 1.0, "dry_vegetation": -0.5}
_TREES = {"tree": 3.0, "grass": 0.5}


def _farmland(canvas: _Canvas) -> None:
    rng, half = canvas.rng, 0.75 * canvas.size
    angle = rng.uniform(0, np.pi)
    u, v = canvas.axes(angle)
    canvas.paint(1.0, {"dry_vegetation": 1.0, "grass": 1.0, "loam": 0.5})
    border = np.zeros_like(u)
    for u0, u1, v0, v1 in _split(rng, (-half, half, -half, half), rng.uniform(13, 22)):
        cu, cv = (u0 + u1) / 2, (v0 + v1) / 2
        gap = rng.choice([0.4, 1.0, 1.8])
        cover = _box(u - cu, v - cv, u1 - u0 - gap, v1 - v0 - gap)
        along = u if rng.random() < 0.5 else v
        rows = rng.uniform(0.1, 0.7) * np.sin(2 * np.pi * along / rng.uniform(2.6, 6))
        canvas.paint(cover, _CROPS[rng.integers(len(_CROPS))], spread=0.5, length=rng.uniform(3, 9), texture=rows)
        if rng.random() < 0.35:
            border = np.maximum(border, _inside(np.abs(u - u0) - 1.5) * (np.abs(v - cv) < (v1 - v0) / 2))
    if border.any():
        hedge = canvas.crowns(int(0.12 * border.sum()) + 3, (0.8, 2.0), border + 1e-4)
        canvas.raise_cover(hedge, _TREES, 1.6, 0.5)
    canvas.road(
        angle + rng.choice([0, np.pi / 2]),
        rng.uniform(-0.3, 0.3) * canvas.size,
        rng.uniform(1.5, 3.2),
        _ASPHALT if rng.random() < 0.6 else _TRACK,
        bend=rng.uniform(0, 4),
    )


def _rangeland(canvas: _Canvas) -> None:
    rng = canvas.rng
    soil = str(rng.choice(["red_soil", "clay", "loam"]))
    canvas.paint(1.0, {soil: 1.2, "dry_vegetation": 0.6, "shrub": -0.8, "sand": -0.5}, spread=1.1, length=9)
    u, v = canvas.axes(rng.uniform(0, np.pi))
    wander = 5 * _fields(rng, 1, canvas.size, 12)[0]
    width = rng.uniform(1.5, 4.5)
    for at in rng.uniform(-0.4, 0.4, rng.integers(1, 4)) * canvas.size:  # dry washes
        canvas.paint(0.85 * _inside(0.6 * (np.abs(v - at + wander) - width / 2)), {"sand": 2.0, soil: 0.5}, length=3)
        width *= 0.6
    thicket = np.exp(1.2 * _fields(rng, 1, canvas.size, 8)[0])
    shrubs = canvas.crowns(int(rng.uniform(0.01, 0.035) * u.size), (0.4, 1.2), thicket)
    canvas.raise_cover(0.85 * shrubs, {"shrub": 2.0, "tree": 0.3, soil: -0.5}, 1.0, 0.35)
    canvas.road(
        rng.uniform(0, np.pi),
        rng.uniform(-0.3, 0.3) * canvas.size,
        rng.uniform(1.2, 2.4),
        _TRACK,
        rng.uniform(2, 7),
    )


def _coast(canvas: _Canvas) -> None:
    rng = canvas.rng
    u, v = canvas.axes(rng.uniform(0, 2 * np.pi))
    shore = v - rng.uniform(-0.15, 0.2) * canvas.size + 5 * _fields(rng, 1, canvas.size, 12)[0]
    canvas.paint(1.0, {"grass": 0.8, "shrub": 0.5, "dry_vegetation": 0.6, "sand": 0.0}, spread=1.1, length=7)
    groves = canvas.crowns(int(0.012 * u.size), (1.0, 2.6), _step(3, 1.5, -shore - 6) + 1e-6)
    canvas.raise_cover(groves, _TREES, 1.7, 0.5)
    if rng.random() < 0.6:
        canvas.paint(_inside(np.abs(shore + 12) - rng.uniform(0.8, 1.5)), _ASPHALT, spread=0.3)
    beach = rng.uniform(3, 8)
    canvas.paint(_inside(-(shore + beach) / 1.5), {"sand": 3.0, "clay": 0.5}, spread=0.5)
    canvas.paint(0.8 * _inside(-(shore + 1.2)), {"sand": 1.0, "loam": 1.3})  # wet sand
    shallow = 2.5 - shore / rng.uniform(3, 7)
    canvas.paint(_inside(-shore), {"turbid_water": 0.0, "clear_water": 1.0}, spread=0.5, length=10, texture=shallow)
    if rng.random() < 0.5:
        quay_u, quay_v = canvas.axes(rng.uniform(0, np.pi))
        quay = _box(quay_u, quay_v, 0.5 * canvas.size, 2.2) * (shore > -4)
        canvas.paint(quay, {"concrete": 3.0, "asphalt": 0.0}, spread=0.3)


def _forest(canvas: _Canvas) -> None:
    rng = canvas.rng
    canvas.paint(1.0, {"grass": 0.8, "shrub": 0.6, "dry_vegetation": 0.4, "loam": 0.0}, spread=0.9, length=6)
    density = _step(rng.uniform(-0.9, 0.1), 0.15, _fields(rng, 1, canvas.size, 12)[0])
    for mix in ({"tree": 3.0, "shrub": 0.5}, {"tree": 2.2, "grass": 1.0}, {"shrub": 1.5, "tree": 1.5}):
        crowns = canvas.crowns(int(0.05 * density.sum()) + 5, (1.2, 2.8), density + 1e-4)
        canvas.raise_cover(crowns, mix, 1.5, 0.45, spread=0.4, length=2)
    canvas.road(
        rng.uniform(0, np.pi),
        rng.uniform(-0.3, 0.3) * canvas.size,
        rng.uniform(1.6, 3.0),
        _TRACK if rng.random() < 0.6 else _ASPHALT,
        bend=rng.uniform(1, 6),
    )


def _suburb(canvas: _Canvas) -> None:
    rng, half = canvas.rng, 0.75 * canvas.size
    angle = rng.uniform(0, np.pi)
    u, v = canvas.axes(angle)
    canvas.paint(1.0, {"grass": 1.4, "dry_vegetation": 0.6, "loam": 0.0}, spread=1.0, length=4)
    block, street = rng.uniform(22, 30), rng.uniform(2.2, 3.6)
    lot = rng.uniform(8, 11)
    shift_u, shift_v = rng.uniform(0, block, 2)
    for at in np.arange(-half + shift_v, half, block):
        for side in (-1, 1):  # a row of houses along each side of a street
            for along in np.arange(-half + shift_u, half, lot):
                if rng.random() < 0.25:
                    continue
                cu, cv = along + rng.normal(0, 0.6), at + side * (street / 2 + rng.uniform(4.5, 6))
                house = _box(u - cu, v - cv, rng.uniform(4, 6), rng.uniform(3, 4.5))
                if not house.any():
                    continue
                drive = _box(u - cu - 2.6, v - (at + cv) / 2, 1.3, abs(cv - at))
                canvas.paint(drive, {"concrete": 2.5, "asphalt": 0.5}, variety=0.3)
                canvas.shadow(house, 1.5, 0.5)
                roof = {"tile_roof": 3.0} if rng.random() < 0.45 else {"shingle_roof": 3.0, "concrete": 0.3}
                canvas.paint(house, roof, spread=0.3)
                lit = 0.16 * rng.choice([-1, 1])
                canvas.shade *= 1 + lit * house * np.sign(v - cv)  # the roof's two pitches
    trees = canvas.crowns(int(0.012 * u.size), (0.9, 2.0), np.ones_like(u))
    canvas.raise_cover(trees, _TREES, 1.5, 0.5)
    for at in np.arange(-half + shift_v, half, block):
        canvas.road(angle, at, street, _ASPHALT)
    canvas.road(angle + np.pi / 2, rng.uniform(-0.3, 0.3) * canvas.size, street, _ASPHALT)


def _airfield(canvas: _Canvas) -> None:
    rng = canvas.rng
    angle = rng.uniform(0, np.pi)
    u, v = canvas.axes(angle)
    canvas.paint(1.0, {"grass": 1.0, "dry_vegetation": 1.0, "loam": 0.2}, spread=0.9, length=9)
    edge = rng.uniform(-0.2, 0.1) * canvas.size
    slab = rng.uniform(5, 9)
    joints = np.maximum(np.abs(u % slab - slab / 2), np.abs(v % slab - slab / 2)) > slab / 2 - 0.35
    row, column = (np.floor(along / slab).astype(int) % 64 for along in (v, u))
    tone = rng.standard_normal((64, 64))[row, column]
    apron = {"concrete": 2.0, "asphalt": 0.5, "clay": -1.0}
    canvas.paint(_inside(edge - v), apron, spread=0.4, texture=0.45 * tone - 0.8 * joints)
    canvas.road(angle, edge - rng.uniform(10, 18), rng.uniform(5, 9), _ASPHALT)
    canvas.road(angle + np.pi / 2, rng.uniform(-0.3, 0.3) * canvas.size, rng.uniform(4, 7), _ASPHALT)
    stains = canvas.crowns(int(0.004 * u.size), (0.5, 1.6), _inside(edge - v) + 1e-6)
    canvas.paint(0.4 * ndimage.gaussian_filter(stains, 0.7), {"asphalt": 3.0}, variety=0.8)


_LAYOUTS: tuple[Callable[[_Canvas], None], ...] = (_farmland, _rangeland, _coast, _forest, _suburb, _airfield)


# ---- objects


def _object_shape(rng: np.random.Generator, canvas: _Canvas, cx: float, cy: float, afloat: bool) -> np.ndarray:
    """Share of each pixel that one object covers, ``(H, W)`` in [0, 1]."""
    u, v = canvas.axes(rng.uniform(0, np.pi), cx, cy)
    if afloat:
        length = rng.uniform(2.4, 6)
        return _inside((np.hypot(u / length, v / (0.45 * length)) - 0.5) * 0.45 * length)
    kind = rng.choice(["vehicle", "truck", "shed", "tank", "aircraft"], p=[0.42, 0.2, 0.2, 0.1, 0.08])
    if kind == "vehicle":
        return _box(u, v, rng.uniform(1.8, 2.8), rng.uniform(1.1, 1.7))
    if kind == "truck":
        return _box(u, v, rng.uniform(3.2, 6.0), rng.uniform(1.3, 2.0))
    if kind == "shed":
        return _box(u, v, rng.uniform(2.5, 6.0), rng.uniform(2.0, 5.0))
    if kind == "tank":
        return _inside(np.hypot(u, v) - rng.uniform(1.2, 3.0))
    span = rng.uniform(5.5, 8.0)
    return np.maximum(
        _box(u, v, span, 1.4),
        np.maximum(_box(u - 0.08 * span, v, 1.5, span), _box(u + 0.42 * span, v, 1.1, 3)),
    )


def _place_objects(
    rng: np.random.Generator, canvas: _Canvas, difficulty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Put objects on the ground, apart from each other.

    Returns:
        mask: ``(H, W)`` bool, where an object's footprint fills `MASK_FRACTION` of what the sensor sees.
        touched: ``(P,)`` int, flat indices of the pixels that show any part of an object.
        share: ``(P, 1)``, the part of these pixels that shows objects and not the ground, in [0, 1].
        reflected: ``(P, 276)``, the objects' contribution to their reflectance.
    """
    size = canvas.size
    wanted = int(rng.integers(3, 9) * max(1.0, (size / 64) ** 2))
    spectra = np.stack(list(object_materials().values()))
    palette = rng.choice(len(spectra), size=rng.integers(2, 5), replace=False)
    scene_cover = rng.uniform()
    taken = np.zeros((size, size), dtype=bool)
    mask = np.zeros((size, size), dtype=bool)
    shares, materials = [], []
    cy = cx = 0.0
    for _ in range(60 * wanted):
        if shares and rng.random() < 0.45:  # parked near the last one
            bearing, gap = rng.uniform(0, 2 * np.pi), rng.uniform(4, 9)
            ny, nx = cy + gap * np.sin(bearing), cx + gap * np.cos(bearing)
        else:
            ny, nx = rng.uniform(4, size - 5, 2)
        if not (4 <= ny <= size - 5 and 4 <= nx <= size - 5):
            continue
        afloat = canvas.abundance[_WATERS, round(ny), round(nx)].sum() > 0.5
        fraction = ndimage.gaussian_filter(_object_shape(rng, canvas, nx, ny, afloat), _PSF_SIGMA)
        fraction[fraction < 0.02] = 0
        pixels = int((fraction >= MASK_FRACTION).sum())
        if not MIN_OBJECT_PX <= pixels <= MAX_OBJECT_PX or (taken & (fraction > 0)).any():
            continue
        cy, cx = ny, nx
        taken |= ndimage.binary_dilation(fraction > 0)
        mask |= fraction >= MASK_FRACTION
        hidden = 0.5 + 0.7 * scene_cover + 0.9 * rng.uniform()  # by dust, growth, netting; in decades
        least = 10**-hidden
        shares.append(fraction.ravel() * least**difficulty**2)
        materials.append(spectra[rng.choice(palette)] * rng.uniform(0.85, 1.15))
        if len(shares) == wanted:
            break
    share = np.stack(shares, axis=1)
    touched = np.flatnonzero(share.sum(axis=1))
    share = share[touched]
    weathering = 0.1 * rng.standard_normal((share.shape[1], 3)) @ _spectral_modes(rng, 3)
    facets = 0.07 * rng.standard_normal((touched.size, 3)) @ _spectral_modes(rng, 3)
    reflected = share @ (np.stack(materials) * np.exp(weathering)) * np.exp(facets)
    total = share.sum(axis=1, keepdims=True)
    return mask, touched, total, np.minimum(reflected, total)


# ---- light and sensor


def _light() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radiance of a white sunlit surface, its part that is skylight, path radiance: each ``(276,)``."""
    nm, um = WAVELENGTHS_NM, WAVELENGTHS_NM / 1000
    planck = um**-5 / (np.exp(14387.77 / (um * 5778)) - 1)
    peak = 0.5**-5 / (np.exp(14387.77 / (0.5 * 5778)) - 1)
    sun = 195 * planck / peak * (1 - 0.06 * _bump(486, 4) - 0.05 * _bump(656, 4) - 0.05 * _bump(518, 5))
    gases = _dips(
        (600, 45, 0.05),
        (688, 4, 0.16),
        (719, 7, 0.13),
        (761, 4, 0.5),
        (818, 10, 0.12),
        (938, 22, 0.55),
        (1130, 24, 0.65),
        (1268, 5, 0.12),
        (1385, 38, 0.97),
        (1870, 42, 0.98),
        (2006, 9, 0.4),
        (2058, 8, 0.25),
        (2330, 40, 0.12),
        (2480, 50, 0.4),
    )
    rayleigh, haze = 0.00864 * um**-4.05, 0.12 * (um / 0.55) ** -1.3
    white = sun * 0.82 / np.pi * gases * np.exp(-1.9 * (0.5 * rayleigh + 0.15 * haze))
    sky = np.clip(0.32 * (nm / 450) ** -1.6, 0.02, 0.4)
    path = sun / np.pi * gases**0.5 * (0.12 * rayleigh + 0.05 * haze)
    return white, sky, path


_WHITE, _SKY, _PATH = _light()


def _spectral_modes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Smooth random curves over the bands, ``(count, 276)``, of unit root mean square."""
    modes = np.zeros((count, WAVELENGTHS_NM.size))
    for mode in modes:
        for width in (400, 180, 90, 45, 25):
            centre = np.exp(rng.uniform(np.log(400), np.log(2500)))
            mode += rng.normal() * _bump(centre, width * centre / 1000 + 12)
        mode /= np.sqrt((mode**2).mean()) + 0.05
    return modes


def _reflectance(rng: np.random.Generator, canvas: _Canvas) -> np.ndarray:
    """Mix the materials with their within-class variation: ``(H * W, 276)``."""
    abundance = canvas.abundance.reshape(len(_NAMES), -1)
    present = np.flatnonzero(abundance.max(axis=1) > 0.01)
    amounts, modes = [], []
    for row in present:
        strength = rng.uniform(0.03, 0.07, (_MODES, 1, 1)) * np.geomspace(1, 0.3, _MODES)[:, None, None]
        smooth = _fields(rng, _MODES, canvas.size, 4.0)
        fine = rng.standard_t(5, smooth.shape)  # heavy tails: real pixels have them
        amount = strength * (0.8 * smooth + 0.35 * fine + canvas.offset)
        amounts.append(amount.reshape(_MODES, -1) * abundance[row])
        modes.append(_spectral_modes(rng, _MODES))
    spectra = abundance.T @ _SPECTRUM
    spectra *= np.exp(np.concatenate(amounts).T @ np.concatenate(modes))
    return np.clip(spectra, 0, 1, out=spectra)


def _sense(rng: np.random.Generator, radiance: np.ndarray) -> np.ndarray:
    """What the sensor makes of a radiance cube ``(H, W, B)``: noise, stripes, bad bands, counts."""
    _, width, bands = radiance.shape
    dark = 0.008 + 0.02 * np.exp(-(WAVELENGTHS_NM - 450) / 40)  # weak blue response
    noisy = np.ones(bands)
    noisy[rng.choice(bands, 6, replace=False)] = rng.uniform(2, 5, 6)
    sigma = np.sqrt(dark**2 + 6e-5 * radiance) * noisy
    stripes = np.zeros((width, bands))
    striped = rng.choice(bands, 8, replace=False)
    strength = rng.uniform(0.5, 2.0, 8) * sigma[:, :, striped].mean(axis=(0, 1))
    stripes[:, striped] = strength * rng.standard_normal((width, 8))
    sensed = radiance + sigma * rng.standard_normal(radiance.shape) + stripes
    return (np.round(np.maximum(sensed, 0) / _COUNT) * _COUNT).astype(np.float32)


def _check(seed: int, index: int, size: int, difficulty: float) -> None:
    for name, value in (("seed", seed), ("index", index)):
        if value < 0:
            raise ValueError(f"{name} is {value}; expected 0 or more.")
    if size < MIN_SIZE:
        raise ValueError(f"size is {size} px; expected at least {MIN_SIZE}.")
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty is {difficulty}; expected 0 (plain to see) to 1 (almost hidden).")


def make_scene(
    seed: int,
    index: int = 0,
    *,
    size: int = 64,
    anomalies: bool = True,
    difficulty: float = DEFAULT_DIFFICULTY,
) -> SyntheticScene:
    """Make one scene. The same arguments give the same bytes.

    The kinds of ground cover take turns with `index`: farmland, rangeland, coast, forest, suburb, airfield.

    Args:
        seed: Seed of the benchmark, >= 0.
        index: Number of the scene, >= 0. Background, objects and noise come from separate streams: only
            the objects change with `anomalies`, and only their strength with `difficulty`.
        size: Height and width in px, at least 32.
        anomalies: Put objects of 2 to 40 px into the scene. A pixel is an anomaly where an object's
            footprint fills at least `MASK_FRACTION` of it, after the sensor's blur.
        difficulty: 0 to 1. At 0 every object shows its pure material; above, it is more and more hidden:
            its share of a pixel is multiplied by ``least ** difficulty**2``, ``least`` from 0.008 to 0.32.

    Returns:
        The scene: cube ``(size, size, 276)``, mask ``(size, size)``, wavelengths.

    Raises:
        ValueError: An argument is out of its range.
    """
    _check(seed, index, size, difficulty)
    canvas = _Canvas(_rng(seed, index, _LAYOUT), size)
    _LAYOUTS[index % len(_LAYOUTS)](canvas)
    slope = _fields(canvas.rng, 1, size, 14)[0]
    relief = np.sin(canvas.sun) * np.gradient(slope, axis=0) + np.cos(canvas.sun) * np.gradient(slope, axis=1)
    canvas.shade *= np.clip(1 + 0.8 * relief, 0.5, 1.4)
    for layer in (*canvas.abundance, *canvas.offset, canvas.shade):
        ndimage.gaussian_filter(layer, _PSF_SIGMA, output=layer, mode="nearest")

    ground = _reflectance(_rng(seed, index, _SPECTRA), canvas)
    mask = np.zeros((size, size), dtype=bool)
    if anomalies:
        mask, touched, share, reflected = _place_objects(_rng(seed, index, _OBJECTS), canvas, difficulty)
        ground[touched] = ground[touched] * (1 - share) + reflected
    shade = canvas.shade.reshape(-1, 1)
    radiance = _WHITE * ground * (shade + (1 - shade) * _SKY) + _PATH
    cube = _sense(_rng(seed, index, _NOISE), radiance.reshape(size, size, -1))
    return SyntheticScene(cube, mask, WAVELENGTHS_NM.copy())


# ---- the benchmark on disk


def _write(path: Path, content: bytes) -> str:
    """Write a file under a temporary name, rename it, and return its sha256."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _npy(cube: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(cube), allow_pickle=False)
    return buffer.getvalue()


def _png(mask: np.ndarray) -> bytes:
    rgb = np.zeros((*mask.shape, 3), dtype=np.uint8)
    rgb[mask, 1] = 255  # SPEC 8: an anomaly is where the green channel is 255
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="PNG")
    return buffer.getvalue()


def write_benchmark(
    out: Path,
    *,
    seed: int = 0,
    n_train: int = 48,
    n_test: int = 12,
    size: int = 64,
    difficulty: float = DEFAULT_DIFFICULTY,
    sensor: str = "aviris_ng",
) -> Path:
    """Write a benchmark in the layout of HAD100Dataset (SPEC 8).

    ``train/<sensor>/<scene>_<crop>.npy`` are the four corner crops of background scenes 17 px larger: crops
    of one scene overlap, so a split has to be by scene. ``test/<sensor>/<scene>.npy`` go with
    ``ground_truth/<sensor>/<scene>.png``. ``manifest.json`` names the settings and each file's sha256.

    Args:
        out: Folder to write to; made if missing.
        seed: Seed, >= 0. The same arguments give the same bytes.
        n_train: Training patches, >= 0; four of one scene, fewer of the last if it is no multiple of 4.
        n_test: Test scenes, >= 0.
        size: Height and width of every patch in px, at least 32.
        difficulty: 0 to 1, see `make_scene`.
        sensor: Name of the sensor's folder.

    Returns:
        The folder.

    Raises:
        ValueError: An argument is out of its range.
        FileExistsError: The folder holds scenes or masks that are not of this benchmark.
    """
    out = Path(out)
    for name, value in (("n_train", n_train), ("n_test", n_test)):
        if value < 0:
            raise ValueError(f"{name} is {value}; expected 0 or more.")
    if n_train + n_test == 0:
        raise ValueError("n_train and n_test are both 0; there is nothing to write.")
    if not sensor or sensor != Path(sensor).name or sensor.startswith("."):
        raise ValueError(f"sensor is {sensor!r}; expected the name of a folder, such as aviris_ng.")
    _check(seed, 0, size, difficulty)

    train = {f"train/{sensor}/synthetic_b{k // 4:04d}_{k % 4 + 1}.npy": k for k in range(n_train)}
    test = {f"synthetic_t{k:04d}": k for k in range(n_test)}
    expected = {*train, *(f"test/{sensor}/{name}.npy" for name in test)}
    expected |= {f"ground_truth/{sensor}/{name}.png" for name in test}
    for folder in ("train", "test", "ground_truth"):
        for path in sorted((out / folder / sensor).glob("[!.]*")):
            if path.suffix in (".npy", ".png") and path.relative_to(out).as_posix() not in expected:
                raise FileExistsError(
                    f"{path}: found a file that is not of this benchmark. Choose an empty folder for it."
                )

    files: dict[str, str] = {}
    with tqdm(total=n_train + n_test, desc="synthetic scenes", unit="scene") as progress:
        for name, k in train.items():
            if k % 4 == 0:
                source = make_scene(seed, FIRST_TRAIN_INDEX + k // 4, size=size + CROP_MARGIN, anomalies=False).cube
            top, left = CROP_MARGIN * (k % 4 // 2), CROP_MARGIN * (k % 2)
            files[name] = _write(out / name, _npy(source[top : top + size, left : left + size]))
            progress.update()
        for name, k in test.items():
            scene = make_scene(seed, k, size=size, difficulty=difficulty)
            cube, mask = f"test/{sensor}/{name}.npy", f"ground_truth/{sensor}/{name}.png"
            files[cube] = _write(out / cube, _npy(scene.cube))
            files[mask] = _write(out / mask, _png(scene.mask))
            progress.update()
    manifest = {
        "synthetic": True,
        "note": "Made by data/synthetic.py. No number measured on it says anything about HAD100 itself.",
        "seed": seed,
        "difficulty": difficulty,
        "size": size,
        "sensor": sensor,
        "train": n_train,
        "test": n_test,
        "bands": int(WAVELENGTHS_NM.size),
        "mask_fraction": MASK_FRACTION,
        "wavelengths_nm": [round(float(nm), 4) for nm in WAVELENGTHS_NM],
        "files": files,
    }
    _write(out / "manifest.json", (json.dumps(manifest, indent=1) + "\n").encode())
    return out


def main(arguments: list[str] | None = None) -> int:
    """Command line: write a benchmark; 0 if it was written, exit code 2 for bad arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m data.synthetic",
        description="Write a synthetic benchmark in the layout of HAD100Dataset.",
    )
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (default %(default)s)")
    parser.add_argument("--train", type=int, default=48, help="training patches (default %(default)s)")
    parser.add_argument("--test", type=int, default=12, help="test scenes (default %(default)s)")
    parser.add_argument("--size", type=int, default=64, help="height and width in px (default %(default)s)")
    parser.add_argument("--difficulty", type=float, default=DEFAULT_DIFFICULTY, help="0 to 1 (default %(default)s)")
    parser.add_argument("--sensor", default="aviris_ng", help="name of the sensor's folder (default %(default)s)")
    args = parser.parse_args(arguments)
    try:
        write_benchmark(
            args.out,
            seed=args.seed,
            n_train=args.train,
            n_test=args.test,
            size=args.size,
            difficulty=args.difficulty,
            sensor=args.sensor,
        )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{args.out}: {args.train} training patches and {args.test} test scenes written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
