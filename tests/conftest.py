"""Where the reference data is, and small files to test with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"

torch.set_num_threads(2)


def shared_file(name: str) -> Path:
    """A file of the reference data; the test is skipped where the reference data is not installed at all."""
    if not SHARED.is_dir():
        pytest.skip(f"the reference data ({SHARED}) is not on this machine")
    return SHARED / name


@pytest.fixture
def golden():
    """Load one of the golden files as a dict of arrays."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(shared_file(f"golden/{name}.npz")) as archive:
            return {key: archive[key] for key in archive.files}

    return load
