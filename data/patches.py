"""Training patches: cut them from one's own background scenes, and read them, HAD100's alike.

    python -m data.patches scene1.mat scene2.hdr --out data/Mine --size 64 --stride 32 --mask scene1.mat -
    python train.py --stage all --data_path data/Mine --sensor custom --input_channel 100

writes ``data/Mine/train/custom/<scene>_r<row>_c<column>.npy`` (H x W x B, raw values) and ``manifest.json``, which says
where each was cut. That is HAD100's layout (SPEC 8), so training needs to know of one layout only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from data.commandline import run
from data.had100 import NODATA
from data.normalise import normalise
from data.scene import MIN_SIDE, Scene, SceneError, nodata_pixels, read_mask, read_scene, row_blocks

MANIFEST = "manifest.json"
REASONS = ("masked", "no data", "constant")
_NO_MASK = "-"
_CROP_NUMBER = re.compile(r"_[1-4]$")  # HAD100: the four corner crops of a scene


class BackgroundPatches(Dataset):
    """The training patches of a folder, memory-mapped: a patch is read when it is asked for, and not kept.

    Each patch is an image of its own: its bands ``[start : start + bands]`` are scaled to [-0.1, 0.1] by their own
    minimum and maximum (SPEC 1), as the test scenes are.

    Args:
        folder: The dataset, with ``train/<sensor>/*.npy`` (H x W x B), and ``manifest.json`` there if this project cut
            the patches.
        sensor: The sensor's folder.
        bands: C; patches with fewer get zero bands appended.
        start: The first band, 0-based.

    Attributes:
        files: The patches, in the order of their names.
        sources: The source scene of each.
        size: (H, W) of every patch.
        left_out: Patches of the folder that are not used: some pixel has no data in the chosen bands, or all are alike.

    Raises:
        SceneError: There are no usable patches, or they are not of one size.
    """

    def __init__(self, folder: str | Path, sensor: str, bands: int, start: int = 0):
        self.folder = Path(folder) / "train" / sensor
        self.bands, self.start = bands, start
        self.files = sorted(self.folder.glob("*.npy"))
        if not self.files:
            raise SceneError(
                f"{self.folder}: no training patches (*.npy) here. Give the dataset's folder with --data_path and its "
                "sensor with --sensor, or cut patches from your own scenes: python -m data.patches --help"
            )
        self.size = read_scene(self.files[0]).cube.shape[:2]
        usable = [
            path for path in tqdm(self.files, "checking", unit="patch", disable=None, leave=False) if self._check(path)
        ]
        self.left_out = len(self.files) - len(usable)
        self.files = usable
        if not self.files:
            raise SceneError(f"{self.folder}: all {self.left_out} patches lack data or contrast in the chosen bands.")
        self.sources = self._sources()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        """Patch ``index``, normalised: ``(C, H, W)`` float32 in [-0.1, 0.1]."""
        scene = read_scene(self.files[index], nodata=NODATA)
        return torch.from_numpy(np.ascontiguousarray(normalise(scene, self.bands, self.start).transpose(2, 0, 1)))

    def split(self, train_ratio: float, seed: int) -> tuple[list[int], list[int]]:
        """Training and held-out patches, by source scene: patches of one scene overlap, so they stay together.

        Args:
            train_ratio: Share of the scenes to train on, in (0, 1]; below 1 at least one scene is held out.
            seed: Which scenes are held out.

        Returns:
            Indices of the training patches and of the held-out ones.

        Raises:
            SceneError: There is only one scene and some of it should be held out.
        """
        scenes = sorted(set(self.sources))
        n_held_out = 0 if train_ratio == 1 else max(1, round(len(scenes) * (1 - train_ratio)))
        if n_held_out >= len(scenes):
            raise SceneError(
                f"{self.folder}: patches of {len(scenes)} source scene(s); with --train_ratio {train_ratio:g} none is left "
                "to train on. Add scenes, or give --train_ratio 1."
            )
        held_out = set(np.random.RandomState(seed).permutation(scenes)[:n_held_out])
        return (
            [i for i, source in enumerate(self.sources) if source not in held_out],
            [i for i, source in enumerate(self.sources) if source in held_out],
        )

    def fingerprint(self) -> str:
        """SHA-256 of the patches' names and sizes in bytes, and of the bands taken: which data a run was trained on."""
        digest = hashlib.sha256(f"{self.start}:{self.bands}".encode())
        for path in self.files:
            digest.update(f"{path.name} {path.stat().st_size}".encode())
        return digest.hexdigest()

    def _check(self, path: Path) -> bool:
        """Whether a patch can be used: HAD100's corner crops may hold pixels without data (SPEC 8)."""
        scene = read_scene(path, nodata=NODATA)
        if scene.cube.shape[:2] != self.size:
            raise SceneError(
                f"{path}: {scene.cube.shape[:2]} px, the first patch has {self.size}. All patches of a training set are of "
                "one size; cut them again with data.patches."
            )
        chosen = scene.cube[:, :, self.start : self.start + self.bands]
        if not chosen.size:
            raise SceneError(f"{path}: there is no band {self.start}; it has bands 0 to {scene.bands - 1}.")
        return np.ptp(chosen) > 0 and not nodata_pixels(scene, slice(self.start, self.start + self.bands)).any()

    def _sources(self) -> list[str]:
        manifest = self.folder / MANIFEST
        if not manifest.is_file():
            return [_CROP_NUMBER.sub("", path.stem) for path in self.files]
        try:
            source = {entry["file"]: entry["scene"] for entry in json.loads(manifest.read_text())["patches"]}
            return [source[path.name] for path in self.files]
        except (ValueError, KeyError, TypeError) as error:
            raise SceneError(
                f"{manifest}: does not name the scene of every patch beside it ({error}). Cut the patches again."
            ) from error


def cut_patches(
    scene: Scene, size: int, stride: int, mask: np.ndarray | None = None
) -> tuple[list[tuple[int, int]], Counter]:
    """Where anomaly-free patches can be cut.

    Args:
        scene: The scene.
        size: Side of a patch in pixels.
        stride: Distance in pixels from one patch to the next, in both directions.
        mask: ``(H, W)`` bool, True where an anomaly is; None for a scene known to have none.

    Returns:
        Row and column of the first pixel of each patch kept, and how many were left out for each of ``REASONS``: a
        pixel in the mask; one without data; one whose spectrum is one value in every band (fill), or no contrast at all.
    """
    height, width = scene.cube.shape[:2]
    nodata = nodata_pixels(scene)
    constant = np.concatenate([np.ptp(scene.cube[rows], axis=2) == 0 for rows in row_blocks(scene.cube.shape)])
    kept, left_out = [], Counter({reason: 0 for reason in REASONS})
    for row in range(0, height - size + 1, stride):
        for column in range(0, width - size + 1, stride):
            window = slice(row, row + size), slice(column, column + size)
            if mask is not None and mask[window].any():
                left_out["masked"] += 1
            elif nodata[window].any():
                left_out["no data"] += 1
            elif constant[window].any() or (scene.cube[window] == scene.cube[row, column]).all():
                left_out["constant"] += 1
            else:
                kept.append((row, column))
    return kept, left_out


def write_patches(
    scenes: list[tuple[Scene, np.ndarray | None]], out: str | Path, size: int, stride: int, sensor: str = "custom"
) -> dict:
    """Cut the patches of some scenes into a dataset's folder, all of them or none.

    Args:
        scenes: Each scene with its mask (or None), see ``cut_patches``.
        out: The dataset's folder; ``train/<sensor>`` in it must not exist yet.
        size: Side of a patch, px; a multiple of 8 (Stage 1 halves the padded patch three times), at least 16.
        stride: px.
        sensor: Name of the folder.

    Returns:
        The manifest, as written to ``train/<sensor>/manifest.json``.

    Raises:
        SceneError: The folder exists, two scenes share a name, the sizes do not fit, or no patch is left.
    """
    folder = Path(out) / "train" / sensor
    if size % 8 or size < 2 * 8:
        raise SceneError(
            f"--size {size}: a patch's side is a multiple of 8, at least 16 (and {MIN_SIDE} px for a scene)."
        )
    if stride < 1:
        raise SceneError(f"--stride {stride}: the distance between patches is at least 1 px.")
    if folder.exists():
        raise SceneError(f"{folder}: exists already. Choose another --out or --sensor, or delete it.")
    counts = Counter(scene.name for scene, _ in scenes)
    if doubled := [name for name, count in counts.items() if count > 1]:
        raise SceneError(f"{doubled[0]}: two scenes of this name; patches are named after them. Rename one file.")
    for scene, _ in scenes:
        if min(scene.cube.shape[:2]) < size:
            raise SceneError(
                f"{scene.path}: {scene.cube.shape[0]} x {scene.cube.shape[1]} px, smaller than a patch of {size} px. "
                "Leave it out, or give a smaller --size."
            )

    temporary = folder.with_name(f".{sensor}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    manifest: dict = {"format": "fers-patches-1", "size": size, "stride": stride, "scenes": [], "patches": []}
    try:
        for scene, mask in tqdm(scenes, desc="scenes", unit="scene", disable=None, leave=False):
            kept, left_out = cut_patches(scene, size, stride, mask)
            for row, column in kept:
                name = f"{scene.name}_r{row:04d}_c{column:04d}.npy"
                np.save(temporary / name, scene.cube[row : row + size, column : column + size])
                manifest["patches"].append({"file": name, "scene": scene.name, "row": row, "column": column})
            manifest["scenes"].append(
                {
                    "scene": scene.name,
                    "file": scene.path.name,
                    "shape": list(scene.cube.shape),
                    "mask": mask is not None,
                    "kept": len(kept),
                    "left_out": dict(left_out),
                }
            )
        if not manifest["patches"]:
            raise SceneError(
                f"{folder}: no patch is left of {len(scenes)} scene(s). Give a smaller --size or --stride, or check the masks."
            )
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data.patches", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenes", nargs="+", metavar="SCENE", help=".mat, .npy, .npz, or ENVI")
    parser.add_argument("--out", type=Path, required=True, help="the dataset's folder")
    parser.add_argument("--size", type=int, default=64, help="side of a patch, px (default: 64)")
    parser.add_argument("--stride", type=int, default=32, help="from one patch to the next, px (default: 32)")
    parser.add_argument(
        "--mask",
        nargs="+",
        default=[],
        metavar="MASK",
        help="one for each scene, in their order: a file with the anomalies (.png, .mat, .npy, .npz; the scene's own .mat if "
        "it holds a mask), or - for a scene without any. Left out: no scene has anomalies",
    )
    parser.add_argument("--variable", help="the cube's variable, where a .mat or .npz file holds several")
    parser.add_argument("--sensor", default="custom", help="name of the sensor's folder (default: custom)")
    options = parser.parse_args(arguments)

    def work() -> None:
        if options.mask and len(options.mask) != len(options.scenes):
            raise SceneError(
                f"--mask: {len(options.mask)} masks for {len(options.scenes)} scenes. Give one for each, in their order, "
                f"and {_NO_MASK} for a scene without anomalies."
            )
        scenes = []
        for path, mask in zip(options.scenes, options.mask or [_NO_MASK] * len(options.scenes), strict=True):
            scene = read_scene(path, variable=options.variable)
            scenes.append((scene, None if mask == _NO_MASK else read_mask(mask, shape=scene.cube.shape[:2])))
        manifest = write_patches(scenes, options.out, options.size, options.stride, options.sensor)
        for scene in manifest["scenes"]:
            left_out = ", ".join(f"{count} {reason}" for reason, count in scene["left_out"].items() if count)
            print(f"{scene['scene']:24s} {scene['kept']:5d} patches" + (f"  left out: {left_out}" if left_out else ""))
        print(
            f"{len(manifest['patches'])} patches of {options.size} x {options.size} px "
            f"in {options.out}/train/{options.sensor}"
        )

    return run(work, (SceneError,))


if __name__ == "__main__":
    sys.exit(main())
