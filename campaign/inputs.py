"""The classes of damaged and odd input: the good files, the damage, the command that reads them, and the check.

Add a command as a row of ``kinds``.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

import fers.datasets.had100.prepare
import fers.evaluation.report
import fers.training.loop
from campaign import attacks
from campaign.attacks import EXPECTED, odd_name
from campaign.commands import (
    PLAIN,
    checkpoint,
    detect,
    detected,
    make_synthetic,
    patches,
    prepare,
    results_of,
    test_abu,
    test_had100,
    tree,
    write_abu,
    write_archive,
    write_scene,
)
from campaign.formats import FORMATS
from campaign.mutations import damage_bytes, damage_json, damage_numbers, damage_safetensors, damage_scene, damage_state
from fers.datasets.patches import BackgroundPatches
from fers.datasets.synthetic import benchmark as synthetic
from fers.evaluation import command
from fers.networks import load_checkpoint
from fers.util.commandline import run
from tests.conftest import run_had100, write_had100
from tests.small_training import run_line


@dataclass(frozen=True)
class Kind:
    """A class of input.

    Attributes:
        name: Name in the table.
        make: Writes the good files to a folder.
        work: Runs the command on them; returns its exit code. The generator draws what is not damage to a file.
        victims: Patterns of the files that are damaged; none where ``work`` draws what is odd.
        damage: How.
        judge: Says what is wrong with the folder after success that the command did not notice; empty for nothing.
        writes: Places where the command may write.
        cost: Cases of "read" that one of these costs.
    """

    name: str
    make: Callable[[Path], object]
    work: Callable[[Path, random.Random], int]
    victims: tuple[str, ...] = ()
    damage: Callable[[bytes, random.Random], bytes] = damage_bytes
    judge: Callable[[Path], str] = lambda folder: ""
    writes: tuple[str, ...] = ("out",)
    cost: int = 3


# ----- test.py and the report


def sound_results(folder: Path) -> str:
    """Check that each scene of a finished run has a valid AUC and a finite map; say what is wrong."""
    found = results_of(folder)
    for name, scene in found["scenes"].items():
        score = np.load(folder / "out" / "scores" / f"{name}.npy")
        if not np.isfinite(score).all() or not (scene["auc"] is None or 0 <= scene["auc"] <= 1):
            return f"{name}: {scene['auc']}, finite {np.isfinite(score).all()}"
    return "" if found["complete"] else "not complete"


def as_expected(folder: Path) -> str:
    """Compare a resumed run with an undisturbed one; say what differs."""
    expected, found = json.loads((folder / EXPECTED).read_text()), results_of(folder)
    return "" if found == expected else f"results differ from those of an undisturbed run: {found}"


def _interrupted(folder: Path) -> None:
    write_had100(folder / "data", ("a", "b", "c"))
    assert test_had100(folder, "--no_maps") == 0
    (folder / EXPECTED).write_text(json.dumps(results_of(folder)))
    path = folder / "out" / "results.json"
    results = json.loads(path.read_text())
    del results["scenes"]["c"]
    path.write_text(json.dumps({**results, "complete": False}))
    (folder / "out" / "scores" / "c.npy").unlink()


def _finished(folder: Path) -> None:
    write_had100(folder / "data")
    for name, arguments in (("original", PLAIN), ("more", (*PLAIN, "--start_band", "1"))):
        run_had100(folder / "data", folder / "in" / name, *arguments, "--no_maps")
    results = folder / "in" / "more" / "results.json"
    results.write_text(results.read_text().replace('"start_band": 1', '"start_band": 0'))
    run_folder = folder / "in" / "training"
    run_folder.mkdir()
    terms = {"sim": 0.5, "mse": 0.25}
    entry = {"epoch": 1, "loss": 0.75, "terms": terms, "seconds": 2.0, "patches_per_second": 4.0}
    lines = [json.dumps({**entry, "epoch": e, "held_out": {"loss": 1.0, "terms": terms}}) for e in (1, 2, 3)]
    (run_folder / "log.jsonl").write_text("\n".join(lines) + "\n")


def _report(folder: Path, _: random.Random) -> int:
    return fers.evaluation.report.main([str(folder / "in"), "--out", str(folder / "out" / "page.html")])


def _sound_page(folder: Path) -> str:
    text = (folder / "out" / "page.html").read_text().replace("data:image", "")
    return "nan in the page" if ">nan<" in text or ">inf<" in text else ""


def _odd_names(folder: Path, rng: random.Random) -> int:
    names = {odd_name(rng).replace("/", "") for _ in range(3)}
    write_had100(folder / "data", tuple(sorted(name for name in names if not name.startswith("."))))
    code = test_had100(folder)
    return code or fers.evaluation.report.main([str(folder / "out"), "--out", str(folder / "out" / "page.html")])


ODD_VALUES = (
    "", " ", "-1", "0", "1e9", "nan", "99999999999999999999", "../../x", "a/b", "/", "\udcff", "x" * 5000, "$x", "random:²",
    "None", "cuda:99", "mps", "file:/etc/passwd", "RX", "AE", "os:system", "data:", ":", "a:b:c", "iterations=x", "=", ",", "*", "²",
)  # fmt: skip


def _odd_options(folder: Path, rng: random.Random) -> int:
    """Run one command with one or two options of random values."""
    write_had100(folder / "data")
    commands = {
        "test.py": (command.parser_of("HAD100", ""), lambda given: test_had100(folder, "--no_maps", *given)),
        "fers data synthetic": (None, lambda given: synthetic.main([str(folder / "out"), "--test", "1", "--train", "0", *given])),
        "fers data had100 prepare": (None, lambda given: fers.datasets.had100.prepare.main(["prepare", str(folder / "no.zip"), "--out", str(folder / "out"), *given])),
    }  # fmt: skip
    options = {
        "test.py": [o for o in command.parser_of("HAD100", "")._option_string_actions if o not in ("-h", "--help", "--data_path", "--save_dir")],
        "fers data synthetic": ["--seed", "--test", "--size", "--difficulty", "--sensor"],
        "fers data had100 prepare": ["--bands", "--sensor", "--workers"],
    }  # fmt: skip
    name = rng.choice(("test.py", *options))  # test.py has the most options
    given: list[str] = []
    for _ in range(rng.randint(1, 2)):
        given += [f"{rng.choice(options[name])}={rng.choice(ODD_VALUES)}"]
    code = commands[name][1](given)
    print(f"\n{folder}: {name} {given}"[:500])
    return code


# ----- detect.py


def _detected(folder: Path) -> None:
    write_scene(folder)
    assert detect(folder) == 0
    (folder / EXPECTED).write_text(json.dumps(detected(folder)))


def _same_detections(folder: Path) -> str:
    expected, found = json.loads((folder / EXPECTED).read_text()), detected(folder)
    differing = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
    return f"differs from an undisturbed run in {differing}" if differing else ""


# ----- training


def _line(folder: Path, _: random.Random | None = None, epochs: int = 4) -> int:
    """Resume a small run of the training loop, and write the digest of its weights."""
    fers.training.loop.save_checkpoint = lambda *_: folder  # a line has no branch to write

    def work() -> None:
        stage = run_line(folder / "out", epochs, resume=True)
        weights = b"".join(value.numpy().tobytes() for value in stage.state_dict().values())
        (folder / "out" / "digest").write_text(hashlib.sha256(weights).hexdigest())

    return run(work)


def _interrupted_line(folder: Path) -> None:
    assert _line(folder / "whole") == 0
    (folder / "whole" / "out" / "digest").rename(folder / "digest")
    assert _line(folder, epochs=2) == 0


def _same_line(folder: Path) -> str:
    same = (folder / "digest").read_text() == (folder / "out" / "digest").read_text()
    lines = [json.loads(line)["epoch"] for line in (folder / "out" / "log.jsonl").read_text().splitlines()]
    return "" if same and lines[-1] == 4 else f"same weights: {same}, epochs {lines}"


def _described(folder: Path) -> None:
    patches(folder / "data")
    _open_patches(folder)


def _open_patches(folder: Path, _: random.Random | None = None) -> int:
    def work() -> None:
        opened = BackgroundPatches(folder / "data", "aviris_ng", 8)
        opened.split(0.5, 0)
        opened.fingerprint()
        if not all(torch.isfinite(opened[i]).all() for i in range(len(opened))):
            raise AssertionError("a patch that is not finite")

    return run(work)


# ----- checkpoints


def _load(folder: Path, _: random.Random) -> int:
    def work() -> None:
        load_checkpoint(folder / "weights" / "spe_fen.safetensors", bands=10)

    return run(work)


def _sound_weights(folder: Path) -> str:
    for key, value in load_file(folder / "weights" / "spe_fen.safetensors").items():
        if value.is_floating_point() and not (value.abs() <= 1e6).all():
            return f"{key} up to {value.abs().max()}"
    return ""


# ----- datasets that are made


def _prepared(folder: Path) -> None:
    write_archive(folder)
    _made(folder, prepare)


def _made(folder: Path, make: Callable[[Path], int]) -> None:
    assert make(folder) == 0
    (folder / EXPECTED).write_text(json.dumps(tree(folder / "out")))
    (folder / "out" / "manifest.json").rename(folder / "out" / ".unfinished.json")
    next((folder / "out" / "test").rglob("*.npy")).unlink()


def same_tree(folder: Path) -> str:
    """Compare a dataset with that of an undisturbed run; say what differs."""
    expected, found = json.loads((folder / EXPECTED).read_text()), tree(folder / "out")
    differing = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
    return f"differs from an undisturbed run in {differing}" if differing else ""


def _read(name: str) -> Kind:
    make, read = FORMATS[name]

    def make_and_note(folder: Path) -> None:
        (folder / "in").mkdir()
        path = make(folder / "in")
        (folder / "path").write_text(str(path.relative_to(folder)))

    def work(folder: Path, _: random.Random) -> int:
        def whole() -> None:
            read(folder / (folder / "path").read_text())

        return run(whole)

    return Kind(f"read {name}", make_and_note, work, ("in/**/*",), damage_scene, writes=(), cost=1)


def kinds() -> list[Kind]:
    """List every class of input."""
    no_maps = ("--no_maps",)
    return [
        *map(_read, FORMATS),
        Kind("test.py, cube", lambda f: write_had100(f / "data"), lambda f, _: test_had100(f, *no_maps), ("data/test/**/*.npy",), judge=sound_results),
        Kind("test.py, truth", lambda f: write_had100(f / "data"), lambda f, _: test_had100(f, *no_maps), ("data/ground_truth/**/*.png",), judge=sound_results),
        Kind("FERS_ABU, v5", lambda f: write_abu(f, "abu-a-1.mat", "5"), lambda f, _: test_abu(f), ("data/*.mat",), judge=sound_results),
        Kind("FERS_ABU, v7.3", lambda f: write_abu(f, "abu-a-1.mat", "7.3"), lambda f, _: test_abu(f), ("data/*.mat",), judge=sound_results),
        Kind("resumed test.py, results.json", _interrupted, lambda f, _: test_had100(f, *no_maps), ("out/results.json",), damage_json, as_expected),
        Kind("resumed test.py, score map", _interrupted, lambda f, _: test_had100(f, *no_maps), ("out/scores/*.npy",), judge=as_expected),
        Kind("report, results.json", _finished, _report, ("in/*/results.json",), damage_json, _sound_page, cost=15),
        Kind("report, score map", _finished, _report, ("in/*/scores/*.npy",), judge=_sound_page, cost=15),
        Kind("report, log.jsonl", _finished, _report, ("in/training/log.jsonl",), damage_json, _sound_page, cost=25),
        Kind("resumed training, last.pt", _interrupted_line, _line, ("out/last.pt",), damage_state, _same_line, cost=5),
        Kind("resumed training, log.jsonl", _interrupted_line, _line, ("out/log.jsonl",), damage_json, _same_line, cost=5),
        Kind("training, patch", lambda f: patches(f / "data"), _open_patches, ("data/train/**/*.npy",), writes=("data/train/aviris_ng/manifest.json",)),
        Kind("training, manifest.json", _described, _open_patches, ("data/train/aviris_ng/manifest.json",), damage_json, writes=("data/train/aviris_ng/manifest.json",)),
        Kind("checkpoint", checkpoint, _load, ("weights/*.safetensors",), damage_safetensors, _sound_weights, (), 8),
        Kind("resumed fers data synthetic, manifest", lambda f: _made(f, make_synthetic), lambda f, _: make_synthetic(f), ("out/.unfinished.json",), damage_json, same_tree, cost=8),
        Kind("resumed fers data synthetic, files", lambda f: _made(f, make_synthetic), lambda f, _: make_synthetic(f), ("out/*/**/*.npy", "out/*/**/*.png"), judge=same_tree, cost=8),
        Kind("HAD100.zip", write_archive, lambda f, _: prepare(f), ("HAD100.zip",), cost=8),
        Kind("resumed fers data had100 prepare, manifest", _prepared, lambda f, _: prepare(f), ("out/.unfinished.json",), damage_json, same_tree, cost=8),
        Kind("detect.py, array", write_scene, lambda f, _: detect(f, *PLAIN), ("in/*",), judge=attacks.sound_products, cost=4),
        Kind("detect.py, ENVI", lambda f: write_scene(f, "img"), lambda f, _: detect(f), ("in/*",), judge=attacks.sound_products, cost=6),
        Kind("detect.py, numbers of a header", lambda f: write_scene(f, "img"), lambda f, _: detect(f, *PLAIN), ("in/*.hdr",), damage_numbers, attacks.sound_products, cost=4),
        Kind("detect.py, files that lead elsewhere", lambda f: write_scene(f, "img"), attacks.leading_elsewhere, writes=("out", "a", "secret"), cost=2),
        Kind("detect.py, files that change", attacks.write_changing, attacks.changing, writes=("out", "in", "new"), cost=8),
        Kind("detect.py, hot pixels", write_scene, attacks.hot, judge=attacks.sound_products, writes=("out", "in"), cost=6),
        Kind("detect.py, odd names", lambda f: None, attacks.oddly_named, judge=attacks.sound_products, writes=("out", "in"), cost=6),
        Kind("finished detect.py, run.json", _detected, lambda f, _: detect(f), ("out/scene/run.json",), damage_json, _same_detections, cost=6),
        Kind("test.py, odd names", lambda f: None, _odd_names, judge=sound_results, writes=("data", "out"), cost=60),
        Kind("odd options", lambda f: None, _odd_options, writes=("data", "out"), cost=5),
    ]  # fmt: skip
