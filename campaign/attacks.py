"""Attacks on detect.py beyond damaged bytes: files that lead elsewhere, that change, that are hot, and odd names."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
from pathlib import Path
from unittest import mock

import numpy as np

from campaign import commands
from campaign.child import NONSENSE
from fers.evaluation.metrics import auc
from fers.scenes.readers import open_scene
from fers.scenes.readers.base import Reader

ODD_NAMES = ("a$\\frac{$b", "$", "\\", "a\nb", "\udcff\udcfe", "é" * 120, "x" * 246, "%s", "<b>", "-x", " ", "a'b\"", "_", "{0}", "=1+1", "GTIFF_DIR:1:b", "a?b#c")  # fmt: skip
EXPECTED = "expected.json"  # results of an undisturbed run


def odd_name(rng: random.Random) -> str:
    """Draw a name that a file can have."""
    drawn = "".join(rng.choices("$\\{}^_%ab\udc80é =,:;", k=rng.randint(1, 60)))
    return rng.choice((*ODD_NAMES, drawn))


def sound_products(folder: Path) -> str:
    """Check what detect.py wrote: JSON is JSON, places are on the Earth, no cell of a table is a formula."""
    for path in (folder / "out").rglob("*"):
        if path.suffix in (".json", ".geojson"):
            content = json.loads(path.read_text(), parse_constant=lambda word: word)
            found = [v for v in walked(content) if v in ("NaN", "Infinity", "-Infinity")]
            if found:
                return f"{path.name} holds {found[0]}"
            for feature in content.get("features", ()):
                latitude = feature["properties"].get("latitude")
                if latitude is not None and not -90 <= latitude <= 90:
                    return f"latitude {latitude}"
        elif path.suffix == ".csv":
            with path.open(newline="") as file:
                if formula := next((cell for row in csv.reader(file) for cell in row if cell[:1] in ("=", "@")), None):
                    return f"{path.name} has the cell {formula}"
    return ""


def walked(content: object) -> list:
    """List the values in JSON that are no tables."""
    if isinstance(content, dict | list):
        return [v for inner in (content.values() if isinstance(content, dict) else content) for v in walked(inner)]
    return [content]


# ----- files that lead elsewhere


def _virtual(secret: Path) -> tuple[str, ...]:
    band = '<VRTRasterBand dataType="Byte" band="1"'
    place = f'<VRTDataset rasterXSize="40" rasterYSize="40">{band}'
    return (
        f'{place} subClass="VRTRawRasterBand"><SourceFilename>{secret}</SourceFilename></VRTRasterBand></VRTDataset>',
        f"{place}><SimpleSource><SourceFilename>/vsicurl/http://127.0.0.1:9/a.tif</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>",
        '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/${z}</ServerUrl></Service></GDAL_WMS>',
        f'<OGRVRTDataSource>{"".ljust(51)}GP10<OGRVRTLayer name="a"><SrcDataSource>{secret}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>',
        '<WCS_GDAL><ServiceURL>http://127.0.0.1:9/wcs?</ServiceURL><CoverageName>a</CoverageName></WCS_GDAL>',
        f"STACIT:\"{secret}\"",
    )  # fmt: skip


def leading_elsewhere(folder: Path, rng: random.Random) -> int:
    """Give detect.py a virtual raster, a service or another name of GDAL's, where a file is expected: it must refuse."""
    (folder / "secret.txt").write_text("7" * 1600)
    option = rng.choice(("", "--left_out", "--not", "--glt", "--wavelengths", "--background", "--library"))
    if rng.random() < 0.8:
        given = (
            folder
            / f"a{rng.choice(('.tif', '.img', '.bsq', '.vrt', '.xml', '.png', '.jp2', '.gpkg', '.shp', '.json', '.nc', ''))}"
        )
        given.write_text(rng.choice(_virtual(folder / "secret.txt")))
    else:
        secret = folder / "secret.txt"
        prefixes = (f"/vsicurl/http://127.0.0.1:9{secret}", f"/vsizip/{secret}", f"GTIFF_RAW:{secret}", f"PNG:{secret}", f"http://127.0.0.1:9{secret}", f"NETCDF:{secret}:a", f"vrt://{secret}")  # fmt: skip
        given = Path(rng.choice(prefixes))
    code = commands.detect(folder, option, str(given)) if option else commands.detect(folder, scene=given)
    print(f"\n{folder}: {option} {given}")
    return code or NONSENSE


