"""``python -m models.import_released`` is ``fers weights import``."""

import sys

from fers.networks.import_released import main

if __name__ == "__main__":
    sys.exit(main())
