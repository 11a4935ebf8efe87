"""What makes a training step on a CPU faster and leaves its result the same, within float32's rounding."""

from __future__ import annotations

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fast.winograd import MATRICES, convolve, tiles, transform_filters

# measured: below these the direct convolution is faster, and below the third the smaller tile
_MIN_CHANNELS, _MIN_SIDE, _LARGE_SIDE = 96, 8, 16
_MIN_WEIGHTS = 2**17  # measured: below it PyTorch's gradient of the weights is as fast


def fold_batch_norms(layers: nn.Module) -> None:
    """Fold the batch norms of frozen torchvision layers in eval mode into the convolutions before them, in place."""
    for module in list(layers.modules()):
        if isinstance(module, nn.Sequential) and [type(m) for m in module] == [nn.Conv2d, nn.BatchNorm2d]:  # a shortcut
            module[0], module[1] = fuse_conv_bn_eval(*module), nn.Identity()
        for i in (1, 2, 3):
            conv, norm = getattr(module, f"conv{i}", None), getattr(module, f"bn{i}", None)
            if norm is not None:
                setattr(module, f"conv{i}", fuse_conv_bn_eval(conv, norm))
                setattr(module, f"bn{i}", nn.Identity())
    layers.requires_grad_(False)


def use_matrix_products(network: nn.Module) -> None:
    """Have the network's convolutions trained through by matrix products, in place."""
    for conv in network.modules():
        if type(conv) is nn.ConvTranspose2d and conv.kernel_size == conv.stride == (2, 2) and conv.bias is None:
            conv.__class__ = MatrixConvTranspose2d  # the parameters and their names stay where they are
        elif type(conv) is nn.Conv2d and conv.groups == 1 and conv.dilation == (1, 1):
            same_size = conv.stride == conv.padding == (1, 1) and conv.kernel_size == (3, 3)
            if same_size and min(conv.weight.shape[:2]) >= _MIN_CHANNELS:
                conv.__class__ = WinogradConv2d
            elif conv.weight.requires_grad and conv.weight.numel() >= _MIN_WEIGHTS:
                conv.__class__ = MatrixConv2d


class MatrixConvTranspose2d(nn.ConvTranspose2d):
    """A 2x2 transposed convolution of stride 2 without bias: one matrix product, as no two of its windows meet."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to ``(N, K, 2 H, 2 W)``."""
        n, c, height, width = x.shape
        y = x.permute(0, 2, 3, 1) @ self.weight.permute(0, 2, 3, 1).reshape(c, -1)
        y = y.view(n, height, width, 2, 2, -1).permute(0, 1, 3, 2, 4, 5)
        return y.reshape(n, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)


class MatrixConv2d(nn.Conv2d):
    """A convolution whose weight gradient is a product of two matrices; PyTorch's takes up to twice as long."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to ``(N, K, H', W')``."""
        if not (x.requires_grad and self.weight.requires_grad):
            return super().forward(x)
        y = _Direct.apply(x, self.weight, self.stride, self.padding)
        return y if self.bias is None else y + self.bias[:, None, None]


class WinogradConv2d(MatrixConv2d):
    """A 3x3 convolution that keeps the size. Where no gradient passes it is computed as everywhere else."""

    _kept: tuple[object, ...] = (None, 0, 0, None)  # frozen weights, their version, m, and what they transform to

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, C, H, W)`` to ``(N, K, H, W)``."""
        side = min(x.shape[-2:])
        if not x.requires_grad or side < _MIN_SIDE:
            return super().forward(x)
        m = 4 if side >= _LARGE_SIDE else 2
        y = _Winograd.apply(x, self.weight, self._filters(m), m)
        return y if self.bias is None else y + self.bias[:, None, None]

    def _filters(self, m: int) -> torch.Tensor:
        if self.weight.requires_grad:
            return transform_filters(self.weight.detach(), m)
        weight, version, tile, filters = self._kept
        if weight is not self.weight or (version, tile) != (self.weight._version, m):
            filters = transform_filters(self.weight, m)
            self._kept = self.weight, self.weight._version, m, filters
        return filters


class _Direct(torch.autograd.Function):
    """PyTorch's convolution, but for the gradient of its weights."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], padding: tuple[int, int]):
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, stride=stride, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (height, width), k = weight.shape[2:], len(weight)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = torch.nn.grad.conv2d_input(x.shape, weight, gradient, ctx.stride, ctx.padding)
        rows, columns = ctx.padding
        windows = F.pad(x.permute(0, 2, 3, 1), (0, 0, columns, columns, rows, rows))
        windows = windows.unfold(1, height, ctx.stride[0]).unfold(2, width, ctx.stride[1])  # N x H' x W' x C x h x w
        windows = windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, height * width * x.shape[1])
        of_weight = gradient.permute(0, 2, 3, 1).reshape(-1, k).T @ windows
        return of_x, of_weight.view(k, height, width, -1).permute(0, 3, 1, 2), None, None


class _Winograd(torch.autograd.Function):
    """``fast.winograd`` with gradients: all of it is linear, so they are made of the same parts."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, filters: torch.Tensor, m: int) -> torch.Tensor:
        y, transformed = convolve(x, filters, m)
        ctx.save_for_backward(filters, transformed if weight.requires_grad else None)
        ctx.m = m
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        filters, transformed = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x, _ = convolve(gradient, filters, ctx.m, adjoint=True)
        if ctx.needs_input_grad[1]:
            _, c, k = filters.shape
            a, g, _ = MATRICES[ctx.m]
            of_tiles = (a.T @ tiles(gradient, ctx.m)).view(len(transformed), -1, k)
            products = torch.bmm(transformed.transpose(1, 2), of_tiles)  # (m + 2)^2 x C x K
            of_weight = (g.T @ products.view(len(products), -1)).view(3, 3, c, k).permute(3, 2, 1, 0)
        return of_x, of_weight, None, None
