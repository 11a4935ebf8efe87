"""Training patches: cut them from background scenes of your own, or read those of a folder such as HAD100's.

    fers data patches scene1.mat scene2.hdr --out data/Mine --size 64 --stride 32 --mask scene1.mat -
    fers train --stage all --data_path data/Mine --sensor custom --input_channel 100

writes ``data/Mine/train/custom/<scene>_r<row>_c<column>.npy`` (H x W x B, raw values) and ``manifest.json``, which says
where each was cut. That is HAD100's layout, so training needs to know of one layout only.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from fers.datasets.had100 import NODATA
from fers.datasets.manifest import MANIFEST, entry, read_manifest, write_array, write_manifest
from fers.scenes.normalise import normalise
from fers.scenes.scene import MIN_SIDE, Scene, SceneError, nodata_pixels, read_scene, read_truth, row_blocks
from fers.util.commandline import run
from fers.util.files import fingerprint_of, remove_leftovers, temporary_prefix, visible
from fers.util.lock import locked

if TYPE_CHECKING:
    import torch

NODATA_CHOICES = ("refuse", "keep", "mask")
_NO_MASK = "-"
_CROP = re.compile(r"(_[1-4]|_r\d{4,}_c\d{4,})$")  # HAD100's four corner crops of a scene, and those cut here


class BackgroundPatches:
    """Training patches of a folder, memory-mapped: a patch is read when it is asked for, and not kept.

    Each patch is an image of its own: its bands ``[start : start + bands]`` are scaled to [-0.1, 0.1] by their own
    minimum and maximum, as the test scenes are. What the patches hold is taken from the manifest of the folder or of the
    dataset (``fers.datasets.manifest``). Files that it does not know, or that are newer, are read, and the folder gets a
    manifest of its own where it can be written.

    Args:
        folder, sensor: The dataset, with ``train/<sensor>/*.npy`` (H x W x B).
        bands: C; patches with fewer get zero bands appended.
        start: The first band, 0-based.
        nodata: What becomes of patches in which a pixel has no data in the chosen bands: ``refuse`` them, ``keep`` them
            as they are (as the released code does; NaN and infinity are refused all the same), or ``mask``: leave them out.

    Attributes:
        files: The patches that are used, in the order of their names.
        sources: The source scene of each.
        size: (H, W) of every patch.
        reasons: How many patches are left out, by reason: ``no data``, ``constant`` (one value in all the chosen bands).
        kept_nodata: How many of ``files`` hold pixels without data.

    Raises:
        SceneError: There are no usable patches, they are not of one size, or some lack data and that is refused.
        ManifestError: A manifest is damaged.
    """

    def __init__(self, folder: str | Path, sensor: str, bands: int, start: int = 0, nodata: str = "mask"):
        if nodata not in NODATA_CHOICES:
            raise SceneError(f"nodata is '{nodata}'; expected {', '.join(NODATA_CHOICES)}.")
        self.folder = Path(folder) / "train" / sensor
        self.bands, self.start, self.nodata = bands, start, nodata
        files = visible(self.folder, "*.npy")
        if not files:
            raise SceneError(
                f"{self.folder}: no training patches (*.npy) here. Give the dataset's folder with --data_path and its "
                "sensor with --sensor, or cut patches from your own scenes: fers data patches --help"
            )
        facts = _described(Path(folder), self.folder, files)
        self.size = tuple(facts[files[0].name]["shape"][:2])
        taken = _bands_taken(facts[files[0].name], start, bands)
        holed, nonfinite, constant = set(), set(), set()
        for path in files:
            known = facts[path.name]
            height, width, available = known["shape"]
            if (height, width) != self.size:
                raise SceneError(
                    f"{path}: {(height, width)} px, the first patch has {self.size}. All patches of a training set are of "
                    "one size; cut them again with fers data patches."
                )
            if not 0 <= start < available:
                raise SceneError(f"{path}: there is no band {start}; it has bands 0 to {available - 1}.")
            if _bands_taken(known, start, bands) != taken:
                raise SceneError(
                    f"{path}: {available} bands, the first patch has {facts[files[0].name]['shape'][2]}. "
                    "All patches of a training set have the same bands; give each sensor a folder of its own."
                )
            end = min(start + bands, available)
            if any(first <= start and last >= end for first, last in known["constant_bands"]):
                constant.add(path)
            elif any(first < end and last > start for first, last in known["nodata_bands"]):
                holed.add(path)
                if any(first < end and last > start for first, last in known["nonfinite_bands"]):
                    nonfinite.add(path)
        if refused := {"refuse": holed, "keep": nonfinite, "mask": set()}[nodata]:
            kind, keep = "NaN or infinity", ""
            if nodata == "refuse":
                kind = "NaN, infinity or a no-data value"
                keep = ", or --nodata keep uses them as they are, as the released code does"
            raise SceneError(
                f"{min(refused)}: holds {kind} in the chosen bands, as {len(refused)} of {len(files)} patches do. "
                f"--nodata mask leaves these patches out{keep}."
            )
        masked = holed if nodata == "mask" else set()
        self.reasons = {"no data": len(masked), "constant": len(constant)}
        self.kept_nodata = len(holed - masked)
        self.files = [path for path in files if path not in masked | constant]
        if not self.files:
            raise SceneError(f"{self.folder}: all {len(files)} patches lack data or contrast in the chosen bands.")
        self.sources = [facts[path.name]["scene"] for path in self.files]
        self._sums = [facts[path.name]["sha256"] for path in self.files]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        """Read patch ``index``, normalised: ``(C, H, W)`` float32 in [-0.1, 0.1]."""
        import torch  # to cut patches takes no PyTorch

        scene = read_scene(self.files[index], nodata=() if self.nodata == "keep" else NODATA)
        return torch.from_numpy(np.ascontiguousarray(normalise(scene, self.bands, self.start).transpose(2, 0, 1)))

    def describe(self) -> str:
        """Describe what is left out and what is kept in spite of missing data; empty where there is neither."""
        sentences = [f"{count} patches are left out: {reason}." for reason, count in self.reasons.items() if count]
        if self.kept_nodata:
            sentences.append(f"{self.kept_nodata} patches with no-data pixels are used as they are.")
        return " ".join(sentences)

    def split(self, train_ratio: float, seed: int) -> tuple[list[int], list[int]]:
        """Split the patches by source scene, since patches of one scene overlap.

        ``train_ratio`` is the share of the scenes to train on, in (0, 1]; below 1 at least one scene is held out.

        Returns:
            Indices of the patches to train on and of the held-out ones.

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
        parts: tuple[list[int], list[int]] = ([], [])
        for index, source in enumerate(self.sources):
            parts[source in held_out].append(index)
        return parts

    def fingerprint(self) -> str:
        """Compute the sha256 of the patches' names and contents, of the bands taken, and of what becomes of missing data.

        The files are read: one that changed since the manifest was written, even at the same size and time, is seen.
        """
        digest = hashlib.sha256(f"{self.start}:{self.bands}:{self.nodata}".encode())
        for path, sha256 in zip(self.files, self._sums, strict=True):
            digest.update(f"{path.name} {sha256} {fingerprint_of(path)[2]}".encode())
        return digest.hexdigest()


def _bands_taken(known: dict, start: int, bands: int) -> int:
    """Count the bands of a patch that are taken; the others of ``bands`` are appended as zeros."""
    return min(known["shape"][2] - start, bands)


def _described(dataset: Path, folder: Path, files: list[Path]) -> dict[str, dict]:
    """Manifest entries of the patches of a folder by file name; the manifest of the folder is written or renewed."""
    facts: dict[str, dict] = {}
    own = read_manifest(folder)
    for place, manifest in ((dataset, read_manifest(dataset)), (folder, own)):
        if manifest is not None:
            written = (place / MANIFEST).stat().st_mtime_ns
            for path in files:
                known = manifest["files"].get(path.relative_to(place).as_posix())
                found = path.stat()
                if known is not None and known["bytes"] == found.st_size and found.st_mtime_ns <= written:
                    facts[path.name] = known
    unknown = [path for path in files if path.name not in facts]
    for path in tqdm(unknown, "describing patches", unit="patch", disable=None, leave=False):
        scene = _CROP.sub("", path.stem)
        facts[path.name] = entry(path.read_bytes(), read_scene(path).cube, scene, NODATA)
    if unknown:
        said = {k: v for k, v in (own or {"dataset": "patches"}).items() if k not in ("format", "files")}
        with contextlib.suppress(OSError):  # a folder that cannot be written is described at each launch
            write_manifest(folder, said, facts)
    return facts


def cut_patches(
    scene: Scene, size: int, stride: int, truth: np.ndarray | None = None
) -> tuple[list[tuple[int, int]], dict[str, int]]:
    """Find where patches of ``size`` px can be cut, ``stride`` px apart; ``truth`` is None where there are no anomalies.

    Returns:
        Row and column of the first pixel of each patch kept, and how many were left out because a pixel is ``masked``
        (anomalous), has ``no data``, or is ``constant``: one value in every band (fill), or all pixels are alike.
    """
    height, width = scene.cube.shape[:2]
    nodata = nodata_pixels(scene)
    constant = np.concatenate([np.ptp(scene.cube[rows], axis=2) == 0 for rows in row_blocks(scene.cube.shape)])
    kept, left_out = [], {"masked": 0, "no data": 0, "constant": 0}
    for row in range(0, height - size + 1, stride):
        for column in range(0, width - size + 1, stride):
            window = slice(row, row + size), slice(column, column + size)
            if truth is not None and truth[window].any():
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
        scenes: Each scene with its truth (or None), see ``cut_patches``.
        out, sensor: The dataset's folder; ``train/<sensor>`` in it must not exist yet.
        size: Side of a patch, px; a multiple of 8 (Stage 1 halves the padded patch three times), at least 16.
        stride: Distance from one patch to the next, px.

    Returns:
        The manifest, as written to ``train/<sensor>/manifest.json``; ``scenes`` in it says what was kept and left out.

    Raises:
        SceneError: The folder exists, two scenes share a name, the sizes do not fit, or no patch is left.
    """
    folder = Path(out) / "train" / sensor
    if not sensor or sensor != Path(sensor).name or sensor.startswith("."):
        raise SceneError(f"--sensor {sensor!r}: expected the name of a folder, such as custom.")
    if size % 8 or size < 16:
        raise SceneError(f"--size {size}: a patch's side is a multiple of 8, at least 16 (for a scene, {MIN_SIDE} px).")
    if stride < 1:
        raise SceneError(f"--stride {stride}: the distance between patches is at least 1 px.")
    counts = Counter(scene.name for scene, _ in scenes)
    for scene, _ in scenes:
        if counts[scene.name] > 1:
            raise SceneError(f"{scene.name}: two scenes of this name; patches are named after them. Rename one file.")
        if min(scene.cube.shape[:2]) < size:
            raise SceneError(
                f"{scene.path}: {scene.cube.shape[0]} x {scene.cube.shape[1]} px, smaller than a patch of {size} px. "
                "Leave it out, or give a smaller --size."
            )

    with locked(Path(out)):
        if folder.exists():
            raise SceneError(f"{folder}: exists already. Choose another --out or --sensor, or delete it.")
        remove_leftovers(folder.parent)
        temporary = folder.with_name(f"{temporary_prefix()}-{sensor}")
        temporary.mkdir(parents=True)
        facts: dict = {"dataset": "patches", "size": size, "stride": stride, "scenes": []}
        files: dict[str, dict] = {}
        try:
            for scene, truth in tqdm(scenes, desc="scenes", unit="scene", disable=None, leave=False):
                kept, left_out = cut_patches(scene, size, stride, truth)
                nodata = tuple({*scene.nodata, *NODATA})  # training takes both for missing
                for row, column in kept:
                    name = f"{scene.name}_r{row:04d}_c{column:04d}.npy"
                    cube = np.asarray(scene.cube[row : row + size, column : column + size])
                    files[name] = write_array(temporary, name, cube, scene.name, nodata, row=row, column=column)
                about = {"scene": scene.name, "file": scene.path.name, "shape": list(scene.cube.shape)}
                facts["scenes"].append({**about, "mask": truth is not None, "kept": len(kept), "left_out": left_out})
            if not files:
                raise SceneError(
                    f"{folder}: no patch is left of {len(scenes)} scene(s). Give a smaller --size or --stride, or check the masks."
                )
            manifest = write_manifest(temporary, facts, files)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return manifest


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="fers data patches", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenes", nargs="+", metavar="SCENE", help=".mat, .npy, .npz, or ENVI")
    parser.add_argument("--out", type=Path, required=True, help="the dataset's folder")
    parser.add_argument("--size", type=int, default=64, help="side of a patch, px (default: 64)")
    parser.add_argument("--stride", type=int, default=32, help="from one patch to the next, px (default: 32)")
    masks = (
        "one for each scene, in their order: a file with the anomalies (.png, .mat, .npy, .npz; the scene's own .mat if "
        "it holds a mask), or - for a scene without any. Left out: no scene has anomalies"
    )
    parser.add_argument("--mask", nargs="+", default=[], metavar="MASK", help=masks)
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
        for path, truth in zip(options.scenes, options.mask or [_NO_MASK] * len(options.scenes), strict=True):
            scene = read_scene(path, variable=options.variable)
            scenes.append((scene, None if truth == _NO_MASK else read_truth(truth, shape=scene.cube.shape[:2])))
        manifest = write_patches(scenes, options.out, options.size, options.stride, options.sensor)
        for scene in manifest["scenes"]:
            left_out = ", ".join(f"{count} {reason}" for reason, count in scene["left_out"].items() if count)
            print(f"{scene['scene']:24s} {scene['kept']:5d} patches" + (f"  left out: {left_out}" if left_out else ""))
        size, place = f"{options.size} x {options.size} px", f"{options.out}/train/{options.sensor}"
        print(f"{len(manifest['files'])} patches of {size} in {place}")

    return run(work)
