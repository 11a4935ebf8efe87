"""What every command line of the project shares: how it ends, and the types of its options."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable

INTERRUPTED = 130


def run(work: Callable[[], None], errors: tuple[type[Exception], ...], go_on: str = "") -> int:
    """Do a command's work; what the user can mend becomes a message on stderr and exit code 2, without a traceback.

    Args:
        work: The command.
        errors: What it raises for input that cannot be used; each message names the file and the remedy.
        go_on: How to go on after an interruption or a full disk, such as "run the same command again".

    Returns:
        The exit code: 0, 2 for an error, 130 for Ctrl-C.
    """
    hint = f" To go on: {go_on}." if go_on else ""
    try:
        work()
    except errors as error:
        message, code = f"error: {error}", 2
    except OSError as error:  # a full disk, a folder that may not be written
        message, code = f"error: {error}. What was finished is kept.{hint}", 2
    except KeyboardInterrupt:
        message, code = f"\nstopped.{hint}", INTERRUPTED
    else:
        return 0
    if os.environ.get("RANK", "0") == "0":  # of several processes, each meets the same error
        print(message, file=sys.stderr)
    return code


def natural(text: str) -> int:
    """A whole number from 0 to 2^32 - 1, as seeds and counts are."""
    if not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 to 2^32 - 1")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number >= 1")
    return int(text)


def list_of(allowed: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """Type of an option that takes some of these names, separated by commas."""
    allowed = tuple(allowed)

    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(name.strip() for name in text.split(",") if name.strip())
        if not chosen or set(chosen) - set(allowed):
            raise argparse.ArgumentTypeError(f"'{text}' is not a list among {','.join(allowed)}")
        return chosen

    return parse
