"""Options of a command from the dataclass that carries them: each is said once, as a field.

@dataclass(frozen=True)
class Options:
    seed: int = option(0, "of the untrained network", type=natural, group="method")

parser = Parser()
add_options(parser, Options)
chosen = read_options(Options, parser.parse_args())
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, field, fields
from typing import Any, TypeVar

T = TypeVar("T")


def option(
    default: Any,
    help: str,
    *,
    group: str = "",
    type: Callable[[str], Any] | None = None,
    choices: Sequence[str] | None = None,
    names: Sequence[str] = (),
    metavar: str | None = None,
    many: bool = False,
) -> Any:
    """A field of a dataclass that is an option of its command.

    Args:
        default: Of field and option. False makes the option a switch.
        help: For ``--help``; the default is added to it where there is one.
        group: Heading that the option stands under.
        type: From text to value.
        choices: The values allowed, where they can be listed.
        names: Other spellings, such as those of earlier versions.
        metavar: What the help shows for the value.
        many: The option may be given several times; its value is a tuple.
    """
    about = {"help": help, "group": group, "type": type, "choices": choices, "names": names, "metavar": metavar}
    return field(default=default, metadata={"option": about | {"many": many}})


def add_options(parser: argparse.ArgumentParser, carrier: type, defaults: dict[str, Any] | None = None) -> None:
    """Add an option for every field made by ``option``, in the order of the fields, under their groups.

    Args:
        parser: Gets the options.
        carrier: The dataclass.
        defaults: By name, other defaults than the fields have.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    for each in fields(carrier):
        about = each.metadata.get("option")
        if about is None:
            continue
        title = about["group"]
        group = groups.setdefault(title, parser.add_argument_group(title)) if title else parser
        default = (defaults or {}).get(each.name, each.default)
        names = [f"--{each.name}", *about["names"]]
        if each.default is False:
            group.add_argument(*names, dest=each.name, action="store_true", default=default, help=about["help"])
            continue
        told = default is not None and default is not MISSING and default != () and "%(default)s" not in about["help"]
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


def read_options(carrier: type[T], given: argparse.Namespace, **more: Any) -> T:
    """The dataclass from what the command line gave.

    Args:
        carrier: The dataclass.
        given: From ``parse_args``.
        **more: Fields that are no options.

    Raises:
        FersError: As the dataclass raises it, for values that do not fit together.
    """
    values = {each.name: _value(each, given) for each in fields(carrier) if "option" in each.metadata}  # type: ignore[arg-type]
    return carrier(**values, **more)


def _value(each: Field, given: argparse.Namespace) -> Any:
    value = getattr(given, each.name)
    return tuple(value) if each.metadata["option"]["many"] else value
