"""Spa-FEN, the spatial branch: the rebellious student (SPEC 4)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from models.backbones import backbone_state, frozen_layers, load_frozen, seeded


class Compression(nn.Sequential):
    """A cube to three channels in (0, 1), the "false RGB" (eq. 5): ``(N, C, H, W)`` -> ``(N, 3, H, W)``."""

    def __init__(self, bands: int):
        super().__init__(nn.Conv2d(bands, 256, 1), nn.ReLU(), nn.Conv2d(256, 3, 1), nn.Sigmoid())


class LightSPP(nn.Module):
    """Light spatial pyramid pooling (eq. 6): pooled to 1, 2 and 4 px, resized, fused to C channels."""

    LEVELS = (1, 2, 4)

    def __init__(self, bands: int, channels: int = 256):
        super().__init__()
        self.fuse = nn.Sequential(
            nn.Conv2d(len(self.LEVELS) * channels, 128, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(128, bands, 1, bias=False),
            nn.ReLU(),
        )

    def forward(self, features: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """``(N, 256, h, w)`` features to ``(N, C, H, W)`` with (H, W) = ``size``."""
        # the first 1x1 convolution commutes with resizing, so it need only see 1 + 4 + 16 pixels of the 768 channels
        reduce, *rest = self.fuse
        parts = reduce.weight.chunk(len(self.LEVELS), dim=1)
        levels = [
            F.conv2d(F.adaptive_avg_pool2d(features, level), w) for level, w in zip(self.LEVELS, parts, strict=True)
        ]
        fused = sum(F.interpolate(level, size, mode="bilinear", align_corners=False) for level in levels)
        for layer in rest:
            fused = layer(fused)
        return fused


class ChannelAttention(nn.Module):
    """Squeeze and excitation (eq. 7): each channel scaled by a gate in (0, 1) that depends on all channels' means."""

    def __init__(self, channels: int, reduction: int = 8):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(channels // reduction, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to the same shape."""
        return x * self.fc(F.adaptive_avg_pool2d(x, 1))


class SpaFEN(nn.Module):
    """Spatial feature extraction network: compression, ResNet-34 to layer3 (stride 16), LightSPP, SE.

    Args:
        bands: C, at least 8.
        backbone: Where the frozen ResNet-34 comes from: ``imagenet``, ``random[:SEED]`` or a path; None leaves it
            without values, to be filled from a checkpoint.
        seed: For the initial compression, LightSPP and SE.
        adapt_batch_norm: In training the backbone's batch norms use batch statistics and their running statistics adapt
            (SPEC 7: the released recipe). These then count as trained: a checkpoint holds them.

    Source: SPEC 4; Jin, Zhu and Guo, arXiv 2510.18781, section III-B.
    """

    ARCHITECTURE = "resnet34"
    FROZEN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3")

    def __init__(self, bands: int, backbone: str | None = "imagenet", seed: int = 0, adapt_batch_norm: bool = False):
        super().__init__()
        self.bands = bands
        self.adapt_batch_norm = adapt_batch_norm
        self.compression = Compression(bands)
        self.backbone = frozen_layers(self.ARCHITECTURE, self.FROZEN)
        self.spp = LightSPP(bands)
        self.se = ChannelAttention(bands)
        self.reset_parameters(seed)
        if backbone is not None:
            load_frozen(self.backbone, backbone_state(self.ARCHITECTURE, self.FROZEN, backbone))

    def reset_parameters(self, seed: int) -> None:
        """The initial weights of a seed, the same on every version of every library."""
        for name in ("compression", "spp", "se"):
            init_uniform(getattr(self, name), f"spa_fen.{name}", seed)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """F_spa of a normalised cube.

        Args:
            h: ``(N, C, H, W)`` float32 in [-0.1, 0.1].

        Returns:
            ``(N, C, H, W)``, >= 0.
        """
        features = self.backbone(self.compression(h))
        return self.se(self.spp(features, h.shape[-2:]))

    def train(self, mode: bool = True) -> SpaFEN:
        """As ``nn.Module.train``, but the frozen layers stay in eval mode unless their batch norms adapt."""
        super().train(mode)
        self.backbone.train(mode and self.adapt_batch_norm)
        return self


def init_uniform(module: nn.Module, name: str, seed: int) -> None:
    """Convolution weights from U(-0.1, 0.1), biases from U(+-1 / sqrt(fan_in)) (SPEC 4); batch norms as they are.

    Args:
        module: What to initialise, in place.
        name: Its name in the whole network: a tensor's draw depends on its full name and the seed alone.
        seed: The seed.
    """
    with torch.no_grad():
        for child_name, child in module.named_modules():
            if isinstance(child, nn.Conv2d):
                fan_in = child.in_channels * child.kernel_size[0] * child.kernel_size[1]
                for kind, bound in (("weight", 0.1), ("bias", fan_in**-0.5)):
                    parameter = getattr(child, kind)
                    if parameter is not None:
                        generator = seeded(f"{name}.{child_name}.{kind}", seed)
                        parameter.copy_(torch.from_numpy(generator.uniform(-bound, bound, tuple(parameter.shape))))
