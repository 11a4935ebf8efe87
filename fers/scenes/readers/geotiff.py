"""GeoTIFF through rasterio, and the products that come as one: EnMAP, DESIS, Hyperion L1T.

EnMAP and DESIS keep wavelengths and gains in an XML file beside the raster or in the same ZIP. Hyperion has one file a band.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from fers.scenes.readers.base import UNDECLARED_NODATA, Reader
from fers.scenes.readers.errors import SceneError, refusing
from fers.scenes.readers.geometry import ControlPoints, MapGrid
from fers.scenes.readers.projection import crs_wkt
from fers.scenes.readers.rasters import open_raster
from fers.scenes.readers.wavelengths import from_names, listed, rising, to_nm, within

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_RASTERS = (".tif", ".tiff", ".geotiff", ".jp2", ".bsq", ".bil", ".bip")
_LARGEST_XML = 64 << 20  # bytes
_EMPTY_MEAN = -1_000_000.0  # EnMAP's mean of a band that holds nothing
_HYPERION = re.compile(r"(EO1H.*_B)(\d{3})(_L1.*)\.tif", re.IGNORECASE)


@dataclass(kw_only=True)
class RasterReader(Reader):
    """Scene in one raster, or in one raster a band: then ``data`` names them."""

    member: str = ""  # name of the only raster in a ZIP archive
    numbers: np.ndarray | None = None  # (B,) band number there, counted from 1

    def _read(self, start: int, stop: int, index: np.ndarray) -> np.ndarray:
        from rasterio.windows import Window

        window = Window(0, start, self.shape[1], stop - start)
        if self.numbers is not None:
            with open_raster(self.path, self.member) as source:
                return np.moveaxis(source.read(self.numbers[index].tolist(), window=window), 0, 2)
        out = np.empty((stop - start, self.shape[1], len(index)), self.stored)
        for place, band in enumerate(index):
            with open_raster(self.data[band]) as source:
                out[:, :, place] = source.read(1, window=window)
        return out


def open_geotiff(path: Path) -> Reader:
    """Open the scene of a GeoTIFF or JPEG 2000 file, with what the product's XML says if it is EnMAP's or DESIS's."""
    if _HYPERION.fullmatch(path.name):
        return open_hyperion(path)
    arguments = _raster(path)
    if (xml := _xml_beside(path)) is not None:
        with refusing(xml, "metadata file"):
            product = _product(path, xml.stat().st_size, xml.read_bytes, arguments)
        arguments |= product | ({"beside": (xml,)} if product else {})
    if "declared_nodata" not in arguments and arguments["stored"].kind == "i":
        lowest = float(np.iinfo(arguments["stored"]).min)
        arguments["declared_nodata"] = (UNDECLARED_NODATA, lowest)
        said = f"no no-data value is declared; {UNDECLARED_NODATA:g} and {lowest:g} are taken as one"
        arguments["notes"] = (*arguments.get("notes", ()), said)
    return RasterReader(**arguments)


def open_zipped_product(path: Path) -> Reader | None:
    """Open the scene of an EnMAP or DESIS archive as it is downloaded; None if the archive is another."""
    with refusing(path, "ZIP archive"), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        xml = next((name for name in names if name.upper().endswith("METADATA.XML")), None)
        image = next((n for n in names if "SPECTRAL_IMAGE" in n.upper() and n.lower().endswith(_RASTERS)), None)
        if xml is None or image is None:
            return None
        arguments = _raster(path, image)
        with refusing(path / xml, "metadata file"):
            size = archive.getinfo(xml).file_size
            return RasterReader(**arguments | _product(path, size, lambda: archive.read(xml), arguments))


def _raster(path: Path, member: str = "") -> dict[str, Any]:
    """Read what any raster says by itself."""
    with refusing(path, "GeoTIFF"), open_raster(path, member) as source:
        types = set(source.dtypes)
        if len(types) != 1:
            raise SceneError(f"{path}: its bands are of several types ({', '.join(sorted(types))}). Save them as one.")
        numbers = np.arange(1, source.count + 1)
        arguments: dict[str, Any] = {
            "path": path,
            "member": member,
            "numbers": numbers,
            "shape": (source.height, source.width, source.count),
            "stored": np.dtype(types.pop()),
            "native_chunks": (*source.block_shapes[0], 1),
            "grid": None,
        }
        if nodata := tuple(sorted({float(v) for v in source.nodatavals if v is not None})):
            arguments["declared_nodata"] = nodata
        if any(scale != 1 for scale in source.scales):
            arguments["scale"] = np.array(source.scales)
        if any(offset != 0 for offset in source.offsets):
            arguments["offset"] = np.array(source.offsets)
        if source.crs is not None or not source.transform.is_identity:
            arguments["grid"] = MapGrid(source.transform, crs_wkt(source.crs.to_wkt()) if source.crs else None)
        elif source.gcps[0]:
            points, crs = source.gcps
            places = np.array([(point.col, point.row, point.x, point.y) for point in points])
            arguments["points"] = ControlPoints(places, crs_wkt(crs.to_wkt()) if crs else None)
            arguments["notes"] = (f"placed by {len(points)} control points",)
        arguments |= _spectral_facts(source, arguments.get("notes", ()))
    return arguments


