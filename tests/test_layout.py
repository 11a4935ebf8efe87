"""The house rules that a machine can check: who imports whom, one meaning for a name, whole sentences in docstrings."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
# who may import whom: a room those of its own line and of the lines above it
LAYERS = [
    {"fers.util"},
    {"fers.scenes"},
    {"fers.datasets"},
    {"fers.networks", "fers.detectors"},
    {"fers.fast"},
    {"fers.scoring"},
    {"fers.detection", "fers.evaluation.metrics"},  # --select test-auc needs an AUC
    {"fers.training"},
    {"fers.evaluation"},
    {"fers.comparison"},
    {"fers.weights", "fers.info"},
    {"fers.cli"},
    {"fers"},
    {"train_FERD", "train_FERS", "FERS_ABU"},
    {"models", "data"},
    {"baselines"},
    {"experiments"},
    {"benchmarks"},
    {"train", "test", "detect", "reproduce"},
    {"campaign"},  # it runs the scripts
]
ROOMS = set().union(*LAYERS)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
TOP = {name.partition(".")[0] for name in ROOMS}
SOURCES = [p for name in sorted(TOP) for p in [*(ROOT / name).rglob("*.py"), ROOT / f"{name}.py"] if p.is_file()]
SHARED_NAMES = {
    "main", "COMMANDS", "__all__",  # by which every command, every group of commands and Python look things up
    "scenes", "known_scenes", "variables",  # what each data set and kind of array file offers: abu.scenes, hdf5.variables
}  # fmt: skip
FRAGMENTS = ("As", "For", "From", "How", "In", "Its", "Of", "What", "Where", "Whether", "Which", "With")


def room_of(module: str) -> str:
    """The room that a module belongs to: the longest name of one that it begins with."""
    parts = module.split(".")
    return next(name for n in range(len(parts), 0, -1) if (name := ".".join(parts[:n])) in ROOMS)


def dotted(path: Path) -> str:
    """The name by which a file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in SOURCES}


@cache
def imported(path: Path) -> frozenset[str]:
    """Every name of ours that a file imports, in functions and for type checkers too."""
    tree = ast.parse(path.read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return frozenset(name for name in names if name.partition(".")[0] in TOP)


def imported_modules(path: Path) -> set[str]:
    """The files, by their names, that a file imports from."""
    return {name if name in MODULES else name.rpartition(".")[0] for name in imported(path)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_from_left_to_right_only(path):
    here = room_of(dotted(path))
    allowed = {name for name in ROOMS if RANK[name] < RANK[here]} | {here}
    if here in ("train_FERD", "train_FERS"):
        allowed |= {"train_FERD", "train_FERS"}
    assert {room_of(name) for name in imported(path)} <= allowed


@pytest.mark.parametrize("module", MODULES)
def test_no_module_imports_what_imports_it(module):
    reached, left = set(), {module}
    while left:
        left = {name for each in left for name in imported_modules(MODULES[each])} - reached
        reached |= left
    assert module not in reached


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_there_is_no_path_trick_and_no_unsafe_unpickling(path):
    text = path.read_text()
    assert "sys.path" not in text or path == ROOT / "fers" / "detectors" / "table.py"  # module:Name of the user's
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    loads = [call for call in calls if ast.unparse(call.func) == "torch.load"]
    assert all(any(ast.unparse(k) == "weights_only=True" for k in call.keywords) for call in loads)


def test_requirements_are_those_of_the_package_and_of_its_extras_for_training_and_data():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    listed = sorted(line for line in lines if line and not line.startswith("#"))
    assert listed == sorted([*project["dependencies"], *extras["train"], *extras["data"]])


def top_level_names(path: Path) -> set[str]:
    """The functions, classes and constants that a module defines, private ones too."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {part.id for target in targets if target for part in ast.walk(target) if isinstance(part, ast.Name)}
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
    return names


def test_a_name_means_one_thing_in_the_package():
    homes = defaultdict(list)
    for module, path in MODULES.items():
        for name in top_level_names(path) if module.partition(".")[0] == "fers" else ():
            homes[name].append(module)
    twice = {name: modules for name, modules in homes.items() if len(modules) > 1}
    assert {name: twice[name] for name in twice.keys() - SHARED_NAMES} == {}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_docstring_is_a_fragment(path):
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, documented)]
    firsts = [(ast.get_docstring(node) or "").partition("\n")[0] for node in nodes]
    assert [line for line in firsts if line.partition(" ")[0] in FRAGMENTS] == []
