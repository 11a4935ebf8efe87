"""``python -m data.synthetic`` is ``fers data synthetic``."""

import sys

from fers.datasets.synthetic.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
