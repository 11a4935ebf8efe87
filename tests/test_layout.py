"""The house rules that a machine can check: who imports whom, and what the README says the tree holds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# who may import whom: a package those of its own line and of the lines above it
LAYERS = [
    {"data"},
    {"models", "detectors"},
    {"fast"},
    {"detection"},
    {"training"},
    {"evaluation"},
    {"train_FERD", "train_FERS", "FERS_ABU"},
    {"baselines"},
    {"experiments"},
    {"benchmarks"},
    {"train", "test", "detect", "reproduce", "fers"},
]
PACKAGES = set().union(*LAYERS)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
SOURCES = [p for name in sorted(PACKAGES) for p in [*(ROOT / name).rglob("*.py"), ROOT / f"{name}.py"] if p.is_file()]


def imported_packages(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[0] for name in names} & PACKAGES


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_from_left_to_right_only(path):
    here = path.relative_to(ROOT).parts[0].removesuffix(".py")
    allowed = {name for name in PACKAGES if RANK[name] < RANK[here]} | {here}
    if here == "detectors":
        allowed = {"detectors"}  # arrays in, score map out: no project package at all
    if here in ("train_FERD", "train_FERS"):
        allowed |= {"train_FERD", "train_FERS"}
    assert imported_packages(path) <= allowed


def test_every_package_is_installed():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    find = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    packages = {name for name in PACKAGES if (ROOT / name / "__init__.py").is_file()}
    assert {f"{name}*" for name in packages - {"benchmarks"}} <= set(find["include"])


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_there_is_no_path_trick_and_no_unsafe_unpickling(path):
    text = path.read_text()
    assert "sys.path" not in text
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func) == "torch.load"]
    assert all(any(ast.unparse(k) == "weights_only=True" for k in call.keywords) for call in loads)
