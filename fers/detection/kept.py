"""Facts of a scene that its result keeps, so that another threshold needs no cube: georeference, picture, pixels left out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine

from fers.detection.products.place import Place
from fers.detection.store import Arrays
from fers.scenes.readers import Geometry, LatLon, LookupTable, MapGrid
from fers.util.errors import FersError
from fers.util.files import atomic_path

KEPT = "scene.npz"


@dataclass(frozen=True, eq=False)
class Kept:
    """Facts of a scene that its result keeps.

    Attributes:
        place: The georeference.
        colours: The scene in three bands, every ``thinning``-th row and column, NaN without data.
        thinning: See ``colours``.
        left_out: ``(H, W)`` bool, pixels that the user left out; None for none.
        score: ``(H, W)``, where ``score.tif`` is on another grid than the scene; else None.
    """

    place: Place
    colours: np.ndarray
    thinning: int
    left_out: np.ndarray | None
    score: np.ndarray | None

    def save(self, path: Path) -> None:
        """Write to a .npz file."""
        about: dict[str, Any] = {"shape": self.place.shape, "thinning": self.thinning}
        arrays: Arrays = {"colours": self.colours.astype(np.float32)}
        geometry = self.place.geometry
        if isinstance(geometry, MapGrid | LookupTable):
            about |= {"transform": list(geometry.transform)[:6], "crs": geometry.crs}
        if isinstance(geometry, LookupTable):
            arrays |= {"rows": geometry.rows.astype(np.int32), "columns": geometry.columns.astype(np.int32)}
        if isinstance(geometry, LatLon):
            arrays |= {"latitude": geometry.latitude, "longitude": geometry.longitude}
        if self.left_out is not None:
            arrays["left_out"] = np.packbits(self.left_out)
        if self.score is not None:
            arrays["score"] = self.score.astype(np.float32)
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, **(arrays | {"about": np.array(json.dumps(about))}))  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Kept:
        """Read what ``save`` wrote.

        Raises:
            FersError: The file is missing or damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = {key: archive[key] for key in archive.files}
            about = json.loads(str(found["about"]))
            height, width = about["shape"]
            geometry: Geometry | None = None
            if "latitude" in found:
                geometry = LatLon(found["latitude"], found["longitude"])
            elif "rows" in found:
                geometry = LookupTable(Affine(*about["transform"]), about["crs"], found["rows"], found["columns"])
            elif "transform" in about:
                geometry = MapGrid(Affine(*about["transform"]), about["crs"])
            left_out = None
            if "left_out" in found:
                left_out = np.unpackbits(found["left_out"], count=height * width).reshape(height, width).astype(bool)
            return cls(
                Place(geometry, (height, width)), found["colours"], about["thinning"], left_out, found.get("score")
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FersError(
                f"{path}: cannot be read ({error}). The result is of an earlier version or damaged: run fers detect on its "
                "scene again."
            ) from error
