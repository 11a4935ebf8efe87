"""``python -m models.import_released`` is ``fers weights import``."""

import sys

from fers.weights import import_folder as main

if __name__ == "__main__":
    sys.exit(main())
