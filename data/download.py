"""``python -m data.download`` is ``fers data download``."""

import sys

from fers.datasets.download import main

if __name__ == "__main__":
    sys.exit(main())
