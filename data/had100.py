"""``python -m data.had100`` is ``fers data had100``."""

import sys

from fers.datasets.had100.prepare import main

if __name__ == "__main__":
    sys.exit(main())
