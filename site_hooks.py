"""Give the site of ``make site`` the repository's tree, so that every link leads on it where it leads in the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent
PAGES = [
    "*.md",
    "data/*.md",
    "models/*.md",
    "checkpoints/*.md",
    "docs/*.md",
    "docs/*.css",
    "docs/tutorials/*.md",
    "docs/notebook/*.md",
]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace docs/ by the pages of the repository, and the files that they link to; those of the theme stay."""
    kept = Files([file for file in files if file.abs_src_path and config.docs_dir not in file.abs_src_path])
    pages = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    linked = [(page.parent / link).resolve() for page in pages for link in _links(page)]
    for path in dict.fromkeys([*pages, *linked]):
        if path.is_file() and path.is_relative_to(ROOT):
            name = path.relative_to(ROOT).as_posix()
            kept.append(File.generated(config, name, abs_src_path=str(path)))
    return kept


def _links(page: Path) -> list[str]:
    return re.findall(r"\]\(([^)#\s:]+)", page.read_text(encoding="utf-8"))


class Examples(griffe.Extension):
    """Show an ``Example:`` of a docstring as code; Griffe knows only the plural."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section of one object."""
        if obj.docstring:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
