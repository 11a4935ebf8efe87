"""``import fers``: from any folder, beside folders of the same names as ours, and from an installed copy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

USE = (
    "import fers, numpy as np; cube = np.random.RandomState(0).normal(size=(20, 20, 8)); cube[3, 4] += 10; "
    "score = fers.score(cube); "
    "print(*np.unravel_index(score.argmax(), score.shape))"
)


def run_in(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("hidden", [None, "data", "models", "data/__init__.py", "models/__init__.py"])
def test_it_scores_from_any_folder(tmp_path, hidden):
    if hidden is not None and hidden.endswith(".py"):
        (tmp_path / hidden).parent.mkdir()
        (tmp_path / hidden).write_text("raise RuntimeError('this is the user\\'s own package')")
    elif hidden is not None:
        (tmp_path / hidden).mkdir()
    done = run_in(tmp_path, USE)
    assert done.stdout.split() == ["3", "4"], done.stderr


def test_a_package_that_took_the_name_first_is_named(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("")
    done = run_in(tmp_path, "import models; import fers")
    assert "a package named 'models' was imported before" in done.stderr and "Import fers first" in done.stderr


@pytest.mark.parametrize("script, hidden", [("FERS_ABU/test.py", "data"), ("train_FERD/train.py", "models")])
def test_a_folder_of_the_same_name_beside_a_script_does_not_hide_ours(script, hidden, tmp_path):
    """The released layout has FERS_ABU/data and train_FERD/models; a link to the script behaves as if it lay there."""
    folder = tmp_path / Path(script).parent
    (folder / hidden).mkdir(parents=True)
    (folder / "script.py").write_text((ROOT / script).read_text())
    done = subprocess.run(
        [sys.executable, "script.py", "--help"], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and "--input_channel" in done.stdout, done.stderr
