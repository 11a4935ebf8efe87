"""``python -m models.download_released`` is ``fers weights download``."""

import sys

from fers.networks.download_released import main

if __name__ == "__main__":
    sys.exit(main())
