"""The mask file that belongs to an EMIT scene. The scenes themselves are read by ``products``."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from fers.scenes.readers.base import SceneError, refusing
from fers.scenes.readers.hdf5 import dataset, texts


def mask_file_of(scene: str | Path) -> Path | None:
    """Find the EMIT mask file beside an EMIT scene, of any version; None where there is none."""
    return sibling(Path(scene), "L2A_MASK")


def read_emit_mask(path: str | Path) -> dict[str, np.ndarray]:
    """Read the flags of an EMIT mask file, ``EMIT_L2A_MASK_*.nc``; a `SceneError` if it is another file.

    Returns:
        For each layer whose name holds "flag", such as "Cloud flag", ``(H, W)`` bool, True where it is set. Quantities in
        the same file, such as water vapour, are left out.
    """
    path = Path(path)
    with refusing(path, "EMIT mask file"), h5py.File(path, "r") as file:
        cube, names = dataset(file, "mask"), texts(file, "sensor_band_parameters/mask_bands")
        if cube.ndim != 3 or cube.shape[2] != len(names):
            raise SceneError(f"{path}: {len(names)} names for a mask of shape {cube.shape}.")
        return {name: cube[:, :, layer] == 1 for layer, name in enumerate(names) if "flag" in name.lower()}


def sibling(path: Path, product: str) -> Path | None:
    """Find the file of another EMIT product of the same time, orbit and scene number; the newest version of several."""
    scene = "_".join(path.stem.split("_")[-3:])
    found = sorted(path.parent.glob(f"EMIT_{product}_*_{scene}{path.suffix}")) if scene.count("_") == 2 else []
    return found[-1] if found else None
