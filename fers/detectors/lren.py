"""LREN: pixels in a latent space that follows a Gaussian mixture, scored against a low-rank dictionary."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import nn
from tqdm import tqdm

from fers.detectors.base import with_float64
from fers.detectors.trained import check_cube

LATENT = 9
HIDDEN = 400
ESTIMATOR = 60
CLUSTERS = 7
LAMBDA = 0.01
EPOCHS = 1000
BATCH = 4096
ENERGY_WEIGHT = 0.1
COVARIANCE_WEIGHT = 1e-4
_JITTER = 1e-6  # added to the covariances' diagonals before they are factored


class LRENNetwork(nn.Module):
    """An autoencoder of spectra, and an estimator of each latent vector's cluster.

    Weights are Glorot-uniform, biases zero, drawn from ``seed`` whatever the state of the global generator.

    Args:
        bands: B.
        clusters: K, Gaussians in the mixture.
        latent: d, size of the latent vector.
        hidden: Width of the encoder and the decoder.
        estimator: Width of the estimator.
        seed: The seed.
    """

    def __init__(
        self,
        bands: int,
        clusters: int = CLUSTERS,
        latent: int = LATENT,
        hidden: int = HIDDEN,
        estimator: int = ESTIMATOR,
        seed: int = 0,
    ):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = _two_layers(bands, hidden, latent)
            self.decoder = _two_layers(latent, hidden, bands)
            self.estimator = _two_layers(latent, estimator, clusters)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Standardised pixels ``(N, B)`` to z ``(N, d)``, x' ``(N, B)``, and gamma ``(N, K)``, whose rows sum to 1."""
        z = self.encoder(x)
        return z, self.decoder(z), self.estimator(z).softmax(1)


class Mixture(NamedTuple):
    """A Gaussian mixture of latent vectors.

    Attributes:
        phi: ``(K,)``, the components' weights.
        mu: ``(K, d)``, their means.
        sigma: ``(K, d, d)``, their covariances.
        cholesky: ``(K, d, d)``, the lower factors of ``sigma + 1e-6 I``.
    """

    phi: torch.Tensor
    mu: torch.Tensor
    sigma: torch.Tensor
    cholesky: torch.Tensor


def mixture(z: torch.Tensor, gamma: torch.Tensor) -> Mixture:
    """Compute the mixture of latent vectors from their memberships.

    Args:
        z: ``(N, d)``.
        gamma: ``(N, K)``, how much each vector belongs to each component.
    """
    total = gamma.sum(0)
    mu = gamma.T @ z / total[:, None]
    centred = z - mu[:, None]  # (K, N, d)
    sigma = (gamma.T[:, :, None] * centred).mT @ centred / total[:, None, None]
    cholesky = torch.linalg.cholesky(sigma + _JITTER * torch.eye(z.shape[1], dtype=z.dtype, device=z.device))
    return Mixture(total / len(z), mu, sigma, cholesky)


def energy(z: torch.Tensor, parts: Mixture) -> torch.Tensor:
    """Negative log-density of latent vectors ``(N, d)`` in a mixture: ``(N,)``."""
    whitened = torch.linalg.solve_triangular(parts.cholesky, (z - parts.mu[:, None]).mT, upper=False)
    log_determinant = 2 * parts.cholesky.diagonal(dim1=1, dim2=2).log().sum(1)
    log_density = -0.5 * (whitened.square().sum(1) + (z.shape[1] * math.log(2 * math.pi) + log_determinant)[:, None])
    return -(parts.phi.log()[:, None] + log_density).logsumexp(0)


class Loss(NamedTuple):
    """LREN's loss and its three terms, scalars without their weights."""

    total: torch.Tensor
    reconstruction: torch.Tensor
    energy: torch.Tensor
    covariance: torch.Tensor


