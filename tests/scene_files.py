"""Writes small files of each scene format, as the formats' own descriptions say, and what a reader must find in them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.crs import CRS
from spectral.io import envi

HEIGHT, WIDTH = 12, 10
UTM = "EPSG:32633"
MISSING = (slice(2, 4), slice(7, 9))  # four pixels without data


@dataclass
class Written:
    """A file and the truth about it.

    Attributes:
        path: What to open.
        cube: ``(H, W, B)`` physical values, by rising wavelength where the product's bands are not in order.
        wavelengths: ``(B,)`` nm.
        fwhm: ``(B,)`` nm, or None.
        good: ``(B,)`` bool, or None.
        corner: Map x, y of the outer upper left corner, or None.
        centre: Map x, y of the centre of pixel (0, 0), or None.
    """

    path: Path
    cube: np.ndarray
    wavelengths: np.ndarray | None
    fwhm: np.ndarray | None = None
    good: np.ndarray | None = None
    corner: tuple[float, float] | None = None
    centre: tuple[float, float] | None = None


def values(bands: int, seed: int = 0) -> np.ndarray:
    """Plausible reflectance."""
    rng = np.random.default_rng(seed)
    return (0.2 + 0.1 * rng.random((HEIGHT, WIDTH, bands)) + 0.01 * np.arange(bands)).astype(np.float32)


def with_missing(cube: np.ndarray, value: float) -> np.ndarray:
    cube = cube.copy()
    cube[MISSING] = value
    return cube


def write_envi(
    folder: Path, cube: np.ndarray, name: str = "scene", interleave: str = "bil", byteorder: int = 0, **metadata: object
) -> Path:
    """An ENVI file; keywords are header entries with blanks as underscores."""
    path = folder / f"{name}.hdr"
    entries = {key.replace("_", " "): value for key, value in metadata.items()}
    options = {"dtype": cube.dtype, "interleave": interleave, "byteorder": byteorder, "ext": ".img", "force": True}
    envi.save_image(str(path), cube, metadata=entries, **options)
    return path


def envi_file(folder: Path) -> Written:
    cube, centres = with_missing(values(6), -9999), np.linspace(0.45, 0.95, 6)
    info = "UTM, 1.0, 1.0, 500000.0, 4000000.0, 5.0, 5.0, 33, North, WGS-84, units=Meters, rotation=-29.0"
    path = write_envi(
        folder,
        cube,
        wavelength=[f"{c:.6f}" for c in centres],
        wavelength_units="Micrometers",
        fwhm=[0.006] * 6,
        bbl=["1.0", "1.0", "0.0", "1.0", "1.0", "0.0"],
        data_ignore_value=-9999,
        map_info=info.split(", "),
    )
    across, down = 2.5 * np.cos(np.radians(-29)), 2.5 * np.sin(np.radians(-29))
    centre = (500000 + across + down, 4000000 + down - across)
    good = np.array([True, True, False, True, True, False])
    return Written(path, cube, centres * 1000, np.full(6, 6.0), good, (500000.0, 4000000.0), centre)


def write_tiff(
    path: Path, stored: np.ndarray, transform: Affine | None = None, crs: str | None = UTM, **options
) -> Path:
    """A GeoTIFF of ``(H, W, B)``."""
    driver = options.pop("driver", "GTiff")
    transform = Affine(30, 0, 500000, 0, -30, 4000000) if transform is None else transform
    height, width, bands = stored.shape
    with rasterio.open(
        path, "w", driver=driver, height=height, width=width, count=bands, dtype=stored.dtype, crs=crs,
        transform=transform, **options,
    ) as target:  # fmt: skip
        target.write(np.moveaxis(stored, 2, 0))
    return path


def geotiff_file(folder: Path) -> Written:
    cube, centres = with_missing(values(5), -1), np.array([450.5, 500.25, 600, 700, 800])
    transform = Affine.translation(500000, 4000000) @ Affine.rotation(20) @ Affine.scale(10, -10)
    path = write_tiff(folder / "scene.tif", cube, transform, nodata=-1)
    with rasterio.open(path, "r+") as target:
        for band, centre in enumerate(centres, start=1):
            target.update_tags(
                band, Wavelength=str(centre), Wavelength_Units="Nanometers", FWHM="10", bbl=str(int(band != 2))
            )
    good = np.array([True, False, True, True, True])
    return Written(path, cube, centres, np.full(5, 10.0), good, (500000.0, 4000000.0), transform @ (0.5, 0.5))


def emit_file(folder: Path, level: str = "L2A_RFL", stem: str = "001_20220827T091626_2223906_007") -> Written:
    """EMIT: rows, columns, bands; GLT counted from 1, with an empty cell and one filled from a neighbour."""
    bands = 8
    cube, centres = values(bands), np.array([400.0, 800, 1300, 1350, 1400, 1500, 1800, 2200])
    good = np.array([True, True, True, False, False, True, False, True])
    cube[:, :, ~good] = -0.01  # finite, and not a measurement
    cube = with_missing(cube, -9999)
    path = folder / f"EMIT_{level}_{stem}.nc"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("reflectance" if "RFL" in level else "radiance", data=cube)
        data.attrs["_FillValue"] = np.array([-9999.0], np.float32)
        parameters = file.create_group("sensor_band_parameters")
        parameters["wavelengths"], parameters["fwhm"] = centres.astype("f4"), np.full(bands, 8.5, "f4")
        if "RFL" in level:
            parameters["good_wavelengths"] = good.astype("f4")
        location = file.create_group("location")
        glt_y, glt_x = np.mgrid[1 : HEIGHT + 1, 1 : WIDTH + 1]
        glt_x, glt_y = (np.pad(table, ((0, 1), (1, 0))) for table in (glt_x, glt_y))  # one row below, one column left
        glt_x[HEIGHT, 1], glt_y[HEIGHT, 1] = -1, -HEIGHT  # filled from a neighbour
        location["glt_x"], location["glt_y"] = glt_x.astype("i4"), glt_y.astype("i4")
        location["lat"], location["lon"] = np.full((HEIGHT, WIDTH), 40.0), np.full((HEIGHT, WIDTH), 15.0)
        file.attrs["geotransform"] = np.array([15.0, 0.0005, 0, 40.0, 0, -0.0005])
        file.attrs["spatial_ref"] = np.bytes_(CRS.from_epsg(4326).to_wkt())
    return Written(path, cube, centres, np.full(bands, 8.5), good if "RFL" in level else None, (15.0, 40.0))


def emit_mask_file(folder: Path, stem: str = "002_20220827T091626_2223906_007") -> Path:
    flags = ["Cloud flag", "Cirrus flag", "Water flag", "Spacecraft Flag", "Dilated Cloud Flag"]
    names = [*flags, "AOD550", "H2O (g cm-2)", "Aggregate Flag"]
    mask = np.zeros((HEIGHT, WIDTH, 8), np.float32)
    mask[1, 2, 0] = mask[1, 2, 7] = 1
    path = folder / f"EMIT_L2A_MASK_{stem}.nc"
    with h5py.File(path, "w") as file:
        file["mask"] = mask
        file.create_dataset("sensor_band_parameters/mask_bands", data=names, dtype=h5py.string_dtype())
        file.create_group("location")
    return path


def prisma_file(folder: Path, level: str = "L2D") -> Written:
    """PRISMA: (row, band, column), falling wavelengths, 0 for bands not acquired, two arms that overlap."""
    vnir, swir = np.array([960.0, 900, 600, 0]), np.array([2000.0, 1500, 950, 0])
    stored = np.random.default_rng(0).integers(1000, 60000, (HEIGHT, WIDTH, 8)).astype(np.uint16)
    stored[MISSING] = 0
    if level == "L1":
        stored[5, 5, 2] = 0  # a single 0 is a measurement
    path = folder / f"PRS_{level}.he5"
    swath = f"HDFEOS/SWATHS/PRS_{level}_HCO/"
    arms = {"Vnir": (vnir, stored[:, :, :4]), "Swir": (swir, stored[:, :, 4:])}
    with h5py.File(path, "w") as file:
        for arm, (centres, part) in arms.items():
            file[f"{swath}Data Fields/{arm.upper()}_Cube"] = part.transpose(0, 2, 1)
            file.attrs[f"List_Cw_{arm}"] = centres.astype("f4")
            file.attrs[f"List_Fwhm_{arm}"] = np.full(4, 11.0, "f4")
            file.attrs[f"List_Cw_{arm}_Flags"] = (centres > 0).astype("i4")
            if level == "L1":
                file.attrs[f"ScaleFactor_{arm}"], file.attrs[f"Offset_{arm}"] = np.float32(100), np.float32(2)
            else:
                file.attrs[f"L2Scale{arm}Min"], file.attrs[f"L2Scale{arm}Max"] = np.float32(0.01), np.float32(1.01)
        if level == "L2D":
            file.attrs["Epsg_Code"] = 32633
            file.attrs["Product_ULcorner_easting"], file.attrs["Product_ULcorner_northing"] = 500015.0, 3999985.0
            file.attrs["Product_LRcorner_easting"] = 500015.0 + 30 * (WIDTH - 1)
            file.attrs["Product_LRcorner_northing"] = 3999985.0 - 30 * (HEIGHT - 1)
        else:
            ending = "_VNIR" if level == "L1" else ""
            file[f"{swath}Geolocation Fields/Latitude{ending}"] = np.full((HEIGHT, WIDTH), 40.0, "f4")
            file[f"{swath}Geolocation Fields/Longitude{ending}"] = np.full((HEIGHT, WIDTH), 15.0, "f4")
    picked = stored[:, :, [2, 1, 6, 5, 4]].astype(np.float64)  # 600, 900, 950 (SWIR), 1500, 2000
    cube = picked / 100 - 2 if level == "L1" else 0.01 + picked / 65535
    cube[MISSING] = np.nan
    places = {"corner": (500000.0, 4000000.0), "centre": (500015.0, 3999985.0)} if level == "L2D" else {}
    return Written(path, cube, np.array([600.0, 900, 950, 1500, 2000]), np.full(5, 11.0), **places)


_ENMAP_BANDS = [  # number, centre, instrument; not in the order of wavelength where the two overlap
    (1, 500.0, "vnir"), (2, 900.0, "vnir"), (3, 960.0, "vnir"), (4, 950.0, "swir"), (5, 1400.0, "swir"), (6, 2200.0, "swir"),
]  # fmt: skip


def enmap_xml(gains: list[float], empty: int | None = None) -> str:
    bands = "".join(
        f'<bandID number="{n}"><wavelengthCenterOfBand>{c}</wavelengthCenterOfBand><FWHMOfBand>7.5</FWHMOfBand>'
        f"<GainOfBand>{g}</GainOfBand><OffsetOfBand>0.001</OffsetOfBand></bandID>"
        for (n, c, _), g in zip(_ENMAP_BANDS, gains, strict=True)
    )
    statistics = "".join(
        f'<bandID number="{n}"><mean>{-1000000 if n == empty else 5}</mean>'
        f"<stdDeviation>{0 if n == empty else 1}</stdDeviation></bandID>"
        for n, _, _ in _ENMAP_BANDS
    )
    lists = "".join(
        f"<{arm}ProductQuality><expectedChannelsList>{','.join(str(n) for n, _, a in _ENMAP_BANDS if a == arm)}"
        f"</expectedChannelsList></{arm}ProductQuality>"
        for arm in ("vnir", "swir")
    )
    return (
        f"<level_X xmlns='urn:x'><product><bandStatistics>{statistics}</bandStatistics></product>"
        f"<specific>{lists}<bandCharacterisation>{bands}</bandCharacterisation></specific></level_X>"
    )


def enmap_file(folder: Path, level: str = "L2A", ending: str = ".TIF", zipped: bool = False) -> Written:
    """EnMAP: gains in XML, VNIR 3 (960 nm) overlaps SWIR 4 (950 nm), band 5 is empty."""
    stored = np.random.default_rng(1).integers(100, 9000, (HEIGHT, WIDTH, 6)).astype(np.int16)
    nodata = -32768 if level == "L2A" else 0
    stored[MISSING] = nodata
    if level != "L2A":
        stored[6, 6, 1] = 0  # a single 0 is a measurement
    gains = [1e-4] * 6 if level == "L2A" else [1e-2 * (n + 1) for n in range(6)]
    name = f"ENMAP01-____{level}-DT000_20230707T192008Z"
    options = {"driver": "ENVI", "INTERLEAVE": "BSQ"} if ending == ".BSQ" else {}
    image = folder / f"{name}-SPECTRAL_IMAGE{ending}"
    if ending == ".JP2":
        plain = write_tiff(folder / "plain.tif", stored)
        rasterio.shutil.copy(plain, image, driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
        plain.unlink()
    else:
        write_tiff(image, stored, **options)
    xml = folder / f"{name}-METADATA.XML"
    xml.write_text(enmap_xml(gains, empty=5))
    path = image
    if zipped:
        path = folder / "download.ZIP"
        with zipfile.ZipFile(path, "w") as archive:
            for one in (image, xml):
                archive.write(one, f"{name}/{one.name}")
                one.unlink()
    order = [0, 1, 3, 4, 5]
    cube = stored[:, :, order] * np.array(gains)[order] + 0.001
    cube[MISSING] = np.nan
    centres = np.array([500.0, 900, 950, 1400, 2200])
    good = np.array([True, True, True, False, True])
    return Written(path, cube, centres, np.full(5, 7.5), good, (500000.0, 4000000.0), (500015.0, 3999985.0))


def desis_file(folder: Path) -> Written:
    """DESIS: <band> stands under two parents."""
    stored = np.random.default_rng(2).integers(100, 9000, (HEIGHT, WIDTH, 4)).astype(np.int16)
    stored[MISSING] = -32768
    path = write_tiff(folder / "DESIS-HSI-L2A-DT1-SPECTRAL_IMAGE.tif", stored)
    bands = "".join(
        f"<band><bandNumber>{n + 1}</bandNumber><wavelengthCenterOfBand>{400 + 100 * n}</wavelengthCenterOfBand>"
        f"<wavelengthWidthOfBand>3.5</wavelengthWidthOfBand><gainOfBand>0.0001</gainOfBand><offsetOfBand>0</offsetOfBand></band>"
        for n in range(4)
    )
    interior = "".join(f"<band><bandNumber>{n + 1}</bandNumber></band>" for n in range(4))
    (folder / "DESIS-HSI-L2A-DT1-METADATA.xml").write_text(
        f"<hsi_doc><specific><interiorOrientation>{interior}</interiorOrientation>"
        f"<bandCharacterisation>{bands}</bandCharacterisation></specific></hsi_doc>"
    )
    (folder / "DESIS-HSI-L2A-DT1-SPECTRAL_IMAGE.hdr").write_text("ENVI\nsamples = 10\n")
    cube = stored * 1e-4
    cube[MISSING] = np.nan
    centres = np.array([400.0, 500, 600, 700])
    return Written(path, cube, centres, np.full(4, 3.5), None, (500000.0, 4000000.0), (500015.0, 3999985.0))


def aviris_file(folder: Path, unit: str = "units") -> Written:
    """AVIRIS-3 or -5: a group named as its variable, (band, row, column), a GeoTransform in one string."""
    cube, centres = with_missing(values(7), -9999), np.linspace(400, 2400, 7)
    path = folder / "AV320230926t201618_000_L2A_RFL_ORT.nc"
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "reflectance/reflectance", data=cube.transpose(2, 0, 1), chunks=(3, 4, 5), compression="gzip"
        )
        data.attrs["_FillValue"] = np.float32(-9999)
        file["reflectance/wavelength"], file["reflectance/fwhm"] = centres, np.full(7, 7.4)
        file["reflectance/wavelength"].attrs[unit] = np.bytes_("nanometers")
        projection = file.create_dataset("transverse_mercator", data=np.bytes_(b""))
        projection.attrs["spatial_ref"] = np.bytes_(CRS.from_string(UTM).to_wkt())
        # netCDF writes text of fixed length, h5py text of variable length: both occur
        place = "500000 20 0 4000000 0 -20"
        projection.attrs["GeoTransform"] = np.bytes_(place) if unit == "units" else place
    return Written(path, cube, centres, np.full(7, 7.4), None, (500000.0, 4000000.0), (500010.0, 3999990.0))


def aviris_swath_file(folder: Path) -> Written:
    """AVIRIS-5 L1B: radiance on the sensor's grid, with a lookup table."""
    cube, centres = with_missing(values(7), -9999), np.linspace(400, 2400, 7)
    path = folder / "AV520250603t170000_000_L1B_RDN.nc"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("radiance/radiance", data=cube.transpose(2, 0, 1), chunks=(3, 4, 5))
        data.attrs["_FillValue"] = np.float32(-9999)
        file["radiance/wavelength"], file["radiance/fwhm"] = centres, np.full(7, 7.4)
        projection = file.create_dataset("projection", data=np.bytes_(b""))
        projection.attrs["crs_wkt"] = np.bytes_(CRS.from_string(UTM).to_wkt())
        projection.attrs["GeoTransform"] = np.bytes_("500000 20 0 4000000 0 -20")
        line, sample = np.mgrid[1 : HEIGHT + 1, 1 : WIDTH + 1]
        file["geolocation_lookup_table/line"] = line[::-1].astype("i4")
        file["geolocation_lookup_table/sample"] = -sample[:, ::-1].astype("i4")
    return Written(path, cube, centres, np.full(7, 7.4), None, (500000.0, 4000000.0))


