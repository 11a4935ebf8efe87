"""The result of a detection: maps and targets as products on disk and as a picture in a notebook."""

from __future__ import annotations

import base64
import html
import io
import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from fers.detection.findings import Findings
from fers.detection.kept import KEPT, Kept
from fers.detection.like import Search, search
from fers.detection.options import RUN
from fers.detection.products.found import write_search
from fers.detection.products.quicklook import refuse_without_place, write_quicklook
from fers.detection.products.raster import write_envi, write_geotiff
from fers.detection.products.report import overlay, write_report
from fers.detection.products.vector import write_csv, write_geojson, write_geopackage
from fers.detection.store import BackgroundStatistics
from fers.detection.xarrays import to_dataset
from fers.scenes.readers import LookupTable
from fers.util.errors import FersError
from fers.util.files import json_text, synchronise
from fers.util.paths import how_to_install
from fers.util.pictures import stretched

OPTIONAL_PRODUCTS = {  # written by some runs only
    *(f"score.{kind}" for kind in ("tif", "qml", "img", "hdr")),
    *("detections.gpkg", "quicklook.tif", "search.npz"),
    *("like.tif", "like.qml", "like.csv", "like_places.geojson", "like_places.qml", "like_places.csv"),
}
_PREVIEW = 600  # px, the longer side of the picture in a notebook


class DetectResult(Findings):
    """Anomalies in one scene, as ``Findings`` has them; it writes its products, and shows itself in a notebook.

    Attributes:
        searched: The last search in the scene; None before one.
    """

    searched: Search | None = None

    def like(self, spectrum: int | str | tuple[int, int], by: str = "ace") -> Search:
        """Search the scene for a spectrum: where else is it? ``write`` writes what was found, too.

        Args:
            spectrum: Number of a target, its pixel ``(row, column)``, or a file of spectra, with ``:NAME`` if it holds several.
            by: ``ace``, ``mf`` or ``sam``; see ``fers.detection.search``.

        Raises:
            FersError: The spectrum does not fit the scene, or the scene is gone.
        """
        text = ",".join(map(str, spectrum)) if isinstance(spectrum, tuple) else str(spectrum)
        self.searched = search(self, text, by, self._search_background())
        self.about["like"] = self.searched.record()
        return self.searched

    def _search_background(self) -> BackgroundStatistics | None:
        """Background of an earlier search in the same scene; None before one."""
        if self.searched is not None:
            return self.searched.statistics
        kept = None if self.scene.folder is None else self.scene.folder / "search.npz"
        return BackgroundStatistics.load(kept)[0] if kept is not None and kept.is_file() else None

    def to_xarray(self):
        """Return score, tail probability and targets as an xarray.Dataset, on the grid of ``score.tif``.

        Raises:
            FersError: xarray is not installed.
        """
        return to_dataset(self)

    def geodataframe(self):
        """Return targets and candidates as a geopandas.GeoDataFrame in WGS84; its column ``status`` tells them apart.

        Raises:
            FersError: geopandas is not installed, or the scene has no georeference.
        """
        try:
            import geopandas
        except ImportError as error:
            raise FersError(
                f"a GeoDataFrame needs geopandas: {how_to_install('xarray')}. detections is a plain list."
            ) from error
        if not self.scene.place.known:
            raise FersError(f"{self.name}: has no georeference. detections is a plain list.")
        outlines = self.scene.place.polygons(self.labels)
        features = [
            {"type": "Feature", "geometry": outlines.get(target.label), "properties": record}
            for target, record in zip([*self.targets, *self.below], [*self.detections, *self.candidates], strict=True)
        ]
        return geopandas.GeoDataFrame.from_features(features, crs="EPSG:4326")

    def write(
        self, folder: str | Path, formats: tuple[str, ...] = ("tif",), gpkg: bool = False, north_up: bool = False
    ) -> Path:
        """Write all products into a folder.

        They are made in a hidden folder and moved when all are there, run.json last.

        Args:
            folder: Folder for the products; it is created if need be.
            formats: Formats of the score map: ``tif``, ``envi``, or both.
            gpkg: Write the targets as a GeoPackage too.
            north_up: Write the maps with north up, instead of on the scene's own grid.

        Returns:
            The folder.
        """
        folder, scene = Path(folder), self.scene
        if north_up:
            refuse_without_place(scene.place, self.name)
        part = folder / ".part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        probability = self.probability
        tags = {"source": str(self.about["source"]), "method": self.about["method"]}
        if "tif" in formats:
            write_geotiff(part / "score.tif", self.score, probability, scene.place, tags, north_up)
        if "envi" in formats:
            write_envi(part / "score.img", self.score, probability, scene.place, tags, north_up)
        if scene.place.known:
            shown = overlay(probability, scene.thinning)
            try:
                write_quicklook(part / "quicklook.tif", scene.colours, shown, scene.place, scene.thinning)
            except FersError as error:
                self.about["notes"] = [*self.about["notes"], f"No quick look: {error}"]
        outlines = scene.place.polygons(self.labels)
        write_geojson(part / "detections.geojson", self.records, outlines)
        write_csv(part / "detections.csv", self.records)
        if gpkg:
            write_geopackage(part / "detections.gpkg", part / "detections.geojson")
        described = {k: self.about[k] for k in ("source", "options", "bands")}
        if scene.statistics is not None:
            scene.statistics.save(part / "background.npz", described)
        else:
            assert scene.folder is not None
            shutil.copyfile(scene.folder / "background.npz", part / "background.npz")
        if (searched := self._search_background()) is not None:
            searched.save(part / "search.npz", described)
        if self.searched is not None:
            write_search(part, self.searched, scene.place, tags, north_up)
        own_grid = not north_up and not isinstance(scene.place.geometry, LookupTable)
        kept = Kept(scene.place, scene.colours, scene.thinning, scene.left_out, None if own_grid else self.score)
        kept.save(part / KEPT)
        write_report(part / "report.html", self, probability, outlines, self.searched)
        (part / RUN).write_text(json_text(folder / RUN, self.about, indent=1) + "\n")
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
        synchronise(part / name)
        os.replace(part / name, folder / name)
    part.rmdir()
    synchronise(folder)
