"""Options of a command from the dataclass that carries them: each is defined once, as a field.

@dataclass(frozen=True)
class Options:
    seed: int = option(0, "seed of the untrained network", type=natural, group="method")

parser = Parser()
add_options(parser, Options)
chosen = read_options(Options, parser.parse_args())
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import MISSING, field, fields
from typing import Any, TypeVar

Carrier = TypeVar("Carrier")


def option(
    default: Any,
    help: str,
    *,
    group: str = "",
    type: Callable[[str], Any] | None = None,
    choices: Sequence[str] | None = None,
    flag: str | None = None,
    names: Sequence[str] = (),
    metavar: str | None = None,
    many: bool = False,
) -> Any:
    """Make a field of a dataclass that is an option of its command.

    Args:
        default: Default of field and option. False makes the option a switch.
        help: Text for ``--help``; the default is added to it where there is one.
        group: Heading above the option in ``--help``.
        type: Function from text to value.
        choices: The values allowed, where they can be listed.
        flag: The option's name; by default ``--`` and the field's.
        names: Other spellings, such as those of earlier versions.
        metavar: Text that stands for the value in ``--help``.
        many: The option may be given several times; its value is a tuple.
    """
    about = {"help": help, "group": group, "type": type, "choices": choices, "metavar": metavar}
    return field(default=default, metadata={"option": about | {"flag": flag, "names": names, "many": many}})


def add_options(parser: argparse.ArgumentParser, carrier: type, defaults: dict[str, Any] | None = None) -> None:
    """Add an option for every field made by ``option``, in the order of the fields, under their groups.

    Args:
        parser: Parser that gets the options.
        carrier: The dataclass.
        defaults: Defaults by name that replace those of the fields.
    """
    groups = {group.title: group for group in parser._action_groups}
    for each in fields(carrier):
        about = each.metadata.get("option")
        if about is None:
            continue
        title = about["group"]
        if title and title not in groups:
            groups[title] = parser.add_argument_group(title)
        group = groups[title] if title else parser
        default = (defaults or {}).get(each.name, each.default)
        names = [about["flag"] or f"--{each.name}", *about["names"]]
        if each.default is False:
            group.add_argument(*names, dest=each.name, action="store_true", default=default, help=about["help"])
            continue
        told = default is not None and default is not MISSING and default != () and "(default:" not in about["help"]
        group.add_argument(
            *names,
            dest=each.name,
            type=about["type"],
            choices=about["choices"],
            default=[] if about["many"] else default,
            action="append" if about["many"] else "store",
            metavar=about["metavar"],
            help=about["help"] + (" (default: %(default)s)" if told else ""),
        )


def options_said(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> dict[str, Any]:
    """Return the options that a command line names, by their fields, without any default."""
    unsaid = object()
    marked = {a.dest: None if isinstance(a, argparse._AppendAction) else unsaid for a in parser._actions}
    given = vars(parser.parse_args(arguments, argparse.Namespace(**marked)))
    said = {name: value for name, value in given.items() if value is not unsaid and marked.get(name, 0) is not value}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in said.items()}


def read_options(carrier: type[Carrier], given: argparse.Namespace, **more: Any) -> Carrier:
    """Make the dataclass from the values that the command line gave.

    Args:
        carrier: The dataclass.
        given: Result of ``parse_args``.
        **more: Fields that are not options.

    Raises:
        FersError: The values do not fit together; the dataclass raises it.
    """
    chosen = {each.name: getattr(given, each.name) for each in fields(carrier) if "option" in each.metadata}  # type: ignore[arg-type]
    return carrier(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()}, **more
    )
