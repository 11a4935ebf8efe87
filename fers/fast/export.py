"""Write a branch, deployed, as a file that runs without this project: ONNX, or a program of ``torch.export``.

    fers weights export checkpoints/aviris_200/spe_fen.safetensors spe_fen.onnx
    fers weights export checkpoints/aviris_200/spe_fen.safetensors spe_fen.pt2

Input ``h`` and output ``features`` are N x C x H x W float32. N is 1 to 32768, H and W are 17 to 32768. ONNX needs the
packages of ``pip install "fers-had[export]"``.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fers.fast.deploy import DeployedSpaFEN, deploy
from fers.networks.spa_fen import SpaFEN
from fers.networks.spe_fen import SpeFEN
from fers.util.errors import FersError
from fers.util.files import atomic_path
from fers.util.paths import how_to_install

EXPORT_FORMATS = (".onnx", ".pt2")
_EXAMPLE = (2, 48, 56)  # N, H and W to trace with; no size is special
_SIDE = 17  # px, the least: below it Spa-FEN has a single pixel of stride 16, which is traced as another case
_MOST = 1 << 15  # of N, H and W: PyTorch 2.6 demands a bound


class ExportError(FersError):
    """A network that cannot be written in the format asked for."""


class TraceableMaxPool(nn.Module):
    """``MaxPool2d(3, 2, padding=1)`` for input >= 0, in steps that PyTorch 2.6 traces for any size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Halve the size of ``(N, C, H, W)``, >= 0."""
        return F.pad(x, (1, 1, 1, 1)).unfold(2, 3, 2).unfold(3, 3, 2).amax((-2, -1))


def export(network: nn.Module, out: str | Path) -> Path:
    """Export a Spe-FEN or Spa-FEN.

    Args:
        network: A SpeFEN or SpaFEN; it is not changed.
        out: The file to write, .onnx or .pt2.

    Returns:
        ``out``.

    Raises:
        ExportError: The suffix is neither, or a package for ONNX is missing.
    """
    out = Path(out)
    if out.suffix not in EXPORT_FORMATS:
        raise ExportError(f"{out}: the name must end in {' or '.join(EXPORT_FORMATS)}.")
    assert isinstance(network, (SpeFEN, SpaFEN))
    deployed = deploy(network, bounds=False)
    if isinstance(deployed, DeployedSpaFEN):
        deployed.stem[-1] = TraceableMaxPool()
    else:
        deployed.tile = None  # a loop over tiles would fix the size
    n, height, width = _EXAMPLE
    example = torch.zeros(n, network.bands, height, width)
    sizes = {0: ("N", 1), 2: ("H", _SIDE), 3: ("W", _SIDE)}
    dynamic = {axis: torch.export.Dim(name, min=least, max=_MOST) for axis, (name, least) in sizes.items()}
    with torch.no_grad(), atomic_path(out) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's about its own internals
        if out.suffix == ".pt2":
            torch.export.save(torch.export.export(deployed, (example,), dynamic_shapes=(dynamic,)), temporary)
        else:
            _export_onnx(deployed, example, dynamic, temporary)
    return out


def _export_onnx(deployed: nn.Module, example: torch.Tensor, dynamic: dict, path: Path) -> None:
    try:
        import onnxscript  # noqa: F401  (torch.onnx.export uses it)
    except ImportError as error:
        raise ExportError(f"ONNX needs further packages: {how_to_install('export')}.") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    names: dict[str, Any] = {"input_names": ["h"], "output_names": ["features"]}
    program = torch.onnx.export(deployed, (example,), dynamo=True, dynamic_shapes=(dynamic,), verbose=False, **names)
    assert program is not None  # dynamo=True returns one
    program.save(path, external_data=False)
