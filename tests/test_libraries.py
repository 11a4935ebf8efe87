"""Spectral libraries of each kind, written as their descriptions say, and the way to a sensor's bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from spectral.io import envi

from fers.scenes.libraries import read_library
from fers.scenes.scene import SceneError

X = np.linspace(400, 2400, 401)
Y = 0.3 + 0.2 * np.sin(X / 150)
GOLDEN = Path(__file__).resolve().parent.parent.parent / "shared" / "golden" / "follow_up.npz"


def sli(folder: Path, unit: str = "Micrometers", factor: float = 1.0) -> Path:
    spectra = np.stack([Y, Y / 2]).astype(np.float32) * np.float32(factor)
    spectra[1, 7] = -1.23e34
    x = X / 1000 if unit == "Micrometers" else X
    header = {"wavelength": list(x), "wavelength units": unit, "spectra names": ["roof, red", "grass"]}
    header["reflectance scale factor"] = factor
    header["spectra names"] = ["red roof", "grass"]
    envi.SpectralLibrary(spectra, header).save(str(folder / "minerals"))
    return folder / "minerals.sli"


@pytest.mark.parametrize("unit", ["Micrometers", "Nanometers"])
def test_an_envi_library_has_names_and_deleted_channels(tmp_path, unit):
    path = sli(tmp_path, unit, 10000.0 if unit == "Nanometers" else 1.0)
    for given in (path, path.with_suffix(".hdr")):
        library = read_library(given)
        assert library.names == ("red roof", "grass")
        np.testing.assert_allclose(library.wavelengths, X, rtol=1e-6)
        np.testing.assert_allclose(library.spectra[0], Y, rtol=1e-5)
        assert np.flatnonzero(np.isnan(library.spectra[1])).tolist() == [7]


def usgs(folder: Path, kind: str = "AREF", wavelengths: bool = True) -> Path:
    path = folder / "splib07a_Roof_ASDFRa_AREF.txt"
    values = [*Y[:-1], -1.23e34]
    path.write_text(f" splib07a Record=97: Red roof tile #3 ASDFRa {kind}\n" + "\n".join(f" {v:.7e}" for v in values))
    if wavelengths:
        names = (
            "splib07a_Wavelengths_ASD_0.35-2.5_microns_2151_ch.txt",
            "splib07a_Bandpass_(FWHM)_ASDFR_StandardResolution.txt",
        )
        for name, column in zip(names, (X / 1000, np.full(401, 0.008)), strict=True):
            (folder / name).write_text(" splib07a Record=1: header\n" + "\n".join(f" {v:.7e}" for v in column))
    return path


def test_a_usgs_spectrum_takes_wavelengths_and_widths_from_the_files_beside_it(tmp_path):
    library = read_library(usgs(tmp_path))
    assert library.names == ("Red roof tile #3",)
    np.testing.assert_allclose(library.wavelengths, X, rtol=1e-6)
    np.testing.assert_allclose(library.fwhm, 8)
    np.testing.assert_allclose(library.spectra[0, :-1], Y[:-1], rtol=1e-6)
    assert np.isnan(library.spectra[0, -1])


def ecostress(folder: Path) -> Path:
    path = folder / "roof.spectrum.txt"
    rows = [f"{x / 1000:.4f}\t{100 * y:.6f}" for x, y in zip(X[::-1], Y[::-1], strict=True)]
    rows.insert(20, "1.0")  # as some files have
    path.write_bytes(
        "Name: Dächer\nType: manmade\nX Units: Wavelength (micrometers)\nY Units: Reflectance (percent)\n\n".encode(
            "latin-1"
        )
        + "\n".join(rows).encode()
    )
    return path


def test_an_ecostress_spectrum_is_sorted_and_no_longer_in_per_cent(tmp_path):
    library = read_library(ecostress(tmp_path))
    np.testing.assert_allclose(library.wavelengths, X)
    np.testing.assert_allclose(library.spectra[0], Y, rtol=1e-5)
    assert library.names == ("Dächer",) and library.unit == "reflectance"


@pytest.mark.parametrize(
    ("head", "factor", "names"),
    [("", 1, ("roof",)), ("wavelength,tile,FWHM\n", 1, ("tile",)), ("Wavelength (um);tile;FWHM\n", 1000, ("tile",))],
)
def test_a_table_may_have_names_and_widths(tmp_path, head, factor, names):
    separator = ";" if ";" in head else ","
    rows = [separator.join(map(repr, map(float, (x / factor, y, 5 / factor)))) for x, y in zip(X, Y, strict=True)]
    (tmp_path / "roof.csv").write_text(head + "\n".join(rows))
    library = read_library(tmp_path / "roof.csv")
    assert library.names == names
    np.testing.assert_allclose(library.wavelengths, X)
    np.testing.assert_allclose(library.fwhm, 5)
    np.testing.assert_allclose(library.spectra, Y[None])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda folder: folder / "nowhere.sli", "no such file"),
        (lambda folder: usgs(folder, "RREF"), "Give the AREF file"),
        (lambda folder: usgs(folder, wavelengths=False), "Put it in this folder"),
        (lambda folder: text(folder, "some words\nand more"), "columns of wavelength and value"),
        (lambda folder: text(folder, "400,1\n400,2\n500,3"), "different from each other"),
        (lambda folder: text(folder, "400,1,2,3\n500,2,3,4"), "Name them"),
        (lambda folder: text(folder, "Name: a\n\nnothing"), "no two columns"),
    ],
)
def test_what_is_no_library_is_refused_with_the_remedy(tmp_path, write, message):
    with pytest.raises(SceneError, match=message):
        read_library(write(tmp_path))


def text(folder: Path, content: str) -> Path:
    (folder / "a.csv").write_text(content)
    return folder / "a.csv"


def test_a_spectrum_is_chosen_by_its_name(tmp_path):
    library = read_library(sli(tmp_path))
    assert library.only("grass").names == library.only("GRA").names == ("grass",)
    with pytest.raises(SceneError, match="Did you mean grass"):
        library.only("grasz")


def test_resampling_weighs_channels_by_a_gaussian_and_extrapolates_nothing(tmp_path):
    library = read_library(sli(tmp_path))
    centres, widths = np.array([900.0, 500.0, 435.0, 2600.0]), np.array([30.0, 30.0, 20.0, 20.0])
    out = library.resampled(centres, widths)
    plain = []
    for centre, width in zip(centres[:2], widths[:2], strict=True):
        inside = np.abs(X - centre) <= width / 2 + 2.5
        fine = np.linspace(centre - width / 2, centre + width / 2, 20001)
        weight = np.exp(-0.5 * ((fine - centre) / (width / 2.35482)) ** 2)
        nearest = np.abs(fine[:, None] - X[inside][None]).argmin(axis=1)
        plain.append((weight * Y[inside][nearest]).sum() / weight.sum())
    np.testing.assert_allclose(out[0, :2], plain, rtol=1e-3)
    assert np.isnan(out[0, 3]) and np.isnan(out[1, 2]) and np.isfinite(out[0, 2])  # channel 7 is at 435 nm
    np.testing.assert_array_equal(library.resampled(X[::-1])[0], library.spectra[0][::-1])


@pytest.mark.skipif(not GOLDEN.is_file(), reason="../shared/golden/follow_up.npz is not here")
def test_resampling_is_that_of_spectral_python():
    golden = np.load(GOLDEN)
    from fers.scenes.libraries import Library

    library = Library(
        Path("golden"), ("a",), golden["library_centers"], golden["library_spectrum"][None], golden["library_fwhm"]
    )
    out = library.resampled(golden["sensor_centers"], golden["sensor_fwhm"])[0]
    np.testing.assert_allclose(out, golden["resampled"], rtol=1e-12)
