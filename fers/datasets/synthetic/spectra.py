"""Reflectances in [0, 1] over AVIRIS-NG's bands, from smooth analytic curves."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from fers.datasets.had100 import SENSORS

WAVELENGTHS_NM = np.concatenate([376.86 + 5.0086 * np.arange(a, b) for a, b in SENSORS["aviris_ng"].kept])
"""Band centres in nm, ``(276,)``: AVIRIS-NG's grid of 425 bands, the ones HAD100 keeps."""


def bump(centre: float, width: float, nm: np.ndarray = WAVELENGTHS_NM) -> np.ndarray:
    """Compute a Gaussian of height 1."""
    return np.exp(-0.5 * ((nm - centre) / width) ** 2)


def step(centre: float, width: float, nm: np.ndarray = WAVELENGTHS_NM) -> np.ndarray:
    """Compute a logistic step from 0 to 1."""
    return 1 / (1 + np.exp(-(nm - centre) / width))


def dips(*features: tuple[float, float, float]) -> np.ndarray:
    """Multiply absorption features, each (centre in nm, width in nm, depth 0 to 1)."""
    curve = np.ones(WAVELENGTHS_NM.size)
    for centre, width, depth in features:
        curve *= 1 - depth * bump(centre, width)
    return curve


def _ramp(*points: tuple[float, float]) -> np.ndarray:
    """A smooth continuum through (nm, reflectance) points: piecewise linear, rounded over about 100 nm."""
    grid = np.arange(0.0, 3000.0, 10.0)
    nm, value = zip(*points, strict=True)
    smooth = ndimage.gaussian_filter1d(np.interp(grid, nm, value), 8.0, mode="nearest")
    return np.interp(WAVELENGTHS_NM, grid, smooth)


# fmt: off
def _leaf(chlorophyll: float, nir: float, water: float, edge: float = 716.0) -> np.ndarray:
    visible = 0.035 + 0.065 * (1.4 - chlorophyll) * bump(553, 33) + 0.05 * (1 - chlorophyll) * step(590, 25)
    plateau = nir * _ramp((700, 0.96), (900, 1.0), (1250, 0.98), (1650, 0.74), (2200, 0.52), (2500, 0.36))
    edge_up = step(edge, 11)
    features = ((975, 24, 0.06), (1190, 42, 0.17), (1450, 62, 0.68), (1945, 85, 0.86), (2500, 190, 0.65))
    wet = dips(*((centre, width, min(0.95, water * depth)) for centre, width, depth in features))
    return visible * (1 - edge_up) + plateau * edge_up * wet


def _straw(level: float) -> np.ndarray:
    base = _ramp((400, 0.1), (550, 0.2), (750, 0.36), (1100, 0.5), (1650, 0.54), (2100, 0.42), (2500, 0.3))
    return level * base * dips(
        (670, 18, 0.08), (1200, 35, 0.05), (1450, 45, 0.2), (1730, 28, 0.06),
        (1930, 50, 0.3), (2100, 48, 0.17), (2310, 38, 0.15),
    )


def _soil(level: float, iron: float, clay: float, carbonate: float, moisture: float) -> np.ndarray:
    base = _ramp((380, 0.16), (550, 0.4), (800, 0.68), (1300, 0.9), (1800, 1), (2200, 0.95), (2500, 0.82))
    rust = 1 - iron * (1 - step(575, 28)) * 0.75
    return level * base * rust * dips(
        (500, 35, 0.25 * iron), (660, 35, 0.06 * iron), (880, 70, 0.22 * iron),
        (1412, 22, 0.3 * clay), (2206, 22, 0.3 * clay), (2338, 26, 0.35 * carbonate),
        (1450, 60, 0.4 * moisture), (1925, 55, 0.2 + 0.5 * moisture),
    )


