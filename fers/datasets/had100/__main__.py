"""``python -m data.had100 prepare``: see ``fers.datasets.had100.prepare``."""

import sys

from fers.datasets.had100.prepare import main

if __name__ == "__main__":
    sys.exit(main())
