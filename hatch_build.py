"""Put the shipped weights into the wheel. An editable install finds them in the checkout."""

from __future__ import annotations

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShippedWeights(BuildHookInterface):
    """Build hook that adds the files in ``checkpoints/SHA256SUMS`` as ``fers/checkpoints``."""

    def initialize(self, version: str, build_data: dict) -> None:
        """Add the files before a wheel is built; ``version`` is ``standard`` or ``editable``."""
        if version != "editable":
            with open(f"{self.root}/checkpoints/SHA256SUMS") as sums:
                names = ["SHA256SUMS", *(line.split()[1] for line in sums)]
            build_data["force_include"] |= {f"checkpoints/{name}": f"fers/checkpoints/{name}" for name in names}