def tanager_file(folder: Path, kind: str = "GRIDS") -> Written:
    """Tanager: (band, row, column); the corners are outer edges; bad bands hold -0.01."""
    good = np.array([True, True, False, True, True])
    cube = values(5)
    cube[:, :, ~good] = -0.01
    cube, centres = with_missing(cube, -9999), np.array([400.0, 900, 1400, 1700, 2200])
    name = "surface_reflectance"
    path = folder / "20240923_basic_sr_hdf5.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            f"HDFEOS/{kind}/HYP/Data Fields/{name}", data=cube.transpose(2, 0, 1), chunks=(2, 6, 5)
        )
        data.attrs["wavelengths"], data.attrs["fwhm"] = centres, np.full(5, 5.6)
        data.attrs["good_wavelengths"], data.attrs["_FillValue"] = good.astype("i1"), np.float32(-9999)
        if kind == "GRIDS":
            file["HDFEOS/GRIDS/HYP"].attrs["epsg_code"] = 32633
            right, bottom = 500000 + 30 * WIDTH, 4000000 - 30 * HEIGHT
            file["HDFEOS INFORMATION/StructMetadata.0"] = np.bytes_(
                f"GROUP=GridStructure\n\t\tUpperLeftPointMtrs=(500000.000000,4000000.000000)\n"
                f"\t\tLowerRightMtrs=({right:.6f},{bottom:.6f})\n"
            )
        else:
            file[f"HDFEOS/{kind}/HYP/Geolocation Fields/Latitude"] = np.full((HEIGHT, WIDTH), 40.0)
            file[f"HDFEOS/{kind}/HYP/Geolocation Fields/Longitude"] = np.full((HEIGHT, WIDTH), 15.0)
    places = {"corner": (500000.0, 4000000.0), "centre": (500015.0, 3999985.0)} if kind == "GRIDS" else {}
    return Written(path, cube, centres, np.full(5, 5.6), good, **places)


