"""Isolation forests on kernel principal components: of the scene, then of each large region that they mark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fers.detectors.pieces import otsu, scaled_pixels
from fers.detectors.windows import checked

_KERNEL_BLOCK = 1 << 12  # pixels whose kernels are computed together


@dataclass(frozen=True)
class KIFD:
    """Kernel isolation forest: how few random cuts separate a pixel from the others in kernel components.

    The pixels, each band scaled to [0, 1], are projected to the leading principal components of a Gaussian kernel. Its
    width is the mean distance of the training pixels. Each component is scaled to [0, 1], so all weigh the same. A forest
    scores the scene. Sets of at least 1/120 of the pixels above Otsu's threshold, which touch at edge or corner, are then
    scored by forests of their own, of a tenth of the trees, up to five times; this lowers large objects. Pixels never in such a set are scored
    again by a forest without the others. The score is 10 to the power of the forest's.

    Args:
        components: Kernel components; fewer where the eigenvalues end.
        trees: Of the forests of the scene.
        share: Share of the pixels that each tree is grown on.
        samples: Training pixels of the kernel, drawn without replacement. Published code takes 10,000.
        seed: Seed of the draw and of all forests, the same for each image. Published code seeds forests by the clock.

    Raises:
        ValueError: On making it, an option that is not positive. On calling it, NaN, a constant cube, or so few pixels that
            a tree has less than 3.

    Cost: samples^3 for the kernel, samples kernels a pixel, and 2 x trees x log2(share x pixels) cuts a pixel.

    Source: S. Li, K. Zhang, P. Duan and X. Kang, IEEE TGRS 58(1), 2020. The last forest and the power are only in its code.

    Example:
        >>> cube = torch.rand(1, 6, 20, 20, generator=torch.Generator().manual_seed(0))
        >>> KIFD(trees=20)(cube).shape
        torch.Size([1, 20, 20])
    """

    components: int = 300
    trees: int = 1000
    share: float = 0.03
    samples: int = 3000
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.components, self.trees, self.samples) < 1 or not 0 < self.share <= 1:
            raise ValueError(f"KIFD needs counts of at least 1 and a share above 0, at most 1; got {self}.")

    def __call__(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64 in (1, 10); no forest is grown on pixels left out."""
        cube = checked(cube)
        maps = [self._score(image, None if left_out is None else left_out[number]) for number, image in enumerate(cube)]
        return torch.from_numpy(np.stack(maps)).to(cube.device)

    def _score(self, image: torch.Tensor, left_out: torch.Tensor | None) -> np.ndarray:
        pixels, counts = (part.cpu().numpy() for part in scaled_pixels(image, left_out))
        in_tree = int(self.share * counts.sum())
        if in_tree < 3:
            raise ValueError(
                f"{counts.sum()} pixels leave {in_tree} for each tree of KIFD; 3 are needed. Give a larger scene or share."
            )
        features = kernel_components(pixels, counts, self.components, self.samples, self.seed)
        scores = self._forest(features[counts], features, self.trees, in_tree)
        touched = self._judge_again(features, scores, counts.reshape(image.shape[1:]))
        rest = features[counts & ~touched]
        if len(rest) > 1:
            scores[~touched] = self._forest(rest, features[~touched], self.trees, in_tree)
        return 10 ** scores.reshape(image.shape[1:])

    def _judge_again(self, features: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Score large marked sets by their own forests, in place; return which pixels ever were in one, ``(P,)``."""
        from scipy import ndimage

        threshold, size = otsu(scores[counts.ravel()]), max(int(counts.sum()) // 120, 2)
        touched = np.zeros(len(scores), bool)
        for _ in range(5):
            sets = ndimage.label(counts & (scores > threshold).reshape(counts.shape), np.ones((3, 3)))[0].ravel()
            large = [number for number in np.flatnonzero(np.bincount(sets) >= size) if number > 0]
            for number in large:
                members = features[sets == number]
                scores[sets == number] = self._forest(members, members, self.trees // 10, int(len(members) / 2 + 0.5))
                touched |= sets == number
            if not large:
                break
        return touched

    def _forest(self, grown_on: np.ndarray, features: np.ndarray, trees: int, in_tree: int) -> np.ndarray:
        """Grow a forest on some pixels and score others, ``(P, K)`` both: ``(P,)`` in (0, 1)."""
        from sklearn.ensemble import IsolationForest

        forest = IsolationForest(
            n_estimators=max(trees, 1), max_samples=min(in_tree, len(grown_on)), random_state=self.seed
        )
        return -forest.fit(grown_on).score_samples(features)


def kernel_components(pixels: np.ndarray, counts: np.ndarray, count: int, samples: int, seed: int) -> np.ndarray:
    """Compute the leading kernel components of pixels ``(P, B)``, each scaled to [0, 1]: ``(P, count)``, or fewer.

    Only pixels that count, ``(P,)`` bool, make kernel and range.
    """
    from scipy.spatial.distance import pdist
    from sklearn.decomposition import KernelPCA

    train = pixels[np.random.RandomState(seed).permutation(np.flatnonzero(counts))[:samples]]
    width = 2 * pdist(train).sum() / len(train) ** 2  # each pixel with itself counts too
    kernel = KernelPCA(min(count, len(train) - 1), kernel="rbf", gamma=1 / (2 * width**2), eigen_solver="dense").fit(
        train
    )
    kept = kernel.eigenvalues_ > 1e-10 * kernel.eigenvalues_[0]  # duplicate pixels have zeros
    blocks = (pixels[start : start + _KERNEL_BLOCK] for start in range(0, len(pixels), _KERNEL_BLOCK))
    found = np.concatenate([kernel.transform(block)[:, kept] for block in blocks]).astype(
        np.float32
    )  # as forests want it
    low, high = found[counts].min(0), found[counts].max(0)
    return (found - low) / np.where(high > low, high - low, 1)
