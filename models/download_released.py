"""``python -m models.download_released`` is ``fers weights download``."""

import sys

from fers.weights import download as main

if __name__ == "__main__":
    sys.exit(main())
