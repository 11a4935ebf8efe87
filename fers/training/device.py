"""Device of training: the CPU, a GPU, or several processes."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration

from fers.scoring.networks import allow_tf32, choose_device
from fers.training.options import MIXED_PRECISION, TrainingError


def make_accelerator(precision: str = "fp32", device: str = "auto") -> Accelerator:
    """Make the accelerator of this process, which may be one of several that ``torchrun`` started.

    Args:
        precision: ``fp32``, ``tf32``, ``bf16`` or ``fp16``.
        device: ``auto``, ``gpu``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``. With several processes each takes a GPU of its own.

    Raises:
        DeviceError: The device cannot be used.
        TrainingError: The device does not have the precision.
    """
    if device not in ("auto", "cpu"):
        chosen = choose_device(device)
        if chosen.index is not None and int(os.environ.get("WORLD_SIZE", "1")) == 1:
            torch.cuda.set_device(chosen)
    allow_tf32(precision == "tf32")
    try:
        return Accelerator(
            mixed_precision=MIXED_PRECISION[precision],
            cpu=device == "cpu",
            dataloader_config=DataLoaderConfiguration(split_batches=True),
        )
    except ValueError as error:  # such as fp16 where the device has none
        raise TrainingError(f"--precision {precision}: {error} Use --precision fp32.") from error
