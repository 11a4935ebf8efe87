"""The plain reference: SPEC's equations as one would first write them, batch 1, nothing folded, cut, fused or cached.

It is what the product is compared with, in time and in numbers, so it shares no code with what the product speeds up: of
the networks it takes the weights and torchvision's own frozen layers, and computes everything else here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from pytorch_msssim import ssim
from threadpoolctl import ThreadpoolController
from torch import nn
from torch.nn import functional as F

from models import SpaFEN, SpeFEN
from train_FERD.network import FERD
from train_FERS.network import FRN

PADDING = 4
_THREADS = ThreadpoolController()
Detector = Callable[[torch.Tensor], torch.Tensor]


def encode(network: SpeFEN, h: torch.Tensor) -> torch.Tensor:
    """f1, with its padding: reflect-pad, CWL, layer1 (SPEC 2). ``(N, C, H, W)`` to ``(N, 256, H + 8, W + 8)``."""
    return network.layer1(network.cwl(F.pad(h, [PADDING] * 4, mode="reflect")))


def crop(features: torch.Tensor) -> torch.Tensor:
    """Without the padding."""
    return features[:, :, PADDING:-PADDING, PADDING:-PADDING]


def spe_fen(network: SpeFEN, h: torch.Tensor) -> torch.Tensor:
    """F_spe (SPEC 2): ``(N, C, H, W)`` to the same shape."""
    return network.fpl(crop(encode(network, h)))


def spa_fen(network: SpaFEN, h: torch.Tensor) -> torch.Tensor:
    """F_spa (SPEC 4, eqs. 5-7): ``(N, C, H, W)`` to the same shape."""
    features = network.backbone(network.compression(h))
    levels = [F.adaptive_avg_pool2d(features, size) for size in (1, 2, 4)]
    resized = [F.interpolate(level, h.shape[-2:], mode="bilinear", align_corners=False) for level in levels]
    pooled = network.spp.fuse(torch.cat(resized, dim=1))
    return pooled * network.se.fc(F.adaptive_avg_pool2d(pooled, 1))


def rx(cube: torch.Tensor) -> torch.Tensor:
    """RX of one image, one pixel after the other, with the pseudo-inverse of the plain covariance in float64 (eq. 17).

    The loop is numpy's, where it takes half as long as one over tensors, and its BLAS has one thread: a second one does
    not make it faster, and goes on spinning for a while, which slows down the networks that run next.

    Args:
        cube: ``(1, C, H, W)``.

    Returns:
        ``(1, H, W)`` float64, on the CPU.
    """
    pixels = cube[0].flatten(1).T.double().contiguous().cpu().numpy()
    mean = pixels.mean(0)
    scores = np.empty(len(pixels))
    with _THREADS.limit(limits=1, user_api="blas"):
        inverse = np.linalg.pinv(np.cov(pixels, rowvar=False))
        for index, pixel in enumerate(pixels):
            difference = pixel - mean
            scores[index] = difference @ inverse @ difference
    return torch.from_numpy(scores).view(1, *cube.shape[-2:])


def minmax(score: torch.Tensor) -> torch.Tensor:
    """One score map scaled to [0, 1] (eqs. 20, 21)."""
    return (score - score.min()) / (score.max() - score.min())


def fusion_a(h: torch.Tensor, f_spe: torch.Tensor, f_spa: torch.Tensor, detector: Detector = rx) -> torch.Tensor:
    """Fusion A of one image (eqs. 18-22)."""
    return minmax(detector(h + f_spa)) * minmax(detector(h + f_spe))


def fusion_b(h: torch.Tensor, f_spe: torch.Tensor, f_spa: torch.Tensor, detector: Detector = rx) -> torch.Tensor:
    """Fusion B of one image (eq. 23)."""
    return detector(h + f_spa + f_spe)


FUSIONS = {"A": fusion_a, "B": fusion_b}


@torch.no_grad()
def score(spectral: SpeFEN, spatial: SpaFEN, h: np.ndarray, fusion: str, device: torch.device) -> np.ndarray:
    """Score map of a normalised scene, end to end.

    Args:
        spectral: In eval mode, on ``device``; so is ``spatial``.
        spatial: The other branch.
        h: ``(H, W, C)`` float32 in [-0.1, 0.1].
        fusion: ``A`` or ``B``.
        device: Where the networks are.

    Returns:
        ``(H, W)`` float64.
    """
    cube = to_tensor(h, device)
    return FUSIONS[fusion](cube, spe_fen(spectral, cube), spa_fen(spatial, cube))[0].numpy()


def to_tensor(h: np.ndarray, device: torch.device) -> torch.Tensor:
    """``(H, W, C)`` to ``(1, C, H, W)`` in PyTorch's default layout."""
    return torch.from_numpy(np.ascontiguousarray(h.transpose(2, 0, 1)))[None].to(device)


