"""Commands that need a checkout: training and reproduction are not part of the installed package."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from fers.util.paths import CHECKOUT


def run_script(command: str, script: str, arguments: Sequence[str]) -> int:
    """Replace this process by a script of the checkout; without a checkout, say so and return exit code 2.

    Args:
        command: The command as the user gave it, for the message.
        script: Path of the script below the checkout.
        arguments: Arguments of the script.
    """
    if CHECKOUT is None:
        print(
            f"error: {command}: needs a checkout; training and reproduction are not part of the installed package. "
            "Clone the repository, run pip install -e '.[train]' in it, and run the command again.",
            file=sys.stderr,
        )
        return 2
    os.execv(sys.executable, [sys.executable, str(CHECKOUT / script), *arguments])
