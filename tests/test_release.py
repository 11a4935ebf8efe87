"""What a release says of itself in several places says the same."""

from __future__ import annotations

import re

from conftest import ROOT
from test_layout import tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OF_CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def test_every_action_is_pinned_by_its_commit_and_names_its_version():
    used = [line for path in (ROOT / ".github" / "workflows").glob("*.yml") for line in path.read_text().splitlines()]
    used = [line.partition("uses:")[2].strip() for line in used if "uses:" in line]
    assert used and [line for line in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []
    pins = {line.partition("@")[0].split("/", 2)[1]: line.partition("@")[2] for line in used}
    assert all(line.partition("@")[2] == pins[line.split("/")[1].partition("@")[0]] for line in used)


def test_the_recipe_for_conda_asks_for_what_the_package_asks_for():
    recipe = (ROOT / "recipe" / "recipe.yaml").read_text()
    asked = re.findall(r"    - ([\w-]+) >=([\d.]+)", recipe.partition("  run:")[2])
    names = [re.fullmatch(r"([\w-]+)>=([\d.]+)", line).groups() for line in PROJECT["dependencies"]]
    assert sorted(asked) == sorted((OF_CONDA.get(name, name), least) for name, least in names)
    assert f'version: "{PROJECT["version"]}"' in recipe and "fers = fers.cli:main" in recipe


def test_the_versions_of_python_are_those_that_are_tested():
    tested = re.search(r'python: \["3.10".*\]', (ROOT / ".github" / "workflows" / "test.yml").read_text())
    said = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert re.findall(r"3\.\d+", tested[0]) == said and PROJECT["requires-python"] == f">={said[0]}"
