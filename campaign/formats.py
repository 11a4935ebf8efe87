"""A small good file of each format of scenes and ground truth, and the function that reads it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import scipy.io
from PIL import Image

from fers.scenes import read_scene, read_truth
from fers.scenes.readers import LatLon, LookupTable, MapGrid, open_scene
from tests import scene_files


def read_whole(path: Path) -> None:
    """Read everything that a reader offers; what it takes must be possible."""
    reader = open_scene(path)
    reader.read_valid(slice(0, 64))
    geometry = reader.geometry
    for facts in (reader.wavelengths, reader.fwhm, reader.scale, reader.offset):
        assert facts is None or (len(facts) == reader.bands and np.isfinite(facts).all()), facts
    if isinstance(geometry, LatLon):
        assert geometry.latitude.shape == geometry.longitude.shape == reader.shape[:2]
        assert np.nanmax(np.abs(geometry.latitude)) <= 90 and np.nanmax(np.abs(geometry.longitude)) <= 360
    elif isinstance(geometry, LookupTable):
        assert geometry.rows.max() < reader.shape[0] and geometry.columns.max() < reader.shape[1]
    if isinstance(geometry, MapGrid | LookupTable):
        assert np.isfinite(geometry.transform[:6]).all() and geometry.transform.determinant, geometry
    scene = read_scene(path)
    np.asarray(scene.cube[:2]).sum()


def _product(write: Callable[[Path], scene_files.Written], folder: Path) -> Path:
    return write(folder).path


def _mat5(folder: Path, compressed: bool) -> Path:
    path = folder / "a.mat"
    truth = np.eye(12, 10, dtype=np.uint8)
    content = {"cube": scene_files.values(5), "gt": truth, "note": "text", "cells": {"a": [1, 2]}}
    scipy.io.savemat(path, content, do_compression=compressed)
    return path


def _mat73(folder: Path) -> Path:
    path = folder / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("cube", data=scene_files.values(5).T, compression="gzip", chunks=(2, 5, 6))
        file["gt"] = np.eye(12, 10, dtype=np.uint8).T
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def _npy(folder: Path) -> Path:
    np.save(folder / "a.npy", scene_files.values(5))
    return folder / "a.npy"


def _npz(folder: Path) -> Path:
    np.savez_compressed(folder / "a.npz", cube=scene_files.values(5), gt=np.eye(12, 10, dtype=np.uint8))
    return folder / "a.npz"


def _png(folder: Path) -> Path:
    Image.fromarray(np.eye(12, 10, dtype=np.uint8) * 255).save(folder / "m.png")
    return folder / "m.png"


FORMATS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], object]]] = {
    **{name: (partial(_product, write), read_whole) for name, write in scene_files.PRODUCTS.items()},
    "mat-5": (lambda folder: _mat5(folder, False), read_whole),
    "mat-5-compressed": (lambda folder: _mat5(folder, True), read_whole),
    "mat-7.3": (_mat73, read_whole),
    "npy": (_npy, read_whole),
    "npz": (_npz, read_whole),
    "truth-mat-5": (lambda folder: _mat5(folder, True), read_truth),
    "truth-mat-7.3": (_mat73, read_truth),
    "truth-npz": (_npz, read_truth),
    "truth-png": (_png, read_truth),
}  # fmt: skip
