"""The targets as files: GeoJSON that is also a spectral library, a table, a GeoPackage."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np

from fers.detection.options import WITHOUT_PYOGRIO
from fers.util.errors import FersError
from fers.util.files import json_text, plain_cell

Record = dict[str, Any]
OUTLINES = {"above the threshold": "255,220,0", "candidate": "150,150,150"}  # colours by the field status
PROFILES = ("spectrum", "background")  # fields that EnMAP-Box shows as spectra


def write_geojson(path: Path, records: list[Record], outlines: dict[int, dict[str, Any]]) -> None:
    """Write the targets as GeoJSON in WGS84 (RFC 7946).

    A style next to the file draws outlines in QGIS, grey for candidates. It also says that the fields ``spectrum`` and
    ``background`` are profiles of the EnMAP-Box: the file opens as a map layer and as a spectral library.

    Args:
        path: Ends in .geojson; the style is the same name with .qml.
        records: One for each target, as ``fers.detection.records`` makes them.
        outlines: Geometry of each target's label; empty without a georeference, and then the geometries are null.
    """
    features = []
    for record in records:
        properties = {key: value for key, value in record.items() if not key.startswith("_")}
        geometry = outlines.get(record["_label"])
        features.append({"type": "Feature", "id": record["rank"], "geometry": geometry, "properties": properties})
    content = {"type": "FeatureCollection", "features": features}
    path.write_text(json_text(path, content, separators=(",", ":")) + "\n")
    path.with_suffix(".qml").write_text(outline_style())


def outline_style() -> str:
    """Make the QGIS style (.qml) of targets: outlines without filling, by their field ``status``."""
    root = ET.Element("qgis", version="3.28", styleCategories="Symbology|Fields|Forms")
    renderer = ET.SubElement(root, "renderer-v2", type="categorizedSymbol", attr="status", symbollevels="0")
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for number, (status, colour) in enumerate([*OUTLINES.items(), ("", "255,220,0")]):  # the last is all others
        ET.SubElement(categories, "category", render="true", symbol=f"{number}", value=status, label=status or "target")
        symbol = ET.SubElement(symbols, "symbol", type="fill", name=f"{number}", alpha="1", force_rhr="0")
        layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
        look = {"style": "no", "outline_color": f"{colour},255", "outline_width": "0.5", "outline_style": "solid"}
        for key, value in look.items():
            ET.SubElement(layer, "prop", k=key, v=value)
    fields = ET.SubElement(root, "fieldConfiguration")
    for name in PROFILES:
        widget = ET.SubElement(ET.SubElement(fields, "field", name=name), "editWidget", type="SpectralProfile")
        ET.SubElement(ET.SubElement(widget, "config"), "Option")
    ET.indent(root)
    return "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + ET.tostring(root, encoding="unicode") + "\n"


def write_csv(path: Path, records: list[Record]) -> None:
    """Write the targets as a table: one row for each target, one column for each wavelength of its spectrum."""
    plain = [key for key in (records[0] if records else {}) if not key.startswith("_") and key not in PROFILES]
    profile = next((record["spectrum"] for record in records if record["spectrum"]), None)
    suffix = "" if profile is None or profile["xUnit"] == "Index" else "nm"
    columns = [] if profile is None else [f"spectrum_{x:g}{suffix}" for x in profile["x"]]
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*(plain or ["rank"]), *columns])
        for record in records:
            values = ["; ".join(map(str, v)) if isinstance(v, list) else v for v in (record[key] for key in plain)]
            spectrum = record["spectrum"]["y"] if record["spectrum"] else [""] * len(columns)
            table.writerow([*map(plain_cell, values), *spectrum])


def write_geopackage(path: Path, geojson: Path) -> None:
    """Write the targets of a GeoJSON file as a GeoPackage.

    Args:
        path: Ends in .gpkg.
        geojson: File that ``write_geojson`` wrote.

    Raises:
        FersError: The package pyogrio is not installed.
    """
    try:
        import pyogrio  # after rasterio and only here: each has a GDAL of its own
    except ImportError as error:
        raise FersError(WITHOUT_PYOGRIO) from error
    meta, _, geometry, fields = pyogrio.raw.read(geojson)
    kind = {"layer": path.stem, "driver": "GPKG", "geometry_type": "Unknown", "crs": "EPSG:4326"}
    pyogrio.raw.write(path, geometry, fields, meta["fields"], **kind)


def profile(x: np.ndarray, y: np.ndarray, wavelengths: bool) -> dict[str, Any]:
    """Format a spectrum for the EnMAP-Box; values that are not finite become null."""
    values = [float(f"{v:.7g}") if np.isfinite(v) else None for v in y]
    return {"x": [float(f"{v:.7g}") for v in x], "xUnit": "Nanometers" if wavelengths else "Index", "y": values}
