"""Ground cover: fields, roads, shore, crowns, roofs, as abundances of materials in each pixel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage
from scipy.fft import next_fast_len

from fers.datasets.synthetic.spectra import MATERIALS, step

MODES = 5  # smooth spectral modes by which one material varies


def random_fields(rng: np.random.Generator, count: int, size: int, length: float) -> np.ndarray:
    """Draw Gaussian random fields of unit variance, ``(count, size, size)``, correlated over about `length` px."""
    n = 2 * next_fast_len(size // 2 + 2 * int(np.ceil(length)) + 8)  # the transform is periodic, the cut is not
    ky, kx = np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n)[None, :]
    spectrum = (1 + (2 * np.pi * length) ** 2 * (ky**2 + kx**2)) ** -1.4
    spectrum[0, 0] = 0
    weight = np.full(kx.size, 2.0)
    weight[[0, -1]] = 1
    spectrum /= np.sqrt((spectrum**2 * weight).sum() / n**2)
    white = np.fft.rfft2(rng.standard_normal((count, n, n)))
    return np.fft.irfft2(white * spectrum, s=(n, n))[:, :size, :size]


class Canvas:
    """Abundances, spectral offsets and shade of a scene while it is painted, layer over layer."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng, self.size = rng, size
        self.y, self.x = np.mgrid[:size, :size].astype(np.float64)
        self.abundance = np.zeros((len(MATERIALS), size, size))
        self.offset = np.zeros((MODES, size, size))
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
        """Cover part of the ground, ``cover`` of each pixel in [0, 1], with a mixture of materials.

        ``mix`` gives the mean logit of each material's abundance. Random fields of this ``spread`` and correlation
        ``length`` in px are added to the logits, and ``texture`` to the first. ``variety`` is the standard deviation of
        this layer's own shift along the materials' spectral modes.
        """
        rows = [MATERIALS.index(name) for name in mix]
        logits = spread * random_fields(self.rng, len(rows), self.size, length)
        logits += np.array(list(mix.values()))[:, None, None]
        logits[0] += texture
        share = np.exp(logits - logits.max(axis=0))
        share /= share.sum(axis=0)
        self.abundance *= 1 - cover
        self.abundance[rows] += cover * share
        self.offset += cover * (variety * self.rng.standard_normal((MODES, 1, 1)) - self.offset)

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
        """Compute coordinates in px along and across a direction, from a point or from the centre of the scene."""
        dx = self.x - (self.size / 2 if cx is None else cx)
        dy = self.y - (self.size / 2 if cy is None else cy)
        return np.cos(angle) * dx + np.sin(angle) * dy, -np.sin(angle) * dx + np.cos(angle) * dy

    def road(self, angle: float, at: float, width: float, mix: dict[str, float], bend: float = 0.0) -> None:
        """Draw a road, straight or bent by `bend` px, `at` px from the centre."""
        u, v = self.axes(angle)
        centre = at + bend * np.sin(2 * np.pi * u / (1.3 * self.size) + self.rng.uniform(0, 6))
        self.paint(inside(np.abs(v - centre) - width / 2), mix, spread=0.3, variety=0.4)

    def crowns(self, count: int, radius: tuple[float, float], where: np.ndarray) -> np.ndarray:
        """Draw a cover of scattered discs, placed with the probability `where`."""
        chosen = self.rng.choice(where.size, size=count, p=where.ravel() / where.sum())
        cover = np.zeros_like(self.x)
        for place, r in zip(chosen, self.rng.uniform(*radius, count), strict=True):
            cy, cx = np.divmod(place, self.size) + self.rng.uniform(-0.5, 0.5, 2)
            near = np.s_[max(0, int(cy - r - 1)) : int(cy + r + 3), max(0, int(cx - r - 1)) : int(cx + r + 3)]
            disc = inside(np.hypot(self.x[near] - cx, self.y[near] - cy) - r)
            cover[near] = np.maximum(cover[near], disc)
        return cover


def inside(distance: np.ndarray) -> np.ndarray:
    """Compute the share of each pixel inside a shape, from the signed distance to its edge in px."""
    return np.clip(0.5 - distance, 0, 1)


def box(u: np.ndarray, v: np.ndarray, length: float, width: float) -> np.ndarray:
    """Compute the share of each pixel inside a rectangle, from its coordinates along length and width, in px."""
    return inside(np.maximum(np.abs(u) - length / 2, np.abs(v) - width / 2))


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


def _farmland(canvas: Canvas) -> None:
    rng, half = canvas.rng, 0.75 * canvas.size
    angle = rng.uniform(0, np.pi)
    u, v = canvas.axes(angle)
    canvas.paint(1.0, {"dry_vegetation": 1.0, "grass": 1.0, "loam": 0.5})
    border = np.zeros_like(u)
    for u0, u1, v0, v1 in _split(rng, (-half, half, -half, half), rng.uniform(13, 22)):
        cu, cv = (u0 + u1) / 2, (v0 + v1) / 2
        gap = rng.choice([0.4, 1.0, 1.8])
        cover = box(u - cu, v - cv, u1 - u0 - gap, v1 - v0 - gap)
        along = u if rng.random() < 0.5 else v
        rows = rng.uniform(0.1, 0.7) * np.sin(2 * np.pi * along / rng.uniform(2.6, 6))
        canvas.paint(cover, _CROPS[rng.integers(len(_CROPS))], spread=0.5, length=rng.uniform(3, 9), texture=rows)
        if rng.random() < 0.35:
            border = np.maximum(border, inside(np.abs(u - u0) - 1.5) * (np.abs(v - cv) < (v1 - v0) / 2))
    if border.any():
        hedge = canvas.crowns(int(0.12 * border.sum()) + 3, (0.8, 2.0), border + 1e-4)
        canvas.raise_cover(hedge, _TREES, 1.6, 0.5)
    angle += rng.choice([0, np.pi / 2])
    at, width = rng.uniform(-0.3, 0.3) * canvas.size, rng.uniform(1.5, 3.2)
    canvas.road(angle, at, width, _ASPHALT if rng.random() < 0.6 else _TRACK, bend=rng.uniform(0, 4))