def _spectral_facts(source: DatasetReader, notes: tuple[str, ...]) -> dict[str, Any]:
    """Wavelengths, widths and flags, from the first of the places where programs write them.

    Tags of each band, GDAL's IMAGERY domain (micrometres), lists in ENVI's domain or in that of the file, names of bands.
    """
    count = source.count
    tags = [{k.lower(): v for k, v in source.tags(band).items()} for band in range(1, count + 1)]
    imagery = [source.tags(band, ns="IMAGERY") for band in range(1, count + 1)]
    lists = [{k.lower(): v for k, v in source.tags(ns=domain).items()} for domain in ("ENVI", None)]
    good = _tagged(tags, "bbl")
    facts: dict[str, Any] = {} if good is None else {"good": good != 0, "good_source": "bbl of the bands' tags"}
    for entries in lists:
        if good is None and (flags := listed(entries.get("bbl", ""), count)) is not None:
            facts |= {"good": flags != 0, "good_source": "bbl of the file's tags"}
            break
    if (centres := _tagged(tags, "wavelength")) is not None:
        unit = tags[0].get("wavelength_units", tags[0].get("wavelength_unit", ""))
        facts["wavelengths"], facts["fwhm"] = to_nm(centres, unit, _tagged(tags, "fwhm"))
        return facts
    if (centres := _tagged(imagery, "CENTRAL_WAVELENGTH_UM")) is not None:
        facts["wavelengths"], facts["fwhm"] = to_nm(centres, "um", _tagged(imagery, "FWHM_UM"))
        return facts
    for entries in lists:
        centres = listed(entries.get("wavelength", entries.get("wavelengths", "")), count)
        if centres is not None:
            unit = entries.get("wavelength_units", "")
            facts["wavelengths"], facts["fwhm"] = to_nm(centres, unit, listed(entries.get("fwhm", ""), count))
            return facts
    if (centres := from_names(source.descriptions)) is not None:
        facts |= {"wavelengths": centres, "notes": (*notes, "wavelengths from the names of the bands")}
    return facts


def _tagged(tags: list[dict[str, str]], key: str) -> np.ndarray | None:
    """A number that every band has as a tag; None if one lacks it."""
    found = [float(tag[key]) for tag in tags if tag.get(key)]
    return np.array(found) if len(found) == len(tags) else None


def _xml_beside(path: Path) -> Path | None:
    """The metadata file of an EnMAP or DESIS raster: of the same product's name, else, for a renamed one, the only one."""
    product, image, _ = path.name.upper().partition("SPECTRAL_IMAGE")
    found = [p for p in sorted(path.parent.iterdir()) if p.name.upper().endswith("METADATA.XML") and p.is_file()]
    named = [p for p in found if image and p.name.upper().startswith(product)]
    return named[0] if named else found[0] if image and len(found) == 1 else None


def _product(path: Path, size: int, read: Callable[[], bytes], raster: dict[str, Any]) -> dict[str, Any]:
    """Read what the metadata file of a raster says; nothing if it is no product's that is known."""
    if size > _LARGEST_XML:
        raise ValueError(f"{size} bytes")
    root = ElementTree.fromstring(read())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    table = next(root.iter("bandCharacterisation"), None)
    if table is None:
        return {}
    if rows := table.findall("bandID"):
        return _enmap(path, root, rows, raster)
    if not (rows := table.findall("band")):  # DESIS; the file lists other bands by the same name elsewhere
        return {}
    if len(rows) != raster["shape"][2]:
        raise _other_bands(path, raster["shape"][2], len(rows))
    return {
        "declared_nodata": raster.get("declared_nodata", (-32768.0,)),
        "wavelengths": _column(rows, "wavelengthCenterOfBand"),
        "fwhm": _column(rows, "wavelengthWidthOfBand"),
        "scale": _column(rows, "gainOfBand"),
        "offset": _column(rows, "offsetOfBand"),
        "sensor": "DESIS",
    }


def _column(rows: list[ElementTree.Element], name: str) -> np.ndarray:
    return np.array([float(row.findtext(name, "").strip()) for row in rows])


def _other_bands(path: Path, bands: int, described: int) -> SceneError:
    return SceneError(f"{path}: {bands} bands, and its metadata file describes {described}. Are both of one product?")


