"""AETNet: a network that makes a cube in which RX sees anomalies better. Its output is a cube, not a score."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from fers.networks.backbones import Branch
from fers.networks.init import normal, uniform

BORDER = 4  # px, reflected around the cube
WIDTHS = (32, 64, 128)
STEP = 72  # px: sides after padding are multiples of it, so that all windows fit at all scales
LEAST_SIDE = 37  # px: smaller scenes cannot be reflected to STEP - 2 BORDER


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learned bias for each relative position (Swin).

    Args:
        channels: Channels of the maps.
        heads: Number of heads, which share the channels.
        window: Side of a window, px.
        shift: Shift of the windows, px. Pixels that a shift brings together from opposite borders do not
            attend to each other.
    """

    index: torch.Tensor

    def __init__(self, channels: int, heads: int, window: int, shift: int):
        super().__init__()
        self.heads, self.window, self.shift = heads, window, shift
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        position = torch.arange(window)
        offset = position[:, None] - position + window - 1  # query minus key
        index = offset[:, None, :, None] * (2 * window - 1) + offset[None, :, None, :]
        self.register_buffer("index", index.flatten(0, 1).flatten(1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attend within windows: ``(N, H, W, channels)`` to the same shape; H and W are multiples of the window."""
        n, height, width, channels = x.shape
        rolled = x.roll((-self.shift, -self.shift), (1, 2)) if self.shift else x
        qkv = self._windows(self.qkv(rolled)).unflatten(-1, (3, self.heads, -1))  # N, windows, px, 3, heads, d
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)  # heads, px, px
        if self.shift:
            bias = bias + self._apart(height, width, x.device)[:, None] * -100.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype).expand(n, q.shape[1], -1, -1, -1))
        y = self.proj(y.transpose(2, 3).flatten(3))
        w = self.window
        y = y.view(n, height // w, width // w, w, w, channels).transpose(2, 3).reshape(n, height, width, channels)
        return y.roll((self.shift, self.shift), (1, 2)) if self.shift else y

    def _windows(self, x: torch.Tensor) -> torch.Tensor:
        """Cut ``(N, H, W, c)`` into ``(N, windows, px, c)``."""
        n, height, width, channels = x.shape
        w = self.window
        return x.view(n, height // w, w, width // w, w, channels).transpose(2, 3).reshape(n, -1, w * w, channels)

    def _apart(self, height: int, width: int, device: torch.device) -> torch.Tensor:
        """Mark pairs of pixels of a window that the shift brought together, ``(windows, px, px)`` bool."""
        rows, columns = (torch.arange(n, device=device) for n in (height, width))
        row, column = (
            (at >= n - self.window).int() + (at >= n - self.shift) for at, n in ((rows, height), (columns, width))
        )
        region = self._windows((3 * row[:, None] + column)[None, :, :, None])[0, :, :, 0]
        return region[:, :, None] != region[:, None]


class Mlp(nn.Module):
    """Two linear layers with GELU between, on the last axis."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Linear(channels, 4 * channels)
        self.fc2 = nn.Linear(4 * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply both layers; the shape stays the same."""
        return self.fc2(F.gelu(self.fc1(x)))


class SwinBlock(nn.Module):
    """Window attention, without a norm before it, and a feed-forward part with one; both added to their input."""

    def __init__(self, channels: int, heads: int, window: int, shift: int):
        super().__init__()
        self.attn = WindowAttention(channels, heads, window, shift)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = Mlp(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the block's output, ``(N, H, W, channels)`` like its input."""
        x = x + self.attn(x)
        return x + self.mlp(self.norm2(x))


class SwinPair(nn.Module):
    """A block with plain windows, and one with windows shifted by half their side."""

    def __init__(self, channels: int, heads: int, window: int):
        super().__init__()
        self.block_a = SwinBlock(channels, heads, window, shift=0)
        self.block_b = SwinBlock(channels, heads, window, shift=window // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the output of both blocks, ``(N, channels, H, W)`` like the input."""
        return self.block_b(self.block_a(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class AETNet(Branch):
    """The anomaly enhancement network: a U-shaped Swin transformer whose input is added to its output.

    The official network takes 64 x 64 px only. Other sizes are reflected at their lower and right end to the next size
    whose windows fit (64, 136, 208, ... px), and cropped again.

    Args:
        bands: C.
        backbone: ``none`` or None: there are no frozen layers.
        seed: Seed of the initial weights.

    Source: Li, Wang, Xiao, Ling, Lin and An, "You Only Train Once: Learning a General Anomaly Enhancement Network With
    Random Masks for Hyperspectral Anomaly Detection", IEEE TGRS 61, 5506718, 2023, 10.1109/TGRS.2023.3258067.
    """

    ARCHITECTURE = "none"
    FROZEN = ()
    PREFIX = "backbone."

    def __init__(self, bands: int, backbone: str | None = "none", seed: int = 0):
        super().__init__()
        self.bands = bands
        a, b, c = WIDTHS
        self.conv_encoder = nn.Conv2d(bands, a, 3, padding=1, bias=False)
        self.encoder0 = SwinPair(a, heads=2, window=9)
        self.down0 = nn.Conv2d(a, b, 4, stride=2, padding=1, bias=False)
        self.encoder1 = SwinPair(b, heads=4, window=4)
        self.down1 = nn.Conv2d(b, c, 4, stride=2, padding=1, bias=False)
        self.bottleneck = SwinPair(c, heads=8, window=2)
        self.up0 = nn.ConvTranspose2d(c, b, 2, stride=2)
        self.fuse0 = nn.Conv2d(2 * b, b, 1, bias=False)
        self.decoder0 = SwinPair(b, heads=4, window=4)
        self.up1 = nn.ConvTranspose2d(b, a, 2, stride=2)
        self.fuse1 = nn.Conv2d(2 * a, a, 1, bias=False)
        self.decoder1 = SwinPair(a, heads=2, window=9)
        self.conv_decoder = nn.Conv2d(a, bands, 3, padding=1, bias=False)
        self._initialise(seed)

    def _initialise(self, seed: int) -> None:
        """Draw linear layers and position tables from N(0, 0.02^2), convolutions by PyTorch's default; zero the biases."""
        with torch.no_grad():
            for name, module in self.named_modules():
                if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                    bound = math.prod(module.weight.shape[1:]) ** -0.5
                    for key, parameter in module.named_parameters():
                        parameter.copy_(uniform(f"aetnet.{name}.{key}", seed, parameter.shape, bound))
                elif isinstance(module, nn.Linear):
                    module.weight.copy_(normal(f"aetnet.{name}.weight", seed, module.weight.shape, 0.02))
                    module.bias.zero_()
                elif isinstance(module, WindowAttention):
                    table = module.relative_position_bias_table
                    table.copy_(normal(f"aetnet.{name}.relative_position_bias_table", seed, table.shape, 0.02))

    def backbone_layers(self) -> nn.Sequential:
        """Return an empty module: there are no frozen layers."""
        return nn.Sequential()

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Compute the enhanced cube.

        Args:
            h: ``(N, C, H, W)`` float32 in [-0.1, 0.1], H and W at least 37.

        Returns:
            ``(N, C, H, W)``.

        Raises:
            ValueError: The scene is too small to be reflected to 64 x 64 px.
        """
        height, width = h.shape[-2:]
        if min(height, width) < LEAST_SIDE:
            raise ValueError(
                f"AETNet: a scene of {height} x {width} px; at least {LEAST_SIDE} px on each side can be reflected to the "
                "64 px of its network. Give a larger cut of the scene."
            )
        bottom, right = (-(n + 2 * BORDER) % STEP for n in (height, width))
        x = F.pad(h, [0, right, 0, bottom], mode="reflect")
        x = F.pad(x, [BORDER] * 4, mode="reflect")
        e0 = self.encoder0(self.conv_encoder(x))
        e1 = self.encoder1(self.down0(e0))
        y = self.bottleneck(self.down1(e1))
        y = self.decoder0(self.fuse0(torch.cat([self.up0(y), e1], dim=1)))
        y = self.decoder1(self.fuse1(torch.cat([self.up1(y), e0], dim=1)))
        return (self.conv_decoder(y) + x)[:, :, BORDER : BORDER + height, BORDER : BORDER + width]