def lren_loss(x: torch.Tensor, x_rec: torch.Tensor, z: torch.Tensor, gamma: torch.Tensor) -> Loss:
    """Reconstruction, mean energy, and the penalty on small variances, of a batch.

    The mixture is computed in float64: in float32 a covariance loses its 1e-6 to rounding where latent values are
    large, and has no Cholesky factor any more.

    Args:
        x: Pixels, ``(N, B)``.
        x_rec: Their reconstruction.
        z: ``(N, d)``.
        gamma: ``(N, K)``.
    """
    exact = with_float64(z).double()
    parts = mixture(exact, gamma.to(exact))
    reconstruction = (x - x_rec).square().sum(1).mean()
    mean_energy = energy(exact, parts).mean().to(x)
    covariance = parts.sigma.diagonal(dim1=1, dim2=2).reciprocal().sum().to(x)
    total = reconstruction + ENERGY_WEIGHT * mean_energy + COVARIANCE_WEIGHT * covariance
    return Loss(total, reconstruction, mean_energy, covariance)


class TensorFlowAdam(torch.optim.Adam):
    """Adam as TensorFlow 1 has it: epsilon is added before the second moment is corrected for its start from zero.

    It matters for the estimator: its gradients are so small at first that epsilon decides the steps.
    """

    EPSILON = 1e-8
    BETAS = (0.9, 0.999)

    def __init__(self, parameters: Iterable[torch.Tensor], lr: float = 1e-4):
        super().__init__(parameters, lr, self.BETAS)
        self.taken = 0

    def step(self, closure=None):
        """Take one step."""
        self.taken += 1
        for group in self.param_groups:
            group["eps"] = self.EPSILON / math.sqrt(1 - self.BETAS[1] ** self.taken)
        return super().step(closure)


def dictionary_pixels(gamma: torch.Tensor) -> torch.Tensor:
    """Choose the pixels whose latent vectors are the dictionary's atoms.

    A pixel belongs to the cluster of its largest gamma. Each cluster that has pixels gives two values: the largest and
    the smallest gamma that its pixels have for it. As in the official code, the atom of a value is the first pixel with
    that value for any cluster. So where gammas saturate at 1, one pixel stands for several clusters.

    Args:
        gamma: ``(N, K)``.

    Returns:
        Indices, at most 2 K: most and least of cluster 0, then of cluster 1, ...
    """
    cluster = gamma.argmax(1)
    chosen = []
    for k in range(gamma.shape[1]):
        members = (cluster == k).nonzero()[:, 0]
        if len(members):
            belongs = gamma[members, k]
            chosen += [(gamma == value).any(1).nonzero()[0, 0] for value in (belongs.max(), belongs.min())]
    return torch.stack(chosen)


class LowRank(NamedTuple):
    """A low-rank representation ``samples = dictionary @ coefficients + error``, and the iterations it took."""

    coefficients: torch.Tensor
    error: torch.Tensor
    iterations: int


