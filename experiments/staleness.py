"""Code that a result depends on: the modules that its entry module imports, by what they say and not how they look.

Only this tree's own modules are followed. Docstrings, comments and layout do not count. A package's ``__init__`` that hands
a name on is seen through: ``from fers.networks import SpeFEN`` leads to spe_fen.py and to no other network.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
from functools import cache
from pathlib import Path

from experiments import ROOT
from fers.detectors import DETECTORS, find_detector

SCORING = "fers.evaluation.evaluate"
# no weights depend on these: a training asks them only for --select test-auc, which no table uses
NOT_TRAINING = ("fers.detectors", "fers.scoring", "fers.evaluation", "fers.detection")
NOT_SCORING = ("fers.detectors.table", "fers.evaluation.figures")  # the table of all detectors; the drawing
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def training_code(module: str) -> str:
    """Eight digits of the code that the weights of a training script depend on, such as ``train_FERD.train``."""
    return code_hash((module,), NOT_TRAINING)


def scoring_code(detector: str) -> str:
    """Eight digits of the code that a score map depends on: the pipeline's, and this detector's only.

    The imports of a ``module:Name`` below its own folder count too.
    """
    if detector in DETECTORS:
        return code_hash((SCORING, find_detector(detector).place.partition(":")[0]), NOT_SCORING)
    name = detector.partition(":")[0]
    find_detector(detector)  # imports it
    file = Path(importlib.import_module(name).__file__ or "").resolve()
    root = file.parents[name.count(".") + (file.name == "__init__.py")]
    return code_hash((SCORING,), NOT_SCORING) + code_hash((name,), (), root)


@cache
def code_hash(entries: tuple[str, ...], without: tuple[str, ...] = (), root: Path = ROOT) -> str:
    """Eight digits of the syntax trees of ``modules``; the arguments are the same."""
    texts = [(name, ast.unparse(_tree(root, name))) for name in modules(entries, without, root)]
    return hashlib.sha256(repr(texts).encode()).hexdigest()[:8]


def modules(entries: tuple[str, ...], without: tuple[str, ...] = (), root: Path = ROOT) -> list[str]:
    """Names of modules and of all that they import below a folder, sorted; ``without`` names what is not entered."""
    names: set[str] = set()
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        if name not in names and not f"{name}.".startswith(tuple(f"{part}." for part in without)):
            names.add(name)
            waiting += _imported(root, name)
    return sorted(names)


@cache
def _file(root: Path, name: str) -> Path | None:
    path = root.joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _tree(root: Path, name: str) -> ast.Module:
    """Parse what a module executes: without docstrings, and without what only a type checker reads."""
    tree = ast.parse((_file(root, name) or Path(name)).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node):
            node.body[0] = ast.Pass()
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    return tree


def _imported(root: Path, name: str) -> list[str]:
    """The modules below ``root`` that a module imports anywhere."""
    file = _file(root, name)
    package = name.split(".")[: None if file and file.name == "__init__.py" else -1]
    names: list[str] = []
    for node in ast.walk(_tree(root, name)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            names += [_home(root, module, alias.name) for alias in node.names]
    return [name for name in names if _file(root, name)]


def _home(root: Path, module: str, name: str) -> str:
    """The module that a name comes from, through the packages that hand it on."""
    if _file(root, f"{module}.{name}"):
        return f"{module}.{name}"
    if (_file(root, module) or Path()).name != "__init__.py":
        return module
    for node in _tree(root, module).body:
        if isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _home(root, node.module or "", alias.name)
    return f"{module}.__init__"
