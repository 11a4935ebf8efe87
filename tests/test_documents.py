"""The documents show what was measured, and each link in them leads somewhere."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

import fers
from experiments import render
from fers.util.cite import release
from fers.util.errors import FersError

PAGES = sorted(path.relative_to(ROOT) for folder in ("docs", "docs/tutorials") for path in (ROOT / folder).glob("*.md"))
DOCUMENTS = [ROOT / path for path in PAGES]
DOCUMENTS += [*ROOT.glob("*.md"), *(ROOT / "docs" / "notebook").glob("*.md"), ROOT / "data" / "README.md"]
LONG = {"fidelity.md"}  # a reference: every difference has its place


def test_rendered_tables_equal_their_csvs(capsys):
    assert render.main(["--check"]) == 0, capsys.readouterr().err


def test_a_typed_number_is_noticed(tmp_path, monkeypatch, capsys):
    text = "<!-- table abu: begin -->\n| 0.9999 |\n<!-- table abu: end -->\n"
    (tmp_path / "README.md").write_text(text)
    monkeypatch.setattr(render, "ROOT", tmp_path)
    assert render.main(["--check"]) == 2
    assert "README.md: tables differ from their data" in capsys.readouterr().err
    assert render.main([]) == 0 and "0.8248" in (tmp_path / "README.md").read_text()


def test_an_unknown_table_is_refused():
    with pytest.raises(FersError, match="unknown; choose among abu"):
        render.rendered("<!-- table none: begin -->\n<!-- table none: end -->")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_first_screen_of_the_readme_is_short_and_has_what_a_visitor_looks_for():
    screen = "".join((ROOT / "README.md").read_text().splitlines(keepends=True)[:60])
    shown = re.sub(r"<[^>]*>", "", screen)
    assert len([word for word in shown.split() if re.search(r"\w", word)]) <= 450
    commands = [
        "pip install",
        "fers detect",
        "fers compare",
        "python test.py",
        "python train.py",
        "make demo",
        "make test",
    ]
    for wanted in [*commands, "docs/picture.png", "import fers", "table first: end", "## Before you rely on it"]:
        assert wanted in screen
    assert f"{len(fers.DETECTORS)} detectors" in screen


def test_the_reference_has_every_public_name():
    listed = re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    assert sorted(name.rpartition(".")[2] for name in listed) == sorted(fers.__all__)


def test_every_page_has_its_place_in_the_navigation():
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert {str(path) for path in PAGES} <= set(listed) and len(set(listed)) == len(listed)
    assert all((ROOT / name).is_file() for name in listed)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_is_longer_than_a_reader_bears(path):
    typed = re.sub(
        r"<!-- table (\S+): begin -->.*?<!-- table \1: end -->", "", (ROOT / path).read_text(), flags=re.DOTALL
    )
    assert len(typed.splitlines()) <= 150 or path.name in LONG


def test_the_two_files_that_say_how_to_cite_agree():
    said = (ROOT / "CITATION.cff").read_text()
    for title in re.findall(r"title\s*= \{(.*)\},", (ROOT / "README.md").read_text()):
        assert f'title: "{title}"' in said
    assert f"version: {release()}" in said
