"""The result of a detection: maps and targets as products on disk and as a picture in a notebook."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from fers.detection.findings import Findings
from fers.detection.products.raster import write_envi, write_geotiff
from fers.detection.products.report import write_report
from fers.detection.products.vector import write_csv, write_geojson, write_geopackage
from fers.util.errors import FersError
from fers.util.pictures import stretched

RUN = "run.json"
OPTIONAL_PRODUCTS = {f"score.{kind}" for kind in ("tif", "qml", "img", "hdr")} | {
    "detections.gpkg"
}  # written by some runs only
_PREVIEW = 600  # px, the longer side of the picture in a notebook


class DetectResult(Findings):
    """Anomalies in one scene, as ``Findings`` has them; it writes its products, and shows itself in a notebook."""

    def geodataframe(self):
        """Return targets and candidates as a geopandas.GeoDataFrame in WGS84; its column ``status`` tells them apart.

        Raises:
            FersError: geopandas is not installed, or the scene has no georeference.
        """
        try:
            import geopandas
        except ImportError as error:
            raise FersError(
                "a GeoDataFrame needs geopandas: pip install geopandas. detections is a plain list."
            ) from error
        if not self.scene.place.known:
            raise FersError(f"{self.name}: has no georeference. detections is a plain list.")
        outlines = self.scene.place.polygons(self.labels)
        features = [
            {"type": "Feature", "geometry": outlines.get(target.label), "properties": record}
            for target, record in zip([*self.targets, *self.below], [*self.detections, *self.candidates], strict=True)
        ]
        return geopandas.GeoDataFrame.from_features(features, crs="EPSG:4326")

    def write(self, folder: str | Path, formats: tuple[str, ...] = ("tif",), gpkg: bool = False) -> Path:
        """Write all products into a folder.

        They are made in a hidden folder and moved when all are there, run.json last.

        Args:
            folder: Folder for the products; it is created if need be.
            formats: Formats of the score map: ``tif``, ``envi``, or both.
            gpkg: Write the targets as a GeoPackage too.

        Returns:
            The folder.
        """
        folder = Path(folder)
        part = folder / ".part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        probability = self.probability
        tags = {"source": str(self.about["source"]), "method": self.about["method"]}
        if "tif" in formats:
            write_geotiff(part / "score.tif", self.score, probability, self.scene.place, tags)
        if "envi" in formats:
            write_envi(part / "score.img", self.score, probability, self.scene.place, tags)
        write_geojson(part / "detections.geojson", self.records, self.scene.place.polygons(self.labels))
        write_csv(part / "detections.csv", self.records)
        if gpkg:
            write_geopackage(part / "detections.gpkg", part / "detections.geojson")
        if self.scene.statistics is not None:
            self.scene.statistics.save(
                part / "background.npz", {k: self.about[k] for k in ("source", "options", "bands")}
            )
        write_report(part / "report.html", self, probability)
        (part / RUN).write_text(json.dumps(self.about, indent=1, allow_nan=False) + "\n")
        _move(part, folder)
        return folder

    def picture(self, size: int = _PREVIEW) -> Image.Image:
        """Draw the scene in false colour with the targets' peaks ringed in yellow.

        Args:
            size: Longer side in pixels.
        """
        image = Image.fromarray(stretched(self.scene.colours))
        scale = size / max(image.size)
        image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BILINEAR)
        pixels = np.array(image)
        rows, columns = np.indices(pixels.shape[:2])
        for target in self.targets:
            row, column = (v / self.scene.thinning * scale for v in (target.row, target.column))
            distance = np.hypot(rows - row, columns - column)
            pixels[(distance > 5) & (distance < 7.5)] = (255, 220, 0)
        return Image.fromarray(pixels)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.picture().save(buffer, "png")
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self._repr_png_()).decode()
        return f'<p>{html.escape(str(self))}</p><img src="data:image/png;base64,{picture}" alt="scene and targets">'


def _move(part: Path, folder: Path) -> None:
    """Put finished products in their place, and delete other products of an earlier run."""
    made = {path.name for path in part.iterdir()}
    (folder / RUN).unlink(missing_ok=True)  # until all are in place, this folder holds no finished run
    for old in OPTIONAL_PRODUCTS - made:
        (folder / old).unlink(missing_ok=True)
    for name in sorted(made, key=lambda name: name == RUN):
        os.replace(part / name, folder / name)
    part.rmdir()
