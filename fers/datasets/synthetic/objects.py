"""Objects: man-made things as many, as large and as long as those in HAD100's masks.

``had100_objects.csv`` holds area, length and width of each of the 460 objects in HAD100's 100 masks
(docs/notebook/synthetic_objects.py wrote it). A synthetic scene takes the objects of one of these scenes, drawn at random: so
their number, their areas and how the two go together are HAD100's. Where they lie, and their outlines, are drawn here.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from fers.datasets.synthetic.cover import Canvas
from fers.datasets.synthetic.sensor import PSF_SIGMA
from fers.datasets.synthetic.spectra import MATERIALS, object_materials, spectral_modes, step

MASK_FRACTION = 0.3  # an anomaly: an object fills at least this share of what the sensor sees
_FINE = 5  # samples across a pixel, to draw an outline
_VARIATION = 0.15 + step(1020, 30)  # of objects of one material: by dust and binder, beyond 1 um; pigments are alike
_TRIES = 80  # places and directions that are tried for an object
_LEAST_SHARE = 0.02  # of a pixel; less than this of an object is left out
_BLUR = 0.55  # px by which the blur makes a mask longer and wider than its object
_MARGIN = 4  # px around an object's outline, for the blur
_EIGHT = np.ones((3, 3))  # pixels that touch across corners are one object


@cache
def object_statistics() -> tuple[np.ndarray, ...]:
    """Read the objects of HAD100's scenes: for each of the 100 scenes ``(objects, 3)``, area, length and width in px."""
    table = np.loadtxt(Path(__file__).with_name("had100_objects.csv"), delimiter=",", skiprows=1)
    return tuple(table[table[:, 0] == scene, 1:] for scene in np.unique(table[:, 0]))


def _footprint(rng: np.random.Generator, area: int, length: float, width: float, afloat: bool) -> np.ndarray | None:
    """Draw what the sensor sees of an object, as a share of each pixel: its truth has exactly ``area`` pixels, in one piece.

    The array is square with the object in its middle; None where this direction and offset allow no such object.
    """
    half = int(np.ceil(0.75 * length)) + _MARGIN
    grid = (np.arange(_FINE * (2 * half + 1)) + 0.5) / _FINE - half - 0.5
    y, x = np.meshgrid(grid - rng.uniform(-0.5, 0.5), grid - rng.uniform(-0.5, 0.5), indexing="ij")
    angle = rng.uniform(0, np.pi)
    u, v = np.cos(angle) * x + np.sin(angle) * y, -np.sin(angle) * x + np.cos(angle) * y
    kind = rng.uniform()
    slim = (length - _BLUR) / (width - _BLUR)
    if area >= 10 and area < 0.75 * length * width:  # an aircraft: most of the rectangle is empty
        outline = np.minimum(np.maximum(abs(u), 3 * abs(v)), np.maximum(abs(v), 3 * abs(u - 0.1 * length)))
    elif afloat or kind < 0.3:  # a boat, a tank
        outline = np.hypot(u, v * slim)
    else:  # a vehicle, a roof
        outline = np.maximum(abs(u), abs(v) * slim)

    def seen(reach: float) -> np.ndarray:
        share = (outline < reach).reshape(2 * half + 1, _FINE, 2 * half + 1, _FINE).mean(axis=(1, 3))
        return ndimage.gaussian_filter(share, PSF_SIGMA)

    low, high = 0.0, float(length)
    for _ in range(14):
        reach = (low + high) / 2
        share = seen(reach)
        pixels = int((share >= MASK_FRACTION).sum())
        if pixels == area:
            break
        low, high = (reach, high) if pixels < area else (low, reach)
    share[share < _LEAST_SHARE] = 0
    mask = share >= MASK_FRACTION
    whole = pixels == area and ndimage.label(mask, _EIGHT)[1] == 1
    return share if whole and not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()) else None


def place_objects(
    rng: np.random.Generator, canvas: Canvas, difficulty: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Put objects on the ground, apart from each other.

    Returns:
        mask: ``(H, W)`` bool, where an object fills `MASK_FRACTION` of what the sensor sees.
        touched: ``(P,)`` int, flat indices of the pixels that show any part of an object.
        share: ``(P, 1)``, the part of these pixels that shows objects and not the ground, in [0, 1].
        reflected: ``(P, 276)``, the objects' contribution to their reflectance.
    """
    size = canvas.size
    scenes = object_statistics()
    chosen = scenes[rng.integers(len(scenes))]
    wanted = max(1, round(len(chosen) * (size / 64) ** 2))  # in proportion to the area
    if wanted != len(chosen):
        chosen = chosen[rng.choice(len(chosen), wanted, replace=wanted > len(chosen))]
    spectra = np.stack(list(object_materials().values()))
    palette = rng.choice(len(spectra), size=rng.integers(2, 5), replace=False)
    scene_cover = rng.uniform()
    waters = [MATERIALS.index("clear_water"), MATERIALS.index("turbid_water")]
    taken = np.zeros((size, size), dtype=bool)
    mask = np.zeros((size, size), dtype=bool)
    shares: list[np.ndarray] = []
    materials: list[np.ndarray] = []
    cy = cx = 0
    for area, length, width in chosen[np.argsort(-chosen[:, 0], kind="stable")]:  # the largest first
        for _ in range(_TRIES):
            if shares and rng.random() < 0.45:  # parked near the last one
                bearing, gap = rng.uniform(0, 2 * np.pi), rng.uniform(4, 9)
                ny, nx = round(cy + gap * np.sin(bearing)), round(cx + gap * np.cos(bearing))
            else:
                ny, nx = rng.integers(1, size - 1, 2).tolist()
            if not (0 < ny < size - 1 and 0 < nx < size - 1):
                continue
            afloat = canvas.abundance[waters, ny, nx].sum() > 0.5
            footprint = _footprint(rng, int(area), length, width, afloat)
            if footprint is None:
                continue
            half = len(footprint) // 2
            ground = np.zeros((size + 2 * half, size + 2 * half))
            ground[ny : ny + 2 * half + 1, nx : nx + 2 * half + 1] = footprint
            fraction = ground[half : half + size, half : half + size]  # what lies outside the scene is cut off
            here = fraction >= MASK_FRACTION
            if here.sum() != area or (taken & (fraction > 0)).any():
                continue
            cy, cx = ny, nx
            taken |= ndimage.binary_dilation(fraction > 0, _EIGHT)
            mask |= here
            hidden = 0.43 + 0.58 * scene_cover + 0.78 * rng.uniform()  # by dust, growth, netting; in decades
            least = 10**-hidden
            shares.append(fraction.ravel() * least**difficulty**2)
            materials.append(spectra[rng.choice(palette)] * rng.uniform(0.85, 1.15))
            break
    share = np.stack(shares, axis=1)
    touched = np.flatnonzero(share.sum(axis=1))
    share = share[touched]
    variation = spectral_modes(rng, 6) * _VARIATION
    weathering = 0.1 * rng.standard_normal((share.shape[1], 3)) @ variation[:3]
    facets = 0.07 * rng.standard_normal((touched.size, 3)) @ variation[3:]
    reflected = share @ (np.stack(materials) * np.exp(weathering)) * np.exp(facets)
    total = share.sum(axis=1, keepdims=True)
    return mask, touched, total, np.minimum(reflected, total)
