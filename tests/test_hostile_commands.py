"""Commands on hostile input open no file beside it and connect to nobody, as strace sees them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

HOSTILE = r"""
import json, os, pickle, sys, zipfile
from pathlib import Path

import h5py
import numpy as np
import torch
from PIL import Image

import reproduce
import train_FERD.train
from fers import cli
from tests import scene_files as files
from tests.conftest import run_had100, write_had100

here, secret = Path(sys.argv[1]), sys.argv[2]
os.chdir(here)
good = files.write_envi(here, np.random.RandomState(0).rand(20, 20, 6).astype("f4"), "good", map_info="UTM 1 1 5e5 4e6 5 5 11 North WGS-84".split())


class Opens:
    def __reduce__(self):
        return open, (secret,)


band = '<VRTRasterBand dataType="Byte" band="1"'
place = f'<VRTDataset rasterXSize="20" rasterYSize="20">{band}'
web = "http://127.0.0.1:9/a.tif"
contents = {
    "raw": f'{place} subClass="VRTRawRasterBand"><SourceFilename>{secret}</SourceFilename></VRTRasterBand></VRTDataset>',
    "web": f"{place}><SimpleSource><SourceFilename>/vsicurl/{web}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>",
    "wms": f'<GDAL_WMS><Service name="TMS"><ServerUrl>{web}</ServerUrl></Service></GDAL_WMS>',
    "ogr": f'<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>{secret}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>',
    "xxe": f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file://{secret}">]><level_X><bandCharacterisation>&x;</bandCharacterisation></level_X>',
}
hostile = [f"/vsicurl/{web}", web, f"GTIFF_RAW:{secret}", f"/vsizip/{secret}", f"vrt://{secret}"]
for name, content in contents.items():
    for suffix in ("tif", "png", "gpkg", "shp", "json", "csv", "hdr", "xml", "nc", "mat"):
        path = here / f"{name}.{suffix}"
        path.write_text(content)
        hostile.append(path.name)
with h5py.File("links.h5", "w") as file:
    file["cube"] = h5py.ExternalLink(secret, "/cube")
    layout = h5py.VirtualLayout((20, 20, 6), "f4")
    layout[:] = h5py.VirtualSource(secret, "cube", (20, 20, 6))
    file.create_virtual_dataset("virtual", layout)
    file.create_dataset("outside", (20, 20, 6), "f4", external=[(secret, 0, 9600)])
np.save("pickle.npy", np.array([Opens()], object), allow_pickle=True)
np.savez("pickle.npz", cube=np.array([Opens()], object))
hostile += ["links.h5", "pickle.npy", "pickle.npz"]
with zipfile.ZipFile("out.zip", "w") as archive:
    archive.writestr("../outside.hdr", "ENVI")
write_had100(here / "data")
np.save("data/test/aviris_ng/a.npy", np.array([Opens()], object), allow_pickle=True)
for number in range(4):
    (here / "training" / "train" / "aviris_ng").mkdir(parents=True, exist_ok=True)
    np.save(here / "training" / "train" / "aviris_ng" / f"s{number}_1.npy", np.random.rand(16, 16, 6))
(here / "data" / "train" / "aviris_ng").mkdir(parents=True)
np.save(here / "data" / "train" / "aviris_ng" / "a_1.npy", np.array([Opens()], object), allow_pickle=True)
(here / "weights").mkdir()
for name in ("spe_fen.safetensors", "last.pt", "enc.pt", "convh.pt", "pc.pt"):
    torch.save(Opens(), here / "weights" / name)
(here / "results").mkdir()
(here / "results" / "results.json").write_text(json.dumps({"format": 3, "scenes": {f"../../{secret}": {}}, "config": {}}))

os.path.exists(here / "BEGIN")
open(here / "BEGIN", "w").close()
codes = []


def command(*given):
    try:
        codes.append(cli.main([str(each) for each in given]))
    except SystemExit as error:
        codes.append(error.code)


fixed = ("--features", "original", "--quiet", "--device", "cpu", "--workers", "1", "--save_dir", "out")
for name in hostile:
    command("detect", name, *fixed)
for option in ("--left_out", "--not", "--glt", "--wavelengths", "--background", "--library"):
    for name in hostile:
        command("detect", good, option, name, *fixed)
for variable in ("cube", "virtual", "outside"):
    command("detect", "links.h5", "--variable", variable, "--axes", "y,x,band", *fixed)
for name in hostile:
    command("data", "patches", name, "--out", "patches", "--size", "16")
    command("data", "patches", good, "--mask", name, "--out", "patches", "--size", "16")
command("compare", "--scenes", ".", "--detect", "RX", "--save_dir", "compared")
command("compare", "--scenes", good, "--detect", "RX", "--maps", "a=.", "--save_dir", "compared")
command("data", "had100", "prepare", "out.zip", "--out", "prepared", "--any_archive")
command("report", "results")
command("detect", good, "--checkpoint_dir", "weights", *fixed[2:])
command("weights", "import", "weights", "--out", "imported/spe_fen.safetensors")
codes.append(run_had100(here / "data", here / "tested", "--features", "original", "--no_maps"))
codes.append(reproduce.main(["table1", "--data", "data", "--out", "reproduced", "--rows", "RX", "--device", "cpu"]))
trained = ["--data_path", "training", "--input_channel", "6", "--backbone", "file:weights/enc.pt", "--device", "cpu"]
codes.append(train_FERD.train.main([*trained, "--save_dir", "run", "--checkpoint_dir", "trained"]))
codes.append(train_FERD.train.main(["--data_path", "data", *trained[2:], "--save_dir", "run", "--checkpoint_dir", "trained"]))
print(len(codes), sorted(set(codes), key=str), codes.count(0))
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_commands_on_hostile_input_open_nothing_outside_and_connect_to_nobody(tmp_path):
    here, trace, secret = tmp_path / "in", tmp_path / "trace", tmp_path / "secret"
    here.mkdir()
    secret.write_bytes(bytes(9600))
    program = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=openat,open,connect",
        "-o",
        str(trace),
        sys.executable,
        "-c",
        HOSTILE,
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TMPDIR": str(here),
        "HOME": str(here),
    }
    ended = subprocess.run(
        [*program, str(here), str(secret)], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    if "ptrace" in ended.stderr and not trace.stat().st_size:
        pytest.skip("strace may not trace here")
    assert ended.returncode == 0, ended.stderr[-4000:]
    number, codes, succeeded = re.fullmatch(r"(\d+) (\[.*\]) (\d+)", ended.stdout.splitlines()[-1]).groups()
    assert int(number) > 400 and codes in ("[0, 2]", "[2]") and int(succeeded) < 60, ended.stdout[-2000:]
    lines = trace.read_text(errors="replace").splitlines()
    begun = next(number for number, line in enumerate(lines) if str(here / "BEGIN") in line and "O_CREAT" in line)
    own = (
        str(here),
        str(ROOT),
        sys.prefix,
        sys.base_prefix,
        "/proc/",
        "/sys/",
        "/dev/",
        "/usr/",
        "/lib",
        "/etc/",
        "/var/cache/",
    )
    opened, connected = set(), []
    for line in lines[begun:]:
        if "connect(" in line and "AF_UNIX" not in line:
            connected.append(line)
        elif (found := re.search(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]*)"', line)) and " = -1 " not in line:
            opened.add(os.path.normpath(here / found[1]))
    outside = {path for path in opened if not path.startswith(own) and "/.git/" not in path}  # whose revision is told
    assert not connected, connected[:5]
    assert not outside, sorted(outside)[:20]
