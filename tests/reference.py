"""The method in plain lines: every equation of the paper as one would first write it. Nothing is folded, cut or cached.

Read this file beside the paper. The product is compared with it, in numbers and in time, so it shares no code with what the
product speeds up: of the networks it takes the weights and torchvision's own frozen layers, and computes the rest here.

    python -m tests.reference      writes tests/golden/*.npz again, which tests/test_own_golden.py holds the product against
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from pytorch_msssim import ssim
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn
from torch.nn import functional as F

from fers.networks import SpaFEN, SpeFEN
from train_FERD.network import FERD
from train_FERS.network import FRN

GOLDEN = Path(__file__).parent / "golden"
PADDING = 4
_THREADS = ThreadpoolController()

# ---- Stage 1: the spectral branch and its training


def encode(network: SpeFEN, h: Tensor) -> Tensor:
    """f1 with its border: reflect-pad, CWL, layer1. ``(N, C, H, W)`` to ``(N, 256, H + 8, W + 8)``."""
    return network.layer1(network.cwl(F.pad(h, [PADDING] * 4, mode="reflect")))


def crop(features: Tensor) -> Tensor:
    """Cut the border off."""
    return features[:, :, PADDING:-PADDING, PADDING:-PADDING]


def spe_fen(network: SpeFEN, h: Tensor) -> Tensor:
    """F_spe, eq. 4: ``(N, C, H, W)`` to the same shape."""
    return network.fpl(crop(encode(network, h)))


def l_sim(encoder: Sequence[Tensor], decoder: Sequence[Tensor]) -> Tensor:
    """L_sim, eq. 1: 1 - the mean over the three scales of the cosine between flattened features."""
    cosines = [F.cosine_similarity(f.flatten(1), g.flatten(1)).mean() for f, g in zip(encoder, decoder, strict=True)]
    return 1 - sum(cosines) / len(cosines)


def l_z(o: Tensor) -> Tensor:
    """L_Z, eq. 2: -log(1 - sigmoid(O)), which is softplus(O)."""
    return F.softplus(o).mean()


def stage1_loss(network: FERD, h: Tensor) -> Tensor:
    """L_sim + 0.1 L_mse + 0.1 L_Z of a batch, eq. 3."""
    spectral, mffm, decoder = network.spe_fen, network.mffm, network.decoder
    f1 = encode(spectral, h)
    f2 = network.layer2_3.layer2(f1)
    f3 = network.layer2_3.layer3(f2)
    phi = mffm.stage(torch.cat([mffm.reduce1(f1), mffm.reduce2(f2), f3], dim=1))
    g3 = decoder.stage3(phi)
    g2 = decoder.stage2(g3)
    g1 = decoder.stage1(g2)
    h_r = crop(network.decoder_cwl(g1))
    o = spectral.zcl((spectral.fpl(crop(f1)) - spectral.fpl(crop(g1))).abs())  # SFAM, then ZCL
    return l_sim((f1, f2, f3), (g1, g2, g3)) + 0.1 * F.mse_loss(h_r, h) + 0.1 * l_z(o)


# ---- Stage 2: the spatial branch and its training


def spa_fen(network: SpaFEN, h: Tensor) -> Tensor:
    """F_spa, eqs. 5-8: ``(N, C, H, W)`` to the same shape."""
    h_3c = network.compression(h)  # eq. 5
    features = network.backbone(h_3c)
    levels = [F.adaptive_avg_pool2d(features, size) for size in (1, 2, 4)]
    resized = [F.interpolate(level, h.shape[-2:], mode="bilinear", align_corners=False) for level in levels]
    pooled = network.spp.fuse(torch.cat(resized, dim=1))  # eq. 6
    return channel_attention(network.se, pooled)  # eqs. 7, 8


def channel_attention(se: nn.Module, x: Tensor) -> Tensor:
    """Squeeze and excitation, eq. 7."""
    return x * se.fc(F.adaptive_avg_pool2d(x, 1))


def frn(network: FRN, features: Tensor) -> Tensor:
    """H_hat, eq. 9: residual blocks and channel attention in turn, then a 1x1 convolution."""
    x = features
    for block, attention in zip(network.body[::2], network.body[1::2], strict=True):
        y = F.relu(block.bn1(block.conv1(x)))
        x = F.relu(x + block.bn2(block.conv2(y)))
        x = channel_attention(attention, x)
    return network.final_conv(x)


def l_cc(f_spe: Tensor, f_spa: Tensor) -> Tensor:
    """L_cc, eqs. 12 and 13: the squared entries of the C x C cross-covariance of standardised channels."""
    columns = [f.transpose(0, 1).flatten(1) for f in (f_spe, f_spa)]
    a, b = ((x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-6) for x in columns)
    return (a @ b.T / a.shape[1]).square().sum()


def l_cos(f_spe: Tensor, f_spa: Tensor) -> Tensor:
    """L_cos, eq. 14: 1 + the mean cosine between the pixels of the two features."""
    return 1 + F.cosine_similarity(f_spe, f_spa, dim=1).mean()


def l_var(f_spa: Tensor) -> Tensor:
    """L_var, eq. 15: channels that vary less than 1 over space, and the mean absolute value."""
    return F.relu(1 - f_spa.var((2, 3)).mean(0)).mean() + f_spa.abs().mean()


def l_ssim(h_hat: Tensor, h: Tensor) -> Tensor:
    """The second term of L_recon, eq. 16."""
    return 1 - ssim(h_hat, h, data_range=1.0, win_size=5, win_sigma=1.5)


def stage2_loss(teacher: SpeFEN, student: SpaFEN, decoder: FRN, h: Tensor) -> Tensor:
    """L_decorr + L_recon of a batch, eqs. 10, 11 and 16; F_spe is computed again."""
    with torch.no_grad():
        f_spe = spe_fen(teacher, h)
    f_spa = spa_fen(student, h)
    h_hat = frn(decoder, f_spe + f_spa)
    l_decorr = l_cc(f_spe, f_spa) + 0.1 * l_cos(f_spe, f_spa) + 0.1 * l_var(f_spa)
    l_recon = F.mse_loss(h_hat, h) + 0.01 * l_ssim(h_hat, h)
    return l_decorr + l_recon


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Adam:
    """The paper's optimiser, tensor by tensor."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.Adam(trained, lr=0.005, betas=(0.9, 0.95), foreach=False)


