"""Auto-AD: the residual of a deep image prior, fitted to the scene itself until the fit settles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from fers.detectors.base import minmax
from fers.detectors.trained import check_cube

SCALES = 5
CHANNELS = 128
LEAST_SIDE_OF_AUTO_AD = 2**SCALES + 1  # five halvings must leave 2 px: reflection padding needs them
ITERATIONS = 1001
LEARNING_RATE = 0.01
THRESHOLD = 1.5e-5
INPUT_SCALE = 0.1  # of the fixed uniform input, and of the normal noise that is added to it in each iteration
REWEIGHT_EVERY = 100  # iterations
LOOK_EVERY = 50  # iterations between two looks at the stopping rule, and the differences that each look averages


class _Block(nn.Sequential):
    """Convolution with reflection padding, batch norm, LeakyReLU(0.2)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__()
        self.add_module("conv", nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, padding_mode="reflect"))
        self.add_module("bn", _batch_norm(outputs))
        self.add_module("act", nn.LeakyReLU(0.2))


class _Scale(nn.Module):
    """The layers of one of the five scales: a skip, the way down, and the way back up."""

    def __init__(self, inputs: int, channels: int):
        super().__init__()
        self.skip = _Block(inputs, channels, kernel=1)
        self.down1 = _Block(inputs, channels, kernel=3, stride=2)
        self.down2 = _Block(channels, channels, kernel=3)
        self.bn_cat = _batch_norm(2 * channels)
        self.up = _Block(2 * channels, channels, kernel=3)
        self.up1x1 = _Block(channels, channels, kernel=1)

    def descend(self, x: torch.Tensor) -> torch.Tensor:
        """``(1, C, H, W)`` to ``(1, channels, ceil(H / 2), ceil(W / 2))``."""
        return self.down2(self.down1(x))

    def ascend(self, x: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        """Output of the scale, ``(1, channels, H, W)``, from its input and the output of the scale below."""
        skip, upsampled = self.skip(x), F.interpolate(below, scale_factor=2, mode="nearest")
        height, width = min(skip.shape[2], upsampled.shape[2]), min(skip.shape[3], upsampled.shape[3])
        joined = torch.cat([_centre_of(skip, height, width), _centre_of(upsampled, height, width)], dim=1)
        return self.up1x1(self.up(self.bn_cat(joined)))


class AutoADNetwork(nn.Module):
    """The fully convolutional autoencoder with skip connections.

    Batch norms always use the statistics of the one image, for the score too.

    Args:
        bands: B.
        channels: Channels of every layer; 128 in the paper.
        seed: Seed of PyTorch's default initial weights, independent of the global generator.

    Source: Wang, Wang, Zhang and Zhong, IEEE TGRS 60, 5503314, 2022, 10.1109/TGRS.2021.3057721, section II-B.
    """

    def __init__(self, bands: int, channels: int = CHANNELS, seed: int = 0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for i in range(SCALES):
                self.add_module(f"scale{i}", _Scale(bands if i == 0 else channels, channels))
            self.head = nn.Sequential()
            self.head.add_module("conv", nn.Conv2d(channels, bands, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Reconstruct an image.

        Args:
            x: ``(1, B, H, W)``, H and W at least 33.

        Returns:
            ``(1, B, H, W)`` in (0, 1).
        """
        scales = [scale for scale in self.children() if isinstance(scale, _Scale)]
        inputs = []
        for scale in scales:
            inputs.append(x)
            x = scale.descend(x)
        for scale, entered in zip(reversed(scales), reversed(inputs), strict=True):
            x = scale.ascend(entered, x)
        return torch.sigmoid(self.head(x))


def residual(output: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Sum over bands of the squared error: ``(1, B, H, W)`` twice to ``(H, W)``."""
    return (output.detach() - image).square().sum(1)[0]


def adaptive_weights(error: torch.Tensor) -> torch.Tensor:
    """Weights of the pixels in the loss: 1 where the residual is smallest, 0 where it is largest.

    Args:
        error: ``(H, W)``, the residual.

    Returns:
        ``(H, W)`` in [0, 1]; all 1 if the residual is constant.
    """
    low, high = error.min(), error.max()
    return torch.where(high > low, (high - error) / (high - low), torch.ones_like(error))


def weighted_loss(output: torch.Tensor, image: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Adaptive-weighted loss: the mean of ``(w output - w image)^2``; weights ``(H, W)`` are shared by all bands."""
    return (weights * output - weights * image).square().mean()


def has_settled(losses: Sequence[float], threshold: float = THRESHOLD) -> bool:
    """Tell whether training may stop: the loss changed by less than the threshold, averaged over 50 iterations.

    Args:
        losses: Losses of all iterations so far. The rule looks after iterations 50, 100, ... (counted from 0).
        threshold: Training stops below it.
    """
    last = len(losses) - 1
    if last < LOOK_EVERY or last % LOOK_EVERY:
        return False
    recent = torch.tensor(losses[-LOOK_EVERY - 1 :], dtype=torch.float64)
    return recent.diff().abs().mean().item() < threshold


class Iteration(NamedTuple):
    """Result of an iteration: its loss, before the step, and the residual ``(H, W)`` as last updated."""

    loss: float
    residual: torch.Tensor


def fit(
    network: nn.Module,
    image: torch.Tensor,
    inputs: Iterable[torch.Tensor],
    threshold: float = THRESHOLD,
    learning_rate: float = LEARNING_RATE,
) -> Iterator[Iteration]:
    """Fit a network to one image until the loss settles or ``inputs`` end.

    The residual, all 1 at first, is renewed in every hundredth iteration, and the weights of the loss with it.

    Args:
        network: An ``AutoADNetwork``, or another from inputs to images; it is trained in place.
        image: ``(1, B, H, W)`` in [0, 1].
        inputs: The network's input in each iteration, ``(1, B, H, W)``.
        threshold: Threshold of ``has_settled``.
        learning_rate: Adam's.

    Yields:
        Each iteration's loss and residual; the last residual is the score map.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate, fused=image.device.type in ("cpu", "cuda"))
    error = image.new_ones(image.shape[-2:])
    weights = error
    losses: list[float] = []
    for j, x in enumerate(inputs):
        with torch.enable_grad():
            output = network(x)
            if j and j % REWEIGHT_EVERY == 0:
                error = residual(output, image)
                weights = adaptive_weights(error)
            loss = weighted_loss(output, image, weights)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        yield Iteration(losses[-1], error)
        if has_settled(losses, threshold):
            return


class AutoAD:
    """Auto-AD as a detector: one network is trained for each image.

    The network maps noise to the image. Its loss gives less weight to pixels that it has not learnt. So anomalies are never
    learnt, and the residual shows them. The method presumes that anomalies are few and small.

    Training is chaotic: rounding decides it after some ten iterations. A seed gives the same map only on the same device
    with the same number of threads.

    Args:
        seed: Seed of the initial weights, the fixed input and its noise.
        scaling: How the image is scaled to [0, 1]: the whole ``cube`` by one minimum and maximum, or each ``band``
            by its own, as the authors' scene is.
        iterations: Most iterations.
        threshold: The fit stops where the loss changes by less than this, on average over 50 iterations. A run that
            stops before iteration 100 gives a constant map.
        channels: Channels of every layer.

    Raises:
        ValueError: ``scaling`` is neither, or ``iterations`` is below 1.

    Source: Wang, Wang, Zhang and Zhong, "Auto-AD: Autonomous Hyperspectral Anomaly Detection Network Based on Fully
    Convolutional Autoencoder", IEEE TGRS 60, 5503314, 2022, 10.1109/TGRS.2021.3057721; constants of the official code.

    Example:
        >>> cube = torch.rand(1, 5, 33, 40)
        >>> AutoAD(iterations=3, channels=4)(cube).shape
        torch.Size([1, 33, 40])
    """

    caveats = (
        "Auto-AD with its authors' settings. The paper tuned it on HAD100 by hand, and does not give the values.",
    )

    def __init__(
        self,
        seed: int = 0,
        scaling: Literal["cube", "band"] = "cube",
        iterations: int = ITERATIONS,
        threshold: float = THRESHOLD,
        channels: int = CHANNELS,
    ):
        if scaling not in ("cube", "band"):
            raise ValueError(f"Auto-AD: scaling is 'cube' or 'band'; got {scaling!r}.")
        if iterations < 1:
            raise ValueError(f"Auto-AD: at least 1 iteration; got {iterations}.")
        self.seed = seed
        self.scaling = scaling
        self.iterations = iterations
        self.threshold = threshold
        self.channels = channels

    def __call__(self, cube: torch.Tensor) -> torch.Tensor:
        """Score each image by its residual at the end of the fit.

        Args:
            cube: ``(N, C, H, W)`` of any range, H and W at least 33.

        Returns:
            ``(N, H, W)`` float32, >= 0. Higher is more anomalous.

        Raises:
            ValueError: The cube has another number of axes, is too small, or holds NaN or infinity.
        """
        _check_cube(cube)
        with torch.inference_mode(False):
            images = tqdm(cube.clone().split(1), "Auto-AD", unit="scene", disable=None if len(cube) > 1 else True)
            return torch.stack([self._score(image) for image in images])

    def steps(self, cube: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the score map after each iteration on one image.

        Args:
            cube: ``(1, C, H, W)``.

        Yields:
            ``(1, H, W)`` float32, >= 0: all 1 before iteration 100.
        """
        _check_cube(cube)
        for iteration in self.train(cube):
            yield iteration.residual[None]

    def train(self, image: torch.Tensor) -> Iterator[Iteration]:
        """Train on one image, ``(1, C, H, W)``, and yield each iteration."""
        image = image.float()
        image = minmax(image.flatten(2)).view_as(image) if self.scaling == "cube" else minmax(image[0])[None]
        network = AutoADNetwork(image.shape[1], self.channels, self.seed).to(image.device)
        return fit(network, image, self._inputs(image), self.threshold)

    def _score(self, image: torch.Tensor) -> torch.Tensor:
        with tqdm(total=self.iterations, desc="Auto-AD", unit="iteration", disable=None, leave=False) as bar:
            for iteration in self.train(image):
                bar.set_postfix(loss=f"{iteration.loss:.3g}", refresh=False)
                bar.update()
        return iteration.residual

    def _inputs(self, image: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the fixed uniform input with new normal noise for each iteration, on the image's device."""
        generator = torch.Generator(image.device).manual_seed(self.seed)
        fixed = torch.rand(image.shape, generator=generator, device=image.device) * INPUT_SCALE
        for _ in range(self.iterations):
            yield fixed + INPUT_SCALE * torch.randn(image.shape, generator=generator, device=image.device)


def _check_cube(cube: torch.Tensor) -> None:
    check_cube("Auto-AD", cube)
    if min(cube.shape[-2:]) < LEAST_SIDE_OF_AUTO_AD:
        raise ValueError(
            f"Auto-AD: a scene of {cube.shape[2]} x {cube.shape[3]} px; its network halves the scene five times and needs "
            f"at least {LEAST_SIDE_OF_AUTO_AD} px on each side. Give a larger cut of the scene, or choose another detector."
        )


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, track_running_stats=False)


def _centre_of(x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Cut out the central ``height`` x ``width`` px; an odd excess is cut at the end."""
    top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
    return x[:, :, top : top + height, left : left + width]
