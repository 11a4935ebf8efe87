"""Isolation forests on kernel principal components: of the scene, then of each large region that they mark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fers.detectors.pieces import otsu, pixels_that_count
from fers.detectors.windows import checked

_ROUNDS = 5  # at most, of judging marked regions again
_BLOCK = 1 << 12  # pixels whose kernels are computed together


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
        >>> cube = torch.rand(1, 6, 20, 20, generator=torch.Generator().manual_seed(0)) / 10
        >>> cube[0, :, 4, 7] += 1
        >>> divmod(int(KIFD(trees=100)(cube).argmax()), 20)
        (4, 7)
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
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64 in (1, 10); NaN where a pixel is left out."""
        cube = checked(cube)
        maps = [self._score(image, None if left_out is None else left_out[number]) for number, image in enumerate(cube)]
        return torch.from_numpy(np.stack(maps)).to(cube.device)

    def _score(self, image: torch.Tensor, left_out: torch.Tensor | None) -> np.ndarray:
        pixels, counts = pixels_that_count(image, left_out)
        in_tree = int(self.share * len(pixels))
        if in_tree < 3:
            raise ValueError(
                f"{len(pixels)} pixels leave {in_tree} for each tree of KIFD; 3 are needed. Give a larger scene or share."
            )
        features = kernel_components(pixels.cpu().numpy(), self.components, self.samples, self.seed)
        scores = self._forest(features, self.trees, in_tree)
        where = counts.view(image.shape[1:]).cpu().numpy()
        scores = self._judge_again(features, scores, where, in_tree)
        found = np.full(where.shape, np.nan)
        found[where] = 10**scores
        return found

    def _judge_again(self, features: np.ndarray, scores: np.ndarray, where: np.ndarray, in_tree: int) -> np.ndarray:
        """Score large marked sets by their own forests, and the rest by one without them; ``(P,)`` both."""
        from scipy import ndimage

        threshold, size, touched = otsu(scores), len(scores) // 120, np.zeros(len(scores), bool)
        for _ in range(_ROUNDS):
            marked = np.zeros(where.shape, bool)
            marked[where] = scores > threshold
            sets = ndimage.label(marked, np.ones((3, 3)))[0][where]
            large = np.flatnonzero(np.bincount(sets) >= max(size, 2))
            if not (large > 0).any():
                break
            for number in large[large > 0]:
                members = sets == number
                touched |= members
                half = int(members.sum() / 2 + 0.5)
                scores[members] = self._forest(features[members], max(self.trees // 10, 1), half)
        if (~touched).sum() > 1:
            scores[~touched] = self._forest(features[~touched], self.trees, in_tree)
        return scores

    def _forest(self, features: np.ndarray, trees: int, in_tree: int) -> np.ndarray:
        """Grow a forest on pixels ``(P, K)`` and score them, ``(P,)`` in (0, 1)."""
        from sklearn.ensemble import IsolationForest

        forest = IsolationForest(n_estimators=trees, max_samples=min(in_tree, len(features)), random_state=self.seed)
        return -forest.fit(features).score_samples(features)


def kernel_components(pixels: np.ndarray, count: int, samples: int, seed: int) -> np.ndarray:
    """Compute the leading kernel components of pixels ``(P, B)``, each scaled to [0, 1]: ``(P, count)``, or fewer."""
    from scipy.spatial.distance import pdist
    from sklearn.decomposition import KernelPCA

    drawn = np.random.RandomState(seed).permutation(len(pixels))[:samples]
    train = pixels[drawn]
    width = 2 * pdist(train).sum() / len(train) ** 2  # each pixel with itself counts too
    kernel = KernelPCA(
        min(count, len(train) - 1), kernel="rbf", gamma=1 / (2 * width**2), eigen_solver="dense", copy_X=False
    ).fit(train)
    kept = kernel.eigenvalues_ > 1e-10 * kernel.eigenvalues_[0]  # duplicate pixels have zeros
    blocks = [kernel.transform(pixels[start : start + _BLOCK])[:, kept] for start in range(0, len(pixels), _BLOCK)]
    found = np.concatenate(blocks).astype(np.float32)  # as the forests want it
    low, high = found.min(0), found.max(0)
    return (found - low) / np.where(high > low, high - low, 1)