def train_step(loss: Callable[[], Tensor], optimizer: torch.optim.Adam) -> float:
    """One step of training; returns the loss before it."""
    value = loss()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.item()


# ---- detection


def rx(cube: Tensor) -> Tensor:
    """RX of one image, eq. 17, pixel by pixel with the pseudo-inverse of the plain covariance in float64.

    The loop is numpy's, where it takes half as long as one over tensors. Its BLAS has one thread: a second one would not
    make it faster, and would go on spinning for a while, at the cost of the networks that run next.

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


def minmax(score: Tensor) -> Tensor:
    """One score map scaled to [0, 1], eqs. 20 and 21."""
    return (score - score.min()) / (score.max() - score.min())


def fusion_a(h: Tensor, f_spe: Tensor, f_spa: Tensor, detector: Callable[[Tensor], Tensor] = rx) -> Tensor:
    """Fusion A of one image, eqs. 18-22."""
    return minmax(detector(h + f_spa)) * minmax(detector(h + f_spe))


def fusion_b(h: Tensor, f_spe: Tensor, f_spa: Tensor, detector: Callable[[Tensor], Tensor] = rx) -> Tensor:
    """Fusion B of one image, eq. 23."""
    return detector(h + f_spa + f_spe)


FUSIONS = {"A": fusion_a, "B": fusion_b}


@torch.no_grad()
def score(spectral: SpeFEN, spatial: SpaFEN, h: np.ndarray, fusion: str, device: torch.device) -> np.ndarray:
    """Score map of a normalised scene, end to end: ``(H, W, C)`` float32 in [-0.1, 0.1] to ``(H, W)`` float64."""
    cube = to_tensor(h, device)
    return FUSIONS[fusion](cube, spe_fen(spectral, cube), spa_fen(spatial, cube))[0].numpy()


def to_tensor(h: np.ndarray, device: torch.device) -> Tensor:
    """``(H, W, C)`` to ``(1, C, H, W)`` in PyTorch's default layout."""
    return torch.from_numpy(np.ascontiguousarray(h.transpose(2, 0, 1)))[None].to(device)


# ---- golden files


@torch.no_grad()
def golden() -> dict[str, dict[str, Tensor]]:
    """Inputs and outputs of everything above, for networks with random weights of seed 0: file -> name -> array."""
    random = np.random.RandomState(0)

    def draw(*shape: int) -> Tensor:
        return torch.from_numpy(random.uniform(-1, 1, shape).astype(np.float32))

    h, patch = 0.1 * draw(1, 10, 12, 13), 0.1 * draw(1, 8, 40, 33)
    features = draw(2, 8, 9, 10).abs()
    encoder = [draw(2, 6, 8, 8), draw(2, 8, 4, 4), draw(2, 10, 2, 2)]
    decoder = [f + 0.5 * draw(*f.shape) for f in encoder]
    o = 3 * draw(2, 1, 8, 8)
    f_spe, f_spa, reference, h_hat = (
        5 * draw(2, 8, 12, 11),
        draw(2, 8, 12, 11).abs(),
        *(0.1 * draw(2, 8, 12, 11, 2)).unbind(-1),
    )
    scene, scene_spe, scene_spa = 0.1 * draw(1, 8, 14, 15), 5 * draw(1, 8, 14, 15).abs(), draw(1, 8, 14, 15).abs()
    stage1 = {f"f{i}": f for i, f in enumerate(encoder, 1)} | {f"g{i}": g for i, g in enumerate(decoder, 1)}
    return {
        "spe_fen": {"h": h, "f_spe": spe_fen(SpeFEN(10, "random").eval(), h)},
        "spa_fen": {"h": patch, "f_spa": spa_fen(SpaFEN(8, "random").eval(), patch)},
        "frn": {"features": features, "h_hat": frn(FRN(8).eval(), features)},
        "stage1_losses": {**stage1, "o": o, "l_sim": l_sim(encoder, decoder), "l_z": l_z(o)},
        "stage2_losses": {
            **{"f_spe": f_spe, "f_spa": f_spa, "h": reference, "h_hat": h_hat},
            **{"l_cc": l_cc(f_spe, f_spa), "l_cos": l_cos(f_spe, f_spa), "l_var": l_var(f_spa)},
            **{"l_mse": F.mse_loss(h_hat, reference), "l_ssim": l_ssim(h_hat, reference)},
        },
        "detection": {
            **{"h": scene, "f_spe": scene_spe, "f_spa": scene_spa, "rx": rx(scene)},
            **{name: fuse(scene, scene_spe, scene_spa) for name, fuse in FUSIONS.items()},
        },
    }


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for file, arrays in golden().items():
        np.savez_compressed(GOLDEN / f"{file}.npz", **{name: array.numpy() for name, array in arrays.items()})
        print(f"wrote {GOLDEN / file}.npz")