def endmembers() -> dict[str, np.ndarray]:
    """Make the background materials: name -> reflectance ``(276,)`` in [0, 1] over `WAVELENGTHS_NM`."""
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
        "clear_water": 0.004 + 0.05 * (1 - step(590, 38)) + 0.012 * bump(540, 40),
        "turbid_water": 0.006 + 0.09 * bump(575, 75) + 0.035 * bump(690, 45) + 0.015 * bump(810, 30),
        "asphalt": _ramp((400, 0.07), (700, 0.105), (1200, 0.14), (1800, 0.17), (2500, 0.17)) * dips((2310, 40, 0.05)),
        "concrete": _ramp((380, 0.16), (550, 0.27), (800, 0.33), (1600, 0.38), (2500, 0.31))
        * dips((900, 90, 0.03), (1430, 45, 0.08), (1930, 55, 0.16), (2338, 28, 0.09)),
        "tile_roof": (0.07 + 0.27 * step(588, 24)) * _ramp((400, 1), (1300, 1.35), (1800, 1.45), (2500, 1.35))
        * dips((870, 65, 0.14), (1930, 50, 0.08), (2206, 20, 0.05)),
        "shingle_roof": _ramp((400, 0.11), (700, 0.145), (1300, 0.165), (2500, 0.2))
        * dips((1730, 20, 0.04), (2310, 30, 0.08)),
    }


_CH = ((1212, 16, 0.09), (1395, 20, 0.12), (1727, 19, 0.34), (2310, 34, 0.45))  # C-H overtones of polymers


def object_materials() -> dict[str, np.ndarray]:
    """Make the materials of the anomalies, as `endmembers`; none of them is in the background."""
    binder = dips((1727, 17, 0.12), (2310, 30, 0.2))  # paint: thin polymer on something else
    return {
        "white_paint": 0.72 * step(412, 9) * binder * _ramp((400, 1), (1000, 0.97), (1700, 0.83), (2500, 0.6)),
        "red_paint": (0.045 + 0.46 * step(607, 9)) * dips((535, 25, 0.3)) * binder,
        "blue_paint": (0.05 + 0.22 * bump(468, 34) + 0.38 * step(752, 18))
        * dips((622, 30, 0.5), (694, 18, 0.55)) * binder,
        "yellow_paint": (0.05 + 0.55 * step(512, 10)) * dips((880, 60, 0.08)) * binder,
        "green_paint": (0.05 + 0.17 * bump(516, 26) + 0.33 * step(790, 22))
        * dips((645, 28, 0.45), (728, 20, 0.5)) * binder,
        "grey_paint": (0.26 + 0.05 * bump(470, 60)) * _ramp((400, 1), (900, 0.93), (2500, 0.7)) * binder,
        "aluminium": _ramp((380, 0.6), (700, 0.56), (850, 0.53), (1200, 0.66), (2500, 0.74)) * dips((835, 50, 0.12)),
        "blue_tarp": (0.08 + 0.30 * bump(462, 40) + 0.45 * step(735, 14))
        * dips((615, 24, 0.3), (680, 16, 0.35), *_CH),
        "orange_plastic": (0.05 + 0.66 * step(578, 8)) * dips(*_CH),
        "white_plastic": 0.8 * step(405, 8) * dips(*_CH) * _ramp((400, 1), (1100, 0.96), (1700, 0.86), (2500, 0.6)),
        "camouflage": (0.045 + 0.05 * bump(545, 28) + 0.3 * step(692, 9)) * dips((1420, 40, 0.1), *_CH),
    }

# fmt: on


MATERIALS = tuple(endmembers())
SPECTRA = np.stack(list(endmembers().values()))
"""Their reflectances, ``(len(MATERIALS), 276)``."""


def spectral_modes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw smooth random curves over the bands, ``(count, 276)``, of unit root mean square."""
    modes = np.zeros((count, WAVELENGTHS_NM.size))
    for mode in modes:
        for width in (400, 180, 90, 45, 25):
            centre = np.exp(rng.uniform(np.log(400), np.log(2500)))
            mode += rng.normal() * bump(centre, width * centre / 1000 + 12)
        mode /= np.sqrt((mode**2).mean()) + 0.05
    return modes
