"""``python -m data.patches`` is ``fers data patches``."""

import sys

from fers.datasets.patches import main

if __name__ == "__main__":
    sys.exit(main())
