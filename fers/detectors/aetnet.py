"""AETNet as a detector: RX on the cube that a network, trained on background, makes of the scene."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fers.detectors.rx import RX
from fers.detectors.trained import check_cube


class EnhancedRX:
    """RX on the enhanced cube. That contains the input, so RX on the cube itself is a control.

    Args:
        network: A trained ``fers.networks.aetnet.AETNet``, or another from cubes to cubes.

    Source: Li, Wang, Xiao, Ling, Lin and An, IEEE TGRS 61, 5506718, 2023, 10.1109/TGRS.2023.3258067.

    Example:
        >>> cube = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
        >>> torch.allclose(EnhancedRX(lambda h: 2 * h)(cube), RX()(cube))
        True
    """

    def __init__(self, network: Callable[[torch.Tensor], torch.Tensor]):
        self.network = network

    def __call__(self, cube: torch.Tensor, left_out: torch.Tensor | None = None) -> torch.Tensor:
        """Score cubes by RX on what the network makes of them.

        Args:
            cube: ``(N, C, H, W)`` as the network was trained on.
            left_out: ``(N, H, W)`` bool: pixels that do not count in RX. The network sees them as they are.

        Returns:
            ``(N, H, W)`` float64, >= 0. Higher is more anomalous.

        Raises:
            ValueError: The cube has another number of axes, holds NaN or infinity, or is too small for the network.
        """
        check_cube("AETNet", cube)
        return RX()(self.network(cube.float()), left_out)