def neon_file(folder: Path) -> Written:
    """NEON: integers of scale 10000, two windows of bad bands, map info and EPSG code as strings."""
    stored = np.random.default_rng(3).integers(100, 9000, (HEIGHT, WIDTH, 6)).astype(np.int16)
    stored[MISSING] = -9999
    centres = np.array([500.0, 1300, 1400, 1600, 1850, 2200])
    path = folder / "NEON_D17_SJER_DP3_reflectance.h5"
    with h5py.File(path, "w") as file:
        base = file.create_group("SJER/Reflectance")
        data = base.create_dataset("Reflectance_Data", data=stored, chunks=(6, 5, 3), compression="gzip")
        data.attrs["Data_Ignore_Value"], data.attrs["Scale_Factor"] = -9999.0, 10000.0
        base.attrs["Band_Window_1_Nanometers"] = np.array([1340, 1445])
        base.attrs["Band_Window_2_Nanometers"] = np.array([1790, 1955])
        base["Metadata/Spectral_Data/Wavelength"], base["Metadata/Spectral_Data/FWHM"] = centres, np.full(6, 5.9)
        base["Metadata/Coordinate_System/Map_Info"] = np.bytes_(
            "UTM,  1.000,  1.000,       500000.000,      4000000.000,       1.000,  1.000, 33, North, WGS-84, units=Meters, 0"
        )
        base["Metadata/Coordinate_System/EPSG Code"] = np.bytes_("32633")
    cube = stored / 10000
    cube[MISSING] = np.nan
    good = np.array([True, True, False, True, False, True])
    return Written(path, cube, centres, np.full(6, 5.9), good, (500000.0, 4000000.0), (500000.5, 3999999.5))