# ----- files that change


def write_changing(folder: Path) -> None:
    """Write a scene and another of its size, and what an undisturbed run over each gives."""
    found = {}
    for seed, name in ((1, "other"), (0, "in")):
        commands.write_scene(folder, "img", seed=seed)
        assert commands.detect(folder) == 0
        found[name] = _score(folder)
        shutil.rmtree(folder / "out")
        if name == "other":
            (folder / "in" / "scene.img").rename(folder / "other.img")
    (folder / EXPECTED).write_text(json.dumps(found))


def _score(folder: Path) -> str:
    return str(open_scene(folder / "out" / "scene" / "score.tif").read().tobytes().hex()[:200_000:97])


def changing(folder: Path, rng: random.Random) -> int:
    """Replace the scene at some read of a run, or stop the run there and replace it: no map may mix both."""
    expected, scene = json.loads((folder / EXPECTED).read_text()), folder / "in" / "scene.img"
    turn, stop, rename = rng.randrange(1, 9), rng.random() < 0.5, rng.random() < 0.5
    reads, read = [0], Reader.read

    def replace_scene() -> None:
        times = scene.stat()
        if rename:
            shutil.copy(folder / "other.img", folder / "new")
            os.utime(folder / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
            (folder / "new").replace(scene)
        else:
            scene.write_bytes((folder / "other.img").read_bytes())
            os.utime(scene, ns=(times.st_atime_ns, times.st_mtime_ns))

    def watched(*given, **named):
        reads[0] += 1
        if reads[0] == turn and stop:
            raise KeyboardInterrupt
        if reads[0] == turn:
            replace_scene()
        return read(*given, **named)

    with mock.patch.object(Reader, "read", watched):
        code = commands.detect(folder)
    if code == 0 and _score(folder) not in expected.values():
        print(f"{folder}: a mixture at read {turn}")
        return NONSENSE
    if stop or reads[0] < turn:
        replace_scene()
    if code := commands.detect(folder):
        return code
    print(f"{folder}: replaced at read {turn} of {reads[0]}, stopped {stop}, renamed {rename}")
    return 0 if _score(folder) == expected["other"] else NONSENSE


# ----- hot pixels, odd names


def hot(folder: Path, rng: random.Random) -> int:
    """Put hot pixels into a scene: its objects must be found, or a note must name them."""
    path = folder / "in" / "scene.npy"
    cube = np.load(path)
    places = [(rng.randrange(40), rng.randrange(40)) for _ in range(rng.randint(1, 3))]
    for row, column in places:
        bands = slice(None) if rng.random() < 0.3 else rng.randrange(12)
        cube[row, column, bands] = rng.choice((1e2, 1e3, 1e6, 1e9, 1e20, 1e38, -1e3, -1e9, np.inf, np.nan))
    np.save(path, cube)
    method = rng.choice((("--features", "original"), ()))
    code = commands.detect(folder, *method, "--format", rng.choice(("tif", "tif,envi")))
    print(f"\n{folder}: hot at {places}, {method}")
    if code:
        return code
    score = open_scene(folder / "out" / "scene" / "score.tif").read()[:, :, 0]
    truth = np.zeros(score.shape, bool)
    truth[tuple(np.transpose(commands.OBJECTS))] = True
    left_out = ~np.isfinite(score)
    for row, column in places:  # what hot pixels spoil around them is lost, and counts neither way
        left_out[max(row - 4, 0) : row + 5, max(column - 4, 0) : column + 5] = True
    value = auc(np.where(left_out, 0, score), truth, left_out)
    notes = " ".join(json.loads((folder / "out" / "scene" / "run.json").read_text())["notes"])
    return 0 if value is None or value > 0.9 or "--range" in notes else NONSENSE


def oddly_named(folder: Path, rng: random.Random) -> int:
    """Give scene and folder of results names that few have."""
    place, out = folder / "in" / f"{odd_name(rng)[:240]}.npy", folder / "out" / odd_name(rng)
    commands.write_scene(folder)
    (folder / "in" / "scene.npy").rename(place)
    code = commands.detect(folder, "--features", "original", scene=place, out=out)
    print(f"\n{folder}: {place!r}, {out!r}"[:600])
    return code
