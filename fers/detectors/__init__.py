"""Cube in, score map out. Nothing here knows a network's weights or a file.

A new detector is one file and one row of ``DETECTORS``. One of your own needs neither: ``--detect my_module:MyDetector``.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable

from fers.detectors.ae import AE
from fers.detectors.auto_ad import AutoAD
from fers.detectors.background import Background
from fers.detectors.base import Detector, Entry, minmax
from fers.detectors.crd import CRD
from fers.detectors.glrt import TwoStepGLRT
from fers.detectors.krx import KRX
from fers.detectors.local_pc import LRXPC
from fers.detectors.lren import LREN
from fers.detectors.lrx import LRX
from fers.detectors.rx import RX, rx, rx_array

DETECTORS: dict[str, Entry] = {
    "RX": Entry(RX, cite="Reed and Yu, IEEE Trans. ASSP 38(10), 1990", unit="squared Mahalanobis distance"),
    "AE": Entry(AE, trains_on="scene", fusion="B", cite="Jin, Zhu and Guo, arXiv 2510.18781, section IV-B"),
    "LRX": Entry(
        LRX,
        cite="Reed and Yu, IEEE Trans. ASSP 38(10), 1990; Kwon, Der and Nasrabadi, Opt. Eng. 42(11), 2003",
        unit="squared Mahalanobis distance",
    ),
    "KRX": Entry(KRX, cite="Kwon and Nasrabadi, IEEE TGRS 43(2), 2005"),
    "CRD": Entry(CRD, cite="Li and Du, IEEE TGRS 53(3), 2015"),
    "2S-GLRT": Entry(TwoStepGLRT, cite="Liu, Hou, Li, Tao, Orlando and Li, IEEE TNNLS 33(10), 2022"),
    "LRX-PC": Entry(LRXPC, cite="this project"),
    "Auto-AD": Entry(AutoAD, trains_on="scene", fusion="B", cite="Wang et al., IEEE TGRS 60, 5503314, 2022"),
    "LREN": Entry(LREN, trains_on="scene", fusion="B", cite="Jiang et al., AAAI 35(5), 4139-4146, 2021"),
}
"""The detectors by their names in the paper's tables."""


def find_detector(name: str) -> Entry:
    """The row of a detector, or one made for a class or function of the user's.

    Args:
        name: A key of ``DETECTORS`` in any case, or ``module:Name`` of something callable that follows ``Detector``. A
            class is made first, with ``seed`` if it takes one; a function is used as it is.

    Raises:
        ValueError: There is no such detector.
    """
    by_lower = {key.lower(): entry for key, entry in DETECTORS.items()}
    if name.lower() in by_lower:
        return by_lower[name.lower()]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise ValueError(
            f"--detect {name}: no such detector. Choose among {', '.join(DETECTORS)}, or give module:Name of your own."
        )
    if os.getcwd() not in sys.path:  # as for python -m: the user's modules are where the user works
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"--detect {name}: cannot be imported ({error}). Give module:Name, as Python finds it."
        ) from error
    if not callable(found):
        raise ValueError(f"--detect {name}: is not callable. It takes a cube (N, C, H, W) and returns (N, H, W).")
    make: Callable[..., Detector] = found if inspect.isclass(found) else lambda **_: found  # type: ignore[assignment]
    return Entry(make, trains_on="scene", fusion="B", cite=name)


def make_detector(name: str, seed: int = 0, options: dict[str, str] | None = None) -> Detector:
    """Make a detector from what a command line gives.

    Args:
        name: As ``find_detector`` takes it.
        seed: Of its random weights, if it has any.
        options: Its own options by name, as text; each is read as the type of the option's default.

    Raises:
        ValueError: An option is unknown or of the wrong type; the message lists those there are.

    Example:
        >>> make_detector("AE", options={"iterations": "3"}).iterations
        3
    """
    make = find_detector(name).make
    known = {p.name: p for p in inspect.signature(make).parameters.values() if p.kind is not p.VAR_KEYWORD}
    arguments: dict[str, object] = {"seed": seed} if "seed" in known or not inspect.isclass(make) else {}
    choices = {key: p.default for key, p in known.items() if key != "seed" and p.default is not p.empty}
    for key, text in (options or {}).items():
        if key not in choices:
            has = ", ".join(f"{k}={v}" for k, v in choices.items()) or "none"
            raise ValueError(f"--option {key}={text}: {name} has no such option. It has: {has}.")
        kind = type(choices[key])
        try:
            arguments[key] = (
                text.lower() in ("1", "true", "yes") if kind is bool else text if kind is type(None) else kind(text)
            )
        except ValueError as error:
            raise ValueError(f"--option {key}={text}: {name} needs a value such as {choices[key]}.") from error
    return make(**arguments)


__all__ = [
    "AE",
    "CRD",
    "DETECTORS",
    "KRX",
    "LRX",
    "LRXPC",
    "RX",
    "Background",
    "Detector",
    "Entry",
    "TwoStepGLRT",
    "find_detector",
    "make_detector",
    "minmax",
    "rx",
    "rx_array",
]
