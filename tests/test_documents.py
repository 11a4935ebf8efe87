"""The documents show what was measured, and each link in them leads somewhere."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

from experiments import render
from fers.util.errors import FersError

DOCUMENTS = [*render.documents(), ROOT / "CONTRIBUTING.md"]


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