# ---- training


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
    """SPEC 5's optimiser, tensor by tensor."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.Adam(trained, lr=0.005, betas=(0.9, 0.95), foreach=False)


def train_step(loss: Callable[[], torch.Tensor], optimizer: torch.optim.Adam) -> float:
    """One step of training; returns the loss before it."""
    value = loss()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.item()


def stage1_loss(network: FERD, h: torch.Tensor) -> torch.Tensor:
    """``L_sim + 0.1 L_mse + 0.1 L_Z`` of a batch (SPEC 3, eqs. 1-3)."""
    spectral, mffm, decoder = network.spe_fen, network.mffm, network.decoder
    f1 = encode(spectral, h)
    f2 = network.layer2_3.layer2(f1)
    f3 = network.layer2_3.layer3(f2)
    phi = mffm.stage(torch.cat([mffm.reduce1(f1), mffm.reduce2(f2), f3], dim=1))
    g3 = decoder.stage3(phi)
    g2 = decoder.stage2(g3)
    g1 = decoder.stage1(g2)
    h_rec = crop(network.decoder_cwl(g1))
    logits = spectral.zcl((spectral.fpl(crop(f1)) - spectral.fpl(crop(g1))).abs())
    cosines = [F.cosine_similarity(f.flatten(1), g.flatten(1), dim=1).mean() for f, g in ((f1, g1), (f2, g2), (f3, g3))]
    l_sim = 1 - sum(cosines) / 3
    return l_sim + 0.1 * F.mse_loss(h_rec, h) + 0.1 * F.softplus(logits).mean()


def stage2_loss(teacher: SpeFEN, student: SpaFEN, frn: FRN, h: torch.Tensor) -> torch.Tensor:
    """``L_cc + 0.1 L_cos + 0.1 L_var + L_mse + 0.01 L_ssim`` of a batch, F_spe computed anew (SPEC 4, eqs. 10-16)."""
    with torch.no_grad():
        f_spe = spe_fen(teacher, h)
    f_spa = spa_fen(student, h)
    h_rec = decode(frn, f_spe + f_spa)
    columns = [f.transpose(0, 1).flatten(1) for f in (f_spe, f_spa)]
    a, b = ((x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-6) for x in columns)
    l_cc = (a @ b.T / a.shape[1]).square().sum()
    l_cos = 1 + F.cosine_similarity(f_spe, f_spa, dim=1).mean()
    l_var = F.relu(1 - f_spa.var((2, 3)).mean(0)).mean() + f_spa.abs().mean()
    l_ssim = 1 - ssim(h_rec, h, data_range=1.0, win_size=5, win_sigma=1.5)
    return l_cc + 0.1 * l_cos + 0.1 * l_var + F.mse_loss(h_rec, h) + 0.01 * l_ssim


def decode(frn: FRN, features: torch.Tensor) -> torch.Tensor:
    """H_hat (eq. 9): residual blocks and channel attention in turn, then a 1x1 convolution."""
    x = features
    for block, attention in zip(frn.body[::2], frn.body[1::2], strict=True):
        y = F.relu(block.bn1(block.conv1(x)))
        x = F.relu(x + block.bn2(block.conv2(y)))
        x = x * attention.fc(F.adaptive_avg_pool2d(x, 1))
    return frn.final_conv(x)