def _enmap(path: Path, root: ElementTree.Element, rows: list[ElementTree.Element], raster: dict) -> dict[str, Any]:
    """Bands by rising wavelength; where the two instruments overlap, SWIR is kept. VNIR or SWIR of L1B by itself, too."""
    numbers = np.array([int(row.get("number", place + 1)) for place, row in enumerate(rows)])
    listed = {arm: root.findtext(f".//{arm}ProductQuality/expectedChannelsList") or "" for arm in ("vnir", "swir")}
    arms = {arm: {int(number) for number in re.findall(r"\d+", words)} for arm, words in listed.items()}
    height, width, bands = raster["shape"]
    grid, notes = raster["grid"], list(raster.get("notes", ()))
    if bands != len(rows):  # L1B has one raster an instrument
        arm = next((arm for arm in arms if len(arms[arm]) == bands and arm.upper() in path.name.upper()), None)
        if arm is None:
            raise _other_bands(path, bands, len(rows))
        rows = [row for row, number in zip(rows, numbers, strict=True) if number in arms[arm]]
        grid, numbers = None, np.array(sorted(arms[arm]))
        notes.append("L1B is on the sensor's grid; the raster's own corners are a rough fit and are not used")
    centres, gains = _column(rows, "wavelengthCenterOfBand"), _column(rows, "GainOfBand")
    vnir, swir = (np.isin(numbers, list(channels)) for channels in arms.values())
    order = rising(centres, vnir, swir)
    if lost := len(centres) - len(order):
        notes.append(f"{lost} VNIR bands that overlap with SWIR are left out")
    filled = None
    if (statistics := next(root.iter("bandStatistics"), None)) is not None:
        empty = {
            int(row.get("number", 0))
            for row in statistics.findall("bandID")
            if float(row.findtext("stdDeviation", "1")) == 0 and float(row.findtext("mean", "0")) == _EMPTY_MEAN
        }
        filled = ~np.isin(numbers, list(empty))[order]
    reflectance = bool(np.allclose(gains, 1e-4))
    declared = raster.get("declared_nodata", (-32768.0,) if reflectance else (0.0,))
    return {
        "grid": grid,
        "shape": (height, width, len(order)),
        "numbers": raster["numbers"][order],
        "wavelengths": centres[order],
        "fwhm": _column(rows, "FWHMOfBand")[order],
        "good": filled,
        "good_source": "" if filled is None else "bandStatistics of the metadata file",
        "scale": gains[order],
        "offset": _column(rows, "OffsetOfBand")[order],
        "declared_nodata": declared,
        "missing_if": "all" if declared == (0.0,) else "any",
        "sensor": "EnMAP L2A" if reflectance else "EnMAP L1",
        "notes": tuple(notes),
    }


def open_hyperion(path: Path) -> Reader:
    """Open Hyperion L1T or L1Gst from one of its band files, or from their folder.

    Wavelengths are the sensor's nominal ones, 10.175 nm (VNIR) and 10.089 nm (SWIR) apart, right to about 0.2 nm.
    Bands 8-57 and 77-224 are calibrated. Radiance in W m-2 sr-1 um-1 is the stored number / 40 (VNIR) or / 80 (SWIR).

    Source: USGS's description of the EO-1 Hyperion products.
    """
    folder = path if path.is_dir() else path.parent
    named = {p: m for p in sorted(folder.iterdir()) if (m := _HYPERION.fullmatch(p.name))}
    if own := _HYPERION.fullmatch(path.name):
        named = {p: m for p, m in named.items() if (m[1], m[3]) == (own[1], own[3])}
    scenes = {m[1] for m in named.values()}
    if len(scenes) != 1:
        raise SceneError(
            f"{folder}: {len(scenes)} Hyperion scenes (EO1H..._B001_L1T.TIF); expected one. Name a band file."
        )
    files = {int(m[2]): p for p, m in named.items()}
    bands = np.array(sorted(files))
    if bands[0] < 1 or bands[-1] > 242:
        raise SceneError(f"{files[bands[-1]]}: band {bands[-1]}; Hyperion has bands 1 to 242. Remove the file.")
    rasters = [_raster(files[band]) for band in bands]
    alike = {key: rasters[0][key] for key in ("stored", "native_chunks", "grid")}
    height, width, _ = rasters[0]["shape"]
    for raster in rasters:
        if raster["shape"] != (height, width, 1) or any(raster[key] != alike[key] for key in alike):
            raise SceneError(
                f"{raster['path']}: its size, type or place differs from that of {rasters[0]['path'].name}."
            )
    vnir = bands <= 70
    centres = np.where(
        vnir,
        np.linspace(355.59, 1057.68, 70)[np.minimum(bands, 70) - 1],
        851.92 + (bands - 71) * (2577.08 - 851.92) / 171,
    )
    return RasterReader(
        path=path,
        data=tuple(files[band] for band in bands),
        shape=(height, width, len(bands)),
        wavelengths=centres,
        good=within(bands, [(8, 57), (77, 224)]),
        good_source="the sensor's calibrated bands, 8-57 and 77-224",
        scale=np.where(vnir, 1 / 40, 1 / 80),
        declared_nodata=(0.0,),
        missing_if="all",
        sensor="Hyperion L1T",
        notes=("wavelengths are the sensor's nominal ones",),
        **alike,
    )
