"""``import fers``: from any folder, beside packages of any name, and from an installed copy."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

USE = (
    "import fers, numpy as np; cube = np.random.RandomState(0).normal(size=(20, 20, 8)); cube[3, 4] += 10; "
    "score = fers.score(cube); "
    "print(*np.unravel_index(score.argmax(), score.shape))"
)
THEIRS = ("models", "data", "training", "evaluation", "detectors")  # folders that research repositories have


def run_in(folder: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with packages from ``path`` instead of the installed ones."""
    environment = os.environ | ({} if path is None else {"PYTHONPATH": str(path)})
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this tree."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    [built] = out.glob("*.whl")
    return built


@pytest.fixture(params=["checkout", "editable", "wheel"])
def installed(request, tmp_path) -> Path | None:
    """Where fers is imported from; None for the editable install that the tests run in."""
    if request.param == "wheel":
        zipfile.ZipFile(request.getfixturevalue("wheel")).extractall(tmp_path / "site")
        return tmp_path / "site"
    return ROOT if request.param == "checkout" else None


@pytest.fixture
def theirs(tmp_path) -> Path:
    """A folder of the user's, with packages of common names and a detector that uses one of them."""
    folder = tmp_path / "theirs"
    for name in THEIRS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"class MyNet:\n    factor = 2\n    place = {name!r}\n")
    (folder / "my_det.py").write_text(
        "import torch\nfrom models import MyNet\n\ndef Det(cube: torch.Tensor):\n"
        "    return MyNet.factor * (cube - cube.mean((2, 3), keepdim=True)).square().sum(1)\n"
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("order", ["import fers; from {0} import MyNet", "from {0} import MyNet; import fers"])
def test_it_stands_beside_packages_of_the_users(installed, theirs, order):
    both = "\n".join(order.format(name) + f"; assert MyNet.place == {name!r}" for name in THEIRS)
    done = run_in(theirs, "-c", f"{both}\n{USE}", path=installed)
    assert done.returncode == 0 and done.stdout.split() == ["3", "4"], done.stderr


@pytest.mark.slow
def test_a_folder_that_is_no_package_is_not_hidden(theirs):
    for name in THEIRS:
        (theirs / name / "__init__.py").rename(theirs / name / "mine.py")
    code = "\n".join(f"import fers; from {name}.mine import MyNet" for name in THEIRS)
    done = run_in(theirs, "-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("script", ["FERS_ABU/test.py", "test.py"])
def test_a_detector_of_the_users_with_their_own_packages(script, theirs, dataset):
    arguments = ["--data_path", str(dataset), "--sensor", "aviris_ng", "--input_channel", "10", "--scenes", "all"]
    chosen = ["--detect", "my_det:Det", "--features", "original", "--maps", "none", "--save_dir", "out"]
    done = run_in(theirs, str(ROOT / script), *arguments, *chosen)
    assert done.returncode == 0 and "my_det:Det" in done.stdout + done.stderr, done.stderr
    assert (theirs / "out" / "results.json").is_file()


def test_import_loads_no_large_library(tmp_path):
    done = run_in(
        tmp_path, "-c", "import fers, sys; print([m for m in ('torch', 'numpy', 'scipy') if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_every_public_name_has_a_home(tmp_path):
    code = "import fers; [getattr(fers, name) for name in fers.__all__]; print(set(fers.__all__) == set(fers._HOMES))"
    done = run_in(tmp_path, "-c", code)
    assert done.stdout.strip() == "True", done.stderr


def test_the_wheel_holds_one_package_and_the_shipped_weights(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"fers", "fers_had"}
    assert {"fers/py.typed", "fers/checkpoints/SHA256SUMS"} <= set(names)
    assert sum(name.endswith(".safetensors") for name in names) == 2


@pytest.mark.slow
def test_an_installed_copy_finds_weights_and_names_what_needs_a_checkout(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import fers, fers.networks as n; fers.load_checkpoint(n.shipped('aviris_200') / 'spe_fen.safetensors')"
    done = run_in(tmp_path, "-c", code, path=tmp_path / "site")
    assert done.returncode == 0, done.stderr
    done = run_in(tmp_path, "-m", "fers", "train", path=tmp_path / "site")
    assert done.returncode == 2 and "fers train: needs a checkout" in done.stderr


def test_a_wrong_type_across_two_rooms_is_found(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "use.py").write_text("import fers\n\nfers.read_scene(3)\nfers.auc('a', 1)\n")
    configuration = ["--config-file", str(ROOT / "pyproject.toml")]
    done = run_in(ROOT, "-m", "mypy", *configuration, "--explicit-package-bases", str(tmp_path / "use.py"))
    assert done.stdout.count("[arg-type]") == 3, done.stdout


@pytest.mark.parametrize("script, hidden", [("FERS_ABU/test.py", "data"), ("train_FERD/train.py", "models")])
def test_a_folder_of_the_same_name_beside_a_script_does_not_hide_ours(script, hidden, tmp_path):
    """The released layout has FERS_ABU/data and train_FERD/models; a link to the script behaves as if it lay there."""
    folder = tmp_path / Path(script).parent
    (folder / hidden).mkdir(parents=True)
    (folder / "script.py").write_text((ROOT / script).read_text())
    done = run_in(folder, "script.py", "--help")
    assert done.returncode == 0 and "--input_channel" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "folder, script", [("train_FERD", "train.py"), ("train_FERS", "train.py"), ("FERS_ABU", "test.py")]
)
def test_a_script_runs_in_its_own_folder(folder, script):
    done = run_in(ROOT / folder, script, "--help")
    assert done.returncode == 0 and "--input_channel" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "door", ["data.download", "data.had100", "data.patches", "data.synthetic", "models.import_released"]
)
def test_a_door_of_the_checkout_answers(door):
    done = run_in(ROOT, "-m", door, "--help")
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr


@pytest.mark.slow
def test_the_papers_networks_are_in_models():
    done = run_in(ROOT, "-c", "from models import FERD, FRN, SpaFEN, SpeFEN; print(SpeFEN(8, 'random'))")
    assert done.returncode == 0, done.stderr
