"""``python -m fers`` is the command ``fers``."""

import sys

from fers.cli import main

if __name__ == "__main__":
    sys.exit(main())