def low_rank_representation(
    samples: torch.Tensor,
    dictionary: torch.Tensor,
    lambda_: float = LAMBDA,
    iterations: int = 500,
    tolerance: float = 1e-8,
) -> LowRank:
    """Minimise ``||X||_* + lambda ||E||_{2,1}`` subject to ``S = D X + E``.

    The 2,1-norm is the sum of the columns' 2-norms. The solver is the inexact augmented Lagrangian method: the
    penalty mu grows from 1e-3 by 1.2 in each iteration, to at most 1e10.

    Args:
        samples: S, ``(d, N)``; each column is a pixel.
        dictionary: D, ``(d, atoms)``.
        lambda_: Weight of the error, > 0. Smaller values put more into E.
        iterations: Most iterations.
        tolerance: The solver stops where neither a change of X, J or E nor a constraint's residual has an entry this
            large.

    Returns:
        X ``(atoms, N)``, E ``(d, N)``, float64, and the iterations.

    Raises:
        ValueError: ``lambda_`` is not above 0, or the shapes do not fit.

    Source: Liu, Lin, Yan, Sun, Yu and Ma, IEEE TPAMI 35(1), 171-184, 2013, 10.1109/TPAMI.2012.88, algorithm 1.

    Example:
        >>> samples = torch.eye(2, dtype=torch.float64)
        >>> low_rank_representation(samples, samples[:, :1], lambda_=1.0).error.shape
        torch.Size([2, 2])
    """
    if not lambda_ > 0:
        raise ValueError(f"low-rank representation: lambda is a number above 0; got {lambda_}.")
    if samples.ndim != 2 or dictionary.ndim != 2 or len(samples) != len(dictionary):
        raise ValueError(
            f"low-rank representation: samples d x N and a dictionary d x atoms; got {tuple(samples.shape)} and "
            f"{tuple(dictionary.shape)}."
        )
    s, d = with_float64(samples).double(), with_float64(dictionary).double()
    gram = d.mT @ d + torch.eye(d.shape[1], dtype=d.dtype, device=d.device)
    x = s.new_zeros(d.shape[1], s.shape[1])
    j, y2 = torch.zeros_like(x), torch.zeros_like(x)
    e, y1 = torch.zeros_like(s), torch.zeros_like(s)
    mu = 1e-3
    for iteration in range(1, iterations + 1):  # noqa: B007  (the last one is reported)
        before = (x, e, j)
        j = _shrink_singular_values(x + y2 / mu, 1 / mu)
        e = _shrink_columns(s - d @ x + y1 / mu, lambda_ / mu)
        x = torch.linalg.solve(gram, d.mT @ (y1 / mu - e) + d.mT @ s - y2 / mu + j)
        r1, r2 = s - d @ x - e, x - j
        changes = [now - then for now, then in zip((x, e, j), before, strict=True)]
        if max(entries.abs().max().item() for entries in (*changes, r1, r2)) < tolerance:
            break
        y1 += mu * r1
        y2 += mu * r2
        mu = min(1.2 * mu, 1e10)
    return LowRank(x, e, iteration)


