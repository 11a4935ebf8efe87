"""``python -m data.had100 prepare``: see ``data.had100.prepare``."""

import sys

from data.had100.prepare import main

if __name__ == "__main__":
    sys.exit(main())
