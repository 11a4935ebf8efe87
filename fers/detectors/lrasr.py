"""Low-rank and sparse representation of the pixels by a dictionary of the scene's own background."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from tqdm import tqdm

from fers.detectors.pieces import scaled_pixels, shrink, shrink_spectrum
from fers.detectors.windows import checked


@dataclass(frozen=True)
class LRASR:
    """Low-rank and sparse representation: the norm of what a background dictionary does not represent of a pixel.

    k-means finds ``clusters`` of pixels, each band scaled to [0, 1]. The ``atoms`` members of a cluster that are nearest to
    its mean, by the cluster's own covariance, go to the dictionary; smaller clusters give none. Then all pixels are written
    as the dictionary times coefficients plus a rest. The coefficients pay for their singular values and for their
    magnitudes, the rest for the norms of its pixels. Anomalies that form a cluster of their own become background.

    Args:
        clusters: K, >= 1.
        atoms: Pixels of each cluster, >= 1.
        sparse: Weight of the coefficients' magnitudes: beta, > 0.
        rest: Weight of the rest: lambda, > 0.
        seed: Seed of k-means, the same for each image.

    Raises:
        ValueError: On making it, an option that is not positive. On calling it, NaN, a constant cube, or no cluster of
            ``atoms`` pixels.

    Cost: 115 x eight products of the pixels with a matrix of B x K P or K P x K P; memory is six times K P numbers a pixel.

    Source: Y. Xu, Z. Wu, J. Li, A. Plaza and Z. Wei, IEEE TGRS 54(4), 2016.

    Example:
        >>> cube = torch.rand(1, 6, 20, 20, generator=torch.Generator().manual_seed(0)) / 10
        >>> cube[0, 3, 4, 7] += 1
        >>> divmod(int(LRASR(clusters=3)(cube).argmax()), 20)
        (4, 7)
    """

    clusters: int = 15
    atoms: int = 20
    sparse: float = 0.1
    rest: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.clusters, self.atoms, self.sparse, self.rest) <= 0:
            raise ValueError(f"LRASR needs options above 0; got {self}.")

    def __call__(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """Score ``(N, C, H, W)`` to ``(N, H, W)`` float64, >= 0; pixels left out are represented by themselves."""
        maps = []
        for number, image in enumerate(checked(cube)):
            pixels, counts = scaled_pixels(image, None if left_out is None else left_out[number])
            dictionary, scores = self.dictionary(pixels[counts]), torch.zeros_like(pixels[:, 0])
            for part in (counts, ~counts):
                rest = represent(pixels[part].T.contiguous(), dictionary, self.sparse, self.rest)
                scores[part] = torch.linalg.vector_norm(rest, dim=0)
            maps.append(scores.view(image.shape[1:]))
        return torch.stack(maps)

    def dictionary(self, pixels: torch.Tensor) -> torch.Tensor:
        """Choose the atoms, ``(B, M)``, among pixels ``(P, B)``.

        Raises:
            ValueError: No cluster is large enough.
        """
        from sklearn.cluster import KMeans

        clusters = min(self.clusters, len(pixels))
        labels = KMeans(clusters, n_init=1, random_state=self.seed).fit_predict(pixels.cpu().numpy())
        found = []
        for number in range(clusters):
            members = pixels[torch.from_numpy(labels == number).to(pixels.device)]
            if len(members) < self.atoms:
                continue
            centred = members - members.mean(0)
            inverse = torch.linalg.pinv(centred.T @ centred / max(len(members) - 1, 1), hermitian=True)
            found.append(members[((centred @ inverse) * centred).sum(1).argsort(stable=True)[: self.atoms]])
        if not found:
            raise ValueError(
                f"none of the {clusters} clusters of {len(pixels)} pixels has {self.atoms} pixels, so LRASR has no dictionary. "
                "Give fewer clusters or atoms, or a larger scene."
            )
        return torch.cat(found).T


def represent(pixels: torch.Tensor, dictionary: torch.Tensor, sparse: float, weight: float) -> torch.Tensor:
    """Represent pixels ``(B, P)`` by a dictionary ``(B, M)``; return the rest ``(B, P)``.

    It is the linearised alternating method on ``|S|_* + sparse |S|_1 + weight |E|_2,1`` with ``pixels = dictionary S + E``.
    """
    step = float(torch.linalg.matrix_norm(dictionary, 2)) ** 2
    size, mu = float(pixels.norm()), 1e-3
    s, j, y2 = (pixels.new_zeros(dictionary.shape[1], pixels.shape[1]) for _ in range(3))  # y1, y2: multipliers over mu
    e, y1 = torch.zeros_like(pixels), torch.zeros_like(pixels)
    residual, work = pixels.clone(), torch.empty_like(s)
    for _ in tqdm(range(115), "LRASR", unit="round", leave=False, disable=None, delay=2):
        s_before, j_before, e_before = s, j, e
        torch.matmul(dictionary.mT, residual.sub_(e).add_(y1), out=work).sub_(s).add_(j).sub_(y2).div_(step).add_(s)
        s = shrink_spectrum(work, 1 / (mu * step))
        j = torch.nn.functional.softshrink(torch.add(s, y2, out=work), sparse / mu)
        torch.sub(pixels, dictionary @ s, out=residual)
        e = shrink(residual + y1, weight / mu)
        gap = residual - e
        moved = max(
            step**0.5 * float(s_before.sub_(s).norm()), float(j_before.sub_(j).norm()), float((e - e_before).norm())
        )
        if float(gap.norm()) < 1e-6 * size and mu * moved < 1e-2 * size:
            break
        growth = min(1.1, 1e10 / mu)
        y1.add_(gap).div_(growth)
        y2.add_(s).sub_(j).div_(growth)
        mu *= growth
    return e
