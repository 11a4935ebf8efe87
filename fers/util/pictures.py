"""Parts that all pictures and pages share: true-colour bands, the stretch, pictures inside a page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

from fers.util.files import atomic_path

RGB_NM = (640.0, 550.0, 470.0)
_FULL_RANGE_NM = (400.0, 2500.0)  # assumed of a cube without wavelengths: AVIRIS and similar sensors
_VNIR_RANGE_NM = (430.0, 860.0)  # assumed of one with fewer bands: ROSIS and similar sensors
_VNIR_BANDS = 128


def rgb_bands(wavelengths: np.ndarray | None, count: int) -> tuple[int, int, int]:
    """Choose the bands nearest to red, green and blue (640, 550, 470 nm).

    Args:
        wavelengths: ``(count,)`` centres in nm. None assumes them spread evenly, over 400-2500 nm for more than 128
            bands, over 430-860 nm for fewer.
        count: Number of bands.

    Example:
        >>> rgb_bands(np.array([470.0, 550.0, 640.0]), 3)
        (2, 1, 0)
    """
    if wavelengths is None:
        wavelengths = np.linspace(*(_FULL_RANGE_NM if count > _VNIR_BANDS else _VNIR_RANGE_NM), count)
    red, green, blue = (int(np.abs(wavelengths - target).argmin()) for target in RGB_NM)
    return red, green, blue


def stretch_limits(image: np.ndarray) -> list[tuple[float, float]]:
    """Compute the 2nd and the 98th percentile of each band of an image ``(H, W, 3)``, NaN without data."""
    bands = [image[..., band][np.isfinite(image[..., band])] for band in range(3)]
    return [tuple(np.percentile(values, (2, 98)).tolist()) if len(values) else (0.0, 1.0) for values in bands]


def stretched(image: np.ndarray, limits: list[tuple[float, float]] | None = None) -> np.ndarray:
    """Stretch three bands to bytes.

    Args:
        image: ``(H, W, 3)``, NaN without data.
        limits: Values of each band that become 0 and 255, by default the image's own ``stretch_limits``.

    Returns:
        ``(H, W, 3)`` uint8, 0 without data.
    """
    out = np.zeros(image.shape, np.uint8)
    for band, (low, high) in enumerate(limits or stretch_limits(image)):
        scaled = (image[..., band] - low) / (high - low if high > low else 1.0)
        out[..., band] = np.nan_to_num(np.clip(scaled, 0, 1) * 255).round()
    return out


def data_uri(content: bytes, kind: str) -> str:
    """Encode a picture as an address for a page; ``kind`` is ``png`` or ``jpeg``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def write_page(path: Path, template: Path, **values: Any) -> None:
    """Write one HTML page from a jinja2 template, whole or not at all.

    Args:
        path: The page.
        template: File of the template. Every name in it must be among ``values``; text is escaped.
        **values: Values that the template shows.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(template.parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = environment.get_template(template.name).render(**values)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")  # names of files may not be text
