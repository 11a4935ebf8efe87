"""``python -m data.synthetic`` is ``fers data synthetic``."""

import sys

from fers.datasets.synthetic.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
