"""The one base class of every error that the user can mend."""

from __future__ import annotations


class FersError(ValueError):
    """Input or a request that cannot be used.

    The message names the file or option, what was found, what was expected, and the remedy. Every command prints it
    without a traceback and ends with exit code 2.
    """