def pace_l1b_file(folder: Path) -> Written:
    """PACE L1B: three detectors, (band, scan, pixel); blue and red overlap."""
    centres = {"blue": [400.0, 500, 600], "red": [600.0, 700], "SWIR": [940.0, 1250]}
    path, cube = folder / "PACE_OCI.20240601T120000.L1B.nc", with_missing(values(7), -32767)
    with h5py.File(path, "w") as file:
        first = 0
        for name, one in centres.items():
            part = cube[:, :, first : first + len(one)]
            data = file.create_dataset(f"observation_data/rhot_{name}", data=part.transpose(2, 0, 1))
            data.attrs["_FillValue"] = np.float32(-32767)
            file[f"sensor_band_parameters/{name}_wavelength"] = np.array(one, "f4")
            first += len(one)
        file["sensor_band_parameters/SWIR_bandpass"] = np.array([45.0, 30.0], "f4")
        file["geolocation_data/latitude"] = np.full((HEIGHT, WIDTH), 40.0, "f4")
        file["geolocation_data/longitude"] = np.full((HEIGHT, WIDTH), 15.0, "f4")
    order, widths = [0, 1, 3, 4, 5, 6], np.array([5.0, 5, 5, 5, 45, 30])
    return Written(path, cube[:, :, order], np.array([400.0, 500, 600, 700, 940, 1250]), widths)


