"""Citing a number: the version and the command that made it, and the data that it is about."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def release() -> str:
    """Return the version of the installed package, such as ``0.2.0``."""
    try:
        return version("fers-had")
    except PackageNotFoundError:  # a checkout that is not installed
        return "not installed"


def this_command() -> str:
    """Return the command line of this process, without the folder of program or interpreter."""
    first, *rest = sys.orig_argv
    python = bool(rest) and "python" in Path(first).name.lower()
    if python and not rest[0].endswith(".py") and not rest[0].startswith("-"):  # the interpreter before an entry point
        return shlex.join([Path(rest[0]).stem, *rest[1:]])
    return shlex.join(["python" if python else Path(first).stem, *rest])


def data_hash(fingerprints: Iterable[str]) -> str:
    """Return the sha256 of scenes by their ``catalogue.fingerprint``, whatever their order."""
    return hashlib.sha256("".join(sorted(fingerprints)).encode()).hexdigest()


def citation(command: str, data: str, of_release: str = "", **further: object) -> str:
    """Write the line under a table: what a reader needs to cite or repeat its numbers.

    Args:
        command: The command that made the table.
        data: Hash of the data; its first 16 digits are shown.
        of_release: Version that made it; the installed one by default.
        further: Facts that also matter, such as the machine; those that are empty are left out.

    Example:
        >>> citation("fers compare --scenes ABU", "61fd10483037c81be168", "0.2.0", threads=1)
        'FERS 0.2.0; command: fers compare --scenes ABU; data 61fd10483037c81b; threads: 1.'
    """
    parts = [f"FERS {of_release or release()}", f"command: {command or 'unknown'}", f"data {data[:16] or 'unknown'}"]
    return "; ".join([*parts, *(f"{name}: {value}" for name, value in further.items() if value)]) + "."
