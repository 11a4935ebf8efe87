"""Parts that all command lines share: their end, and the types of their options."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TextIO

from fers.util.checkout import run_script
from fers.util.errors import did_you_mean
from fers.util.paths import how_to_install

INTERRUPTED = 130
BUG = 1
_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "start new thread",
)  # the words of PyTorch's RuntimeErrors


class Parser(argparse.ArgumentParser):
    """Argument parser that answers a wrong choice in one line, with the nearest right one."""

    def error(self, message: str) -> NoReturn:
        """Print one line instead of the whole usage, and end with exit code 2."""
        wrong, _, listed = message.partition(" (choose from ")
        if listed:
            choices = [choice.strip("' ") for choice in listed.rstrip(")").split(",")]
            given = wrong.rpartition("'")[0].rpartition("'")[2]
            message = f"{wrong}.{did_you_mean(given, choices)} Choose from {', '.join(choices)}."
        self.exit(2, f"error: {message} See {self.prog} --help.\n")


def run(work: Callable[[], None], errors: tuple[type[Exception], ...] = (), how_to_resume: str = "") -> int:
    """Run a command; an error that the user can fix becomes a message on stderr and exit code 2, without a traceback.

    Args:
        work: The command. It raises ValueError (such as ``FersError``) for input that cannot be used; each message
            names the file and the remedy.
        errors: Further exceptions of that kind.
        how_to_resume: How to go on after an interruption or a full disk, such as "run the same command again".

    Returns:
        The exit code: 0, 2 for an error, 130 for Ctrl-C or SIGTERM, 1 for a bug in FERS.
    """
    hint = f" To go on: {how_to_resume}." if how_to_resume else ""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may not be text
    try:
        with _signals_and_threads():
            work()
            sys.stdout.flush()  # a closed pipe shows here, not at the interpreter's end
    except (ValueError, *errors) as error:  # type: ignore[misc]
        message, code = f"error: {error}", 2
    except BrokenPipeError:  # the reader of a pipe has seen enough
        _silence(sys.stdout)
        return 2
    except OSError as error:  # a full disk, a folder that may not be written
        message, code = f"error: {error}. Finished work is kept.{hint}", 2
    except MemoryError as error:
        message, code = f"error: not enough memory ({error}). Use smaller scenes or fewer at a time.{hint}", 2
    except KeyboardInterrupt:
        message, code = f"\nstopped.{hint}", INTERRUPTED
    except Exception as error:
        if isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY):
            return _ended(
                f"error: not enough memory ({str(error).splitlines()[0]}). Use smaller scenes or fewer at a time.{hint}",
                2,
            )
        if isinstance(error, ModuleNotFoundError) and (extra := _extra_of(error.name or "")):
            remedy = how_to_install(extra)
            return _ended(f"error: the package {error.name} is needed and not installed: {remedy}.{hint}", 2)
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = (
            f"unexpected error: {type(error).__name__}: {error} (in {os.path.basename(where.filename)}, line {where.lineno}). "
            "This is a bug in FERS. Please report the command, this line, and the output of fers info. "
            f"FERS_DEBUG=1 shows the traceback. Finished work is kept.{hint}"
        )
        code = BUG
        if os.environ.get("FERS_DEBUG"):
            traceback.print_exc()
    else:
        return 0
    return _ended(message, code)


def subcommands(
    program: str,
    description: str,
    commands: dict[str, tuple[str, str]],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run the command that the first argument names.

    Args:
        program: Name of the program, such as ``fers data``.
        description: Its purpose, for its help.
        commands: For each name its place and its purpose. The place is a module, ``module:function``, or a script of the
            checkout. It is imported only when it is called.
        arguments: Arguments of the command line; None for those of this process.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        lines = [f"  {name:<11}{text}" for name, (_, text) in commands.items()]
        usage = [f"usage: {program} COMMAND ...", "", description, "", *lines]
        return run(lambda: print("\n".join([*usage, "", f"{program} COMMAND --help has its options."])))
    name, rest = given[0], given[1:]
    if name not in commands:
        print(
            f"error: {program} {name}: no such command.{did_you_mean(name, commands)} See {program} --help.",
            file=sys.stderr,
        )
        return 2
    place = commands[name][0]
    if place.endswith(".py"):
        return run_script(f"{program} {name}", place, rest)
    sys.argv[0] = f"{program} {name}"  # the name in the command's help and errors
    module, _, function = place.partition(":")
    return getattr(importlib.import_module(module), function or "main")(rest)


def _extra_of(module: str) -> str:
    """Name the extra of this package that brings a module; empty where none does."""
    from importlib.metadata import PackageNotFoundError, requires  # only for a message

    try:
        wanted = requires("fers-had") or []
    except PackageNotFoundError:
        return ""
    name = module.partition(".")[0].replace("_", "-")
    return next(
        (line.rpartition("==")[2].strip(" '\"") for line in wanted if re.match(rf"{name}\b.*extra ==", line)), ""
    )


def _ended(message: str, code: int) -> int:
    if os.environ.get("RANK", "0") == "0":  # of several processes, each meets the same error
        try:
            print(message, file=sys.stderr, flush=True)
        except BrokenPipeError:
            _silence(sys.stderr)
    return code


def _silence(stream: TextIO) -> None:
    """Redirect a stream whose reader is gone to the null device, so that the interpreter can end without an error."""
    with contextlib.suppress(OSError, ValueError):  # a test's stream has no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _signals_and_threads() -> Iterator[None]:
    """Let SIGTERM, which batch systems send before they kill, act like Ctrl-C; report errors of threads in one line."""
    if threading.current_thread() is not threading.main_thread():  # signals can be set only there
        yield
        return
    owner = os.getpid()

    def stop(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:  # a process that the work has started
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    hooks = threading.excepthook, sys.unraisablehook
    threading.excepthook = _thread_ended
    if not os.environ.get("FERS_DEBUG"):  # rasterio logs GDAL's errors there, which are raised as well
        sys.unraisablehook = lambda _: None
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        threading.excepthook, sys.unraisablehook = hooks


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    """Report an error in a library's thread in one line, such as TensorBoard's on a full disk."""
    if ended.exc_type is not SystemExit:
        print(f"note: a background thread has ended ({ended.exc_type.__name__}: {ended.exc_value}).", file=sys.stderr)


def add_device_options(group: argparse._ArgumentGroup) -> None:
    """Add ``--device`` and ``--threads``, the same in every command; the released scripts call it ``--device_ids``."""
    group.add_argument(
        "--device",
        "--device_ids",
        type=device,
        default="auto",
        help="auto (a GPU if there is one), gpu (stop if there is none), cpu, cuda, cuda:1, mps (default: auto)",
    )
    group.add_argument("--threads", type=positive, help="CPU threads of each process (default: PyTorch's choice)")


def natural(text: str) -> int:
    """Parse a whole number from 0 to 2^32 - 1, as seeds and counts are."""
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 to 2^32 - 1")
    return int(text)


def positive(text: str) -> int:
    """Parse a whole number from 1 up."""
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number >= 1")
    return int(text)


def device(text: str) -> str:
    """Parse a device; a number is that GPU, as in the released scripts."""
    if not re.fullmatch(r"auto|gpu|cpu|mps|(cuda:)?[0-9]{1,3}|cuda", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not auto, gpu, cpu, cuda, cuda:NUMBER or mps")
    return f"cuda:{text}" if text.isdigit() else text


def list_of(allowed: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """Make the type of an option that takes some of these names, separated by commas."""
    allowed = tuple(allowed)

    def parse(text: str) -> tuple[str, ...]:
        chosen = tuple(name.strip() for name in text.split(",") if name.strip())
        if not chosen or set(chosen) - set(allowed):
            raise argparse.ArgumentTypeError(f"'{text}' is not a list among {','.join(allowed)}")
        return chosen

    return parse