def _rangeland(canvas: Canvas) -> None:
    rng = canvas.rng
    soil = str(rng.choice(["red_soil", "clay", "loam"]))
    canvas.paint(1.0, {soil: 1.2, "dry_vegetation": 0.6, "shrub": -0.8, "sand": -0.5}, spread=1.1, length=9)
    u, v = canvas.axes(rng.uniform(0, np.pi))
    wander = 5 * random_fields(rng, 1, canvas.size, 12)[0]
    width = rng.uniform(1.5, 4.5)
    for at in rng.uniform(-0.4, 0.4, rng.integers(1, 4)) * canvas.size:  # dry washes
        canvas.paint(0.85 * inside(0.6 * (np.abs(v - at + wander) - width / 2)), {"sand": 2.0, soil: 0.5}, length=3)
        width *= 0.6
    thicket = np.exp(1.2 * random_fields(rng, 1, canvas.size, 8)[0])
    shrubs = canvas.crowns(int(rng.uniform(0.01, 0.035) * u.size), (0.4, 1.2), thicket)
    canvas.raise_cover(0.85 * shrubs, {"shrub": 2.0, "tree": 0.3, soil: -0.5}, 1.0, 0.35)
    angle, at = rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3) * canvas.size
    canvas.road(angle, at, rng.uniform(1.2, 2.4), _TRACK, rng.uniform(2, 7))


def _coast(canvas: Canvas) -> None:
    rng = canvas.rng
    u, v = canvas.axes(rng.uniform(0, 2 * np.pi))
    shore = v - rng.uniform(-0.15, 0.2) * canvas.size + 5 * random_fields(rng, 1, canvas.size, 12)[0]
    canvas.paint(1.0, {"grass": 0.8, "shrub": 0.5, "dry_vegetation": 0.6, "sand": 0.0}, spread=1.1, length=7)
    groves = canvas.crowns(int(0.012 * u.size), (1.0, 2.6), step(3, 1.5, -shore - 6) + 1e-6)
    canvas.raise_cover(groves, _TREES, 1.7, 0.5)
    if rng.random() < 0.6:
        canvas.paint(inside(np.abs(shore + 12) - rng.uniform(0.8, 1.5)), _ASPHALT, spread=0.3)
    beach = rng.uniform(3, 8)
    canvas.paint(inside(-(shore + beach) / 1.5), {"sand": 3.0, "clay": 0.5}, spread=0.5)
    canvas.paint(0.8 * inside(-(shore + 1.2)), {"sand": 1.0, "loam": 1.3})  # wet sand
    shallow = 2.5 - shore / rng.uniform(3, 7)
    canvas.paint(inside(-shore), {"turbid_water": 0.0, "clear_water": 1.0}, spread=0.5, length=10, texture=shallow)
    if rng.random() < 0.5:
        quay_u, quay_v = canvas.axes(rng.uniform(0, np.pi))
        quay = box(quay_u, quay_v, 0.5 * canvas.size, 2.2) * (shore > -4)
        canvas.paint(quay, {"concrete": 3.0, "asphalt": 0.0}, spread=0.3)


def _forest(canvas: Canvas) -> None:
    rng = canvas.rng
    canvas.paint(1.0, {"grass": 0.8, "shrub": 0.6, "dry_vegetation": 0.4, "loam": 0.0}, spread=0.9, length=6)
    density = step(rng.uniform(-0.9, 0.1), 0.15, random_fields(rng, 1, canvas.size, 12)[0])
    for mix in ({"tree": 3.0, "shrub": 0.5}, {"tree": 2.2, "grass": 1.0}, {"shrub": 1.5, "tree": 1.5}):
        crowns = canvas.crowns(int(0.05 * density.sum()) + 5, (1.2, 2.8), density + 1e-4)
        canvas.raise_cover(crowns, mix, 1.5, 0.45, spread=0.4, length=2)
    angle, at, width = rng.uniform(0, np.pi), rng.uniform(-0.3, 0.3) * canvas.size, rng.uniform(1.6, 3.0)
    canvas.road(angle, at, width, _TRACK if rng.random() < 0.6 else _ASPHALT, bend=rng.uniform(1, 6))


def _suburb(canvas: Canvas) -> None:
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
                house = box(u - cu, v - cv, rng.uniform(4, 6), rng.uniform(3, 4.5))
                if not house.any():
                    continue
                drive = box(u - cu - 2.6, v - (at + cv) / 2, 1.3, abs(cv - at))
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


def _airfield(canvas: Canvas) -> None:
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
    canvas.paint(inside(edge - v), apron, spread=0.4, texture=0.45 * tone - 0.8 * joints)
    canvas.road(angle, edge - rng.uniform(10, 18), rng.uniform(5, 9), _ASPHALT)
    canvas.road(angle + np.pi / 2, rng.uniform(-0.3, 0.3) * canvas.size, rng.uniform(4, 7), _ASPHALT)
    stains = canvas.crowns(int(0.004 * u.size), (0.5, 1.6), inside(edge - v) + 1e-6)
    canvas.paint(0.4 * ndimage.gaussian_filter(stains, 0.7), {"asphalt": 3.0}, variety=0.8)


LAYOUTS: tuple[Callable[[Canvas], None], ...] = (_farmland, _rangeland, _coast, _forest, _suburb, _airfield)
