"""What makes a result stale: a change of what the code does, in a module that the result depends on, and nothing else."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from experiments import staleness
from experiments.staleness import NOT_SCORING, NOT_TRAINING, SCORING, code_hash, scoring_code

STAGE1 = "train_FERD.train"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the code."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("fers", "train_FERD", "train_FERS", "baselines"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def keys(tree: Path) -> dict[str, str]:
    forget()
    return {
        "stage 1": code_hash((STAGE1,), NOT_TRAINING, tree),
        "stage 2": code_hash(("train_FERS.train",), NOT_TRAINING, tree),
        "baselines": code_hash(("baselines.train",), NOT_TRAINING, tree),
        "RX": code_hash((SCORING, "fers.detectors.rx"), NOT_SCORING, tree),
        "AE": code_hash((SCORING, "fers.detectors.ae"), NOT_SCORING, tree),
    }


def forget() -> None:
    """As a new process would have it."""
    for cached in (staleness._tree, staleness._file, code_hash):
        cached.cache_clear()


@pytest.fixture(scope="module")
def before(tree):
    return keys(tree)


ANY = "from __future__ import annotations\n"
EVERYTHING = {"stage 1", "stage 2", "baselines", "RX", "AE"}


@pytest.mark.parametrize(
    ("file", "old", "new", "stale"),
    [
        ("fers/scenes/normalise.py", ANY, f"# a comment\n\n{ANY}", set()),
        ("train_FERD/losses.py", '"""', '"""Other words. ', set()),
        ("train_FERD/losses.py", "_EPS = 1e-8", "_EPS = 1e-9", {"stage 1"}),
        ("train_FERS/losses.py", "win_sigma=1.5", "win_sigma=1.6", {"stage 2"}),
        ("baselines/aetnet.py", "CELL = ", "CELL = 1 + ", {"baselines"}),
        ("fers/detectors/ae.py", ANY, f"{ANY}ADDED = 1\n", {"AE"}),
        ("fers/detectors/table.py", "DETECTORS: ", "ADDED = 1\nDETECTORS: ", set()),
        ("fers/scoring/fusion_c.py", ANY, f"{ANY}ADDED = 1\n", {"RX", "AE"}),
        ("fers/evaluation/report.py", ANY, f"{ANY}ADDED = 1\n", set()),
        ("fers/scenes/normalise.py", ANY, f"{ANY}ADDED = 1\n", EVERYTHING),
    ],
)
def test_a_change_makes_stale_what_depends_on_it_and_only_that(tree, before, file, old, new, stale):
    path = tree / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    after = keys(tree)
    path.write_text(text)
    assert {name for name in before if before[name] != after[name]} == stale


def test_what_training_leaves_out_has_no_part_in_the_weights():
    """The losses, networks, data and loop of each stage are followed; a change in any of them is a change of the key."""
    followed = staleness.modules((STAGE1,), NOT_TRAINING)
    wanted = {"train_FERD.losses", "train_FERD.network", "fers.networks.spe_fen", "fers.training.loop"}
    assert wanted | {"fers.datasets.patches", "fers.scenes.normalise", "fers.fast.training"} <= set(followed)
    assert not any(name.startswith(NOT_TRAINING) for name in followed)


@pytest.mark.parametrize(
    ("module", "line", "helper"),
    [
        ("its_own", "from its_helper import GAIN", "its_helper.py"),
        ("its_folder.own", "from .helper import GAIN", "its_folder/helper.py"),
        ("its_folder.own", "from its_folder import helper; GAIN = helper.GAIN", "its_folder/helper.py"),
    ],
)
def test_a_detector_of_the_users_counts_into_its_own_results_only(tmp_path, monkeypatch, module, line, helper):
    """With what it imports beside it, in any form of import, with and without an ``__init__.py``."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "its_folder").mkdir()
    own = tmp_path / f"{module.replace('.', '/')}.py"
    own.write_text(f"{line}\n\n\ndef bright(cube):\n    return GAIN * cube.mean(1)\n")
    (tmp_path / helper).write_text("GAIN = 1\n")

    def key() -> str:
        forget()
        return scoring_code(f"{module}:bright")

    found = [key(), key()]
    own.write_text(own.read_text().replace("mean", "amax"))
    found.append(key())
    (tmp_path / helper).write_text("GAIN = 2\n")
    found.append(key())
    assert found[0] == found[1] and len(set(found)) == 3
    for name in [name for name in sys.modules if name.startswith("its_")]:
        del sys.modules[name]
