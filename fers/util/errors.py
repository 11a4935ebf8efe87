"""The base class of every error that the user can fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FersError(ValueError):
    """Input or a request that cannot be used.

    The message names the file or option, what was found, what was expected, and the remedy. Every command prints it
    without a traceback and ends with exit code 2.
    """


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Suggest the nearest choice as `` Did you mean ...?``, for the end of a message; empty where none is near.

    Example:
        >>> did_you_mean("airpot-2", ["airport-1", "airport-2"])
        ' Did you mean airport-2?'
    """
    by_lower = {choice.lower(): choice for choice in choices}
    near = difflib.get_close_matches(name.lower(), by_lower, 1, 0.4)
    return f" Did you mean {by_lower[near[0]]}?" if near else ""
