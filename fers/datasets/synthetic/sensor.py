"""Light, atmosphere and sensor: from reflectance to counts."""

from __future__ import annotations

import numpy as np

from fers.datasets.synthetic.cover import MODES, Canvas, random_fields
from fers.datasets.synthetic.spectra import MATERIALS, SPECTRA, WAVELENGTHS_NM, bump, dips, spectral_modes

PSF_SIGMA = 0.55  # px, the sensor's point spread
_COUNT = 1 / 1024  # one digital count, in uW cm-2 sr-1 nm-1


# radiance of a white sunlit surface, its part that is skylight, path radiance: each (276,)
_UM = WAVELENGTHS_NM / 1000
_PLANCK = _UM**-5 / (np.exp(14387.77 / (_UM * 5778)) - 1)
_PEAK = 0.5**-5 / (np.exp(14387.77 / (0.5 * 5778)) - 1)
_SUN = 195 * _PLANCK / _PEAK * (1 - 0.06 * bump(486, 4) - 0.05 * bump(656, 4) - 0.05 * bump(518, 5))
_GASES = dips(
    (600, 45, 0.05), (688, 4, 0.16), (719, 7, 0.13), (761, 4, 0.5), (818, 10, 0.12),
    (938, 22, 0.55), (1130, 24, 0.65), (1268, 5, 0.12), (1385, 38, 0.97), (1870, 42, 0.98),
    (2006, 9, 0.4), (2058, 8, 0.25), (2330, 40, 0.12), (2480, 50, 0.4),
)  # fmt: skip
_RAYLEIGH, _HAZE = 0.00864 * _UM**-4.05, 0.12 * (_UM / 0.55) ** -1.3
_WHITE = _SUN * 0.82 / np.pi * _GASES * np.exp(-1.9 * (0.5 * _RAYLEIGH + 0.15 * _HAZE))
_SKY = np.clip(0.32 * (WAVELENGTHS_NM / 450) ** -1.6, 0.02, 0.4)
_PATH = _SUN / np.pi * _GASES**0.5 * (0.12 * _RAYLEIGH + 0.05 * _HAZE)


def radiance(ground: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """Compute the radiance at the sensor, ``(H, W, B)`` in uW cm-2 sr-1 nm-1.

    ``ground`` is the reflectance, ``(H * W, B)``, and ``shade`` the share of the sun that reaches each pixel, ``(H, W)``;
    slopes towards it get more than 1.
    """
    lit = shade.reshape(-1, 1)
    return (_WHITE * ground * (lit + (1 - lit) * _SKY) + _PATH).reshape(*shade.shape, -1)


def reflectance(rng: np.random.Generator, canvas: Canvas) -> np.ndarray:
    """Mix the materials with their within-class variation: ``(H * W, 276)``."""
    abundance = canvas.abundance.reshape(len(MATERIALS), -1)
    present = np.flatnonzero(abundance.max(axis=1) > 0.01)
    amounts, modes = [], []
    for row in present:
        strength = rng.uniform(0.03, 0.07, (MODES, 1, 1)) * np.geomspace(1, 0.3, MODES)[:, None, None]
        smooth = random_fields(rng, MODES, canvas.size, 4.0)
        fine = rng.standard_t(5, smooth.shape)  # heavy tails: real pixels have them
        amount = strength * (0.8 * smooth + 0.35 * fine + canvas.offset)
        amounts.append(amount.reshape(MODES, -1) * abundance[row])
        modes.append(spectral_modes(rng, MODES))
    spectra = abundance.T @ SPECTRA
    spectra *= np.exp(np.concatenate(amounts).T @ np.concatenate(modes))
    return np.clip(spectra, 0, 1, out=spectra)


def sense(rng: np.random.Generator, light: np.ndarray) -> np.ndarray:
    """Turn radiance into what the sensor records, ``(H, W, B)``: noise, stripes, bad bands, counts."""
    _, width, bands = light.shape
    dark = 0.008 + 0.02 * np.exp(-(WAVELENGTHS_NM - 450) / 40)  # weak blue response
    noisy = np.ones(bands)
    noisy[rng.choice(bands, 6, replace=False)] = rng.uniform(2, 5, 6)
    sigma = np.sqrt(dark**2 + 6e-5 * light) * noisy
    stripes = np.zeros((width, bands))
    striped = rng.choice(bands, 8, replace=False)
    strength = rng.uniform(0.5, 2.0, 8) * sigma[:, :, striped].mean(axis=(0, 1))
    stripes[:, striped] = strength * rng.standard_normal((width, 8))
    sensed = light + sigma * rng.standard_normal(light.shape) + stripes
    return (np.round(np.maximum(sensed, 0) / _COUNT) * _COUNT).astype(np.float32)
