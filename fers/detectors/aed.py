"""Attribute and edge-preserving filters: small bright or dark objects in three principal components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fers.detectors.pieces import otsu, scaled_components
from fers.detectors.windows import checked

_LEVELS = 1000  # of grey within three standard deviations to both sides


@dataclass(frozen=True)
class AED:
    """Detector of small objects by attribute and edge-preserving filters.

    In each of three principal components, an area opening and an area closing flatten what is brighter or darker than all
    around it on fewer than ``area`` pixels. What they take away is kept where Otsu's threshold marks it and the mark
    covers at most a hundredth of the scene. The sum of the three is smoothed along, not across, the edges of the
    components by the domain transform. Where nothing passes, the map is zero.

    A whole image is filtered, so no pixel can be left out. Most pixels score nearly zero: only the smoothing orders them.

    Args:
        area: Size in pixels from which an object is background. It depends on the ground sampling distance; the papers'
            tables choose it for each scene, 5 to 250.
        sigma_s: Reach of the smoothing in pixels.
        sigma_r: How strong an edge stops it, in the components' range of [0, 1].

    Raises:
        ValueError: On making it, an area below 1 or a sigma that is not positive. On calling it, NaN, or a constant cube.

    Cost: 6 x 1000 labellings of an H x W mask, whatever the number of bands.

    Source: X. Kang et al., IEEE TGRS 55(10), 2017; the domain transform: E. Gastal and M. Oliveira, ACM TOG 30(4), 2011.

    Example:
        >>> noise = torch.rand(1, 5, 40, 40, generator=torch.Generator().manual_seed(0)) / 10
        >>> cube = noise + torch.linspace(0, 1, 40)
        >>> cube[0, :, 4:6, 7:9] += 1
        >>> divmod(int(AED()(cube).argmax()), 40)
        (5, 7)
    """

    area: int = 25
    sigma_s: float = 5.0
    sigma_r: float = 0.5

    def __post_init__(self) -> None:
        if self.area < 1 or not self.sigma_s > 0 or not self.sigma_r > 0:
            raise ValueError(f"AED needs an area of at least 1 px and sigmas above 0; got {self}.")

    def __call__(self, cube: torch.Tensor) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64 in [0, 1]."""
        components = scaled_components(checked(cube), 3)
        maps = [self._score(image.cpu().numpy()) for image in components]
        return torch.from_numpy(np.stack(maps)).to(components[0].device)

    def _score(self, components: np.ndarray) -> np.ndarray:
        found = unit_range(np.stack([area_difference(grey_levels(one), self.area) for one in components]))
        marked = unit_range(np.sum([small_marks(one) for one in found], axis=0))
        return unit_range(smooth(marked, components, self.sigma_s, self.sigma_r))


def unit_range(x: np.ndarray) -> np.ndarray:
    """Scale an array to [0, 1] by its minimum and maximum; a constant one becomes zero."""
    low, high = x.min(), x.max()
    return (x - low) / (high - low) if high > low else np.zeros(x.shape)


def grey_levels(component: np.ndarray) -> np.ndarray:
    """Quantise a component: level 0 is three standard deviations below its mean, level 1000 three above."""
    z = (component - component.mean()) / component.std(ddof=1)
    return np.floor(((z + 3) * _LEVELS / 6).clip(0, _LEVELS) + 0.5).astype(int)


def area_difference(grey: np.ndarray, area: int) -> np.ndarray:
    """Compute area closing less area opening of whole numbers ``(H, W)``; neighbours share an edge."""
    return -area_opening(-grey, area) - area_opening(grey, area)


def area_opening(grey: np.ndarray, area: int) -> np.ndarray:
    """Flatten what is brighter than all around it on fewer than ``area`` pixels, by every level that occurs.

    A pixel gets the highest level at which its connected set of pixels of that level or above has ``area`` pixels.
    Of a scene smaller than ``area`` it is the lowest level.
    """
    from scipy import ndimage

    levels = np.unique(grey)
    opened = np.full_like(grey, levels[0])
    for level in levels[1:]:
        sets, _ = ndimage.label(grey >= level)
        large = np.bincount(sets.ravel()) >= area
        large[0] = False  # the pixels below the level
        if not large.any():
            break
        opened[large[sets]] = level
    return opened


def small_marks(found: np.ndarray) -> np.ndarray:
    """Keep a map ``(H, W)`` in marked sets of at most a hundredth of the pixels, which touch at edge or corner; 0 elsewhere.

    A pixel is marked by its own value or that of its neighbour to the left, above, or both.
    """
    from scipy import ndimage

    grown = ndimage.grey_dilation(found, footprint=np.ones((2, 2)), origin=-1, mode="constant", cval=0)
    sets, _ = ndimage.label(grown > otsu(grown), np.ones((3, 3)))
    small = np.bincount(sets.ravel()) <= found.size / 100
    small[0] = False
    return np.where(small[sets], found, 0)


def smooth(image: np.ndarray, guide: np.ndarray, sigma_s: float, sigma_r: float) -> np.ndarray:
    """Smooth ``(H, W)`` between the edges of a guide ``(K, H, W)``: the domain transform's recursive filter."""
    image = image.copy()
    for number in range(3):
        sigma = sigma_s * 3**0.5 * 2 ** (2 - number) / (4**3 - 1) ** 0.5
        for lines, guides in ((image.T, guide.transpose(2, 1, 0)), (image, guide.transpose(1, 2, 0))):
            jumps = np.abs(np.diff(guides, axis=0)).sum(2)  # from line to line, each a column or row of the image
            keep = np.exp(-(2**0.5) / sigma * (1 + sigma_s / sigma_r * jumps))
            for here in range(1, len(lines)):
                lines[here] += keep[here - 1] * (lines[here - 1] - lines[here])
            for here in range(len(lines) - 2, -1, -1):
                lines[here] += keep[here] * (lines[here + 1] - lines[here])
    return image