class LREN:
    """LREN as a detector: networks are trained for each image, and a low-rank representation of its pixels is solved.

    Args:
        seed: Seed of the initial weights and of the order of the pixels.
        lambda_: Weight of the error in the low-rank representation. The authors use 0.01, and 0.0001 for ABU's beach-4.
        clusters: K.
        epochs: Passes over the pixels.
        batch: Pixels in a step.
        latent: Size of the latent vectors.

    Raises:
        ValueError: An option is out of its range.

    Source: Jiang, Xie, Lei, Jiang and Li, "LREN: Low-Rank Embedded Network for Sample-Free Hyperspectral Anomaly
    Detection", AAAI 35(5), 4139-4146, 2021, 10.1609/aaai.v35i5.16536; constants of the official code.

    Example:
        >>> LREN(epochs=2, clusters=3)(torch.rand(1, 5, 12, 10)).shape
        torch.Size([1, 12, 10])
    """

    caveats = ("LREN with its authors' settings. The paper tuned it on HAD100 by hand, and does not give the values.",)

    def __init__(
        self,
        seed: int = 0,
        lambda_: float = LAMBDA,
        clusters: int = CLUSTERS,
        epochs: int = EPOCHS,
        batch: int = BATCH,
        latent: int = LATENT,
    ):
        if not lambda_ > 0:
            raise ValueError(f"LREN: lambda_ is a number above 0; got {lambda_}.")
        for name, value in (("clusters", clusters), ("epochs", epochs), ("batch", batch), ("latent", latent)):
            if value < 1:
                raise ValueError(f"LREN: {name} is at least 1; got {value}.")
        self.seed = seed
        self.lambda_ = lambda_
        self.clusters = clusters
        self.epochs = epochs
        self.batch = batch
        self.latent = latent

    def __call__(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """Score each pixel by the length of its error in the low-rank representation.

        Args:
            cube: ``(N, C, H, W)`` of any range.
            left_out: ``(N, H, W)`` bool: pixels that do not count in training, dictionary and the others' representation.

        Returns:
            ``(N, H, W)`` float32, >= 0. Higher is more anomalous.

        Raises:
            ValueError: The cube has another number of axes, holds NaN or infinity, or is too small for its clusters.
        """
        check_cube("LREN", cube)
        if cube[0, 0].numel() <= self.latent:
            raise ValueError(
                f"LREN: {cube[0, 0].numel()} pixels; covariances of {self.latent} latent values need more than {self.latent}. "
                "Give a larger cut of the scene."
            )
        if (cube.amax((2, 3)) == cube.amin((2, 3))).all(1).any():
            raise ValueError("LREN: every pixel of an image has the same spectrum. It has no anomalies: leave it out.")
        with torch.inference_mode(False), torch.enable_grad():
            images = tqdm(cube.clone().split(1), "LREN", unit="scene", disable=None if len(cube) > 1 else True)
            outs = [None] * len(cube) if left_out is None else list(left_out)
            return torch.stack([self._score(image, out) for image, out in zip(images, outs, strict=True)])

    def train(self, x: torch.Tensor) -> Iterator[tuple[LRENNetwork, torch.Tensor]]:
        """Train networks on pixels; gradients must be switched on.

        Args:
            x: ``(N, B)``, as ``standardise`` gives them.

        Yields:
            After each epoch, the networks and the mean of its batches' losses as a scalar.

        Raises:
            ValueError: A covariance has become singular.
        """
        network = LRENNetwork(x.shape[1], self.clusters, self.latent, seed=self.seed).to(x.device)
        optimiser = TensorFlowAdam(network.parameters())
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.seed)).to(x.device)
        # Drawn once: the batches stay the same. Fewer pixels than latent values have no covariance to invert.
        batches = [batch for batch in x[order].split(self.batch) if len(batch) > self.latent]
        for _ in range(self.epochs):
            losses = []
            for batch in batches:
                z, x_rec, gamma = network(batch)
                try:
                    loss = lren_loss(batch, x_rec, z, gamma).total
                except torch.linalg.LinAlgError as error:
                    raise ValueError(
                        f"LREN: training diverged ({error}). Try another seed, or fewer clusters."
                    ) from error
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                losses.append(loss.detach())
            yield network, torch.stack(losses).mean()

    def _score(self, image: torch.Tensor, left_out: torch.Tensor | None) -> torch.Tensor:
        counts = slice(None) if left_out is None else ~left_out.flatten()
        x = standardise(image, counts)
        with tqdm(total=self.epochs, desc="LREN", unit="epoch", disable=None, leave=False) as bar:
            for network, _ in self.train(x[counts]):  # noqa: B007  (the last one is wanted)
                bar.update()
        with torch.no_grad():
            z, _, gamma = network(x)
            dictionary = z[counts][dictionary_pixels(gamma[counts])].T
            scores = self._errors(z[counts], dictionary)
            if left_out is not None:
                everywhere = self._errors(z, dictionary)
                everywhere[counts] = scores
                scores = everywhere
        return scores.view(image.shape[-2:]).float()

    def _errors(self, z: torch.Tensor, dictionary: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(low_rank_representation(z.T, dictionary, self.lambda_).error, dim=0)


def standardise(image: torch.Tensor, counts: torch.Tensor | slice = slice(None)) -> torch.Tensor:
    """Standardise an image: each band gets mean 0 and (population) standard deviation 1; a constant band becomes 0.

    The authors scale the whole cube to [0, 1] first, which changes nothing after this.

    Args:
        image: ``(1, B, H, W)``.
        counts: ``(H W,)`` bool, the pixels that mean and deviation are of; all by default.

    Returns:
        ``(H W, B)`` float32.
    """
    bands = with_float64(image[0]).double().flatten(1)
    used = bands[:, counts if isinstance(counts, slice) else counts.to(bands.device)]
    centred = bands - used.mean(1, keepdim=True)
    constant = used.amax(1, keepdim=True) == used.amin(1, keepdim=True)
    standardised = centred / used.std(1, correction=0, keepdim=True)
    return torch.where(constant, torch.zeros_like(centred), standardised).T.float().contiguous().to(image.device)


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    first, second = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)
    for layer in (first, second):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.Tanh(), second)


def _shrink_singular_values(matrix: torch.Tensor, threshold: float) -> torch.Tensor:
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    return u * (values - threshold).clamp_min(0) @ v


def _shrink_columns(matrix: torch.Tensor, threshold: float) -> torch.Tensor:
    norms = torch.linalg.vector_norm(matrix, dim=0)
    return matrix * (1 - threshold / norms.clamp_min(threshold))
