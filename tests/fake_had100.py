"""A small archive with HAD100.zip's structure, made by rule: every value can be computed again from its place."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.standin import ROOT, RawScene, write_archive

NODATA = (-9999.0, 1e-34)
LISTED = {  # height, width of the scenes that the dataset crops: rows and columns of its crops, 64 px, and a few odd ones more
    "ang20170821t183707_102": (64, 81),
    "ang20170821t183707_124": (67, 73),
    "ang20170821t195229_21": (100, 100),
    "ang20170825t173426_14": (70, 64),
    "ang20170825t173426_17": (66, 101),
    "ang20170908t225309_32": (100, 81),
    "ang20170908t225309_34": (100, 64),
    "ang20170908t225309_36": (75, 100),
    "ang20170908t225309_37": (74, 103),
    "ang20170908t225309_39": (64, 80),
    "ang20171012t194435_23": (81, 81),
    "ang20180227t082814_15": (100, 100),
    "ang20180227t082814_17": (101, 100),
    "ang20191004t185054_22": (65, 65),
    "ang20191004t185054_27": (64, 67),
    "ang20210614t141018_32": (64, 81),
    "ang20210614t141018_37": (100, 100),
    "ang20210614t141018_38": (100, 64),
}


@dataclass(frozen=True)
class FakeScene:
    """One scene of the fake archive.

    Attributes:
        folder: Its folder in the archive.
        name: Scene name.
        height: Rows.
        width: Columns.
        bands: Bands, 425 or 224.
        dtype: ``float32`` or ``int16``.
        interleave: ``bil`` or ``bip``.
        byte_order: ``<`` or ``>``.
        suffix: Suffix of the data file, or none.
        nodata: The value of the pixel in the top left corner in every band; None for an ordinary one.
    """

    folder: str
    name: str
    height: int
    width: int
    bands: int
    dtype: str = "float32"
    interleave: str = "bil"
    byte_order: str = "<"
    suffix: str = ""
    nodata: float | None = None

    def cube(self) -> np.ndarray:
        """``(H, W, B)``, >= 0 but for the pixel without data: unlike from pixel to pixel, band to band, scene to scene."""
        number = zlib.crc32(self.name.encode()) % 997
        row, column, band = np.ogrid[: self.height, : self.width, : self.bands]
        cube = ((row * 128 + column) * 7 + band * 31 + number).astype(np.int32)
        # int16 wraps, at no multiple of a step in row, column or band
        cube = (cube % 32749).astype(np.int16) if self.dtype == "int16" else cube.astype(np.float32) + np.float32(0.375)
        if self.nodata is not None:
            cube[0, 0] = self.nodata
        return cube

    def mask(self) -> np.ndarray:
        """``(H, W)`` bool: anomalies near every corner of the scene, unlike each other."""
        mask = np.zeros((self.height, self.width), dtype=bool)
        mask[20:23, 30:35] = True
        mask[-30:-28, -25:-20] = True
        mask[self.height // 2, self.width // 2] = True
        return mask

    def raw(self) -> RawScene:
        """The scene as the archive's writer takes it."""
        cube = self.cube().astype(np.dtype(self.dtype).newbyteorder(self.byte_order))
        truth = self.mask() if self.folder == "aviris_ng_target" else None
        return RawScene(self.folder, self.name, cube, self.interleave, self.suffix, truth)


def scenes(ng: int, classic: int, targets: int, side: int = 81) -> list[FakeScene]:
    """The scenes of an archive.

    Args:
        ng: AVIRIS-NG background scenes.
        classic: AVIRIS-Classic background scenes, of four file types and odd sizes in turn.
        targets: AVIRIS-NG scenes with anomalies: those that the dataset crops first, then scenes of 64 x 64.
        side: Height and width of the AVIRIS-NG background scenes, at least 64.

    Returns:
        The scenes. Every third background scene has a pixel without data.
    """
    kinds = (
        ("float32", "bil", "<", ""),
        ("int16", "bip", ">", ".img"),
        ("int16", "bil", "<", ""),
        ("float32", "bip", "<", ".dat"),
    )
    result = [
        FakeScene(
            "aviris_ng_normal", f"ang20190101t000000_{i}", side, side, 425, nodata=NODATA[i % 2] if i % 3 == 0 else None
        )
        for i in range(ng)
    ]
    for i in range(classic):
        dtype, interleave, order, suffix = kinds[i % 4]
        missing = (NODATA[0] if dtype == "int16" else NODATA[1]) if i % 3 == 0 else None
        size = ((81, 81), (66, 66), (81, 79), (67, 90))[i % 4] if side == 81 else (side, side + i % 2)
        result.append(
            FakeScene("aviris_normal", f"f1{i:05d}t01p00r05_{i}", *size, 224, dtype, interleave, order, suffix, missing)
        )
    sizes = dict(list(LISTED.items())[:targets])
    sizes |= {f"ang20200202t111111_{i}": (64, 64) for i in range(targets - len(sizes))}
    return result + [FakeScene("aviris_ng_target", name, *size, 425) for name, size in sizes.items()]


def write(path: Path, content: list[FakeScene], compression: int = zipfile.ZIP_STORED) -> None:
    """Write the archive, one scene at a time, with the clutter that real ones carry."""
    write_archive(path, (scene.raw() for scene in content), compression)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{ROOT}/", "")
        archive.writestr(f"{ROOT}/readme.txt", "not a scene")
        archive.writestr(f"__MACOSX/{ROOT}/data/aviris_ng_normal/._scene.hdr", "not a header")