def pace_l2_file(folder: Path) -> Written:
    path = folder / "PACE_OCI.20240601T120000.L2.nc"
    cube, centres = with_missing(values(5), -32767), np.linspace(400, 800, 5)
    with h5py.File(path, "w") as file:
        file.create_dataset("geophysical_data/rhos", data=cube).attrs["_FillValue"] = np.float32(-32767)
        file["geophysical_data/l2_flags"] = np.zeros((HEIGHT, WIDTH), "i4")
        file["sensor_band_parameters/wavelength_3d"] = centres
        file["navigation_data/latitude"] = np.full((HEIGHT, WIDTH), 40.0, "f4")
        file["navigation_data/longitude"] = np.full((HEIGHT, WIDTH), 15.0, "f4")
    return Written(path, cube, centres)


def classic_file(folder: Path) -> Written:
    """AVIRIS-Classic radiance: big-endian int16, undeclared -50, divisors in .gain, wavelengths in .spc that step back."""
    stored = np.random.default_rng(4).integers(100, 9000, (HEIGHT, WIDTH, 6)).astype(np.int16)
    stored[MISSING] = -50
    centres, gains = np.array([400.0, 670, 655, 1250, 1240, 2400]), np.array([300.0, 300, 600, 600, 1200, 1200])
    path = write_envi(folder, stored, "f970619t01p02_r02_sc01_ort_img", interleave="bip", byteorder=1)
    np.savetxt(folder / "f970619t01p02_r02.spc", np.column_stack([centres, np.full(6, 9.8)]))
    np.savetxt(folder / "f970619t01p02_r02.gain", np.column_stack([gains, np.arange(6)]))
    cube = stored / gains
    cube[MISSING] = np.nan
    return Written(path, cube, centres, np.full(6, 9.8))


