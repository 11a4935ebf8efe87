"""models/README.md: each equation of the paper has a place that exists, names it, and is tested; links to anchors hold."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROW = re.compile(r"\| (?P<numbers>[\d, ]+) \| .* \| `(?P<place>\S+\.py:\S+)` \| `(?P<test>\S+\.py:\S+)` \|")
ROWS = [match for line in (ROOT / "models" / "README.md").read_text().splitlines() if (match := ROW.fullmatch(line))]
SOURCES = [path for path in sorted(ROOT.rglob("*.py")) if not {".venv", "build"} & set(path.relative_to(ROOT).parts)]


def definition(place: str) -> ast.FunctionDef | ast.ClassDef:
    """The function, class or method that ``file.py:Name`` or ``file.py:Class.method`` names."""
    file, _, name = place.partition(":")
    node: ast.AST = ast.parse((ROOT / file).read_text())
    for part in name.split("."):
        [node] = [child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == part]
    return node


def runs_in_a_clone(test: str) -> bool:
    """Whether a test, with its fixtures from the same file, does without the reference data beside the repository."""
    file, _, name = test.partition(":")
    found = {node.name: node for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)}
    used, left = set(), {name}
    while left:
        used |= left
        parts = [found[each] for each in left if each in found]
        names = {node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)}
        left = (names | {argument.arg for part in parts for argument in part.args.args}) - used
    return not used & {"golden", "shared_file"}


def numbers(text: str) -> set[int]:
    """The equations that a text names: "eq. 4", "eqs. 1, 2", "eqs. 18-22", "eqs. 10 (with a remark), 11"."""
    found: set[int] = set()
    for part in re.findall(r"eqs?\. ([\d, -]+)", text):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", part):
            found.update(range(int(first), int(last or first) + 1))
    return found


def test_every_equation_has_a_row():
    assert {int(n) for row in ROWS for n in row["numbers"].split(",")} == set(range(1, 24))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['numbers']} {row['place']}")
def test_its_place_names_it_and_its_test_runs_in_a_clone(row):
    named = numbers(ast.get_docstring(definition(row["place"])) or "")
    assert {int(n) for n in row["numbers"].split(",")} <= named
    assert definition(row["test"]) and runs_in_a_clone(row["test"])


def test_a_test_that_needs_the_reference_data_is_seen_through_its_fixtures():
    directly, by_a_fixture = "test_rx_and_fusions", "test_stage_2_losses"
    assert not any(runs_in_a_clone(f"tests/test_golden.py:{test}") for test in (directly, by_a_fixture))


def test_no_place_names_an_equation_that_the_paper_does_not_have():
    wrong = {path.name: odd for path in SOURCES if (odd := numbers(path.read_text()) - set(range(1, 24)))}
    assert wrong == {}


def test_anchors_in_the_fidelity_page_exist():
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "fidelity.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    pages = [ROOT / "docs" / "fidelity.md", ROOT / "models" / "README.md", *SOURCES]
    used = {name for path in pages for name in re.findall(r"(?:fidelity\.md|\]\()#([\w-]+)", path.read_text())}
    assert used and used <= anchors
