"""What every command line of the project shares: how it ends, and the types of its options."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn

from data.errors import did_you_mean

INTERRUPTED = 130
BUG = 1


class Parser(argparse.ArgumentParser):
    """An argument parser that answers a wrong choice in one line, with the nearest right one."""

    def error(self, message: str) -> NoReturn:
        """One line instead of the whole usage; exit code 2."""
        wrong, _, listed = message.partition(" (choose from ")
        if listed:
            choices = [choice.strip("' ") for choice in listed.rstrip(")").split(",")]
            given = wrong.rpartition("'")[0].rpartition("'")[2]
            message = f"{wrong}.{did_you_mean(given, choices)} Choose from {', '.join(choices)}."
        self.exit(2, f"error: {message} See {self.prog} --help.\n")


def run(work: Callable[[], None], errors: tuple[type[Exception], ...] = (), how_to_resume: str = "") -> int:
    """Do a command's work; what the user can mend becomes a message on stderr and exit code 2, without a traceback.

    Args:
        work: The command. It raises ValueError (such as ``FersError``) for input that cannot be used; each message
            names the file and the remedy.
        errors: Further exceptions of that kind.
        how_to_resume: How to go on after an interruption or a full disk, such as "run the same command again".

    Returns:
        The exit code: 0, 2 for an error, 130 for Ctrl-C, 1 for a mistake of this program's.
    """
    hint = f" To go on: {how_to_resume}." if how_to_resume else ""
    try:
        work()
    except (ValueError, *errors) as error:  # type: ignore[misc]
        message, code = f"error: {error}", 2
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except OSError as error:  # a full disk, a folder that may not be written
        message, code = f"error: {error}. What was finished is kept.{hint}", 2
    except MemoryError as error:
        message, code = f"error: not enough memory ({error}). Use smaller scenes or fewer at a time.{hint}", 2
    except KeyboardInterrupt:
        message, code = f"\nstopped.{hint}", INTERRUPTED
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = (
            f"unexpected error: {type(error).__name__}: {error} (in {os.path.basename(where.filename)}, line {where.lineno}). "
            "This is a mistake of the program. Please report the command, this line, and the output of pip freeze. "
            f"FERS_DEBUG=1 shows all of it. What was finished is kept.{hint}"
        )
        code = BUG
        if os.environ.get("FERS_DEBUG"):
            traceback.print_exc()
    else:
        return 0
    if os.environ.get("RANK", "0") == "0":  # of several processes, each meets the same error
        print(message, file=sys.stderr)
    return code


def natural(text: str) -> int:
    """A whole number from 0 to 2^32 - 1, as seeds and counts are."""
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 to 2^32 - 1")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1 up."""
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number >= 1")
    return int(text)


def device(text: str) -> str:
    """A device; a number is that GPU, as the released scripts have it."""
    if not re.fullmatch(r"auto|gpu|cpu|mps|(cuda:)?[0-9]{1,3}|cuda", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not auto, gpu, cpu, cuda, cuda:NUMBER or mps")
    return f"cuda:{text}" if text.isdigit() else text


def list_of(allowed: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """Type of an option that takes some of these names, separated by commas."""
    allowed = tuple(allowed)

    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(name.strip() for name in text.split(",") if name.strip())
        if not chosen or set(chosen) - set(allowed):
            raise argparse.ArgumentTypeError(f"'{text}' is not a list among {','.join(allowed)}")
        return chosen

    return parse