def hyperion_file(folder: Path) -> Written:
    """Hyperion L1T: one file a band; DN / 40 (VNIR) or / 80 (SWIR); 0 outside."""
    numbers = [7, 8, 70, 71, 77, 242]
    stored = np.random.default_rng(5).integers(100, 9000, (HEIGHT, WIDTH, 6)).astype(np.int16)
    stored[MISSING] = 0
    stored[5, 5, 3] = 0  # a single 0 is a measurement
    for place, number in enumerate(numbers):
        write_tiff(folder / f"EO1H0440342012141110KF_B{number:03d}_L1T.TIF", stored[:, :, place : place + 1])
    cube = stored / np.array([40, 40, 40, 80, 80, 80])
    cube[MISSING] = np.nan
    centres = np.array([416.64, 426.82, 1057.68, 851.92, 912.45, 2577.08])
    good = np.array([False, True, False, False, True, False])
    path = folder / "EO1H0440342012141110KF_B008_L1T.TIF"
    return Written(path, cube, centres, None, good, (500000.0, 4000000.0), (500015.0, 3999985.0))


PRODUCTS = {
    "envi": envi_file,
    "geotiff": geotiff_file,
    "emit-l2a": emit_file,
    "emit-l1b": lambda folder: emit_file(folder, "L1B_RAD"),
    "enmap-l2a": enmap_file,
    "enmap-l1c": lambda folder: enmap_file(folder, "L1C"),
    "enmap-cog": lambda folder: enmap_file(folder, ending="_COG.TIF"),
    "enmap-jp2": lambda folder: enmap_file(folder, ending=".JP2"),
    "enmap-bsq": lambda folder: enmap_file(folder, ending=".BSQ"),
    "enmap-zip": lambda folder: enmap_file(folder, zipped=True),
    "prisma-l1": lambda folder: prisma_file(folder, "L1"),
    "prisma-l2b": lambda folder: prisma_file(folder, "L2B"),
    "prisma-l2c": lambda folder: prisma_file(folder, "L2C"),
    "prisma-l2d": prisma_file,
    "aviris-netcdf": aviris_file,
    "aviris-netcdf-unit": lambda folder: aviris_file(folder, "unit"),
    "aviris-netcdf-swath": aviris_swath_file,
    "desis": desis_file,
    "tanager-ortho": tanager_file,
    "tanager-basic": lambda folder: tanager_file(folder, "SWATHS"),
    "neon": neon_file,
    "pace-l1b": pace_l1b_file,
    "pace-l2": pace_l2_file,
    "aviris-classic": classic_file,
    "hyperion": hyperion_file,
}
